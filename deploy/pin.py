"""Print the constraints of the container: the versions in this environment of all that ingestd needs to run.

Called by ``make constraints``, in the environment that passed the tests.
"""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""A requirement counts if one of these needs it: the image's Python need not be the one that runs this."""


EXTRAS = ("aws", "files", "jq", "kafka", "lake", "nats", "nats-server", "otel", "yaml")


def declared() -> list[str]:
    """The run-time dependencies in pyproject.toml, with those of the extras that a container may have; the
    metadata of an editable install may be older."""
    file = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    extras = (line for name in EXTRAS for line in project["optional-dependencies"][name])
    return [*project["dependencies"], *extras]


def closure(requirements: Iterable[str]) -> set[str]:
    """Normalised names of what these need, with all that those need in turn.

    Raises PackageNotFoundError for one that another Python needs and that is not installed here.
    """
    todo = [(Requirement(line), frozenset[str]()) for line in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement, extras = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if _needed(requirement, extras=extras) and key not in seen:
            seen.add(key)
            todo += [(Requirement(line), key[1]) for line in requires(key[0]) or ()]
    return {name for name, _ in seen}


def _needed(requirement: Requirement, *, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({"python_version": python, "python_full_version": f"{python}.0", "extra": extra})
        for python in PYTHONS
        for extra in ("", *extras)
    )


if __name__ == "__main__":
    pins = [f"{name}=={version(name)}" for name in sorted(closure(declared()))]
    head = "# Made by `make constraints`: what the tests ran with. No addresses: pip knows where to look."
    sys.stdout.write("\n".join([head, *pins]) + "\n")
