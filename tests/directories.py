"""Where ``tmp_path`` is: in memory, a plugin of pytest.

A store syncs before it answers. On a disk the tests would wait for that half of their time, and learn
nothing: no power is cut but in the simulation, which owns its disk. What a test leaves is removed once it
has passed. ``PYTEST_DEBUG_TEMPROOT=/var/tmp make test`` runs them on that disk; so does a machine without
room in memory.
"""

import os
from pathlib import Path

import pytest

VARIABLE = "PYTEST_DEBUG_TEMPROOT"  # pytest's own; the runs that a test starts share it
MEMORY = Path("/dev/shm")  # pytest makes a directory of its own there
ROOM_BYTES = 2 * 1024**3  # a run takes up to 150 MB


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.basetemp is None and VARIABLE not in os.environ and _has_room(MEMORY):
        os.environ[VARIABLE] = str(MEMORY)


def _has_room(place: Path) -> bool:
    """Containers often have 64 MB there, where nothing may be executed; tests do both."""
    if not place.is_dir() or not os.access(place, os.W_OK):
        return False
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize > ROOM_BYTES and not disk.f_flag & os.ST_NOEXEC
