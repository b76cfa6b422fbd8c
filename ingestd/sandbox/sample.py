"""Sample input: interaction events as a contact centre sends them, with the usual dirt.

Called by ``ingestd demo`` (``write_sample``) and by the benchmarks (``sample_events``).
"""

import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

EVENTS = 20_000
SEED = 1
DUPLICATES = 0.02
INVALID = 0.01

_START_MS = 1_767_258_000_000  # 2026-01-01T09:00:00Z
_OPEN_INTERACTIONS = 500
_RECENT = 1_000
_EXTRA = 0.01
"""Share of the events with a field that the schema does not know."""

_PATH = (("queue", "QUEUE"), ("answer", "ANSWER"), ("transfer", "TRANSFER"), ("requeue", "REQUEUE"))
_LAST = ("disconnect", "DISCONNECT")
_SKILLS = ("support", "billing", "sales", "retention", "technical", "claims")
_LANGUAGES = ("en-US", "de-DE", "fr-FR", "ja-JP", "es-ES", "pt-BR")
_SEGMENTS = ("enterprise", "business", "consumer", "partner")
_WORDS = (_SKILLS, _LANGUAGES, _SEGMENTS)
_NOTES = (
    "Caller asked for a copy of the last invoice",
    "Rückfrage zur Rechnung, Kundin wünscht Rückruf",
    "Client a demandé un échéancier à l'agence",
    "請求書の再発行をご希望です",
    'Said "call me back after five"',
    "Olá! Cliente satisfeita com a solução 🙂",
)
_JSON_NOTES = [json.dumps(note, ensure_ascii=False).encode() for note in _NOTES]

_EVENT = (
    b'{"eventType":"routing.interaction.%b","eventTime":"%b","interactionId":"%b",'
    b'"routingMetadata":{"queueId":"%b","skill":"%b","actionType":"%b"},'
    b'"attributes":{"customerSegment":"%b","language":"%b","priority":%d,'
    b'"agentId":"%b","durationSeconds":%d,"note":%b},"schemaVersion":%d%b}'
)


class SampleCounts(NamedTuple):
    """Of ``events`` lines: ``duplicates`` repeat the key of an earlier one, ``invalid`` fail the schema."""

    events: int
    duplicates: int
    invalid: int


def write_sample(path: str | Path, events: int = EVENTS, *, seed: int = SEED) -> SampleCounts:
    """Write ``events`` events as gzipped NDJSON; the file's bytes depend on ``events`` and ``seed`` only.

    Besides duplicates and invalid events it has a byte order mark, a line that ends in CRLF and an
    empty line, none of which is an event or makes one invalid. Raises OSError.
    """
    kinds = {_GOOD: 0, _DUPLICATE: 0, _INVALID: 0}
    # Without a name and a time in its header, the same events make the same file.
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as out:
        out.write(b"\xef\xbb\xbf")
        lines = _labelled(events, seed, duplicates=DUPLICATES, invalid=INVALID)
        for number, (kind, line) in enumerate(lines):
            kinds[kind] += 1
            out.write(line + (b"\r\n" if number == events // 3 else b"\n"))
            if number == events // 2:
                out.write(b"\n")
    return SampleCounts(events, kinds[_DUPLICATE], kinds[_INVALID])


def sample_events(
    count: int, seed: int = SEED, *, duplicates: float = DUPLICATES, invalid: float = INVALID
) -> Iterator[bytes]:
    """``count`` events of about 450 bytes, without line ends; the two shares are of ``count``.

    A duplicate has the interactionId, eventType and eventTime of one of the last thousand events;
    every other one is the same in all its bytes, the rest were marked as sent again on their way.
    """
    return (line for _, line in _labelled(count, seed, duplicates=duplicates, invalid=invalid))


_GOOD, _DUPLICATE, _INVALID = range(3)


def _labelled(count: int, seed: int, *, duplicates: float, invalid: float) -> Iterator[tuple[int, bytes]]:
    dice = random.Random(seed)
    throw = dice.random
    events = _valid_events(dice)
    recent: list[bytes] = []
    spoiled = doubled = 0
    for number in range(count):
        kind = throw()
        if not recent or kind >= duplicates + invalid:
            line = next(events)
            if len(recent) < _RECENT:
                recent.append(line)
            else:
                recent[number % _RECENT] = line
            yield _GOOD, line
        elif kind < duplicates:
            line = recent[int(throw() * len(recent))]
            doubled += 1
            yield (
                _DUPLICATE,
                line
                if doubled % 2
                else line.replace(b'},"schemaVersion"', b',"redelivered":true},"schemaVersion"'),
            )
        else:
            spoiled += 1
            yield _INVALID, _spoil(next(events), spoiled % 6)


def _valid_events(dice: random.Random) -> Iterator[bytes]:
    """Interactions that run side by side: each waits in a queue, is answered, passed on, ended."""
    throw = dice.random
    queues = [_uuid(dice) for _ in range(24)]
    agents = [_uuid(dice) for _ in range(200)]
    skills, languages, segments = ([text.encode() for text in texts] for texts in _WORDS)
    steps = [(name.encode(), action.encode()) for name, action in (*_PATH, _LAST)]
    open_ids = [_uuid(dice) for _ in range(_OPEN_INTERACTIONS)]
    open_steps = [0] * _OPEN_INTERACTIONS
    at_ms, second, stamp = _START_MS, 0, b""
    while True:
        at_ms += 1 + int(throw() * 40)  # never twice the same time: no two events have the same key
        if at_ms // 1000 != second:
            second = at_ms // 1000
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        slot, chance = int(throw() * _OPEN_INTERACTIONS), throw()
        step, interaction = open_steps[slot], open_ids[slot]
        name, action = steps[step]
        if step == len(steps) - 1:
            open_ids[slot], open_steps[slot] = _uuid(dice), 0
        else:
            open_steps[slot] = step + 1 if chance < 0.6 else len(steps) - 1
        yield _EVENT % (
            name,
            b"%b.%03dZ" % (stamp, at_ms % 1000),
            interaction,
            queues[slot % 24],
            skills[slot % 6],
            action,
            segments[slot % 4],
            languages[int(chance * 6)],
            1 + slot % 5,
            agents[slot % 200],
            int(chance * 900),
            _JSON_NOTES[int(throw() * 6)],
            1 + slot % 3,
            b',"division":"Home"' if chance < _EXTRA else b"",
        )


def _spoil(event: bytes, kind: int) -> bytes:
    """One of six things that go wrong with events out there."""
    if kind == 0:
        return event.replace(b'"actionType":"', b'"actionType":"HOLD_', 1)
    if kind == 1:
        return event.replace(b'Z","interactionId"', b'","interactionId"', 1)  # no time zone
    if kind == 2:
        return event.replace(b'"routingMetadata"', b'"routing"', 1)
    if kind == 3:
        start = event.index(b'"schemaVersion":') + len(b'"schemaVersion":')
        return event[:start] + b"9" + event[start + 1 :]
    if kind == 4:
        return event[: len(event) * 2 // 3]  # cut off
    return event.replace(b'"note":"', b'"note":"\xff\xfe', 1)


def _uuid(dice: random.Random) -> bytes:
    digits = b"%032x" % dice.getrandbits(128)
    return b"%b-%b-4%b-a%b-%b" % (digits[:8], digits[8:12], digits[13:16], digits[17:20], digits[20:])
