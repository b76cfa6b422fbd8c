"""What is installed: versions, extras, the event loop. Called for ``ingestd doctor``."""

import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from importlib import metadata

from ingestd import __version__
from ingestd.app.checks.finding import Finding, ok
from ingestd.core import accelerator

_EXTRA = re.compile(r"([\w.-]+).*;.*\bextra\s*==\s*['\"](\w+)['\"]")
_OF_MAKERS = {"dev", "docs"}


def versions() -> dict[str, str]:
    """Of what counts: ingestd, Python, the system and the packages that ingestd requires."""
    found = {
        "ingestd": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs",
        "sqlite": sqlite3.sqlite_version,
    }
    for required in _required():
        extra = _EXTRA.match(required)
        name = re.split(r"[^\w.-]", required)[0]
        if not (extra and extra[2] in _OF_MAKERS) and (version := _version(name)):
            found[name] = version
    return found


def check_installation() -> Iterator[Finding]:
    known = versions()
    yield ok("version", f"ingestd {known['ingestd']}, {known['python']}, {known['system']}")
    yield ok("version", f"SQLite {known['sqlite']}")
    if uvloop := known.get("uvloop"):
        yield ok("event loop", f"uvloop {uvloop}")
    yield ok("accelerator", accelerator.STATE)
    for extra, packages in extras().items():
        missing = sorted(name for name, version in packages.items() if not version)
        if missing:
            yield ok(
                "extras", f"{extra} is not installed ({', '.join(missing)}): pip install 'ingestd[{extra}]'"
            )
        else:
            listed = ", ".join(f"{name} {version}" for name, version in packages.items())
            yield ok("extras", f"{extra}: {listed}")


def extras() -> dict[str, dict[str, str]]:
    """Those that a user may want, with their packages and the versions of those; empty: not installed."""
    found: dict[str, dict[str, str]] = {}
    for required in _required():
        if (match := _EXTRA.match(required)) and match[2] not in _OF_MAKERS:
            found.setdefault(match[2], {})[match[1]] = _version(match[1])
    return found


def _required() -> list[str]:
    """As the package's metadata has it; nothing where it is not installed but runs from its sources."""
    try:
        return metadata.requires("ingestd") or []
    except metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
