"""Whatever export writes, plan takes, and the plan is empty: over worlds that use all of the models."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.control.engine.document import load_document
from ingestd.control.engine.export import export_document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import make_plan
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import read_world
from tests.genesys import objects
from tests.integration.control.world import World

NAMES = st.text(st.characters(exclude_categories=("C",)), min_size=1, max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=("C",)), max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
TOPICS = st.sampled_from(["v2.detail.events.conversation.{id}.acw", "v2.users.{id}.presence", "v2.x"])


@st.composite
def criteria(draw: st.DrawFn) -> dict[str, Any]:
    one = draw(objects("MatchCriteria")) | {"jsonPath": draw(NAMES)}
    one = {name: value for name, value in one.items() if name not in ("value", "values")}
    one["operator"] = draw(st.sampled_from([one.get("operator") or "Equal", "NewerThanUs"]))
    if name := draw(st.sampled_from(["value", "values", ""])):
        one[name] = draw(JSON if name == "value" else st.lists(JSON, max_size=3))
    return one


@st.composite
def triggers(draw: st.DrawFn) -> dict[str, Any]:
    """Every field and word of the model; values that the platform itself would have let in."""
    one = draw(objects("Trigger")) | {"topicName": draw(TOPICS), "description": draw(NAMES)}
    one["target"] = draw(objects("TriggerTarget")) | {"type": "Workflow", "id": str(draw(st.uuids()))}
    one["matchCriteria"] = draw(st.lists(criteria(), max_size=3))
    one |= {"eventTTLSeconds": None, "delayBySeconds": None}
    name, least, most = draw(st.sampled_from([("eventTTLSeconds", 10, 9999), ("delayBySeconds", 60, 900)]))
    one[name] = draw(st.none() | st.integers(least, most))
    return one


@st.composite
def integrations(draw: st.DrawFn) -> dict[str, Any]:
    properties = {
        "awsAccountId": draw(st.from_regex(r"[0-9]{12}", fullmatch=True)),
        "awsAccountRegion": draw(st.sampled_from(["eu-central-1", "us-gov-west-1", "eusc-de-east-1"])),
        "eventSourceSuffix": draw(st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)),
        "eventFilter": draw(st.lists(TOPICS, min_size=1, max_size=3)),
        "newer": draw(JSON),
    }
    state = draw(st.sampled_from(["ENABLED", "DISABLED"]))
    return {"properties": properties, "notes": draw(NAMES | st.just("")), "intendedState": state}


@st.composite
def webhooks(draw: st.DrawFn) -> dict[str, Any]:
    one = draw(integrations())
    properties = st.dictionaries(st.text("abcXYZ", min_size=1, max_size=5), JSON, max_size=3)
    return one | {"integrationType": {"id": "webhook"}, "properties": draw(properties)}


@st.composite
def scheduled(draw: st.DrawFn) -> dict[str, Any]:
    one = draw(objects("CreateScheduledTriggerRequest"))
    one["target"] = draw(objects("TriggerTarget")) | {"type": "Workflow", "id": str(draw(st.uuids()))}
    when = st.text("0123456789*?,", min_size=1, max_size=9)
    return one | {
        "schedule": draw(
            objects("TriggerSchedule").flatmap(lambda made: st.fixed_dictionaries(dict.fromkeys(made, when)))
        ),
        "description": draw(NAMES),
    }


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    kind = st.sampled_from(["string", "integer"]).map(lambda kind: {"type": kind})
    core = st.just({"allOf": [{"$ref": "#/definitions/text"}], "title": "T", "maxLength": 9})
    anything = st.fixed_dictionaries({"enum": st.lists(JSON, min_size=1, max_size=3, unique_by=repr)})
    properties = draw(st.dictionaries(NAMES, kind | core | anything, max_size=3))
    one = draw(objects("JourneyJsonSchemaDocument")) | {"properties": properties}
    one["required"] = draw(st.lists(st.sampled_from(sorted(properties)), max_size=3)) if properties else []
    return {"jsonSchema": one, "enabled": draw(st.booleans())}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    return draw(objects("ExternalEventsConfiguration")) | {"source": draw(NAMES), "description": draw(NAMES)}


KINDS_OF_GENESYS = {
    "trigger": triggers(),
    "integration": integrations(),
    "webhook": webhooks(),
    "scheduled_trigger": scheduled(),
    "presence_source": objects("Source"),
    "journey_schema": schemas(),
    "journey_configuration": configurations(),
}
WORLDS = st.lists(st.sampled_from(sorted(KINDS_OF_GENESYS)), min_size=1, max_size=3, unique=True).flatmap(
    lambda kinds: st.fixed_dictionaries(
        {kind: st.dictionaries(NAMES, KINDS_OF_GENESYS[kind], max_size=2) for kind in kinds}
    )
)


@given(WORLDS)
def test_the_plan_of_an_export_is_empty_whatever_there_is(there: dict[str, dict[str, Any]]) -> None:
    world = World()
    for kind, ones in there.items():
        for name, one in ones.items():
            titled = {"jsonSchema": one["jsonSchema"] | {"title": name}} if "jsonSchema" in one else {}
            own = {field: value for field, value in one.items() if field not in ("id", "selfUri")}
            collection = "integrations" if kind == "webhook" else f"{kind}s"
            world.place(collection, **(own | titled | {"name": name}))
    context = world.context()
    found = asyncio.run(read_world(context, [KINDS[kind] for kind in there]))
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "export.toml")
        file.write_text(export_document(found), encoding="utf-8", newline="")
        wanted = load_document(file)
    plan = make_plan(wanted, found, ControlState("https://x", key=b"k"), secret=context.secret)
    assert plan.is_empty, plan.render()
    left_out = sum(one.get("deactivated") is True for one in there.get("presence_source", {}).values())
    assert plan.counts.get("adopt", 0) == sum(map(len, there.values())) - left_out
