export GENESYS_CLIENT_ID=sandbox GENESYS_CLIENT_SECRET=sandbox
ingestd sandbox --port 8700 --quiet &
ingestd run --api http://127.0.0.1:8700 --token-url http://127.0.0.1:8700/oauth/token --state-dir state &
until curl -sf http://127.0.0.1:9464/readyz > ready.json; do sleep 0.05; done
curl -sf 'http://127.0.0.1:8080/v1/events?wait=delivered' -H 'Content-Type: application/json' -d '{"eventType":"routing.interaction.answer","eventTime":"2026-01-01T10:00:00Z","interactionId":"int-001","routingMetadata":{"queueId":"queue-alpha","skill":"support","actionType":"ANSWER"},"schemaVersion":2}'
