"""Every page's commands run as they stand, and print what the page shows."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, Page, page
from tests.docs.shell import run, steps

RUNNING = [one for one in PAGES if any(step.block for step in steps(one))]
needs = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl"
)


@needs
@pytest.mark.parametrize("one", RUNNING, ids=[one.name for one in RUNNING])
def test_the_commands_of_a_page_run_and_print_what_it_shows(
    one: Page, tmp_path: Path, commands: Path
) -> None:
    run(one, tmp_path, commands)
    if check := CHECKS.get(one.name):
        check(tmp_path)


def _service(directory: Path) -> None:
    """Whoever is woken finds in the status what the page tells to look at."""
    status = json.loads((directory / "status.json").read_bytes())
    text = page("docs/operate.md").section("When you are woken")
    table = re.findall(r"^\| `(\w+)`(?:: |, )?(.*?) \| ", text, re.MULTILINE)
    assert len(table) > 5
    for name, rest in table:
        if name == "lakes":
            continue  # this service has none
        part = status[name][0] if isinstance(status[name], list) else status[name]
        inner = part if isinstance(part, dict) else status
        assert [word for word in re.findall(r"`(\w+)`", rest) if word not in inner] == [], name


def _control_plane(directory: Path) -> None:
    """The published event came to the target, and its password is in no file of the state."""
    hook = json.loads((directory / "stats.json").read_bytes())["paths"]["/hooks/orders"]
    assert (hook["events"], hook["by_status"]) == (1, {"200": 1})
    kept = [path for path in (directory / "xdg").rglob("*") if path.is_file()]
    assert kept
    assert all(b"not-in-the-file" not in path.read_bytes() for path in kept)


CHECKS = {"docs/service.md": _service, "docs/control-plane.md": _control_plane}
