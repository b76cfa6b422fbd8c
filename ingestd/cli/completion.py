"""``ingestd completion`` and ``ingestd man``: what a shell and ``man`` want to know of the commands."""

import os
from pathlib import Path

import click

from ingestd.core.errors import UserError

_PLACES = {
    "bash": ("XDG_DATA_HOME", ".local/share", "bash-completion/completions/ingestd"),
    "zsh": ("ZDOTDIR", "", ".zfunc/_ingestd"),
    "fish": ("XDG_CONFIG_HOME", ".config", "fish/completions/ingestd.fish"),
}
"""A variable, what it stands for below the home directory, and a file below that."""
_NEXT = {
    "bash": "a new shell has it, where the package bash-completion is installed",
    "zsh": "a new shell has it, with these lines in .zshrc: fpath+=~/.zfunc; autoload -Uz compinit; compinit",
    "fish": "a new shell has it",
}


@click.command(short_help="Complete commands and options in bash, zsh or fish.")
@click.argument("shell", type=click.Choice(list(_PLACES)))
@click.option("--install", is_flag=True, help="Write it to where the shell looks for it, for this user.")
def completion(shell: str, install: bool) -> None:
    """Print a script that completes commands and options in SHELL, or install it.

    \b
    Examples:
      ingestd completion bash --install
      ingestd completion zsh > ~/.zfunc/_ingestd
      source <(ingestd completion bash)                 in this shell alone
    """
    from click.shell_completion import get_completion_class

    from ingestd.cli.group import cli

    found = get_completion_class(shell)
    assert found is not None
    script = found(cli, {}, "ingestd", "_INGESTD_COMPLETE").source()
    if not install:
        click.echo(script)
        return
    variable, beside, inside = _PLACES[shell]
    path = Path(os.environ.get(variable) or Path.home() / beside) / inside
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"{path} is written: {_NEXT[shell]}")


@click.command(short_help="Print the manual page.")
def man() -> None:
    """Print the manual page, ingestd(1), of all commands.

    \b
    Examples:
      ingestd man | man -l -
      ingestd man > /usr/local/share/man/man1/ingestd.1
    """
    from ingestd.cli.manual import write_manual

    click.echo(write_manual())
