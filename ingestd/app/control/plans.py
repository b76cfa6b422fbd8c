"""A file of resources and what there is: compared, applied, exported."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ingestd.app.control.session import Control
from ingestd.control.engine.apply import ApplyOutcome, ApplyResult
from ingestd.control.engine.apply import apply as carry_out
from ingestd.control.engine.document import Document, load_document
from ingestd.control.engine.export import export_document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import Plan, make_plan
from ingestd.control.engine.plan_file import check_plan, save_plan
from ingestd.control.engine.reference import parse_reference, replaced
from ingestd.control.engine.resource import Context, RemoteResource
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.state_file import open_state
from ingestd.control.engine.world import ATTRIBUTE_S, Progress, World, look_up, read_world
from ingestd.control.integration.properties import find_wrong_properties
from ingestd.control.trigger.topics import find_unknown
from ingestd.core.errors import UserError
from ingestd.core.redaction import by_value
from ingestd.core.text import cut
from ingestd.transport.api_client import ApiError

logger = logging.getLogger(__name__)
WEBHOOKS = "/integrations/webhooks/"
"""In the URL of every webhook."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is asked for. ``prune``: see ``make_plan``."""

    document: Document
    prune: bool = False

    @classmethod
    def read(cls, file: str, variables: Mapping[str, str], *, prune: bool) -> "PlanRequest":
        """Raises UserError."""
        return cls(load_document(file, variables), prune=prune)


async def plan(
    control: Control,
    intention: PlanRequest,
    *,
    progress: Progress | None = None,
    audited: bool = False,
    out: Path | None = None,
) -> Plan:
    """Changes nothing, neither there nor here. ``out``: where to keep it for ``apply``. Raises UserError."""
    with open_state(control.directory, control.api, change=False) as state:
        made = await _plan(control, intention, state, progress)
    wanted = intention.document.wanted
    for find in (find_unknown, find_wrong_properties):
        for line in await find(control.context, wanted):
            logger.warning("%s", line)
    if audited:
        control.context.note(made.step())
    if out:
        save_plan(out, made)
    return made


async def apply(
    control: Control,
    intention: PlanRequest,
    *,
    shown: Plan | None = None,
    plan_file: Path | None = None,
    progress: Progress | None = None,
    on_plan: Callable[[Plan], None],
    on_step: Callable[[ApplyOutcome], None],
) -> ApplyResult:
    """Plans, and does it. ``shown``: what a person has agreed to. Raises UserError where that, or what the
    file of a plan says, is not what would be done now."""
    control.open_audit()
    with open_state(control.directory, control.api, change=True) as state:
        made = await _plan(control, intention, state, progress)
        if plan_file:
            check_plan(plan_file, made)
        if shown and shown.fingerprint != made.fingerprint:
            raise UserError("The resources changed since the plan was shown. Nothing was done; apply again.")
        on_plan(made)

        def report_step(outcome: ApplyOutcome) -> None:
            on_step(outcome._replace(error=control.secrets.mask(outcome.error)))

        result = await carry_out(control.context, made, state, report_step)
        return replace(
            result,
            outcomes=tuple(one._replace(error=control.secrets.mask(one.error)) for one in result.outcomes),
        )


def check_kinds(kinds: Sequence[str]) -> None:
    """Raises UserError."""
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--kind {cut(kind, 80)}: there are: {', '.join(KINDS)}")


async def export(control: Control, kinds: Sequence[str], *, progress: Progress | None = None) -> str:
    """The file of what there is. Without ``kinds``, of all that the API knows: each of the platform's and the
    sandbox's lacks some."""
    found = dict[str, tuple[RemoteResource, ...]]()
    for name in kinds or KINDS:
        try:
            found.update((await read_world(control.context, [KINDS[name]], progress=progress)).found)
        except ApiError as error:
            if kinds or not error.is_not_found:
                raise
    found = await _with_references(control.context, found)
    with open_state(control.directory, control.api, change=False) as state:
        return by_value(export_document(World(found), state=state))


async def _with_references(
    context: Context, found: Mapping[str, tuple[RemoteResource, ...]]
) -> dict[str, tuple[RemoteResource, ...]]:
    """In the place of the URL of a webhook, which is a secret, a reference to it."""
    texts: dict[str, str] = {}
    kind, short = KINDS["webhook"], replace(context, deadline_s=min(ATTRIBUTE_S, context.deadline_s))
    if any(WEBHOOKS in str(one.fields) for ones in found.values() for one in ones):
        for one in await kind.read(context):
            with suppress(UserError):
                text = f"ref:webhook.{one.key}.invocationUrl"
                if parse_reference(text, KINDS):
                    texts[await kind.attribute(short, one, "invocationUrl")] = text
    return {
        name: tuple(
            replace(one, fields=replaced(one.fields, lambda text: texts.get(text, text))) for one in ones
        )
        for name, ones in found.items()
    }


async def _plan(
    control: Control, intention: PlanRequest, state: ControlState, progress: Progress | None
) -> Plan:
    kinds = [KINDS[name] for name in KINDS if name in intention.document.kinds | state.kinds]
    world = await read_world(control.context, kinds, state=state, progress=progress)
    world = await look_up(control.context, intention.document, world)
    return make_plan(intention.document, world, state, prune=intention.prune, secret=control.secrets)
