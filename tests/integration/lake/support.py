"""Lakes in a folder, and what their files say when other programs read them."""

import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.lake.lake import Lake, open_lake
from ingestd.sinks.lake import LakeLayout
from ingestd.store.database import Database
from ingestd.transport.folder import UNFINISHED, FolderTransport
from tests.machine import patience

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

AT = 1_790_000_000.0


def event(number: int, *, kind: str = "order.created", hour: int = 9) -> bytes:
    return b'{"id":"%d","type":"%s","time":"2026-11-21T%02d:00:00Z"}' % (number, kind.encode(), hour)


class Store:
    """A folder whose answers can be ordered: ``fault(key)`` is asked first."""

    def __init__(self, root: Path) -> None:
        self.folder = FolderTransport(root)
        self.shown_url = self.folder.shown_url
        self.fault: Callable[[str], Answer | None] = lambda key: None
        self.sent: list[str] = []
        self.dropped = 0
        self.open, self.aclose = self.folder.open, self.folder.aclose

    async def send(self, key: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        self.sent.append(key)
        fault = self.fault(key)
        return (fault, 0) if fault else await self.folder.send(key, body, headers)

    def drop_token(self, generation: int) -> None:
        self.dropped += 1


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Database]:
    await anyio.Path(directory).mkdir(exist_ok=True)
    database = Database(directory)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def lake_in(database: Database, store: Any, **options: Any) -> AsyncIterator[Lake]:
    settings: dict[str, Any] = {
        "name": "lake",
        "layout": LakeLayout(),
        "file_bytes": 10_000,
        "file_age_s": 3600.0,
        "max_backlog_bytes": 10**8,
        "warn": lambda words: None,
        "backoff": Backoff(base_s=0.01, cap_s=0.02),
    }
    async with open_lake(database, store, **(settings | options)) as lake:
        yield lake


async def add(database: Database, lake: Lake, events: list[bytes], **options: Any) -> bool:
    """As an accepted chunk, or a delivered batch, is added. False: the outbox is full."""
    addition = lake.outbox.add(events, **({"at": AT} | options))
    if addition is None:
        return False
    database.note(addition)
    await database.commit()
    return True


@asynccontextmanager
async def running(lake: Lake) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lake.run)
        yield
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(patience(10)):
        while not condition():  # noqa: ASYNC110 - a file system tells nobody
            await anyio.sleep(0.005)


def names(root: Path) -> list[str]:
    """Of the files that hold events."""
    paths = (p for p in root.rglob("*") if p.is_file() and not p.name.endswith(".manifest.json"))
    return sorted(str(path.relative_to(root)) for path in paths if UNFINISHED not in path.parts)


def unfinished(root: Path) -> list[str]:
    return [path.name for path in (root / UNFINISHED).iterdir()]


def lines_of(body: bytes) -> list[bytes]:
    text = zstd.decompress(body)
    assert text.endswith(b"\n")
    return text[:-1].split(b"\n")


def manifest_of(root: Path, name: str) -> Any:
    path = root / name
    return json.loads(path.with_name(f"_{path.name}.manifest.json").read_bytes())


def events_in(root: Path) -> list[bytes]:
    """Of all NDJSON files, each of which must be what its manifest says."""
    found: list[bytes] = []
    for name in names(root):
        body = (root / name).read_bytes()
        lines = lines_of(body)
        manifest = manifest_of(root, name)
        assert manifest["name"] == name
        assert manifest["events"] == len(lines)
        assert manifest["bytes"] == len(body)
        assert manifest["sha256"] == hashlib.sha256(body).hexdigest()
        found += lines
    return found
