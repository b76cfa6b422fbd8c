"""SIGHUP: what can change safely changes at once, or everything stays as it was."""

import signal
import ssl
from datetime import datetime
from pathlib import Path

import pytest
import trustme

from tests.event_api import event, events
from tests.process.cli.run_support import LOST, Keeper, Serving, Told, post, producer, serve, told
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio

OLD, NEW = "an-old-token-of-the-shop", "a-new-token-of-the-shop"


class Configuration:
    """The file, and the file of the one producer's token."""

    def __init__(self, place: Place) -> None:
        self.file = place / "ingestd.toml"
        self.token_file = place / "shop.token"
        self.token_file.write_text(OLD)
        self.write("")

    def write(self, more: str) -> None:
        self.file.write_text(f"{more}\n[ingest.producers.shop]\ntoken_file = '{self.token_file}'\n")


async def reloaded(serving: Serving) -> Told:
    """Send SIGHUP; gives ``config`` of the status once it was heard."""
    before = (await serving.status())["config"]
    serving.send(signal.SIGHUP)
    after = await serving.until(
        lambda told: (
            told["config"]["reloads"] + told["config"]["failed_reloads"]
            > before["reloads"] + before["failed_reloads"]
        )
    )
    found: Told = after["config"]
    assert datetime.fromisoformat(found["last_success"]).tzinfo
    return found


async def test_a_new_token_is_good_and_the_old_one_is_not_after_a_reload(place: Place) -> None:
    configuration = Configuration(place)
    async with Keeper() as api, serve(place, api, "--config", configuration.file) as serving:
        port = serving.ingest_port
        async with producer(port, token=OLD) as kept:
            await kept.give(events(1))
            assert (await post(port, events(1), token=NEW)).status == 401
            configuration.token_file.write_text(NEW)
            assert (await post(port, events(1), token=NEW)).status == 401  # not before it is asked to
            config = await reloaded(serving)
            assert (config["last_ok"], config["last_error"], config["reloads"]) == (True, None, 1)
            assert (await kept.post(events(1, first=5))).status == 401  # also where it was good before
        async with producer(port, token=NEW) as one:
            await one.give(events(1, first=10))
        assert await serving.metric("ingestd_config_reloads_total", result="ok") == 1
        done = await serving.until_empty()
    assert done["ledger"]["accepted"] == 2


BAD = [
    ("[ingest]\nmax_bdoy = 5\n", "ingest.max_bdoy; did you mean max_body?"),
    ("[ingest\n", "is not TOML"),
    ("[schema]\nname = 'gone.json'\n", "gone.json"),
    ("[log]\nlevel = 'loud'\n", "log.level"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said for _, said in BAD])
async def test_a_bad_configuration_is_told_and_changes_nothing(place: Place, text: str, said: str) -> None:
    configuration = Configuration(place)
    async with Keeper() as api, serve(place, api, "--config", configuration.file) as serving:
        configuration.token_file.write_text(NEW)  # good by itself, and still not taken over
        configuration.write(text)
        config = await reloaded(serving)
        assert said in config["last_error"]
        assert (config["last_ok"], config["reloads"], config["failed_reloads"]) == (False, 0, 1)
        metrics = await serving.metrics()
        assert metrics["ingestd_config_reloads_total", frozenset({("result", "failed")})] == 1
        assert metrics["ingestd_config_last_reload_successful", frozenset()] == 0
        assert said in (await serving.said("the configuration stays as it was"))["message"]
        async with producer(serving.ingest_port, token=OLD) as one:
            await one.give(events(1))
        configuration.write("")
        config = await reloaded(serving)
        assert (config["last_ok"], config["last_error"]) == (True, None)
        assert (await post(serving.ingest_port, events(1), token=OLD)).status == 401
        await serving.stop()


async def test_a_token_that_is_too_short_is_told_without_the_token(place: Place) -> None:
    configuration = Configuration(place)
    async with Keeper() as api, serve(place, api, "--config", configuration.file) as serving:
        configuration.token_file.write_text("CANARY-short")
        config = await reloaded(serving)
        assert str(configuration.token_file) in config["last_error"]
        assert "CANARY" not in str(await serving.status())
        async with producer(serving.ingest_port, token=OLD) as one:
            await one.give(events(1))
        assert "CANARY" not in (await serving.stop()).err


async def test_what_only_a_restart_takes_over_is_named(place: Place) -> None:
    configuration = Configuration(place)
    async with Keeper() as api, serve(place, api, "--config", configuration.file) as serving:
        configuration.write(
            "[delivery]\nmax_in_flight = 9\n[letters]\nretry = false\n[spool]\nmax_bytes = '9MB'"
        )
        config = await reloaded(serving)
        assert config["last_ok"]
        assert sorted(config["needs_restart"]) == ["delivery.max_in_flight", "letters.retry"]
        said = (await serving.said("only a restart takes it over"))["message"]
        assert "delivery.max_in_flight" in said
        assert (await serving.status())["spool"]["max_bytes"] == 9_000_000
        configuration.write("")
        assert (await reloaded(serving))["needs_restart"] == []


async def test_the_level_of_the_log_changes(place: Place) -> None:
    configuration = Configuration(place)
    async with Keeper() as api, serve(place, api, "--config", configuration.file) as serving:
        configuration.write("[log]\nlevel = 'error'")
        await reloaded(serving)
        assert serving.log[-1]["message"] == "listening"
        configuration.write("[log]\nlevel = 'info'")
        await reloaded(serving)
        await serving.said("the configuration was read again")


async def test_another_schema_holds_after_a_reload(place: Place) -> None:
    configuration = Configuration(place)
    schema = place / "order.json"
    order = b'{"id": "o-1", "sum": 3}'
    async with Keeper() as api, serve(place, api, "--config", configuration.file) as serving:
        async with producer(serving.ingest_port, token=OLD) as one:
            assert (await one.post([order])).status == 422
            schema.write_text('{"type": "object", "required": ["id"]}')
            configuration.write(f"[schema]\nname = '{schema}'\ndedup_key = 'id'")
            assert (await reloaded(serving))["last_error"] is None
            await one.give([order])
            assert told(await one.post([order]))["duplicates"] == 1
            schema.write_text('{"type": "object", "required": ["id", "currency"]}')  # the same name
            await reloaded(serving)
            refused = await one.post([b'{"id": "o-2", "sum": 3}'])
            assert (refused.status, b"currency" in refused.body) == (422, True)
        await serving.until_empty()
    assert api.kept == [order]


def _issue(authority: trustme.CA, directory: Path) -> tuple[Path, Path]:
    certificate = authority.issue_cert("localhost")
    files = directory / "tls.pem", directory / "tls.key"
    certificate.cert_chain_pems[0].write_to_path(str(files[0]))
    certificate.private_key_pem.write_to_path(str(files[1]))
    return files


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("signalled", [True, False], ids=["signal", "files changed"])
async def test_a_new_certificate_is_shown_to_new_clients_while_the_old_ones_go_on(
    place: Place, signalled: bool
) -> None:
    old, new = trustme.CA(), trustme.CA()
    certificate, secret = _issue(old, place.directory)
    env = {"INGESTD_INGEST_TLS_CERT_FILE": str(certificate), "INGESTD_INGEST_TLS_KEY_FILE": str(secret)}
    async with Keeper() as api, serve(place, api, env=env) as serving:
        async with producer(serving.ingest_port, tls=_trusting(old)) as kept:
            await kept.give([event(1)])
            secret.write_text("not a key")
            if signalled:
                assert str(secret) in (await reloaded(serving))["last_error"]
            await serving.said("stays as it was")
            async with producer(serving.ingest_port, tls=_trusting(old)) as one:
                await one.give([event(2)])
            _issue(new, place.directory)
            if signalled:
                await reloaded(serving)
            else:
                await serving.said("TLS certificate reloaded")
            async with producer(serving.ingest_port, tls=_trusting(new)) as one:
                await one.give([event(3)])
            with pytest.raises(LOST):
                async with producer(serving.ingest_port, tls=_trusting(old)):
                    pass
            await kept.give([event(4)])
        await serving.until_empty()
    assert len(api.kept) == 4
