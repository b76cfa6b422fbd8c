sed 's|https://[a-z]*\.example\.com|http://127.0.0.1:8700|' page.toml > ingestd.toml
export GENESYS_CLIENT_ID=sandbox GENESYS_CLIENT_SECRET=sandbox
ingestd sandbox --port 8700 --quiet &
python3 - <<'PYTHON'
import gzip, json, pathlib

def envelope(id, minute):
    event = {"eventType": "routing.interaction.answer", "eventTime": f"2026-01-01T10:{minute:02}:00Z", "interactionId": f"int-{minute}",
             "routingMetadata": {"queueId": "q", "skill": "s", "actionType": "ANSWER"}, "schemaVersion": 2}
    return json.dumps({"version": "0", "id": id, "detail-type": "v2.routing", "source": "aws.partner/genesys.com", "detail": event})

for hour, records in {"10": [envelope("e-1", 1), envelope("e-2", 2)], "11": [envelope("e-2", 2), envelope("e-3", 3)]}.items():
    folder = pathlib.Path("export/2026/01/01", hour)
    folder.mkdir(parents=True)
    (folder / f"genesys-1-2026-01-01-{hour}-00-00.gz").write_bytes(gzip.compress("".join(records).encode()))
PYTHON
