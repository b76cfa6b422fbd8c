"""The section that says how requests show who they are from; ``wiring/http_clients.py`` makes an ``Auth``."""

from typing import Literal

from ingestd.core.section import Section
from ingestd.core.setting_types import NOTHING, Secret, SecretFile, Url, field


class AuthConfig(Section):
    """How requests show who they are from. Secrets are better given as files."""

    type: Literal["auto", "api", "none", "bearer", "basic", "header", "oauth2", "standard_webhooks"] = field(
        "auto", description="api: the login of [api]; auto: that, where requests go to [api], else none"
    )
    token: Secret = field(NOTHING, description="bearer: the token; header: its value")
    token_file: SecretFile = field(
        "", description="a file that holds the token and nothing else; read when it changes"
    )
    header: str = field("Authorization", description="header: its name")
    username: str = field("", description="basic")
    password: Secret = field(NOTHING, description="basic; better password_file")
    password_file: SecretFile = field(
        "", description="basic: a file that holds the password and nothing else"
    )
    token_url: Url = field("", description="oauth2: where the token comes from")
    client_id: str = field("", description="oauth2")
    client_id_file: str = field("", description="oauth2: a file that holds the client id and nothing else")
    client_secret: Secret = field(NOTHING, description="oauth2; better client_secret_file")
    client_secret_file: SecretFile = field(
        "", description="oauth2: a file that holds the secret and nothing else"
    )
    scope: str = field("", description="oauth2: asked for, where the login host wants one")
    secret: Secret = field(NOTHING, description="standard_webhooks: base64, with or without whsec_")
    secret_file: SecretFile = field("", description="standard_webhooks: one secret a line; each signs")
