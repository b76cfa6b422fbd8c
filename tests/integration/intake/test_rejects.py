"""A replay of what its schema refuses: it ends where its first events say that it is another file, or where
more are rejected than allowed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.ledger import Ledger, MaxRejected
from tests.each import each
from tests.integration.intake.replay_support import Place, SmallPlace, rows, sink
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio

GOOD = b'{"id":"%d","kind":"order"}'
OTHER = b'{"number":%d}'
SCHEMA = '{"type":"object","required":["id"],"properties":{"kind":{"type":"string"}}}'


async def replay(
    tmp_path: Path, lines: Sequence[bytes], *, kind: type[Place] = Place, pipe: bool = False, **source: Any
) -> tuple[dict[str, Any], Receiver, Place]:
    schema = tmp_path / "schema.json"
    schema.write_text(SCHEMA)
    path = tmp_path / "in.ndjson"
    path.write_bytes(
        b"".join(line.replace(b"%d", b"%d" % number) + b"\n" for number, line in enumerate(lines))
    )
    sections = {"schema": {"name": str(schema), "dedup_key": "id"}, "source": source}
    async with Receiver() as receiver:
        place = kind(tmp_path / "state", {"crm": sink(receiver)}, sections)
        if not pipe:
            return await place.run(path), receiver, place
        out, into = os.pipe()
        os.write(into, path.read_bytes())
        os.close(into)
        report = await place.run(Path(f"/dev/fd/{out}"))
        os.close(out)
        return report, receiver, place


@each("kind", [Place, SmallPlace])
@each(
    "lines", [[OTHER] * 100, [OTHER] * 500 + [GOOD] * 50, [b"no JSON, %d"] * 120, [b'{"a%d":', b"}}%d"] * 60]
)
async def test_first_events_that_are_all_refused_alike_end_a_replay(
    tmp_path: Path, lines: Sequence[bytes], kind: type[Place]
) -> None:
    report, receiver, place = await replay(tmp_path, lines, kind=kind)
    assert report["exit_code"] == 2
    assert "in.ndjson: its first 100 events are all refused for one reason: " in report["error"]
    assert "--keep-going" in report["error"]
    assert (report["delivered"], receiver.requests) == (0, [])
    assert report["rejected"] == len(rows(place.directory, "SELECT * FROM letters")) < 100
    if kind is Place:  # all of them stand in one chunk
        assert report["rejected"] == 0
        again = await place.run(tmp_path / "in.ndjson")
        assert (again["exit_code"], again["rejected"]) == (2, 0)


@each(
    "lines",
    [
        [OTHER] * 99,
        [OTHER] * 99 + [GOOD] + [OTHER] * 300,
        [GOOD] + [OTHER] * 300,
        [OTHER, b'{"id":"%d","kind":1}'] * 100,
    ],
)
async def test_events_that_are_not_all_refused_alike_cost_themselves(
    tmp_path: Path, lines: Sequence[bytes]
) -> None:
    report, _, _ = await replay(tmp_path, lines)
    assert (report["exit_code"], report["error"]) == (3, None)
    assert report["rejected"] == sum(line is not GOOD for line in lines)


async def test_keep_going_makes_dead_letters_of_them(tmp_path: Path) -> None:
    report, _, _ = await replay(tmp_path, [OTHER] * 200 + [GOOD], keep_going=True)
    assert (report["exit_code"], report["rejected"], report["delivered"]) == (3, 200, 1)


async def test_what_came_of_a_pipe_is_kept_all_the_same(tmp_path: Path) -> None:
    report, _, place = await replay(tmp_path, [OTHER] * 200, pipe=True)
    assert report["exit_code"] == 2
    assert (
        report["rejected"] == report["accepted"] == len(rows(place.directory, "SELECT * FROM letters")) >= 100
    )


@each(
    "max_rejected, bad, good, code",
    [
        ("", 1, 10, 3),
        ("5", 5, 10, 0),
        ("5", 6, 10, 3),
        ("10%", 1, 9, 0),
        ("10%", 1, 8, 3),
    ],
)
async def test_so_many_rejected_events_are_no_failure(
    tmp_path: Path, max_rejected: str, bad: int, good: int, code: int
) -> None:
    report, _, _ = await replay(tmp_path, [GOOD] * good + [OTHER] * bad, max_rejected=max_rejected)
    assert (report["exit_code"], report["rejected"], report["delivered"]) == (code, bad, good)


async def test_too_many_rejected_end_a_replay_and_lose_nothing(tmp_path: Path) -> None:
    lines = [GOOD, OTHER, GOOD, b'{"id":"7"}'] * 300
    report, _, place = await replay(tmp_path, lines, kind=SmallPlace, max_rejected="20")
    assert report["exit_code"] == 3
    assert "--max-rejected" in report["error"]
    assert 20 < report["rejected"] < 100
    assert report["in_flight"] == 0
    assert report["accepted"] < len(lines)
    async with Receiver() as receiver:
        place.sinks = {"crm": sink(receiver)}
        place.sections = {**place.sections, "source": {}}
        rest = await place.run(tmp_path / "in.ndjson")
    assert rest["accepted"] + report["accepted"] == len(lines)
    assert rest["rejected"] + report["rejected"] == 300


@each("text", ["x", "-1", "101%", "1.5", "%", "nan%", "1e400%", "inf"])
def test_a_limit_is_a_number_or_a_share(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a number of events"):
        MaxRejected.parse(text)


def test_a_share_is_judged_from_a_thousand_events_on() -> None:
    limit = MaxRejected.parse("1%")
    assert not limit.exceeded_by(Ledger(accepted=20, rejected=10), at_end=False)
    assert limit.exceeded_by(Ledger(accepted=20, rejected=11), at_end=False)
    assert not limit.exceeded_by(Ledger(accepted=2000, rejected=20), at_end=False)
    assert limit.exceeded_by(Ledger(accepted=20, rejected=1))


async def test_utf16_behind_utf8_is_refused_by_name_line_by_line(tmp_path: Path) -> None:
    mixed = [GOOD, '{"id":"x"}\n{"id":"y"}\n'.encode("utf-16") + b"\n", b"\xef\xbb\xbf" + GOOD]
    report, _, place = await replay(tmp_path, mixed)
    assert (report["delivered"], report["rejected"]) == (2, 2)
    words = rows(place.directory, "SELECT detail FROM letters")
    assert all("it is UTF-16 in the middle of UTF-8" in detail for (detail,) in words)


async def test_envelopes_without_an_event_are_rejected_and_say_why(tmp_path: Path) -> None:
    lines = [b'{"detail":%b}' % GOOD, b'{"id":"not wrapped"}', b'{"detail":%b}' % GOOD]
    report, _, place = await replay(tmp_path, lines, unwrap="detail")
    assert (report["delivered"], report["rejected"], report["exit_code"]) == (2, 1, 3)
    ((line, detail, payload),) = rows(place.directory, "SELECT line, detail, payload FROM letters")
    assert (line, bytes(payload)) == (2, b'{"id":"not wrapped"}')
    assert detail.endswith("nothing is at detail, where unwrap looks for it")
