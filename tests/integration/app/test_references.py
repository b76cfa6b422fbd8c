"""Settings of sinks that refer to what the API has."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ingestd.config import Login, Settings
from ingestd.config.show import as_toml
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.state_file import open_state
from ingestd.core.clock import SystemClock
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.redaction import redact
from ingestd.wiring.factories import make_sink
from ingestd.wiring.references import look_up, references_of
from tests.each import each
from tests.integration.control.target_support import Session, open_sandbox
from tests.integration.control.test_converge import table

pytestmark = pytest.mark.anyio


def settings_of(directory: Path, **sinks: Any) -> Settings:
    return Settings.model_validate({"state": {"dir": str(directory)}, "sinks": sinks})


def login_of(session: Session) -> Login:
    url = session.api._base
    return Login(
        api=url, token_url=f"{url}/oauth/token", client_id="sandbox", client_secret=SecretStr("sandbox")
    )


async def made(session: Session, kind: str, name: str, **fields: Any) -> str:
    context, wanted = session.context(), KINDS[kind].parse(name, table(kind, 0) | fields)
    return (await KINDS[kind].settle(context, await KINDS[kind].create(context, wanted, {}), wanted)).id


async def test_they_are_looked_up_by_name_and_id_and_a_secret_is_never_seen(tmp_path: Path) -> None:
    async with open_sandbox(active_at_read=0) as session:
        assert session.sandbox
        its_id = await made(session, "webhook", "Orders of the shop")
        source = await made(session, "presence_source", "pbx")
        settings = settings_of(
            tmp_path,
            hook={"type": "webhook", "url": "ref:webhook.Orders of the shop.invocationUrl"},
            same={"type": "webhook", "url": f"ref:integration.{its_id}.invocationUrl"},
            presence={"type": "genesys_events", "api": "presence", "source_id": "ref:presence_source.pbx.id"},
        )
        found = await look_up(settings, login_of(session), clock=SystemClock())
    hook, same, presence = (found.sinks[name] for name in ("hook", "same", "presence"))
    token = next(iter(session.sandbox.control.integrations)).secrets["token"]
    assert hook.url == same.url
    assert token in hook.url
    assert presence.source_id == source  # type: ignore[union-attr]
    sink = make_sink("hook", hook, None, settings.batch, lambda: 0.0)  # type: ignore[arg-type]
    shown = [sink.shown_url, as_toml(settings, {}), as_toml(found, {}), redact(f"POST {hook.url}: 500")]
    assert not [text for text in shown if token in text]
    assert "ref:webhook.Orders of the shop.invocationUrl" in shown[1]
    assert await look_up(found, None, clock=SystemClock()) is found, "there is nothing to ask"


@each(
    ("text", "said"),
    [
        (
            "ref:webhook.none.invocationUrl",
            r"sinks\.hook\.url: ref:webhook\.none.*: there is no webhook",
        ),
        ("ref:webhook.two.invocationUrl", r"sinks\.hook\.url: 2 webhooks are called two: give an id"),
        ("ref:webhook.two.token", r"sinks\.hook\.url: .*a webhook has id, invocationUrl, webhookId"),
        ("ref:webhok.two.id", r"sinks\.hook\.url: .*no kind webhok: did you mean webhook"),
        ("ref:two", r"sinks\.hook\.url: expected ref:KIND\.NAME\.ATTRIBUTE"),
    ],
)
async def test_what_cannot_be_looked_up_is_said_with_its_setting(
    text: str, said: str, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, hook={"type": "webhook", "url": text})
    async with open_sandbox(active_at_read=0) as session:
        for _ in range(2):
            await session.api.post(
                "/api/v2/integrations", {"name": "two", "integrationType": {"id": "webhook"}}
            )
        with pytest.raises(UserError, match=said):
            await look_up(settings, login_of(session), clock=SystemClock())


async def test_an_api_that_cannot_be_reached_ends_the_start_with_its_own_code(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, hook={"type": "webhook", "url": "ref:webhook.a.invocationUrl"})
    login = Login(api="http://127.0.0.1:9", token_url=None)
    with pytest.raises(UserError, match=r"sinks\.hook\.url: .*127\.0\.0\.1:9") as caught:
        await look_up(settings, login, clock=SystemClock(), deadline_s=0.2)
    assert caught.value.exit_code == Unreachable.exit_code


def test_settings_without_any_refer_to_nothing(tmp_path: Path) -> None:
    plain = settings_of(tmp_path, hook={"type": "webhook", "url": "https://x.example/refs"})
    assert references_of(plain) == {}


async def test_a_name_may_be_that_of_the_table_which_an_apply_made_it_of(tmp_path: Path) -> None:
    kind = KINDS["presence_source"]
    wanted = kind.parse("pbx", {"name": "The old exchange"})
    sink = {"type": "genesys_events", "api": "presence", "source_id": "ref:presence_source.pbx.id"}
    settings = settings_of(tmp_path, presence=sink)
    async with open_sandbox() as session:
        found = await kind.create(session.context(), wanted, {})
        login = login_of(session)
        with pytest.raises(UserError, match="there is no presence_source pbx"):
            await look_up(settings, login, clock=SystemClock())
        with open_state(tmp_path, login.api, change=True) as state:
            state.remember(found, wanted, created=True, secrets={})
            state.save()
        looked_up = await look_up(settings, login, clock=SystemClock())
    assert looked_up.sinks["presence"].source_id == found.id  # type: ignore[union-attr]
