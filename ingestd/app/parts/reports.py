"""What the processes of a replay report, and what of it is that of all together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ingestd.app.replay_progress import ReplayProgress
from ingestd.schemas.key_paths import KeyWatch


class PartReport(msgspec.Struct):
    """Of one process, as it is now. ``report``: None while it has not begun; ``undelivered``, ``hints``: see
    ``Replay``; ``warnings``: since the last one; ``error_code``: the exit code of its ``error``; ``ended``:
    it is the last."""

    progress: ReplayProgress = ReplayProgress()
    report: dict[str, Any] | None = None
    undelivered: bool = False
    damage: list[str] = msgspec.field(default_factory=list)
    hints: dict[str, str] = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    error: str = ""
    error_code: int = 0
    ended: bool = False


def progress_of_all(parts: Sequence[PartReport]) -> ReplayProgress:
    """Each reads all of the input, so what is done of that is what they have done on average."""
    all_of = [part.progress for part in parts]
    sizes = [one.total_bytes for one in all_of]
    return ReplayProgress(
        read=max(one.read for one in all_of),
        accepted=sum(one.accepted for one in all_of),
        delivered=sum(one.delivered for one in all_of),
        duplicate=sum(one.duplicate for one in all_of),
        rejected=sum(one.rejected for one in all_of),
        dead_lettered=sum(one.dead_lettered for one in all_of),
        in_flight=sum(one.in_flight for one in all_of),
        done_bytes=sum(one.done_bytes for one in all_of) / max(1, len(all_of)),
        total_bytes=max((size for size in sizes if size is not None), default=0),
        requests_out=sum(one.requests_out for one in all_of),
        reasons=tuple(dict.fromkeys(reason for one in all_of for reason in one.reasons)),
    )


def hints_of_all(parts: Sequence[PartReport]) -> Sequence[str]:
    """Those that all have, each once: the words of the last of them, which may tell of another time."""
    return [hint for name, hint in parts[-1].hints.items() if all(name in one.hints for one in parts)]


def report_of_all(reports: Sequence[Mapping[str, Any]], *, seconds: float) -> dict[str, Any]:
    """Counts are added up. How it ended is said by who started them."""
    found: dict[str, Any] = {
        name: sum(report[name] for report in reports)
        for name, value in reports[0].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    found["seconds"] = round(seconds, 3)
    found["events_per_second"] = round(found["accepted"] / seconds, 1) if seconds > 0 else 0.0
    found["dead_letters_by_reason"] = _added(report["dead_letters_by_reason"] for report in reports)
    if watches := [report["keys"] for report in reports if "keys" in report]:
        found["keys"] = [_watch_of_all(one).describe() for one in zip(*watches, strict=True)]
    names = reports[0]["sinks"]
    found["sinks"] = {name: _sink_of_all([report["sinks"][name] for report in reports]) for name in names}
    sources = [report["sources"] for report in reports if report["sources"]]
    found["sources"] = [_source_of_all(one) for one in zip(*sources, strict=True)]
    return found


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total


def _sink_of_all(sinks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    errors = [sink["error"] for sink in sinks if sink["error"]]
    counts = ({name: value for name, value in sink.items() if name != "error"} for sink in sinks)
    return {**_added(counts), "error": errors[0] if errors else None}


def _source_of_all(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As far as all have read it."""
    damage = [source["damage"] for source in sources if source["damage"]]
    return {
        "path": sources[0]["path"],
        "bytes_read": min(source["bytes_read"] for source in sources),
        "damage": damage[0] if damage else None,
    }


def _watch_of_all(watches: Sequence[Mapping[str, Any]]) -> KeyWatch:
    events, without = (sum(one[name] for one in watches) for name in ("events", "without_key"))
    return KeyWatch(watches[0]["setting"], watches[0]["paths"], events, without)
