"""A replay into a sink that keeps an order, of a file whose events stand beside their copies, and that is
killed again and again by chance. With whole processes: ``tests/process/soak``."""

import random
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.chunk import Chunk
from ingestd.intake.recovery import Recovery
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment, body_digest, pack_positions
from tests.each import each
from tests.effort import FUZZ, seeds
from tests.ids import new_id
from tests.integration.intake.replay_support import Place, rows
from tests.process.soak.api import Api, SinkApi
from tests.process.soak.events import GROUP, Maker, with_copies
from tests.process.soak.judge import Verdict, judge

pytestmark = pytest.mark.anyio

CRASHES = 5
CUT = [16, 24, 39, 43, 60, 66, 68]  # seeds of histories that cut batches, and are killed meanwhile


@each("seed", [*seeds(2, 60), *(CUT if FUZZ else CUT[:2])])
async def test_the_order_of_a_group_holds_beside_its_copies_whatever_is_killed_when(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    events = Maker("f", rng, groups=rng.choice([1, 3, 20]), ill=rng.choice([0, 0.02])).many(
        300, pad=rng.choice([0, 2_000])
    )
    lines = with_copies(events, rng, share=0.8, within=rng.choice([1, 3, 40]))
    source = tmp_path / "in.ndjson"
    source.write_bytes(b"".join(line + b"\n" for line in lines))
    sinks = {"ordered": SinkApi(trouble=rng.choice([0, 0.2, 0.5]), slow_s=0.002)}
    async with Api(sinks, random.Random(seed + 1000), tmp_path / "requests.ndjson") as api:
        place = Place(tmp_path / "0", _sink(api, rng), _sections(rng))
        for number in range(1, CRASHES + 1):
            async with place.running(source) as life:
                if await life.over_before(api, requests=len(api.requests) + rng.randint(1, 12)):
                    break
                place = await life.crash(tmp_path / str(number))
        api.calm()
        report = await place.run(source)
    assert report["accepted"] == report["delivered"] + report["duplicate"] + report["dead_lettered"]
    letters = _letters(place)
    verdict = judge(events, sinks, letters, ordered=["ordered"], verdict=Verdict())
    assert verdict.good, verdict


def _sink(api: Api, rng: random.Random) -> dict[str, dict[str, Any]]:
    return {
        "ordered": {
            "type": "ingest_api",
            "url": f"{api.url}/ordered",
            "order_by": GROUP,
            "max_in_flight": rng.choice([1, 4]),
        }
    }


def _sections(rng: random.Random) -> dict[str, dict[str, Any]]:
    return {
        "batch": {"max_events": rng.choice([3, 10, 500])},
        "delivery": {"retry_ratio": 10, "min_retries_per_second": 1000, "give_up_after": 3600},
    }


def _letters(place: Place) -> list[dict[str, Any]]:
    found = rows(place.directory, "SELECT sink, payload FROM letters")
    return [{"sink": sink, "payload": payload} for sink, payload in found]


def test_parts_of_a_batch_that_was_cut_are_taken_up_in_the_order_of_their_events() -> None:
    """The second half of a batch is frozen before the quarters of its first half are."""
    events = [b"%d" % number for number in range(8)]
    parts = {"second half": range(4, 8), "first quarter": range(2), "second quarter": range(2, 4)}
    frozen = [
        FrozenBatch(
            *(name, False, float(at), len(positions), body_digest(b"".join(events[p] for p in positions))),
            *([PackedSegment(1, 0, 80, pack_positions(positions))], None, "ordered"),
        )
        for at, (name, positions) in enumerate(parts.items())
    ]
    recovery = Recovery(
        frozen,
        {1},
        encode=b"".join,
        digests=lambda events: [None] * len(events),
        claims_keys=True,
        new_id=new_id,
    )
    found = recovery.look(Chunk(events, source=1, start=0, end=80, place=lambda index: (index, 0)))
    assert found is not None
    assert [batch.id for batch in found.batches] == ["first quarter", "second quarter", "second half"]
