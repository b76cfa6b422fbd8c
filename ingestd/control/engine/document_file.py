"""Reads TOML, YAML or JSON into plain values, within bounds. Called by ``document.py``."""

import math
import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ingestd.core import json_text
from ingestd.core.errors import UserError
from ingestd.core.text import cut, printable

MAX_FILE_BYTES = 1024 * 1024
MAX_DEPTH = 50


def read_tree(path: Path) -> dict[str, Any]:
    """What JSON can say, whatever the file is written in. Raises UserError, which does not name the file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read it: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"it is over {MAX_FILE_BYTES} bytes: split it")
    suffix = path.suffix.lower()
    name, read = {".json": ("JSON", _json), ".yaml": ("YAML", _yaml), ".yml": ("YAML", _yaml)}.get(
        suffix, ("TOML", tomllib.loads)
    )
    try:
        tree = read(data.decode())
    except UnicodeDecodeError:
        raise UserError(f"it is not {name}: not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"it is not {name}: {cut(str(error))}") from None
    if tree is None:  # an empty YAML file
        return {}
    if not isinstance(tree, dict):
        raise UserError("tables expected, as [target.NAME]")
    _check(tree, "", MAX_DEPTH)
    return tree


def _json(text: str) -> Any:
    return json_text.read(text) if text.strip() else {}


def _yaml(text: str) -> Any:
    """Safe tags only; no aliases, which can blow up, and no key twice, of which YAML would drop one."""
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise UserError("YAML needs the extra yaml: pip install 'ingestd[yaml]', or write TOML") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError(
                    f"line {self.peek_event().start_mark.line + 1}: aliases (*name) are not supported"
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            if len(set(map(str, keys))) < len(keys):
                raise ValueError(f"line {node.start_mark.line + 1}: a name stands twice")
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, Loader=Loader)  # made of the safe one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{getattr(error, 'problem', None) or 'cannot be read'}") from None


def _check(value: Any, where: str, depth: int) -> None:
    """Only what every API and every hash understands: no dates, no nan, no names that are numbers."""
    if depth == 0:
        raise UserError(f"{where}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise UserError(
                    f"{where or 'the file'}: the name {printable(repr(name))[:60]} is not text: quote it"
                )
            _check(inner, cut(f"{where}.{name}" if where else name, 300), depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, where, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: not a finite number")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise UserError(f"{where}: a {type(value).__name__} is not taken: write it as text, in quotes")
