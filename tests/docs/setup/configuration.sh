ingestd sandbox --port 8700 --quiet &
cat > ingestd.toml <<'TOML'
[api]
url = "http://127.0.0.1:8700"
token_url = "http://127.0.0.1:8700/oauth/token"
client_id = "sandbox"
client_secret = "sandbox"

[state]
dir = "state"
TOML
