cat > events.ndjson <<'EVENTS'
{"eventType":"routing.interaction.answer","eventTime":"2026-01-01T10:00:00Z","interactionId":"int-001","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}
{"eventType":"routing.interaction.answer","eventTime":"2026-01-01T10:00:00Z","interactionId":"int-001","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}
{"eventType":"routing.interaction.answer","eventTime":"2026-01-01T10:00:00Z","interactionId":"int-002","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}
EVENTS
ingestd sandbox --port 8700 --quiet &
gzip -c events.ndjson > events.ndjson.gz
mkdir old && cp events.ndjson.gz old/
echo '{"type": "object", "required": ["orderId"]}' > my_schema.json
echo '{"orderId": "O-1", "version": 1}' > orders.ndjson
