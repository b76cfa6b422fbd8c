"""What one would write from the tutorial: line by line, a pydantic model per event, 100 events per request.

The tutorial's design, kept: ``json.loads`` per line, an ``OrderedDict`` window, models validated per event
and again per batch, the body encoded twice (size check, then sending), httpx, five at a time, retries on 429.
Its faults that would end or falsify a run are mended, in its favour: see README.md beside it. Prints its
counts as JSON.
"""

import argparse
import asyncio
import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, Field, field_validator, model_validator

MAX_BATCH_BYTES = 500_000
EVENTS_PER_BATCH = 100
MAX_CONCURRENT = 5


class RoutingMetadata(BaseModel):
    queueId: str  # noqa: N815
    skill: str
    actionType: str = Field(..., pattern="^(ANSWER|TRANSFER|DISCONNECT|QUEUE|REQUEUE)$")  # noqa: N815


class Event(BaseModel):
    eventType: str  # noqa: N815
    eventTime: str  # noqa: N815
    interactionId: str  # noqa: N815
    routingMetadata: RoutingMetadata  # noqa: N815
    attributes: dict[str, Any] = Field(default_factory=dict)
    schemaVersion: int = Field(..., ge=1, le=3)  # noqa: N815

    @field_validator("eventTime", mode="before")
    @classmethod
    def validate_iso_timestamp(cls, v: str) -> str:
        try:
            datetime.fromisoformat(v.replace("Z", "+00:00"))  # noqa: FURB162
        except ValueError:
            raise ValueError("eventTime must be valid ISO 8601 format") from None
        return v


class EventBatch(BaseModel):
    events: list[Event]

    @model_validator(mode="after")
    def validate_batch_size(self) -> "EventBatch":
        if len(self.model_dump_json().encode("utf-8")) > MAX_BATCH_BYTES:
            raise ValueError(f"Batch payload exceeds {MAX_BATCH_BYTES} bytes. Split into smaller chunks.")
        return self


class DeduplicationCache:
    def __init__(self, max_size: int = 10_000, window_seconds: float = 300.0) -> None:
        self.cache: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self.max_size = max_size
        self.window_seconds = window_seconds

    def is_duplicate(self, key: tuple[str, str, str]) -> bool:
        now = time.time()
        while self.cache and (now - next(iter(self.cache.values()))) > self.window_seconds:
            self.cache.popitem(last=False)
        if key in self.cache:
            return True
        self.cache[key] = now
        if len(self.cache) > self.max_size:
            self.cache.popitem(last=False)
        return False


class Ingester:
    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self.client = client
        self.url = url
        self.slots = asyncio.Semaphore(MAX_CONCURRENT)
        self.dedup = DeduplicationCache()
        self.counts = {"accepted": 0, "delivered": 0, "duplicate": 0, "rejected": 0, "requests": 0}

    def read_batches(self, path: Path) -> Iterator[EventBatch]:
        events: list[Any] = []
        with path.open("rb") as file:
            for line in file:
                self.counts["accepted"] += 1
                try:
                    event = Event(**json.loads(line))
                except ValueError:  # JSON, UTF-8 and pydantic errors
                    self.counts["rejected"] += 1
                    continue
                if self.dedup.is_duplicate((event.interactionId, event.eventType, event.eventTime)):
                    self.counts["duplicate"] += 1
                    continue
                events.append(event.model_dump())
                if len(events) == EVENTS_PER_BATCH:
                    yield EventBatch(events=events)
                    events = []
        if events:
            yield EventBatch(events=events)

    async def ingest_batch(self, batch: EventBatch) -> None:
        request_id = str(uuid.uuid4())
        payload = batch.model_dump_json()
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        for attempt in range(3):
            response = await self.client.post(self.url, headers=headers, content=payload)
            self.counts["requests"] += 1
            if response.status_code == 429:
                await asyncio.sleep(float(response.headers.get("Retry-After", 2.0)) * 1.5**attempt)
                continue
            response.raise_for_status()
            self.counts["delivered"] += len(batch.events)
            return
        raise RuntimeError("Max retries exceeded for batch ingestion")

    async def ingest_file(self, path: Path) -> None:
        async with asyncio.TaskGroup() as group:
            for batch in self.read_batches(path):
                await self.slots.acquire()
                group.create_task(self.ingest_batch(batch)).add_done_callback(lambda _: self.slots.release())


async def ingest(path: Path, url: str) -> dict[str, int]:
    async with httpx.AsyncClient(timeout=15.0) as client:
        ingester = Ingester(client, url)
        await ingester.ingest_file(path)
        return ingester.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("url")
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(ingest(chosen.file, chosen.url))))


if __name__ == "__main__":
    main()
