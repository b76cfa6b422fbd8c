#!/usr/bin/env bash
# PyPI standardwebhooks 1.1.0: `Webhook.sign` replaces the time zone of the datetime that it is given instead of
# converting it. Two datetimes that are equal give two signatures, and the library's own `verify` refuses what
# was signed with a zone other than UTC, beside the timestamp of that very moment.
# Needs Python 3. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check standardwebhooks==1.1.0

"$place/venv/bin/python" - <<'PY'
import sys
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")  # an example, guards nothing
utc = datetime.now(timezone.utc).replace(microsecond=0)
local = utc.astimezone(timezone(timedelta(hours=2)))
same = webhook.sign("msg_1", utc, "{}") == webhook.sign("msg_1", local, "{}")


def verified(when):
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(when.timestamp())),
        "webhook-signature": webhook.sign("msg_1", when, "{}"),
    }
    try:
        webhook.verify("{}", headers)
    except WebhookVerificationError as error:
        return f"refused ({error})"
    return "verified"


print("standardwebhooks", version("standardwebhooks"))
print(f"the same moment in UTC and in UTC+2: equal {utc == local}, signatures equal {same}")
print(f"signed in UTC: {verified(utc)}; signed in UTC+2: {verified(local)}")
good = utc == local and not same and verified(utc) == "verified" and verified(local).startswith("refused")
sys.exit(0 if good else "changed")
PY
