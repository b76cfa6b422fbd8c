"""Logging in: where credentials come from, and that nobody sees them."""

from pathlib import Path

import pytest

from tests.event_api import EventApi, events, write
from tests.process.cli.support import Place
from tests.receiver import Action, Reply, Request, in_turn

pytestmark = pytest.mark.anyio

SECRET = "CANARY-secret-c3d4"
CANARIES = ("CANARY", "Q0FOQVJZ")  # as it is, and as it begins in base64


def words(place: Place, api: EventApi, source: Path, *more: object) -> list[object]:
    return [
        *("replay", source, "--api", api.url, "--token-url", api.url + "/oauth/token", *more),
        *("--state-dir", place.state, "--report", place.report_file),
    ]


def assert_no_secret(place: Place, *texts: str) -> None:
    found = [
        path for path in place.directory.rglob("*") if path.is_file() and "credentials" not in path.parts
    ]
    assert {"state.db", "audit.jsonl"} <= {path.name for path in found}
    for name, data in [(str(path), path.read_bytes()) for path in found] + [(t, t.encode()) for t in texts]:
        assert not any(canary.encode() in data for canary in CANARIES), name


@pytest.mark.parametrize("how", ["environment", "files", "configuration"])
async def test_credentials_come_from_environment_files_or_configuration(place: Place, how: str) -> None:
    source = write(place / "in.ndjson", events(3))
    (place / "credentials").mkdir()
    (place / "credentials" / "secret").write_text(SECRET + "\n")
    (place / "credentials" / "id").write_text("me\n")
    (place / "credentials" / "c.toml").write_text(f'[api]\nclient_id = "me"\nclient_secret = "{SECRET}"\n')
    more: list[object] = []
    if how == "environment":
        place.env = {"GENESYS_CLIENT_ID": "me", "GENESYS_CLIENT_SECRET": SECRET}
    elif how == "files":
        place.env = {
            "GENESYS_CLIENT_ID_FILE": str(place / "credentials" / "id"),
            "GENESYS_CLIENT_SECRET_FILE": str(place / "credentials" / "secret"),
        }
    else:
        more = ["--config", place / "credentials" / "c.toml"]
    async with EventApi() as api:
        done = await place.run(*words(place, api, source, *more))
    assert done.code == 0, done
    token, batch = api.requests
    assert (token.path, token.body) == ("/oauth/token", b"grant_type=client_credentials")
    assert token.headers["authorization"].startswith("Basic bWU6")
    assert batch.headers["authorization"] == "Bearer CANARY-token-a1b2"
    assert_no_secret(place, done.out, done.err)


async def test_a_refused_login_is_one_line_and_4_and_shows_no_secret(place: Place) -> None:
    source = write(place / "in.ndjson", events(3))
    place.env = {"GENESYS_CLIENT_ID": "someone", "GENESYS_CLIENT_SECRET": SECRET}

    def refuse(request: Request) -> Action:
        said = '{"error":"invalid_client","description":"wrong secret %s"}' % SECRET  # noqa: UP031
        return Reply(401, body=said.encode())

    async with EventApi(token=refuse) as api:
        done = await place.run(*words(place, api, source))
        assert done.code == 4
        assert len(done.said) == 1
        assert "refuses the login of client id some…: 401 invalid_client" in done.err
        assert api.batches == []
        assert_no_secret(place, done.out, done.err)
        assert place.report["exit_code"] == 4
        api.token = lambda request: Reply(body=b'{"access_token":"good"}')
        done = await place.run(*words(place, api, source))
    assert (done.code, place.report["delivered"]) == (0, 3)


async def test_a_token_that_is_refused_is_renewed_once_and_an_echo_of_it_is_masked(place: Place) -> None:
    source = write(place / "in.ndjson", events(3))
    place.env = {"GENESYS_CLIENT_ID": "me", "GENESYS_CLIENT_SECRET": SECRET}
    echo = Reply(400, body=b'{"message":"got Authorization: Bearer CANARY-token-a1b2 and did not like it"}')
    async with EventApi(in_turn(Reply(401), echo)) as api:
        done = await place.run(*words(place, api, source))
    assert done.code == 3, done
    assert [request.path for request in api.requests].count("/oauth/token") == 2
    refreshed = [entry for entry in place.audit() if entry["event"] == "TOKEN_REFRESHED"]
    assert len(refreshed) == 2
    assert all(entry["latency_ms"] >= 0 for entry in refreshed)
    assert len(place.letters()) == 3
    assert_no_secret(place, done.out, done.err)


async def test_a_login_host_that_is_not_there_ends_the_run_with_4(place: Place) -> None:
    source = write(place / "in.ndjson", events(3))
    place.env = {
        "GENESYS_CLIENT_ID": "me",
        "GENESYS_CLIENT_SECRET": SECRET,
        "INGESTD_DELIVERY_STARTUP_TIMEOUT": "1s",
    }
    async with EventApi() as gone:
        pass
    done = await place.run(*words(place, gone, source))
    assert (done.code, len(done.said)) == (4, 1), done
    assert_no_secret(place, done.out, done.err)
