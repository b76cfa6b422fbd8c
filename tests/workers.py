"""The workers that run tests beside each other, without an import for each: a plugin of pytest.

One process imports what they would all import, the modules of the tests with it, and forks for each worker of
pytest-xdist, as ``tests/warm.py`` does for commands. To collect the tests is left to each. What cannot be
imported is left to them, too: they tell.
"""

import atexit
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from _pytest.config import _prepareconfig

from tests.warm import end, open_server, serve

if TYPE_CHECKING:
    from execnet.xspec import XSpec

_ROOT = Path(__file__).parents[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: "list[XSpec]") -> None:
    directory, close = open_server(module="tests.workers", words=config.invocation_params.args)
    config.add_cleanup(close)
    for spec in specs:
        spec.python = str(directory / "ingestd")


def _import_all(arguments: list[str]) -> None:
    """As pytest does: it rewrites what is asserted in them, and warnings are errors. No module may ask at its
    import which process it is in."""
    del sys.modules["tests.warm"]  # pytest wants to import it itself
    gc.disable()  # next to nothing of it is garbage
    config = _prepareconfig([*arguments, "--capture=no"])
    for module in _modules(config.args):
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(module)
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, AssertionRewritingHook)]
    gc.enable()


def _modules(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        place = Path(argument.partition("::")[0]).resolve()
        if place.is_relative_to(_ROOT):
            for path in sorted(place.rglob("test_*.py")) if place.is_dir() else [place]:
                yield ".".join(path.relative_to(_ROOT).with_suffix("").parts)


def _work(words: list[str]) -> None:
    """What pytest-xdist gives to an interpreter: ``-u -c SOURCE``."""
    *_, option, source = words
    sys.argv = [option]
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(source, names)
    atexit._run_exitfuncs()
    end(0)


if __name__ == "__main__":
    path, *arguments = sys.argv[1:]
    _work(serve(path, lambda: _import_all(arguments)))
