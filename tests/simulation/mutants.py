"""The simulation must be able to fail: it finds defects of one line, of the kinds that were found here.

``python -m tests.simulation.mutants`` plants them one by one in this process, runs seeds until one fails, and
writes the table of ``docs/simulation.md``. ``--only WORDS`` runs those whose name has them.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from ingestd.simulation.history import Simulator, simulator
from ingestd.simulation.plan import draw

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "simulation.md"
MOST_SEEDS = 2_000
HEAD = "| defect | in | seeds until it is found | what is said of it |\n|---|---|---:|---|\n"


class Mutant(NamedTuple):
    """``old`` stands once in the file, and becomes ``new``."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "a spool cursor moves past chunks that are open",
        "store/spool.py",
        "return min(min(self.open), self.unread) if self.open else self.unread",
        "return self.unread",
    ),
    Mutant(
        "a sink gets the body that others share as it is, and not its own part of it",
        "core/shared_body.py",
        "if mine is longest or mine == longest:",
        "if True:",
    ),
    Mutant(
        "the checksum of a sink's own part of a body is that of the whole",
        "core/shared_body.py",
        "return body, reframed(checksum, len(whole) - self._ends_bytes, longest.ends, mine.ends)",
        "return body, checksum",
    ),
    Mutant(
        "a parked sink is sent to",
        "delivery/lane.py",
        "return self._flow.circuit.held or (",
        "return (",
    ),
    Mutant(
        "a key is remembered although its event was refused by the disk",
        "intake/admission.py",
        "self._window.release(group.claimed)",
        "self._window.confirm(group.claimed, self._clock.monotonic())",
    ),
    Mutant(
        "a producer is answered before the commit",
        "store/database.py",
        "        return appended\n\n    async def commit",
        "        return done(self._loop, None)\n\n    async def commit",
    ),
    Mutant(
        "a batch is frozen after its send",
        "recording/sink_recorder.py",
        "        await self._journal.commit()\n        if until_announced:",
        "        if until_announced:",
    ),
    Mutant(
        "frozen batches are not sent again after a restart",
        "wiring/open_ingest.py",
        "        mine = [batch for batch in frozen if batch.sink == runner.name]",
        "        mine = []",
    ),
    Mutant(
        "a rebuilt batch gets a new key",
        "intake/recovery.py",
        "batch_id=frozen.id if same else None",
        "batch_id=None",
    ),
    Mutant(
        "a batch's row goes with an attempt out",
        "store/frozen_batches.py",
        "[row for name, row in self.rows.items() if name not in gone], 0\n",
        "[row for name, row in self.rows.items() if name not in gone][1:], 0\n",
    ),
    Mutant(
        "a letter's key is not on disk before it is sent",
        "store/journal.py",
        "            self._database.note(lambda c: letter_leases.freeze_letters(c, batch))\n",
        "",
    ),
    Mutant(
        "a lease never expires",
        "store/letter_leases.py",
        "\"UPDATE single_letters SET state = 'waiting', lease = NULL WHERE state = 'leased'\"",
        "\"UPDATE single_letters SET state = 'waiting', lease = NULL WHERE state = 'lost'\"",
    ),
    Mutant(
        "what was given up becomes no letter",
        "store/journal.py",
        "                if letters:\n                    insert_letters(connection, letters, now)\n",
        "",
    ),
    Mutant(
        "fsync is left out",
        "store/connection.py",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=OFF",
    ),
    Mutant(
        "fsync is left to the checkpoint",
        "store/connection.py",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=NORMAL",
    ),
    Mutant(
        "a start removes the log that a killed process has left",
        "store/connection.py",
        "if check and unfinished(path):",
        'if check and (path.with_name(f"{FILE_NAME}-wal").unlink(missing_ok=True) or unfinished(path)):',
    ),
    Mutant(
        "the mark beside the database is ahead of it",
        "store/database.py",
        '        connection.execute("COMMIT")\n    except',
        "        ahead = MARK.pack(number, writer.high_water)\n"
        '        writer.pwrite(writer.mark, ahead + zlib.crc32(ahead).to_bytes(4, "little"), 0)\n'
        '        connection.execute("COMMIT")\n    except',
    ),
    Mutant(
        "keys are forgotten at a restart",
        "store/key_log.py",
        "                if count >= max_count:",
        "                if count >= 0:",
    ),
    Mutant(
        "a chunk goes when its first sink is done with it",
        "core/receipt.py",
        "        if self.sinks == 0 and not self._incomplete:",
        "        if not self._incomplete:",
    ),
    Mutant(
        "a sink that was reading a chunk does not have it again",
        "store/spool.py",
        "        self.cursors[sink].open.add(number)\n",
        "",
    ),
    Mutant(
        "events of one key go side by side",
        "delivery/key_order.py",
        "        if all(self._lines[key][0] == batch.id for key in self._keys[batch.id]):",
        "        if self._keys[batch.id] is not None:",
    ),
    Mutant(
        "held events of a key overtake each other",
        "delivery/key_order.py",
        "self._held.setdefault(key, deque()).append(held)",
        "self._held.setdefault(key, deque()).appendleft(held)",
    ),
    Mutant(
        "a sink's ledger forgets what it resolved",
        "recording/sink_recorder.py",
        "        self.ledger.in_flight -= delivered + failed + len(outcomes.dropped) - pending\n",
        "        self.ledger.in_flight -= delivered - pending\n",
    ),
    Mutant(
        "a resend is another batch",
        "delivery/verdict_handler.py",
        "        return [*actions, Resubmit(batch, delay_s, repeat=True)]",
        "        parts = [batch.part(range(len(batch)))]\n"
        "        resolved = Resolve(batch, Outcomes(parts=parts))\n"
        "        return [*actions, resolved, Resubmit(parts[0], delay_s, repeat=True)]",
    ),
    Mutant(
        "events that a request has named bad take the others along",
        "delivery/verdict_handler.py",
        "        parts = self._others(batch, {one.index for one in failed}) if "
        "len(failed) < len(batch) else []\n        wait",
        "        parts = list[Batch]()\n        wait",
    ),
    Mutant(
        "an error in a 2xx is overlooked",
        "delivery/verdict_handler.py",
        "            delivered = [index for index in delivered if index not in words]\n",
        "            failed, parts = [], []\n",
    ),
    Mutant(
        "an API that is still at it counts as delivered",
        "sinks/answers.py",
        "        if _IN_PROGRESS.search(answer.body):",
        "        if not answer.body:",
    ),
    Mutant(
        "what must be written is given up on a full disk",
        "store/database.py",
        "        while work:\n",
        "        while False:\n",
    ),
    Mutant(
        "an edited letter keeps its request's key",
        "store/letter_changes.py",
        " batch = '', ambiguous = 0, digest = NULL,",
        " digest = NULL,",
    ),
    Mutant(
        "a delivered letter stays leased",
        "store/letter_leases.py",
        "state = 'delivered', settled_at = ?, due = NULL, lease = NULL,\"\n"
        "        \" requested = 0, obstacle = '', attempts",
        "settled_at = ?, due = NULL, lease = NULL,\"\n        \" requested = 0, obstacle = '', attempts",
    ),
    Mutant(
        "rows of the lake are written twice",
        "store/outbox.py",
        "            await self._write(OutboxCursor(self.done, load))\n",
        "",
    ),
    Mutant(
        "a clock that is put right makes the lake wait",
        "lake/lake.py",
        "        outbox.oldest_at = min(outbox.oldest_at, now)",
        "        outbox.oldest_at = max(outbox.oldest_at, now - 1e9)",
    ),
    Mutant(
        "a file of the lake has its name before it is synced",
        "transport/folder.py",
        "            self._files.sync_file(temporary)\n",
        "",
    ),
    Mutant(
        "the name of a file of the lake is not synced",
        "transport/folder.py",
        "            raise\n        self._files.sync_folder(path.parent)\n",
        "            raise\n",
    ),
    Mutant(
        "a line of the audit log that a power cut took counts as forged",
        "telemetry/audit_verification.py",
        "torn=is_explained)",
        "torn=False)",
    ),
    Mutant(
        "the first whole line of an audit log does not stand behind the key's beginning",
        "telemetry/audit_verification.py",
        "expected & {self._before, before}",
        "self._before in expected",
    ),
    Mutant(
        "the name of a new folder of the lake is not synced",
        "transport/folder.py",
        "self._folder_mode)\n            self._files.sync_folder(path.parent)\n",
        "self._folder_mode)\n",
    ),
    Mutant(
        "a cursor moves past a damaged chunk and those behind it",
        "store/spool.py",
        "                self._quarantine(row)\n",
        "                self._quarantine(row)\n                break\n",
    ),
    Mutant(
        "a file's checkpoint moves past events that are open",
        "core/receipt.py",
        "        while self._unresolved and self._unresolved[0].receipt.open == 0:",
        "        while self._unresolved:",
    ),
    Mutant(
        "what is settled beyond a file's checkpoint is sent again",
        "intake/recovery.py",
        "                settled.update(positions)",
        "                settled.update(())",
    ),
    Mutant(
        "more requests at once than are allowed",
        "delivery/flow_control.py",
        "self.active >= self.limiter.limit",
        "self.active > self.limiter.limit",
    ),
    Mutant(
        "a batch is transformed again after a restart",
        "intake/recovery.py",
        "events = came if sent is None else sent",
        "events = came",
    ),
    Mutant(
        "the bytes that are sent are not kept",
        "recording/sink_recorder.py",
        "transformed=self._transforms or batch.transformed\n        )\n",
        "transformed=False\n        )\n",
    ),
    Mutant(
        "what a transform leaves out is not counted",
        "recording/sink_recorder.py",
        "self.ledger.dropped += len(outcomes.dropped)",
        "pass",
    ),
    Mutant(
        "an event that a transform failed on is sent as it came",
        "store/letter_queue.py",
        "return letter.form == Form.UNTRANSFORMED and not letter.ambiguous",
        "return False",
    ),
    Mutant(
        "a letter keeps an event as it came, and is sent so",
        "recording/make_letters.py",
        "sent = list(pick(batch.events, indices))",
        "sent = list(came)",
    ),
)


def plants(mutant: Mutant, package: Path) -> str:
    """The file's text with the defect. Raises ValueError if it has no place there."""
    text = (package / mutant.file).read_text()
    if (found := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: its place is {found} times in {mutant.file}")
    return text.replace(mutant.old, mutant.new)


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The defect is in this process meanwhile: functions and constants of its module are exchanged in place,
    wherever they were imported."""
    name = "ingestd." + mutant.file.removesuffix(".py").replace("/", ".")
    right = import_module(name)
    wrong = ModuleType(name)
    wrong.__file__, wrong.__package__ = right.__file__, right.__package__
    sys.modules[name] = wrong  # dataclasses look for it there
    try:
        exec(compile(plants(mutant, ROOT / "ingestd"), str(right.__file__), "exec"), wrong.__dict__)
    finally:
        sys.modules[name] = right
    undo: list[Callable[[], object]] = []
    _exchange(vars(right), vars(wrong), undo)
    for constant in [
        key for key, value in vars(right).items() if key[:2] != "__" and isinstance(value, str | int | float)
    ]:
        if (other := vars(wrong)[constant]) != (value := vars(right)[constant]):
            setattr(right, constant, other)
            undo.append(partial(setattr, right, constant, value))
    if not undo:
        raise ValueError(f"{mutant.name}: nothing has changed")
    try:
        yield
    finally:
        for step in undo:
            step()


def _exchange(right: Mapping[str, Any], wrong: Mapping[str, Any], undo: list[Callable[[], object]]) -> None:
    """The code of functions of a module or a class."""
    for name, value in right.items():
        other = wrong.get(name)
        if isinstance(value, type) and isinstance(other, type) and value.__module__ == other.__module__:
            if value.__module__ == right.get("__name__"):
                _exchange(vars(value), vars(other), undo)
            continue
        before, after = _function(value), _function(other)
        if before and after and before.__code__ != after.__code__ and before.__module__ == after.__module__:
            undo.append(partial(setattr, before, "__code__", before.__code__))
            before.__code__ = after.__code__


def _function(value: object) -> FunctionType | None:
    value = value.fget if isinstance(value, property) else value
    value = inspect.unwrap(getattr(value, "__func__", value))
    return value if isinstance(value, FunctionType) else None


class Found(NamedTuple):
    """``seeds``: how many it took; 0: it was not found. ``words``: what is broken."""

    seeds: int
    words: str


def find(simulated: Simulator, mutant: Mutant, *, most: int = MOST_SEEDS) -> Found:
    """Run seeds until one breaks a promise."""
    with planted(mutant):
        for seed in range(most):
            if words := simulated.run(draw(seed)).broken:
                return Found(seed + 1, words)
    return Found(0, "")


def found_after() -> dict[str, int]:
    """Defect -> seeds until it is found, as the page says."""
    rows = re.findall(r"^\| ([^|`]+) \| `[^`]+` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    return {name: int(seeds) for name, seeds in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="those whose name has these words")
    given = parser.parse_args()
    rows, missed = [], 0
    with simulator() as simulated:
        for mutant in MUTANTS:
            if given.only not in mutant.name:
                continue
            found = find(simulated, mutant)
            missed += not found.seeds
            said = re.sub(r"\d{3,}|\[.*?\]|/dev/shm/\S+", "…", found.words)[:90].replace("|", " ")
            rows.append(f"| {mutant.name} | `{mutant.file}` | {found.seeds or 'not found'} | {said} |")
            print(rows[-1], flush=True)
    if not given.only:
        text = PAGE.read_text()
        start = text.index(HEAD) + len(HEAD)
        end = text.find("\n\n", start)
        PAGE.write_text(text[:start] + "\n".join(rows) + (text[end:] if end > 0 else "\n"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
