"""Messages that are stored in a stream together, over every way to a server."""

import asyncio
import base64
from pathlib import Path

import pytest

from ingestd.core.clock import SystemClock
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.sources.nats.settings import NatsConfig
from tests.certificates import self_signed
from tests.nats_server import nats_server
from tests.ports import free_port

pytestmark = pytest.mark.anyio

STREAM = {"name": "S", "subjects": ["s.>"], "storage": "memory", "max_msg_size": 600_000}


def identified(name: str, data: bytes, **headers: str) -> tuple[str, bytes, dict[str, str]]:
    return f"s.{name}", data, {"Nats-Msg-Id": name, **headers}


@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")  # of nats-py
@pytest.mark.parametrize("way", ["nats", "tls", "ws"])
async def test_each_of_several_has_its_own_answer_and_is_stored_as_it_was(tmp_path: Path, way: str) -> None:
    cert, key = self_signed(tmp_path)
    port = free_port()
    lines = {
        "nats": "",
        "tls": f'tls {{ cert_file: "{cert}", key_file: "{key}" }}',
        "ws": f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}',
    }[way]
    with nats_server(tmp_path / way, lines) as server:
        url = f"ws://127.0.0.1:{port}" if way == "ws" else server.url.replace("nats://", f"{way}://")
        settings = NatsConfig(stream="S", servers=[url], ca_file=str(cert) if way == "tls" else "")
        connection = NatsConnection(settings, SystemClock(), lambda: None)
        await connection.open()
        await connection.ask("STREAM.CREATE.S", STREAM)
        large = bytes(range(256)) * 2_000
        found = await connection.append_all(
            [
                identified("one", b"1\r\n"),
                identified("large", large),
                identified("refused", b"", **{"Nats-Expected-Last-Sequence": "99"}),
                ("nobody", b"", {"Nats-Msg-Id": "nobody"}),
                identified("too-large", bytes(700_000)),
                identified("one", b"1\r\n"),
            ],
            within_s=2.0,
        )
        one, second, refused, nobody, too_large, copy = found
        assert (one, second) == ({"stream": "S", "seq": 1}, {"stream": "S", "seq": 2})
        assert copy == {"stream": "S", "seq": 1, "duplicate": True}
        assert isinstance(refused, JetStreamError)
        assert isinstance(too_large, JetStreamError)
        assert isinstance(nobody, BrokerAway)
        (never_sent,) = await connection.append_all([identified("far-too-large", bytes(2_000_000))])
        assert "maximum payload exceeded" in str(never_sent)
        assert connection.is_open
        for number, data in ((1, b"1\r\n"), (2, large)):
            stored = await connection.ask("STREAM.MSG.GET.S", {"seq": number})
            assert base64.b64decode(stored["message"]["data"]) == data
        await connection.close()


async def test_answers_that_came_count_where_others_do_not_come_or_the_server_is_gone(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        settings = NatsConfig(stream="S", servers=[server.url])
        connection, other = (NatsConnection(settings, SystemClock(), lambda: None) for _ in range(2))
        await connection.open()
        await connection.ask("STREAM.CREATE.S", STREAM)
        await other.open()
        heard = asyncio.Event()
        await other.listen(lambda message: heard.set(), "silent")  # who never answers
        await other.ask("INFO")  # the server knows of it
        messages = [identified("1", b"1"), ("silent", b"", {"Nats-Msg-Id": "2"}), identified("3", b"3")]
        first, silent, third = await connection.append_all(messages, within_s=0.5)
        assert (first, third) == ({"stream": "S", "seq": 1}, {"stream": "S", "seq": 2})
        assert "no answer in time" in str(silent)
        again = await connection.append_all([messages[0], messages[2]])
        assert again == [{**first, "duplicate": True}, {**third, "duplicate": True}]
        heard.clear()
        waiting = asyncio.create_task(connection.append_all([messages[1]], within_s=60.0))
        await heard.wait()
        server.kill()
        assert [type(one) for one in await waiting] == [BrokerAway]
        assert [type(one) for one in await connection.append_all(messages)] == [BrokerAway] * 3
        await connection.close()
        await other.close()
