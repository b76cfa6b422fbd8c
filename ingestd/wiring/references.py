"""References in the settings of sinks, as ``url = "ref:webhook.orders.invocationUrl"``.

They are looked up at [api] before anything is sent. What they stand for is kept nowhere, and masked wherever
it is quoted. Imported where there is one: few configurations have any.
"""

from collections.abc import Mapping, Sequence

from ingestd.config import Login, Settings, resolve_login, state_directory
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.reference import Reference, missing, parse_reference
from ingestd.control.engine.resource import Context, RemoteResource
from ingestd.control.engine.secret import SecretRef
from ingestd.control.engine.state_file import open_state
from ingestd.control.engine.world import value_of
from ingestd.core.address import show_url
from ingestd.core.clock import Clock, system_rng
from ingestd.core.errors import Unreachable, UserError
from ingestd.transport.api_client import ApiClient
from ingestd.wiring.http_clients import api_auth, make_client

DEADLINE_S = 30.0
ReferencePlace = tuple[str, str]
"""(sink, setting)."""


def references_of(settings: Settings) -> dict[ReferencePlace, Reference]:
    """What settings of sinks refer to. Raises UserError for what is no reference."""
    found: dict[ReferencePlace, Reference] = {}
    for sink, section in settings.sinks.items():
        for field, text in section.references.items():
            try:
                reference = parse_reference(text, KINDS)
            except ValueError as error:
                raise UserError(f"sinks.{sink}.{field}: {error}") from None
            if reference is None:
                raise UserError(
                    f"sinks.{sink}.{field}: expected ref:KIND.NAME.ATTRIBUTE, as"
                    " ref:webhook.NAME.invocationUrl"
                )
            found[sink, field] = reference
    return found


async def look_up(
    settings: Settings, login: Login | None, *, clock: Clock, deadline_s: float = DEADLINE_S
) -> Settings:
    """With what they stand for now. Raises UserError that names the setting."""
    wanted = references_of(settings)
    if not wanted:
        return settings
    login = login or resolve_login(settings.api)
    values: dict[ReferencePlace, str] = {}
    async with make_client(settings, max_connections=1, clock=clock) as client:
        auth = api_auth(login, client, clock=clock, login_timeout_s=deadline_s)
        try:
            context = Context(
                api=ApiClient(client, auth, base_url=login.api, clock=clock),
                secret=SecretRef.read,
                note=lambda step: None,
                clock=clock,
                rng=system_rng(),
                deadline_s=deadline_s,
            )
            async with clock.timeout(deadline_s):
                for (sink, field), one in wanted.items():
                    values[sink, field] = await _value(context, settings, login, one, f"sinks.{sink}.{field}")
        except TimeoutError:
            reason = f"no answer from {show_url(login.api)} within {deadline_s:g} s"
            raise Unreachable(f"sinks.{sink}.{field}: {one.text}: {reason}") from None
        finally:
            await auth.aclose()
    return _with_values(settings, values)


async def _value(context: Context, settings: Settings, login: Login, one: Reference, where: str) -> str:
    try:
        there = await KINDS[one.kind].read(context)
        found = _named(there, one.name) or _named(there, _id_of_table(settings, login, one))
        if found is None:
            raise missing(one)
        return await value_of(context, KINDS, found, one.attribute)
    except UserError as error:
        explained = UserError(f"{where}: {error}")
        explained.exit_code = error.exit_code
        raise explained from None


def _named(there: Sequence[RemoteResource], name: str) -> RemoteResource | None:
    """By its name or id. Raises UserError for several."""
    found = [one for one in there if one.key == name] or [one for one in there if one.id == name]
    if len(found) > 1:
        raise UserError(f"{len(found)} {found[0].kind}s are called {name}: give an id")
    return found[0] if found else None


def _id_of_table(settings: Settings, login: Login, one: Reference) -> str:
    """Of what an apply with this state directory made of a table of that name; or empty."""
    directory = state_directory(settings, login)
    with open_state(directory, show_url(login.api).rstrip("/"), change=False) as state:
        ids = [record.id for record in state.records(one.kind) if record.name == one.name]
    return ids[0] if ids else ""


def _with_values(settings: Settings, values: Mapping[ReferencePlace, str]) -> Settings:
    sinks = dict(settings.sinks)
    for (sink, field), value in values.items():
        sinks[sink] = sinks[sink].model_copy(update={field: value})
    return settings.model_copy(update={"sinks": sinks})
