"""One server for the tests that leave it alone."""

from tests.nats_server import shared_nats

__all__ = ["shared_nats"]
