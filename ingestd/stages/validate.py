"""The validation stage: which events of a chunk are valid, and by which key each is known. Pure.

Called by the pipeline for every chunk, before the dedup window: the keys of refused events are
told too, so that a broken copy of an event that is already delivered counts as its duplicate.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ingestd.core.key_watch import KeyWatch
from ingestd.schemas.key_paths import KeyPaths
from ingestd.schemas.schema import Refusal, Schema


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
        keys = self._schema.keys(events)
        refused: dict[int, Refusal] = {}
        refused_keys: dict[int, str] = {}
        if None in keys:
            for index, key in enumerate(keys):
                if key is None:
                    refusal = self._schema.explain(events[index])
                    if refusal is None:
                        keys[index] = self.key_of(events[index]) or ""
                    else:
                        refused[index] = refusal
            for index in refused:
                found = self.key_of(events[index])
                if found:
                    refused_keys[index] = found
        if self._custom:
            of = self._custom.of
            keys = [None if key is None else of(event) or "" for key, event in zip(keys, events, strict=True)]
            if self.watch and not again:
                self.watch.count(len(keys) - len(refused), keys.count(""))
        return Checked(keys, refused, refused_keys)

    def key_of(self, event: bytes) -> str | None:
        """The key of any event, valid or not; None if it has none."""
        return self._paths.of(event) if self._paths else None
