"""The manual page in the words of the commands' help, as roff with the macros of man(7)."""

import inspect
from collections.abc import Iterator

import click

from ingestd import __version__
from ingestd.cli.group import cli


def write_manual() -> str:
    first = (cli.help or "").partition("\n")[0].rstrip(".")
    lines = [
        f'.TH INGESTD 1 "" "ingestd {__version__}" "User Commands"',
        *(".SH NAME", f"ingestd \\- {_text(first)}"),
        *(".SH SYNOPSIS", ".B ingestd", "COMMAND [OPTIONS] [ARGS]..."),
        *(".SH DESCRIPTION", *_prose(cli)),
        ".SH COMMANDS",
    ]
    for words, command in _walk(["ingestd"], cli):
        lines += _section(words, command) if len(words) > 1 else ()
    return "\n".join(lines)


def _walk(words: list[str], command: click.Command) -> Iterator[tuple[list[str], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if inner := command.get_command(context, name):
                yield from _walk([*words, name], inner)


def _section(words: list[str], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=words[-1])
    yield f".SS {_text(' '.join([*words, *command.collect_usage_pieces(context)]))}"
    yield from _prose(command)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1]:
            yield from (".TP", f".B {_text(record[0])}", _text(" ".join(record[1].split())))


def _prose(command: click.Command) -> Iterator[str]:
    r"""Paragraphs; one that begins with \b stands as it was written."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.splitlines()
        yield ".PP"
        if lines and lines[0].strip() == "\b":
            yield from (".nf", *map(_text, lines[1:]), ".fi")
        else:
            yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Nothing in it is a request or an escape of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text
