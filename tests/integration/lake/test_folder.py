import errno
import os
from pathlib import Path

import anyio
import pytest

from ingestd.core.errors import UserError
from ingestd.sinks.lake import words
from ingestd.transport.file_system import FileSystem
from ingestd.transport.folder import UNFINISHED, FolderTransport
from tests.each import each
from tests.integration.lake.support import unfinished
from tests.integration.store.tmpfs import fill, small_disk

pytestmark = pytest.mark.anyio


async def folder_at(root: Path) -> FolderTransport:
    transport = FolderTransport(root)
    await transport.open()
    return transport


async def put(transport: FolderTransport, key: str, body: bytes) -> int:
    answer, generation = await transport.send(key, body, {})
    transport.drop_token(generation)
    return answer.status


async def test_a_file_is_written_with_its_folders_and_nothing_is_left_over(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    transport = await folder_at(root)
    assert await put(transport, "a=1/b=2/file", b"body") == 201
    assert (root / "a=1/b=2/file").read_bytes() == b"body"
    assert unfinished(root) == []


async def test_the_same_file_again_is_there_already_and_another_takes_its_place(
    tmp_path: Path,
) -> None:
    transport = await folder_at(tmp_path)
    assert await put(transport, "f", b"one") == 201
    inode = os.stat(tmp_path / "f").st_ino
    assert await put(transport, "f", b"one") == 412
    assert os.stat(tmp_path / "f").st_ino == inode
    assert await put(transport, "f", b"two") == 201
    assert (tmp_path / "f").read_bytes() == b"two"


async def test_what_a_crash_left_unfinished_is_gone_after_the_start(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / "123-4").write_bytes(b"half")
    await folder_at(tmp_path)
    assert unfinished(tmp_path) == []


async def test_a_file_is_synced_before_it_has_its_name_and_its_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await folder_at(tmp_path)
    steps: list[str] = []
    sync, rename = os.fsync, os.rename

    def recorded_sync(descriptor: int) -> None:
        steps.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent.name)
        sync(descriptor)

    def recorded_rename(source: Path, target: Path) -> None:
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    assert await put(transport, "sub/f", b"x") == 201
    root = tmp_path.name
    assert steps == [f"sync {tmp_path.parent.name}", f"sync {UNFINISHED}", "rename", f"sync {root}"]


class EndingBetween(FileSystem):
    """The process ends between making a folder and syncing its name."""

    def sync_folder(self, folder: Path) -> None:
        if folder.name == "lake":
            raise OSError(errno.EIO, "ended")


async def test_a_folder_that_another_process_made_is_synced_before_a_file_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    ended = FolderTransport(root, file_system=EndingBetween())
    assert await put(ended, "date=1/f", b"x") == 0
    assert (root / "date=1").is_dir()
    synced: list[Path] = []

    class Recorded(FileSystem):
        def sync_folder(self, folder: Path) -> None:
            synced.append(folder)

    transport = FolderTransport(root, file_system=Recorded())
    assert await put(transport, "date=1/f", b"x") == 201
    assert synced[0] == root
    synced.clear()
    assert await put(transport, "date=1/g", b"x") == 201
    assert synced == [root / "date=1"]


@each("key", ["", "/etc/x", "../x", "a/../../x", "a\0b"])
async def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    root = tmp_path / "lake"
    assert await put(await folder_at(root), key, b"x") == 400
    assert os.listdir(tmp_path) == ["lake"]
    assert os.listdir(root) == [UNFINISHED]


async def test_a_full_disk_is_told_in_words_leaves_no_half_file_and_passes(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as root:
        transport = await folder_at(root)
        filler = fill(root)
        answer, _ = await transport.send("d/f", bytes(500_000), {})
        assert words(answer) == "507 cannot write d/f: No space left on device"
        assert unfinished(root) == []
        assert not await anyio.Path(root / "d/f").exists()
        filler.unlink()
        assert await put(transport, "d/f", bytes(500_000)) == 201


@pytest.mark.parametrize(
    ("number", "status"), [(errno.EACCES, 403), (errno.EROFS, 403), (errno.EDQUOT, 507), (errno.EIO, 0)]
)
async def test_trouble_of_the_disk_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    transport = await folder_at(tmp_path)

    def broken(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", broken)
    answer, _ = await transport.send("f", b"x", {})
    assert answer.status == status
    assert os.strerror(number) in words(answer)
    assert unfinished(tmp_path) == []
    assert not await anyio.Path(tmp_path / "f").exists()


async def test_a_folder_that_goes_away_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    transport = await folder_at(root)
    (root / UNFINISHED).rmdir()
    root.rmdir()
    assert await put(transport, "a/f", b"x") == 201


async def test_a_place_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be used: "):
        await folder_at(tmp_path / "file")


@each(("mode", "folders"), [(0o600, 0o700), (0o640, 0o750), (0o664, 0o775)])
@each("umask", [0o000, 0o077])
async def test_files_and_folders_have_the_rights_that_are_set_whatever_the_umask(
    tmp_path: Path, mode: int, folders: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        transport = FolderTransport(tmp_path / "made" / "lake", file_mode=mode)
        await transport.open()
        assert await put(transport, "a=1/b=2/file", b"body") == 201
        assert await put(transport, "a=1/b=2/file", b"other") == 201
    finally:
        os.umask(before)
    for path in (tmp_path / "made").rglob("*"):
        assert path.stat().st_mode & 0o777 == (folders if path.is_dir() else mode), path
    assert (tmp_path / "made").stat().st_mode & 0o777 == folders


async def test_a_folder_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    assert await put(await folder_at(tmp_path), "file", b"body") == 201
    assert os.stat(tmp_path).st_mode & 0o777 == 0o755
