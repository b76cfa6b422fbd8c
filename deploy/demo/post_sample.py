"""Post sample events to ingestd for ever, as a producer should: with a token, and waiting when told to.

Run by compose.yaml, so that the dashboard lives: post_sample.py URL TOKEN_FILE EVENTS_PER_SECOND
"""

import itertools
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ingestd.sandbox.sample import sample_events
from ingestd.transport.headers.retry_after import parse

EVENTS_PER_REQUEST = 50
EVENTS_PER_SEED = 100_000
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def batches() -> Iterator[bytes]:
    """NDJSON bodies without end. Another seed for each start: the same events would be duplicates."""
    for seed in itertools.count(time.time_ns()):
        events = sample_events(EVENTS_PER_SEED, seed)
        while lines := list(itertools.islice(events, EVENTS_PER_REQUEST)):
            yield b"".join(line + b"\n" for line in lines)


def post(url: str, *, body: bytes, token: str) -> None:
    """One request, the same again until it is taken. Ends the process if the answer is about the producer."""
    headers = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {token}"}
    while True:
        try:
            with OPENER.open(urllib.request.Request(url, body, headers), timeout=30.0):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            answer = error
        except OSError:
            time.sleep(1.0)
            continue
        if answer.code == 422:  # none of them was valid; that was an answer, too
            return
        if answer.code not in (429, 503):
            sys.exit(f"{url} answered {answer.code}: {answer.read(200).decode(errors='replace')}")
        wait_s = parse(
            answer.headers.get("Retry-After"), now_wall=time.time(), date=answer.headers.get("Date")
        )
        time.sleep(1.0 if wait_s is None else wait_s)


def main(url: str, token_file: str, events_per_second: str) -> None:
    token = Path(token_file).read_text(encoding="utf-8").split()[0]
    pause_s = EVENTS_PER_REQUEST / float(events_per_second)
    due = time.monotonic()
    for body in batches():
        post(url, body=body, token=token)
        due = max(due + pause_s, time.monotonic() - pause_s)
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
