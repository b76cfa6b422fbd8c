from ingestd.telemetry.audit_entry import Audit, AuditEntry, no_audit


def test_an_entry_is_written_by_the_name_it_has_in_code() -> None:
    assert all(entry == entry.name for entry in AuditEntry)


def test_where_nobody_wants_to_know_any_entry_is_taken() -> None:
    audit: Audit = no_audit
    for entry in AuditEntry:
        audit(entry, count=1, error=None, ok=True, latency_ms=0.5, api="x")
