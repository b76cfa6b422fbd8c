"""What a lake's files are made of: the events of a load as zstd NDJSON or Parquet, and their manifest.

The same rows give the same names and bytes: a crash between writing and forgetting changes nothing. Called by
``ingestd/lake/``.
"""

import hashlib
import json
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from ingestd.core.errors import UserError
from ingestd.sinks.lake import MAX_FOLDERS, LakeLayout, Partitioner

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MANIFEST_VERSION = 1
MANIFEST_PREFIX, MANIFEST_SUFFIX = "_", ".manifest.json"
"""pyarrow, Spark, Hive and Athena read whole folders, and pass by what begins with an underscore."""
ZSTD_LEVEL = 3
_ZSTD: dict[int, int] = {
    zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
    zstd.CompressionParameter.checksum_flag: 1,  # a reader of the file notices a flipped bit
}
SUFFIXES = {"ndjson": ".ndjson.zst", "parquet": ".parquet"}
CONTENT_TYPES = {"ndjson": "application/zstd", "parquet": "application/vnd.apache.parquet"}
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


class LakeDelivery(Protocol):
    """Events that came together: a row of ``store/outbox_rows.py``.

    ``request_id``: of the request that delivered them; empty: accepted. ``at``: wall time. ``number``: of
    their row; never used twice in one outbox.
    """

    @property
    def number(self) -> int: ...
    @property
    def request_id(self) -> str: ...
    @property
    def latency_s(self) -> float: ...
    @property
    def at(self) -> float: ...
    @property
    def crc(self) -> int: ...
    @property
    def events(self) -> list[bytes]: ...


class LakeFile(NamedTuple):
    """``name``: with its folder, relative to the lake's root. The lists run parallel, in the rows' order.

    Columns and not one object an event: of those there are more than the garbage collector likes.
    """

    name: str
    events: list[bytes]
    times: list[datetime | None]
    types: list[str | None]
    deliveries: list[LakeDelivery]


class EncodedFile(NamedTuple):
    """``content_type``: of ``body``. ``manifest``: JSON."""

    name: str
    body: bytes
    content_type: str
    manifest: bytes

    @property
    def manifest_name(self) -> str:
        folder, slash, stem = self.name.rpartition("/")
        return f"{folder}{slash}{MANIFEST_PREFIX}{stem}{MANIFEST_SUFFIX}"


def files_of(deliveries: Sequence[LakeDelivery], layout: LakeLayout) -> list[LakeFile]:
    """All events of a load, each in exactly one file; one file for a folder."""
    if not deliveries:
        return []
    partitioner = Partitioner(layout)
    stem = f"{deliveries[0].number}-{deliveries[-1].number}-{_digest(deliveries)}{SUFFIXES[layout.format]}"
    files: dict[str, LakeFile] = {}
    for delivery in deliveries:
        for event in delivery.events:
            place = partitioner.place(event)
            folder = partitioner.folder(place)
            file = files.get(folder)
            if file is None:
                if len(files) >= MAX_FOLDERS:
                    folder = partitioner.overflow
                name = f"{folder}/{stem}" if folder else stem
                file = files.setdefault(folder, LakeFile(name, [], [], [], []))
            file.events.append(event)
            file.times.append(place.time)
            file.types.append(place.type)
            file.deliveries.append(delivery)
    return list(files.values())


def _digest(deliveries: Iterable[LakeDelivery]) -> str:
    """Tells loads of different state directories apart that have the same numbers."""
    digest = hashlib.blake2b(digest_size=6)
    for delivery in deliveries:
        digest.update(struct.pack("<qdI", delivery.number, delivery.at, delivery.crc))
        digest.update(delivery.request_id.encode())
    return digest.hexdigest()


def encode(file: LakeFile, layout: LakeLayout) -> EncodedFile:
    """The file and its manifest. Raises UserError when Parquet is asked for without pyarrow."""
    body = encode_parquet(file) if layout.format == "parquet" else encode_ndjson(file.events)
    manifest = make_manifest(file, body, layout)
    return EncodedFile(file.name, body, CONTENT_TYPES[layout.format], manifest)


def encode_ndjson(events: Iterable[bytes]) -> bytes:
    """One event a line, its own bytes; in an event over several lines each line end becomes a blank (in JSON
    they stand only where white space may)."""
    text = b"\n".join([event.translate(_LINE_ENDS) if _is_split(event) else event for event in events])
    return zstd.compress(text + b"\n", options=_ZSTD)


def _is_split(event: bytes) -> bool:
    return b"\n" in event or b"\r" in event


def encode_parquet(file: LakeFile) -> bytes:
    """Columns: event (its JSON as it came), event_type, event_time, request_id, latency_ms, at. zstd.

    ``event_type`` and ``event_time`` are null where the event has none, ``request_id`` and ``latency_ms``
    where it was accepted and not delivered yet. No column has the name of a folder: readers refuse that.
    Raises UserError without pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("Parquet needs pyarrow: pip install 'ingestd[lake]'") from None
    instant = pa.timestamp("us", tz="UTC")
    table = pa.table(
        {
            "event": pa.array([event.decode("utf-8", "replace") for event in file.events], pa.string()),
            "event_type": pa.array(file.types, pa.string()),
            "event_time": pa.array(file.times, instant),
            "request_id": pa.array([d.request_id or None for d in file.deliveries], pa.string()),
            "latency_ms": pa.array(
                [_milliseconds(d) if d.request_id else None for d in file.deliveries], pa.float64()
            ),
            "at": pa.array([round(d.at * 1e6) for d in file.deliveries], pa.int64()).cast(instant),
        }
    )
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=["event_type", "request_id"],
        write_page_checksum=True,
    )
    body: bytes = buffer.getvalue().to_pybytes()
    return body


def make_manifest(file: LakeFile, body: bytes, layout: LakeLayout) -> bytes:
    """What is in the file, as JSON. Times: RFC 3339, UTC. ``requests``: those that delivered its events."""
    times = [time for time in file.times if time]
    counts = Counter(delivery.number for delivery in file.deliveries)
    by_number = {delivery.number: delivery for delivery in file.deliveries}
    requests = [
        {
            "id": delivery.request_id,
            "events": counts[number],
            "latency_ms": _milliseconds(delivery),
            "at": _stamp(_instant(delivery.at)),
        }
        for number, delivery in by_number.items()
        if delivery.request_id
    ]
    ats = [delivery.at for delivery in by_number.values()]
    return json.dumps(
        {
            "version": MANIFEST_VERSION,
            "name": file.name,
            "format": layout.format,
            "events": len(file.events),
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "first_time": _stamp(min(times)) if times else None,
            "last_time": _stamp(max(times)) if times else None,
            "first_at": _stamp(_instant(min(ats))),
            "last_at": _stamp(_instant(max(ats))),
            "requests": requests,
        },
        separators=(",", ":"),
    ).encode()


def _milliseconds(delivery: LakeDelivery) -> float:
    return round(delivery.latency_s * 1000, 1)


def _instant(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
