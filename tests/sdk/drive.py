"""Drives the sandbox with Genesys Cloud's Python SDK, and compares what it deserialises with what was sent.

Run by ``check.py`` in an environment of its own, which has nothing but the SDK: ``drive.py URL ENTRIES``.
ENTRIES is a JSON file of array -> an entry of it. Prints what differs; exits with 1 if anything does.
"""

import datetime
import json
import sys
import uuid
from typing import Any

import PureCloudPlatformClientV2 as sdk  # type: ignore[import-not-found]

EVENTBRIDGE = "amazon-eventbridge-source"
TOPIC = "v2.detail.events.conversation.{id}.customer.end"
wrong: list[str] = []


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        wrong.append(f"{what}: {found!r}, expected {wanted!r}")


def model(name: str, fields: dict[str, Any]) -> Any:
    """An object of the SDK's with these fields, named as in JSON, models within it too."""
    made = getattr(sdk, name)()
    for attribute, field in made.attribute_map.items():
        if field in fields:
            kind = made.swagger_types[attribute]
            inner, value = kind.removeprefix("list[").rstrip("]"), fields[field]
            if hasattr(sdk, inner):
                value = [model(inner, one) for one in value] if kind != inner else model(inner, value)
            setattr(made, attribute, value)
    return made


def check_events(client: Any, entries: dict[str, Any]) -> None:
    api = sdk.EventsApi(client)
    for array, entry in entries.items():
        batch = model("BatchConversationEventRequest", {array: [entry]})
        expect(array, api.post_events_conversations(batch).errors, [])
    no = model(
        "BatchConversationEventRequest", {"holdUpdatedEvents": [entries["holdUpdatedEvents"] | {"held": 7}]}
    )
    (error,) = api.post_events_conversations(no).errors
    expect("an error", (error.event_id, error.retryable), (entries["holdUpdatedEvents"]["eventId"], False))

    def ids() -> str:
        return str(uuid.uuid4())

    event = sdk.UserPresenceEvent()
    event.event_id, event.user_id, event.source_id = ids(), ids(), ids()
    event.event_date_time = datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.timezone.utc)  # noqa: UP017
    batch = sdk.BatchUserPresenceEventRequest()
    batch.user_presence_events = [event]
    expect("presence with a datetime", api.post_events_users_presence(batch).errors, [])
    status = {"eventId": ids(), "eventDateTime": "2026-01-01T10:00:00.000001Z", "agentId": ids()}
    status |= {"status": "Idle", "sourceId": "pbx"}
    batch = model("BatchUserRoutingStatusEventRequest", {"userRoutingStatusEvents": [status]})
    expect("routing status", api.post_events_users_routingstatus(batch).errors, [])
    kpi = {"eventId": ids(), "eventDateTime": "2026-01-01T10:00:00Z", "kpiId": ids(), "associatedValue": 1.5}
    name = "BatchPredictiveRoutingCustomKpiAttributionEventRequest"
    batch = model(name, {"customKpiAttributionEvents": [kpi]})
    expect("KPI", api.post_events_routing_customkpiattributions(batch).errors, [])
    external = {"id": "j-1", "dateCreated": "2026-01-01T10:00:00Z", "attributes": {"a": 1}}
    external["identifiers"] = {"externalIds": [{"value": "7", "externalSourceId": "crm"}]}
    body = model(
        "ExternalEventsRequest", {"entities": [external, external | {"identifiers": {"externalIds": []}}]}
    )
    answer = sdk.JourneyApi(client).post_journey_externalevents_configuration_events("c-1", body=body)
    expect("journey", [one.original_request_index for one in answer.unprocessed_entities], [1])


def check_integrations(client: Any) -> None:
    api = sdk.IntegrationsApi(client)
    body = sdk.CreateIntegrationRequest()
    body.name, body.integration_type = "bridge", api.get_integrations_type(EVENTBRIDGE)
    made = api.post_integrations(body=body)
    expect(
        "created",
        (made.name, made.integration_type.id, made.intended_state),
        ("bridge", EVENTBRIDGE, "DISABLED"),
    )
    config = api.get_integration_config_current(made.id)
    config.properties = {"awsAccountId": "123456789012", "awsAccountRegion": "us-west-2"}
    config.properties |= {"eventSourceSuffix": "prod", "eventFilter": [TOPIC]}
    put = api.put_integration_config_current(made.id, body=config)
    expect("configuration", (put.properties, put.version), (config.properties, config.version + 1))
    try:
        api.put_integration_config_current(made.id, body=config)
        wrong.append("an old version was taken")
    except sdk.rest.ApiException as error:
        expect("an old version", error.status, 409)
    change = sdk.Integration()
    change.intended_state, change.notes = "ENABLED", "ours"
    expect("patched", api.patch_integration(made.id, body=change).intended_state, "ENABLED")
    shown = api.get_integration(made.id, expand=["config.current"])
    expect("expanded", shown.config.current.properties, config.properties)
    expect(
        "listed", [one.id for one in api.get_integrations(integration_type=EVENTBRIDGE).entities], [made.id]
    )
    api.delete_integration(made.id)
    expect("deleted", api.get_integrations().entities, [])


def check_triggers(client: Any) -> None:
    api = sdk.ProcessAutomationApi(client)
    criteria: list[dict[str, Any]] = [
        {"jsonPath": "mediaType", "operator": "In", "values": ["VOICE", 1]},
        {"jsonPath": "a", "operator": "Exists"},
        {"jsonPath": "b", "operator": "Equal", "value": {"k": [1]}},
    ]
    sent = {"name": "on-end", "topicName": TOPIC, "enabled": True, "matchCriteria": criteria}
    sent |= {"target": {"type": "Workflow", "id": str(uuid.uuid4())}, "delayBySeconds": 60}
    made = api.post_processautomation_triggers(model("CreateTriggerRequest", sent))
    for found in (made, api.get_processautomation_trigger(made.id)):
        plain = [(one.json_path, one.operator, one.value, one.values) for one in found.match_criteria]
        wanted = [(one["jsonPath"], one["operator"], one.get("value"), one.get("values")) for one in criteria]
        expect("criteria", plain, wanted)
        expect("trigger", (found.name, found.topic_name, found.delay_by_seconds), ("on-end", TOPIC, 60))
    expect("with a delay", len(api.get_processautomation_triggers(has_delay_by=True).entities), 1)
    expect("without", len(api.get_processautomation_triggers(has_delay_by=False).entities), 0)
    tested = api.post_processautomation_trigger_test(
        made.id, body='{"mediaType": "VOICE", "a": 1, "b": {"k": [1]}}'
    )
    expect("tested", (tested.trigger_matches, len(tested.json_path_validation.details)), (True, 3))
    changed = model("UpdateTriggerRequest", sent | {"version": made.version, "enabled": False})
    expect("changed", api.put_processautomation_trigger(made.id, changed).enabled, False)
    expect("topics", TOPIC in api.get_processautomation_triggers_topics().entities, True)
    api.delete_processautomation_trigger(made.id)
    expect("no triggers", api.get_processautomation_triggers().entities, [])


def check_plain_kinds(client: Any) -> None:
    """What journey events, presence events and a clock need, and webhooks."""
    api = sdk.JourneyApi(client)
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "title": "visits", "required": ["at"]}
    schema["properties"] = {"at": {"type": "string"}, "page": {"type": "string", "maxLength": 9}}
    made = api.post_journey_externalevents_schemas(model("JourneyJsonSchemaRequest", schema))
    expect(
        "schema", (made.version, made.enabled, made.json_schema.properties), (1, True, schema["properties"])
    )
    change = model("JourneySchemaUpdateRequest", {"version": 1, "enabled": True, "jsonSchema": schema})
    expect("schema's version", api.put_journey_externalevents_schema(made.id, change).version, 2)
    versions = api.get_journey_externalevents_schema_versions(made.id).entities
    expect("versions", [one.version for one in versions], [1, 2])
    expect("limits", api.get_journey_externalevents_schemas_limits().max_number_of_schemas_per_org, 20)
    wanted = {"name": "web", "description": "of the shop", "divisionId": made.id, "schemaId": made.id}
    wanted["source"] = "CRM"
    web = api.post_journey_externalevents_configurations(
        body=model("CreateExternalEventsConfigurationRequest", wanted)
    )
    expect("configuration", (web.name, web.source, web.schema_active), ("web", "CRM", True))
    patch = model("UpdateExternalEventsConfigurationRequest", {"description": "x"})
    expect("patched", api.patch_journey_externalevents_configuration(web.id, body=patch).description, "x")
    expect("configurations", api.get_journey_externalevents_configurations().total, 1)
    api.delete_journey_externalevents_configuration(web.id)
    api.delete_journey_externalevents_schema(made.id)
    expect("no schemas", api.get_journey_externalevents_schemas().entities, [])

    presence = sdk.PresenceApi(client)
    source = presence.post_presence_sources(model("Source", {"name": "pbx", "description": "old"}))
    source.description = "older"
    expect("source", presence.put_presence_source(source.id, source).description, "older")
    expect("sources", [one.id for one in presence.get_presence_sources().entities], [source.id])
    presence.delete_presence_source(source.id)

    automation = sdk.ProcessAutomationApi(client)
    morning = {"name": "morning", "enabled": True, "target": {"type": "Workflow", "id": str(uuid.uuid4())}}
    morning["schedule"] = {"minutes": "0,30", "hours": "8", "timezone": "Europe/Berlin"}
    fires = automation.post_processautomation_scheduledtriggers(
        model("CreateScheduledTriggerRequest", morning)
    )
    expect("scheduled", (fires.schedule.minutes, fires.version), ("0,30", 1))
    off = model("UpdateScheduledTriggerRequest", morning | {"version": 1, "enabled": False})
    expect("off", automation.put_processautomation_scheduledtrigger(fires.id, off).enabled, False)
    listed = automation.get_processautomation_scheduledtriggers(enabled=False).entities
    expect("listed by state", [one.id for one in listed], [fires.id])
    automation.delete_processautomation_scheduledtrigger(fires.id)

    integrations = sdk.IntegrationsApi(client)
    body = sdk.CreateIntegrationRequest()
    body.name, body.integration_type = "hook", integrations.get_integrations_type("webhook")
    hook = integrations.post_integrations(body=body)
    on = sdk.Integration()
    on.intended_state = "ENABLED"
    integrations.patch_integration(hook.id, body=on)
    reads = [integrations.get_integration(hook.id).attributes for _ in range(3)]
    token = reads[-1]["invocationUrl"].split("/")[-2]
    expect(
        "invoked", bool(integrations.post_integrations_webhook_events(token, {"a": 1}).invocation_id), True
    )
    schema = integrations.get_integrations_type_configschema("webhook", "properties")
    expect("schema of properties", list(schema.properties), ["invocationRatePerMinute"])
    integrations.delete_integration(hook.id)


def main() -> None:
    url, file = sys.argv[1:]
    if url.startswith("https:"):
        sdk.configuration.ssl_ca_cert = sys.argv[2].replace("entries.json", "sandbox.crt")
    with open(file, encoding="utf-8") as opened:
        entries = json.load(opened)
    client = sdk.api_client.ApiClient(host=url).get_client_credentials_token("sandbox", "sandbox")
    sdk.TokensApi(client).head_tokens_me()
    expect("token", sdk.TokensApi(client).get_tokens_me().organization.name, "sandbox")
    check_events(client, entries)
    check_integrations(client)
    check_triggers(client)
    check_plain_kinds(client)
    print("\n".join(wrong) or "the Python SDK agrees")
    sys.exit(1 if wrong else 0)


main()
