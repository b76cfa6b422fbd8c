"""Which files the sources of files would read, and what keeps them from it. Reads and changes none."""

import importlib.util
import os
from collections.abc import Iterator

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Settings
from ingestd.core.units import human_size
from ingestd.sources.files.streams import shown_path
from ingestd.sources.live.patterns import FoundFile, Identity, Listing, base_of, look, of_its_own
from ingestd.sources.live.settings import FilesConfig
from ingestd.sources.live.watcher import network_of

_FEW = 3
_MOST_LOOKED_AT = 1_000


def check_files(settings: Settings) -> Iterator[Finding]:
    owners: dict[Identity, str] = {}
    own = of_its_own(settings.state.dir, settings.audit.file) if settings.state.dir else []
    for name, source in settings.ingest.files.items():
        where = f"files.{name}"
        listing = look(source.patterns, [*source.left_out, *own], most=2 * source.max_files)
        yield from _check_patterns(where, source, listing)
        yield from _check_access(where, source, [*listing.files.values()])
        if source.when_done != "keep":
            yield from _check_end(where, source, listing)
        shared: dict[str, list[str]] = {}
        for identity, found in listing.files.items():
            if (other := owners.setdefault(identity, where)) != where:
                shared.setdefault(other, []).append(found.path)
        for other, paths in shared.items():
            yield warn(where, f"{_some(paths)} would be read by {other} too: one of them does; narrow one")


def _check_patterns(where: str, source: FilesConfig, listing: Listing) -> Iterator[Finding]:
    method = "the system tells of changes"
    networks = {kind for one in listing.directories if (kind := network_of(one))}
    if source.watch == "poll" or networks or importlib.util.find_spec("watchfiles") is None:
        method = f"looked at every {source.poll_every:g} s"
        if networks:
            method += f", as they are on {', '.join(sorted(networks))}"
    size = human_size(sum(found.size for found in listing.files.values()))
    yield ok(where, f"{len(listing.files)} files, {size}, {method}")
    for pattern, count in listing.by_pattern.items():
        if count:
            continue
        base = base_of(pattern)
        what = "nothing is there yet" if os.path.isdir(base) else f"there is no directory {shown_path(base)}"
        if look([pattern], most=1).files:
            what = "all that is there is left out, by exclude or move_to, or as it is ingestd's own"
        yield warn(where, f"{shown_path(pattern)} matches no file: {what}")
    for at, why in listing.unseen.items():
        yield fail(where, f"cannot look into {shown_path(at)}: {why}; its files would not be read")
    if listing.others:
        yield ok(where, f"{listing.others} names are not regular files, and are passed over")
    if len(listing.files) > source.max_files:
        yield warn(
            where,
            f"there are more files than max_files ({source.max_files}): the others wait until some are gone;"
            " raise it, or set when_done",
        )


def _check_access(where: str, source: FilesConfig, files: list[FoundFile]) -> Iterator[Finding]:
    some = files[:_MOST_LOOKED_AT]
    if closed := [found.path for found in some if not os.access(found.path, os.R_OK)]:
        yield fail(where, f"{_some(closed)} cannot be read by this user")


def _check_end(where: str, source: FilesConfig, listing: Listing) -> Iterator[Finding]:
    directories = {os.path.dirname(found.path) for found in listing.files.values()} | {
        one for one in listing.directories if os.path.isdir(one)
    }
    if kept := [one for one in sorted(directories) if not os.access(one, os.W_OK | os.X_OK)]:
        yield fail(where, f"when_done = {source.when_done}: nothing can be taken away from {_some(kept)}")
    if links := [found.path for found in listing.files.values() if found.is_link]:
        yield warn(where, f"{_some(links)} are symbolic links: when_done leaves them where they are")
    if not source.move_to:
        return
    if not os.path.isdir(source.move_to) or not os.access(source.move_to, os.W_OK | os.X_OK):
        yield fail(where, f"move_to: {shown_path(source.move_to)} is not a directory that can be written to")
        return
    device = os.stat(source.move_to).st_dev
    if far := [one for one in sorted(directories) if os.stat(one).st_dev != device]:
        yield fail(where, f"move_to is on another file system than {_some(far)}: give one on the same")


def _some(paths: list[str]) -> str:
    shown = ", ".join(map(shown_path, paths[:_FEW]))
    return f"{shown} and {len(paths) - _FEW} more" if len(paths) > _FEW else shown
