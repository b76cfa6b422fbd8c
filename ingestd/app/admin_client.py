"""Asks the admin address of a running service, for ``top``, ``tap`` and ``where``.

With the standard library: these commands should be there at once.
"""

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from ingestd.core import redaction
from ingestd.core.errors import NotFound, UserError

DEFAULT_URL = "http://127.0.0.1:9464"
TOKEN_VARIABLE = "INGESTD_CONSOLE_TOKEN"  # noqa: S105 - a name
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class AdminClient:
    """``url``: of the admin address; ``token_file``: with a console token, None: from the environment."""

    def __init__(self, url: str = DEFAULT_URL, *, token_file: str | None = None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url} is not the address of a service: write it like {DEFAULT_URL}")
        self._parts = parts
        self._token = _token(token_file)
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Raises UserError in words; NotFound for 404."""
        with closing(self._connect()) as connection:
            answer = self._ask(connection, path, query)
            body = answer.read(MAX_ANSWER_BYTES)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self.shown} answers {answer.status}, and not as ingestd's admin address does")
        if answer.status != 200:
            kind = NotFound if answer.status == 404 else UserError
            raise kind(f"{self.shown}: {found.get('error') or answer.status}{self._hint(answer.status)}")
        return found

    def lines(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """An answer of JSON lines, as they come; ends with the service. Raises UserError."""
        with closing(self._connect(timeout_s=None)) as connection:
            answer = self._ask(connection, path, query)
            if answer.status != 200:
                words = answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
                try:
                    words = json.loads(words)["error"]
                except (ValueError, TypeError, KeyError):
                    words = words[:200]
                raise UserError(f"{self.shown}: {words}{self._hint(answer.status)}")
            try:
                for line in answer:
                    if line.strip():
                        yield json.loads(line)
            except (OSError, http.client.HTTPException) as error:
                raise UserError(f"{self.shown} ended the connection: {error}") from None

    def _connect(self, timeout_s: float | None = TIMEOUT_S) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=timeout_s)

    def _ask(
        self, connection: http.client.HTTPConnection, path: str, query: dict[str, str | int]
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        target = f"{self._parts.path.rstrip('/')}{path}"
        if wanted := {name: value for name, value in query.items() if value != ""}:
            target += f"?{urlencode(wanted)}"
        try:
            connection.request("GET", target, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(
                f"no service answers at {self.shown} ({why}): is `ingestd run` there, with this admin.listen?"
            ) from None

    def _hint(self, status: int) -> str:
        return f"; name a file with --token-file, or set {TOKEN_VARIABLE}" if status == 401 else ""


def _token(file: str | None) -> str:
    """Raises UserError."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if file:
        try:
            lines = Path(file).read_text(encoding="utf-8").split()
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the console token from {file}: {error}") from None
        token = lines[0] if lines else ""
    if token:
        redaction.hide(token)
    return token
