"""``ingestd plan|apply|drift|export``: the control plane from a file. The work is in
``app/control/plans.py``."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingestd.cli.control_options import control_options, run_session, wait_option
from ingestd.cli.options import F
from ingestd.cli.tables import ApplyProgress, parse_variables, showing_progress
from ingestd.core.errors import UserError
from ingestd.core.text import printable
from ingestd.core.units import human_seconds

if TYPE_CHECKING:
    from ingestd.app.control.plans import PlanRequest
    from ingestd.app.control.session import Control
    from ingestd.control.engine.apply import ApplyOutcome, ApplyResult
    from ingestd.control.engine.plan import Plan

CHANGES_CODE = 2
FAILED_CODE = 3
USAGE_CODE = 1
"""Of ``plan`` and ``drift``, where 2 says that there are changes."""

Options = dict[str, Any]


class PlanUsageError(click.UsageError):
    exit_code = USAGE_CODE


class PlanCommand(click.Command):
    """Its exit code 2 means a difference and nothing else, so that a gate in CI cannot mistake a typing error
    for one: usage and configuration errors end with 1 here."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise PlanUsageError(error.message, error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise PlanUsageError(error.message, error.ctx or ctx) from None
        except UserError as error:
            if error.exit_code == UserError.exit_code:
                error.exit_code = USAGE_CODE
            raise


def _document(command: F) -> F:
    """``-f FILE --var NAME=VALUE``."""
    for option in (
        click.option(
            "--var",
            "variables",
            multiple=True,
            metavar="NAME=VALUE",
            help="Replaces a value of [variables]. Repeatable.",
        ),
        click.option(
            "-f",
            "--file",
            "file",
            metavar="FILE",
            help="File that declares the resources: TOML, YAML or JSON.",
        ),
    ):
        command = option(command)
    return command


_PRUNE = click.option(
    "--prune", is_flag=True, help="Also delete what was managed once and is no longer in the file."
)


@click.command(cls=PlanCommand, short_help="Show what `apply` would change.")
@_document
@_PRUNE
@click.option("--out", metavar="FILE", help="Keep the plan, for `apply --plan FILE`.")
@control_options
def plan(file: str | None, variables: tuple[str, ...], prune: bool, out: str | None, **options: Any) -> None:
    """Compare a file with the resources, and show exactly what `ingestd apply` would do. Changes nothing.

    \b
    Examples:
      ingestd plan -f control.toml --region us-east-1
      ingestd plan -f control.toml --var stage=prod --out plan.json

    \b
    Exit codes: 0 nothing to do; 2 there are changes; 1 usage or configuration; 4 the API could not be
    reached or refused the login; 130 interrupted.
    """
    request = _request(file, variables, prune=prune)
    made = _make_plan(request, options, audited=True, out=Path(out) if out else None)
    _print_plan(made, as_json=options["as_json"])
    raise SystemExit(0 if made.is_empty else CHANGES_CODE)


@click.command(short_help="Make the control plane what a file says.")
@_document
@_PRUNE
@click.option(
    "--plan", "plan_file", metavar="FILE", help="Do what this plan says, unless resources have changed since."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@wait_option
@control_options
def apply(
    file: str | None,
    variables: tuple[str, ...],
    prune: bool,
    plan_file: str | None,
    yes: bool,
    **options: Any,
) -> None:
    """Create, change and delete what is needed, in the order of dependencies. Asks first.

    A failure stops only the resources that depend on it. Run an interrupted apply again: it continues where
    it stopped, and creates nothing twice.

    \b
    Examples:
      ingestd apply -f control.toml --region us-east-1
      ingestd apply -f control.toml --plan plan.json --yes --wait 5m

    \b
    Exit codes: 0 done, or nothing to do; 3 some of it failed; 2 usage or configuration, or
    resources have changed since the plan; 1 not confirmed; 4 the API could not be reached or refused the
    login; 130 interrupted.
    """
    from ingestd.app.control import plans

    intention = _request(file, variables, prune=prune)
    as_json = options["as_json"]
    shown = None
    if not yes:  # meanwhile nothing is locked: what has changed until the answer is noticed
        shown = _make_plan(intention, options)
        click.echo(shown.render(color=_color(sys.stderr)), err=True)
        if not shown.is_empty:
            click.confirm("Apply this?", abort=True, err=True)

    async def work(control: "Control") -> "ApplyResult":
        with showing_progress(quiet=as_json) as report:
            return await plans.apply(
                control,
                intention,
                shown=shown,
                plan_file=Path(plan_file) if plan_file else None,
                progress=_counting(report),
                on_plan=lambda made: None if shown or as_json else click.echo(_rendered(made)),
                on_step=lambda outcome: (
                    None if as_json else click.echo(_line(outcome), err=bool(outcome.error))
                ),
            )

    result = run_session(work, **options)
    if as_json:
        click.echo(json.dumps({"complete": result.is_complete, "steps": [_step(o) for o in result.outcomes]}))
    elif result.failed:
        count = len(result.failed)
        click.echo(
            f"ingestd: {count} of {len(result.outcomes)} not done: correct it, and apply again", err=True
        )
    raise SystemExit(0 if result.is_complete else FAILED_CODE)


@click.command(cls=PlanCommand, short_help="Tell whether the resources differ from a file.")
@_document
@_PRUNE
@control_options
def drift(file: str | None, variables: tuple[str, ...], prune: bool, **options: Any) -> None:
    """Compare resources with the file, and show what differs; with --prune also what is not in the file.

    \b
    Exit codes: 0 no difference; 2 there is one; 1 usage or configuration; 4 the API could not be
    reached or refused the login; 130 interrupted.
    """
    made = _make_plan(_request(file, variables, prune=prune), options)
    if options["as_json"] or not made.sends_nothing:
        _print_plan(made, as_json=options["as_json"])
    else:
        click.echo("no drift")
    raise SystemExit(0 if made.sends_nothing else CHANGES_CODE)


@click.command(short_help="Write a file of the existing resources.")
@click.option("-f", "--file", "file", metavar="FILE", help="File to write; without it, standard output.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this one, as target. Repeatable.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@control_options
def export(file: str | None, kinds: tuple[str, ...], force: bool, **options: Any) -> None:
    """Write the file that declares all existing resources, with stable names; a plan of it is empty.

    No API returns secrets: they are references that you have to fill in.
    """
    from ingestd.app.control import plans

    plans.check_kinds(kinds)

    async def work(control: "Control") -> str:
        with showing_progress(quiet=options["as_json"]) as report:
            return await plans.export(control, kinds, progress=_counting(report))

    text = run_session(work, **options)
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        with open(file, "w" if force else "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise UserError(f"{file} exists: give --force to overwrite it") from None
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None


# --- parts ---


def _request(file: str | None, variables: Sequence[str], *, prune: bool) -> "PlanRequest":
    """Raises UsageError or UserError."""
    if not file:
        raise click.UsageError("No file is given. Use -f FILE.")
    from ingestd.app.control.plans import PlanRequest

    return PlanRequest.read(file, parse_variables(variables), prune=prune)


def _make_plan(
    request: "PlanRequest", options: Options, *, audited: bool = False, out: Path | None = None
) -> "Plan":
    from ingestd.app.control import plans

    async def work(control: "Control") -> "Plan":
        with showing_progress(quiet=options["as_json"]) as report:
            return await plans.plan(control, request, progress=_counting(report), audited=audited, out=out)

    return run_session(work, **{name: value for name, value in options.items() if name != "wait"})


def _counting(report: ApplyProgress) -> Callable[[str, int], None]:
    return lambda kind, count: report(f"{count} {kind.replace('_', ' ')}s read")


def _print_plan(made: "Plan", *, as_json: bool) -> None:
    click.echo(json.dumps(made.as_json()) if as_json else _rendered(made))


def _rendered(made: "Plan") -> str:
    return made.render(color=_color(sys.stdout))


def _color(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def _line(outcome: "ApplyOutcome") -> str:
    change = outcome.change
    if outcome.ended == "done":
        return f"{change.action} {printable(change.label)}: done ({human_seconds(outcome.took_s)})"
    return f"{change.action} {printable(change.label)}: {outcome.ended}: {printable(outcome.error)}"


def _step(outcome: "ApplyOutcome") -> dict[str, Any]:
    return {
        **outcome.change.as_json(),
        "result": outcome.ended.value,
        "error": outcome.error or None,
        "seconds": round(outcome.took_s, 3),
    }
