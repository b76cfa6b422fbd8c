"""Writes the files of one load, each with its manifest after it. Called by ``lake.py``."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ingestd.core.answer import Answer
from ingestd.core.clock import ungrouped
from ingestd.core.errors import Unreachable, UserError
from ingestd.lake.file_format import EncodedFile, LakeFile, encode, files_of
from ingestd.sinks import lake
from ingestd.sinks.lake import LakeLayout
from ingestd.store.connection import StoreFailed
from ingestd.store.outbox import Outbox
from ingestd.store.outbox_rows import LakeLoad, OutboxDelivery

OnFile = Callable[[EncodedFile, int], None]
"""(the file, its events)."""


class ObjectStore(Protocol):
    """``transport/folder.py`` or ``transport/s3.py``: keeps bytes under a key, whole or not at all."""

    shown_url: str

    async def open(self) -> None:
        """Raises UserError."""
        ...

    async def send(self, key: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        """Raises Unreachable."""
        ...

    def drop_token(self, generation: int) -> None:
        """The credential of that generation was refused: take a newer one."""
        ...

    async def aclose(self) -> None:
        """Close connections and files."""
        ...


class Written(NamedTuple):
    """``files``: how many, those among them that an earlier attempt wrote too."""

    rows: Sequence[OutboxDelivery]
    files: int


class WriteFailure(NamedTuple):
    """``lasting``: a person must correct it, so there is no hurry to try again."""

    why: str
    lasting: bool


class LakeFileWriter:
    """Up to ``max_in_flight`` files at a time; what one attempt has written, the next leaves alone."""

    def __init__(self, outbox: Outbox, store: ObjectStore, *, max_in_flight: int, on_file: OnFile) -> None:
        self._outbox = outbox
        self._store = store
        self._max_in_flight = max_in_flight
        self._on_file = on_file
        self._load: LakeLoad | None = None
        self._whole: set[str] = set()
        self._encoding = asyncio.Lock()  # one thread at a time takes turns with the loop, not one a file

    async def write(self, load: LakeLoad) -> Written | WriteFailure:
        """All files of the load, or why not. Raises StoreFailed, Unreadable."""
        if load != self._load:
            self._load = load
            self._whole.clear()
        rows = await self._outbox.read(load)
        try:
            layout = LakeLayout.decode(load.layout)
            files = await asyncio.to_thread(lambda: files_of(rows, layout))
            failure = await self._write_files([f for f in files if f.name not in self._whole], layout)
        except StoreFailed:
            raise
        except (Unreachable, UserError) as error:
            return WriteFailure(str(error), lasting=True)
        except Exception as error:
            # of a kind that nobody has thought of: it may hold up the lake, but never the main work
            return WriteFailure(
                f"{type(error).__name__} while writing rows {load.first} to {load.last}", lasting=True
            )
        return failure or Written(rows, len(files))

    async def _write_files(self, files: Sequence[LakeFile], layout: LakeLayout) -> WriteFailure | None:
        left = iter(files)
        failures: list[WriteFailure] = []

        async def work() -> None:
            for file in left:
                failure = await self._write_file(file, layout)
                if failure:
                    failures.append(failure)
                if failures:
                    return

        with ungrouped(Exception):
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._max_in_flight, len(files))):
                    workers.create_task(work())
        return failures[0] if failures else None

    async def _write_file(self, file: LakeFile, layout: LakeLayout) -> WriteFailure | None:
        async with self._encoding:
            encoded = await asyncio.to_thread(encode, file, layout)
        failure = await self._send(encoded.name, encoded.body, encoded.content_type)
        failure = failure or await self._send(encoded.manifest_name, encoded.manifest, "application/json")
        if failure is None:
            self._whole.add(file.name)
            self._on_file(encoded, len(file.events))
        return failure

    async def _send(self, key: str, body: bytes, content_type: str) -> WriteFailure | None:
        answer, generation = await self._store.send(key, body, {"Content-Type": content_type})
        if lake.is_written(answer):
            return None
        lasting = lake.is_configuration(answer)
        if lasting:
            self._store.drop_token(generation)  # they may have been replaced on disk
        return WriteFailure(lake.words(answer), lasting)
