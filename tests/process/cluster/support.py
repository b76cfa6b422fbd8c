"""A spool on a real NATS server, with edges and workers as processes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import nats
import nats.js.errors
from nats.aio.client import Client

from ingestd.cluster.letter_stream import pack_again, unpack
from ingestd.cluster.share_log import Record
from tests.machine import patience
from tests.nats_server import NatsServer
from tests.process.cli.run_support import LOST, Serving, post, starting
from tests.process.cli.support import Place
from tests.process.soak.events import GROUP, Maker
from tests.warm import Warm, warm

if TYPE_CHECKING:
    from tests.integration.httpd.wire_client import Answer

_decode_record = msgspec.msgpack.Decoder(Record).decode
ALWAYS = 'sync_interval: "always"'


class Cluster:
    """``sinks``: by name the lines of their tables, besides type and URL."""

    def __init__(
        self,
        directory: Path,
        nats: NatsServer | Sequence[NatsServer],
        api: str,
        sinks: Mapping[str, str],
        *,
        name: str = "t",
        partitions: int = 4,
        max_bytes: str = "64MiB",
        more: str = "",
        delivery: str = "",
    ) -> None:
        self.directory = directory
        servers = [nats] if isinstance(nats, NatsServer) else [*nats]
        self.nats = servers[0]
        urls = ", ".join(f'"{server.url}"' for server in servers)
        self.config = directory / "ingestd.toml"
        tables = "".join(
            f'[sinks.{sink}]\ntype = "ingest_api"\nurl = "{api}/{sink}/api/v2/events/ingest"\n'
            f'auth = {{ type = "none" }}\n{lines}\n'
            for sink, lines in sinks.items()
        )
        self.config.write_text(
            f'[spool]\nkind = "nats"\nservers = [{urls}]\nname = "{name}"\npartitions = {partitions}\n'
            f"replicas = {len(servers)}\n"
            f'max_bytes = "{max_bytes}"\n'
            f'[delivery]\norder_by = "{GROUP}"\n{delivery}\n[batch]\nmax_age = "20ms"\n{more}\n{tables}'
        )
        self.edges: list[Serving] = []

    @asynccontextmanager
    async def start(self, *flags: str, by: Warm | None = None) -> AsyncIterator[Serving]:
        """``--edge`` or ``--worker``; none: both. ``by``: of another version."""
        place = Place(self.directory)
        words = ["run", "--config", self.config, *flags, "--listen", "127.0.0.1:0"]
        words += ["--admin-listen", "127.0.0.1:0", "--log-format", "json"]
        async with starting(place, words, by=by) as serving:
            line = await serving.said("working" if "--worker" in flags else "listening")
            serving.admin_port = int(line["admin"].rpartition(":")[2])
            if "ingest" in line:
                serving.ingest_port = int(line["ingest"].rpartition(":")[2])
            yield serving

    async def command(self, *words: str) -> tuple[int, str, str]:
        """``ingestd WORDS --config …`` as a process."""
        process = await warm().start([*words, "--config", str(self.config)], env={"PATH": ""})
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def json(self, *words: str) -> Any:
        code, out, err = await self.command(*words, "--json")
        assert code == 0, (words, code, out, err)
        return json.loads(out)

    async def init(self) -> None:
        code, out, err = await self.command("spool", "init")
        assert code == 0, (out, err)


class AnyEdge:
    """Ports of the edges that are there."""

    def __init__(self, rng: random.Random) -> None:
        self.ports: dict[str, int] = {}
        self._rng = rng

    async def port(self) -> int:
        while not self.ports:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self._rng.choice([*self.ports.values()])

    async def take(self, events: list[bytes]) -> None:
        """Posted until one of them has answered 202."""
        while True:
            with suppress(*LOST, OSError):
                if (await post(await self.port(), events)).status == 202:
                    return
            await asyncio.sleep(0.05)


class ClusterProducer:
    """One request after the other to any edge, some of them twice; believes only a 202. ``pause_s``: the most
    between them."""

    def __init__(
        self,
        name: str,
        rng: random.Random,
        *,
        sizes: Sequence[int] = (1, 3, 40),
        ill: float = 0.01,
        pause_s: float = 0.02,
    ) -> None:
        self.acknowledged: list[bytes] = []
        self.problems: list[str] = []
        self.answers = 0
        self.copies = 0
        self._rng = rng
        self._sizes = sizes
        self._pause_s = pause_s
        self._maker = Maker(name, rng, ill=ill)

    async def work(self, edges: AnyEdge, stop: asyncio.Event) -> None:
        while not stop.is_set():
            events = self._maker.many(self._rng.choice(self._sizes), pad=self._rng.choice([0, 300]))
            await self.give(edges, events)
            self.acknowledged += events
            if self._rng.random() < 0.05:
                await self.give(edges, events)
                self.copies += len(events)
            await asyncio.sleep(self._rng.uniform(0, self._pause_s))

    async def give(self, edges: AnyEdge, events: list[bytes]) -> None:
        while True:
            try:
                answer: Answer = await post(await edges.port(), events)
            except (*LOST, OSError):
                pass
            else:
                self.answers += 1
                if answer.status == 202:
                    told = json.loads(answer.body)
                    if told["accepted"] + told["duplicates"] != len(events):
                        self.problems.append(f"of {len(events)} events: {answer}")
                    return
                if answer.status != 503 or not answer.headers.get("retry-after"):
                    self.problems.append(str(answer))
            await asyncio.sleep(0.05)


async def ended(works: Iterable[Awaitable[None]], *processes: Serving) -> None:
    """They come to their end, as they were told to; or what each process said last is told."""
    try:
        async with asyncio.timeout(patience(60)):
            await asyncio.gather(*works)
    except TimeoutError:
        told = "\n\n".join(one.raw[-3000:] for one in processes)
        raise AssertionError(f"a producer waits for its answer still:\n{told}") from None


async def dead_letters(url: str | list[str], name: str) -> list[dict[str, Any]]:
    """All of them, as the judge wants them."""
    async with stream_client(url) as client:
        js = client.jetstream(timeout=patience(5))
        info = await js.stream_info(f"{name}-dead")
        found = {}
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            with suppress(nats.js.errors.NotFoundError):
                letter = unpack((await js.get_msg(f"{name}-dead", sequence)).data or b"")
                told = {"sink": letter.sink, "payload": letter.payload, "reason": letter.reason}
                found[letter.where] = told
        return [*found.values()]


async def requests_of_letters(url: str | list[str], name: str) -> dict[str, list[int]]:
    """By key the checksums of the letters that were sent in one request, as the logs of the shares say."""
    async with stream_client(url) as client:
        js = client.jetstream(timeout=patience(5))
        info = await js.stream_info(f"{name}-frozen")
        found: dict[str, list[int]] = {}
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            with suppress(nats.js.errors.NotFoundError):
                record = _decode_record((await js.get_msg(f"{name}-frozen", sequence)).data or b"")
                found |= {one.id: [checksum for _, checksum in one.letters] for one in record.again}
        return found


async def age_letters(url: str | list[str], name: str, seconds: float, *, taken: bool = False) -> None:
    """They failed earlier than they did, and were not ``taken``, or may have been; those that were changed
    since stay."""
    async with stream_client(url) as client:
        js = client.jetstream(timeout=patience(5))
        info = await js.stream_info(f"{name}-dead")
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            with suppress(nats.js.errors.NotFoundError):
                message = await js.get_msg(f"{name}-dead", sequence)
                letter = unpack(message.data or b"")
                if letter.now is None:
                    letter.at -= seconds
                    letter.ambiguous = letter.ambiguous and taken
                    unchanged = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
                    with suppress(nats.js.errors.BadRequestError):  # somebody was quicker
                        await js.publish(str(message.subject), pack_again(letter), headers=unchanged)
        await client.publish(f"ingestd.{name}.letters", b"")
        await client.flush()


@asynccontextmanager
async def stream_client(url: str | list[str]) -> AsyncIterator[Client]:
    client = await nats.connect(url, connect_timeout=patience(2))
    try:
        yield client
    finally:
        await client.close()


async def ask(url: str, what: str, body: bytes = b"") -> None:
    """A request to JetStream."""
    async with stream_client(url) as client:
        answer = json.loads((await client.request(f"$JS.API.{what}", body, timeout=patience(5))).data)
        assert "error" not in answer, answer


async def publish(url: str, subject: str, data: bytes) -> None:
    async with stream_client(url) as client:
        await client.jetstream(timeout=patience(5)).publish(subject, data)
