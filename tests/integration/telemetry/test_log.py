"""The log: readable, bounded, without secrets, and never the reason why the service stops."""

import asyncio
import io
import json
import logging
import os
import pty
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core import redaction
from ingestd.core.redaction import MASK, MIN_SECRET_CHARS, Mask
from ingestd.telemetry import log
from ingestd.telemetry.log_line import LogLine, format_json, format_text
from ingestd.telemetry.repeats import Repeats, template
from tests.each import each


@pytest.fixture(autouse=True)
def _unconfigured() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers), root.level, logging.getLogger("ingestd").level
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("ingestd").setLevel(before[2])


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# -- what a line looks like


def test_a_line_is_one_json_object_with_time_level_logger_message_and_fields(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    log.warning("the spool is full", bytes=12, ratio=0.5, file="a b", ok=True, odd=float("nan"), none=None)
    (line,) = lines(stream)
    time = line.pop("time")
    assert time.endswith("Z")
    assert len(time) == len("2026-01-01T00:00:00.000Z")
    assert line == {
        "level": "warning",
        "logger": "ingestd",
        "message": "the spool is full",
        "bytes": 12,
        "ratio": 0.5,
        "file": "a b",
        "ok": True,
        "odd": "nan",
        "none": None,
    }


def test_text_is_one_line_that_a_person_can_read(stream: io.StringIO) -> None:
    log.configure("text", "info", stream=stream)
    log.info("listening", address="127.0.0.1:8080", name="two words")
    assert stream.getvalue()[24:] == ' INFO    listening address=127.0.0.1:8080 name="two words"\n'


def test_auto_is_json_where_nobody_sits_and_text_on_a_terminal(stream: io.StringIO) -> None:
    log.configure("auto", "info", stream=stream)
    log.info("here")
    assert lines(stream)[0]["message"] == "here"
    controller, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "w") as file:
            log.configure("auto", "info", stream=file)
            log.info("there")
            assert os.read(controller, 1000).rstrip().endswith(b"INFO    there")
    finally:
        os.close(controller)


@given(st.text(), st.text(min_size=1))
def test_no_text_can_forge_a_line_or_reach_the_terminal(message: str, value: str) -> None:
    line = LogLine(0.0, "info", "ingestd", message, {"field": value}, "")
    text, encoded = format_text(line), format_json(line)
    assert text.isprintable()
    assert encoded.isascii()
    assert encoded.isprintable()
    assert json.loads(encoded)["message"] == message


def test_a_traceback_stays_part_of_its_line(stream: io.StringIO) -> None:
    forged = "2026-01-01T00:00:00.000Z INFO    all is well"

    def fail() -> None:
        try:
            raise ValueError(f"bad\n{forged}")
        except ValueError:
            logging.getLogger("ingestd").exception("it failed")

    log.configure("text", "info", stream=stream)
    fail()
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR   it failed")
    assert rest
    assert all(row.startswith("    | ") for row in rest)
    log.configure("json", "info", stream=(as_json := io.StringIO()))
    fail()
    assert "ValueError: bad\n" in lines(as_json)[0]["exception"]


def test_a_message_and_a_field_are_cut_to_two_thousand_characters(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    log.warning("m" * 1_000_000, field="f" * 3_000)
    (line,) = lines(stream)
    assert len(line["message"]) == len(line["field"]) == 2_000
    assert line["message"].endswith("m…")


def test_a_percent_sign_is_nothing_special_and_bad_arguments_cost_no_line(stream: io.StringIO) -> None:
    logging.getLogger().handlers.clear()  # pytest's own, which raises
    log.configure("json", "info", stream=stream)
    log.warning("100%s full")
    logging.getLogger("aiohttp.server").warning("%d of %d", "one")
    assert [line["message"] for line in lines(stream)] == ["100%s full", "%d of %d ('one',)"]


# -- levels and libraries


def test_the_level_changes_while_running(stream: io.StringIO) -> None:
    log.configure("json", "warning", stream=stream)
    log.info("not yet")
    log.set_level("debug")
    log.debug("now")
    log.set_level("error")
    log.warning("no more")
    log.error("but this")
    assert [line["message"] for line in lines(stream)] == ["now", "but this"]


def test_libraries_come_out_the_same_way_from_warnings_up(stream: io.StringIO) -> None:
    log.configure("json", "debug", stream=stream)
    for name in ("asyncio", "aiohttp.server"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble with %s", name)
    assert [(line["logger"], line["message"]) for line in lines(stream)] == [
        ("asyncio", "trouble with asyncio"),
        ("aiohttp.server", "trouble with aiohttp.server"),
    ]


def test_configuring_again_replaces_and_does_not_double(stream: io.StringIO) -> None:
    log.configure("text", "info", stream=io.StringIO())
    log.configure("json", "info", stream=stream)
    log.info("once")
    assert len(lines(stream)) == 1


# -- repeats


def test_the_sixth_of_a_kind_is_held_back_and_told_at_the_end(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    for number in range(12):
        log.warning(f"connection {number} was cut off")
    log.warning("something else")
    assert [line["message"] for line in lines(stream)] == [
        *(f"connection {n} was cut off" for n in range(5)),
        "something else",
    ]
    log.flush()
    assert len(lines(stream)) == 6, "the ten seconds are not over"
    logging.getLogger().handlers[-1].close()
    last = lines(stream)[-1]
    assert last["message"] == "… repeated 7 times: connection 11 was cut off"
    assert last["repeated"] == 7


def test_five_in_ten_seconds_pass_and_the_next_ten_seconds_begin_anew() -> None:
    repeats = Repeats[int]()
    assert [repeats.admit("a", n, now=1.0) for n in range(8)] == [True] * 5 + [False] * 3
    assert repeats.ended(10.9) == []
    assert repeats.ended(11.0) == [(7, 3, False)]
    assert repeats.admit("a", 8, now=11.0)
    assert repeats.ended(100.0) == [], "nothing was held back"


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 3))))
def test_nothing_is_held_back_without_being_counted(said: list[tuple[int, float]]) -> None:
    repeats = Repeats[int](burst=2, window_s=5, max_templates=4)
    now, passed, told = 0.0, 0, 0
    for key, pause_s in said:
        now += pause_s
        told += sum(repeated.held for repeated in repeats.ended(now))
        passed += repeats.admit(str(key), key, now=now)
    told += sum(repeated.held for repeated in repeats.ended(float("inf")))
    assert passed + told == len(said)


def test_ever_new_messages_are_bounded_as_well() -> None:
    repeats = Repeats[int](burst=5, max_templates=256)
    passed = sum(repeats.admit(f"message {n}", n, now=0.0) for n in range(100_000))
    assert passed == 256 + 5
    assert repeats.ended(10.0) == [(99_999, 100_000 - passed, True)]


def test_messages_that_differ_in_their_numbers_are_of_one_template() -> None:
    assert template("peer 10.0.0.1:4711 is slow") == template("peer 10.12.0.7:33 is slow")
    assert template("peer is slow") != template("peer is gone")


# -- secrets


@each(
    "text",
    [
        "Authorization: Bearer S3CRET",
        "authorization: Basic S3CRET",
        "{'Authorization': 'Bearer S3CRET', 'Host': 'x'}",
        '{"authorization": "Digest nonce=S3CRET"}',
        "[('authorization', 'S3CRET')]",
        "(b'Authorization', b'Bearer S3CRET')",
        "Proxy-Authorization=S3CRET",
        "got bearer S3CRET, which is old",
        "Basic c2VjcmV0S3CRET=",
        "grant_type=client_credentials&client_secret=S3CRET&scope=x",
        "client_secret = 'S3CRET'",
        '{"client_secret":"S3CRET"}',
        '"{\\"access_token\\": \\"S3CRET\\"}"',
        "GET /v1/events?access_token=S3CRET HTTP/1.1",
        "INGESTD_API_CLIENT_SECRET=S3CRET",
        "refresh_token: S3CRET",
        "password=S3CRET",
        "{'token': 'S3CRET'}",
        "whsec_S3CRETS3CRET+/=",
        "eyJhbGciOiJI.eyJzdWIS3CRET.S3CRET",
        "https://user:S3CRET@host/path",
    ],
)
def test_credentials_are_masked(text: str) -> None:
    masked = Mask()(text)
    assert "S3CRET" not in masked
    assert MASK in masked


@each(
    "text",
    [
        "the bearer token of producer crm is not known",
        "401: a bearer token is needed, basic authentication is not offered",
        "cannot read the token from /run/secrets/token: No such file or directory",
        "access_token_in_query is on",
        "listening on http://127.0.0.1:8080/v1/events",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert Mask()(text) == text


@given(st.text(), st.text(st.characters(exclude_characters="*"), min_size=MIN_SECRET_CHARS), st.text())
def test_a_registered_secret_is_masked_wherever_it_stands(before: str, secret: str, after: str) -> None:
    mask = Mask()
    mask.hide(secret)
    assert secret not in mask(f"{before}{secret}{after}")


def test_a_secret_that_begins_another_leaves_nothing_of_it() -> None:
    mask = Mask()
    mask.hide("abcdef")
    mask.hide("abcdefgh/")
    assert mask("abcdef abcdefgh/ abcdefgh%2F") == "*** *** ***"


@each(
    "broken_by", ["\n", "\\n", "\r\n  ", "\x7f", "\u00ad", "\u200b", "\u2028", "\u202e", "\u2065", "\ufeff"]
)
def test_a_secret_that_a_break_parts_is_masked_none_the_less(broken_by: str) -> None:
    mask = Mask()
    mask.hide("correct-horse")
    assert mask(f"it is correct-{broken_by}horse") == f"it is {MASK}"


def test_secrets_reach_neither_message_field_argument_nor_traceback(stream: io.StringIO) -> None:
    redaction.hide("correct-horse")
    log.configure("json", "info", stream=stream)
    log.warning("it was correct-horse", note="correct-horse battery", client_secret="other")
    logging.getLogger("asyncio").error("again %s", "correct-horse")
    try:
        raise ValueError("correct-horse")
    except ValueError:
        logging.getLogger("ingestd").exception("failed")
    log.warning("x" * 1_995 + "correct-horse")  # cut in its middle
    shown = stream.getvalue()
    assert "horse" not in shown
    assert "other" not in shown
    assert "corr" not in shown
    assert len(lines(stream)) == 4


def test_the_table_of_secrets_is_bounded() -> None:
    mask = Mask()
    for number in range(10_100):
        mask.hide(f"secret-{number}")
    assert mask("secret-10099") == MASK
    assert mask("secret-50") == "secret-50"


# -- a standard error that is broken


def test_lost_lines_are_told_and_a_torn_one_does_not_spoil_the_next() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as left, os.fdopen(writer, "w") as stderr:
        log.configure("json", "info", stream=stderr)
        for number in range(20):
            log.warning(chr(256 + number) * 2_000)
        os.set_blocking(reader, False)
        filled = b""
        with suppress(BlockingIOError):
            while True:
                filled += os.read(left.fileno(), 1 << 20)
        log.warning("after")
        log.warning("and on")
        *whole, torn, after, then, end = (filled + os.read(left.fileno(), 1 << 20)).split(b"\n")
    assert torn.startswith(b"{")
    assert not torn.endswith(b"}")
    assert json.loads(after)["lines_lost"] == 20 - len(whole)
    assert "lines_lost" not in json.loads(then)
    assert end == b""


def test_held_back_repeats_that_cannot_be_written_raise_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stderr:
        log.configure("json", "info", stream=stderr)
        for _ in range(7):
            log.warning("nobody reads this")
        log.configure("json", "info", stream=io.StringIO())  # ends the first one


# -- threads


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    def say(letter: str) -> None:
        for _ in range(5):
            log.warning(letter * 1_500)

    with (tmp_path / "log").open("w") as file:
        log.configure("json", "info", stream=file)
        threads = [threading.Thread(target=say, args=(letter,)) for letter in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [json.loads(line)["message"] for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(found) == sorted(letter * 1_500 for letter in "abcdefgh" for _ in range(5))


@pytest.mark.anyio
async def test_what_asyncio_reports_of_a_lost_task_is_one_line(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    lost = {"message": "a task was lost", "exception": ValueError("client_secret=abcd")}
    asyncio.get_running_loop().default_exception_handler(lost)
    (line,) = lines(stream)
    assert (line["logger"], line["level"]) == ("asyncio", "error")
    assert "abcd" not in stream.getvalue()


def test_warning_is_what_the_pipeline_calls_warn() -> None:
    warn: Callable[[str], None] = log.warning
    assert warn is log.warning
