"""Whether what a stream does not give any more was deleted before it was read."""

from typing import Any

from ingestd.sources.nats.stream_life import StreamLife, another_words
from ingestd.sources.nats.stream_state import stream_of
from tests.each import each

ALL: dict[str, Any] = {"subjects": ["orders.>"]}


@each(
    "config, subjects, lost",
    [
        (ALL, [], 5),
        (ALL, ["orders.>"], 5),
        (ALL, ["orders.new"], 0),
        ({"mirror": {"name": "O"}}, [], 5),
        ({"mirror": {"name": "O"}}, ["orders.new"], 0),
        ({"mirror": {"name": "O", "filter_subject": "orders.new"}}, [], 0),
        ({"mirror": {"name": "O", "subject_transforms": [{"src": "orders.new"}]}}, [], 0),
        ({"sources": [{"name": "O", "filter_subject": "orders.new"}]}, [], 5),
        ({"sources": [{"name": "O"}], "subjects": ["orders.>"]}, ["orders.>"], 0),
        (ALL | {"subject_transform": {"src": "orders.*", "dest": "{{partition(2,1)}}"}}, ["orders.>"], 0),
        (ALL | {"retention": "workqueue"}, [], 0),
    ],
)
def test_only_what_the_source_would_have_read_counts_as_lost(
    config: dict[str, Any], subjects: list[str], lost: int
) -> None:
    """Of a mirror with a filter, as of a source that reads some subjects, the others were never its own."""
    state = {"first_seq": 16, "last_seq": 20, "messages": 5}
    stream = stream_of({"created": "t", "config": {"retention": "limits"} | config, "state": state})
    life = StreamLife(b"t", 1, lambda position: None, resolved=10)
    assert len(life.pass_deleted(stream, subjects)) == lost


def test_it_is_told_where_another_stream_of_the_same_name_is_read_from() -> None:
    """Servers of two clusters may take turns behind one address."""
    assert another_words("ORDERS", 0).endswith("it is read from where its consumer stands")
    assert another_words("ORDERS", 7).endswith("from behind message 7, to which it was read before")
