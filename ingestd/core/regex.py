"""Regular expressions that are compiled when they are used first: most processes need few of them."""

import re
from typing import Any, AnyStr, cast


class _Late:
    """Takes each attribute from the compiled pattern, and keeps it."""

    def __init__(self, source: Any, flags: int) -> None:
        self._given = source, flags

    def __getattr__(self, name: str) -> Any:
        source, flags = self._given
        found = getattr(re.compile(source, flags), name)
        setattr(self, name, found)
        return found


def regex(source: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """As ``re.compile``, which it calls later. The functions of ``re`` do not take it: use its methods."""
    return cast("re.Pattern[AnyStr]", _Late(source, flags))
