"""The disk under the audit file, which is never synced: a power cut takes its end, or leaves zeros of it."""

import random
from pathlib import Path

from ingestd.telemetry.audit_chain import read_key
from ingestd.telemetry.audit_verification import verify


class AuditDisk:
    """``audit.jsonl`` and its parts, in a directory of their own, with the key beside them."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.file, self.key = directory / "audit.jsonl", directory / "audit.key"
        self._rng = random.Random(seed)
        directory.mkdir(mode=0o700)
        self._left: dict[str, bytes] = {}

    def end_life(self, *, power_cut: bool) -> None:
        """What there is now is what the next process finds, whatever is written until then."""
        self._left = {path.name: path.read_bytes() for path in self.directory.iterdir()}
        if power_cut and (data := self._left.get(self.file.name)):
            kept = self._rng.randrange(len(data) + 1)
            zeros = self._rng.choice((0, 0, self._rng.randrange(len(data) - kept + 1)))
            self._left[self.file.name] = data[:kept] + bytes(zeros)

    def begin_life(self) -> None:
        for path in self.directory.iterdir():
            if path.name not in self._left:
                path.unlink()
        for name, data in self._left.items():
            (self.directory / name).write_bytes(data)

    def judge(self) -> str:
        """The first thing that ``audit verify`` finds wrong; or empty. A torn line is told, and is no
        forgery."""
        if not self.file.exists():
            return ""
        found = verify(self.file, keys=[read_key(self.key)], must_have_key=True)
        return f"the audit log: {found.problems[0]}" if found.problem_count else ""
