"""One request with credentials: what a lane sends through. Joins the client and the token source."""

from dataclasses import replace
from typing import Protocol

from ingestd.core.answer import Answer
from ingestd.transport.client import Client


class Token(Protocol):
    @property
    def value(self) -> str: ...
    @property
    def generation(self) -> int: ...


class Tokens(Protocol):
    """``oauth.TokenSource`` or ``oauth.NoAuth``."""

    async def get(self) -> Token | None:
        """Raises Unreachable when there is no token to be had."""
        ...

    def drop(self, generation: int) -> None: ...


class Sender:
    """Sends with the current token; the caller is told which generation it was."""

    def __init__(self, client: Client, tokens: Tokens) -> None:
        self._client = client
        self._tokens = tokens

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        """(answer, generation of the token). Raises Unreachable."""
        token = await self._tokens.get()
        if token is None:
            return await self._client.post(url, body, headers), 0
        headers["Authorization"] = f"Bearer {token.value}"
        answer = await self._client.post(url, body, headers)
        secret = token.value.encode()
        if secret in answer.body:  # an API that shows it: answers are kept in the audit file and dead letters
            answer = replace(answer, body=answer.body.replace(secret, b"***"))
        return answer, token.generation

    def drop_token(self, generation: int) -> None:
        self._tokens.drop(generation)
