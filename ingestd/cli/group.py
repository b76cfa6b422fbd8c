"""``ingestd``: the group of commands. Each is imported when it is called, so that ``--help`` is quick."""

import importlib

import click

from ingestd import __version__

# section of the help text -> name -> (module, one line of help)
_SECTIONS = {
    "Send": {
        "replay": ("ingestd.cli.replay", "Send the events of files or standard input to the event API."),
        "run": ("ingestd.cli.run", "Take events over HTTP, keep them on disk, deliver them."),
        "publish": ("ingestd.cli.publish", "Send one CloudEvent by hand, and show what becomes of it."),
    },
    "Look and correct": {
        "dlq": ("ingestd.cli.dlq", "Look into the dead letters, correct them, send them again."),
        "top": ("ingestd.cli.top", "Watch a running service: rates, sinks, spool, dead letters."),
        "where": ("ingestd.cli.where", "Tell where an event is, and what became of it."),
        "tap": ("ingestd.cli.tap", "Look at events of a running service as they pass."),
        "spool": ("ingestd.cli.spool", "Look into the spool of `ingestd run`."),
        "workers": ("ingestd.cli.workers", "Show who owns what of a spool on NATS."),
        "audit": ("ingestd.cli.audit", "Look into the audit file, and check that nobody changed it."),
    },
    "Set up": {
        "init": ("ingestd.cli.init", "Write a commented configuration to begin with, and check it."),
        "check": ("ingestd.cli.check", "Look at configuration, files, ports and disk before a start."),
        "doctor": ("ingestd.cli.doctor", "Tell what is wrong here or at the API, and write a bug report."),
        "config": ("ingestd.cli.config", "Show the effective settings, or what can be set."),
        "routes": ("ingestd.cli.routes", "Show which sinks an event reaches, and why."),
        "test": ("ingestd.cli.test", "Run the tests of a configuration: what each sink gets of an event."),
        "completion": ("ingestd.cli.completion", "Complete commands and options in bash, zsh or fish."),
        "man": ("ingestd.cli.completion", "Print the manual page."),
    },
    "Remote resources": {
        "targets": ("ingestd.cli.resources", "HTTPS endpoints that get events, one at a time."),
        "destinations": ("ingestd.cli.resources", "Partner event buses that get events, one at a time."),
        "subscriptions": ("ingestd.cli.resources", "Subscriptions to topics, one at a time."),
        "integrations": ("ingestd.cli.resources", "Amazon EventBridge integrations, one at a time."),
        "webhooks": ("ingestd.cli.resources", "Webhooks that take events, one at a time."),
        "triggers": ("ingestd.cli.resources", "Process automation triggers, one at a time."),
        "scheduled-triggers": ("ingestd.cli.resources", "Triggers that fire by a clock, one at a time."),
        "presence-sources": ("ingestd.cli.resources", "Sources of presence events, one at a time."),
        "journey-schemas": ("ingestd.cli.resources", "Schemas of external journey events, one at a time."),
        "journey-configurations": (
            "ingestd.cli.resources",
            "Where external journey events are sent, one at a time.",
        ),
        "plan": ("ingestd.cli.plan", "Show what `apply` would change in the control plane."),
        "apply": ("ingestd.cli.plan", "Make the control plane what a file says."),
        "drift": ("ingestd.cli.plan", "Tell whether the control plane differs from a file."),
        "export": ("ingestd.cli.plan", "Write a file of the existing resources of the control plane."),
    },
    "Try": {
        "sandbox": ("ingestd.cli.sandbox", "A local fake of the event APIs, with fault injection."),
        "demo": ("ingestd.cli.demo", "Replay a sample into the sandbox, and print the ledger."),
    },
}
_COMMANDS = {name: found for section in _SECTIONS.values() for name, found in section.items()}


class LazyGroup(click.Group):
    """Knows its commands by name and loads the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, which proposes only commands that are loaded."""
        asked = args[0]
        if asked not in _COMMANDS and not asked.startswith("-") and not ctx.resilient_parsing:
            from ingestd.core.text import did_you_mean, printable

            meant = did_you_mean(asked, _COMMANDS)
            ctx.fail(
                f"No such command '{printable(asked)}'." + (f" Did you mean '{meant}'?" if meant else "")
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in _SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="ingestd")
def cli() -> None:
    """Gets every event to where it belongs, once.

    \b
    Try it:     ingestd demo
    Replay:     ingestd replay events.ndjson.gz --region us-east-1
    Pipe:       zcat old/*.gz | ingestd replay - --api https://api.example.com
    Look into:  ingestd dlq list

    \b
    Exit codes: 0 all delivered (duplicates included); 2 usage or configuration; 3 finished, but some
    events were rejected or dead-lettered, or none had the key of deduplication or order; 4 the
    API could not be reached or refused the login; 1 a fault of this machine, such as a full disk; 130
    interrupted after a clean drain.
    """
