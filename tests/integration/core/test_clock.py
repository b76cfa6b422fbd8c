import asyncio

import pytest

from ingestd.core.clock import Tasks


async def for_ever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def fails() -> None:
    raise ValueError("so it is")


def test_the_last_line_of_a_block_ends_what_would_go_on_for_ever() -> None:
    ended: list[str] = []

    async def main() -> None:
        async with Tasks() as tasks:
            for name in "ab":
                tasks.start_soon(for_ever, ended, name)
            await asyncio.sleep(0)
            tasks.cancel()
            assert ended == []

    asyncio.run(main())
    assert sorted(ended) == ["a", "b"]


def test_one_that_fails_ends_the_others_and_the_block() -> None:
    ended: list[str] = []

    async def main() -> None:
        async with Tasks() as tasks:
            tasks.start_soon(for_ever, ended, "a")
            tasks.start_soon(fails)
            await for_ever(ended, "block")

    with pytest.raises(ExceptionGroup) as group:
        asyncio.run(main())
    assert [str(one) for one in group.value.exceptions] == ["so it is"]
    assert sorted(ended) == ["a", "block"]
