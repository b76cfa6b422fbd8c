"""Which files there are: patterns are looked up in directories. Runs in a worker thread."""

import errno
import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

Identity = tuple[int, int]
"""(device, inode)."""
_MAGIC = re.compile(r"[*?\[]")
_MOST_DEPTH = 40
ANY_DEPTH = "**"


class FoundFile(NamedTuple):
    """A regular file, where its name leads to. ``is_link``: by a symbolic link."""

    path: str
    identity: Identity
    size: int
    mtime_ns: int
    is_link: bool = False


class Listing:
    """``files``: by identity, under the first of its names. ``unseen``: what could not be looked at, by
    path. ``is_whole``: nothing was left out, so that what is not here is not there. ``others``: how many
    names are not regular files."""

    def __init__(self) -> None:
        self.files: dict[Identity, FoundFile] = {}
        self.unseen: dict[str, str] = {}
        self.directories: set[str] = set()
        self.is_whole = True
        self.others = 0
        self.by_pattern: dict[str, int] = {}


def look(patterns: Sequence[str], exclude: Sequence[str] = (), *, most: int = 1_000_000) -> Listing:
    """All that match, ``most`` of them at most. Names that begin with a dot match only what says so, as in a
    shell; symbolic links to directories are not followed by ``**``."""
    listing = Listing()
    for pattern in patterns:
        count = 0
        for path in _matching(pattern, listing):
            if is_excluded(path, exclude):
                continue
            if len(listing.files) >= most:
                listing.is_whole = False
                return listing
            count += _add(path, listing)
        listing.by_pattern[pattern] = count
    return listing


def of_its_own(directory: str, audit_file: str) -> list[str]:
    """What a process writes itself: in its state ``directory``, the audit file and those rotated."""
    state, audit = (glob.escape(os.path.abspath(path)) for path in (directory, audit_file or directory))
    return [os.path.join(state, ANY_DEPTH, "*"), *([audit, f"{audit}.*"] if audit_file else [])]


def stat_of(path: str) -> FoundFile | None:
    """None if there is no regular file: also where a link leads nowhere, or to itself. Raises OSError."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    identity = (status.st_dev, status.st_ino)
    return FoundFile(path, identity, status.st_size, status.st_mtime_ns, os.path.islink(path))


def is_excluded(path: str, exclude: Sequence[str]) -> bool:
    name = os.path.basename(path)
    return any(matches(path if "/" in one else name, one) for one in exclude)


def is_of(path: str, patterns: Sequence[str]) -> bool:
    """Whether a file may be called so, or was."""
    return any(matches(path, one) or matches(path, os.path.join(one, "*")) for one in patterns)


def matches(path: str, pattern: str) -> bool:
    """Of whole paths, or of names, if the pattern is one."""
    return _match(path.split("/"), pattern.split("/"))


def _match(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts or not names:
        return not parts and not names
    if parts[0] == ANY_DEPTH and len(parts) > 1:
        return _match(names, parts[1:]) or (names[0][:1] != "." and _match(names[1:], parts))
    hidden = names[0][:1] == "." and parts[0][:1] != "."
    return not hidden and fnmatchcase(names[0], parts[0]) and _match(names[1:], parts[1:])


def base_of(pattern: str) -> str:
    """The directory below which all is that can match."""
    parts = pattern.split("/")
    fixed = next((at for at, part in enumerate(parts) if _MAGIC.search(part)), len(parts) - 1)
    return "/".join(parts[:fixed]) or "/"


def _matching(pattern: str, listing: Listing) -> Iterator[str]:
    base = base_of(pattern)
    rest = pattern[len(base) :].strip("/").split("/")
    yield from _below(base, rest, listing, 0)


def _below(directory: str, parts: Sequence[str], listing: Listing, depth: int) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if not _MAGIC.search(part):
        yield from _named(os.path.join(directory, part), rest, listing, depth)
        return
    entries = _entries(directory, listing)
    if part == ANY_DEPTH:
        yield from _below(directory, rest or ["*"], listing, depth)
        for name, is_directory in entries:
            if is_directory and not name.startswith(".") and depth < _MOST_DEPTH:
                yield from _below(os.path.join(directory, name), parts, listing, depth + 1)
        return
    for name, is_directory in entries:
        if not matches(name, part):
            continue
        path = os.path.join(directory, name)
        if not rest:
            if not is_directory:
                yield path
        elif is_directory or os.path.isdir(path):
            yield from _below(path, rest, listing, depth)


def _named(path: str, rest: Sequence[str], listing: Listing, depth: int) -> Iterator[str]:
    listing.directories.add(os.path.dirname(path))
    if rest:
        yield from _below(path, rest, listing, depth)
    elif os.path.isdir(path):  # it stands for all files right in it
        yield from _below(path, ["*"], listing, depth)
    elif _is_there(path, listing):
        yield path


def _is_there(path: str, listing: Listing) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        listing.unseen[os.path.dirname(path)] = error.strerror or str(error)
        return False
    return True


def _entries(directory: str, listing: Listing) -> list[tuple[str, bool]]:
    """(name, whether it is a directory and no link to one), by name."""
    listing.directories.add(directory)
    try:
        with os.scandir(directory) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        listing.unseen[directory] = error.strerror or str(error)
        listing.is_whole = False
        return []


def _add(path: str, listing: Listing) -> int:
    try:
        found = stat_of(path)
    except OSError as error:
        listing.unseen[path] = error.strerror or str(error)
        return 0
    if found is None:
        listing.others += os.path.lexists(path)
        return 0
    before = listing.files.setdefault(found.identity, found)
    if before.is_link and not found.is_link:
        listing.files[found.identity] = found
    return 1
