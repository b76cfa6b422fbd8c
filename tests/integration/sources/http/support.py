"""Requests as the wire makes them, and an admission that remembers what was submitted."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ingestd.core.submission import AcceptedSubmission, DeferredSubmission, Rejection, Result, Submission
from ingestd.httpd.request import Request
from ingestd.httpd.response import Response
from ingestd.processing.validate import Validator
from ingestd.schemas.load import load
from ingestd.sources.http.auth import Authenticator, ProducerKeys
from ingestd.sources.http.endpoint import PATH, Endpoint, EndpointSettings

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'

TOKENS = ("token-one-of-web", "token-two-of-web", "token-of-the-crm")
SECRETS = (b"secret-of-web-for-its-hooks", b"secret-of-hook-for-its-hooks")
PRODUCERS = {
    "web": ProducerKeys(tokens=TOKENS[:2], webhook_secrets=SECRETS[:1]),
    "crm": ProducerKeys(tokens=TOKENS[2:]),
    "hook": ProducerKeys(webhook_secrets=SECRETS[1:]),
}


class Hands:
    """A clock whose hands the test moves."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.now, self.epoch = 1000.0, wall

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.epoch

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)

    def move(self, seconds: float) -> None:
        self.now += seconds
        self.epoch += seconds


class Desk:
    """Takes submissions and answers at once by the real CloudEvents schema, or as it was told to."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.verdict: Callable[[Submission], Result | None] = self.judge
        self.closed: DeferredSubmission | None = None
        self._validator = Validator(load("cloudevent"))

    def submit(self, submission: Submission) -> None:
        self.submissions.append(submission)
        result = self.verdict(submission)
        if result is not None:
            submission.answer(result)

    def unavailable(self) -> DeferredSubmission | None:
        return self.closed

    def judge(self, submission: Submission) -> AcceptedSubmission:
        refused = self._validator.check(submission.events).refused
        rejected = [
            Rejection(i, None, [error._asdict() for error in refusal.errors])
            for i, refusal in refused.items()
        ]
        stored = not (submission.atomic and rejected)
        return AcceptedSubmission(
            len(submission.events) - len(rejected) if stored else 0, 0, rejected, stored=stored
        )

    @property
    def events(self) -> list[bytes]:
        return [event for submission in self.submissions for event in submission.events]


class Scene:
    """An endpoint with everything around it. Keywords are fields of EndpointSettings."""

    def __init__(self, producers: Mapping[str, ProducerKeys] | None = None, **settings: Any) -> None:
        self.clock, self.desk = Hands(), Desk()
        authenticator = Authenticator(producers or {}, clock=self.clock)
        self.endpoint = Endpoint(EndpointSettings(**settings), authenticator, self.desk, self.clock)
        self.bodies_read = 0
        self.readings: dict[object, Any] = {}  # by head, as the wire keeps them

    def send(
        self,
        body: bytes = b"",
        headers: Mapping[str, str] = JSON,
        *,
        method: str = "POST",
        target: str = PATH,
        repeated: frozenset[str] = frozenset(),
        certificate_name: str = "",
        length: bool = True,
    ) -> Response | None:
        """The answer; None as long as there is none. As on the wire: head first, then the body."""
        path, _, query = target.partition("?")
        answers: list[Response] = []
        named = {**headers, **({"content-length": str(len(body))} if length else {})}
        request = Request(
            *(method, target, path, query, named, answers.append, "127.0.0.1", certificate_name, repeated),
            reading=self.readings.get(head := (method, target, str(named), repeated)),
        )
        refusal = self.endpoint.check_head(request)
        self.readings[head] = request.reading
        assert not answers
        if refusal is not None:
            return refusal
        self.bodies_read += 1
        request.body = body
        self.endpoint.handle(request)
        return answers[0] if answers else None

    def status(self, *args: Any, **kwargs: Any) -> int:
        answer = self.send(*args, **kwargs)
        assert answer is not None
        assert_well_formed(answer)
        return answer.status


def content(answer: Response | None) -> Any:
    assert answer is not None
    return json.loads(answer.body)


def header(answer: Response | None, name: str) -> str | None:
    assert answer is not None
    found = [value for key, value in answer.headers if key.lower() == name.lower()]
    assert len(found) <= 1
    return found[0] if found else None


def assert_well_formed(answer: Response) -> None:
    """Every body has its type, every problem its members (RFC 9457), every header is one clean line."""
    for key, value in answer.headers:
        assert (key + value).isascii()
        assert (key + value).isprintable()
    if answer.body:
        told = json.loads(answer.body)
        kind = header(answer, "content-type")
        if kind == "application/problem+json":
            assert told["status"] == answer.status
            assert told["title"]
            assert told["detail"]
        else:
            assert kind == "application/json"
            assert answer.status in (202, 422)
