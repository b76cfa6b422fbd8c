"""``ingestd audit verify`` finds the key of a log, and tells a forged log from an old one."""

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingestd.cli.group import cli
from ingestd.config.sections import AuditConfig
from ingestd.core.errors import UserError
from ingestd.telemetry.audit_chain import NOTHING, AuditKey, open_key
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.wiring.factories import open_audit


def verify(*words: object) -> Result:
    return CliRunner().invoke(cli, ["audit", "verify", *map(str, words)])


def write(directory: Path, audit: AuditConfig | None = None, count: int = 2) -> None:
    log = open_audit(audit or AuditConfig(), directory)
    for number in range(count):
        log(AuditEntry.BATCH_DELIVERED, events=number)
    log.close()


def test_a_rewritten_log_without_a_key_is_told_from_an_old_one(tmp_path: Path) -> None:
    write(tmp_path)
    found = json.loads(verify("--state-dir", tmp_path, "--json").output)
    assert (found["ok"], found["keyed"], found["chained"]) == (True, 2, 2)
    path = tmp_path / "audit.jsonl"
    path.unlink()
    log = AuditLog(path)  # all anew, as the code makes it, but for the key
    log(AuditEntry.BATCH_DELIVERED, events=7)
    log.close()
    shown = verify("--state-dir", tmp_path)
    assert shown.exit_code == 3
    assert "no line is made with the key of this log: it was rewritten, or cut off" in shown.output
    old = tmp_path / "backup.jsonl"  # of before there were keys
    path.rename(old)
    shown = verify(old)
    assert shown.exit_code == 0
    assert (
        "1 chained lines have no key, as before there were keys: so all of them can be forged" in shown.output
    )


def test_a_key_that_is_kept_elsewhere_is_found_by_commands_without_a_configuration(tmp_path: Path) -> None:
    state, key = tmp_path / "state", tmp_path / "safe" / "audit.key"
    write(state, AuditConfig(key_file=str(key)))
    assert (state / "audit.key").readlink() == key
    write(state)  # as `ingestd dlq purge --state-dir` does
    found = json.loads(verify("--state-dir", state, "--json").output)
    assert (found["ok"], found["keyed"]) == (True, 4)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((state / "audit.jsonl").read_bytes())
    shown = verify(copy)
    assert isinstance(shown.exception, UserError)
    assert "give its file with --key-file" in str(shown.exception)
    assert verify(copy, "--key-file", key).exit_code == 0
    key.unlink()
    with pytest.raises(UserError, match="cannot read the key"):
        write(state)


def test_of_those_who_make_a_key_at_once_all_have_the_same(tmp_path: Path) -> None:
    found: list[AuditKey] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append(open_key(tmp_path / "audit.key", last_hash=lambda: NOTHING))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
