"""What happened, line by line, and what must not have happened."""


class Violation(AssertionError):
    """A promise was broken."""


class Trace:
    """``now``: of the loop that runs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken: list[str] = []
        self.now = 0.0

    def note(self, line: str) -> None:
        self.lines.append(f"{self.now:12.4f}  {line}")

    def breach(self, what: str) -> None:
        """Recorded at once, judged at the end of the life, so that no handler can hide it."""
        self.note(f"BROKEN: {what}")
        self.broken.append(what)

    def judge(self) -> None:
        """Raises Violation."""
        if self.broken:
            raise Violation(self.broken[0])
