"""How a connection to NATS is encrypted, and the words where it should be and is not."""

import ssl

from ingestd.core.errors import UserError
from ingestd.sources.nats.settings import NatsLogin


def words_of_plain(servers: str) -> str:
    return f"the NATS server at {servers} has no TLS, which the configuration asks for: nothing is sent to it"


def make_context(settings: NatsLogin) -> ssl.SSLContext:
    """Raises UserError."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join(filter(None, (settings.ca_file, settings.cert_file, settings.key_file)))
        raise UserError(f"cannot use the TLS files {files}: {error}") from None
    return context
