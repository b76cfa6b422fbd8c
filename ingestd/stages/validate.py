"""The validation stage: which events of a chunk are valid, and by which key each is known. Pure.

Called by the pipeline for every chunk, before the dedup window: the keys of refused events are
told too, so that a broken copy of an event that is already delivered counts as its duplicate.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ingestd.core.key_watch import KeyWatch
from ingestd.schemas.key_paths import KeyPaths
from ingestd.schemas.schema import Refusal, Schema

_BLOCK = 128
_BLOCK_BYTES = 64 * 1024
"""Looked at in one go, so that a hostile block takes no longer than others can wait."""


class Checked(NamedTuple):
    """``keys``: parallel to the events; None = refused, ``""`` = valid and without a key.

    ``refused``: why, by index. ``refused_keys``: the keys of those refused events that have one.
    """

    keys: list[str | None]
    refused: dict[int, Refusal]
    refused_keys: dict[int, str]

    def pick(self, indices: Sequence[int]) -> "Checked":
        """Of the events at these indices, which count from 0 then."""
        place = {index: at for at, index in enumerate(indices)}
        return Checked(
            [self.keys[index] for index in indices],
            {place[index]: refusal for index, refusal in self.refused.items() if index in place},
            {place[index]: key for index, key in self.refused_keys.items() if index in place},
        )


class Validator:
    """``key_paths``, if given, take the place of the schema's own key; ``watch`` counts who has them."""

    def __init__(
        self, schema: Schema, key_paths: KeyPaths | None = None, watch: KeyWatch | None = None
    ) -> None:
        self.watch = watch
        self._schema = schema
        self._custom = key_paths
        self._paths = key_paths or (KeyPaths(schema.default_key) if schema.default_key else None)

    @property
    def without_key(self) -> int:
        """Valid events that had nothing at the paths that were given."""
        return self.watch.without if self.watch else 0

    def check(self, events: list[bytes], *, again: bool = False) -> Checked:
        """Never raises for what is in an event. ``again``: the watch has seen them before."""
        keys: list[str | None] = []
        refused: dict[int, Refusal] = {}
        refused_keys: dict[int, str] = {}
        for checked in self.in_steps(events, again=again):
            if checked:
                if checked.refused:
                    first = len(keys)
                    refused |= {first + index: refusal for index, refusal in checked.refused.items()}
                    refused_keys |= {first + index: key for index, key in checked.refused_keys.items()}
                keys += checked.keys
        return Checked(keys, refused, refused_keys)

    def in_steps(self, events: list[bytes], *, again: bool = False) -> Iterator[Checked | None]:
        """As ``check``, by blocks of the events in their order; their indices count from the block's first.

        None is nothing but a moment to let others go on: from one to the next it takes some milliseconds, or
        as long as a single event does.
        """
        for block in _blocks(events):
            keys = self._schema.keys(block)
            refused: dict[int, Refusal] = {}
            refused_keys: dict[int, str] = {}
            for index in [index for index, key in enumerate(keys) if key is None] if None in keys else ():
                yield None
                event, refusal = block[index], self._schema.explain(block[index])
                found = self.key_of(event)
                if refusal is None:
                    keys[index] = found or ""
                else:
                    refused[index] = refusal
                    if found:
                        refused_keys[index] = found
            if self._custom:
                of = self._custom.of
                keys = [
                    None if key is None else of(event) or "" for key, event in zip(keys, block, strict=True)
                ]
                if self.watch and not again:
                    self.watch.count(len(keys) - len(refused), keys.count(""))
            yield Checked(keys, refused, refused_keys)

    def key_of(self, event: bytes) -> str | None:
        """The key of any event, valid or not; None if it has none."""
        return self._paths.of(event) if self._paths else None


def _blocks(events: list[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(events), _BLOCK):
        yield from _halves(events[first : first + _BLOCK])


def _halves(events: list[bytes]) -> Iterator[list[bytes]]:
    if len(events) == 1 or sum(map(len, events)) <= _BLOCK_BYTES:
        yield events
    else:
        middle = len(events) // 2
        yield from _halves(events[:middle])
        yield from _halves(events[middle:])
