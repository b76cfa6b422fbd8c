"""What outlives a process: the disk, the APIs, the producers, the time; and what must be true at the end."""

import gzip
import random
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ingestd.config import Settings
from ingestd.simulation.disk import Disk
from ingestd.simulation.loop import VirtualClock
from ingestd.simulation.made import Made
from ingestd.simulation.plan import HistoryPlan, LifePlan
from ingestd.simulation.producers import QUEUES as FILE_QUEUES
from ingestd.simulation.producers import Producers
from ingestd.simulation.receivers import TOKEN_PATH, Receiver, read_event
from ingestd.simulation.sqlite_vfs import SqliteDisk
from ingestd.simulation.state_rows import Rows, copied, opened
from ingestd.simulation.trace import Trace
from ingestd.store.connection import FILE_NAME
from ingestd.store.database import transact
from ingestd.store.frames import left_of
from ingestd.store.spool_rows import forget_sink
from ingestd.store.writer import Writer

_LETTERS = "SELECT sink, payload, state FROM letters"
_LEASED = "SELECT id, attempts FROM letters WHERE state = 'leased'"
_EMPTY = ("batches WHERE NOT settled", "spool", "confirmations")


class SimulatedWorld:
    def __init__(self, plan: HistoryPlan, root: Path, sqlite: SqliteDisk, content: bytes) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.trace = Trace()
        self.clock = VirtualClock(1_800_000_000.0)
        self.made = Made()
        self.disk = Disk(root, sqlite, plan.seed + 1, content)
        self.receivers = {
            name: Receiver(name, kind, random.Random(plan.seed + 2), self.trace)
            for name, kind in plan.kinds.items()
        }
        self.producers = Producers(random.Random(plan.seed + 3), self.trace)
        self.producers.on_delivered = self._check_delivered
        self.parked: set[str] = set()
        self._purged: set[tuple[str, int]] = set()
        self._may_be_doubled: set[int] = set()  # a person was told that they may arrive twice
        self._edited: dict[int, list[bytes]] = {}
        self.file = root / f"events.{plan.file}"
        self._in_file: list[int] = []
        self._damaged_chunks: set[int] = set()  # a report has to name these
        self._ever_damaged: set[int] = set()
        self._forgotten: set[str] = set()
        self._damaged: set[int] = set()  # numbers of events that were in them
        self._letters: set[int] = set()  # that ever were dead letters

    def settings(self, life: LifePlan) -> Settings:
        sections: dict[str, Any] = {name: dict(section) for name, section in life.settings.items()}
        bounds, transforms, sinks = sections.pop("bounds"), sections.pop("transforms"), dict[str, Any]()
        kinds = {name: kind for name, kind in self.plan.kinds.items() if name != life.without}
        self.producers.sinks = frozenset(kinds)
        for name, kind in kinds.items():
            url = f"http://{name}.invalid/"
            if kind.body == "api":
                sinks[name] = {"type": "ingest_api", "url": url}
            elif kind.body == "confirmed":
                asked = {"url": url + "{id}", "requests_per_minute": 6000}
                sinks[name] = {"type": "cloudevents", "url": url, "expect": "json", "confirm": asked}
            else:
                sinks[name] = {"type": "webhook", "url": url, "body": kind.body, "expect": "json"}
            sinks[name] |= {key: value for key, value in bounds.get(name, {}).items() if value is not None}
            if kind.login:
                sinks[name]["auth"] = {
                    "type": "oauth2",
                    "token_url": f"http://{name}.invalid{TOKEN_PATH}",
                    "client_id": "somebody",
                    "client_secret": "something",
                }
            sinks[name]["transforms"] = transforms.get(name, [])
            if len(kind.types) < 3:
                sinks[name]["when"] = {"eventType": list(kind.types)}
            self.receivers[name].most_at_once = sections["delivery"]["max_in_flight"]
        if self.plan.lake:
            of = "accepted" if self.plan.lake == "accepted" else next(iter(self.plan.kinds))
            sinks["lake"] = {
                "type": "lake",
                "url": str(self.disk.lake.root),
                "of": of,
                "file_age": self.plan.lake_age_s,
                "partition": "date",
            }
        if self.plan.ordered:
            sections["delivery"]["order_by"] = "routingMetadata.queueId"
        sections["state"] = {"dir": str(self.disk.directory)}
        audit = self.disk.audit
        sections["audit"] = {
            "file": str(audit.file),
            "key_file": str(audit.key),
            "max_bytes": 20_000,
            "keep": 3,
        }
        settings = Settings.model_validate(sections | {"sinks": sinks})
        self.made.know(settings)
        return settings

    # --- a file that is replayed ---

    def write_lines(self, count: int) -> None:
        """It grows: by events, copies of earlier ones, and lines that are none."""
        rng, producers = self.rng, self.producers
        lines = []
        for _ in range(count):
            if rng.random() < 0.03:
                lines.append(b'{"no":"event"}')
                continue
            copied = self._in_file and rng.random() < self.plan.copies
            number = rng.choice(self._in_file) if copied else producers.make(FILE_QUEUES + rng.randrange(2))
            self._in_file += [] if copied else [number]
            producers.sent[number] += 1
            lines.append(producers.payloads[number])
        data = b"\n".join(lines) + b"\n"
        with open(self.file, "ab") as file:
            file.write(gzip.compress(data, mtime=0) if self.plan.file == "gzip" else data)
        producers.owe([number for number in self._in_file if number not in producers.safe])

    def replayed(self) -> None:
        """A replay told that it is done with the file."""
        self.producers.safe.update(dict.fromkeys(self._in_file))

    # --- what people did ---

    def excuse(self, payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            self._may_be_doubled.update(_numbers_in(payload))

    def purged(self, sink: str, payload: bytes) -> None:
        self._purged |= {(sink, number) for number in _numbers_in(payload)}
        self._note_letters([(sink, payload, "purged")])  # it may have come and gone in one life

    def edited(self, number: int, payload: bytes) -> None:
        self._edited.setdefault(number, []).append(payload)

    def before(self, life: LifePlan) -> None:
        """What happens while no process runs."""
        if self.disk.full:
            return
        if life.rot:
            self._rot()
        if life.forget:
            self._forget(life.without)

    def _rot(self) -> None:
        """A bit of a chunk in the spool is another one."""
        with copied(self.disk.directory) as rows:
            chunks = rows("SELECT id, payload FROM spool ORDER BY id")
        if not chunks:
            return
        number, payload = self.rng.choice(chunks)
        at = self.rng.randrange(len(payload))
        changed = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
        with opened(self.disk.directory) as rows:
            rows("UPDATE spool SET payload = ? WHERE id = ?", changed, number)
            self.disk.end_life(power_cut=False)  # before the connection is closed, and takes the log away
        self.disk.begin_life()
        self.trace.note(f"chunk {number} of the spool is damaged")
        self._damaged_chunks.add(number)
        self._ever_damaged.add(number)
        self._damaged |= {int(found) for found in re.findall(rb'"n":(\d+)', left_of(payload))}
        for receiver in self.receivers.values():  # a request with one of these cannot be made again
            for body in receiver.bodies.values():
                numbers = {event.number for event in receiver.events(body)}
                self._may_be_doubled |= numbers if numbers & self._damaged else set()

    def _forget(self, sink: str) -> None:
        """``spool forget``."""
        self._forgotten.add(sink)
        writer = Writer(self.disk.directory / FILE_NAME, busy_timeout_s=0.0, pwrite=self.disk.write_mark)
        forgotten: list[object] = []
        transact(writer, [lambda connection: forgotten.append(forget_sink(connection, sink))])
        writer.close()
        self.trace.note(f"spool forget {sink}: {forgotten}")
        if forgotten != [None]:  # else the command refuses, and leaves the sink as it is
            self.parked.discard(sink)  # it is sent to again when it is back
        self._damaged_chunks.clear()  # some of these may be gone with it
        for number, owed in self.producers.owed.items():
            self.producers.owed[number] = owed - {sink}

    # --- what must be true ---

    def look_at_letters(self) -> None:
        """Between two lives: an event that was a dead letter may be sent late, or twice if it came again."""
        with copied(self.disk.directory) as rows:
            self._note_letters(rows(_LETTERS))

    def has_leased(self) -> bool:
        """Some letter is on its way, or was forgotten there."""
        with opened(self.disk.directory) as rows:
            return bool(rows(_LEASED))

    def _note_letters(self, letters: Iterable[tuple[str, bytes, str]]) -> None:
        for _, payload, _ in letters:
            self._letters.update(_numbers_in(payload))

    def _check_delivered(self, numbers: list[int]) -> None:
        """A producer was told that these are delivered."""
        for name, receiver in self.receivers.items():
            there = receiver.has(reported=True)
            for number in numbers:
                event = read_event(self.producers.payloads[number])
                dropped = self.made.may_drop(name, self.producers.payloads[number])
                owed = receiver.kind.takes(event) and name in self.producers.owed[number] and not dropped
                if owed and number not in there:
                    self.trace.breach(f"producer was told that {number} is delivered, and {name} has it not")

    def check_end(self) -> None:
        """Raises Violation."""
        with copied(self.disk.directory) as rows:
            letters = rows(_LETTERS)
            self._check_leases(rows)
            self._check_file(rows)
        self._note_letters(letters)
        dead_lettered = {(sink, number) for sink, payload, _ in letters for number in _numbers_in(payload)}
        for name, receiver in self.receivers.items():
            self._check_sink(name, receiver, dead_lettered)
        # an event that was accepted again and refused again has a letter that waits beside the superseded one
        waits = {
            (sink, n) for sink, payload, state in letters if state == "waiting" for n in _numbers_in(payload)
        }
        for sink, payload, state in letters:
            for number in _numbers_in(payload):
                if state != "delivered" or not sink or (sink, number) in waits:
                    continue
                if self.made.may_drop(sink, self.producers.payloads[number]):
                    continue  # what was accepted again was left out by a transform that came meanwhile
                if number not in self.receivers[sink].accepted():
                    self.trace.breach(f"letter of {number} is told to be delivered, and {sink} has it not")
        if self.plan.lake:
            self._check_lake()
        if wrong := self.disk.audit.judge():
            self.trace.breach(wrong)
        self.trace.judge()

    def _check_leases(self, rows: Rows) -> None:
        if stuck := rows(_LEASED):
            self.trace.breach(f"letters {sorted(stuck)} are leased still, by a process that ended")

    def _check_sink(self, name: str, receiver: Receiver, dead_lettered: set[tuple[str, int]]) -> None:
        trace, counts, has = self.trace, receiver.counts(), receiver.has()
        for number in self.producers.safe:
            event = read_event(self.producers.payloads[number])
            if not receiver.kind.takes(event) or name not in self.producers.owed[number]:
                continue
            if number in self._damaged or self.made.may_drop(name, self.producers.payloads[number]):
                continue
            if number in has:
                continue
            if not {(name, number), ("", number)} & (dead_lettered | self._purged):
                trace.breach(
                    f"event {number} was acknowledged, and is lost: {name} has it not, nor is it a letter"
                )
        for number, count in counts.items():
            if count > 1 and number not in self._may_be_doubled and not self._came_again(number):
                trace.breach(f"event {number} is at {name} under {count} keys")
        for event in receiver.order:
            came, edited = self.producers.payloads[event.number], self._edited.get(event.number, [])
            known = {*edited, *self.made.of(name, [came, *edited])}
            if event.payload not in known:
                trace.breach(f"event {event.number} is at {name} with other bytes: {event.payload!r}")
        if self.plan.ordered:
            self._check_order(receiver)

    def _came_again(self, number: int) -> bool:
        """Somebody sent it once more, and its key was free: nobody remembers keys, or it had become a dead
        letter."""
        free = number in self._letters or not self.plan.knows_copies
        return free and self.producers.sent[number] > 1

    def _check_order(self, receiver: Receiver) -> None:
        last: dict[str, int] = {}
        for event in receiver.order:
            late = event.number in self._letters | self._may_be_doubled | receiver.put_off or event.edited
            late = late or self._came_again(event.number)
            if late:
                continue
            if event.number < last.get(event.queue, -1):
                self.trace.breach(
                    f"{receiver.name} has {event.number} after {last[event.queue]} of {event.queue}"
                )
            last[event.queue] = max(event.number, last.get(event.queue, -1))

    def _check_file(self, rows: Rows) -> None:
        """Nothing is left on its way, and the file is whole."""
        for table in _EMPTY:
            if (count := rows(f"SELECT count(*) FROM {table}")[0][0]) != 0:  # noqa: S608 - our own names
                self.trace.breach(f"{count} rows are left in {table}")
        reported = {number for (number,) in rows("SELECT first FROM spool_damage")}
        if not self._damaged_chunks <= reported <= self._ever_damaged:
            self.trace.breach(f"chunks {reported} are said to be damaged: {self._damaged_chunks} are")
        if (verdict := rows("PRAGMA integrity_check")[0][0]) != "ok":
            self.trace.breach(f"the state file is damaged: {verdict}")

    def _check_lake(self) -> None:
        """Each event once over all files; each of them whole."""
        counts = Counter(number for line in self.disk.lake.lines() for number in _numbers_in(line))
        name = "" if self.plan.lake == "accepted" else next(iter(self.plan.kinds))
        for number, count in counts.items():
            if (
                count > 1
                and number not in self._letters | self._may_be_doubled
                and not self._came_again(number)
            ):
                self.trace.breach(f"event {number} is {count} times in the lake")
        wanted = set(self.producers.safe)
        if name:
            # what was given up may have been taken, and is known only when its letter is sent again
            wanted = self.receivers[name].has(reported=True) - self._letters
        missing = wanted - set(counts) - self._damaged
        if missing and not self.plan.blocks_disk:
            self.trace.breach(f"events {sorted(missing)[:5]} are not in the lake")


def _numbers_in(payload: bytes) -> list[int]:
    try:
        return [read_event(payload).number]
    except ValueError:
        return []
