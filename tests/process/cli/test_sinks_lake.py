"""Lakes beside sinks: files of what was accepted or delivered, and who is told of them."""

import base64
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from ingestd.core.errors import UserError
from ingestd.sandbox.server import Sandbox
from tests import event_api
from tests.integration.lake.support import events_in, names
from tests.process.cli.sink_support import assert_once, login, options, replay
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio

SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
EVENTS = [event_api.event(number, kind="queue" if number % 3 else "answer") for number in range(60)]


def lake(root: Path, **more: Any) -> dict[str, Any]:
    return {"type": "lake", "url": str(root), **more}


async def test_lakes_have_what_was_accepted_and_what_a_sink_delivered_and_tell_of_it_signed(
    place: Place,
) -> None:
    (place / "secret").write_text(SECRET)
    faults = ("event-dead:0.2", "event-retry:0.2", "503:0.1:0", "cut:0.1")
    async with Sandbox(options(*faults, webhook_secrets=[SECRET])).serve() as sandbox:
        told = {"callback_url": f"{sandbox.url}/hooks/lake", "callback_secret_file": str(place / "secret")}
        sinks: dict[str, dict[str, Any]] = {
            "hook": {
                "type": "webhook",
                "url": f"{sandbox.url}/hooks/x",
                "auth": {"type": "standard_webhooks", "secret_file": str(place / "secret")},
            },
            "api": {"type": "ingest_api"},
            "all": lake(place / "all", partition="date", **told),
            "taken": lake(place / "taken", of="api"),
            "columns": lake(place / "columns", of="api", format="parquet", partition="type"),
            "answers": lake(place / "answers", of="hook", when={"eventType": [{"suffix": ".answer"}]}),
        }
        done = await replay(place, EVENTS, sinks, to=login(sandbox))
        stats = sandbox.sandbox.stats()
        taken = sorted(sandbox.sandbox.kept())
    assert len(done.letters) > 0
    assert sorted(events_in(place / "all")) == sorted(EVENTS)
    assert sorted(events_in(place / "taken")) == taken == sorted(set(EVENTS) - set(done.refused))
    table = ds.dataset(place / "columns", exclude_invalid_files=True, partitioning="hive").to_table()
    assert sorted(text.encode() for text in table["event"].to_pylist()) == taken
    assert sorted(events_in(place / "answers")) == sorted(EVENTS[::3])
    assert_once(stats.paths["/hooks/lake"], len(names(place / "all")))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"callback_secret_file": "s"}, "secret_file: there is no callback_url to sign for"),
        ({"callback_secret_file": "/nowhere", "callback_url": "http://127.0.0.1:1/"}, "/nowhere"),
        ({"callback_url": "localhost/told"}, "url: it must begin with https://"),
    ],
)
async def test_a_callback_that_cannot_be_is_told_at_the_start(
    place: Place, given: dict[str, str], said: str
) -> None:
    hook = {"type": "webhook", "url": "http://127.0.0.1:1/"}
    with pytest.raises(UserError, match=r"^sinks\.all\.callback_.*") as raised:
        await replay(place, EVENTS, {"hook": hook, "all": lake(place / "all", **given)})
    assert said in str(raised.value)
