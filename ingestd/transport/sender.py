"""One request with credentials: what a lane sends through. Joins the client and an ``Auth``."""

from collections.abc import Mapping
from dataclasses import replace

from ingestd.core.answer import Answer
from ingestd.transport.auth import Auth
from ingestd.transport.client import Client


class Sender:
    """Sends with the current credential; the caller is told which generation it was."""

    def __init__(self, client: Client, auth: Auth) -> None:
        self._client = client
        self._auth = auth

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[Answer, int]:
        """(answer, generation of the credential). Raises Unreachable."""
        added, generation = await self._auth.headers(url, body, headers)
        answer = await self._client.post(url, body, {**headers, **added})
        return self._masked(answer), generation

    @property
    def refusal(self) -> str:
        return self._auth.refusal

    def drop_token(self, generation: int) -> None:
        self._auth.drop(generation)

    def _masked(self, answer: Answer) -> Answer:
        """APIs that show what they were sent: answers are kept in the audit file and in dead letters."""
        mask = self._auth.mask
        if (body := mask(answer.body)) is not answer.body:
            answer = replace(answer, body=body)
        if "location" in answer.headers:  # the one header that is told to people
            location = mask(answer.headers["location"].encode("latin-1")).decode("latin-1")
            answer = replace(answer, headers={**answer.headers, "location": location})
        return answer
