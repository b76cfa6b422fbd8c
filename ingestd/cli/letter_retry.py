"""What ``dlq retry`` does once its words are parsed.

With the state directory to itself it sends the letters; beside a process that uses the directory it marks
them, and that process sends them.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from ingestd.branch import Branch
from ingestd.branches import patterns_of, sections_of
from ingestd.cli.letters import beside_log, directory_of
from ingestd.cli.replaying import run_loop
from ingestd.cli.say import say
from ingestd.config import Overrides, Settings, find_login, load
from ingestd.core.audit import Entry
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.masking import MASK
from ingestd.pipeline import make_validator, open_pipeline
from ingestd.stages import routes
from ingestd.stages.validate import Validator
from ingestd.store import dead_letters, letter_changes
from ingestd.store.connection import StoreFailed
from ingestd.store.dead_letters import Filter, StoredLetter
from ingestd.store.letter_reader import LetterReader
from ingestd.store.lock import DirectoryInUse, DirectoryLock


@dataclass(slots=True)
class RetryResult:
    """``invalid``, ``nowhere``: id -> what is wrong with the event, or why no sink takes it; these were not
    sent. ``together``: letters that went along because their request may have been taken and must be repeated
    as it was. ``marked``: for ``process``, which has the directory, to send."""

    dry_run: bool = False
    selected: int = 0
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    together: int = 0
    marked: int = 0
    process: str = ""
    invalid: dict[int, str] = field(default_factory=dict)
    nowhere: dict[int, str] = field(default_factory=dict)
    error: UserError | None = None

    @property
    def exit_code(self) -> int:
        if self.error:
            return self.error.exit_code
        return 3 if self.failed or self.invalid or self.nowhere else 0

    def as_dict(self) -> dict[str, Any]:
        error = str(self.error) if self.error else None
        names: tuple[str, ...] = ("dry_run", "selected", "sent", "delivered", "failed", "together", "invalid")
        names += ("nowhere",)
        if self.process:  # what comes of them is not known yet
            names = ("marked", "process", "selected", "together", "invalid")
        return {**{name: getattr(self, name) for name in names}, "error": error}

    def words(self) -> str:
        lines = [f"{number}: still not valid: {why}" for number, why in list(self.invalid.items())[:20]]
        lines += [f"{number}: {why}" for number, why in list(self.nowhere.items())[:20]]
        if self.dry_run:
            lines.append(f"{self.sent} of {self.selected} letters would be sent")
        elif self.process and not self.marked:
            lines.append(f"nothing to mark: process {self.process} is sending these at this moment")
        elif self.process:
            lines.append(f"{self.marked} letters marked; process {self.process} sends them")
        else:
            unsent = len(self.invalid) + len(self.nowhere)
            lines.append(f"{self.delivered} delivered, {self.failed} failed, {unsent} not sent")
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
        result, letters = await _revalidate(directory, where, validator, payload)
        result.dry_run, result.sent = dry_run, len(letters)
        if not letters:
            return result
        try:
            DirectoryLock(directory).release()  # beside a service nobody needs credentials, nor its sinks
            sendable = _leave_out(settings, letters, payload, result)
            if sendable and not dry_run:
                await _send(settings, directory, sendable, payload, result)
        except DirectoryInUse as in_use:
            result.nowhere.clear()  # its process may have those sinks
            if not dry_run:
                result.process = in_use.holder
                result.marked = _mark(settings, directory, [letter.id for letter in letters], payload)
        return result

    return run_loop(work)


async def _as_before(directory: Path, given: dict[tuple[str, str], Any], config_file: str | None) -> Settings:
    """Settings; what is not given is as it was in the run before."""
    settings = load(config_file, given)
    async with LetterReader.open(directory) as reader:
        if not settings.api.url and not settings.api.region:
            given["api", "url"] = api = await reader.setting("api")
            token_url = await reader.setting("token_url")
            if MASK in f"{api}{token_url}":
                raise UserError(
                    f"the run before sent to {api}, and what is secret of a URL is not kept: give --config"
                )
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
) -> tuple[RetryResult, list[StoredLetter]]:
    """The letters that may be sent: valid as they are, or as they were edited.

    Only those that no sink has got yet keep their payload: there may be a million of the others.
    """
    result, sendable, batches = RetryResult(), list[StoredLetter](), dict[str, int]()
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
                sendable.append(letter._replace(payload=b"") if letter.sink else letter)
                if letter.unanswered and payload is None:
                    batches[letter.batch] = batches.get(letter.batch, 0) + 1
        for batch, chosen in batches.items():
            result.together += await reader.batch_size(batch) - chosen
    if not result.selected:
        raise UserError("no such dead letters are waiting")
    return result, sendable


def _leave_out(
    settings: Settings, letters: list[StoredLetter], payload: bytes | None, result: RetryResult
) -> list[int]:
    """The ids that have a sink among those that are configured; the others go to ``result.nowhere``."""
    sinks, router, sendable = sections_of(settings), routes.compile(patterns_of(settings)), list[int]()
    for letter in letters:
        if letter.sink and letter.sink not in sinks:
            result.nowhere[letter.id] = f"there is no sink {letter.sink}: give the --config that has it"
        elif not letter.sink and router.route([letter.payload if payload is None else payload]).unmatched:
            result.nowhere[letter.id] = "it matches the pattern of no sink"
        else:
            sendable.append(letter.id)
    result.sent = len(sendable)
    return sendable


def _mark(settings: Settings, directory: Path, ids: list[int], payload: bytes | None) -> int:
    """How many letters the process that has the directory is to send."""
    now = SystemClock.wall()
    if payload is None:
        return letter_changes.request(directory, ids, now=now)
    letter_changes.request_edited(directory, ids[0], payload, now=now)
    with beside_log(directory, settings.audit.file) as audit:
        audit(Entry.LETTER_EDITED, letter=ids[0])
    return 1


async def _send(
    settings: Settings, directory: Path, ids: list[int], payload: bytes | None, result: RetryResult
) -> None:
    clock = SystemClock()
    login = find_login(settings)

    def warn(message: str) -> None:
        say(message)

    async with open_pipeline(
        settings, login, directory, clock=clock, warn=warn, requested_letters_only=True
    ) as pipeline:
        database = pipeline.database
        if payload is not None:
            database.note(lambda c: dead_letters.edit_payload(c, ids[0], payload))
            pipeline.audit(Entry.LETTER_EDITED, letter=ids[0])
        chosen = Filter(ids=tuple(ids), state="all")
        await database.run(lambda c: dead_letters.make_due(c, chosen, clock.wall()))
        await pipeline.branches[0].letters.assign()  # before they are counted: one may become several
        total = await database.run(dead_letters.count_requested)
        try:
            async with anyio.create_task_group() as tasks:
                for branch in pipeline.branches:
                    tasks.start_soon(_send_those_of, branch, result)
        except* UserError as group:
            result.error = _only(group)
        result.delivered = pipeline.ledger.retried_delivered
        result.failed = total - result.delivered
        database.note(dead_letters.release_leases)
    if result.error:
        say(result.error)


async def _send_those_of(branch: Branch, result: RetryResult) -> None:
    """A sink that is out of reach costs the others nothing."""

    async def feed() -> None:
        await branch.worker.run(once=True)
        branch.lane.close()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            await branch.lane.run()
            tasks.cancel_scope.cancel()
    except* StoreFailed:
        raise
    except* UserError as group:
        result.error = result.error or _only(group)


def _only(group: BaseExceptionGroup[UserError]) -> UserError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    return error
