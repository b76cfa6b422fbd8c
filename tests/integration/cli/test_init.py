"""``ingestd init`` writes a file that loads, says what it does, and replaces nothing."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingestd.cli.group import cli
from ingestd.config.commented import required_of, write_commented
from ingestd.config.settings import Settings
from ingestd.sinks.registry import SINK_TYPES
from tests.each import each
from tests.ports import free_port

URL = "http://127.0.0.1:9/in"


def init(*words: object, keys: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["init", *map(str, words)], input=keys)


def ports() -> list[str]:
    """Free ones, so that its check finds nothing."""
    return [f"--set={section}.listen=127.0.0.1:{free_port()}" for section in ("ingest", "admin")]


def test_every_setting_is_there_with_its_default_and_the_file_loads_with_all_of_them_uncommented() -> None:
    chosen = {("api", "region"): "eu-central-1", ("ingest", "nats", "main", "stream"): "S"}
    for kind, section in SINK_TYPES.items():
        place = ("sinks", kind.replace("_", "-"))
        chosen |= {(*place, name): "c" for name in required_of(section)}
        chosen |= {(*place, "type"): kind, (*place, "url"): URL if kind != "lake" else "lake"}
    text = write_commented(chosen)
    loaded = Settings.model_validate(tomllib.loads(text))
    assert set(loaded.sinks) == {kind.replace("_", "-") for kind in SINK_TYPES}
    bare = re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", text)
    assert len(bare) < len(text) - 150
    assert Settings.model_validate(tomllib.loads(bare)).model_dump() == loaded.model_dump()
    assert all(len(line) <= 110 for line in text.splitlines())
    assert "# most requests at the same time\n#max_in_flight = 5\n" in text


def test_a_setting_that_has_few_values_names_them() -> None:
    lines = write_commented({}).splitlines()
    assert "# lowest level that is logged; one of debug, info, warning, error" in lines
    assert "# sqlite: the state file of this process; nats: shared by edges and workers" in lines


def test_what_is_given_stands_in_the_file_and_it_says_what_to_do_next(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    done = init(
        file, "--sink", "webhook", f"--set=sinks.webhook.url={URL}", "--set=batch.max_events=7", *ports()
    )
    assert done.exit_code == 0, done.output
    assert f"next: ingestd run --config {file}\n" in done.output
    loaded = Settings.model_validate(tomllib.loads(file.read_text()))
    assert (loaded.batch.max_events, loaded.sinks["webhook"].url, loaded.state.dir) == (7, URL, "state")
    done = init(file, "--sink", "webhook")
    assert "is there already: choose another name, or replace it with --force" in str(done.exception)
    done = init(file, "--force", "--source", "replay", "--api", URL, "--no-auth", *ports())
    assert f"next: ingestd replay EVENTS --config {file}\n" in done.output
    assert "[sinks.webhook]" not in file.read_text()


@each(
    ("words", "said"),
    [
        (["--sink", "webhook"], "--set sinks.webhook.url=… is missing: URL that events go to"),
        ([], "--region or --api is missing: Region of Genesys Cloud, as eu-central-1"),
        (["--sink", "webhok"], "there is no webhok; there are: "),
        (["--source", "nats", "--no-auth"], "--set ingest.nats.main.stream=… is missing"),
        (["--region", "eu-central-1", "--set", "batch.max_evnts=1"], "did you mean max_events?"),
        (["--region", "eu-central-1", "--set", "batch.max_events=no"], "batch.max_events: "),
        (["--region", "eu-central-1", "--set", "max_events"], "write it as section.setting=VALUE"),
        (["--region", "eu-central-1", "--set", "sinks.crm.url=x"], "sinks.crm"),
    ],
)
def test_without_a_terminal_nothing_is_asked_and_nothing_written_that_does_not_load(
    words: list[str], said: str, tmp_path: Path
) -> None:
    done = init(tmp_path / "c.toml", *words)
    assert done.exit_code != 0
    assert said in done.output + str(done.exception)
    assert not (tmp_path / "c.toml").exists()


def test_on_a_terminal_it_asks_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.cli.init._is_terminal", lambda: True)
    for name in ("GENESYS_CLIENT_ID", "GENESYS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    keys = "http\njourney_events\nc-1\neu-central-1\n\n/run/secrets/it\n\n"
    done = init(tmp_path / "c.toml", *ports(), keys=keys)
    assert done.exit_code == 2, "the client id is not known"
    assert "correct what failed, then run: ingestd check --config" in done.output
    assert "no destination" not in done.output, "that one is known"
    loaded = Settings.model_validate(tomllib.loads((tmp_path / "c.toml").read_text()))
    assert loaded.sinks["journey_events"].configuration_id == "c-1"  # type: ignore[attr-defined]
    assert (loaded.api.region, loaded.api.client_secret_file) == ("eu-central-1", "/run/secrets/it")
