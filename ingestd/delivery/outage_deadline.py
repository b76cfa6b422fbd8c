"""How long a lane waits for an API that takes nothing before it ends. Pure; time is passed in."""

from ingestd.core.batch import Batch
from ingestd.core.errors import Unreachable
from ingestd.core.units import human_seconds
from ingestd.delivery.lane_settings import LaneSettings


class OutageDeadline:
    """Knows what the API has done for us so far, and when something last had its end."""

    def __init__(self, settings: LaneSettings, now: float) -> None:
        self._settings = settings
        self._last_progress = now
        self.ever_answered = self.ever_taken = False

    def progressed(self, now: float) -> None:
        """Something had its end, or there was nothing that could have had one."""
        self._last_progress = now

    def exceeded_s(self, now: float, *, held_back: bool, paused: bool) -> float | None:
        """How long nothing has been taken, if that is too long: waiting on would only hide a wrong address,
        or keep a person from seeing an outage. ``held_back``: by the API or the circuit; ``paused``: by a
        refusal of our login or address."""
        if not self.ever_answered or (paused and not self.ever_taken):
            patience_s = self._settings.startup_patience_s
        elif held_back:
            patience_s = self._settings.outage_patience_s
        else:
            return None
        waited_s = now - self._last_progress
        return waited_s if waited_s >= patience_s else None


def is_exhausted(batch: Batch, settings: LaneSettings, now: float) -> bool:
    """``now``: by a clock that stands still during an outage."""
    if 0 < settings.max_attempts <= batch.tries - batch.excused:
        return True
    return now - (batch.first_sent or 0.0) - batch.excused_s >= settings.give_up_after_s


def nothing_taken(url: str, waited_s: float, why: str) -> Unreachable:
    """``url``: as it may be shown."""
    return Unreachable(f"{url} has taken nothing for {human_seconds(waited_s)}: {why}")
