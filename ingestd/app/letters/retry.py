"""What ``dlq retry`` does once its words are parsed.

It marks letters, a piece at a time. With the state directory to itself it sends them then; beside a process
that uses the directory, that process does.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from zlib import crc32

from ingestd.app.event_loop import run_loop
from ingestd.app.letters.correction import Edit, differences
from ingestd.app.letters.purge import beside_log
from ingestd.app.letters.retry_result import MOST_SHOWN, RetryResult
from ingestd.app.state_place import directory_of, place, sandbox_directory
from ingestd.config import Login, Overrides, Settings, find_login, load
from ingestd.core.clock import SystemClock, Tasks
from ingestd.core.errors import UserError, first_cause
from ingestd.core.letter import Form
from ingestd.core.reasons import Reason
from ingestd.core.redaction import MASK
from ingestd.core.text import cut
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.processing import routes
from ingestd.store import letter_leases
from ingestd.store.chosen_letters import ChosenLetter
from ingestd.store.connection import StoreFailed
from ingestd.store.dead_letters import Filter, count_requested
from ingestd.store.letter_changes import LetterChanges
from ingestd.store.letter_mates import count_mates
from ingestd.store.letter_reader import LetterReader
from ingestd.store.lock import DirectoryInUse, DirectoryLock
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.wiring.factories import make_validator, patterns_of, sections_of
from ingestd.wiring.pipeline import open_pipeline


def retry(
    where: Filter,
    overrides: Overrides,
    *,
    config_file: str | None,
    payload: bytes | None,
    dry_run: bool,
    edit: Edit | None = None,
    sandbox: bool = False,
    warn: Callable[[str], None],
) -> RetryResult:
    """Revalidate, mark, then send. ``payload``: send this instead; then ``where`` is one letter. ``edit``
    corrects each. ``sandbox``: to one that is started for it. ``warn`` is called with warnings for a person.

    Raises UserError when it cannot begin.
    """
    given = dict(overrides)
    named, alone = given.get(("state", "dir")), sandbox and not config_file
    kept = str(sandbox_directory()) if alone and not named and sandbox_directory().exists() else named
    directory = directory_of(kept or place(None, config_file, sandbox=False))
    given["state", "dir"] = str(directory)
    result = RetryResult(dry_run=dry_run)

    async def work() -> None:
        settings = await _as_before(directory, given, config_file)
        marking = Marking(settings, directory, where, payload, result, edit=edit)
        try:
            DirectoryLock(directory).release()  # beside a service nobody needs credentials, nor its sinks
            if dry_run:
                await marking.run(alone=True)
            else:
                async with AsyncExitStack() as stack:
                    login = await _start_sandbox(settings, stack) if sandbox else find_login(settings)
                    await _send(settings, login, directory, marking, result, warn=warn)
        except DirectoryInUse as in_use:
            if sandbox:  # that one would send them, and not to a sandbox
                raise
            if not dry_run:
                result.process = in_use.holder
            await marking.run(alone=False)

    try:
        run_loop(work)
    except KeyboardInterrupt:
        result.interrupted = True
    if not result.selected and not result.interrupted:
        raise UserError("no such dead letters are waiting")
    return result


_DAMAGED = (
    "its payload is damaged on disk: see `ingestd dlq show {0}`, and send what it was with"
    " `ingestd dlq retry {0} --edit FILE`"
)


class Marking:
    """Goes through the letters a piece at a time, and marks those that may be sent: valid as they are, or as
    they were edited. With a dry run it only counts them. ``who``: for the audit log."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        where: Filter,
        payload: bytes | None,
        result: RetryResult,
        *,
        edit: Edit | None = None,
        who: str = "",
    ) -> None:
        self._who = who
        self._directory = directory
        self._audit = settings.audit
        self._where = where
        self._payload = payload
        self._edit = edit
        self._edited: dict[int, bytes] = {}  # of the piece at hand
        self._result = result
        self._validator = make_validator(settings)
        self._sinks = sections_of(settings)
        self._router = routes.compile(patterns_of(settings))
        self._others: frozenset[str] | None = None

    async def run(self, *, alone: bool) -> None:
        """``alone``: it is this process that sends them, so they need a sink here. Raises StoreFailed."""
        now = SystemClock.wall()
        with LetterChanges.open(self._directory) as changes:
            self._others = None if alone else changes.sinks()
            for page in changes.pages(self._where, now):
                self._take(changes, [one for one in page if one.state != "delivered"], now, alone=alone)
                await SystemClock.sleep(0)  # an interrupt ends it here

    def _take(self, changes: LetterChanges, letters: list[ChosenLetter], now: float, *, alone: bool) -> None:
        result = self._result
        result.selected += len(letters)
        numbers = self._sendable(letters, alone=alone)
        result.sent += len(numbers)
        if not numbers:
            return
        if result.dry_run:
            mates = count_mates(changes.connection, numbers, now=now)
            if self._edited:  # these leave their requests
                result.left += mates.together
                result.risky += sum(letter.ambiguous for letter in letters if letter.id in numbers)
            else:
                result.together += mates.together
                result.rekeyed += mates.rekeyed
                result.risky += mates.risky
        elif self._edited:
            ambiguous = {letter.id: letter.ambiguous for letter in letters}
            with beside_log(self._directory, self._audit) as audit:
                for number in numbers:
                    changes.edit(number, self._edited[number], now=now)
                    result.risky += ambiguous[number]
                    result.marked += 1
                    audit(AuditEntry.LETTER_EDITED, letter=number, who=self._who or None)
            result.left = changes.left()
        else:
            wished = changes.request(numbers, now=now)
            result.marked += wished.marked
            result.together += wished.marked - wished.chosen
            result.rekeyed += wished.rekeyed
            result.risky += wished.risky

    def _sendable(self, letters: list[ChosenLetter], *, alone: bool) -> list[int]:
        if self._payload is None:  # else what is stored does not matter
            damaged = {one.id for one in letters if crc32(one.payload) != one.checksum}
            for number in damaged:
                self._result.refuse(number, _DAMAGED.format(number))
            letters = [letter for letter in letters if letter.id not in damaged]
        letters = self._correct(letters)
        payloads = [self._edited.get(letter.id, letter.payload) for letter in letters]
        refused = self._validator.check(payloads).refused if payloads else {}
        made = [index for index, letter in enumerate(letters) if letter.form == Form.TRANSFORMED]
        for index in made:  # by transforms, which the schema knows nothing of
            if index in refused and refused[index].reason is Reason.INVALID:
                del refused[index]
        numbers: list[int] = []
        for index, letter in enumerate(letters):
            if index in refused:
                self._result.refuse(letter.id, refused[index].words)
            elif why := self._nowhere(letter, payloads[index]) if alone else self._nowhere_there(letter):
                self._result.lead_nowhere(letter.id, why)
            else:
                numbers.append(letter.id)
                if self._edit and len(self._result.preview) < MOST_SHOWN:
                    changed = differences(letter.payload, payloads[index])
                    self._result.preview.append({"id": letter.id, "changes": changed})
        return numbers

    def _correct(self, letters: list[ChosenLetter]) -> list[ChosenLetter]:
        """Those that can be, and are changed by it; all where nothing is to be corrected."""
        self._edited = {}
        if self._payload is not None:
            self._edited = dict.fromkeys((letter.id for letter in letters), self._payload)
        if not self._edit:
            return letters
        for letter in letters:
            try:
                corrected = self._edit(letter.payload)
                if differences(letter.payload, corrected):
                    self._edited[letter.id] = corrected
                else:
                    self._result.unchanged += 1
            except (ValueError, RecursionError) as error:
                self._result.refuse(letter.id, cut(str(error)))
        return [letter for letter in letters if letter.id in self._edited]

    def _nowhere(self, letter: ChosenLetter, payload: bytes) -> str:
        """Why none of the sinks that are configured takes it, or empty."""
        if letter.sink and letter.sink not in self._sinks:
            return f"there is no sink {letter.sink}: give the --config that has it"
        if not letter.sink and self._router.route([payload]).unmatched:
            return "it matches the pattern of no sink"
        return ""

    def _nowhere_there(self, letter: ChosenLetter) -> str:
        """Why the process that has the directory would not send it, or empty. Which events go where is that
        one's business."""
        if not letter.sink or self._others is None or letter.sink in self._others:
            return ""
        who = f"process {self._result.process}" if self._result.process else "the process beside this command"
        return f"{who} has no sink {letter.sink}, and none of that name is configured there"


async def _as_before(directory: Path, given: dict[tuple[str, str], Any], config_file: str | None) -> Settings:
    """Settings; what is not given is as it was in the run before."""
    settings = load(config_file, given)
    with LetterReader.open(directory) as reader:
        if not settings.api.url and not settings.api.region:
            given["api", "url"] = api = reader.setting("api")
            token_url = reader.setting("token_url")
            if MASK in f"{api}{token_url}":
                raise UserError(
                    f"the run before sent to {api}, and what is secret of a URL is not kept: give --config"
                )
            if not settings.api.token_url:
                given["api", "token_url"] = token_url or None
                given["api", "no_auth"] = token_url == "" or given.get(("api", "no_auth"))
        if given.get(("schema", "name")) is None:
            given["schema", "name"] = reader.setting("schema")
            given["schema", "dedup_key"] = given.get(("schema", "dedup_key")) or reader.setting("dedup_key")
    return load(config_file, given)


async def _start_sandbox(settings: Settings, stack: AsyncExitStack) -> Login | None:
    from ingestd.app.replay_target import find_target

    return (await find_target(settings, sandbox=True, faults=(), stack=stack))[0]


async def _send(
    settings: Settings,
    login: Login | None,
    directory: Path,
    marking: Marking,
    result: RetryResult,
    *,
    warn: Callable[[str], None],
) -> None:
    clock = SystemClock()
    async with open_pipeline(
        settings, login, directory, clock=clock, warn=warn, requested_letters_only=True
    ) as pipeline:
        database, ledger = pipeline.database, pipeline.ledger
        await marking.run(alone=True)
        await pipeline.runners[0].letters.assign()  # before they are counted: one may become several
        total = await database.run(count_requested) if result.sent else 0
        try:
            async with Tasks() as tasks:
                for runner in pipeline.runners:
                    tasks.start_soon(_send_those_of, runner, result)
        except* UserError as group:
            result.error = first_cause(group)
        finally:
            result.delivered, result.duplicate = ledger.retried_delivered, ledger.retried_duplicate
            result.failed, result.aside = ledger.retried_failed, ledger.retried_aside
        settled = result.delivered + result.duplicate + result.failed + result.aside
        result.later = max(0, total - settled)  # of a damaged request more may wait than were chosen
        database.note(letter_leases.release_leases)
    if result.error:
        warn(str(result.error))


async def _send_those_of(runner: SinkRunner, result: RetryResult) -> None:
    """A sink that is out of reach costs the others nothing."""

    async def feed() -> None:
        await runner.worker.run(once=True)
        runner.lane.close()

    try:
        async with Tasks() as tasks:
            tasks.start_soon(feed)
            await runner.lane.run()
            tasks.cancel()
    except* StoreFailed:
        raise
    except* UserError as group:
        result.error = result.error or first_cause(group)
