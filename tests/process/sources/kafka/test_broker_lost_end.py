"""A partition of a real broker loses its end, as after an unclean election: what the library and the broker
say of it then."""

import shutil
from pathlib import Path

import pytest

from ingestd.config import Settings
from tests.event_api import EventApi, events
from tests.machine import patience
from tests.process.sources.kafka.support import (
    IN_TURN,
    Topic,
    kafka_server,
    running,
    settings,
    topic,
    until,
)

pytestmark = pytest.mark.anyio

LOST = "has other messages now than were read"


async def test_what_came_before_the_committed_offset_is_read_where_a_transaction_ends_just_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One partition is read on by the same process, one by another. Of a third one nothing is lost: its
    transactions ended under a later leader."""
    with kafka_server(tmp_path / "kafka") as server:
        cut = [topic(server), topic(server)]
        whole = topic(server)
        data, before = tmp_path / "kafka" / "data", tmp_path / "before"
        for made in cut:
            made.produce(*events(6))
        for made in cut:
            shutil.copytree(data / f"{made.name}-0", before / f"{made.name}-0")
        async with EventApi() as api:

            def of(directory: str, made: Topic) -> Settings:
                source = {"static_member": False}  # so that another process has its partition at once
                return settings(tmp_path / directory, api.url, made, source, delivery=IN_TURN)

            for directory, made in zip("xy", cut, strict=True):
                made.produce(*events(6, first=6))
                async with running(of(directory, made)):
                    await made.settled(12, made.name)
            unfinished = whole.transaction(*events(3, first=50))
            server.kill()
            for made in cut:
                shutil.rmtree(data / f"{made.name}-0")
            shutil.copytree(before, data, dirs_exist_ok=True)
            server.start()
            unfinished.commit_transaction(patience(20))
            whole.produce_in_a_transaction(*events(3, first=60), commit=False)
            async with running(of("w", whole)):
                await whole.settled(
                    8, whole.name
                )  # three messages, a mark; three that were taken back, a mark
            for first, directory, made in zip((100, 200), "xz", cut, strict=True):
                new = events(5, first=first)
                made.produce_in_a_transaction(*new, commit=True)  # 6 to 10; its mark is 11
                async with running(of(directory, made)) as service:
                    await until(lambda n=new: {*n} <= {*api.events}, service.task)
                    await made.settled(12, made.name)
            assert caplog.text.count(LOST) == 2
            whole.produce(*events(2, first=70))
            async with running(of("w", whole)):
                await whole.settled(10, whole.name)
        read = [*events(12), *events(12), *events(3, first=50), *events(2, first=70)]
        assert sorted(api.events) == sorted([*read, *events(5, first=100), *events(5, first=200)])
    assert caplog.text.count(LOST) == 2
