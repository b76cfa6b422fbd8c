"""The site has every page, and builds without a warning where its builder is installed."""

import importlib.util
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT


def files_in(nav: list[Any]) -> Iterator[str]:
    for one in nav:
        (inner,) = one.values()
        if isinstance(inner, str):
            yield inner
        else:
            yield from files_in(inner)


def test_the_navigation_has_every_page_once() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    pages = [page.name.removeprefix("docs/") for page in PAGES if page.name.startswith("docs/")]
    assert sorted(files_in(nav)) == sorted(pages)


@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="needs the extra docs")
def test_the_site_builds_with_search_and_without_a_warning(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dedup_key" in (tmp_path / "build/site/search.json").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        path = page.name.removeprefix("docs/").removesuffix(".md").removesuffix("index")
        assert (tmp_path / "build/site" / path / "index.html").exists(), page.name
