"""Which events of a chunk."""

from collections.abc import Sequence

Positions = Sequence[int]
"""Which events of a chunk: a ``range`` where they are neighbours, else ascending integers."""
