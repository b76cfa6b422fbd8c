"""Dead letters for the console: read beside the writer, changed as ``ingestd dlq`` beside a service does.

SQLite is asked in threads: an event loop must not wait for a disk.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ingestd.admin.read_model import Changed, LetterQuery
from ingestd.app.console.where import attempts
from ingestd.app.letters import letters, purge
from ingestd.app.letters import park as letter_park
from ingestd.app.letters.correction import open_edit
from ingestd.app.letters.retry import Marking
from ingestd.app.letters.retry_result import RetryResult
from ingestd.app.service_parts import Service
from ingestd.core.errors import NotFound
from ingestd.core.redaction import redact_tree
from ingestd.store.dead_letters import Filter
from ingestd.telemetry.audit_entry import AuditEntry

T = TypeVar("T")


async def find(service: Service, query: LetterQuery, *, limit: int) -> dict[str, Any]:
    """``letters``: the first ``limit`` of them, see ``app/letters/shape.py``; ``total``: how many
    there are."""

    def read() -> dict[str, Any]:
        with letters.find(_directory(service), _filter(query), limit=limit, now=service.clock.wall()) as (
            found,
            total,
        ):
            return {"letters": list(found), "total": total}

    return await _aside(read)


async def groups(service: Service, query: LetterQuery) -> list[dict[str, Any]]:
    read = partial(letters.groups, _directory(service), _filter(query), now=service.clock.wall())
    return await _aside(read)


async def get(service: Service, number: int) -> dict[str, Any]:
    """With ``timeline``: lines of the audit file about its request, oldest first. Raises Busy."""
    found = await _aside(partial(letters.get, _directory(service), number))
    audit = service.pipeline.audit
    audit.flush()
    batches = {found["batch"]} - {None}
    return {
        **found,
        "timeline": redact_tree(await service.looks.take(partial(attempts, audit.path, batches))),
    }


def check(service: Service, payload: bytes) -> list[str]:
    """What is wrong with an event, in words; empty: it is valid. ``payload``: one event, as JSON."""
    refused = service.pipeline.validator.check([payload]).refused
    return [refused[0].words] if refused else []


async def mark(
    service: Service,
    query: LetterQuery,
    *,
    who: str,
    payload: bytes | None = None,
    expression: str = "",
    dry_run: bool = False,
) -> Changed:
    """Have letters sent; ``payload``: the one letter, corrected to this; ``expression``: of jq, for all.
    Raises NotFound: there is no such letter; UserError."""
    result = RetryResult(dry_run=dry_run, process="" if dry_run else str(os.getpid()))
    directory = Path(_directory(service))

    def work() -> None:
        import anyio

        with open_edit(expression) as edit:
            marking = Marking(
                service.settings, directory, _filter(query), payload, result, edit=edit, who=who
            )
            anyio.run(partial(marking.run, alone=False))

    await _aside(work)
    if payload is not None and not result.selected:
        raise NotFound("this dead letter does not wait any more")
    if not dry_run and payload is None and not expression:
        service.pipeline.audit(AuditEntry.LETTERS_REQUESTED, count=result.marked, who=who)
    return Changed(
        dry_run=dry_run,
        selected=result.selected,
        changed=result.sent if dry_run else result.marked,
        words=result.words().splitlines(),
    )


async def delete(service: Service, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
    found = await find(service, query, limit=0)
    if dry_run or not found["total"]:
        return Changed(dry_run=dry_run, selected=found["total"], changed=found["total"], words=[])
    done = await _aside(partial(purge.purge, _directory(service), _filter(query), who=who))
    words = [f"{done.left} others of the same requests wait for a person now"] if done.left else []
    return Changed(dry_run=False, selected=found["total"], changed=done.deleted, words=words)


async def page(
    service: Service, query: LetterQuery, *, after: int, limit: int, now: float
) -> list[dict[str, Any]]:
    """For an export: the next ``limit`` letters after this number."""
    read = partial(letters.page, _directory(service), _filter(query), after=after, limit=limit, now=now)
    return await _aside(read)


async def damaged(service: Service, query: LetterQuery, *, now: float) -> tuple[int, list[int]]:
    return await _aside(partial(letters.damaged, _directory(service), _filter(query), now=now))


async def park(service: Service, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
    found = await find(service, query, limit=0)
    words = ["parked letters are not sent by themselves any more; send them again when it is time"]
    if dry_run or not found["total"]:
        return Changed(dry_run=dry_run, selected=found["total"], changed=found["total"], words=words)
    count, parked = await _aside(partial(letter_park.park, _directory(service), _filter(query), who=who))
    words = [f"{count - parked} of them waited for a person already"] if parked < count else []
    return Changed(dry_run=False, selected=count, changed=parked, words=words)


def _directory(service: Service) -> str:
    return str(service.pipeline.database.path.parent)


def _filter(query: LetterQuery) -> Filter:
    return letters.make_filter(**query)


async def _aside(work: Callable[[], T]) -> T:
    from anyio import to_thread  # late, as all that only a person's question takes

    return await to_thread.run_sync(work)
