"""Which files are held open: no more than the settings allow."""

from collections.abc import Callable, Collection
from typing import Any

from ingestd.sources.files.streams import in_thread
from ingestd.sources.live.live_file import LiveFile, Whereabouts


async def hold_open(files: Collection[LiveFile], *, most: int, order: Callable[[LiveFile], Any]) -> None:
    """What is not read to its end is held, so that it may be deleted; what is idle only while there is room.
    ``order``: in which they are read."""
    held = [file for file in files if file.descriptor is not None]
    room = most - len(held)
    idle = sorted(
        (file for file in held if file.whereabouts is Whereabouts.PRESENT and file.is_at_end),
        key=lambda file: file.changed_at,
    )
    wanting = [file for file in files if file.descriptor is None and (file.unread or not file.number)]
    wanting.sort(key=order)
    for file in idle[: max(0, min(len(wanting), most) - room)]:
        file.close()
        room += 1
    for file in wanting[: max(0, room)]:
        await in_thread(file.open)
    if room < 0:
        for file in [file for file in held if file.reading is None][room:]:
            file.close()
