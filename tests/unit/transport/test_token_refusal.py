"""Whether a refused token is worth a new one."""

from ingestd.core.answer import Answer
from ingestd.transport.token_refusal import AGAIN_S, TokenRenewal, concerns_token
from tests.each import each


def test_once_for_each_token_that_was_good() -> None:
    renewal = TokenRenewal()
    assert renewal.allows(1, started=0, now=1)
    assert renewal.allows(1, started=0.5, now=2), "it was out already"
    assert not renewal.allows(2, started=3, now=4), "a fresh one is refused, too"
    assert not renewal.allows(2, started=5, now=6)
    renewal.worked = 2
    assert renewal.allows(2, started=7, now=8)
    assert not renewal.allows(3, started=9, now=10)


def test_a_secret_without_generations_is_tried_twice() -> None:
    renewal = TokenRenewal()
    assert renewal.allows(0, started=0, now=1)
    assert not renewal.allows(0, started=2, now=3)
    assert renewal.allows(0, started=2 + AGAIN_S, now=3 + AGAIN_S)


@each(
    "answer",
    [
        Answer(400, body=b'{"message":"Unexpected token } in JSON at position 4"}'),
        Answer(400, body=b"invalid token '<' at line 1"),
        Answer(400, body=b'{"errors":[{"index":3,"message":"bad"}]}'),
        Answer(403, body=b'{"code":"missing.permissions","message":"Unable to perform, no permission"}'),
        Answer(403, body=b"<html>Forbidden</html>"),
        Answer(404, body=b"token expired"),
        Answer(500, body=b"token expired"),
    ],
)
def test_what_is_about_something_else(answer: Answer) -> None:
    assert not concerns_token(answer)


@each(
    "answer",
    [
        Answer(403, body=b'{"error":{"code":"InvalidAuthenticationToken"}}'),  # Microsoft Graph
        Answer(400, body=b'{"errors":[{"errorCode":"INVALID_SESSION_ID"}]}'),  # Salesforce
        Answer(403, body=b'{"message":"Invalid token"}'),
        Answer(403, body=b'{"message":"token is invalid"}'),
        Answer(403, body=b'{"message":"Invalid JWT"}'),
    ],
)
def test_what_is_about_the_token(answer: Answer) -> None:
    assert concerns_token(answer)
