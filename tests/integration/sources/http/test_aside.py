import asyncio
import gzip
import random
import threading
from collections.abc import Callable
from typing import Any

from ingestd.sources.http.aside import BodyThread
from ingestd.sources.http.endpoint import LIGHT_BYTES, LIGHT_CODED_BYTES
from tests.each import each
from tests.integration.sources.http.support import EVENT, JSON, LINES, Scene


class Shelf:
    """Keeps the work until ``do``."""

    def __init__(self) -> None:
        self.kept: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.kept.append(lambda: done(work()))

    def do(self) -> None:
        for one in self.kept:
            one()


def scene_with_shelf(**options: Any) -> tuple[Scene, Shelf]:
    scene, shelf = Scene(**options), Shelf()
    scene.endpoint._aside = shelf
    return scene, shelf


GZIP = {**LINES, "content-encoding": "gzip"}


@each(
    ("body", "headers"),
    [
        (b"[%b]" % b",".join([EVENT] * (LIGHT_BYTES // len(EVENT))), JSON),
        (gzip.compress(random.Random(4).randbytes(20_000).hex().encode()), GZIP),
    ],
    ids=["large", "compressed"],
)
def test_a_body_that_takes_long_is_unpacked_beside_the_loop(body: bytes, headers: dict[str, str]) -> None:
    assert len(body) > (LIGHT_CODED_BYTES if headers is GZIP else LIGHT_BYTES)
    scene, shelf = scene_with_shelf()
    assert scene.send(body, headers) is None
    assert not scene.desk.submissions
    assert len(shelf.kept) == 1
    shelf.do()
    assert scene.desk.submissions
    scene, shelf = scene_with_shelf()
    assert scene.send(EVENT, JSON) is not None
    assert not shelf.kept


def test_of_a_client_that_went_meanwhile_nothing_is_submitted() -> None:
    scene, shelf = scene_with_shelf()
    requests: list[Any] = []
    handle = scene.endpoint.handle
    scene.endpoint.handle = lambda request: (requests.append(request), handle(request))[1]  # type: ignore[method-assign]
    assert scene.send(EVENT + b"\n" + b" " * LIGHT_BYTES, LINES) is None
    requests[0].gone = True
    shelf.do()
    assert not scene.desk.submissions
    assert requests[0].body == b""


async def _in_thread() -> None:
    with BodyThread() as aside:
        done: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        aside(threading.get_ident, lambda worker: done.set_result((worker, threading.get_ident())))
        worker, loop = await done
        assert loop == threading.get_ident()
        assert worker != loop


def test_the_work_is_done_in_a_thread_and_its_end_told_on_the_loop() -> None:
    asyncio.run(_in_thread())
