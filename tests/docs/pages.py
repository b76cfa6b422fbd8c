"""README and ``docs/`` as the tests read them: pages, headings, code blocks, tables."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ingestd.sinks.registry import SINK_TYPES

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. ``line``: of its first line in the page, from 1."""

    page: str
    line: int
    language: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """``name``: its path from the project's root, as ``docs/sinks/webhook.md``."""

    name: str
    text: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(self.name, self.text.count("\n", 0, found.start(2)) + 1, found[1], found[2])
            for found in _FENCE.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        """Without the code blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def anchors(self) -> set[str]:
        """What links to a heading of this page end with."""
        return {_slug(title) for _, title in _HEADING.findall(self.prose)}

    def block(self, language: str, containing: str = "") -> str:
        return next(one.text for one in self.blocks if one.language == language and containing in one.text)

    def section(self, heading: str) -> str:
        """From the heading to the next one of its level or above."""
        level = next(len(marks) for marks, title in _HEADING.findall(self.text) if title == heading)
        rest = self.text[self.text.index(f"{'#' * level} {heading}\n") :]
        later = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(rest, 1)
        return rest[: later.start()] if later else rest


def _slug(title: str) -> str:
    """As GitHub and the site make them: letters, digits, hyphens and underscores, in lower case."""
    kept = re.sub(r"[^\w\- ]", "", title.lower()).strip()
    return kept.replace(" ", "-")


def rows(text: str, first_cell: str) -> dict[str, list[str]]:
    """The table whose rows begin with code that matches ``first_cell``: code -> the other cells."""
    found = re.findall(rf"^\| `({first_cell})` \| (.*) \|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def page(name: str) -> Page:
    return Page(name, (ROOT / name).read_text(encoding="utf-8"))


def is_of_sink(name: str) -> bool:
    """Whether a page has examples that ``test_sinks.py`` runs: one of a sink's type, or the lake's."""
    return name == "docs/lake.md" or (name.startswith("docs/sinks/") and Path(name).stem in SINK_TYPES)


PAGES = [
    page("README.md"),
    *(page(str(path.relative_to(ROOT))) for path in sorted((ROOT / "docs").rglob("*.md"))),
]
