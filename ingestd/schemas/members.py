"""Members of a JSON object, read and written as the bytes that they are."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Members:
    """Reads the members ``names`` of an object."""

    def __init__(self, *names: str) -> None:
        fields: list[tuple[str, Any, Any]] = [
            (f"m{number}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for number in range(len(names))
        ]
        rename = {field: name for (field, *_), name in zip(fields, names, strict=True)}
        struct = msgspec.defstruct("Members", fields, gc=False, rename=rename)
        self._names = names
        self._decode = msgspec.json.Decoder(struct).decode

    def of(self, event: bytes) -> dict[str, bytes]:
        """JSON texts by name, in the order of ``names``; of two alike the last.

        Raises ValueError where it is not a JSON object, RecursionError where it is nested too deeply.
        """
        found = msgspec.structs.astuple(self._decode(event))
        return {
            name: bytes(raw) for name, raw in zip(self._names, found, strict=True) if raw is not msgspec.UNSET
        }


def hollow(value: bytes) -> bytes:
    """A JSON value without what is in it, if it is an array or an object."""
    first = value.lstrip()[:1]
    return {b"{": b"{}", b"[": b"[]"}.get(first, value)


def write(members: Mapping[str, bytes]) -> bytes:
    """The object that has these members."""
    return b"{%b}" % b",".join(msgspec.json.encode(name) + b":" + value for name, value in members.items())
