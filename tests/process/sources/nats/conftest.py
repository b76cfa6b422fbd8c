"""One real server for all of these tests."""

from tests.nats_server import shared_nats

__all__ = ["shared_nats"]
