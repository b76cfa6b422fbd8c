"""A context that reads its authorities late is what the usual one is, once it is used."""

import ssl

from ingestd.transport.tls import LateContext


def test_it_reads_them_once_with_the_first_connection_and_is_as_strict_as_the_usual_one() -> None:
    read = []
    late, usual = LateContext(read.append), ssl.create_default_context()
    for name in ("verify_mode", "check_hostname", "options", "verify_flags", "minimum_version"):
        assert getattr(late, name) == getattr(usual, name), name
    assert read == []
    for _ in range(2):
        late.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert read == [late]
