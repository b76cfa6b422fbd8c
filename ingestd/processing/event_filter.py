"""A pattern of a person who looks at events, as a sink's ``when``."""

import json
from collections.abc import Callable

from ingestd.core.errors import UserError
from ingestd.processing import routes


def event_filter(when: str) -> Callable[[bytes], bool]:
    """``when``: a pattern as JSON. Raises UserError."""
    try:
        pattern = json.loads(when)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the pattern is not JSON: {error}") from None
    if not isinstance(pattern, dict):
        raise UserError("a pattern is a JSON object, as in a sink's when")
    try:
        router = routes.compile({"tap": pattern})
    except UserError as error:
        raise UserError(str(error).removeprefix("sinks.tap.when: ")) from None
    return lambda event: not router.route([event]).unmatched
