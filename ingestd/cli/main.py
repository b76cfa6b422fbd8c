"""The console script. Nothing is imported before the first signal has its handler."""

import errno
import os
import sys

from ingestd.app import early_signals

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """A user's mistake is one line, never a traceback; and nor is a reader of our output that has seen
    enough, or a disk that has no room for it."""
    early_signals.install()
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_what_is_closed()
    import gc

    gc.set_threshold(1_000_000, 50, 1_000)  # imports make few cycles; ``run_loop`` lowers it
    try:
        try:
            code = _run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
        code = 0
    except OSError as error:  # mostly of standard output: the state's are told by who writes it
        if error.filename is not None or error.errno not in _NO_ROOM:
            raise
        code = f"ingestd: cannot write: {error.strerror}"
    if isinstance(code, str):  # as sys.exit has it
        print(code, file=sys.stderr)  # noqa: T201
        code = 1
    sys.stderr.flush()
    # the interpreter's end would take all modules apart, and look through a million keys for cycles
    os._exit(code or 0)


def _open_what_is_closed() -> None:
    """Who started us has closed standard input, output or errors. What is written there goes nowhere, and
    nothing can be read. The next files that are opened must not have these numbers: libuv ends the process
    for it."""
    while (opened := os.open(os.devnull, os.O_WRONLY)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _run() -> int | str | None:
    if sys.argv[1:] == ["--version"]:  # asked by scripts, and click costs four times what the rest does
        from ingestd import __version__

        sys.stdout.write(f"ingestd, version {__version__}\n")
        return 0
    from ingestd.cli import plain
    from ingestd.core.errors import UserError

    try:
        if (shown := plain.answer(sys.argv[1:])) is not None:
            sys.stdout.write(shown)
            return 0
        return _by_click()
    except UserError as error:
        from ingestd.cli.notice import notice  # what it masks with takes a tenth of the time of --help

        notice(error)
        return error.exit_code


def _by_click() -> int | str | None:
    import click

    from ingestd.cli.group import cli

    try:
        code: int | str | None = cli.main(prog_name="ingestd", standalone_mode=False)
    except SystemExit as done:
        # click has put this there: the reader of our output has closed it
        return 0 if type(sys.stdout).__name__.endswith("PacifyFlushWrapper") else done.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        declined = isinstance(error, click.Abort) and not isinstance(error.__cause__, KeyboardInterrupt)
        click.echo("Aborted!" if declined else "ingestd: interrupted", err=True)
        return 1 if declined else early_signals.EXIT_INTERRUPTED
    return code
