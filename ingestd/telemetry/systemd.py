"""Tells systemd how the service is (``Type=notify`` or ``notify-reload``). Called by the service.

The protocol is sd_notify(3): lines ``NAME=value`` in one datagram to ``$NOTIFY_SOCKET``. Without that
variable nothing happens.
"""

import asyncio
import os
import re
import socket
import time
from collections.abc import Mapping

SEND_TIMEOUT_S = 0.2
"""How long systemd may be too busy to take a datagram; then the notice is lost."""
MAX_STATUS_CHARS = 500


class Systemd:
    """``watchdog_s``: longest time between two signs of life (``WatchdogSec=``), or None."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ) if self._address else None

    def ready(self) -> bool:
        """Started, or done with a reload. Each method returns whether a supervisor was notified."""
        return self._notify("READY=1")

    def reloading(self) -> bool:
        """Must be followed by ``ready``. The time is what ``notify-reload`` asks for."""
        return self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> bool:
        return self._notify("STOPPING=1")

    def status(self, text: str) -> bool:
        """What ``systemctl status`` shows: one line."""
        return self._notify(f"STATUS={' '.join(text.split())[:MAX_STATUS_CHARS]}")

    def alive(self) -> bool:
        """A sign of life, where one is wanted."""
        return self.watchdog_s is not None and self._notify("WATCHDOG=1")

    async def keep_alive(self) -> None:
        """Twice in every ``watchdog_s`` until cancelled, from the loop: a blocked loop says nothing."""
        if self.watchdog_s is None:
            return
        while True:
            self.alive()
            await asyncio.sleep(self.watchdog_s / 2)

    def _notify(self, text: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_TIMEOUT_S)
                sender.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:  # systemd has gone; the service goes on
            return False
        return True


def _address(given: str) -> str:
    """A path, or ``@name`` in the abstract namespace; the other kinds (vsock) are not for services."""
    if given.startswith("@") and len(given) > 1:
        return "\0" + given[1:]
    return given if given.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    meant = environ.get("WATCHDOG_PID", "")
    wanted = environ.get("WATCHDOG_USEC", "")
    if (meant and meant != str(os.getpid())) or not re.fullmatch(r"[0-9]{1,15}", wanted):
        return None
    return int(wanted) / 1e6 or None
