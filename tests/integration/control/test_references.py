"""What one table says of another: ``ref:KIND.NAME.ATTRIBUTE``, in a file, from its first plan to its last."""

from collections.abc import Mapping
from typing import Any

import pytest

from ingestd.control.engine.apply import ApplyResult, apply
from ingestd.control.engine.document import make_document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import Plan, make_plan
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import look_up, read_world
from ingestd.core.errors import UserError
from ingestd.core.redaction import redact
from tests.each import each
from tests.integration.control.target_support import Session, open_sandbox

pytestmark = pytest.mark.anyio
DIVISION = "00000000-0000-4000-8000-00000000000d"
TREE: dict[str, dict[str, Any]] = {
    "journey_configuration": {
        "web": {"source": "CRM", "schema_id": "ref:journey_schema.visits.id", "division_id": DIVISION}
    },
    "journey_schema": {"visits": {"name": "Visits of the shop", "properties": {"page": {"type": "string"}}}},
    "webhook": {"hook": {"name": "Orders"}},
    "target": {
        "orders": {"endpoint_url": "ref:webhook.hook.invocationUrl", "event_types": ["a"]},
        "more": {"endpoint_url": "ref:integration.hook.invocationUrl", "event_types": ["a"]},
    },
}


class Org:
    """A sandbox, and the state of one who applies files to it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.context = session.context(allow_private=True)
        self.state = ControlState("https://x", key=b"k" * 32)

    async def plan(self, tree: Mapping[str, Any]) -> Plan:
        document = make_document(tree)
        kinds = [KINDS[kind] for kind in document.kinds | self.state.kinds]
        world = await look_up(self.context, document, await read_world(self.context, kinds, state=self.state))
        return make_plan(document, world, self.state, secret=self.context.secret)

    async def apply(self, tree: Mapping[str, Any]) -> ApplyResult:
        return await apply(self.context, await self.plan(tree), self.state)


async def test_what_does_not_exist_yet_is_put_in_when_it_does_and_a_secret_of_it_is_never_seen() -> None:
    async with open_sandbox() as session:
        org = Org(session)
        assert session.sandbox
        first = await org.plan(TREE)
        assert first.counts == {"create": 5}
        assert '+ schema_id = "ref:journey_schema.visits.id"' in first.render()
        order = [change.label for change in first.changes]
        assert order.index("journey_schema.visits") < order.index("journey_configuration.web")
        done = await apply(org.context, first, org.state)
        assert done.is_complete, done.failed
        control = session.sandbox.control
        [webhook] = control.integrations
        urls = {one.content["endpointUrl"] for one in control.targets}
        assert len(urls) == 1, "both mean the same"
        [url] = urls
        token = webhook.secrets["token"]
        assert url.endswith(f"/api/v2/integrations/webhooks/{token}/events")

        again = await org.plan(TREE)
        assert again.counts == {"nothing": 5}, again.render()
        other = await org.plan(
            TREE | {"target": {"orders": TREE["target"]["orders"] | {"endpoint_url": "https://x.example/"}}}
        )
        seen = [
            first.render(),
            other.render(),
            str(first.as_json()),
            str(other.as_json()),
            str(done),
            str(session.notes),
        ]
        seen += [str(org.state.content()), redact(f"POST {url}: 500")]
        assert not [text for text in seen if token in text]


async def test_a_resource_that_is_replaced_takes_what_refers_to_it_with_it() -> None:
    tree = {kind: TREE[kind] for kind in ("journey_configuration", "journey_schema")}
    async with open_sandbox() as session:
        org = Org(session)
        assert (await org.apply(tree)).is_complete
        assert session.sandbox
        for one in session.sandbox.control.shown()["journey_schemas"]:
            await org.context.api.delete(f"{KINDS['journey_schema'].path}/{one['id']}")  # type: ignore[attr-defined]
        plan = await org.plan(tree)
        assert plan.counts == {"create": 1, "replace": 1}, plan.render()
        assert (await apply(org.context, plan, org.state)).is_complete
        assert (await org.plan(tree)).counts == {"nothing": 2}


async def test_a_reference_may_be_to_what_is_at_the_api_and_in_no_file() -> None:
    async with open_sandbox() as session:
        org = Org(session)
        schema = KINDS["journey_schema"]
        made = await schema.create(org.context, schema.parse("v", TREE["journey_schema"]["visits"]), {})
        web = TREE["journey_configuration"]["web"]
        for name in ("Visits of the shop", made.id):
            tree = {"journey_configuration": {"web": web | {"schema_id": f"ref:journey_schema.{name}.id"}}}
            assert (await org.apply(tree)).is_complete
        [found] = await KINDS["journey_configuration"].read(org.context)
        assert found.fields["schema_id"] == made.id
        bad = {"journey_configuration": {"web": web | {"schema_id": "ref:journey_schema.none.id"}}}
        with pytest.raises(UserError, match=r"ref:journey_schema\.none\.id: there is no journey_schema none"):
            await org.plan(bad)


@each(
    ("text", "said"),
    [
        ("ref:journey_schema.visits", "schema_id: "),
        ("ref:journey_shema.visits.id", "no kind journey_shema: did you mean journey_schema"),
        ("ref:journey_schema.visits.secret", "a journey_schema has id"),
        ("ref:webhook.hook.token", "a webhook has id, invocationUrl, webhookId"),
    ],
)
async def test_what_is_no_reference_is_said_with_its_table(text: str, said: str) -> None:
    tree = {"journey_configuration": {"web": {"source": "a", "schema_id": text, "division_id": "d"}}}
    with pytest.raises(UserError, match=f"^journey_configuration web: .*{said}"):
        make_document(tree)


async def test_two_that_refer_to_each_other_are_refused() -> None:
    one, two = (
        {"source": "a", "schema_id": f"ref:journey_configuration.{n}.id", "division_id": "d"} for n in "ab"
    )
    with pytest.raises(UserError, match="in a circle"):
        make_document({"journey_configuration": {"b": one, "a": two}})
