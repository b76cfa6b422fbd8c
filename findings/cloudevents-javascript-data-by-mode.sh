#!/usr/bin/env bash
# npm cloudevents 10.0.0: what a receiver gets as `data` of one and the same event depends on the mode it came in. As a
# structured event, data that is 0, false or "" is lost: the event has no data. As a binary one, numbers and booleans
# come as texts ("0", "false", "12"), and an object after a line break is refused. In a batch all of it is right.
# Nothing is logged. A sender sees 2xx all the same.
# ingestd sends data as it is; its docs tell which mode such a receiver reads (docs/sinks/cloudevents.md).
# Needs Node 18. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT; cd "$place"
timeout 300 npm install --silent --no-audit --no-fund cloudevents@10.0.0

cat > data.mjs <<'JS'
import { HTTP } from "cloudevents";

const HEADERS = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t" };
const JSON_TYPE = "application/json";

function read(contentType, body, headers = {}) {
  try {
    const event = [HTTP.toEvent({ headers: { ...headers, "content-type": contentType }, body })].flat()[0];
    return "data" in event && event.data !== undefined ? JSON.stringify(event.data) : "none";
  } catch (error) {
    return "refused";
  }
}

for (const data of ["0", "false", '""', "12", '{"a":1}', '\n{"a":1}']) {
  const event = `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"${JSON_TYPE}","data":${data}}`;
  console.log(
    JSON.stringify(data),
    "structured:", read("application/cloudevents+json", event),
    "binary:", read(JSON_TYPE, data, HEADERS),
    "batch:", read("application/cloudevents-batch+json", `[${event}]`),
  );
}
JS
cat > expected <<'EXPECTED'
"0" structured: none binary: "0" batch: 0
"false" structured: none binary: "false" batch: false
"\"\"" structured: none binary: "" batch: ""
"12" structured: 12 binary: "12" batch: 12
"{\"a\":1}" structured: {"a":1} binary: {"a":1} batch: {"a":1}
"\n{\"a\":1}" structured: {"a":1} binary: refused batch: {"a":1}
EXPECTED
echo "npm cloudevents 10.0.0: data as sent, and as the receiver has it"
node data.mjs | tee out
cmp -s out expected || { echo "changed"; exit 1; }
