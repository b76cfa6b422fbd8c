sed 's|https://[a-z]*\.example\.com|http://127.0.0.1:8700|' page.toml > ingestd.toml
echo '{"type": "object", "required": ["orderId"]}' > object.json
echo a-token-of-the-page > api.token
printf '%s\n' '{"orderId": "O-1", "version": 1}' '{"orderId": "O-1", "version": 1}' '{"id": "O-2"}' > events.ndjson
ingestd sandbox --port 8700 --quiet &
