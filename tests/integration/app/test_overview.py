"""What the console shows of a sink's answers is what its histogram has."""

from pathlib import Path

import pytest

from ingestd.core.answer import Answer
from ingestd.core.chunk import Batch
from ingestd.core.verdict import Meaning, Verdict
from ingestd.telemetry.metrics import ATTEMPT_BOUNDS
from tests.integration.intake.support import running
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio


async def test_answers_are_counted_by_the_bound_that_they_came_within(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path, receiver, deliver=False) as life:
        (runner,), metrics = life.pipeline.runners, life.pipeline.metrics
        batch = Batch([], [], [], lambda: "request")
        for status, seconds in ((200, 0.0), (200, 0.005), (429, 0.0051), (503, 31.0), (0, 10.0)):
            runner.recorder.attempted(batch, Answer(status, seconds=seconds), Verdict(Meaning.RETRY))
        shown = metrics.answered[runner.name]
        for number, bound in enumerate(ATTEMPT_BOUNDS):
            le = {"le": "+Inf" if bound == float("inf") else str(bound)}
            counts = [
                metrics.registry.get_sample_value(
                    "ingestd_attempt_seconds_bucket", {"sink": runner.name, "answer": answer, **le}
                )
                for answer in ("2xx", "3xx", "4xx", "429", "5xx")
            ]
            assert sum(shown[: number + 1]) == sum(count or 0.0 for count in counts), bound
        assert sum(shown) == 4
