#!/usr/bin/env bash
# PyPI cloudevents 2.2.0, binary mode: data that is a list, a boolean or a text goes out in Python's spelling
# under `Content-Type: application/json`. A dict goes out as JSON.
# Needs Python 3.10 or newer. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0

"$place/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

from cloudevents.core.bindings.http import to_binary_event
from cloudevents.core.v1.event import CloudEvent

NAMES = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0", "datacontenttype": "application/json"}
EXPECTED = [
    (["a", None, True], b"['a', None, True]"),
    (True, b"True"),
    ("text", b"text"),
    ({"a": True}, b'{"a": true}'),
]
print("cloudevents", version("cloudevents"))
changed = False
for data, expected in EXPECTED:
    message = to_binary_event(CloudEvent(attributes=dict(NAMES), data=data))
    print(f"data={data!r}: content-type {message.headers['content-type']}, body {message.body!r}")
    changed |= (message.headers["content-type"], message.body) != ("application/json", expected)
sys.exit("changed" if changed else 0)
PY
