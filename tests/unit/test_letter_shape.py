"""Where a dead letter's event is from, as a person would look for it there."""

from typing import Any

from ingestd.app.letters.shape import as_dict
from ingestd.core.letter import Form
from ingestd.store.dead_letters import StoredLetter
from tests.each import each


def letter(offset: int) -> StoredLetter:
    plain: dict[str, Any] = dict.fromkeys(StoredLetter._fields, 0)
    texts = dict.fromkeys(("state", "reason", "detail", "fingerprint", "batch", "sink", "obstacle"), "")
    own = {"payload": b"{}", "producer": "", "form": Form.AS_IT_CAME, "offset": offset}
    return StoredLetter(**plain | texts | own)


@each(
    "source, offset, shown",
    [
        ("/data/events.ndjson", 700, (700, None)),
        ("NATS stream ORDERS, consumer ingestd", 7, (None, 7)),
        ("Kafka cluster c, group g, topic t, partition 0", 7, (7, None)),
        ("SQS queue http://127.0.0.1/q", 7, (None, None)),
        ("", -8, (None, 7)),
    ],
)
def test_the_place_of_an_event_is_what_its_source_calls_so(
    source: str, offset: int, shown: tuple[int | None, int | None]
) -> None:
    found = as_dict(letter(offset), source)
    assert (found["offset"], found["sequence"]) == shown
