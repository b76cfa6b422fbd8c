mkdir log
sed "s|https://[a-z]*\.example\.com|http://127.0.0.1:8700|; s|/var/log/shop|$PWD/log|" page.toml > ingestd.toml
ingestd sandbox --port 8700 --quiet &
