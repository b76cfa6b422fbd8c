"""Which file is it: goes on where it was, or begins at its start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.store.files import find, known_file, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def known(tmp_path: Path) -> tuple[Path, int]:
    return await known_file(tmp_path)


def grow(path: Path) -> Path:
    path.write_bytes(path.read_bytes() + b'{"c":3}\n' * 1000)
    return path


def rename(path: Path) -> Path:
    return path.rename(path.with_name("other"))


@pytest.mark.parametrize("change", [lambda path: path, grow, rename], ids=["as it was", "grown", "renamed"])
async def test_a_file_goes_on_where_it_was(change: Callable[[Path], Path], known: tuple[Path, int]) -> None:
    path, number = known
    async with opened(path.parent) as journal:
        assert (await find(journal, change(path)))[:3] == (number, 8, 2)


def copy(path: Path) -> Path:
    other = path.with_name("copy")
    other.write_bytes(path.read_bytes())
    return other


def rewrite(path: Path) -> Path:
    path.write_bytes(b'{"x":9}\n{"y":8}\n')
    return path


def shrink(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:4])
    return path


def exchange(path: Path) -> Path:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    return other.replace(path)


@pytest.mark.parametrize("change", [copy, rewrite, shrink, exchange], ids=lambda change: change.__name__)
async def test_another_file_begins_at_its_start(
    change: Callable[[Path], Path], known: tuple[Path, int]
) -> None:
    path, number = known
    async with opened(path.parent) as journal:
        state = await find(journal, change(path))
        assert state.number != number
        assert (state.position, state.line) == (0, 1)


async def test_a_file_that_shrank_below_its_position_is_new_although_its_head_is_the_same(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"x" * 10_000)
    async with opened(tmp_path) as journal:
        first = await find(journal, path)
        journal.moved(first.number, 9_000, 7)
    path.write_bytes(b"x" * 8_000)
    async with opened(tmp_path) as journal:
        assert (await find(journal, path, size=None))[:3] == (
            first.number,
            9_000,
            7,
        )  # an archive: it cannot be told
        state = await find(journal, path)
        assert state.number != first.number
        assert state.position == 0


async def test_from_start_begins_anew_and_stays_so(known: tuple[Path, int]) -> None:
    path, number = known
    async with opened(path.parent) as journal:
        assert (await find(journal, path, from_start=True))[:3] == (number, 0, 1)
    async with opened(path.parent) as journal:
        assert (await find(journal, path))[:3] == (number, 0, 1)


async def test_an_empty_file_is_never_taken_for_another(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"")
    async with opened(tmp_path) as journal:
        first = await find(journal, path)
        assert (await find(journal, path)).number != first.number


async def test_a_state_keeps_to_the_chunks_that_its_first_run_took(tmp_path: Path) -> None:
    """What was frozen is found again by the chunks it came from. Earlier versions took 256 KiB, and did not
    say so."""
    path, _ = await known_file(tmp_path)
    new, later = tmp_path / "new", tmp_path / "later"
    for directory, wanted, kept in ((tmp_path, 1000, 256 * 1024), (new, 1000, 1000), (new, 2000, 1000)):
        directory.mkdir(exist_ok=True)
        async with opened(directory) as journal:
            assert (await find(journal, path, chunk_bytes=wanted)).chunk_bytes == kept
    later.write_bytes(b"1\n")
    async with opened(new) as journal:
        assert (await find(journal, later, chunk_bytes=3000)).chunk_bytes == 1000
