"""What a person does beside a running service: ``dlq retry``, ``--edit``, ``purge``, ``spool park``. Their
output is checked."""

import sqlite3
from contextlib import closing
from itertools import chain
from typing import Any

from ingestd.core.errors import UserError
from ingestd.simulation.receivers import read_event
from ingestd.simulation.world import SimulatedWorld
from ingestd.store.chosen_letters import PurgeResult
from ingestd.store.connection import FILE_NAME
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from ingestd.store.parked_sinks import set_parked

# the API may have an event that it did not confirm in time, too
_WAITING = (
    "SELECT id, payload, sink, ambiguous OR reason = 'unconfirmed', batch FROM letters"
    " WHERE state = 'waiting' ORDER BY id"
)

_AT_ONCE: dict[str, Any] = {"busy_timeout_s": 0, "give_way": lambda seconds: None}
"""Nobody else writes meanwhile, and no real time passes."""


class People:
    """``chance``: which of the letters, from 0 to 1."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world

    def retry(self, chance: float) -> None:
        """All letters, or the one that is chosen."""
        rows = [row for row in self._waiting() if is_valid(row[1])]
        if not rows:
            return
        chosen = Filter() if chance < 0.5 else Filter(ids=(rows[int(chance * len(rows))][0],))
        now = self._world.clock.wall()
        try:
            with LetterChanges.open(self._world.disk.directory, **_AT_ONCE) as changes:
                letters = chain.from_iterable(changes.pages(chosen, now))
                numbers = [letter.id for letter in letters if is_valid(letter.payload)]
                marked = changes.request(numbers, now=now)
        except UserError as error:
            self._world.trace.note(f"dlq retry fails: {error}")
            return
        if marked.risky or marked.rekeyed:  # the person is told so
            self._world.excuse(row[1] for row in rows if row[3])
        self._world.trace.note(f"dlq retry marks {marked.marked} of {len(rows)}")
        if marked.chosen > len(numbers) or marked.marked > len(rows):
            self._world.trace.breach(f"dlq retry says {marked}, of {len(numbers)} letters")

    def edit(self, chance: float) -> None:
        rows = self._waiting()
        if not rows:
            return
        number, payload, _, ambiguous, batch = rows[int(chance * len(rows))]
        if not is_valid(payload):
            return
        event = read_event(payload)
        edited = (
            payload.replace(b'"attributes":{', b'"attributes":{"edited":true,')
            if not event.edited
            else payload
        )
        try:
            with LetterChanges.open(self._world.disk.directory, **_AT_ONCE) as changes:
                left = changes.edit(number, edited, now=self._world.clock.wall())
        except UserError as error:
            self._world.trace.note(f"dlq retry --edit fails: {error}")
            return
        self._world.edited(event.number, edited)
        if ambiguous:  # the person is told that it may arrive twice
            self._world.excuse(row[1] for row in rows if row[4] == batch)
        self._world.trace.note(f"dlq retry --edit {number}: {left} of its request wait now")

    def park(self, chance: float) -> None:
        """Set a sink aside, or send there again."""
        names = [*self._world.receivers]
        name = names[int(chance * len(names))]
        on = name not in self._world.parked
        try:
            set_parked(
                self._world.disk.directory, name, self._world.clock.wall() if on else None, busy_timeout_s=0
            )
        except UserError as error:
            self._world.trace.note(f"spool park fails: {error}")
            return
        self._world.parked ^= {name}
        self._world.trace.note(f"spool {'park' if on else 'resume'} {name}")

    def purge(self, chance: float) -> None:
        rows = self._waiting()
        if not rows:
            return
        number, payload, sink, ambiguous, batch = rows[int(chance * len(rows))]
        done, directory = PurgeResult(), self._world.disk.directory
        try:
            with LetterChanges.open(directory, **_AT_ONCE) as changes:
                changes.purge(Filter(ids=(number,)), now=self._world.clock.wall(), done=done)
        except UserError as error:
            self._world.trace.note(f"dlq purge fails: {error}")
            return
        there = number in {row[0] for row in self._waiting()}
        is_on = directory == self._world.disk.directory  # else the machine went off, and the command with it
        if is_on and done.deleted != (not there):
            self._world.trace.breach(
                f"dlq purge says {done.deleted} of letter {number}, which is there: {there}"
            )
        if not there:
            self._world.purged(sink, payload)
        if ambiguous:
            self._world.excuse(row[1] for row in rows if row[4] == batch)
        self._world.trace.note(f"dlq purge: {done.deleted}, {done.left} of its request wait")

    def _waiting(self) -> list[tuple[int, bytes, str, int, str]]:
        path = self._world.disk.directory / FILE_NAME
        if not path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return connection.execute(_WAITING).fetchall()
        except sqlite3.OperationalError as error:
            if "no such" in str(error) or "locked" in str(error):
                return []  # it ended before its first start was over, or somebody else has it
            raise


def is_valid(payload: bytes) -> bool:
    """Of a letter: the command does not send what its schema refuses."""
    try:
        return read_event(payload).number >= 0
    except ValueError:
        return False
