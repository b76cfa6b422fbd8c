"""The commands for single resources, each against a sandbox that is a process of its own."""

import json
import re
import shutil
from typing import Any

import pytest

from ingestd.control.engine.kinds import command_of
from ingestd.telemetry.audit_entry import AuditEntry
from tests.process.cli.control_support import TABLES, Plane, as_words, declare
from tests.process.cli.control_support import plane as plane
from tests.process.cli.control_support import sandbox_url as sandbox_url

CHANGES = {
    "target": ("retry.max_retries=7", "retry", {"max_retries": 7, "strategy": "EXPONENTIAL", "delay": 2}),
    "destination": ('event_types=["order.paid"]', "event_types", ["order.paid"]),
    "subscription": ("enabled=false", "enabled", False),
    "integration": ("notes=of the second team", "notes", "of the second team"),
    "trigger": ("enabled=false", "enabled", False),
    "webhook": ("notes=of the second team", "notes", "of the second team"),
    "scheduled_trigger": ("timezone=Europe/Berlin", "timezone", "Europe/Berlin"),
    "presence_source": ("description=gone", "description", "gone"),
    "journey_schema": ("description=of visits", "description", "of visits"),
    "journey_configuration": ("description=of visits", "description", "of visits"),
}


# --- one resource by hand ---


@pytest.mark.parametrize("kind", list(TABLES))
def test_every_kind_can_be_created_listed_shown_changed_and_deleted(plane: Plane, kind: str) -> None:
    plural, file, table = command_of(kind), plane.directory / "one.json", dict(TABLES[kind])
    kept = "integrations" if kind == "webhook" else f"{kind}s"
    if kind == "journey_configuration":
        made = plane("journey-schemas", "create", "visits", "--set", "properties={}", "--json")
        table["schema_id"] = made.json["id"]
        shutil.rmtree(plane.state)
    file.write_text(declare(table, name="orders", kind=kind))
    assert plane(plural, "list").out == f"no {plural.replace('-', ' ')}\n"
    assert not plane.state.exists(), "who only looks needs no directory"

    made = plane(plural, "create", "orders", "-f", str(file), "--json")
    assert (made.code, made.err) == (0, "")
    assert made.json["done"] == "created"
    assert made.json["settled"] is True
    (there,) = plane.there(kept)
    assert (there["id"], there["name"]) == (made.json["id"], "orders")

    listed = plane(plural, "list", "--json").json[f"{kind}s"]
    assert [(one["name"], one["id"]) for one in listed] == [("orders", there["id"])]
    assert there["id"] in plane(plural, "list").out
    shown = plane(plural, "show", "orders", "--json").json
    assert shown == plane(plural, "show", there["id"], "--json").json
    for field, value in table.items():
        assert shown["fields"][field] == value, field
    assert there["id"] in plane(plural, "show", "orders").out

    change, field, value = CHANGES[kind]
    changed = plane(plural, "update", "orders", "--set", change, "--json")
    assert (changed.code, changed.err) == (0, "")
    assert plane(plural, "show", "orders", "--json").json["fields"] == {**shown["fields"], field: value}

    gone = plane(plural, "delete", "orders", "--yes", "--json")
    assert (gone.code, gone.json["id"]) == (0, there["id"])
    assert plane.there(kept) == []
    done = {line["event"] for line in plane.audit()}
    own = {"webhook": "INTEGRATION_"}.get(kind, f"{kind.upper()}_")
    noted = own if f"{own}CREATED" in list(AuditEntry) else "RESOURCE_"
    assert {f"{noted}CREATED", f"{noted}UPDATED", f"{noted}DELETED"} <= done


def test_a_create_that_is_typed_twice_makes_one_and_a_different_one_is_refused(plane: Plane) -> None:
    words = ("targets", "create", "orders", "--set", "endpoint_url=http://127.0.0.1:9/a", "--set")
    assert plane(*words, 'event_types=["a"]').code == 0
    again = plane(*words, 'event_types=["a"]')
    assert (again.code, len(plane.there("targets"))) == (0, 1)
    other = plane(*words, 'event_types=["b"]')
    assert other.code == 2
    assert "another event_types: change it with `ingestd targets update`" in other.err
    assert plane.there("targets")[0]["eventTypes"] == ["a"]


def test_a_change_that_cannot_be_told_is_not_made(plane: Plane) -> None:
    plane.state.write_text("not a directory")
    done = plane("targets", "create", "orders", *as_words(TABLES["target"]))
    assert done.code == 2
    assert done.err.startswith("ingestd: cannot make the key of the audit log")
    assert plane.there("targets") == []


def test_a_target_that_is_not_verified_stays_and_the_same_command_goes_on_with_it(plane: Plane) -> None:
    plane.ask("faults", ["verify-fail:1"])
    file = plane.directory / "one.json"
    file.write_text(declare(TABLES["target"], name="orders", kind="target"))
    failed = plane("targets", "create", "orders", "-f", str(file))
    assert failed.code == 3
    assert "FAILED: the endpoint answered 500" in failed.err
    assert plane("targets", "verify", "orders").code == 3
    (before,) = plane.there("targets")
    plane.ask("faults", [])
    assert plane("targets", "create", "orders", "-f", str(file)).code == 0
    (after,) = plane.there("targets")
    assert (after["id"], after["status"]) == (before["id"], "VERIFIED")
    assert plane("targets", "verify", "orders").out.startswith("target orders verified: VERIFIED")
    failures = [one for one in plane.audit() if one["event"] == "TARGET_VERIFICATION_FAILED"]
    assert len(failures) == 2
    assert all(one["who"] and one["correlation_id"] for one in failures)


def test_the_health_of_a_target_is_told_and_a_sick_one_ends_with_3(plane: Plane) -> None:
    plane("targets", "create", "orders", *as_words(TABLES["target"]))
    well = plane("targets", "health", "orders", "--json")
    assert (well.code, well.json["status"]) == (0, "HEALTHY")
    plane.ask("faults", ["health-fail:1"])
    sick = plane("targets", "health", "orders")
    assert sick.code == 3
    assert "UNHEALTHY" in sick.out
    assert [one["status"] for one in plane.audit() if one["event"] == "HEALTH_CHECK_TRIGGERED"] == [
        "HEALTHY",
        "UNHEALTHY",
    ]


def test_a_gateway_is_told_of_a_target_and_one_that_refuses_ends_with_3(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "whsec_" + "c2VjcmV0IG9mIHRoZSBnYXRld2F5" * 2)
    assert plane("targets", "create", "orders", *as_words(TABLES["target"])).code == 0
    words = ("targets", "sync", "orders", "--url", f"{plane.url}/hooks/gateway", "--secret")
    told = plane(*words, "env:GATEWAY_SECRET")
    assert (told.code, told.out) == (0, "127.0.0.1 was told\n"), told.err
    assert plane.ask("stats")["paths"]["/hooks/gateway"]["by_status"] == {"200": 1}
    answer = {"status": 404, "body": "{}"}
    rule = {"match": {"path": "/hooks/gateway", "nth": 1}, "answer": answer}
    plane.ask("faults", {"faults": [], "script": [rule]})
    assert plane(*words, "env:GATEWAY_SECRET", "--json").json == {"synced": False, "host": "127.0.0.1"}
    assert [one["event"] for one in plane.audit()][-2:] == ["WEBHOOK_SYNCED", "WEBHOOK_FAILED"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("targets", "show", "orderz"), 2, "target orderz: there is none; see `ingestd targets list`"),
        (("targets", "create", "x", "--set", "endpoint_url"), 2, "--set endpoint_url: write FIELD=VALUE"),
        (("targets", "create", "x", "--set", "a=1", "--set", "a.b=2"), 2, "--set a.b: a is not a table"),
        (("targets", "create", "x", "-f", "missing.toml"), 2, "missing.toml: cannot read it"),
        (("targets", "sync", "x"), 2, "No gateway is given. Use --url and --secret"),
        (("targets", "list", "--api", "http://127.0.0.1:9", "--no-auth"), 4, "GET /api/v2/integrations"),
        (("plan", "-f", "missing.toml"), 1, "missing.toml: cannot read it"),
        (("drift", "-f", "missing.toml"), 1, "missing.toml: cannot read it"),
        (("apply", "-f", "missing.toml"), 2, "missing.toml: cannot read it"),
    ],
)
def test_a_mistake_is_one_line_and_has_its_exit_code(
    plane: Plane, words: tuple[str, ...], code: int, said: str
) -> None:
    done = plane(*words, sandbox="--api" not in words)
    assert done.code == code, done.err
    assert done.err.startswith(f"ingestd: {said}"), done.err
    assert done.err.count("\n") == 1


def test_a_secret_in_the_command_line_is_refused_without_being_shown(plane: Plane) -> None:
    words = [
        *as_words(TABLES["target"]),
        "--set",
        'auth={"type":"BASIC","username":"u","password":"hunter22"}',
    ]
    done = plane("targets", "create", "orders", *words)
    assert (done.code, plane.there("targets")) == (2, [])
    assert "give a reference, env:NAME or file:PATH" in done.err
    assert "hunter22" not in done.err


def test_an_update_needs_the_secrets_that_no_api_tells(plane: Plane) -> None:
    login = '{"type":"BASIC","username":"u","password":"env:HOOK_PASSWORD"}'
    assert (
        plane("targets", "create", "orders", *as_words(TABLES["target"]), "--set", f"auth={login}").code == 0
    )
    lacking = plane("targets", "update", "orders", "--set", "retry.delay=9")
    assert lacking.code == 2
    assert "the API does not return secrets: name auth." in lacking.err
    assert plane("targets", "update", "orders", "--set", "retry.delay=9", "--set", f"auth={login}").code == 0
    assert plane.there("targets")[0]["retryPolicy"]["initialDelaySeconds"] == 9


# --- triggers ---


def test_a_trigger_is_tested_with_an_event(plane: Plane) -> None:
    table = TABLES["trigger"] | {"enabled": False}
    file, given = plane.directory / "trigger.json", plane.directory / "event.json"
    file.write_text(declare(table, name="orders", kind="trigger"))
    assert plane("triggers", "create", "orders", "-f", str(file)).code == 0
    topic = "v2.detail.events.conversation.7.customer.end"
    events: list[tuple[dict[str, Any], int, str]] = [
        ({"mediaType": "CHAT"}, 0, "yes  mediaType Equal 'CHAT': found 'CHAT'"),
        ({"mediaType": "VOICE"}, 3, "no   mediaType Equal 'CHAT': found 'VOICE'"),
        ({"topicName": topic, "eventBody": {"mediaType": "CHAT"}}, 0, "yes  mediaType"),
        ({"topicName": "v2.x", "eventBody": {"mediaType": "CHAT"}}, 3, "no   it is of another topic: v2.x"),
    ]
    for event, code, said in events:
        given.write_text(json.dumps(event))
        for source in ((), ("-f", str(file))):
            done = plane("triggers", "test", "orders", str(given), *source, sandbox=not source)
            assert (done.code, said in done.out, "it is disabled" in done.out) == (code, True, True), event
    broken = plane("triggers", "test", "orders", "-", given="{")
    assert (broken.code, "the event is not JSON" in broken.err) == (2, True)
    shown = plane("triggers", "test", "orders", "-", "--json", given="{}").json
    assert shown["conditions"] == [{"path": "mediaType", "operator": "Equal", "matches": False, "why": ""}]


def test_a_replay_into_a_webhook_that_is_looked_up_shows_its_url_nowhere(plane: Plane) -> None:
    assert plane("webhooks", "create", "orders").code == 0
    config, events = plane.directory / "c.toml", plane.directory / "e.ndjson"
    state = plane.directory / "replay"
    config.write_text(
        f'[api]\nurl = "{plane.url}"\ntoken_url = "{plane.url}/oauth/token"\nclient_id = "sandbox"\n'
        f'client_secret = "sandbox"\n[schema]\nname = "{plane.directory}/any.json"\ndedup_key = "id"\n'
        f'[state]\ndir = "{state}"\n[ingest]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
        '[sinks.hook]\ntype = "webhook"\nurl = "ref:webhook.orders.invocationUrl"\n'
    )
    (plane.directory / "any.json").write_text('{"type":"object"}')
    events.write_text('{"id":"1"}\n{"id":"2"}\n')
    done = plane("replay", str(events), "--config", str(config), "--json", sandbox=False)
    assert (done.code, done.json["delivered"]) == (0, 2), done.err
    checks = [plane("check", "--config", str(config), *more, sandbox=False) for more in ((), ("--online",))]
    assert [one.code for one in checks] == [0, 0], [one.out for one in checks]
    assert "ref:webhook.orders.invocationUrl is looked up at the start" in checks[0].out
    shown = plane("config", "show", "--config", str(config), sandbox=False)
    assert 'url = "ref:webhook.orders.invocationUrl"' in shown.out
    kept = [file.read_bytes().decode(errors="replace") for file in state.rglob("*") if file.is_file()]
    seen = [done.out, done.err, shown.out, *(one.out + one.err for one in checks), *kept]
    assert not [text for text in seen if re.search("webhooks/[0-9a-f]{32}", text)]


def test_an_export_has_a_reference_where_a_url_is_a_secret(plane: Plane) -> None:
    file = plane.write(
        '[webhook.hook]\nname = "Of orders"\n'
        '[target.orders]\nendpoint_url = "ref:webhook.hook.invocationUrl"\nevent_types = ["a"]\n'
    )
    assert plane("apply", "-f", file, "--yes").code == 0
    exported = plane("export", "--kind", "target", "--kind", "webhook").out
    assert 'endpoint_url = "ref:webhook.Of orders.invocationUrl"' in exported
    plane.write(exported)
    assert plane("drift", "-f", file).out == "no drift\n"
    seen = [exported, *plane.said, (plane.state / "control.json").read_text(), str(plane.audit())]
    assert not [text for text in seen if re.search("webhooks/[0-9a-f]{32}", text)]
