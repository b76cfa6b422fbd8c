"""Requests that are sent together: how they are written, and what becomes of their answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from ingestd.sources.nats.exchange import DirectInbox, SharedAnswers, written

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=1_000, exclude_characters=":"), min_size=1)
TOKENS = st.text("abcXYZ-09", min_size=1, max_size=8)


class Wire:
    """What nats-py would write."""

    def __init__(self) -> None:
        self.written = b""

    async def send(self, command: bytes, priority: bool = False) -> None:
        del priority
        self.written += command


@pytest.mark.anyio
async def test_messages_with_headers_are_written_as_nats_py_writes_them() -> None:
    for data in (b"", b"event\r\n", bytes(1_000)):
        for headers in ({"Nats-Msg-Id": "edge-1"}, {"Nats-Msg-Id": "é 2", "Ingestd-Events": "7"}):
            client: Any = Client()
            wire = Wire()
            client._send_command = wire.send
            await client._send_publish("a.b", "reply.1", data, len(data), headers)
            assert b"".join(written("a.b", "reply.1", data, headers)) == wire.written


@given(TOKENS, st.dictionaries(TOKENS, WORDS, min_size=1, max_size=3), st.binary(max_size=20))
def test_what_is_written_says_how_long_it_is(subject: str, headers: dict[str, str], data: bytes) -> None:
    try:
        head, payload, end = written(subject, "reply", data, headers)
    except ValueError:
        assert not all(text.isprintable() for text in headers.values())
        return
    line, _, rest = head.partition(b"\r\n")
    verb, *words, of_head, of_all = line.split(b" ")
    assert (verb, words) == (b"HPUB", [subject.encode(), b"reply"])
    assert (len(rest), len(rest + payload), end) == (int(of_head), int(of_all), b"\r\n")


@pytest.mark.parametrize(
    ("subject", "headers"),
    [
        ("a b", {"Id": "1"}),
        ("a\r\nPUB b 0\r\n", {"Id": "1"}),
        ("a", {"Id": "1\r\nOther: 2"}),
        ("a", {"Id\n": "1"}),
    ],
)
def test_nothing_but_one_message_is_ever_written(subject: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be written in one line"):
        written(subject, "reply", b"", headers)


@pytest.mark.anyio
async def test_all_answers_are_waited_for_and_those_that_came_are_there_when_the_rest_is_lost() -> None:
    answers = SharedAnswers(3)
    answers.take(1, "second")
    answers.take(1, "second once more")
    answers.take(0, "first")
    assert not answers.all.done()
    answers.lose(ConnectionError("gone"))
    answers.lose(ConnectionError("gone once more"))
    answers.take(2, "too late for who waited")
    with pytest.raises(ConnectionError, match=r"^gone$"):
        await answers.all
    assert answers.found == ["first", "second", "too late for who waited"]
    both = SharedAnswers(2)
    both.take(1, "second")
    both.take(0, "first")
    await both.all
    assert both.found == ["first", "second"]


def test_an_inbox_gives_on_what_comes_and_goes_on_behind_what_fails() -> None:
    seen, failed = list[int](), list[Exception]()

    def take(one: int) -> None:
        seen.append(10 // one)

    inbox = DirectInbox(take, failed.append)
    for one in (5, 0, 2):
        assert not inbox.cancelled()
        inbox.set_result(one)
    assert seen == [2, 5]
    assert [type(error) for error in failed] == [ZeroDivisionError]
