"""Files that change while we run: secrets, authorities, certificates."""

import os
import ssl
from pathlib import Path

import pytest
import trustme

from ingestd.core.errors import UserError
from ingestd.transport.auth import LoginRefused, bearer, make_credential
from ingestd.transport.auth_config import AuthConfig
from ingestd.transport.client import Client
from ingestd.transport.tls import watch_tls
from ingestd.transport.watched_file import Watch, WatchedFiles
from ingestd.wiring.http_clients import make_auth
from tests.integration.transport.support import FakeClock
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio


def replace(path: Path, text: str) -> None:
    """As tools do it that replace files: another one of the same name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def number(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def watch_number(path: Path, clock: FakeClock, said: list[str]) -> WatchedFiles[int]:
    return WatchedFiles(
        (str(path),),
        lambda: int(path.read_text()),
        what="the number",
        watch=Watch(said.append),
        monotonic=clock.monotonic,
    )


def test_a_change_is_seen_within_a_second(number: Path, said: list[str]) -> None:
    clock = FakeClock()
    files = watch_number(number, clock, said)
    replace(number, "22")
    assert files.get() == 1
    clock.now += 1
    assert (files.get(), files.generation, said) == (22, 2, [])


def test_a_broken_one_is_told_once_and_the_old_one_stays(number: Path, said: list[str]) -> None:
    clock = FakeClock()
    files = watch_number(number, clock, said)
    replace(number, "no number")
    for _ in range(5):
        clock.now += 1
        assert (files.get(), files.generation) == (1, 1)
    assert said == ["the number stays as it was: invalid literal for int() with base 10: 'no number'"]
    number.unlink()
    for _ in range(5):
        clock.now += 1
        assert files.get() == 1
    assert said[1:] == ["the number stays as it was: No such file or directory"]
    number.write_text("3")
    clock.now += 1
    assert files.get() == 3
    replace(number, "no number")
    clock.now += 1
    assert files.get() == 3
    assert len(said) == 3, "a new fault is told anew"


def test_who_asks_for_it_has_it_read_again_whatever_it_looks_like(number: Path, said: list[str]) -> None:
    watch, clock = Watch(said.append), FakeClock()
    seen: list[int] = []
    files = WatchedFiles(
        (str(number),),
        lambda: int(number.read_text()),
        what="the number",
        watch=watch,
        monotonic=clock.monotonic,
        on_change=seen.append,
    )
    before = os.stat(number)
    number.write_text("2")  # of the same size
    os.utime(number, ns=(before.st_atime_ns, before.st_mtime_ns))
    watch.look()
    assert files.get() == 1
    watch.read_again()
    assert (files.get(), seen) == (2, [2])
    number.write_text("x")
    watch.read_again()
    watch.read_again()
    assert len(said) == 2, "each time somebody asks, it is told"


def test_a_secret_that_is_broken_is_not_quoted(tmp_path: Path, said: list[str]) -> None:
    clock, path = FakeClock(), tmp_path / "token"
    path.write_text("good-token")
    auth = bearer("", str(path), clock=clock, watch=Watch(said.append))
    replace(path, "hunter2 and more")
    clock.now += 1
    auth._value.get()
    (words,) = said
    assert "one word" in words
    assert "hunter2" not in words


async def test_the_secret_of_a_client_is_read_again(tmp_path: Path) -> None:
    """A rotated secret: the login host takes only the new one."""
    good = {"Basic aWQ6b2xk": "first", "Basic bmV3OmZyZXNo": "second"}

    def login(request: Request) -> Reply:
        token = good.get(request.headers["authorization"])
        return Reply(200, body=b'{"access_token":"%s"}' % token.encode()) if token else Reply(401)

    clock, secret, client_id = FakeClock(), tmp_path / "secret", tmp_path / "id"
    secret.write_text("old")
    client_id.write_text("id")
    async with Receiver(login) as host, Client() as client:
        auth = make_auth(
            AuthConfig(
                type="oauth2",
                token_url=host.url,
                client_id_file=str(client_id),
                client_secret_file=str(secret),
            ),
            client,
            clock=clock,
        )
        assert (await auth.headers("", b"", {}))[0] == {"Authorization": "Bearer first"}
        del good["Basic aWQ6b2xk"]
        auth.drop(1)
        with pytest.raises(LoginRefused):
            await auth.headers("", b"", {})
        replace(secret, "fresh")
        replace(client_id, "new")
        clock.now += 6  # a refusal is remembered
        added, generation = await auth.headers("", b"", {})
        assert (added, generation) == ({"Authorization": "Bearer second"}, 2)
        assert auth.mask(b"it was fresh") == b"it was ***"
        await auth.aclose()


def test_neither_and_both_are_refused() -> None:
    for given, file in (("", ""), ("a", "b")):
        with pytest.raises(UserError, match="one of the two"):
            make_credential(given, file, str, what="token", clock=FakeClock())


# TLS


def server_tls(authority: trustme.CA, clients: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    return context


async def post(client: Client, receiver: Receiver) -> str:
    answer = await client.post(receiver.url, b"{}", {})
    return answer.error or str(answer.status)


async def test_an_authority_that_is_replaced_is_used_at_once(tmp_path: Path, said: list[str]) -> None:
    old, new, path = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    old.cert_pem.write_to_path(str(path))
    watch = Watch(said.append)
    async with (
        Receiver(tls=server_tls(old)) as before,
        Receiver(tls=server_tls(new)) as after,
        Client(ca_file=str(path), watch=watch) as client,
    ):
        assert await post(client, before) == "200"
        assert "certificate refused" in await post(client, after)
        replace(path, "garbage")
        watch.look()
        assert await post(client, before) == "200"
        assert len(said) == 1
        assert str(path) in said[0]
        new.cert_pem.write_to_path(str(path))
        watch.look()
        assert await post(client, after) == "200"
        assert "certificate refused" in await post(client, before), "kept connections end with the old file"


async def test_a_certificate_of_our_own_that_is_replaced_is_presented(tmp_path: Path) -> None:
    authority, old, new = trustme.CA(), trustme.CA(), trustme.CA()
    names = ("ca.pem", "cert.pem", "key.pem")
    ca_file, cert_file, key_file = (str(tmp_path / name) for name in names)
    authority.cert_pem.write_to_path(ca_file)

    def write(issuer: trustme.CA) -> None:
        issued = issuer.issue_cert("us.test")
        issued.private_key_pem.write_to_path(key_file)
        issued.cert_chain_pems[0].write_to_path(cert_file)

    write(old)
    watch = Watch()
    async with (
        Receiver(tls=server_tls(authority, clients=new)) as receiver,
        Client(ca_file=ca_file, certificate=(cert_file, key_file), watch=watch) as client,
    ):
        assert await post(client, receiver) != "200"
        write(new)
        watch.look()
        assert await post(client, receiver) == "200"


async def test_clients_share_the_public_authorities_and_no_others(
    tmp_path: Path,
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def context(ca_file: str | None = None) -> ssl.SSLContext:
        return watch_tls(ca_file, None, trust_env=False, watch=Watch(), clock=FakeClock()).get()

    assert context() is context()
    context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")  # which reads them
    assert len(context().get_ca_certs()) > len(context(str(tmp_path / "ca.pem")).get_ca_certs()) == 1
