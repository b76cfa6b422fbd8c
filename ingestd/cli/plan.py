"""``ingestd plan|apply|drift|export``: the control plane from a file. See ``planning.py``."""

from typing import Any

import click

from ingestd.cli.control_options import control_options, wait_option
from ingestd.cli.options import F

USAGE_CODE = 1
"""Of ``plan`` and ``drift``, where 2 says that there are changes."""


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
        from ingestd.core.errors import UserError

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
            help="Instead of the value in [variables]. Repeatable.",
        ),
        click.option("-f", "--file", "file", metavar="FILE", help="What there is to be: TOML, YAML or JSON."),
    ):
        command = option(command)
    return command


_PRUNE = click.option(
    "--prune", is_flag=True, help="Also delete what was taken up once and the file has no longer."
)


@click.command(cls=PlanCommand, short_help="Show what `apply` would change.")
@_document
@_PRUNE
@click.option("--out", metavar="FILE", help="Keep the plan, for `apply --plan FILE`.")
@control_options
def plan(file: str | None, variables: tuple[str, ...], prune: bool, out: str | None, **options: Any) -> None:
    """Compare a file with what there is, and show exactly what `ingestd apply` would do. Changes nothing.

    \b
    Examples:
      ingestd plan -f control.toml --region us-east-1
      ingestd plan -f control.toml --var stage=prod --out plan.json

    \b
    Exit codes: 0 nothing to do; 2 there are changes; 1 usage or configuration; 4 the API could not be
    reached or refused the login; 130 interrupted.
    """
    from ingestd.cli import planning

    code = planning.show_plan(_given(file), variables, options, prune=prune, out=out)
    raise SystemExit(code)


@click.command(short_help="Make the control plane what a file says.")
@_document
@_PRUNE
@click.option(
    "--plan", "plan_file", metavar="FILE", help="Do what this plan says, unless the world has moved."
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

    What fails holds up only what comes after it. An apply that was interrupted is run again, and goes on
    where it was: nothing is made twice.

    \b
    Examples:
      ingestd apply -f control.toml --region us-east-1
      ingestd apply -f control.toml --plan plan.json --yes --wait 5m

    \b
    Exit codes: 0 done, or nothing to do; 3 some of it failed; 2 usage or configuration, or the
    world has moved since the plan; 1 not confirmed; 4 the API could not be reached or refused the login;
    130 interrupted.
    """
    from ingestd.cli import planning

    code = planning.apply_file(_given(file), variables, options, prune=prune, plan_file=plan_file, yes=yes)
    raise SystemExit(code)


@click.command(cls=PlanCommand, short_help="Tell whether what there is differs from a file.")
@_document
@_PRUNE
@control_options
def drift(file: str | None, variables: tuple[str, ...], prune: bool, **options: Any) -> None:
    """Compare, and tell what somebody changed by hand; with --prune also what a file does not have.

    \b
    Exit codes: 0 no difference; 2 there is one; 1 usage or configuration; 4 the API could not be
    reached or refused the login; 130 interrupted.
    """
    from ingestd.cli import planning

    raise SystemExit(planning.show_drift(_given(file), variables, options, prune=prune))


@click.command(short_help="Write a file from what there is.")
@click.option("-f", "--file", "file", metavar="FILE", help="Where to; without it, standard output.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this one, as target. Repeatable.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@control_options
def export(file: str | None, kinds: tuple[str, ...], force: bool, **options: Any) -> None:
    """Write the file that declares all there is, with stable names; a plan of it is empty.

    No API answers secrets: they are references that have to be filled in.
    """
    from ingestd.cli import planning

    planning.export_file(file, kinds, options, force=force)


def _given(file: str | None) -> str:
    if not file:
        raise click.UsageError("which file? give -f FILE")
    return file
