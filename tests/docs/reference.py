"""The pages of ``docs/reference/``, made from the code: ``python -m tests.docs.reference`` writes them again.

``test_reference.py`` compares them with a fresh run.
"""

import json
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import click
from click.testing import CliRunner

from ingestd.cli.group import cli
from ingestd.config import Settings, show
from ingestd.config.commented import description_of
from ingestd.config.event_tests import EventTest
from ingestd.core.answer import Answer
from ingestd.core.reasons import REJECTED, RETRYABLE, Reason
from ingestd.core.section import Section
from ingestd.core.setting_types import REQUIRED, SecretStr, SettingField, parts
from ingestd.core.transform_section import TransformConfig
from ingestd.sinks.answers import meaning_of
from ingestd.sinks.registry import SINK_TYPES
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.catalogue import (
    PIPELINE_CATALOGUE,
    SERVICE_CATALOGUE,
    SINK_CATALOGUE,
    SOURCE_CATALOGUE,
)

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
MADE = "<!-- Made from the code by `make reference`: change the code, not this page. -->"


# --- settings ---


def configuration() -> Iterator[str]:
    yield "# Settings"
    yield (
        "How they are given: [Configuration](../configuration.md). A duration is a number of seconds, or "
        "`10ms`, `5s`, `2m`, `1h`, `7d`. A size is a number of bytes, or `100kB`, `16MiB`, `1GB`."
    )
    for field, info in Settings.model_fields.items():
        if inner := _section(info):
            yield from _tables(f"[{info.alias or field}]", inner, "##")
    yield from _tables("[[transforms]]", TransformConfig, "##")
    yield "Those of one sink have the same settings: `[[sinks.NAME.transforms]]`."
    yield from _tables("[[tests]]", EventTest, "##")
    yield "## Sinks"
    yield (
        "A table `[sinks.NAME]` for each sink, up to 16. Each has a `type`, the settings of this table and "
        "of the next two, and those of its type. A lake has only `url`, `when` and `allow_private` of these."
    )
    yield from _tables("[sinks.NAME]", HttpSinkConfig, "###")
    for kind, model in SINK_TYPES.items():
        yield from _tables(f'[sinks.NAME] with type = "{kind}"', model, "###", of=HttpSinkConfig)


def _tables(title: str, model: type[Section], level: str, *, of: type[Section] = Section) -> Iterator[str]:
    """Heading, words and table of a section, then those of the sections in it; without what ``of`` has."""
    yield f"{level} `{title}`"
    yield _line(model.__doc__ or "")
    inner, rows = [], []
    for field, info in model.model_fields.items():
        if field == "type" and model in SINK_TYPES.values():
            continue
        if field in of.model_fields and field not in model.__annotations__:
            continue
        if section := _section(info):
            inner.append((f"{title.split(']')[0]}.{field}]", section))
        elif typing.get_origin(info.annotation) is list and _section_by_name(info):
            rows.append((f"`{field}`", "`[]`", _line(info.description)))
        elif section := _section_by_name(info):
            inner.append((f"{title.split(']')[0]}.{field}.NAME]", section))
        else:
            rows.append((f"`{field}`", _default(info), _line(description_of(info))))
    if rows:
        yield _table(("setting", "default", "meaning"), rows)
    for name, section in inner:
        yield from _tables(name, section, level + "#" if len(level) < 4 else level)


def _section(info: SettingField) -> type[Section] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _section_by_name(info: SettingField) -> type[Section] | None:
    """Of producers: a table for each, by name."""
    last, _ = parts((typing.get_args(info.annotation) or (None,))[-1])
    return last if isinstance(last, type) and issubclass(last, Section) else None


def _default(info: SettingField) -> str:
    if info.default is REQUIRED:
        return "(needed)"
    value = info.default
    if value is None:
        return "(not set)"
    shown = "" if isinstance(value, SecretStr) else show.as_written(value, info)
    return f"`{'{}' if value == {} else json.dumps(shown, ensure_ascii=False)}`"


# --- metrics, audit entries, reasons ---


def metrics() -> Iterator[str]:
    yield "# Metrics"
    yield (
        "This is a closed list. `/metrics` of the admin address has them, and so has a replay with "
        "`--metrics-port`; both as Prometheus or OpenMetrics."
    )
    parts = (
        ("Of every process", "", PIPELINE_CATALOGUE),
        (
            "Of each sink",
            "These have the label `sink`, and so has `ingestd_attempt_seconds`.",
            SINK_CATALOGUE,
        ),
        (
            "Of each source at a broker",
            "These have the label `source`: the kind, as nats, and a dot, and the name of its table.",
            SOURCE_CATALOGUE,
        ),
        (
            "Of the service",
            "Only `ingestd run` has these, and the usual `process_…` and `python_info`.",
            SERVICE_CATALOGUE,
        ),
    )
    for title, words, catalogue in parts:
        yield f"## {title}"
        if words:
            yield words
        rows = ((f"`{name}`", kind, _line(text)) for name, (kind, text) in catalogue.items())
        yield _table(("metric", "kind", "meaning"), rows)


def audit() -> Iterator[str]:
    yield "# Audit entries"
    yield "The `event` of each line of the [audit log](../operate.md#audit-log). This is a closed list."
    yield _table(("entry", "when"), ((f"`{entry}`", entry.meaning) for entry in AuditEntry))


def statuses() -> Iterator[str]:
    yield "# Statuses and reasons"
    yield "## What a status of an API means"
    yield (
        "This is the default. A sink's `on_status` overrides it by these words, all but `unauthorized`: the "
        "token is renewed. A body can say more: see [Answers](../sinks/answers.md#what-an-answer-means)."
    )
    answers = [(status, _meaning(status)) for status in (*range(200, 600),)]
    rows = []
    for words, group in groupby(answers, key=lambda pair: pair[1]):
        found = [status for status, _ in group]
        rows.append((str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}", *words))
    yield _table(("status", "meaning", "hint"), rows)
    yield "What `ingestd` answers to producers: [Service](../service.md#answers)."
    yield "## Reasons of dead letters"
    yield "What each means, and what to do: [Dead letters](../dead-letters.md#reasons)."
    yield _table(
        ("reason", "counted as", "retried automatically"),
        (
            (
                f"`{reason}`",
                "`rejected`" if reason in REJECTED else "`dead_lettered`",
                _yes(reason in RETRYABLE),
            )
            for reason in Reason
        ),
    )


def _meaning(status: int) -> tuple[str, str]:
    """Meaning and hint for an answer with nothing in it."""
    verdict = meaning_of(Answer(status), now_wall=0.0)
    hint = re.fullmatch(r"\d+ ?\((.*?)(?:; it points to nowhere)?\)", verdict.detail)
    return f"`{verdict.meaning.name.lower()}`", _line(hint[1]) if hint else ""


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# --- commands ---


def commands() -> Iterator[str]:
    yield "# Commands"
    for words, _ in _walk([], cli):
        if words:
            yield f"{'#' * (len(words) + 1)} {' '.join(['ingestd', *words])}"
        yield f"```text\n{_help(words)}\n```"


def exit_codes() -> Iterator[str]:
    """What the help of each command says of them."""
    yield "# Exit codes"
    yield "A command that is not named here has the codes of all commands."
    for words, command in _walk([], cli):
        told = re.search(r"Exit code.*?(?=\n\s*\n|$)", command.help or "", re.DOTALL)
        if not told:
            continue
        yield f"## {' '.join(['ingestd', *words])}" if words else "## All commands"
        text = " ".join(told[0].split())
        listed = text.removeprefix("Exit codes: ").rstrip(".")
        if listed == text.rstrip("."):
            yield text
        else:
            rows = sorted(
                (int(one.split()[0]), one.split(maxsplit=1)[1]) for one in re.split(r"; (?=\d)", listed)
            )
            yield _table(("code", "meaning"), ((str(code), meaning) for code, meaning in rows))


def _walk(words: list[str], command: click.Command) -> Iterator[tuple[list[str], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _walk([*words, name], inner)


def _help(words: list[str]) -> str:
    """As on a terminal of 100 columns."""
    shown = CliRunner().invoke(cli, [*words, "--help"], prog_name="ingestd", terminal_width=100)
    assert shown.exit_code == 0, (words, shown.output)
    return "\n".join(line.rstrip() for line in shown.output.strip("\n").splitlines())


# --- all of them ---


def _line(text: str) -> str:
    """Fit for a table's cell."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "configuration.md": configuration,
    "metrics.md": metrics,
    "cli.md": commands,
    "audit.md": audit,
    "statuses.md": statuses,
    "exit-codes.md": exit_codes,
}


def make(name: str) -> str:
    title, *rest = PAGES[name]()
    return "\n\n".join((title, MADE, *rest)) + "\n"


def write(folder: Path) -> None:
    for name in PAGES:
        (folder / name).write_text(make(name), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
