"""What is known of each communication, user or agent: how it stands, and the time of its last event.

Used by ``sandbox/apis/genesys.py``. The platform's state machine, as far as it is known: established,
then anything, then ended; and perhaps established again.
"""

from collections import OrderedDict
from datetime import datetime

MAX_KNOWN = 100_000
"""Communications, and conversations, that are remembered; those longest without an event go first."""


class Communications:
    """``keeps_states`` False: only times are looked at."""

    def __init__(self, *, keeps_states: bool) -> None:
        self._keeps_states = keeps_states
        self._last: OrderedDict[str, datetime] = OrderedDict()
        self._states: OrderedDict[str, str] = OrderedDict()

    def fault(self, array: str, conversation: str, communication: str) -> str | None:
        """Why an entry of ``array`` cannot come now; None if it can. A transfer has no communication."""
        if not self._keeps_states:
            return None
        state = self._states.get(f"{conversation} {communication}" if communication else conversation)
        if array.endswith("EstablishedEvents"):
            return None
        if state is None:
            return f"{'communication' if communication else 'conversation'} was never established"
        if state == "ended" and "DispositionApplied" not in array:
            return "the communication has ended"
        return None

    def note(self, array: str, conversation: str, communication: str) -> None:
        """An entry that has no fault was taken."""
        if not self._keeps_states:
            return
        if communication and array.endswith("EstablishedEvents"):
            self._remember(f"{conversation} {communication}", "established")
            self._remember(conversation, "established")
        elif communication and array.endswith("ommunicationEndedEvents"):
            self._remember(f"{conversation} {communication}", "ended")

    def is_late(self, key: str, time: datetime) -> bool:
        """Is ``time`` before that of the last event of ``key``; notes it."""
        last = self._last.pop(key, time)
        self._last[key] = max(last, time)
        if len(self._last) > MAX_KNOWN:
            self._last.popitem(last=False)
        return time < last

    def _remember(self, key: str, state: str) -> None:
        self._states[key] = state
        self._states.move_to_end(key)
        if len(self._states) > 2 * MAX_KNOWN:
            self._states.popitem(last=False)
