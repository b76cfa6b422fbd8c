"""TLS on the ingest address: versions, client certificates, certificates that change while it serves."""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_key

from ingestd.core.errors import UserError
from ingestd.httpd.request import ServerLimits
from ingestd.httpd.server import Server, serve
from ingestd.httpd.tls import Certificates, certificate_name
from tests.integration.httpd.wire_client import GET, POST, Client, Echo, connect, post, until
from tests.machine import patience


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def other_authority() -> trustme.CA:
    return trustme.CA()


def write(directory: Path, certificate: trustme.LeafCert) -> tuple[str, str]:
    """Write ``cert.pem`` and ``key.pem`` the way tools do that rotate: a new file renamed over the old."""
    for name, blobs in (
        ("cert.pem", certificate.cert_chain_pems),
        ("key.pem", [certificate.private_key_pem]),
    ):
        (directory / "new").write_bytes(b"".join(blob.bytes() for blob in blobs))
        (directory / "new").replace(directory / name)
    return str(directory / "cert.pem"), str(directory / "key.pem")


def trusting(authority: trustme.CA, *, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


async def connect_tls(port: int, context: ssl.SSLContext) -> Client:
    streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    return Client(*streams)


async def is_served(port: int, context: ssl.SSLContext) -> bool:
    """With TLS 1.3 a client learns only when it reads that its certificate was not good enough."""
    try:
        async with await connect_tls(port, context) as client:
            client.send(post())
            return (await client.answer()).status == 200
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return False


def serial(client: Client) -> int:
    der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).serial_number


@asynccontextmanager
async def serving(application: Echo, certificates: Certificates) -> AsyncIterator[Server]:
    async with serve(
        application, ServerLimits(head_timeout_s=patience(0.5)), "127.0.0.1", 0, certificates=certificates
    ) as server:
        yield server


@pytest.mark.anyio
async def test_requests_travel_over_tls(application: Echo, authority: trustme.CA, tmp_path: Path) -> None:
    certificates = Certificates(*write(tmp_path, authority.issue_cert("localhost")))
    body = os.urandom(300_000)
    async with serving(application, certificates) as server:
        async with await connect_tls(server.port, trusting(authority)) as client:
            for sent in (b"{}", body):
                client.send(post(sent))
                assert (await client.answer()).body == sent
            client.send(GET + b"Connection: close\r\n\r\n")
            assert (await client.answer()).closes
            assert await client.closed() == b""
            assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        async with await connect_tls(server.port, trusting(authority)) as client:
            client.send(POST + b"Content-Length: 5, 5\r\n\r\n")
            assert (await client.answer()).status == 400
        await until(lambda: server.connections == 0)
    assert application.requests[0].certificate_name == ""


@pytest.mark.anyio
async def test_a_drain_over_tls_answers_what_is_open(
    application: Echo, authority: trustme.CA, tmp_path: Path
) -> None:
    application.hold = True
    certificates = Certificates(*write(tmp_path, authority.issue_cert("localhost")))
    async with (
        serving(application, certificates) as server,
        await connect_tls(server.port, trusting(authority)) as idle,
        await connect_tls(server.port, trusting(authority)) as busy,
    ):
        busy.send(post(b"open"))
        await until(lambda: application.requests)
        drained = asyncio.create_task(server.drain(5))
        assert await idle.closed() == b""
        application.requests[0].respond(202)
        assert (await busy.answer()).closes
        assert await drained == 0


@pytest.mark.anyio
async def test_a_client_without_tls_or_with_an_old_one_is_not_served(
    application: Echo, authority: trustme.CA, tmp_path: Path
) -> None:
    certificates = Certificates(*write(tmp_path, authority.issue_cert("localhost")))
    assert certificates.context.minimum_version == ssl.TLSVersion.TLSv1_2
    async with serving(application, certificates) as server:
        async with await connect(server.port) as plain:
            plain.send(post())
            await plain.closed()
        async with await connect(server.port) as silent:  # head_timeout_s is for handshakes as well
            assert await silent.closed() == b""
        with socket.create_connection(("127.0.0.1", server.port)) as gone:
            gone.sendall(b"\x16\x03\x01")
        await until(lambda: server.failed_handshakes == 3)
        assert server.connections == 0
        async with await connect_tls(server.port, trusting(authority)) as client:
            client.send(post())
            assert (await client.answer()).status == 200


@pytest.mark.anyio
async def test_a_handshake_that_is_not_finished_does_not_hold_up_the_end(
    application: Echo, authority: trustme.CA, tmp_path: Path
) -> None:
    certificates = Certificates(*write(tmp_path, authority.issue_cert("localhost")))
    async with (
        serve(application, ServerLimits(), "127.0.0.1", 0, certificates=certificates) as server,
        await connect(server.port) as silent,
    ):
        await until(lambda: server.connections == 1)
        async with asyncio.timeout(patience(3)):
            assert await server.drain(0.1) == 1
        assert await silent.closed() == b""
        assert server.connections == 0


@pytest.mark.anyio
async def test_only_clients_with_a_certificate_of_the_authority_are_served(
    application: Echo, authority: trustme.CA, other_authority: trustme.CA, tmp_path: Path
) -> None:
    other_authority.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    certificates = Certificates(
        *write(tmp_path, authority.issue_cert("localhost")), client_ca_file=str(tmp_path / "clients.pem")
    )
    async with serving(application, certificates) as server:
        for certificate, name in [
            (other_authority.issue_cert("a.example", common_name="producer-7"), "producer-7"),
            (other_authority.issue_cert("b.example", "c.example"), "b.example"),
        ]:
            context = trusting(authority, certificate=certificate)
            async with await connect_tls(server.port, context) as client:
                client.send(post())
                assert (await client.answer()).status == 200
            assert application.requests.pop().certificate_name == name
        for bad in (None, authority.issue_cert("d.example")):
            assert not await is_served(server.port, trusting(authority, certificate=bad))
        await until(lambda: server.failed_handshakes == 2)
        assert application.requests == []


@pytest.mark.anyio
async def test_a_new_certificate_is_taken_while_old_connections_go_on(
    application: Echo, authority: trustme.CA, tmp_path: Path
) -> None:
    certificates = Certificates(*write(tmp_path, authority.issue_cert("localhost")))
    assert not certificates.reload_if_changed()
    async with (
        serving(application, certificates) as server,
        await connect_tls(server.port, trusting(authority)) as old,
    ):
        write(tmp_path, authority.issue_cert("localhost"))
        assert certificates.reload_if_changed()
        assert not certificates.reload_if_changed()
        async with await connect_tls(server.port, trusting(authority)) as new:
            assert serial(new) != serial(old)
            for client in (old, new):
                client.send(post(b"served"))
                assert (await client.answer()).body == b"served"


@pytest.mark.anyio
async def test_a_bad_certificate_changes_nothing(
    application: Echo, authority: trustme.CA, tmp_path: Path
) -> None:
    files = write(tmp_path, authority.issue_cert("localhost"))
    certificates = Certificates(*files)
    async with serving(application, certificates) as server:
        async with await connect_tls(server.port, trusting(authority)) as client:
            before = serial(client)
        (tmp_path / "cert.pem").write_text("not a certificate")
        for read_again in (certificates.reload_if_changed, certificates.reload):
            with pytest.raises(UserError, match=re.escape(files[0])):
                read_again()
        assert not certificates.reload_if_changed(), "it is said once"
        async with await connect_tls(server.port, trusting(authority)) as client:
            assert serial(client) == before


@pytest.mark.anyio
async def test_an_authority_that_was_taken_out_is_no_longer_trusted(
    application: Echo, authority: trustme.CA, other_authority: trustme.CA, tmp_path: Path
) -> None:
    clients = tmp_path / "clients.pem"
    clients.write_bytes(authority.cert_pem.bytes() + other_authority.cert_pem.bytes())
    files = write(tmp_path, authority.issue_cert("localhost"))
    certificates = Certificates(*files, client_ca_file=str(clients))
    context = trusting(authority, certificate=other_authority.issue_cert("a.example"))
    async with serving(application, certificates) as server:
        assert await is_served(server.port, context)
        clients.write_bytes(authority.cert_pem.bytes())
        assert certificates.reload_if_changed()
        assert not await is_served(server.port, context)


def test_what_is_wrong_with_a_file_is_said_in_one_line(
    authority: trustme.CA, other_authority: trustme.CA, tmp_path: Path
) -> None:
    cert, key = write(tmp_path, authority.issue_cert("localhost"))
    (tmp_path / "other").mkdir()
    _, other_key = write(tmp_path / "other", other_authority.issue_cert("localhost"))
    locked = tmp_path / "locked.pem"
    secret = load_key(Path(key).read_bytes(), None)
    locked.write_bytes(
        secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    )
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for arguments, client_ca, named, said in [
        ((str(tmp_path / "none.pem"), key), "", "none.pem", "No such file"),
        ((cert, str(tmp_path / "none.pem")), "", "none.pem", "No such file"),
        ((str(tmp_path), key), "", str(tmp_path), "directory"),
        ((str(junk), key), "", "junk.pem", "belong together"),
        ((cert, other_key), "", "cert.pem", "belong together"),
        ((cert, str(locked)), "", "locked.pem", "has a passphrase"),
        ((cert, key), str(junk), "junk.pem", "PEM file of certificates"),
        ((cert, key), str(tmp_path / "none.pem"), "none.pem", "No such file"),
    ]:
        with pytest.raises(UserError, match=said) as caught:
            Certificates(*arguments, client_ca_file=client_ca)
        assert named in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_certificate_that_was_not_shown_has_no_name() -> None:
    assert certificate_name(None) == certificate_name({}) == ""
