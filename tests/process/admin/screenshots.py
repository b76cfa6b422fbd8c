"""Pictures of the console for docs/images: ``python -m tests.process.admin.screenshots``."""

import asyncio
import tempfile
from pathlib import Path

from tests.event_api import event
from tests.process.admin.browser import Window, browser, window
from tests.process.admin.test_console import CRM, Api, configured
from tests.process.cli.run_support import Serving, post, serve
from tests.process.cli.support import Place

IMAGES = Path(__file__).parents[3] / "docs" / "images"
KEY = "i-000001,routing.interaction.queue,2026-01-01T09:00:00Z"
PAGES = {
    "overview": "/",
    "letters": "/letters",
    "letter": "/letters/1",
    "where": f"/where?key={KEY}",
    "producers": "/producers",
    "configuration": "/configuration",
}


async def traffic(serving: Serving, api: Api) -> None:
    """Some seconds of it, so that there is something to see; in the end the API goes away."""
    for number in range(0, 1500, 50):
        notes = ["bad: no such queue" if one % 47 == 1 else "good" for one in range(number, number + 50)]
        body = [event(number + at, note=note) for at, note in enumerate(notes)]
        await post(serving.ingest_port, body, token=CRM)
        await post(serving.ingest_port, [event(0)], token="a-token-of-nobody")
        api.up = number < 1300
        await asyncio.sleep(0.6)


async def take(one: Window) -> None:
    for name, path in PAGES.items():
        await one.go(path)
        await one.page.wait_for_timeout(1500)
        await one.page.screenshot(path=IMAGES / f"{name}.png")


async def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        place, api = Place(Path(directory)), Api("this queue is closed")
        words = configured(place)
        async with api.server, serve(place, api.server, *words) as serving, browser() as chromium:
            await traffic(serving, api)
            async with window(chromium, serving.admin_port, width=1200) as one:
                await take(one)


if __name__ == "__main__":
    asyncio.run(main())
