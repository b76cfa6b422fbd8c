"""A real service with a secret in every place, and APIs that quote all they were sent: nothing shows one."""

import base64
import json
import os
import signal
from pathlib import Path

import pytest

from tests.event_api import event, events
from tests.integration.app.test_secrets import seen
from tests.process.cli.run_support import post, starting
from tests.process.cli.support import Place
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

STATUSES = (422, 403, 503, 302, 401, 413, 418)
KINDS = ("login", "client", "apiuser", "apipass", "apiquery", "header", "bearer", "path", "query", "basic")
KINDS += ("user", "pass", "token", "signing", "callback", "producer", "later", "confirm", "granted")


def quoting(marks: dict[str, str]) -> Receiver:
    """Each answer has the whole request in it, spelled in several ways, and another status than the last."""

    def answer(request: Request) -> Reply:
        count = len(receiver.requests)
        if request.path.startswith("/oauth/token"):
            return Reply(body=json.dumps({"access_token": marks["granted"], "expires_in": 3600}).encode())
        if request.path.startswith("/asked?") and request.method == "POST":
            return Reply(202, body=b'{"id":"r-1"}')
        headers = json.dumps(dict(request.headers))
        told = {
            "message": f"headers {headers} url {request.path}",
            "errors": [{"index": 0, "message": f"you sent {headers} to http://h{request.path}"}],
            "encoded": base64.b64encode(headers.encode()).decode(),
        }
        where = f"http://elsewhere/{request.headers.get('authorization', '')}{request.path}"
        return Reply(STATUSES[count % len(STATUSES)], {"Location": where}, json.dumps(told).encode())

    receiver = Receiver(answer)
    return receiver


def configuration(place: Place, api: str, marks: dict[str, str]) -> Path:
    host = api.removeprefix("http://")
    (place / "token").write_text(marks["later"] + "\n")
    file = place / "ingestd.toml"
    file.write_text(f"""
[api]
url = "http://{marks["apiuser"]}:{marks["apipass"]}@{host}/main?key={marks["apiquery"]}"
token_url = "{api}/oauth/token?k={marks["login"]}"
client_id = "reader"
client_secret = "{marks["client"]}"
[sinks.login]
type = "ingest_api"
auth.type = "api"
[sinks.bearer]
type = "webhook"
url = "{api}/webhooks/{marks["path"]}/events"
headers = {{"X-Odd" = "{marks["header"]}"}}
auth.type = "bearer"
auth.token = "{marks["bearer"]}"
[sinks.basic]
type = "webhook"
url = "{api}/secret?sig={marks["query"]}"
secret_url = true
auth.type = "basic"
auth.username = "u"
auth.password = "{marks["basic"]}"
[sinks.signed]
type = "webhook"
url = "http://{marks["user"]}:{marks["pass"]}@{host}/signed?token={marks["token"]}"
auth.type = "standard_webhooks"
auth.secret = "whsec_{base64.b64encode(marks["signing"].encode()).decode()}"
[sinks.file]
type = "webhook"
url = "{api}/file"
auth.type = "header"
auth.header = "X-Other"
auth.token_file = "{place / "token"}"
[sinks.asked]
type = "cloudevents"
url = "{api}/asked?x=1"
auth.type = "none"
wrap.type = "t"
wrap.source = "s"
confirm.url = "{api}/asked/{{id}}?key={marks["confirm"]}"
confirm.initial_delay = "20ms"
confirm.requests_per_minute = 6000
[sinks.lake]
type = "lake"
url = "{place / "lake"}"
callback_url = "{api}/files/{marks["callback"]}"
file_age = "100ms"
[ingest]
listen = "127.0.0.1:0"
[ingest.producers.p]
token = "{marks["producer"]}"
[admin]
listen = "127.0.0.1:0"
[delivery]
min_retries_per_second = 100
[log]
format = "json"
[state]
dir = "{place.state}"
""")
    return file


async def test_nothing_that_a_service_says_or_keeps_has_a_secret_in_it(place: Place) -> None:
    marks = {kind: f"SEKRIT{number:02}{kind}Q{number:02}x9z8" for number, kind in enumerate(KINDS)}
    said: dict[str, str] = {}
    async with quoting(marks) as receiver:
        file = configuration(place, receiver.url, marks)
        async with starting(place, ["run", "--config", file]) as service:
            await service.listening()
            for number in range(4):
                one = await post(service.ingest_port, events(3, first=3 * number), token=marks["producer"])
                two = await post(service.ingest_port, [event(0)], token=marks["producer"] + "z")
                assert (one.status, two.status) == (202, 401)
                said[f"answers {number}"] = str((one, two))
            told = await service.until(
                lambda told: (
                    all(lane["ledger"]["requests"] for lane in told["lanes"])
                    and all(
                        lane["why"] or lane["ledger"]["dead_lettered"] or lane["ledger"]["confirming"]
                        for lane in told["lanes"]
                    )
                    and told["lakes"][0]["files"] > 0
                )
            )
            said["status"] = json.dumps(told)
            for path in ("/metrics", "/readyz", "/healthz"):
                said[path] = (await service.get(path)).body.decode()
            file.write_text(file.read_text().replace("secret_url = true", "secret_url = 7"))
            service.send(signal.SIGHUP)
            await service.said("the configuration stays as it was")
            file.write_text(file.read_text().replace("secret_url = 7", "secret_url = true"))
            said["log"] = (await service.stop()).err
    for name, words in {
        "list": place.dlq("list"),
        "export": place.dlq("export", "--json"),
        "config": ["config", "show", "--config", file],
        "check": ["check", "--online", "--config", file],
        "doctor": ["doctor", "--online", "--config", file, "--bundle", place / "report.json"],
    }.items():
        done = await place.run(*words)
        said[name] = done.out + done.err
    said["bug report"] = (place / "report.json").read_text()
    bad = place / "bad.toml"
    for wrong, right in (("ftp://", '[api]\nurl = "http://'), ("x = [", "[api]")):
        bad.write_text(
            file.read_text().replace(right, '[api]\nurl = "ftp://' if wrong == "ftp://" else wrong)
        )
        done = await place.run("run", "--config", bad)
        assert done.code == 2
        said[f"bad {wrong}"] = done.out + done.err
    kept = [place.state / name for name in os.listdir(place.state) if name != "ballast"]
    said["state"] = "".join(path.read_bytes().decode("latin-1") for path in kept)
    requests = "".join(f"{request.path} {dict(request.headers)}" for request in receiver.requests)
    assert set(seen(requests, marks.values())) >= {marks[k] for k in ("header", "bearer", "granted", "token")}
    for name, text in said.items():
        assert text, name
        assert seen(text, marks.values()) == [], (name, text[:2000])
    assert "***" in said["log"] + said["status"]
    assert place.letters()
