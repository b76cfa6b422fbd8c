"""A test that fails is always reported under its name: a plugin of pytest, see conftest.py.

pytest parses the source of every frame that it shows. CPython 3.11.7 counts the depth of that in one place
for the whole process: when garbage is collected in the middle and a finaliser parses too (``traceback`` does,
for an exception that nobody takes), ``ast.parse`` raises "SystemError: AST constructor recursion depth
mismatch". pytest-xdist made an INTERNALERROR of it and named no test. So nothing is collected meanwhile, and
whatever else goes wrong while a failure is described leaves at least its name and its cause.
"""

import gc
import traceback
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    except Exception as error:
        words = "".join(traceback.format_exception_only(error))
        if call.excinfo is not None:
            words = "".join(traceback.format_exception_only(call.excinfo.value)) + f"not described: {words}"
        return pytest.TestReport(
            item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", words, call.when,
            duration=call.duration, start=call.start, stop=call.stop,
        )  # fmt: skip
    finally:
        if collecting:
            gc.enable()
