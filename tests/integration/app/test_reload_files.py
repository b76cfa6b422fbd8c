"""Every setting that names a file: what is written there is in use without a restart."""

from pathlib import Path
from typing import Any, get_origin

import pytest
import trustme

from ingestd.config import Settings, find_login
from ingestd.config.ingest_section import ProducerConfig
from ingestd.core.clock import SystemClock
from ingestd.core.section import Section
from ingestd.sinks.registry import SINK_TYPES
from ingestd.sinks.webhook import WebhookSink
from ingestd.wiring.pipeline import open_pipeline

pytestmark = pytest.mark.anyio

AT_SIGHUP = {
    *("ingest.tls.cert_file", "ingest.tls.key_file", "ingest.tls.client_ca_file"),
    *("producers.token_file", "producers.webhook_secret_file"),
    *("producers.password_file", "producers.api_key_file", "producers.client_secret_file"),
}
"""By ``app/reload.py``: tests/process/cli/test_run_reload.py."""
WATCHED = {
    *("api.client_id_file", "api.client_secret_file", "api.ca_file"),
    *("sinks.auth.token_file", "sinks.auth.password_file", "sinks.auth.client_secret_file"),
    "sinks.auth.client_id_file",
    *("sinks.auth.secret_file", "sinks.url_file", "sinks.callback_secret_file"),
}
AT_START = {"audit.key_file", "tracing.token_file", "tracing.ca_file"}
"""Read once: a log that is open keeps its key, and so does who sends spans."""
AT_CONNECT = {
    *("spool.ca_file", "spool.cert_file", "spool.key_file", "spool.creds_file", "spool.nkey_file"),
    *("spool.password_file", "spool.token_file"),
}
"""Read for each connection, and there is a new one whenever one is lost."""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def file_settings(model: type[Section], above: str = "") -> set[str]:
    """The places of all settings that name a file; tables by name are walked apart."""
    found = set()
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found |= file_settings(inner, f"{above}{name}.")
        elif name.endswith("_file") and get_origin(inner) is not dict:
            found.add(above + name)
    return found


def test_no_setting_is_forgotten_here() -> None:
    found = file_settings(Settings) | file_settings(ProducerConfig, "producers.")
    for sink in SINK_TYPES.values():
        found |= file_settings(sink, "sinks.")
    assert found == AT_SIGHUP | WATCHED | AT_START | AT_CONNECT


def configuration(place: Path) -> dict[str, Any]:
    """One that uses each of ``WATCHED``."""
    trustme.CA().cert_pem.write_to_path(str(place / "ca_file"))

    def file(name: str, text: str) -> str:
        (place / name).write_text(text)
        return str(place / name)

    def hook(name: str, **auth: str) -> dict[str, Any]:
        return {"type": "webhook", "url": f"http://127.0.0.1:9/{name}", "auth": auth}

    return {
        "api": {
            "url": "http://127.0.0.1:9",
            "token_url": "http://127.0.0.1:9/token",
            "client_id_file": file("client_id_file", "id"),
            "client_secret_file": file("client_secret_file", "secret"),
            "ca_file": str(place / "ca_file"),
        },
        "sinks": {
            "api": {"type": "ingest_api"},
            "bearer": hook("a", type="bearer", token_file=file("token_file", "token-1")),
            "basic": hook("b", type="basic", username="u", password_file=file("password_file", "word")),
            "signed": hook("c", type="standard_webhooks", secret_file=file("secret_file", SECRET)),
            "oauth": hook(
                "d",
                type="oauth2",
                client_id_file=file("own_client_id_file", "id"),
                token_url="http://127.0.0.1:9/t",
                client_secret_file=file("own_client_secret_file", "secret"),
            ),
            "moved": {"type": "webhook", "url_file": file("url_file", "http://127.0.0.1:9/first")},
            "files": {
                "type": "lake",
                "url": str(place / "lake"),
                "callback_url": "http://127.0.0.1:9/told",
                "callback_secret_file": file("callback_secret_file", SECRET),
            },
        },
    }


async def test_each_is_watched_and_taken_over(tmp_path: Path) -> None:
    settings = Settings.model_validate(configuration(tmp_path))
    said: list[str] = []
    async with open_pipeline(
        settings,
        find_login(settings),
        tmp_path / "state",
        clock=SystemClock(),
        warn=said.append,
        patient=True,
    ) as pipeline:
        watched = {path.name for files in pipeline.watch._files for path in files.paths}
        expected = {place.rpartition(".")[2] for place in WATCHED}
        expected |= {"own_client_secret_file", "own_client_id_file"}
        assert watched == expected
        (moved,) = [runner.sink for runner in pipeline.runners if runner.name == "moved"]
        assert isinstance(moved, WebhookSink)
        (tmp_path / "url_file").write_text("http://127.0.0.1:9/second/")
        (tmp_path / "token_file").write_text("not one word")
        pipeline.watch.look()
        assert moved.url == "http://127.0.0.1:9/second/"
        assert len(said) == 1
        assert "token of" in said[0]
        assert "stays as it was" in said[0]
        (tmp_path / "url_file").write_text("no url with CANARY in it")
        pipeline.watch.look()
        assert moved.url == "http://127.0.0.1:9/second/"
        assert "url_file stays as it was" in said[1]
        assert "CANARY" not in said[1]
