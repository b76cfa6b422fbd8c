"""The console script. Nothing is imported before the first signal has its handler."""

import sys

from ingestd.app import early_signals


def main() -> None:
    """A user's mistake is one line, never a traceback."""
    early_signals.install()
    import gc

    import click

    from ingestd.cli.group import cli
    from ingestd.cli.say import say
    from ingestd.core.errors import UserError

    gc.set_threshold(1_000_000, 50, 1_000)  # imports make few cycles; ``run_loop`` lowers it
    try:
        code = cli.main(prog_name="ingestd", standalone_mode=False)
    except UserError as error:
        say(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        said_no = isinstance(error, click.Abort) and not isinstance(error.__cause__, KeyboardInterrupt)
        click.echo("Aborted!" if said_no else "ingestd: interrupted", err=True)
        code = 1 if said_no else early_signals.EXIT_INTERRUPTED
    gc.freeze()  # else the interpreter's end looks through a million keys for cycles
    sys.exit(code)
