"""The state file: private, whole, one apply at a time, no secrets; and what it says when it is damaged."""

import json
import stat
from pathlib import Path

import pytest

from ingestd.control.engine.resource import RemoteResource, Wanted
from ingestd.control.engine.secret import SecretRef
from ingestd.control.engine.state import ControlState, PendingCreate
from ingestd.control.engine.state_file import open_state
from ingestd.core.errors import UserError
from tests.each import each

BASE = "https://api.example.com"
WANTED = Wanted(
    "target",
    "a",
    "A",
    {"x": 1},
    {"auth.key": SecretRef("env:KEY")},
    frozenset({("integration", "b")}),
    protected=True,
)
FOUND = RemoteResource("target", "A", "id-1", {"x": 1})


def fill(state: ControlState) -> None:
    state.begin_revision({"target": {"a": {"x": 1}}}, {"counts": {"create": 1}})
    state.intend(Wanted("target", "later", "later", {}))
    state.remember(FOUND, WANTED, created=True, secrets={"auth.key": state.hash_of("canary")})
    state.save()


def test_what_was_saved_is_there_again_and_belongs_to_its_api_alone(tmp_path: Path) -> None:
    with open_state(tmp_path, BASE, change=True) as state:
        fill(state)
        [record] = state.records("target")
    with open_state(tmp_path, "https://other", change=True) as other:
        assert other.kinds == set()
        other.save()
    with open_state(tmp_path, BASE, change=False) as again:
        assert again.records("target") == [record]
        assert (record.after, record.protected, record.created) == ((("integration", "b"),), True, True)
        assert again.intends("target", "later")
        assert (again.revision, again.tables(1)) == (1, {"target": {"a": {"x": 1}}})
        assert record.secrets == {"auth.key": again.hash_of("canary")}
        with pytest.raises(UserError, match="revision 7 is not kept; there are: 1"):
            again.tables(7)


def test_files_are_private_and_hold_no_secret_and_hashes_differ_between_directories(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with open_state(tmp_path / name, BASE, change=True) as state:
            fill(state)
    texts = [(tmp_path / name / "control.json").read_text() for name in ("one", "two")]
    hashes = [json.loads(text)["apis"][BASE]["records"][0]["secrets"]["auth.key"] for text in texts]
    assert hashes[0] != hashes[1]
    assert "canary" not in texts[0]
    for path in (tmp_path / "one").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700


def test_a_second_apply_is_refused_and_a_plan_is_not(tmp_path: Path) -> None:
    with open_state(tmp_path, BASE, change=True):
        with (
            pytest.raises(UserError, match="another apply works with"),
            open_state(tmp_path, BASE, change=True),
        ):
            pass
        with open_state(tmp_path, BASE, change=False) as state, pytest.raises(AssertionError):
            state.save()
    with open_state(tmp_path, BASE, change=True):
        pass


@each(
    ("text", "said"),
    [
        ('{"format": 1, "apis": {', "is damaged"),
        ('{"format": 1, "apis": {"x": {"records": [{"kind": 5}]}}}', "is damaged .*kind"),
        ('{"format": 9, "apis": {}}', "has format 9, expected 1: use the ingestd that wrote it"),
        ("[" * 100_000, "is damaged"),
        ("", "is damaged"),
    ],
)
def test_a_damaged_file_is_told_and_left_as_it_is(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "control.json").write_text(text)
    with pytest.raises(UserError, match=said), open_state(tmp_path, BASE, change=True):
        pass
    assert (tmp_path / "control.json").read_text() == text


def test_a_damaged_key_and_a_directory_that_is_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "control.key").write_bytes(b"short")
    with pytest.raises(UserError, match=r"control.key is damaged"), open_state(tmp_path, BASE, change=False):
        pass
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot use the state dir"),
        open_state(tmp_path / "file", BASE, change=False),
    ):
        pass


def test_an_old_intent_counts_no_more_and_a_list_settles_what_is_still_there() -> None:
    """Much later, somebody else may have made what has that key: it is not ours to delete."""
    now = [0.0]
    state = ControlState(BASE, key=b"k", wall=lambda: now[0])
    state.intend(Wanted("target", "a", "A", {}))
    state.remember(FOUND, WANTED, created=True, secrets={})
    state.intend(Wanted("target", "b", "B", {}))
    assert isinstance(state.intends("target", "B"), PendingCreate)
    now[0] = 2 * 86400.0
    assert state.intends("target", "B") is None
    now[0] = 0.0
    state.mark_seen("target", [FOUND])
    assert [record.seen for record in state.records("target")] == [True]
    assert state.intends("target", "B") is None, "a list without it: that create took no effect"
    state.mark_seen("target", [])
    assert state.records("target") == []
