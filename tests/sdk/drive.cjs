// Drives the sandbox with Genesys Cloud's JavaScript SDK: node drive.cjs HOST PORT ENTRIES. See drive.py.
const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const { readFileSync } = require("node:fs");
const sdk = require("purecloud-platform-client-v2");

const [host, port, file] = process.argv.slice(2);
const entries = JSON.parse(readFileSync(file, "utf8"));
const EVENTBRIDGE = "amazon-eventbridge-source";
const TOPIC = "v2.detail.events.conversation.{id}.customer.end";

async function main() {
  const client = sdk.ApiClient.instance;
  client.setGateway({ host, protocol: "https", port: Number(port) });
  await client.loginClientCredentialsGrant("sandbox", "sandbox");
  await new sdk.TokensApi().headTokensMe();

  const events = new sdk.EventsApi();
  for (const [array, entry] of Object.entries(entries))
    assert.deepEqual((await events.postEventsConversations({ [array]: [entry] })).errors, [], array);
  const presence = { eventId: randomUUID(), eventDateTime: new Date(), userId: randomUUID(), sourceId: randomUUID() };
  assert.deepEqual((await events.postEventsUsersPresence({ userPresenceEvents: [presence] })).errors, []);

  const external = { id: "j", dateCreated: new Date(), attributes: {}, identifiers: { externalIds: [{ value: "7", externalSourceId: "crm" }] } };
  const journey = new sdk.JourneyApi();
  const taken = await journey.postJourneyExternaleventsConfigurationEvents("c-1", { body: { entities: [external] } });
  assert.deepEqual(taken.unprocessedEntities, []);

  const schema = { $schema: "http://json-schema.org/draft-04/schema#", title: "visits", properties: { page: { type: "string" } }, required: [] };
  const visits = await journey.postJourneyExternaleventsSchemas(schema);
  assert.deepEqual([visits.version, visits.jsonSchema.properties], [1, schema.properties]);
  const changed = await journey.putJourneyExternaleventsSchema(visits.id, { version: 1, enabled: true, jsonSchema: schema });
  assert.equal(changed.version, 2);
  const wanted = { name: "web", description: "", divisionId: randomUUID(), schemaId: visits.id, source: "CRM" };
  const web = await journey.postJourneyExternaleventsConfigurations({ body: wanted });
  assert.deepEqual([web.source, web.schemaActive], ["CRM", true]);
  await journey.deleteJourneyExternaleventsConfiguration(web.id);
  await journey.deleteJourneyExternaleventsSchema(visits.id);

  const sources = new sdk.PresenceApi();
  const source = await sources.postPresenceSources({ name: "pbx", description: "old" });
  assert.equal((await sources.putPresenceSource(source.id, { ...source, description: "older" })).description, "older");
  await sources.deletePresenceSource(source.id);

  const integrations = new sdk.IntegrationsApi();
  const integrationType = await integrations.getIntegrationsType(EVENTBRIDGE);
  const made = await integrations.postIntegrations({ body: { name: "bridge", integrationType } });
  const config = await integrations.getIntegrationConfigCurrent(made.id);
  config.properties = { awsAccountId: "123456789012", awsAccountRegion: "us-west-2", eventSourceSuffix: "prod", eventFilter: [TOPIC] };
  const put = await integrations.putIntegrationConfigCurrent(made.id, { body: config });
  assert.deepEqual([put.properties, put.version], [config.properties, config.version + 1]);
  const patched = await integrations.patchIntegration(made.id, { body: { intendedState: "ENABLED" } });
  assert.equal(patched.intendedState, "ENABLED");
  await integrations.deleteIntegration(made.id);

  const triggers = new sdk.ProcessAutomationApi();
  const matchCriteria = [{ jsonPath: "a", operator: "Exists" }, { jsonPath: "b", operator: "Equal", value: { k: [1] } }];
  const sent = { name: "t", topicName: TOPIC, enabled: true, matchCriteria, target: { type: "Workflow", id: randomUUID() } };
  const trigger = await triggers.postProcessautomationTriggers(sent);
  assert.deepEqual(trigger.matchCriteria, matchCriteria);
  assert.equal((await triggers.getProcessautomationTriggers({ hasDelayBy: false })).entities.length, 1);
  const updated = await triggers.putProcessautomationTrigger(trigger.id, { ...sent, version: trigger.version, enabled: false });
  assert.equal(updated.enabled, false);
  await triggers.deleteProcessautomationTrigger(trigger.id);
  console.log("the JavaScript SDK agrees");
}

main().catch((error) => {
  console.error(error.body ? JSON.stringify(error.body) : error);
  process.exit(1);
});
