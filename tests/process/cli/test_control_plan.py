"""``plan``, ``apply``, ``drift``, ``export`` against a sandbox process."""

import json
import tomllib

import click
import pytest

from ingestd.control.engine.kinds import KINDS
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Sandbox
from tests.process.cli.control_support import BUS, CANARY, TABLES, Plane, as_words
from tests.process.cli.control_support import plane as plane
from tests.process.cli.control_support import sandbox_url as sandbox_url
from tests.process.cli.support import Place, until

# --- from a file ---


ALL = """
[variables]
base = "http://127.0.0.1:9"

[target.orders]
endpoint_url = "${base}/hooks/orders"
event_types = ["order.created"]
auth = { type = "BASIC", username = "env:ORDERS_USERNAME", password = "env:ORDERS_PASSWORD" }

[destination.bus]
event_bus_arn = "BUS"
event_types = ["order.created"]
after = ["integration.platform"]

[integration.platform]
aws_account_id = "123456789012"
aws_region = "us-west-2"
suffix = "orders"
event_filter = ["v2.users.{id}.presence"]

[trigger.chat]
topic_name = "v2.detail.events.conversation.{id}.customer.end"
workflow_id = "ae1e0cde-875d-4d13-a498-615e7a9fe956"
after = ["integration.platform"]

[subscription.queue]
topic_arn = "arn:aws:events:us-east-1:123456789012:topic/genesys-cx-events"
role_arn = "arn:aws:iam::123456789012:role/events"
filter_policy = { eventType = ["routing.contact.queued"] }
""".replace("BUS", BUS)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_USERNAME", "relay")
    monkeypatch.setenv("ORDERS_PASSWORD", CANARY)


@pytest.mark.usefixtures("login")
def test_plan_apply_drift_and_export_go_round(plane: Plane) -> None:
    file = plane.write(ALL)
    first = plane("plan", "-f", file)
    assert (first.code, first.err) == (2, "")
    assert "Plan: 5 to create." in first.out
    assert plane("drift", "-f", file).code == 2
    assert plane("apply", "-f", file, given="n\n").code == 1
    assert plane.ask("control") == {f"{kind}s": [] for kind in KINDS if kind != "webhook"}

    done = plane("apply", "-f", file, given="y\n")
    assert (done.code, done.out.count(": done (")) == (0, 5), done.err
    order = [line.split()[1] for line in done.out.splitlines()]
    assert order.index("integration.platform:") < order.index("destination.bus:")
    assert plane("plan", "-f", file).out == "Nothing to do: 5 unchanged.\n"
    assert plane("plan", "-f", file).code == plane("drift", "-f", file).code == 0
    assert json.loads(plane("apply", "-f", file, "--yes", "--json").out) == {"complete": True, "steps": []}

    exported = plane("export").out
    assert {kind: list(tables) for kind, tables in tomllib.loads(exported).items()} == {
        "integration": ["platform"],
        "target": ["orders"],
        "destination": ["bus"],
        "subscription": ["queue"],
        "trigger": ["chat"],
    }
    assert plane("export").out == exported
    target = plane.directory / "exported.toml"
    assert plane("export", "-f", str(target)).code == 0
    assert plane("export", "-f", str(target)).err.endswith("exists: give --force to overwrite it\n")
    assert plane("drift", "-f", str(target)).out == "no drift\n"
    assert plane("export", "--kind", "trigger").out.count("[trigger.") == 1
    assert plane("audit", "verify", "--state-dir", str(plane.state), sandbox=False).code == 0


@pytest.mark.usefixtures("login")
def test_what_somebody_changed_by_hand_is_drift_and_the_next_apply_takes_it_back(plane: Plane) -> None:
    file = plane.write(ALL)
    assert plane("apply", "-f", file, "--yes").code == 0
    assert plane("subscriptions", "update", "queue", "--set", "enabled=false").code == 0
    found = plane("drift", "-f", file, "--json")
    assert found.code == 2
    (change,) = found.json["changes"]
    assert (change["name"], change["fields"]) == (
        "queue",
        [{"path": "enabled", "before": False, "after": True}],
    )
    assert plane("apply", "-f", file, "--yes").code == 0
    assert plane("drift", "-f", file).code == 0


def test_a_plan_that_was_kept_is_refused_once_the_world_has_moved(plane: Plane) -> None:
    file, kept = plane.write(declare_toml("orders")), str(plane.directory / "plan.json")
    assert plane("plan", "-f", file, "--out", kept).code == 2
    assert plane("targets", "create", "orders", *as_words(TABLES["target"])).code == 0
    late = plane("apply", "-f", file, "--plan", kept, "--yes")
    assert late.code == 2
    assert "changed since" in late.err
    plane("targets", "delete", "orders", "--yes")
    assert plane("apply", "-f", file, "--plan", kept, "--yes").code == 0


def test_what_changes_while_a_person_is_asked_is_noticed(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = plane.write(declare_toml("orders"))

    def answer(*words: object, **options: object) -> bool:
        return plane("targets", "create", "orders", *as_words(TABLES["target"])).code == 0

    monkeypatch.setattr(click, "confirm", answer)
    late = plane("apply", "-f", file)
    assert late.code == 2
    assert late.err.endswith(
        "The resources changed since the plan was shown. Nothing was done; apply again.\n"
    )
    assert plane.there("targets")[0]["eventTypes"] == ["order.created"]


def declare_toml(*names: str, more: str = "") -> str:
    return "".join(
        f'[target.{name}]\nendpoint_url = "http://127.0.0.1:9/{name}"\nevent_types = ["a"]\n{more}\n'
        for name in names
    )


def test_what_the_file_has_no_longer_goes_and_what_is_protected_stays(plane: Plane) -> None:
    file = plane.write(declare_toml("orders", "bills", more="protected = true"))
    assert plane("apply", "-f", file, "--yes").code == 0
    by_hand = plane("targets", "delete", "orders", "--yes")
    assert by_hand.code == 2
    assert "target orders is protected" in by_hand.err
    file = plane.write(declare_toml("bills", more="protected = true"))
    refused = plane("apply", "-f", file, "--yes")
    assert refused.code == 3
    assert "protected" in refused.err
    assert len(plane.there("targets")) == 2
    assert plane("apply", "-f", plane.write(declare_toml("orders", "bills")), "--yes").code == 0
    assert plane("apply", "-f", plane.write(declare_toml("bills")), "--yes").code == 0
    assert [one["name"] for one in plane.there("targets")] == ["bills"]


def test_what_fails_holds_up_nothing_else_and_ends_with_3(plane: Plane) -> None:
    plane.ask("faults", ["integration-error:1"])
    done = plane(
        "apply",
        "-f",
        plane.write(ALL.replace("env:ORDERS_", "env:HOOK_").replace("USERNAME", "PASSWORD")),
        "--yes",
    )
    assert done.code == 3
    assert "integration.platform: failed" in done.err
    assert "destination.bus: skipped" in done.err
    assert "target.orders: done" in done.out
    plane.ask("faults", [])
    assert plane("apply", "-f", str(plane.file), "--yes").code == 0
    assert [len(one) for one in plane.ask("control").values() if one] == [1] * 5


def test_a_file_serves_several_environments(plane: Plane) -> None:
    file = plane.write(
        '[variables]\nstage = "dev"\n' + declare_toml("orders").replace("/orders", "/${stage}")
    )
    assert plane("apply", "-f", file, "--var", "stage=prod", "--yes").code == 0
    assert plane.there("targets")[0]["endpointUrl"].endswith("/prod")
    assert "there is none in [variables]" in plane("plan", "-f", file, "--var", "stagee=x").err
    assert plane("plan", "-f", file, "--var", "stage").code == 1


@pytest.mark.usefixtures("login")
def test_no_secret_comes_out_anywhere(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plane.write(ALL)
    plane("plan", "-f", file, "--out", str(plane.directory / "plan.json"))
    plane("apply", "-f", file, "--yes", "--json")
    monkeypatch.setenv("ORDERS_PASSWORD", f"{CANARY}-2")
    assert "auth.password (secret changed)" in plane("plan", "-f", file).out
    quoted = json.dumps({"message": f"password {CANARY}-2 is too short", "code": "bad"})
    failed = json.dumps({"status": "FAILED", "error": f"the endpoint refused {CANARY}-2"})
    path = "/api/v2/integrations/eventbridge/targets/{id}"
    for place, answer in (
        (f"PUT {path}", {"status": 400, "body": quoted}),
        (f"GET {path}/verify", {"status": 200, "body": failed}),
    ):
        script = [{"match": {"path": place, "nth": 1}, "answer": answer}]
        plane.ask("faults", {"faults": [], "script": script})
        assert "***" in plane("apply", "-f", file, "--yes").err
    plane.ask("faults", [])
    assert plane("apply", "-f", file, "--yes").code == 0
    for words in (("export",), ("targets", "show", "orders"), ("targets", "list", "--json")):
        plane(*words)
    assert [said for said in plane.said if CANARY in said] == []
    files = [path for path in plane.directory.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"control.json", "audit.jsonl", "plan.json"}
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


@pytest.mark.anyio
async def test_an_apply_that_is_killed_is_run_again_and_makes_nothing_twice(place: Place) -> None:
    names = [f"orders-{number:02}" for number in range(20)]  # more than are made between two looks
    file = place / "control.toml"
    file.write_text(declare_toml(*names))
    async with Sandbox(SandboxOptions(latency_s=0.02)).serve() as running:
        where = ("--sandbox", "--api", running.url, "--state-dir", place.state)
        async with place.start("apply", "-f", file, "--yes", *where) as killed:
            await until(lambda: len(list(running.sandbox.control.targets)) >= 3)
            assert (await killed.kill()).code == -9
        assert len(list(running.sandbox.control.targets)) < len(names)
        done = await place.run("apply", "-f", file, "--yes", *where)
        assert done.code == 0, done.err
        assert sorted(one.content["name"] for one in running.sandbox.control.targets) == names
        again = await place.run("plan", "-f", file, *where)
    assert (again.code, again.out) == (0, "Nothing to do: 20 unchanged.\n")
