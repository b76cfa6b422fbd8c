"""``ingestd check`` says which files would be read, and what keeps them from it."""

import os
from pathlib import Path

import pytest

from ingestd.app.checks.files import check_files
from ingestd.config import Settings
from ingestd.sources.live.watcher import network_of


def found(**sources: object) -> list[tuple[str, str]]:
    settings = Settings.model_validate({"ingest": {"files": sources}})
    return [(one.level.value, f"{one.check}: {one.text}") for one in check_files(settings)]


def test_it_says_what_patterns_match_and_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "shut").mkdir()
    for name in ("a.log", "b.log"):
        (tmp_path / "in" / name).write_bytes(b"{}\n")
    os.mkfifo(tmp_path / "in" / "pipe.log")
    os.symlink("round.log", tmp_path / "in" / "round.log")
    os.symlink("a.log/below", tmp_path / "in" / "through.log")
    os.symlink(tmp_path / "in" / "a.log", tmp_path / "link.log")
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda at, mode: "shut" not in str(at) and "b.log" not in str(at) and real(at, mode)
    )
    told = found(
        a={
            "paths": [f"{tmp_path}/in/*.log", f"{tmp_path}/none/*.log", f"{tmp_path}/in/*.gz"],
            "watch": "poll",
        },
        b={
            "paths": f"{tmp_path}/*.log",
            "when_done": "move",
            "move_to": f"{tmp_path}/shut",
            "poll_every": "5s",
            "max_files": 1,
        },
    )
    words = [text.replace(str(tmp_path), "") for _, text in told]
    assert words[0] == "files.a: 2 files, 6B, looked at every 1 s"
    assert words[1] == "files.a: /none/*.log matches no file: there is no directory /none"
    assert words[2] == "files.a: /in/*.gz matches no file: nothing is there yet"
    assert words[3] == "files.a: 3 names are not regular files, and are passed over"
    assert words[4] == "files.a: /in/b.log cannot be read by this user"
    assert words[5].startswith("files.b: 1 files, 3B, ")
    assert words[6] == "files.b: /link.log are symbolic links: when_done leaves them where they are"
    assert words[7] == "files.b: move_to: /shut is not a directory that can be written to"
    assert words[8] == "files.b: /link.log would be read by files.a too: one of them does; narrow one"
    levels = [*("ok", "warn", "warn", "ok", "FAIL", "ok"), *("warn", "FAIL", "warn")]
    assert [level for level, _ in told] == levels


def test_what_it_writes_itself_is_not_read(tmp_path: Path) -> None:
    for name in ("sta[t]e/a.log", "sta[t]e/deep/b.log", "audit.log", "audit.log.1", "done/c.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}\n")
    files = {"paths": f"{tmp_path}/**", "when_done": "move", "move_to": f"{tmp_path}/done"}
    own = {"state": {"dir": f"{tmp_path}/sta[t]e"}, "audit": {"file": f"{tmp_path}/audit.log"}}
    told = [one.text for one in check_files(Settings.model_validate({**own, "ingest": {"files": files}}))]
    assert told[0].startswith("0 files")
    assert "is left out" in told[1]
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "a.log").write_bytes(b"{}\n")  # not that directory
    told = [one.text for one in check_files(Settings.model_validate({**own, "ingest": {"files": files}}))]
    assert told[0].startswith("1 files")
    with pytest.raises(ValueError, match="NUL"):
        Settings.model_validate({"ingest": {"files": {"paths": "a\0b"}}})


def test_a_network_file_system_is_known_by_where_it_is_mounted(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs4 rw 0 0\n")
    assert network_of(f"{tmp_path}/far/logs", str(mounts)) == "nfs4"
    assert network_of(f"{tmp_path}/farther", str(mounts)) == ""
    assert network_of(f"{tmp_path}/far", str(tmp_path / "none")) == ""
