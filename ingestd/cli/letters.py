"""What the ``dlq`` commands do once their words are parsed."""

import functools
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import click

from ingestd.cli.replaying import run_loop
from ingestd.cli.tables import Group, as_dict
from ingestd.config import Overrides, Settings, load, resolve_login
from ingestd.core import units
from ingestd.core.audit import Entry
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.pipeline import make_validator, open_pipeline
from ingestd.stages.validate import Validator
from ingestd.store import dead_letters
from ingestd.store.audit_log import AuditLog
from ingestd.store.connection import FILE_NAME
from ingestd.store.database import Database
from ingestd.store.dead_letters import Filter, StoredLetter
from ingestd.store.letter_reader import LetterReader
from ingestd.store.lock import DirectoryLock


def make_filter(
    *,
    ids: Sequence[int] = (),
    reason: str | None = None,
    fingerprint: str | None = None,
    state: str = "waiting",
    older: str | None = None,
    newer: str | None = None,
) -> Filter:
    """Raises UserError for a time that is none."""
    try:
        older_s = units.seconds(older) if older else None
        newer_s = units.seconds(newer) if newer else None
    except ValueError as error:
        raise UserError(str(error)) from None
    return Filter(tuple(ids), reason or "", fingerprint or "", "all" if ids else state, older_s, newer_s)


def directory_of(state_dir: str | None) -> Path:
    """The state directory: as given, or the only one there is. Raises UserError."""
    if not state_dir:
        settings = load(None, {})
        state_dir = settings.state.dir
    if state_dir:
        directory = Path(state_dir)
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ingestd"
        found = [path.parent for path in base.glob(f"*/{FILE_NAME}")]
        if len(found) > 1:
            names = ", ".join(str(path) for path in found)
            raise UserError(f"there are several state directories: choose one with --state-dir ({names})")
        directory = found[0] if found else base
    if not (directory / FILE_NAME).exists():
        raise UserError(
            f"there is no {FILE_NAME} in {directory}: name the replay's directory with --state-dir"
        )
    return directory


@asynccontextmanager
async def _reader(state_dir: str | None) -> AsyncIterator[LetterReader]:
    directory = directory_of(state_dir)
    try:
        async with LetterReader.open(directory) as reader:
            yield reader
    except sqlite3.Error as error:
        raise UserError(f"cannot read {directory / FILE_NAME}: {error}") from None


def find(state_dir: str | None, where: Filter, *, limit: int) -> tuple[list[StoredLetter], int]:
    """The first ``limit`` letters, and how many there are."""

    async def read() -> tuple[list[StoredLetter], int]:
        async with _reader(state_dir) as reader:
            now = SystemClock.wall()
            found = [letter async for letter in reader.letters(where, now, limit=limit)]
            return found, sum(group[1] for group in await reader.groups(where, now))

    return run_loop(read)


def count(state_dir: str | None, where: Filter) -> int:
    return find(state_dir, where, limit=1)[1]


def groups(state_dir: str | None, where: Filter) -> list[Group]:
    async def read() -> list[Group]:
        async with _reader(state_dir) as reader:
            return await reader.groups(where, SystemClock.wall())

    return run_loop(read)


def get(state_dir: str | None, number: int) -> tuple[StoredLetter, str]:
    """(the letter, its source's path). Raises UserError."""

    async def read() -> tuple[StoredLetter | None, str]:
        async with _reader(state_dir) as reader:
            where = Filter(ids=(number,), state="all")
            found = [letter async for letter in reader.letters(where, SystemClock.wall())]
            sources = await reader.sources()
            return (found[0], sources.get(found[0].source, "")) if found else (None, "")

    letter, source = run_loop(read)
    if letter is None:
        raise UserError(f"there is no dead letter {number}")
    return letter, source


def export(state_dir: str | None, where: Filter, output: Path | None, *, as_json: bool) -> tuple[int, int]:
    """(letters written, how many had line breaks in them, which NDJSON cannot hold)."""

    async def write() -> tuple[int, int]:
        number = bent = 0
        async with _reader(state_dir) as reader:
            stream = output.open("wb") if output else sys.stdout.buffer
            try:
                async for letter in reader.letters(where, SystemClock.wall()):
                    line = json.dumps(as_dict(letter)).encode() if as_json else letter.payload
                    bent += b"\n" in line or b"\r" in line
                    stream.write(line.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
                    number += 1
                stream.flush()
            finally:
                if output:
                    stream.close()
        return number, bent

    try:
        return run_loop(write)
    except BrokenPipeError:
        os._exit(0)  # whoever read us has seen enough
    except OSError as error:
        raise UserError(f"cannot write the export: {error.strerror}") from None


def purge(state_dir: str | None, where: Filter) -> int:
    """How many were deleted. Raises UserError while another process uses the directory."""
    directory = directory_of(state_dir)

    async def work() -> int:
        lock, database = DirectoryLock(directory), Database(directory)
        try:
            await database.open()
            deleted = await database.run(lambda c: dead_letters.purge(c, where, SystemClock.wall()))
            audit = AuditLog(directory / "audit.jsonl")
            audit(Entry.LETTERS_PURGED, count=deleted)
            audit.close()
            return deleted
        finally:
            await database.close()
            lock.release()

    return run_loop(work)


# --- retry ---


@dataclass(slots=True)
class RetryResult:
    """``invalid``: id -> what is wrong; these were not sent. ``together``: letters that went along because
    their request may have been taken and must be repeated as it was."""

    dry_run: bool = False
    selected: int = 0
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    together: int = 0
    invalid: dict[int, str] = field(default_factory=dict)
    error: UserError | None = None

    @property
    def exit_code(self) -> int:
        if self.error:
            return self.error.exit_code
        return 3 if self.failed or self.invalid else 0

    def as_dict(self) -> dict[str, Any]:
        error = str(self.error) if self.error else None
        names = ("dry_run", "selected", "sent", "delivered", "failed", "together", "invalid")
        return {**{name: getattr(self, name) for name in names}, "error": error}

    def words(self) -> str:
        lines = [f"{number}: still not valid: {why}" for number, why in list(self.invalid.items())[:20]]
        if self.dry_run:
            lines.append(f"{self.sent} of {self.selected} letters would be sent")
        else:
            lines.append(f"{self.delivered} delivered, {self.failed} failed, {len(self.invalid)} not sent")
        if self.together:
            lines.append(f"{self.together} letters of the same requests go along, under the same keys")
        return "\n".join(lines)


def retry(
    where: Filter, overrides: Overrides, *, config_file: str | None, edit_file: str | None, dry_run: bool
) -> RetryResult:
    """Revalidate, then send. Raises UserError when it cannot begin."""
    given = dict(overrides)
    directory = directory_of(given.get(("state", "dir")) or load(config_file, {}).state.dir)
    given["state", "dir"] = str(directory)

    async def work() -> RetryResult:
        settings = await _as_before(directory, given, config_file)
        validator = make_validator(settings)
        payload = _read_payload(edit_file) if edit_file else None
        result, sendable = await _revalidate(directory, where, validator, payload)
        if not dry_run and sendable:
            await _send(settings, directory, sendable, payload, result)
        result.dry_run, result.sent = dry_run, len(sendable)
        return result

    return run_loop(work)


async def _as_before(directory: Path, given: dict[tuple[str, str], Any], config_file: str | None) -> Settings:
    """Settings; what is not given is as it was in the run before."""
    settings = load(config_file, given)
    async with LetterReader.open(directory) as reader:
        if not settings.api.url and not settings.api.region:
            given["api", "url"] = await reader.setting("api")
            token_url = await reader.setting("token_url")
            if not settings.api.token_url:
                given["api", "token_url"] = token_url or None
                given["api", "no_auth"] = token_url == "" or given.get(("api", "no_auth"))
        if given.get(("schema", "name")) is None:
            given["schema", "name"] = await reader.setting("schema")
            given["schema", "dedup_key"] = given.get(("schema", "dedup_key")) or await reader.setting(
                "dedup_key"
            )
    return load(config_file, given)


def _read_payload(path: str) -> bytes:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return data.strip()


async def _revalidate(
    directory: Path, where: Filter, validator: Validator, payload: bytes | None
) -> tuple[RetryResult, list[int]]:
    """The ids that may be sent: valid as they are, or as they were edited."""
    result, sendable, batches = RetryResult(), list[int](), dict[str, int]()
    async with LetterReader.open(directory) as reader:
        async for letter in reader.letters(where, SystemClock.wall()):
            if letter.state == "delivered":
                continue
            result.selected += 1
            refused = validator.check([letter.payload if payload is None else payload]).refused
            if refused:
                errors = next(iter(refused.values())).errors
                result.invalid[letter.id] = "; ".join(
                    f"{e.field}: {e.message}" if e.field else e.message for e in errors
                )
            else:
                sendable.append(letter.id)
                if letter.unanswered and payload is None:
                    batches[letter.batch] = batches.get(letter.batch, 0) + 1
        for batch, chosen in batches.items():
            result.together += await reader.batch_size(batch) - chosen
    if not result.selected:
        raise UserError("no such dead letters are waiting")
    return result, sendable


async def _send(
    settings: Settings, directory: Path, ids: list[int], payload: bytes | None, result: RetryResult
) -> None:
    clock = SystemClock()
    login = resolve_login(settings.api)

    def warn(message: str) -> None:
        click.echo(f"ingestd: {message}", err=True)

    async with open_pipeline(
        settings, login, directory, clock=clock, warn=warn, requested_letters_only=True
    ) as pipeline:
        database = pipeline.database
        if payload is not None:
            database.note(lambda c: dead_letters.edit_payload(c, ids[0], payload))
            pipeline.audit(Entry.LETTER_EDITED, letter=ids[0])
        for first in range(0, len(ids), 500):
            chosen = Filter(ids=tuple(ids[first : first + 500]), state="all")
            database.note(functools.partial(dead_letters.make_due, where=chosen, now=clock.wall()))
        await database.commit()
        total = await database.run(dead_letters.count_requested)

        async def feed() -> None:
            await pipeline.worker.run(once=True)
            pipeline.lane.close()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(feed)
                await pipeline.lane.run()
                tasks.cancel_scope.cancel()
        except* UserError as group:
            result.error = _only(group)
        result.delivered = pipeline.ledger.retried_delivered
        result.failed = total - result.delivered
        database.note(dead_letters.release_leases)
    if result.error:
        click.echo(f"ingestd: {result.error}", err=True)


def _only(group: BaseExceptionGroup[UserError]) -> UserError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    return error
