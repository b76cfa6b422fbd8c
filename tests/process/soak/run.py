"""Rounds of ``ingestd run``: producers post, sinks fail, the service is killed and starts again."""

import asyncio
import random
from pathlib import Path

from tests.machine import patience
from tests.process.cli.run_support import Serving, serve, starting, words
from tests.process.cli.support import Place
from tests.process.soak.api import Api, SinkApi
from tests.process.soak.events import GROUP
from tests.process.soak.judge import Verdict, balance, judge
from tests.process.soak.kills import kill
from tests.process.soak.producers import Address, Producer

SHAPES = {
    "run: one sink": ("main",),
    "run: one of two sinks in order": ("main", "ordered"),
    "run: one sink in order, one slow, one dead": ("ordered", "slow", "dead"),
}
PRODUCERS = 3
CONFIG = """
[api]
url = "{url}"
no_auth = true
[delivery]
give_up_after = "1h"
min_retries_per_second = 1000
retry_ratio = 10
circuit_threshold = 4
[batch]
max_events = {max_events}
[ingest]
wait_timeout = "300ms"
"""
SINK = """
[sinks.{name}]
type = "ingest_api"
url = "{url}/{name}"
order_by = "{order_by}"
max_in_flight = {in_flight}
auth = {{ type = "oauth2", token_url = "{url}/oauth/token", client_id = "i", client_secret = "s" }}
"""


def sinks_of(names: tuple[str, ...]) -> dict[str, SinkApi]:
    """Each of them misbehaves in the way of its name."""
    return {
        name: SinkApi(
            trouble=0.15,
            slow_s=0.3 if name == "slow" else 0.01,
            dead=name == "dead",
            max_body=12_000 if name == "main" else 1_000_000,
        )
        for name in names
    }


def configure(place: Place, url: str, sinks: dict[str, SinkApi], rng: random.Random) -> Path:
    path = place / "ingestd.toml"
    text = CONFIG.format(url=url, max_events=rng.choice([8, 60]))
    for name in sinks:
        order_by = GROUP if name == "ordered" else ""
        text += SINK.format(name=name, url=url, order_by=order_by, in_flight=rng.choice([1, 4]))
    path.write_text(text)
    return path


async def round_of_run(place: Place, shape: str, seed: int, *, lives: int) -> Verdict:
    rng = random.Random(seed)
    sinks = sinks_of(SHAPES[shape])
    producers = [Producer(f"p{number}", random.Random(f"{seed} {number}")) for number in range(PRODUCERS)]
    address, stop, verdict = Address(), asyncio.Event(), Verdict()
    async with (
        Api(sinks, random.Random(f"{seed} api"), place / "requests.ndjson") as api,
        asyncio.TaskGroup() as tasks,
    ):
        options: list[object] = ["--config", configure(place, api.url, sinks, rng)]
        posting = [tasks.create_task(one.work(address, stop)) for one in producers]
        for _ in range(lives):
            verdict.lives += 1
            verdict.kills += await _life(place, api, address, options, rng)
        stop.set()
        api.calm()
        async with serve(place, api.url, *options) as serving:
            verdict.lives += 1
            address.now(serving.ingest_port)
            await asyncio.wait(posting)
            told = await serving.until_empty(timeout_s=patience(60))
            balance(told["ledger"], verdict)
            await serving.stop()
    verdict.problems += [problem for one in producers for problem in one.problems]
    acknowledged = [event for one in producers for event in one.acknowledged]
    return judge(acknowledged, sinks, place.letters(), ordered={"ordered"} & sinks.keys(), verdict=verdict)


async def _life(place: Place, api: Api, address: Address, options: list[object], rng: random.Random) -> bool:
    """Some lives end before they have begun."""
    if rng.random() < 0.15:
        async with starting(place, words(place, api.url, *options)) as early:
            await asyncio.sleep(rng.uniform(0, patience(0.6)))
            return (await early.kill()).code < 0
    async with serve(place, api.url, *options) as serving:
        return await _serves_until_killed(serving, api, address, rng)


async def _serves_until_killed(serving: Serving, api: Api, address: Address, rng: random.Random) -> bool:
    address.now(serving.ingest_port)
    killed = await kill(serving.process, api, rng)
    address.gone()
    await serving.finish()
    return killed
