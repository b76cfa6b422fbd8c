"""One real broker for all of these tests."""

from tests.kafka_server import shared_kafka

__all__ = ["shared_kafka"]
