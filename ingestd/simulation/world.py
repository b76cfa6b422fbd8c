"""What outlives a process: the disk, the APIs, the producers, the time; and what must be true at the end."""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from ingestd.config import Settings
from ingestd.simulation.disk import Disk
from ingestd.simulation.loop import VirtualClock
from ingestd.simulation.plan import HistoryPlan, LifePlan
from ingestd.simulation.producers import Producers
from ingestd.simulation.receivers import Receiver, read_event
from ingestd.simulation.sqlite_vfs import SqliteDisk
from ingestd.simulation.trace import Trace, Violation
from ingestd.store.connection import FILE_NAME

_LEASED = "SELECT id, attempts FROM letters WHERE state = 'leased'"
_EMPTY = ("batches WHERE NOT settled", "spool", "confirmations")


class SimulatedWorld:
    def __init__(self, plan: HistoryPlan, root: Path, sqlite: SqliteDisk) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.trace = Trace()
        self.clock = VirtualClock(1_800_000_000.0)
        self.disk = Disk(root, sqlite, random.Random(plan.seed + 1))
        self.lake = root / "lake"
        self.receivers = {
            name: Receiver(name, kind, random.Random(plan.seed + 2), self.trace)
            for name, kind in plan.kinds.items()
        }
        self.producers = Producers(random.Random(plan.seed + 3), self.trace)
        self.producers.told_delivered = self._check_delivered
        self.parked: set[str] = set()
        self._purged: set[tuple[str, int]] = set()
        self._excused: set[int] = set()  # a person was told that they may arrive twice
        self._edited: dict[int, list[bytes]] = {}
        self._leased: set[tuple[int, int]] = set()  # by number, with the attempts that they had
        self._letters: set[int] = set()  # that ever were dead letters

    def settings(self, life: LifePlan) -> Settings:
        sections: dict[str, Any] = {name: dict(section) for name, section in life.settings.items()}
        bounds, sinks = sections.pop("bounds"), dict[str, Any]()
        for name, kind in self.plan.kinds.items():
            url = f"http://{name}.invalid/"
            if kind.body == "api":
                sinks[name] = {"type": "ingest_api", "url": url}
            elif kind.body == "confirmed":
                asked = {"url": url + "{id}", "requests_per_minute": 6000}
                sinks[name] = {"type": "cloudevents", "url": url, "expect": "json", "confirm": asked}
            else:
                sinks[name] = {"type": "webhook", "url": url, "body": kind.body, "expect": "json"}
            sinks[name] |= {key: value for key, value in bounds.get(name, {}).items() if value is not None}
            if len(kind.types) < 3:
                sinks[name]["when"] = {"eventType": list(kind.types)}
            self.receivers[name].most_at_once = sections["delivery"]["max_in_flight"]
        if self.plan.lake:
            of = "accepted" if self.plan.lake == "accepted" else next(iter(self.plan.kinds))
            sinks["lake"] = {
                "type": "lake",
                "url": str(self.lake),
                "of": of,
                "file_age": 2.0,
                "partition": "date",
            }
        if self.plan.ordered:
            sections["delivery"]["order_by"] = "routingMetadata.queueId"
        sections["state"] = {"dir": str(self.disk.directory)}
        return Settings.model_validate(sections | {"sinks": sinks})

    # --- what people did ---

    def excuse(self, payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            self._excused.update(_numbers_in(payload))

    def purged(self, sink: str, payload: bytes) -> None:
        self._purged |= {(sink, number) for number in _numbers_in(payload)}

    def edited(self, number: int, payload: bytes) -> None:
        self._edited.setdefault(number, []).append(payload)

    # --- what must be true ---

    def look_at_letters(self) -> None:
        """Between two lives: an event that was a dead letter may be sent late, or twice if it came again."""
        for _, payload, _ in self._read_letters():
            self._letters.update(_numbers_in(payload))
        self._leased = set(self._rows(_LEASED))

    def _check_delivered(self, numbers: list[int]) -> None:
        """A producer was told that these are delivered."""
        for name, receiver in self.receivers.items():
            there = receiver.has(told=True)
            for number in numbers:
                event = read_event(self.producers.payloads[number])
                if receiver.kind.takes(event) and number not in there:
                    self.trace.breach(f"producer was told that {number} is delivered, and {name} has it not")

    def check_end(self) -> None:
        """Raises Violation."""
        letters = self._read_letters()
        self._check_leases()
        self.look_at_letters()
        buried = {(sink, number) for sink, payload, _ in letters for number in _numbers_in(payload)}
        for name, receiver in self.receivers.items():
            self._check_sink(name, receiver, buried)
        # an event that was accepted again and refused again has a letter that waits beside the superseded one
        waits = {
            (sink, n) for sink, payload, state in letters if state == "waiting" for n in _numbers_in(payload)
        }
        for sink, payload, state in letters:
            for number in _numbers_in(payload):
                if state != "delivered" or not sink or (sink, number) in waits:
                    continue
                if number not in self.receivers[sink].accepted():
                    self.trace.breach(f"letter of {number} is told to be delivered, and {sink} has it not")
        self._check_file()
        if self.plan.lake:
            self._check_lake()
        self.trace.judge()

    def _check_leases(self) -> None:
        if stuck := self._leased & set(self._rows(_LEASED)):
            self.trace.breach(f"letters {sorted(stuck)} are leased still, by a process that ended")

    def _check_sink(self, name: str, receiver: Receiver, buried: set[tuple[str, int]]) -> None:
        trace, counts, has = self.trace, receiver.counts(), receiver.has()
        for number in self.producers.safe:
            event = read_event(self.producers.payloads[number])
            if not receiver.kind.takes(event) or number in has:
                continue
            if not {(name, number), ("", number)} & (buried | self._purged):
                trace.breach(
                    f"event {number} was acknowledged, and is lost: {name} has it not, nor is it a letter"
                )
        for number, count in counts.items():
            if count > 1 and number not in self._excused and not self._came_anew(number):
                trace.breach(f"event {number} is at {name} under {count} keys")
        for event in receiver.order:
            known = [self.producers.payloads[event.number], *self._edited.get(event.number, ())]
            if event.payload not in known:
                trace.breach(f"event {event.number} is at {name} with other bytes: {event.payload!r}")
        if self.plan.ordered:
            self._check_order(receiver)

    def _came_anew(self, number: int) -> bool:
        """Its key was free again, since it became a dead letter, and somebody sent it once more."""
        return number in self._letters and self.producers.sent[number] > 1

    def _check_order(self, receiver: Receiver) -> None:
        last: dict[str, int] = {}
        for event in receiver.order:
            late = event.number in self._letters | receiver.put_off or event.edited
            if late:
                continue
            if event.number < last.get(event.queue, -1):
                self.trace.breach(
                    f"{receiver.name} has {event.number} after {last[event.queue]} of {event.queue}"
                )
            last[event.queue] = max(event.number, last.get(event.queue, -1))

    def _check_file(self) -> None:
        """Nothing is left on its way, and the file is whole."""
        for table in _EMPTY:
            if (count := self._rows(f"SELECT count(*) FROM {table}")[0][0]) != 0:  # noqa: S608 - our own names
                self.trace.breach(f"{count} rows are left in {table}")
        if (verdict := self._rows("PRAGMA integrity_check")[0][0]) != "ok":
            self.trace.breach(f"the state file is damaged: {verdict}")

    def _check_lake(self) -> None:
        """Each event once over all files."""
        counts = Counter(number for line in _lake_lines(self.lake) for number in _numbers_in(line))
        name = "" if self.plan.lake == "accepted" else next(iter(self.plan.kinds))
        for number, count in counts.items():
            if count > 1 and number not in self._letters | self._excused:
                self.trace.breach(f"event {number} is {count} times in the lake")
        wanted = set(self.producers.safe)
        if name:
            # what was given up may have been taken, and is known only when its letter is sent again
            wanted = self.receivers[name].has(told=True) - self._letters
        missing = wanted - set(counts)
        if missing and not self.plan.blocks_disk:
            self.trace.breach(f"events {sorted(missing)[:5]} are not in the lake")

    def _read_letters(self) -> list[tuple[str, bytes, str]]:
        return self._rows("SELECT sink, payload, state FROM letters")

    def _rows(self, sql: str) -> list[Any]:
        path = self.disk.directory / FILE_NAME
        if not path.exists():
            return []
        try:
            with closing(sqlite3.connect(path)) as connection:
                return connection.execute(sql).fetchall()
        except sqlite3.Error as error:
            if "no such" in str(error):
                return []  # it ended before its first start was over
            raise Violation(f"the state file cannot be read: {error}") from None


def _numbers_in(payload: bytes) -> list[int]:
    try:
        return [read_event(payload).number]
    except ValueError:
        return []


def _lake_lines(folder: Path) -> Iterable[bytes]:
    from backports import zstd

    for path in sorted(folder.rglob("*.ndjson.zst")):
        if ".unfinished" not in path.parts and "manifests" not in path.parts:
            yield from zstd.decompress(path.read_bytes()).splitlines()
