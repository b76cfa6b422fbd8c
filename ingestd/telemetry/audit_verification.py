"""Whether the audit file is as it was written: nothing changed, taken away, put in or moved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from ingestd.core.errors import UserError
from ingestd.telemetry.audit_chain import NOTHING, AuditKey, Chained, hash_of, parse
from ingestd.telemetry.audit_rotation import AuditLine, AuditPart, open_parts

MAX_PROBLEMS = 1000
"""That are listed; the others are only counted."""
_MAX_WRITERS = 100_000


class AuditProblem(NamedTuple):
    """``line`` 0: of the file as a whole."""

    file: str
    line: int
    what: str


@dataclass(slots=True)
class AuditFindings:
    """``unchained``: lines from before there was a chain. ``keyed``: of the ``chained``, made with a key; a
    change of others is not seen if all hashes were computed again. ``torn``: (file, line) not written to the
    end; no forgery (of several that stand together, only the last is vouched for). ``older_gone``: the oldest
    part goes on from one that is no longer there. ``last``: the chain of the last line: noted down elsewhere,
    it tells later whether the log still has all up to it."""

    files: list[str] = field(default_factory=list)
    lines: int = 0
    chained: int = 0
    keyed: int = 0
    unchained: int = 0
    writers: int = 0
    torn: list[tuple[str, int]] = field(default_factory=list)
    older_gone: bool = False
    problems: list[AuditProblem] = field(default_factory=list)
    problem_count: int = 0
    last: str = ""


def verify(
    path: Path, *, noted: str = "", keys: Sequence[AuditKey] = (), must_have_key: bool = False
) -> AuditFindings:
    """All parts of the log at ``path``. ``noted``: ``last`` of an earlier time, which must be there still.
    ``must_have_key``: it is the log that one of ``keys`` is for, so it cannot do without.

    Raises UserError if there is no log to read, or if it needs a key and there is none.
    """
    with open_parts(path) as parts:
        return _Walk(noted, {key.id: key for key in keys}, must_have_key=must_have_key).walk(parts)


class _Walk:
    """One pass. What was found wrong with a line is held against that line only: its hash is taken as it
    stands for the next one, so that one change makes one problem, or two."""

    def __init__(self, noted: str, keys: Mapping[bytes, AuditKey], *, must_have_key: bool) -> None:
        self.findings = AuditFindings()
        self._keys = keys
        self._must_have_key = must_have_key
        self._noted = noted
        self._before: bytes | None = None  # the hash of the line before
        self._known: dict[bytes, tuple[int, bytes, str]] = {}  # writer -> its last number, hash, place
        self._fragments: list[AuditLine] = []  # that stand together, of which nobody has told yet
        self._before_fragments: bytes | None = None
        self._rotated = False

    def walk(self, parts: Sequence[AuditPart]) -> AuditFindings:
        found = self.findings
        found.files = [part.name for part in parts]
        self._rotated = len(parts) > 1 or parts[0].name.rpartition(".")[2].isdecimal()
        for part in parts:
            for line in part.lines():
                self._look(line)
        self._judge_fragments(torn=bool(self._fragments) and not self._fragments[-1].ended)
        if self._must_have_key and found.lines and not found.keyed:
            self._complain(
                parts[-1].name, 0, "no line is made with the key of this log: it was rewritten, or cut off"
            )
        if self._noted:
            self._complain(
                parts[-1].name, 0, f"{self._noted} is not there: cut off, rewritten or rotated away"
            )
        return found

    def _look(self, line: AuditLine) -> None:
        found = self.findings
        found.lines += 1
        chained = None if line.cut else parse(line.data)
        if chained is None:
            self._look_at_unchained(line)
            self._before = hash_of(line.data)
            return
        is_explained = bool(self._fragments) and chained.after == self._before
        behind = self._before_fragments if is_explained else self._before
        self._judge_fragments(torn=is_explained)
        found.chained += 1
        wrong = self._judge_key(chained, behind) or self._judge(chained)
        found.keyed += bool(chained.key)
        if wrong:
            self._complain(line.file, line.number, wrong)
        found.writers += chained.writer not in self._known
        self._known.pop(chained.writer, None)
        self._known[chained.writer] = (chained.number, chained.hash, f"{line.file}:{line.number}")
        if len(self._known) > _MAX_WRITERS:
            del self._known[next(iter(self._known))]
        self._before = chained.hash
        found.last = chained.text
        if found.last == self._noted and not wrong:
            self._noted = ""

    def _look_at_unchained(self, line: AuditLine) -> None:
        is_json = _is_json(line.data)
        if line.data and not line.cut and not is_json and len(self._fragments) < MAX_PROBLEMS:
            if not self._fragments:
                self._before_fragments = self._before
            self._fragments.append(line)
            return
        self._judge_fragments(torn=False)
        if not self.findings.chained and (line.ended or is_json):
            self.findings.unchained += 1
        else:
            self._complain(line.file, line.number, "has no chain: put in, or its chain was taken away")

    def _judge_fragments(self, *, torn: bool) -> None:
        """A crash leaves the beginning of a line; the next writer tells by its link that it was so then. Of
        what that one wrote, the next crash may leave a beginning, too."""
        fragments, self._fragments = self._fragments, []
        for line in fragments:
            if torn and len(self.findings.torn) < MAX_PROBLEMS:
                self.findings.torn.append((line.file, line.number))
            elif not torn and self.findings.chained:
                self._complain(line.file, line.number, "is not a line of the log: changed, or put in")
            elif not torn:
                self.findings.unchained += 1

    def _judge_key(self, chained: Chained, before: bytes | None) -> str:
        """``before``: the hash of the last whole line before it; ``_before``: of what stands there."""
        if not chained.key:
            has = self.findings.keyed
            return "has no key, behind a line that has one: inserted, or rewritten" if has else ""
        name, key = chained.key.decode(), self._keys.get(chained.key)
        if key:
            expected = {None, key.after}
            known = self.findings.keyed or key.after is None or expected & {self._before, before}
            return (
                "" if known else "stands behind lines without a key that are not those the key was made after"
            )
        if not self._keys:
            raise UserError(f"the lines are made with a key, {name}: give its file with --key-file")
        return f"is made with another key, {name}: forged, or give that one's file with --key-file too"

    def _judge(self, chained: Chained) -> str:
        """What is wrong with the line, or with its place; "": nothing."""
        if chained.after:
            if not self._follows(chained, chained.after):
                return "was changed"
            if self._before is None:
                self.findings.older_gone = chained.after != NOTHING
                gone = self.findings.older_gone and not self._rotated
                return "what stood before it is gone, and the log was never rotated" if gone else ""
            if chained.after == self._before:
                return ""
        elif self._before is not None and self._follows(chained, self._before):
            return ""
        return self._explain(chained)

    def _follows(self, chained: Chained, before: bytes) -> bool:
        return chained.follows(before, key.secret if (key := self._keys.get(chained.key)) else b"")

    def _explain(self, chained: Chained) -> str:
        number, last_hash, place = self._known.get(chained.writer, (-1, b"", ""))
        if chained.number > number + 1:
            first, last = number + 1, chained.number - 1
            missing = f"number {last}" if first == last else f"numbers {first} to {last}"
            return f"{missing} of its writer should stand before it: taken away, or moved"
        if chained.number <= number:
            return f"stands twice or out of order: its writer's number {number} is at {place}"
        if chained.after:
            return (
                "does not stand behind the line it was written behind: some were taken away, put in or moved"
            )
        if last_hash and self._follows(chained, last_hash):
            return f"was written directly behind {place}: what is between was put in"
        return "was changed"

    def _complain(self, file: str, number: int, what: str) -> None:
        self.findings.problem_count += 1
        if len(self.findings.problems) < MAX_PROBLEMS:
            self.findings.problems.append(AuditProblem(file, number, what))


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return False
    return True
