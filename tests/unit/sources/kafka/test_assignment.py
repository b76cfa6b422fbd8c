"""What the brokers keep of a member's partitions."""

import struct

import pytest

from ingestd.sources.kafka.assignment import places_of


def test_partitions_of_several_topics_are_read_and_what_is_behind_them_is_not() -> None:
    """As Kafka 4.4.0 gave it of a member with cooperative-sticky, and with a topic whose name is longer."""
    assignment = (
        b"\x00\x01\x00\x00\x00\x02\x00\x06orders\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07"
        b"\x00\x08payments\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00\x04more"
    )
    assert [*places_of(assignment)] == [("orders", 0), ("orders", 7), ("payments", 3)]


def test_a_member_that_was_given_none_has_none() -> None:
    assert [*places_of(b"")] == [*places_of(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")] == []


def test_half_of_one_is_refused() -> None:
    with pytest.raises(struct.error):
        [*places_of(b"\x00\x00\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x02\x00\x00\x00\x00")]
