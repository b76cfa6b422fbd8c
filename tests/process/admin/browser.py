"""Debian's Chromium, driven by Playwright, in a window of a size and a colour scheme."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.machine import patience

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs Debian's chromium")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
_FLAGS += ["--disable-component-update", "--disable-sync"]

_LIMIT_MS = 1000 * patience(30)


class Window:
    """``page``: Playwright's; ``trouble``: what the browser complained of, scripts and policy."""

    def __init__(self, page: Any, base: str) -> None:
        self.page, self.base = page, base
        self.trouble: list[str] = []
        self._heard = {"console": self._said, "pageerror": self._failed, "dialog": self._asked}
        for what, hear in self._heard.items():
            page.on(what, hear)

    def close(self) -> None:
        for what, hear in self._heard.items():
            self.page.remove_listener(what, hear)

    def _said(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.trouble.append(said.text)

    def _failed(self, error: Any) -> None:
        self.trouble.append(str(error))

    def _asked(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")

    async def go(self, path: str) -> None:
        await self.page.goto(self.base + path)

    async def text(self) -> str:
        found: str = await self.page.inner_text("body")
        return found

    async def tab_to(self, name: str, *, most: int = 80) -> None:
        """Press Tab until what has this accessible name, or text, has the focus."""
        for _ in range(most):
            await self.page.keyboard.press("Tab")
            here = await self.page.evaluate(
                "(e => e.getAttribute('aria-label') || e.innerText || e.labels?.[0]?.innerText || '')"
                "(document.activeElement)"
            )
            if here.strip().startswith(name):
                return
        raise AssertionError(f"the keyboard does not reach {name!r}")

    async def press(self, *keys: str) -> None:
        for one in keys:
            await self.page.keyboard.press(one)


@asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS, timeout=_LIMIT_MS)
        try:
            yield chromium
        finally:
            await chromium.close()


@asynccontextmanager
async def window(chromium: Any, port: int, *, width: int = 1440, dark: bool = False) -> AsyncIterator[Window]:
    """Whoever was in it before is forgotten. It is one page all the time: to open one costs a process."""
    if not chromium.contexts:
        made = await chromium.new_context()
        made.set_default_timeout(_LIMIT_MS)
        await made.new_page()
    (context,) = chromium.contexts
    (page,) = context.pages
    await page.goto("about:blank")
    await context.clear_cookies()
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme="dark" if dark else "light")
    one = Window(page, f"http://127.0.0.1:{port}")
    try:
        yield one
    finally:
        one.close()


async def serious_findings(page: Any) -> list[str]:
    """What axe-core finds that keeps somebody from using the page."""
    from axe_playwright_python.async_playwright import Axe

    found = (await Axe().run(page, options={"resultTypes": ["violations"]})).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
