"""What the tests of the console share."""

from tests.process.cli.conftest import place

__all__ = ["place"]
