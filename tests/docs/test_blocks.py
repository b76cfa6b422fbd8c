"""Every code block is run by some test, every link leads somewhere, and the README is short."""

import re
from pathlib import Path

import click
from click.testing import CliRunner

from ingestd.cli.group import cli
from ingestd.config import check_run, load
from tests.docs.pages import PAGES, ROOT, Block, is_of_sink
from tests.docs.shell import steps
from tests.each import each

BLOCKS = [block for page in PAGES for block in page.blocks]
RUN_BY_THE_SINKS = ("toml", "json", "python")  # tests/docs/test_sinks.py
ANSWERS = "docs/sinks/answers.md"  # and there


def test_the_readme_has_at_most_8_kilobytes() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8_000


def test_every_block_says_in_which_language_it_is_and_something_runs_it() -> None:
    """The table of docs/contributing.md says which language is run how."""
    run = {step.block for page in PAGES for step in steps(page)}
    loose = [
        block.id
        for block in BLOCKS
        if block not in run
        and block.language not in ("text", "sh", "toml")
        and not (block.language in RUN_BY_THE_SINKS and (is_of_sink(block.page) or block.page == ANSWERS))
    ]
    assert loose == []


def test_no_page_has_a_fence_that_is_not_closed_or_indented() -> None:
    assert [page.name for page in PAGES if "```" in page.prose] == []


def test_what_is_not_run_has_no_command_of_ingestd() -> None:
    """``sh`` is for what needs a network, docker or an environment of its own."""
    shown = [block for block in BLOCKS if block.language == "sh"]
    assert [block.id for block in shown if re.search(r"(^|[|;&] *)ingestd ", block.text, re.MULTILINE)] == []


def test_files_of_the_project_that_pages_name_are_there() -> None:
    """In code spans: those that begin with a folder of the project's root, and verbs of make."""
    others = {"ingestd", "build", "ingestd-demo"}  # what make docs and make demo make is not there at first
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in others)
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    missing = []
    for page in PAGES:
        text = page.text if page.name != "docs/contributing.md" else page.text.replace("PAGE", "replay")
        named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text) + re.findall(r" -f ((?:deploy)/\S+)", text)
        missing += [f"{page.name}: {name}" for name in named if not (ROOT / name).exists()]
        missing += [
            f"{page.name}: make {verb}"
            for verb in re.findall(r"\bmake ([a-z-]+)[`, ]", text)
            if verb not in verbs and f"`make {verb}" in text
        ]
    assert missing == []


def test_files_of_the_code_that_pages_name_are_there() -> None:
    """In code spans: ``room/`` or ``room/file.py``, below ``ingestd/``, ``deploy/`` or the root."""
    roots = (ROOT, ROOT / "ingestd", ROOT / "deploy")
    named = {
        f"{page.name}: {name}": name
        for page in PAGES
        for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py))`", page.text)
    }
    assert len(named) > 40
    assert [name for name, path in named.items() if not any((root / path).exists() for root in roots)] == []


LOADED = [
    block
    for block in BLOCKS
    if block.language == "toml" and not is_of_sink(block.page) and block.page != ANSWERS
]


@each("block", LOADED, ids=[block.id for block in LOADED])
def test_a_configuration_loads(block: Block, tmp_path: Path) -> None:
    (tmp_path / "ingestd.toml").write_text(block.text.replace("/run/secrets", str(tmp_path)))
    for name in re.findall(r"/run/secrets/(\w+)", block.text):
        (tmp_path / name).write_text("a-secret-of-the-page\n")
    settings = load(str(tmp_path / "ingestd.toml"), {}, {})
    if settings.ingest.producers:
        check_run(settings)


def test_every_relative_link_leads_to_a_page_and_its_anchor_to_a_heading() -> None:
    anchors = {page.path: page.anchors for page in PAGES}
    broken = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", page.prose)):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = (page.path.parent / name).resolve() if name else page.path
            if not target.exists() or (anchor and anchor not in anchors.get(target, set())):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_every_page_is_linked_from_the_start_page_or_from_its_own_index() -> None:
    """Decisions have a list of their own."""
    text = (ROOT / "docs/index.md").read_text() + (ROOT / "docs/decisions/index.md").read_text()
    names = [page.name.removeprefix("docs/") for page in PAGES[1:]]
    assert [
        name
        for name in names
        if f"({name.removeprefix('decisions/')})" not in text
        and f"({name})" not in text
        and name != "index.md"
    ] == []


def test_help_of_every_command_shows() -> None:
    for name in cli.list_commands(click.Context(cli)):
        assert "Usage:" in CliRunner().invoke(cli, [name, "--help"]).output
