"""``ingestd run`` with a sink that is dead: it is told, costs the others nothing, and can be given up."""

import json
from pathlib import Path

import pytest

from tests.event_api import event, events
from tests.process.cli.run_support import post, starting, words
from tests.process.cli.support import Place
from tests.process.cli.test_run_reload import reloaded
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

CRM = "[sinks.crm]\ntype = 'webhook'\nurl = '{crm}/crm'\nauth = {{type = 'bearer', token = 'CANARY-token'}}\n"
HOOKS = "[sinks.hooks]\ntype = 'webhook'\nurl = '{hooks}/webhooks/CANARY/events'\n"


def configure(place: Place, text: str) -> Path:
    path = place / "ingestd.toml"
    path.write_text(text)
    return path


async def test_a_dead_sink_leaves_the_service_ready_and_is_told_and_can_be_given_up(place: Place) -> None:
    status = 503

    def dead(request: Request) -> Reply:
        return Reply(status, {"Retry-After": "0"}, b'{"code":"away","detail":"of %d"}' % status)

    async with Receiver(dead) as crm, Receiver() as hooks:
        both = (CRM + HOOKS).format(crm=crm.url, hooks=hooks.url)
        file = configure(place, both)
        async with starting(place, words(place, crm.url, "--config", file)) as service:
            await service.listening()
            assert (await post(service.ingest_port, events(5))).status == 202
            told = await service.until(lambda told: told["lanes"][1]["ledger"]["delivered"] == 5)
            assert [(lane["name"], lane["type"]) for lane in told["lanes"]] == [
                ("crm", "webhook"),
                ("hooks", "webhook"),
            ]
            assert told["lanes"][0]["ledger"]["in_flight"] == told["ledger"]["in_flight"] == 5
            assert told["lanes"][1]["url"] == f"{hooks.url}/***"
            told = await service.until(lambda told: told["lanes"][0]["circuit"] != "closed")
            assert "503" in told["lanes"][0]["why"]
            assert (told["ready"], told["lanes"][1]["circuit"]) == (True, "closed")
            assert await service.reasons() == []
            assert await service.metric("ingestd_circuit_closed", sink="crm") == 0
            assert "CANARY" not in str(told)
            status = 401  # each reason is told, not the first one only; as fields, without JSON in JSON
            for known in (503, 401):
                said = await service.said(f"no events are lost: {'the API' if known == 401 else known}")
                assert (said["sink"], said["status"]) == ("crm", known)
                assert said["reason"].endswith(f"code: away, detail: of {known}")
            assert "{" not in "".join(one["message"] for one in service.log)

            done = await place.run("spool", "park", "crn", "--state-dir", place.state)
            assert (done.code, "did you mean crm?" in done.err) == (2, True), done
            parked = await place.run("spool", "park", "crm", "--state-dir", place.state)
            assert parked.out == "crm is parked\n"
            await service.said("crm: parked, its events wait in the spool: by a person")
            assert (await service.status())["lanes"][0]["parked"] == "person"
            assert await service.metric("ingestd_sink_parked", sink="crm") == 1
            stat = await place.run("spool", "stat", "--state-dir", place.state)
            assert "crm: parked for " in stat.out
            resumed = await place.run("spool", "resume", "crm", "--state-dir", place.state)
            assert resumed.out == "crm is resumed\n"
            await service.said("crm: not parked any more (after ")

            beside = await place.run("spool", "forget", "crm", "--yes", "--state-dir", place.state)
            assert (beside.code, "stop it first" in beside.err) == (2, True), beside

            changed = both.replace("[sinks.hooks]", "max_in_flight = 2\n[sinks.hooks]") + CRM.replace(
                "sinks.crm", "sinks.new"
            ).format(crm=crm.url)
            configure(place, changed)
            assert (await reloaded(service))["needs_restart"] == ["sinks.crm.max_in_flight", "sinks.new"]
            await service.stop()
        changed = [one for one in place.audit() if one["event"] == "LANE_CHANGED"]
        assert [(one["state"], one["status"]) for one in changed[:2]] == [("open", 503), ("paused", 401)]

        configure(place, HOOKS.format(hooks=hooks.url))
        async with starting(place, words(place, crm.url, "--config", file)) as service:
            done = await service.finish()
        assert done.code == 2
        left = "sink crm is no longer configured, but 1 chunk of the spool waits for it"
        assert left in done.err
        checked = await place.run("check", "--config", file, "--state-dir", place.state)
        assert (checked.code, left in checked.out) == (2, True), checked

        stat = await place.run("spool", "stat", "--json", "--state-dir", place.state)
        assert [(s["name"], s["chunks_behind"]) for s in json.loads(stat.out)["sinks"]] == [
            ("crm", 1),
            ("hooks", 0),
        ]
        forgotten = await place.run("spool", "forget", "crm", "--yes", "--state-dir", place.state)
        assert forgotten.out.startswith("dropped up to 5 events of sink ")
        async with starting(place, words(place, crm.url, "--config", file)) as service:
            await service.listening()
            assert (await post(service.ingest_port, [event(9)])).status == 202
            await service.until_empty()
            await service.stop()
        # without order_by requests that are out together arrive in any order
        assert sorted(request.body for request in hooks.requests) == sorted([*events(5), event(9)])
