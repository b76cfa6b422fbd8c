"""One question on the wire: where it goes, whom it is from, what its answer is taken for."""

import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.token_bucket import TokenBucket
from ingestd.delivery.event_status import Standing, StatusReader, question_url
from ingestd.delivery.status_client import StatusClient
from ingestd.sinks.answer_body import safe_text
from ingestd.transport.auth import NoAuth, bearer
from ingestd.transport.client import Client
from tests.each import each
from tests.machine import patience
from tests.receiver import Receiver, Reply, Request

HOSTILE_IDS = ["evt-1", "a/b", "../../admin", "a?b=c", "a#b", "ü €", "a%2Fb", "a b", "\x00\n", "...", ";x=y"]


@pytest.mark.anyio
async def test_whatever_the_id_the_question_stays_below_its_url() -> None:
    async with Receiver() as api, Client(timeout_s=patience(5)) as client:
        for one in HOSTILE_IDS:
            url = question_url(api.url + "/events/{id}", one)
            assert url is not None
            assert (await StatusClient(client, NoAuth(), SystemClock()).get(url)).status == 200
    for one, request in zip(HOSTILE_IDS, api.requests, strict=True):
        assert request.method == "GET"
        folder, _, last = request.path.rpartition("/")
        assert (folder, unquote(last)) == ("/events", one)


@pytest.mark.anyio
async def test_a_refused_token_is_renewed_once_and_no_token_is_in_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old-token-1")

    def script(request: Request) -> Reply:
        authorization = request.headers["authorization"]
        if authorization == "Bearer old-token-1":
            file.write_text("new-token-2")
            return Reply(401)
        return Reply(body=json.dumps({"status": "accepted", "debug": authorization}).encode())

    async with Receiver(script) as api, Client(timeout_s=patience(5)) as client:
        auth = bearer("", str(file), clock=SystemClock())
        answer = await StatusClient(client, auth, SystemClock()).get(api.url)
    assert answer.status == 200
    assert b"new-token-2" not in answer.body
    assert len(api.requests) == 2


@given(st.text(min_size=1, max_size=100).filter(lambda text: text not in (".", "..")))
def test_an_id_is_one_segment_of_the_path(remote_id: str) -> None:
    url = question_url("https://api.test/events/{id}/status", remote_id)
    assert url is not None
    assert url.isascii()
    segment = url.removeprefix("https://api.test/events/").removesuffix("/status")
    assert not set(segment) & set("/?#")
    assert unquote(segment) == remote_id


@each("remote_id", ["", ".", "..", "x" * 513, "\udc00"])
def test_an_id_that_would_lead_elsewhere_has_no_url(remote_id: str) -> None:
    assert question_url("https://api.test/{id}", remote_id) is None


def read(body: bytes, reader: StatusReader | None = None) -> Standing:
    reader = reader or StatusReader(safe_text=safe_text)
    return reader.read(Answer(200, body=body), now_wall=0.0).standing


def test_the_words_for_an_end_are_those_of_the_settings_in_any_case() -> None:
    reader = StatusReader(
        field="result.state", delivered=("Done", "ok"), failed=("Dead",), safe_text=safe_text
    )
    assert read(b'{"result":{"state":"DONE"}}', reader) is Standing.DELIVERED
    assert read(b'{"result":{"state":" dead "}}', reader) is Standing.FAILED
    assert read(b'{"result":{"state":"delivered"}}', reader) is Standing.PENDING
    assert read(b'{"result":"done"}', reader) is Standing.UNANSWERED


@each("field", ["result.state", "$.result.state", "/result/state", "$['result'].state"])
def test_the_field_of_the_status_is_written_in_any_notation(field: str) -> None:
    reader = StatusReader(field=field, safe_text=safe_text)
    assert read(b'{"result":{"state":"delivered"}}', reader) is Standing.DELIVERED


@each("field", ["", "$", "a..b", "result[*]"])
def test_a_field_that_is_none_is_told(field: str) -> None:
    with pytest.raises(UserError, match=r"^confirm\.status: "):
        StatusReader(field=field, safe_text=safe_text)


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps)
)
def test_no_body_but_the_expected_one_ends_an_event(body: bytes | str) -> None:
    text = body.encode() if isinstance(body, str) else body
    assert read(text) is Standing.UNANSWERED


def test_what_is_told_of_an_answer_is_one_short_line_without_secrets() -> None:
    body = {
        "status": "failed",
        "error": {"message": "x\ny\x1b[31m" * 500},
        "message": "Bearer abcdefgh12345678",
    }
    reader = StatusReader(safe_text=safe_text)
    failed = reader.read(Answer(200, body=json.dumps(body).encode()), now_wall=0.0)
    refused = reader.read(Answer(500, body=b"password=hunter22 \x00" * 500), now_wall=0.0)
    for words in (failed.words, refused.words):
        assert len(words) <= 504
        assert words.isprintable()
        assert "hunter22" not in words
        assert "abcdefgh12345678" not in words


@given(st.integers(1, 600), st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_no_minute_has_more_requests_than_the_budget(rate: int, pauses: list[float]) -> None:
    budget, now = TokenBucket(rate / 60, 1 + 0.1 * rate / 60, 0.0), 0.0
    times: list[float] = []
    for pause in pauses:
        now += pause / rate
        now += budget.reserve(now)
        times.append(now)
    allowed = rate + rate * 0.1 / 60 + 1
    for at in times:
        assert sum(at <= other < at + 60 for other in times) <= allowed + 1e-6
