"""Offsets that a member of a group is to commit: noted in the loop, and committed in the member's thread."""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ingestd.core.clock import Clock
from ingestd.sources.kafka import client
from ingestd.sources.kafka.client import NONE, Start, TopicPart
from ingestd.sources.kafka.owner import CommitsMade, Owner

_COMMIT_EVERY_S = 0.1
_NOTE_TOO_LARGE = 12  # OFFSET_METADATA_TOO_LARGE


class OffsetCommits:
    """``is_exact``: somebody waits for what becomes of each, so that answers are waited for. ``note``: that
    commits have which nobody waits for. ``notify`` calls what it is given in the loop."""

    def __init__(
        self,
        owner: Owner,
        commits: CommitsMade,
        *,
        note: str,
        is_exact: bool,
        notify: Callable[..., None],
        clock: Clock,
    ) -> None:
        self._owner = owner
        self._commits = commits
        self._note = note
        self._is_exact = is_exact
        self._notify = notify
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[TopicPart, Start] = {}
        self._is_urgent = False
        self._committed_at = 0.0

    def add(self, due: Mapping[TopicPart, Start], *, urgent: bool) -> None:
        """Called in the loop. ``urgent``: it is waited for."""
        with self._lock:
            self._due.update(due)
            self._is_urgent = self._is_urgent or urgent

    # --- in the thread ---

    def send(self, consumer: Any, places: Collection[TopicPart]) -> None:
        """Those of these ``places``, if it is time."""
        now = self._clock.monotonic()
        every_s = 0.0 if self._is_urgent else _COMMIT_EVERY_S
        if not self._due or now - self._committed_at < every_s:
            return
        self._committed_at = now
        with self._lock:
            due, self._due, self._is_urgent = self._due, {}, False
        mine = {place: start for place, start in due.items() if place in places}
        if mine and self._is_exact:
            self._commit_and_notify(consumer, mine)
        elif mine:
            consumer.commit(offsets=[client.to_library(*one) for one in mine.items()], asynchronous=True)

    def _commit_and_notify(self, consumer: Any, due: Mapping[TopicPart, Start]) -> None:
        """Waits for the answer: others do, and one that is repeated must not come after a later one."""
        failed: dict[TopicPart, int] = {}
        try:
            answers = consumer.commit(
                offsets=[client.to_library(*one) for one in due.items()], asynchronous=False
            )
            failed = {(one.topic, one.partition): one.error.code() for one in answers if one.error}
        except client.library().KafkaException as error:
            failed = dict.fromkeys(due, client.code_of(error))
        with self._lock:  # it is tried again, unless more is settled by now
            for place in failed:
                self._due.setdefault(place, due[place])
        for place, code in failed.items():
            if code == _NOTE_TOO_LARGE:
                self._notify(self._commits.note_refused, place)
        if done := {place: start for place, start in due.items() if place not in failed}:
            self._notify(self._commits.made, done)

    def on_commit(self, error: Any, offsets: list[Any]) -> None:
        """Called by the library, of those that are not waited for."""
        failed = [] if self._is_exact else [one for one in offsets if one.error or error]
        with self._lock:  # it is tried again, unless more is settled by now
            for one in failed:
                start = Start(one.offset, NONE if one.leader_epoch is None else one.leader_epoch, self._note)
                self._due.setdefault((one.topic, one.partition), start)

    def commit_now(self, consumer: Any, due: Mapping[TopicPart, Start]) -> None:
        """What cannot be committed is read again, by its next owner."""
        self.forget(due)
        if due:
            try:
                consumer.commit(offsets=[client.to_library(*one) for one in due.items()], asynchronous=False)
            except client.library().KafkaException as error:
                self._notify(self._owner.on_problem, f"offsets are not committed: {client.words_of(error)}")

    def due_of(self, places: Collection[TopicPart]) -> dict[TopicPart, Start]:
        with self._lock:
            return {place: start for place, start in self._due.items() if place in places}

    def forget(self, places: Collection[TopicPart]) -> None:
        """They are not committed any more: others may have committed more."""
        with self._lock:
            for place in places:
                self._due.pop(place, None)
