"""Secrets by reference: ``env:NAME`` or ``file:PATH``; their values are sent and kept nowhere."""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ingestd.core import redaction
from ingestd.core.errors import UserError

_REFERENCE = re.compile(r"(env|file):(.{1,1000})", re.ASCII)
MAX_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is. Its text is not a secret."""

    text: str

    @classmethod
    def parse(cls, value: object, *, where: str) -> "SecretRef":
        """Raises UserError for a secret that stands in the file itself, without quoting it."""
        if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
            raise UserError(f"{where}: give a reference, env:NAME or file:PATH, never the secret itself")
        return cls(value)

    def read(self, environ: Mapping[str, str] | None = None) -> str:
        """Its value now. Raises UserError that names the reference."""
        kind, _, place = self.text.partition(":")
        if kind == "env":
            value = (os.environ if environ is None else environ).get(place, "")
        else:
            try:
                with Path(place).open("rb") as file:
                    value = file.read(MAX_SECRET_BYTES + 1).decode().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{self.text}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
        if not value or len(value) > MAX_SECRET_BYTES:
            raise UserError(f"{self.text}: there is no secret")
        redaction.hide(value)
        return value


def keyed_hash(secret: str, *, key: bytes) -> str:
    """Shows whether a write-only secret has changed; needs the key of this state directory."""
    return hmac.new(key, secret.encode(), hashlib.sha256).hexdigest()
