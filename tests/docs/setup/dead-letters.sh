export INGESTD_STATE_DIR=state GENESYS_CLIENT_ID=sandbox GENESYS_CLIENT_SECRET=sandbox
ingestd sandbox --port 8700 --quiet &
cat > events.ndjson <<'EVENTS'
{"eventType":"routing.interaction.answer","eventTime":"2026-01-01T10:05:00","interactionId":"int-001","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}
{"eventType":"routing.interaction.answer","eventTime":"yesterday","interactionId":"int-001","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}
EVENTS
ingestd replay events.ndjson --api http://127.0.0.1:8700 --token-url http://127.0.0.1:8700/oauth/token --quiet || test $? = 3
