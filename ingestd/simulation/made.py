"""What transforms may have made of an event, by the configurations that a history had so far."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ingestd.config import Settings
from ingestd.config.settings import sinks_that_send
from ingestd.wiring.transforms import make_transforms

if TYPE_CHECKING:
    from ingestd.processing.transforms.program import Program

_MOST_BYTES = 1_000_000


class Made:
    """``know`` the settings of each life."""

    def __init__(self) -> None:
        self._programs: dict[str, list[Program | None]] = {}
        self._known: list[tuple[str, object]] = []

    def know(self, settings: Settings) -> None:
        for name, section in sinks_that_send(settings).items():
            if (name, section.transforms) not in self._known:
                self._known.append((name, section.transforms))
                program = make_transforms(settings, name, section, secret=b"", max_event_bytes=_MOST_BYTES)
                self._programs.setdefault(name, []).append(program)

    def of(self, sink: str, payloads: Sequence[bytes]) -> list[bytes]:
        """What the sink may get of these."""
        found: list[bytes] = []
        for program in self._programs.get(sink, ()):
            if program is None:
                found += payloads
                continue
            made, dropped, failed = program.run(payloads)
            found += [one for at, one in enumerate(made) if at not in failed and at not in dropped]
        return found

    def may_drop(self, sink: str, payload: bytes) -> bool:
        """Whether the event may have been left out."""
        return any(
            program is not None and program.run([payload]).dropped for program in self._programs.get(sink, ())
        )
