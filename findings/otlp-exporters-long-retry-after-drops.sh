#!/usr/bin/env bash
# OpenTelemetry's exporters of logs over HTTP, PyPI opentelemetry-exporter-otlp-proto-http 1.45.2 and npm
# @opentelemetry/exporter-logs-otlp-http 0.223.1, and a receiver that refuses a first post with 503 and takes the next.
# Without Retry-After, or with one of 2 seconds, the record comes again. With one of 11 seconds both drop it at
# once: the wait would end after their timeout (10 s), and then they do not even try earlier. So the header by which
# an overloaded receiver asks for patience costs what it would have got without it. 408, 500 and 507 they never repeat.
# What posts to ingestd with them needs a Collector with a queue on disk between (docs/sources/forwarders.md).
# Needs Python 3.10 and Node 18. Exits 1 when one of them has changed.
set -euo pipefail
place=$(mktemp -d); trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$place"' EXIT; cd "$place"
python3 -m venv venv
timeout 300 venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-exporter-otlp-proto-http==1.45.2 \
    opentelemetry-sdk==1.45.2
timeout 300 npm install --silent --no-audit --no-fund @opentelemetry/sdk-logs@0.223.1 \
    @opentelemetry/exporter-logs-otlp-http@0.223.1

cat > receiver.py <<'PY'
"""POST /exporter/status/seconds: the first one gets that status and Retry-After, others 200. Prints how many came."""
import http.server
import threading

CASES = [f"/{name}/{case}" for name in ("python", "javascript")
         for case in ("503/-", "503/2", "503/11", "429/11", "507/-", "500/-", "408/-")]
posts = dict.fromkeys(CASES, 0)


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        if "Content-Length" in self.headers:
            self.rfile.read(int(self.headers["Content-Length"]))
        else:
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        posts[self.path] += 1
        _, _, status, seconds = self.path.split("/")
        first = posts[self.path] == 1
        self.send_response(int(status) if first else 200)
        if first and seconds != "-":
            self.send_header("Retry-After", seconds)
        body = b"{}" if "json" in self.headers["Content-Type"] else b""
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
input()
for case, count in posts.items():
    print(case, {0: "never came", 1: "dropped"}.get(count, "came again"), flush=True)
PY
cat > send.py <<'PY'
import logging
import sys
import threading

from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

logging.disable(logging.CRITICAL)


def send(url):
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(endpoint=url)))
    provider.get_logger("finding").emit(LogRecord(body="x"))


threads = [threading.Thread(target=send, args=(url,)) for url in sys.argv[1:]]
for one in threads:
    one.start()
for one in threads:
    one.join()
PY
cat > send.mjs <<'JS'
import { LoggerProvider, SimpleLogRecordProcessor } from "@opentelemetry/sdk-logs";
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-http";

for (const url of process.argv.slice(2)) {
  const exporter = new OTLPLogExporter({ url });
  const provider = new LoggerProvider({ processors: [new SimpleLogRecordProcessor({ exporter })] });
  provider.getLogger("finding").emit({ body: "x" });
}
await new Promise((resolve) => setTimeout(resolve, 15_000)); // longer than the 11 seconds, and than its timeout
JS
mkfifo questions
python3 receiver.py < questions > answers & server=$!
exec 3> questions
until [ -s answers ]; do sleep 0.1; done
urls() { for case in 503/- 503/2 503/11 429/11 507/- 500/- 408/-; do echo "http://127.0.0.1:$(head -1 answers)/$1/$case"; done; }
mapfile -t python < <(urls python); mapfile -t javascript < <(urls javascript)
timeout 60 node send.mjs "${javascript[@]}" & node=$!
timeout 60 venv/bin/python send.py "${python[@]}" 2>/dev/null
wait "$node"
echo >&3; wait "$server"
for name in python javascript; do
  cat <<EXPECTED
/$name/503/- came again
/$name/503/2 came again
/$name/503/11 dropped
/$name/429/11 dropped
/$name/507/- dropped
/$name/500/- dropped
/$name/408/- dropped
EXPECTED
done > expected
echo "PyPI opentelemetry-exporter-otlp-proto-http 1.45.2, npm @opentelemetry/exporter-logs-otlp-http 0.223.1"
echo "exporter/status/Retry-After, and what became of the record:"
tail -n +2 answers | tee out
cmp -s out expected || { echo "changed"; exit 1; }
