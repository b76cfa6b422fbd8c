"""The console in a real browser, against a running service."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.each import each
from tests.event_api import EventApi, event
from tests.process.admin.browser import Window, browser, needs_browser, serious_findings, window
from tests.process.cli.run_support import Serving, post, serve
from tests.process.cli.support import Place
from tests.receiver import Reply, Request

pytestmark = [pytest.mark.anyio, needs_browser]

ANNA, BERT, CRM = "anna-may-change-things", "bert-may-only-look-here", "crm-posts-its-events"
MARKUP = "<script>document.title='owned'</script><img src=x onerror=alert(1)>{{7*7}}'\""
PAGES = ("/", "/letters", "/letters/1", "/producers", "/configuration", "/login")


Deed = Callable[[Place, Any], Awaitable[None]]


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    """One for all deeds, each of which has a service and windows of its own."""
    async with browser() as chromium:
        yield chromium


class Api:
    """Refuses every event with ``"note":"bad…"`` by name; ``up`` False: is away."""

    def __init__(self, words: str = f"no {MARKUP}") -> None:
        self.up, self.words = True, words
        self.server = EventApi(self._answer)

    def _answer(self, request: Request) -> Reply:
        if not self.up:
            return Reply(503)
        found = json.loads(request.body)["events"]
        bad = [one["interactionId"] for one in found if one["attributes"]["note"].startswith("bad")]
        if not bad:
            return Reply()
        errors = [{"interactionId": one, "status": 422, "message": self.words} for one in bad]
        return Reply(422, body=json.dumps({"errors": errors}).encode())


def configured(place: Place) -> list[object]:
    file = place / "ingestd.toml"
    file.write_text(
        f"[ingest.producers.crm]\ntoken = '{CRM}'\n"
        f"[admin.tokens.anna]\nrole = 'operator'\ntoken = '{ANNA}'\n[admin.tokens.bert]\ntoken = '{BERT}'\n"
    )
    return ["--config", file]


async def with_letters(serving: Serving, count: int) -> None:
    """Events that the API refuses, and an event of markup, which it takes."""
    bad = [event(number, note=f"bad {number} {MARKUP}".replace('"', "")) for number in range(1, count + 1)]
    assert (await post(serving.ingest_port, [*bad, event(0, note="good")], token=CRM)).status == 202
    await serving.until(lambda told: told["dead_letters"].get("waiting") == count)


async def log_in(one: Window, token: str) -> None:
    await one.go("/login")
    await one.page.get_by_label("Console token").fill(token)
    await one.press("Enter")
    await one.page.wait_for_url("**/")


async def every_page_is_readable_at_every_size_and_runs_nothing_of_an_event(
    place: Place, chromium: Any
) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 3)
        for width, dark in ((1440, False), (360, True)):
            async with window(chromium, serving.admin_port, width=width, dark=dark) as one:
                for path in PAGES:
                    await one.go(path)
                    assert await one.page.evaluate("document.documentElement.scrollWidth") <= width, path
                    assert await serious_findings(one.page) == [], (path, width)
                    assert "owned" not in await one.page.title()
                await one.go("/letters/1")
                assert MARKUP.replace('"', "") in await one.page.input_value("#payload")
                await one.go("/configuration")
                shown = await one.page.content()
                assert not [secret for secret in (ANNA, BERT, CRM) if secret in shown]
                assert one.trouble == []


async def an_operator_finds_corrects_and_sends_letters_with_the_keyboard_alone(
    place: Place, chromium: Any
) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 4)
        async with window(chromium, serving.admin_port) as one:
            await log_in(one, ANNA)
            await one.tab_to("Dead letters")
            await one.press("Enter")
            await one.page.wait_for_url("**/letters")
            assert "4 letters" in await one.text()

            await one.tab_to("1")  # the first letter of the list: its number
            await one.press("Enter")
            await one.page.wait_for_url("**/letters/1")
            await one.tab_to("Correct it")
            await one.page.keyboard.press("ControlOrMeta+A")
            await one.page.keyboard.type('{"no')
            await one.page.wait_for_selector("#check .why")
            await one.page.keyboard.press("ControlOrMeta+A")
            await one.page.keyboard.insert_text(event(1, note="well").decode())
            await one.page.wait_for_selector("#check .good")
            await one.tab_to("Send it corrected")
            await one.press("Enter")
            await one.page.wait_for_selector("text=Corrected, and marked")
            await serving.until(lambda told: told["ledger"]["retried_delivered"] == 1)

            await one.go("/letters")
            await one.tab_to("Delete all")
            await one.press("Enter")
            await one.page.wait_for_selector("text=Type the number")
            await one.page.keyboard.type("2")
            await one.press("Enter")
            await one.page.wait_for_selector("text=that is not the number")
            await one.page.keyboard.type("3")
            await one.press("Enter")
            await one.page.wait_for_selector("text=Deleted: 3 of 3")
            assert one.trouble == []
        await serving.until(lambda told: told["dead_letters"].get("waiting") == 0)
        audit = (place.state / "audit.jsonl").read_text()
        assert '"LETTER_EDITED","letter":1,"who":"anna"' in audit
        assert '"LETTERS_PURGED","count":3,"who":"anna"' in audit


async def a_sink_that_is_away_is_tried_at_once_when_an_operator_asks(place: Place, chromium: Any) -> None:
    api = Api()
    api.up = False
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        assert (await post(serving.ingest_port, [event(1)], token=CRM)).status == 202
        await serving.until(lambda told: told["lanes"][0]["circuit"] != "closed")
        async with window(chromium, serving.admin_port) as one:
            await log_in(one, ANNA)
            shown = await one.text()
            assert "away" in shown
            assert "503" in shown
            await one.page.get_by_role("button", name="Try ingest_api now").click()
            await one.page.wait_for_selector("text=the next request goes out now")
            api.up = True  # not before: it would be found out without anybody
            await serving.until_empty()


async def who_may_only_look_changes_nothing(place: Place, chromium: Any) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 1)
        async with window(chromium, serving.admin_port) as one:
            await one.go("/letters/1")
            await one.page.get_by_role("button", name="Delete it").click()
            assert "a console token with the role operator is needed" in await one.text()
            await log_in(one, BERT)
            await one.go("/letters/1")
            await one.page.get_by_role("button", name="Send it as it is").click()
            assert "a console token with the role operator is needed" in await one.text()
            await one.page.get_by_role("button", name="Log out").click()
            assert "Log in" in await one.text()
            assert "owned" not in await one.page.title()
            assert not [words for words in one.trouble if "403" not in words and "401" not in words]


async def an_operator_corrects_many_with_jq_and_parks_a_sink(place: Place, chromium: Any) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 3)
        async with window(chromium, serving.admin_port) as one:
            await log_in(one, ANNA)
            await one.page.get_by_role("button", name="Park ingest_api").click()
            await one.page.wait_for_selector("text=ingest_api is parked")
            await serving.until(lambda told: told["lanes"][0]["parked"] == "person")
            await one.go("/letters?event_id=i-000002")
            assert "1 letters" in await one.text()
            await one.go("/letters?reason=refused")
            await one.page.get_by_label("of this filter with jq").fill('.attributes.note |= "well"')
            await one.page.get_by_role("button", name="to all").click()
            await one.page.wait_for_selector("text=Correct, and send: 3 letters")
            assert ".attributes.note" in await one.text()
            await one.page.get_by_role("button", name="Correct and send 3 letters").click()
            await one.page.wait_for_selector("text=Corrected, and marked to be sent: 3 of 3")
            await one.go("/")
            assert "parked: person" in await one.text()
            await one.page.get_by_role("button", name="Resume ingest_api").click()
            await one.page.wait_for_selector("text=not parked any more")
            await serving.until(lambda told: told["ledger"]["retried_delivered"] == 3)
            assert one.trouble == []


async def test_a_short_look_in_a_browser(chromium: Any, tmp_path: Path) -> None:
    """A letter with markup in it, which nothing runs; who may look only is told so, logs in and out."""
    await who_may_only_look_changes_nothing(Place(tmp_path), chromium)


@pytest.mark.slow(
    "tests/process/admin/test_console.py::test_a_short_look_in_a_browser",
    "tests/process/admin/test_api.py::test_every_answer_is_as_the_document_says",
    "tests/process/cluster/test_one_machine.py::test_top_the_console_and_the_audit_file_tell_of_all_processes",
)
@each(
    "deed",
    [
        every_page_is_readable_at_every_size_and_runs_nothing_of_an_event,
        an_operator_finds_corrects_and_sends_letters_with_the_keyboard_alone,
        a_sink_that_is_away_is_tried_at_once_when_an_operator_asks,
        an_operator_corrects_many_with_jq_and_parks_a_sink,
    ],
)
async def test_in_a_browser(chromium: Any, tmp_path: Path, deed: Deed) -> None:
    if deed is not an_operator_corrects_many_with_jq_and_parks_a_sink or find_spec("jq"):
        await deed(Place(tmp_path), chromium)
