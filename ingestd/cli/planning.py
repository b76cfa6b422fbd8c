"""What ``plan``, ``apply``, ``drift``, ``export`` do once parsed. The work is in ``app/control/plans.py``."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ingestd.app.control import plans
from ingestd.app.control.plans import PlanRequest
from ingestd.app.control.session import Control
from ingestd.cli.control_options import run_session
from ingestd.cli.control_view import ApplyProgress, parse_variables, printable, showing_progress
from ingestd.control.engine import world
from ingestd.control.engine.apply import ApplyEnd, ApplyOutcome, ApplyResult
from ingestd.control.engine.change import QUIET, Action
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import Plan
from ingestd.control.engine.plan_file import save_plan
from ingestd.core.errors import UserError
from ingestd.core.units import human_seconds

CHANGES_CODE = 2
FAILED_CODE = 3
_NO_DRIFT = QUIET | {Action.REMEMBER}
"""What an apply would do without sending anything."""

Options = dict[str, Any]


def show_plan(file: str, variables: Sequence[str], options: Options, *, prune: bool, out: str | None) -> int:
    """The exit code."""
    made = _make_plan(PlanRequest.read(file, parse_variables(variables), prune=prune), options, audited=True)
    if out:
        save_plan(Path(out), made)
    _print_plan(made, as_json=options["as_json"])
    return 0 if made.is_empty else CHANGES_CODE


def show_drift(file: str, variables: Sequence[str], options: Options, *, prune: bool) -> int:
    """The exit code."""
    made = _make_plan(PlanRequest.read(file, parse_variables(variables), prune=prune), options)
    drifted = any(change.action not in _NO_DRIFT for change in made.changes)
    if options["as_json"] or drifted:
        _print_plan(made, as_json=options["as_json"])
    else:
        click.echo("no drift")
    return CHANGES_CODE if drifted else 0


def apply_file(
    file: str,
    variables: Sequence[str],
    options: Options,
    *,
    prune: bool,
    plan_file: str | None,
    yes: bool,
) -> int:
    """The exit code. A person is asked between two sessions: meanwhile nothing is locked, and what has
    changed until the answer is noticed."""
    intention = PlanRequest.read(file, parse_variables(variables), prune=prune)
    as_json = options["as_json"]
    shown = None
    if not yes:
        shown = _make_plan(intention, options)
        click.echo(shown.render(color=_color(sys.stderr)), err=True)
        if not shown.is_empty:
            click.confirm("Apply this?", abort=True, err=True)

    async def work(control: Control) -> ApplyResult:
        with showing_progress(quiet=as_json) as tell:
            return await plans.apply(
                control,
                intention,
                shown=shown,
                plan_file=Path(plan_file) if plan_file else None,
                progress=_counting(tell),
                on_plan=lambda made: None if shown or as_json else click.echo(_rendered(made)),
                on_step=lambda outcome: (
                    None if as_json else click.echo(_line(outcome), err=bool(outcome.said))
                ),
            )

    result = run_session(work, **options)
    if as_json:
        click.echo(json.dumps({"complete": result.is_complete, "steps": [_step(o) for o in result.outcomes]}))
    elif result.failed:
        count = len(result.failed)
        click.echo(
            f"ingestd: {count} of {len(result.outcomes)} not done: put it right, and apply again", err=True
        )
    return 0 if result.is_complete else FAILED_CODE


def export_file(file: str | None, kinds: Sequence[str], options: Options, *, force: bool) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise click.UsageError(f"--kind {kind[:80]}: there are: {', '.join(KINDS)}")

    async def work(control: Control) -> str:
        with showing_progress(quiet=options["as_json"]) as tell:
            return await plans.export(control, kinds, progress=_counting(tell))

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


def _make_plan(intention: PlanRequest, options: Options, *, audited: bool = False) -> Plan:
    async def work(control: Control) -> Plan:
        with showing_progress(quiet=options["as_json"]) as tell:
            made = await plans.plan(control, intention, progress=_counting(tell))
        if audited:
            control.context.note(made.step())
        return made

    return run_session(work, **{name: value for name, value in options.items() if name != "wait"})


def _counting(tell: ApplyProgress) -> world.Progress:
    return lambda kind, count: tell(f"{count} {kind}s read")


# --- what is told ---


def _print_plan(made: Plan, *, as_json: bool) -> None:
    click.echo(json.dumps(made.as_json()) if as_json else _rendered(made))


def _rendered(made: Plan) -> str:
    return made.render(color=_color(sys.stdout))


def _color(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def _line(outcome: ApplyOutcome) -> str:
    change = outcome.change
    if outcome.ended is ApplyEnd.DONE:
        return f"{change.action} {printable(change.label)}: done ({human_seconds(outcome.took_s)})"
    return f"{change.action} {printable(change.label)}: {outcome.ended}: {printable(outcome.said)}"


def _step(outcome: ApplyOutcome) -> dict[str, Any]:
    return {
        **outcome.change.as_json(),
        "result": outcome.ended.value,
        "error": outcome.said or None,
        "seconds": round(outcome.took_s, 3),
    }
