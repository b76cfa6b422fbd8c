"""What sources have in common that read from a broker."""

from typing import Literal

MessageFormat = Literal["event", "ndjson", "array", "cloudevents"]
"""``event``: one JSON object a message; ``ndjson``: a line each; ``array``: a JSON array of them;
``cloudevents``: binary mode (attributes in headers), structured, or a batch."""
