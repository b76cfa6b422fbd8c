export INGESTD_STATE_DIR=state GENESYS_CLIENT_ID=sandbox GENESYS_CLIENT_SECRET=sandbox
ingestd sandbox --port 8700 --quiet &
cat > events.ndjson <<'EVENTS'
{"eventType":"routing.interaction.answer","eventTime":"2026-01-01T10:05:00","interactionId":"int-001","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}
{"eventType":"routing.interaction.answer","eventTime":"yesterday","interactionId":"int-001","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}
EVENTS
ingestd replay events.ndjson --api http://127.0.0.1:8700 --token-url http://127.0.0.1:8700/oauth/token --quiet || test $? = 3
cat > ingestd.toml <<'TOML'
[sinks.crm]
type = "webhook"
url = "http://127.0.0.1:8700/hooks/crm"
TOML
sed 's/yesterday/2026-01-01T11:00:00Z/' events.ndjson | tail -n 1 > refused.ndjson
curl -sf http://127.0.0.1:8700/_sandbox/faults -d '["422:1"]'
ingestd replay refused.ndjson --config ingestd.toml --quiet || test $? = 3
curl -sf http://127.0.0.1:8700/_sandbox/faults -d '[]'
