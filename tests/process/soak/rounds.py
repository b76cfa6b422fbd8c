"""All shapes of a round."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.process.cli.support import Place
from tests.process.soak import brokers, replay, run
from tests.process.soak.judge import Verdict

_PLAYS: dict[str, Callable[..., Awaitable[Verdict]]] = {
    **dict.fromkeys(run.SHAPES, run.round_of_run),
    **dict.fromkeys(replay.SHAPES, replay.round_of_replay),
    **dict.fromkeys(brokers.SHAPES, brokers.round_of_broker),
}
SHAPES = tuple(_PLAYS)


async def play(directory: Path, shape: str, seed: int, *, lives: int) -> Verdict:
    """A round in an empty ``directory``; ``lives`` end by a kill, and one or two more bring all to an end."""
    return await _PLAYS[shape](Place(directory), shape, seed, lives=lives)
