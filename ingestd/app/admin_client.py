"""Asks the admin address of a running service, for ``top``, ``tap`` and ``where``."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ingestd.admin.read_model import OURS
from ingestd.core import redaction
from ingestd.core.errors import NotFound, UserError
from ingestd.core.regex import regex

# httpx imports its own command line where click and rich are there: a tenth of a second for nothing. It copes
# with their absence, so its module is marked absent.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx  # noqa: E402

DEFAULT_URL = "http://127.0.0.1:9464"
TOKEN_VARIABLE = "INGESTD_CONSOLE_TOKEN"  # noqa: S105 - a name
TIMEOUT_S = 10.0
_ERRNO = regex(r"\[Errno -?\d+\] ")
LOOK_TIMEOUT_S = 120.0
"""For what a service looks for in files of gigabytes, after others who asked before."""

QueryFields = dict[str, str | int]


class AdminClient:
    """``url``: of the admin address; ``token_file``: with a console token, None: from the environment. To be
    left."""

    def __init__(self, url: str = DEFAULT_URL, *, token_file: str | None = None) -> None:
        try:
            base = httpx.URL(url if "://" in url else f"http://{url}")
        except httpx.InvalidURL:
            base = httpx.URL()
        if base.scheme not in ("http", "https") or not base.host:
            raise UserError(f"{url} is not the address of a service: write it like {DEFAULT_URL}")
        token = _token(token_file)
        if not token.isascii():
            raise UserError("the console token has characters that no header can have")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S)
        self._shown = str(base.copy_with(userinfo=b"", query=None)).rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Raises UserError in words; NotFound for 404."""
        with self._asking("GET", path, params=_given(query)) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def post(self, path: str, **body: str | int) -> dict[str, Any]:
        """What is too long for an address, or takes longer. Raises as ``get``."""
        patient = httpx.Timeout(TIMEOUT_S, read=LOOK_TIMEOUT_S)
        with self._asking("POST", path, json=body, timeout=patient) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def lines(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """An answer of JSON lines, as they come; ends with the service. Raises UserError."""
        with self._asking(
            "GET", path, params=_given(query), timeout=httpx.Timeout(TIMEOUT_S, read=None)
        ) as answer:
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)

    @contextmanager
    def _asking(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(method, path, **more) as answer:
                if OURS not in answer.headers:
                    raise UserError(
                        f"{self._shown}: it answers {answer.status_code}, and not as ingestd does"
                    )
                if answer.status_code != 200:
                    raise self._refused(answer)
                yield answer
        except httpx.ConnectError as error:
            why = _ERRNO.sub("", str(error))
            raise UserError(
                f"no service answers at {self._shown} ({why}): start it with `ingestd run`, "
                "or name the address that its admin.listen has"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UserError(f"{self._shown}: {error or type(error).__name__}") from None

    def _refused(self, answer: httpx.Response) -> UserError:
        words = json.loads(answer.read())["error"]
        if answer.status_code == 401:
            words += f"; name a file with --token-file, or set {TOKEN_VARIABLE}"
        kind = NotFound if answer.status_code == 404 else UserError
        return kind(f"{self._shown}: {words}")


def _given(query: QueryFields) -> QueryFields:
    return {name: value for name, value in query.items() if value != ""}


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
