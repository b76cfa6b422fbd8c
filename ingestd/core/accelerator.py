"""The optional compiled accelerator: whether it is used is decided here, and nowhere else.

It takes the place of inner loops that otherwise run in Python, with the same results. Its source is in
``ingestd/accelerator/``; ``make accelerator`` builds and installs it, ``INGESTD_ACCELERATOR=off`` leaves it
alone.
"""

import zlib
from collections.abc import Callable
from typing import Any

VERSION = "4"
"""The first number of the versions that fit this code."""


def _load() -> tuple[Any, str]:
    try:
        import ingestd_accelerator
    except ImportError:
        return None, "not installed: it is optional, and saves CPU"
    version: str = ingestd_accelerator.__version__
    if version.partition(".")[0] != VERSION:
        return None, f"not used: it is version {version}, and {VERSION}.x is needed"
    if ingestd_accelerator.is_off():
        return None, f"off (INGESTD_ACCELERATOR), {version}"
    return ingestd_accelerator, version


compiled, STATE = _load()
"""The module, or None; and its version, or why it is not used, in words."""

crc32: Callable[..., int] = compiled.crc32 if compiled else zlib.crc32
