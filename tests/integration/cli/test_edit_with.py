"""``dlq retry --edit-with``: many letters are corrected by one expression, shown before it is done."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ingestd.app.letters.correction import differences, open_edit
from ingestd.app.letters.jq_process import JqLimits
from ingestd.app.letters.retry import retry
from ingestd.app.letters.retry_result import MOST_SHOWN, RetryResult
from ingestd.core.errors import UserError
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store.connection import FILE_NAME, connect
from ingestd.store.dead_letters import Filter
from ingestd.store.lock import DirectoryLock
from ingestd.store.new_letters import insert_letters
from tests.each import each

COUNT = 14


def fill(directory: Path, payloads: list[bytes]) -> None:
    connection = connect(directory / FILE_NAME)
    insert_letters(
        connection, [DeadLetter(one, Reason.INVALID, "", 1, n, n) for n, one in enumerate(payloads)], 0.0
    )
    connection.close()


def corrected(directory: Path, expression: str, **options: Any) -> RetryResult:
    """Beside a process that has the directory, which would send them."""
    (directory / "schema.json").write_text('{"type":"object","properties":{"kind":{"enum":["ANSWER"]}}}')
    given = {("state", "dir"): str(directory), ("schema", "name"): str(directory / "schema.json")}
    given |= {("api", "url"): "http://127.0.0.1:1", ("api", "no_auth"): True}  # type: ignore[dict-item]
    lock = DirectoryLock(directory)
    try:
        with open_edit(expression) as edit:
            return retry(Filter(), given, config_file=None, payload=None, edit=edit, warn=print, **options)
    finally:
        lock.release()


def test_a_damaged_payload_is_not_corrected_into_one_that_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("jq")
    fill(tmp_path, [b'{"id":1,"kind":"HOLD"}', b'{"id":2,"kind":"HOLD"}'])
    connection = connect(tmp_path / FILE_NAME)
    connection.execute("UPDATE sealed_letters SET payload = ? WHERE id = 2", (b'{"id":9,"kind":"HOLD"}',))
    connection.close()
    done = corrected(tmp_path, '.kind = "ANSWER"', dry_run=False)
    assert (done.marked, [*done.invalid]) == (1, [2])
    assert "damaged on disk" in done.invalid[2]


def test_many_letters_are_shown_and_then_corrected_and_marked(tmp_path: Path) -> None:
    pytest.importorskip("jq")
    bad = [b'{"id":%d,"kind":"HOLD","list":[1,2]}' % number for number in range(COUNT)]
    fill(
        tmp_path,
        [*bad, b'{"id":99,"kind":"ANSWER"}', b"not JSON", b'{"kind":"HOLD","n":12345678901234567890}'],
    )
    expression = 'if .kind == "HOLD" then .kind = "ANSWER" | .was = "HOLD" else . end'
    shown = corrected(tmp_path, expression, dry_run=True)
    assert (shown.sent, shown.selected, shown.unchanged, shown.invalid_count) == (COUNT, COUNT + 3, 1, 2)
    assert len(shown.preview) == MOST_SHOWN
    words = shown.words().splitlines()
    assert '1: .kind "HOLD" → "ANSWER", .was (nothing) → "HOLD"' in words
    assert f"{COUNT} of {COUNT + 3} letters would be sent" in words
    assert "1 are not changed by the expression, and stay as they are" in words
    assert any("cannot keep a number" in line for line in words)
    assert payloads_of_valid(tmp_path) == [("HOLD", 0)] * COUNT, "a dry run changes nothing"

    done = corrected(tmp_path, expression, dry_run=False)
    assert (done.marked, done.unchanged) == (COUNT, 1)
    assert payloads_of_valid(tmp_path) == [("ANSWER", 1)] * COUNT


def payloads_of_valid(directory: Path) -> list[tuple[str, int]]:
    connection = connect(directory / FILE_NAME)
    rows = connection.execute(
        "SELECT payload, requested <> 0 FROM letters WHERE id <= ?", (COUNT,)
    ).fetchall()
    connection.close()
    return [(json.loads(payload)["kind"], asked) for payload, asked in rows]


def test_what_is_still_invalid_after_the_correction_is_not_sent(tmp_path: Path) -> None:
    pytest.importorskip("jq")
    fill(tmp_path, [b'{"kind":"HOLD"}', b'{"kind":"X"}'])
    done = corrected(tmp_path, 'if .kind == "X" then .kind = "ANSWER" else .kind = "Y" end', dry_run=False)
    assert (done.marked, [*done.invalid]) == (1, [1])
    for expression, words in ((".a, .kind", "2 values"), ("empty", "0 values"), (".kind.b", "Cannot index")):
        refused = corrected(tmp_path, expression, dry_run=True)
        assert refused.sent == 0
        assert words in next(iter(refused.invalid.values()))


def test_an_expression_that_is_none_and_a_missing_jq_are_said_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("jq")
    with pytest.raises(UserError, match="--edit-with: jq: error: syntax error"), open_edit(".a |"):
        pass
    monkeypatch.setitem(sys.modules, "jq", None)
    words = r"--edit-with needs jq: pip install 'ingestd\[jq\]'"
    with pytest.raises(UserError, match=words), open_edit("."):
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.json").write_text('"s3cret"')
    (tmp_path / "secret.jq").write_text('def secret: "s3cret";')
    return tmp_path


def test_an_expression_reads_neither_the_environment_nor_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jq")
    monkeypatch.setenv("INGESTD__API__CLIENT_SECRET", "s3cret")
    with open_edit("{a: $ENV, b: env}") as edit:
        assert edit
        assert "s3cret" not in edit(b"{}").decode()
    place = f'{{search: "{folder}"}}'
    for expression in (f'import "secret" as $s {place}; $s', f'include "secret" {place}; secret'):
        with pytest.raises(UserError, match="--edit-with: "), open_edit(expression):
            pass


def test_more_than_any_event_is_not_taken_over() -> None:
    pytest.importorskip("jq")
    with open_edit('"x" * 2e7') as edit:
        assert edit
        with pytest.raises(ValueError, match="the expression makes more than 16 MB of it"):
            edit(b"{}")


@each("endless, kills", [("def f: f; f", 1), ("[range(1e12)]", 2)])
def test_an_expression_past_its_limits_is_ended_and_the_next_event_is_corrected(
    endless: str, kills: int
) -> None:
    pytest.importorskip("jq")
    limits = JqLimits(cpu_s=0.2, memory_bytes=64 * 1024 * 1024, kills=kills)
    with open_edit(f"if .bad then {endless} else .kind = 1 end", limits) as edit:
        assert edit
        for _ in range(kills):
            assert edit(b"{}") == b'{"kind": 1}'
            with pytest.raises(ValueError, match=r"more than 0\.2 s of CPU for this event, or 64 MB"):
                edit(b'{"bad":true}')
        with pytest.raises(ValueError, match=f"not tried: the expression went past its limits {kills} times"):
            edit(b"{}")


def test_differences_name_the_places_that_changed() -> None:
    before = b'{"a":{"b":[1,{"c":2}]},"d":1,"e":[1]}'
    after = b'{"a":{"b":[1,{"c":3}]},"f":true,"e":[1,2]}'
    assert differences(before, after) == [
        (".a.b[1].c", 2, 3),
        (".d", 1, None),
        (".e", [1], [1, 2]),
        (".f", None, True),
    ]
    assert differences(b"1", b"2") == [(".", 1, 2)]
    assert len(differences(b"{}", json.dumps({str(n): n for n in range(99)}).encode())) == 20
