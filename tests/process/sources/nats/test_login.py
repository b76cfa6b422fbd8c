"""How a NATS server is logged in to, over TLS and without, and what is told when it does not let us in."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest

from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NatsConnection
from ingestd.sources.nats.settings import NatsConfig
from tests.certificates import self_signed
from tests.nats_server import NatsServer, nats_server

pytestmark = pytest.mark.anyio

PASSWORD = "SEKRIT-password-1"
REFUSED = "(Authorization Violation|.* refuses the login may do that)"
"""The server's words are lost where its reset is quicker."""


async def connects(**settings: Any) -> dict[str, Any]:
    """What JetStream tells of the account. Raises what the connection raises."""
    connection = NatsConnection(NatsConfig(stream="S", **settings), SystemClock(), lambda: None)
    try:
        await connection.open()
        return await connection.ask("INFO")
    finally:
        await connection.close()


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


async def test_with_user_and_password_or_with_a_token(tmp_path: Path) -> None:
    accounts = f'authorization {{ user: u, password: "{PASSWORD}" }}'
    with nats_server(tmp_path / "user", accounts) as server:
        right = {"user": "u", "password_file": write(tmp_path / "password", PASSWORD + "\n")}
        assert "streams" in await connects(servers=[server.url], **right)
        wrong = {"user": "u", "password": "SEKRIT-password-2"}
        with pytest.raises(BrokerAway, match=rf"cannot connect to NATS at .*: {REFUSED}") as caught:
            await connects(servers=[server.url], **wrong)
        assert "SEKRIT" not in str(caught.value)
        with pytest.raises(UserError, match="cannot read the password from /none: No such file"):
            await connects(servers=[server.url], user="u", password_file="/none")
    with nats_server(tmp_path / "token", 'authorization { token: "SEKRIT-token-1" }') as server:
        assert "streams" in await connects(servers=[server.url], token="SEKRIT-token-1")


def key_pair(prefix: int) -> tuple[bytes, nkeys.KeyPair]:
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    return seed, nkeys.from_seed(bytearray(seed))


async def test_with_an_nkey(tmp_path: Path) -> None:
    seed, pair = key_pair(nkeys.PREFIX_BYTE_USER)
    accounts = f"authorization {{ users: [{{ nkey: {pair.public_key.decode()} }}] }}"
    with nats_server(tmp_path / "server", accounts) as server:
        given = write(tmp_path / "seed", seed + b"\n")
        assert "streams" in await connects(servers=[server.url], nkey_file=given)
        other, _ = key_pair(nkeys.PREFIX_BYTE_USER)
        with pytest.raises(BrokerAway, match=REFUSED):
            await connects(servers=[server.url], nkey_file=write(tmp_path / "other", other))
        with pytest.raises(BrokerAway, match="cannot connect"):
            await connects(servers=[server.url], nkey_file=write(tmp_path / "bad", "no seed"))


def jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str, **claims: Any) -> str:
    """As nsc writes it."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    body = {
        "jti": "x",
        "iat": 1700000000,
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": kind,
        "nats": {"type": kind, "version": 2, **claims},
    }
    head = part(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = head + b"." + part(json.dumps(body).encode())
    return (signed + b"." + part(issuer.sign(signed))).decode()


@contextmanager
def operated(directory: Path) -> Iterator[tuple[NatsServer, str]]:
    """A server whose accounts are JWTs, and a user's credentials."""
    (_, operator), (_, system), (_, account) = map(
        key_pair, (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
    )
    seed, user = key_pair(nkeys.PREFIX_BYTE_USER)
    everything = dict.fromkeys(
        ("subs", "conn", "leaf", "imports", "exports", "data", "payload", "mem_storage", "disk_storage"), -1
    )
    limits = everything | {"streams": -1, "consumer": -1, "wildcards": True}
    preload = {
        system.public_key.decode(): jwt(
            operator, system, "account", limits={name: -1 for name in everything if "storage" not in name}
        ),
        account.public_key.decode(): jwt(operator, account, "account", limits=limits),
    }
    told = "\n".join(
        [
            f"operator: {jwt(operator, operator, 'operator')}",
            f"system_account: {system.public_key.decode()}",
            "resolver: MEMORY",
            f"resolver_preload: {{ {', '.join(f'{name}: {one}' for name, one in preload.items())} }}",
        ]
    )
    creds = (
        f"-----BEGIN NATS USER JWT-----\n{jwt(account, user, 'user', subs=-1, data=-1, payload=-1)}\n"
        "------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )
    with nats_server(directory / "server", told) as server:
        yield server, write(directory / "user.creds", creds)


async def test_with_credentials_of_nsc(tmp_path: Path) -> None:
    with operated(tmp_path) as (server, creds):
        assert "streams" in await connects(servers=[server.url], creds_file=creds)
        with pytest.raises(BrokerAway, match=REFUSED):
            await connects(servers=[server.url])


async def test_over_tls_and_never_without_where_it_is_asked_for(tmp_path: Path) -> None:
    (cert, key), (client, client_key) = self_signed(tmp_path), self_signed(tmp_path, for_clients=True)
    tls = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{client}", verify: true }}'
    mine = {"ca_file": cert, "cert_file": client, "key_file": client_key}
    with nats_server(tmp_path / "tls", tls) as server:
        url = server.url.replace("nats://", "tls://")
        assert "streams" in await connects(servers=[url], **mine)
        assert "streams" in await connects(servers=[server.url], **mine)
        with pytest.raises(BrokerAway, match="certificate verify failed"):
            await connects(servers=[url])
    accounts = f'authorization {{ user: u, password: "{PASSWORD}" }}'
    with nats_server(tmp_path / "plain", accounts + "\ntrace: true\nlogtime: false") as server:
        url = server.url.replace("nats://", "tls://")
        for ways in ({"user": "u", "password": PASSWORD}, {"token": PASSWORD}):
            with pytest.raises(UserError, match="has no TLS, which the configuration asks for"):
                await connects(servers=[url], ca_file=cert, **ways)
        log = (tmp_path / "plain" / "log").read_text()
        assert "CONNECT" not in log, "it was sent what it should not see"
    with pytest.raises(UserError, match="cannot use the TLS files"):
        await connects(servers=[url], ca_file=key)


async def test_a_server_that_is_not_there_or_too_old_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nats_server(tmp_path / "server") as server:
        pass
    with pytest.raises(BrokerAway, match=f"cannot connect to NATS at {server.url}: .*Connect call failed"):
        await connects(servers=[server.url])
    with nats_server(tmp_path / "old") as server:
        monkeypatch.setattr(NatsConnection, "version", (2, 10))
        with pytest.raises(UserError, match=r"is 2\.10; it has to be 2\.14 or newer"):
            await connects(servers=[server.url])
