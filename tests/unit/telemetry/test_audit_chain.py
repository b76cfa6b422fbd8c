"""The chain through the audit file, with real files, several writers and rotation: what verify sees of it."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingestd.telemetry.audit_chain import parse
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.telemetry.audit_verification import AuditFindings, verify
from tests.each import each

OLD_LINE = b'{"time":"2026-01-01T00:00:00.000+00:00","event":"RUN_STARTED"}\n'


def write(path: Path, count: int = 1, *, max_bytes: int = 10**9, keep: int = 100, first: int = 0) -> None:
    """One writer from start to end."""
    log = AuditLog(path, max_bytes=max_bytes, keep=keep)
    for number in range(first, first + count):
        log(AuditEntry.BATCH_DELIVERED, events=number)
    log.close()
    assert log.problem == ""


def whole(found: AuditFindings) -> bool:
    return not found.problem_count and not found.problems


def whats(found: AuditFindings) -> list[tuple[int, str]]:
    return [(problem.line, problem.what) for problem in found.problems]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def sample() -> list[tuple[str, bytes]]:
    """(part, line) of a log that a service wrote, with others beside it, rotated twice."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "audit.jsonl"
        service = AuditLog(path, max_bytes=1500)
        for number in range(16):
            service(AuditEntry.BATCH_DELIVERED, events=number, note="é\n" * 3)
            if number % 4 == 1:
                service.flush()
                write(path, 1 + number % 2, first=100 + number)
        service.close()
        parts = sorted(os.listdir(place), reverse=True)
        assert verify(path).problems == []
        return [(name, line) for name in parts for line in lines_of(Path(place) / name)]


SAMPLE = sample()


def verify_lines(directory: Path, lines: Sequence[tuple[str, bytes]]) -> AuditFindings:
    for name in {name for name, _ in SAMPLE}:
        (directory / name).write_bytes(b"".join(line for part, line in lines if part == name))
    return verify(directory / "audit.jsonl")


def test_the_sample_has_all_that_makes_it_hard() -> None:
    chains = [parse(line.rstrip()) for _, line in SAMPLE]
    assert len({name for name, _ in SAMPLE}) >= 3
    assert len({chain.writer for chain in chains if chain}) >= 4
    assert sum(bool(chain and chain.after) for chain in chains) < len(chains)


# --- what is noticed ---


@given(st.data())
def test_any_byte_that_is_changed_before_the_last_line_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(SAMPLE) - 2), label="line")
    name, line = SAMPLE[index]
    at = data.draw(st.integers(0, len(line) - 1), label="at")
    byte = data.draw(st.integers(0, 255), label="byte")
    assume(byte != line[at])
    changed = line[:at] + bytes([byte]) + line[at + 1 :]
    lines = [*SAMPLE[:index], (name, changed), *SAMPLE[index + 1 :]]
    assert not whole(verify_lines(tmp_path_factory.mktemp("audit"), lines))


def test_any_part_of_a_chain_that_is_changed_before_the_last_line_is_noticed(tmp_path: Path) -> None:
    before = b""
    for index, (name, line) in enumerate(SAMPLE[:-1]):
        chain = parse(line.rstrip())
        assert chain
        writer, place = chain.writer, chain.place
        other = (
            place.replace(writer, b"0" * 12),
            b"%b:%d:" % (writer, chain.number + 1),
            b"%b:0%d:" % chain[:2],
        )
        changed = [line.replace(place, new) for new in other]
        changed += [line.replace(chain.link + b'"}', b'"}')] if chain.link else []
        changed += [] if chain.link else [line.replace(b'"}', b':%b"}' % before)]
        for strange in changed:
            lines = [*SAMPLE[:index], (name, strange), *SAMPLE[index + 1 :]]
            assert not whole(verify_lines(tmp_path, lines)), strange
        before = chain.hash


@each("index", range(1, len(SAMPLE) - 1))
def test_any_line_that_is_taken_away_put_in_or_moved_in_the_middle_is_noticed(
    index: int, tmp_path: Path
) -> None:
    name, line = SAMPLE[index]
    without = [*SAMPLE[:index], *SAMPLE[index + 1 :]]
    assert not whole(verify_lines(tmp_path, without)), "removed"
    for strange in (line, OLD_LINE, b"\n", b"garbage\n", SAMPLE[0][1], SAMPLE[-1][1]):
        put_in = [*SAMPLE[:index], (name, strange), *SAMPLE[index:]]
        assert not whole(verify_lines(tmp_path, put_in)), f"put in {strange!r}"
        replaced = [*SAMPLE[:index], (name, strange), *SAMPLE[index + 1 :]]
        assert strange == line or not whole(verify_lines(tmp_path, replaced)), f"replaced by {strange!r}"
    for other in range(index):
        swapped = list(SAMPLE)
        swapped[index], swapped[other] = (name, SAMPLE[other][1]), (SAMPLE[other][0], line)
        assert not whole(verify_lines(tmp_path, swapped)), f"swapped with {other}"


@given(st.integers(1, len(SAMPLE) - 2), st.integers(1, len(SAMPLE)))
def test_any_stretch_that_is_taken_away_before_the_last_line_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, start: int, count: int
) -> None:
    end = min(start + count, len(SAMPLE) - 1)
    lines = [*SAMPLE[:start], *SAMPLE[end:]]
    assert not whole(verify_lines(tmp_path_factory.mktemp("audit"), lines))


def test_a_writer_of_one_line_beside_a_service_cannot_be_taken_away_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    service = AuditLog(path)
    service(AuditEntry.RUN_STARTED)
    service.flush()
    write(path)
    service(AuditEntry.RUN_FINISHED)
    service.close()
    first, _purge, last = lines_of(path)
    assert whole(verify(path))
    assert verify(path).writers == 2
    path.write_bytes(first + last)
    ((line, what),) = whats(verify(path))
    assert (line, "some were taken away" in what) == (2, True)


def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 5)
    a, b, c, d, e = lines_of(path)

    def told(*lines: bytes) -> list[tuple[int, str]]:
        path.write_bytes(b"".join(lines))
        return whats(verify(path))

    assert told(a, b, c, d, e) == []
    assert told(a, b.replace(b'"events":1', b'"events":7'), c, d, e) == [(2, "was changed")]
    gone = "of its writer should stand before it: taken away, or moved"
    assert told(a, c, d, e) == [(2, f"number 1 {gone}")]
    assert told(a, e) == [(2, f"numbers 1 to 3 {gone}")]
    twice = "stands twice or out of order: its writer's number 1 is at audit.jsonl:2"
    assert told(a, b, b, c, d, e) == [(3, twice)]
    assert told(a, b, d, c, e)[0] == (3, f"number 2 {gone}")
    put_in, between = told(a, b, OLD_LINE, c, d, e)
    assert put_in == (3, "has no chain: put in, or its chain was taken away")
    assert between == (4, "was written directly behind audit.jsonl:2: what is between was put in")
    assert told(a, b, b"x\n", c, d, e)[0] == (3, "is not a line of the log: changed, or put in")
    assert told(b, c, d, e) == [(1, f"number 0 {gone}")]


def test_a_beginning_that_is_gone_is_told_and_wrong_where_nothing_was_ever_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 60, max_bytes=1500, keep=2)
    found = verify(path)
    assert (whole(found), found.older_gone, found.files) == (
        True,
        True,
        ["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"],
    )
    for older in ("audit.jsonl.2", "audit.jsonl.1"):
        (tmp_path / older).unlink()
    assert whats(verify(path)) == [(1, "what stood before it is gone, and the log was never rotated")]


@each("part", [1, 2, 3])
def test_a_rotated_file_that_is_gone_from_between_others_is_noticed(part: int, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 60, max_bytes=1500)
    assert len(verify(path).files) > 4
    (tmp_path / f"audit.jsonl.{part}").unlink()
    assert verify(path).problem_count == 1


def test_what_was_noted_down_has_to_be_there_still(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 3)
    noted = verify(path).last
    write(path, 3)
    assert whole(verify(path, noted=noted))
    path.write_bytes(b"".join(lines_of(path)[:2]))
    assert whole(verify(path))
    ((line, what),) = whats(verify(path, noted=noted))
    assert (line, what) == (0, f"{noted} is not there: cut off, rewritten or rotated away")


# --- what is no forgery ---


def test_lines_from_before_the_chain_are_counted_and_the_last_of_them_is_vouched_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(OLD_LINE * 3)
    assert (verify(path).unchained, whole(verify(path))) == (3, True)
    write(path, 2)
    found = verify(path)
    assert (whole(found), found.lines, found.unchained, found.chained) == (True, 5, 3, 2)
    path.write_bytes(
        path.read_bytes().replace(OLD_LINE * 3, OLD_LINE * 2 + OLD_LINE.replace(b"2026", b"2025"))
    )
    assert not whole(verify(path))


@each("lost", [1, 2, 30, 60, 90, 120])
def test_a_torn_last_line_is_told_and_the_next_process_goes_on_behind_it(lost: int, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 2)
    os.truncate(path, path.stat().st_size - lost)
    torn = [] if lost == 1 else [("audit.jsonl", 2)]  # then only its line break is gone
    assert (verify(path).torn, whole(verify(path))) == (torn, True)
    write(path, 2)
    found = verify(path)
    assert (found.torn, whole(found), found.lines) == (torn, True, 4)
    path.write_bytes(b"".join(line for line in lines_of(path) if line != lines_of(path)[1]))
    assert not whole(verify(path)), "the torn line is vouched for too"


def test_a_service_links_to_what_another_process_left_torn(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    service = AuditLog(path)
    service(AuditEntry.RUN_STARTED)
    service.flush()
    with path.open("ab") as file:
        file.write(b'{"time":"20' + b"\0" * 100_000)
    service(AuditEntry.RUN_FINISHED)
    service.close()
    found = verify(path)
    assert (found.torn, whole(found), found.lines) == ([("audit.jsonl", 2)], True, 3)


def test_a_chain_is_short_and_a_line_stays_json(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 3)
    for line in lines_of(path):
        assert re.fullmatch(r"[0-9a-f]{12}:\d:[0-9a-f]{32}(:[0-9a-f]{32})?", json.loads(line)["chain"])
