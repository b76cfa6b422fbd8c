"""The sandbox over HTTPS, with a certificate of its own or one that is given."""

import ssl
from pathlib import Path

import httpx
import pytest

from ingestd.core.errors import UserError
from ingestd.sandbox.server import Sandbox
from ingestd.sandbox.tls import make_certificate, server_context
from tests.certificates import self_signed
from tests.machine import patience

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("own", [True, False])
async def test_it_serves_https_to_who_trusts_its_certificate(tmp_path: Path, own: bool) -> None:
    cert, key = make_certificate(tmp_path) if own else self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=cert)
    async with Sandbox().serve(tls=server_context(cert, key)) as running:
        assert running.url.startswith("https://127.0.0.1:")
        async with httpx.AsyncClient(timeout=patience(30), verify=trusting, trust_env=False) as client:
            form = {"grant_type": "client_credentials"}
            answer = await client.post(running.token_url, data=form, auth=("sandbox", "sandbox"))
            assert answer.json()["token_type"] == "bearer"
        async with httpx.AsyncClient(timeout=patience(30), trust_env=False) as client:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await client.get(running.url)


def test_its_own_certificate_is_for_the_names_that_sdks_need(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    (read,) = context.get_ca_certs()
    names = {name for _, name in read["subjectAltName"]}  # type: ignore[misc]
    assert {"localhost", "*.sandbox.test", "127.0.0.1"} <= names


def test_files_that_do_not_serve_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tls-cert /nowhere"):
        server_context("/nowhere", "/nowhere")
