#!/usr/bin/env bash
# msgspec 0.22.0: a JSON text with the first half of a surrogate pair (valid by the grammar of RFC 8259, as cut
# strings of JavaScript senders have it) is refused as "Input data was truncated" where fewer than six bytes of
# the complete text follow it, and as an unexpected end of a pair where more do.
# Needs Python 3.10 or newer. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check msgspec==0.22.0

"$place/venv/bin/python" - <<'PY'
import json
import sys

import msgspec

EXPECTED = {
    rb'{"note":"caf\ud83d"}': "Input data was truncated",
    rb'"\ud83d1234"': "Input data was truncated",
    rb'"\ud83d12345"': "JSON is malformed: unexpected end of escaped utf-16 surrogate pair",
}
print("msgspec", msgspec.__version__)
changed = False
for text, expected in EXPECTED.items():
    json.loads(text)  # the standard library takes it
    try:
        said = f"taken: {msgspec.json.decode(text)!r}"
    except msgspec.DecodeError as error:
        said = str(error)
    print(f"{text.decode()}: {said}")
    changed |= not said.startswith(expected)
sys.exit("changed" if changed else 0)
PY
