"""A forger who knows the code, and has the log but not its key, cannot write a log that verify takes."""

import json
import os
import stat
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.errors import UserError
from ingestd.core.redaction import redact
from ingestd.telemetry.audit_chain import NOTHING, AuditKey, make_key, open_key, parse, read_key
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog, last_hash
from ingestd.telemetry.audit_verification import AuditFindings, verify
from tests.each import each

KEY, OTHER = make_key(b"k" * 32), make_key(b"o" * 32)


def write(path: Path, count: int = 3, *, key: AuditKey | None = KEY) -> None:
    log = AuditLog(path, key=key)
    for number in range(count):
        log(AuditEntry.BATCH_DELIVERED, events=number)
    log.close()


def check(path: Path, *keys: AuditKey, must_have_key: bool = True) -> AuditFindings:
    return verify(path, keys=keys or (KEY,), must_have_key=must_have_key)


def forge(path: Path, change: Callable[[list[dict[str, object]]], None], key: AuditKey | None) -> None:
    """Every line anew with all its hashes, as our code makes them: without a key, or with the forger's own
    under the name of the right one."""
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    change(entries)
    before, lines = NOTHING, []
    for entry in entries:
        old = str(entry.pop("chain")).split(":")
        name, _, writer = old[0].rpartition(".")
        place = f"{name}.{writer}" if name and key else writer
        link = b":" + before if len(old) > 3 else b""
        body = json.dumps(entry, separators=(",", ":")).encode()
        head = f"{place}:{old[1]}:".encode()
        before = (
            blake2b(before + head + link + body, digest_size=16, key=key.secret if key else b"")
            .hexdigest()
            .encode()
        )
        lines.append(body[:-1] + b',"chain":"' + head + before + link + b'"}\n')
    path.write_bytes(b"".join(lines))


def more_events(entries: list[dict[str, object]]) -> None:
    entries[1]["events"] = 1_000_000


def test_a_log_with_its_key_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "log")
    write(tmp_path / "log")
    found = check(tmp_path / "log")
    assert (found.problems, found.chained, found.keyed, found.writers) == ([], 6, 6, 2)


@each("before", [0, 2], ids=["a new log", "a log of an older version"])
@each("zeros", [0, 40], ids=["cut", "zeros"])
@each("cuts", [1, 2, 3])
def test_lines_that_power_cuts_took_are_no_forgery(
    tmp_path: Path, before: int, zeros: int, cuts: int
) -> None:
    """A beginning of the first line is left each time, of those with a key."""
    path = tmp_path / "log"
    if before:
        write(path, before, key=None)
    key = make_key(b"k" * 32, last_hash(path))
    for _ in range(cuts):
        size = path.stat().st_size if path.exists() else 0
        write(path, key=key)
        os.truncate(path, size + 30)
        with path.open("ab") as file:
            file.write(bytes(zeros))
    assert check(path, key, must_have_key=False).problems == []
    write(path, 2, key=key)
    found = check(path, key)
    assert (found.problems, len(found.torn), found.keyed) == ([], cuts, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[before + cuts - 1] = b"{" + lines[before + cuts - 1]
    path.write_bytes(b"".join(lines))
    assert check(path, key).problem_count > 0, "what was torn last is vouched for"


def test_a_key_that_is_made_behind_a_torn_line_vouches_for_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, 2, key=None)
    os.truncate(path, path.stat().st_size - 30)
    key = make_key(b"k" * 32, last_hash(path))
    write(path, 2, key=key)
    found = check(path, key)
    assert (found.problems, len(found.torn)) == ([], 1)


def test_before_there_were_keys_such_a_forger_was_not_noticed(tmp_path: Path) -> None:
    """The forger of these tests does what the code does: without a key, its log is taken."""
    write(tmp_path / "log", key=None)
    forge(tmp_path / "log", more_events, None)
    assert b"1000000" in (tmp_path / "log").read_bytes()
    assert verify(tmp_path / "log").problems == []


@each("before", [0, 2], ids=["a new log", "a log of an older version"])
@each("forger", [None, OTHER], ids=["without a key", "with a key of its own"])
def test_a_forger_who_makes_all_hashes_again_is_noticed(
    tmp_path: Path, forger: AuditKey | None, before: int
) -> None:
    path = tmp_path / "log"
    if before:
        write(path, before, key=None)
    key = open_key(tmp_path / "key", last_hash=lambda: last_hash(path))
    write(path, key=key)
    assert check(path, key).problems == []
    forge(path, more_events, forger)
    assert check(path, key).problem_count > 0
    write(path, key=key)  # the service starts again, and goes on behind it
    assert check(path, key).problem_count > 0
    assert check(path, key, must_have_key=False).problem_count > 0


def test_lines_from_before_the_key_are_checked_as_they_were_and_covered_from_then_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    write(path, key=None)
    found = check(path, must_have_key=False)
    assert (found.problems, found.chained, found.keyed) == ([], 3, 0)
    write(path)
    found = check(path)
    assert (found.problems, found.chained, found.keyed) == ([], 6, 3)
    whole = path.read_bytes()
    head, tail = whole.splitlines(keepends=True)[:3], whole.splitlines(keepends=True)[3:]
    path.write_bytes(b"".join(head))
    forge(path, more_events, None)
    path.write_bytes(path.read_bytes() + b"".join(tail))
    assert check(path).problem_count > 0
    path.write_bytes(whole)
    write(path, key=None)  # an older version, or a forger: what has no key behind a key is not taken
    assert check(path).problem_count == 3


def test_a_log_whose_key_is_lost_says_which_one_it_needs(tmp_path: Path) -> None:
    write(tmp_path / "log")
    with pytest.raises(UserError, match=f"made with a key, {KEY.id.decode()}: give its file with --key-file"):
        verify(tmp_path / "log")
    write(tmp_path / "log", key=OTHER)  # a new one is made at the next start
    assert check(tmp_path / "log", OTHER).problem_count == 3
    assert check(tmp_path / "log", OTHER, KEY).problems == []


@given(st.binary(min_size=32, max_size=32), st.data())
def test_no_bit_of_a_keyed_line_can_be_changed(secret: bytes, data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path, key = Path(place) / "log", make_key(secret)
        write(path, 2, key=key)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 2))
        content[at] ^= 1 << data.draw(st.integers(0, 6))
        path.write_bytes(bytes(content))
        assert check(path, key, OTHER).problem_count > 0


# the file


def test_the_key_is_made_once_for_its_owner_alone_and_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "state" / "audit.key"
    key = open_key(path, last_hash=lambda: NOTHING)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_key(path, last_hash=bytes) == read_key(path) == key
    text = path.read_text().split()[0]
    assert text not in redact(f"the key is {text}")
    assert key.id.decode() not in text
    assert os.listdir(path.parent) == ["audit.key"]


@each("content", [b"", b"short", b"z" * 64, b"a" * 65, b"\xff" * 64])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "audit.key").write_bytes(content)
    with pytest.raises(UserError, match="expected 64 hexadecimal digits"):
        open_key(tmp_path / "audit.key", last_hash=bytes)


def test_a_key_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the key of the audit log"):
        open_key(tmp_path / "file" / "audit.key", last_hash=lambda: NOTHING)


def test_a_line_names_its_key(tmp_path: Path) -> None:
    write(tmp_path / "log", 1)
    chained = parse((tmp_path / "log").read_bytes().rstrip())
    assert chained is not None
    assert chained.key == KEY.id
    assert chained.text.startswith(f"{KEY.id.decode()}.")
