"""How far one sink has come in the spool. Kept by ``spool.py``; moved by the sink's feed."""


class SpoolCursor:
    """``unread``: chunks from this number on have not been taken up. ``open``: those on their way."""

    def __init__(self, position: int = 1) -> None:
        self.unread = position
        self.open: set[int] = set()

    @property
    def position(self) -> int:
        """Every chunk before this one has had its end at the sink."""
        return min(min(self.open), self.unread) if self.open else self.unread
