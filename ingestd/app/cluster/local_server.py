"""The nats-server that ``ingestd run`` starts for itself (spool.workers): its program, files and login.

It listens on loopback only, wants a token, and has all below ``nats/`` in the state directory. What it
acknowledged is on disk (``sync_interval: always``).
"""

import fcntl
import json
import os
import secrets
import select
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ingestd.config import Settings, find_state_directory
from ingestd.config.secret_settings import hide_secrets
from ingestd.core.errors import UserError
from ingestd.core.setting_types import SecretStr

PROGRAM = "nats-server"
_HOST = "127.0.0.1"
_TRIES, _TRY_S = 20, 0.1
_LOG_BYTES = 10 * 1024**2
_LOWEST_PORT, _PORTS = 10_000, 20


def find_program() -> str | None:
    """Beside the interpreter, where the extra nats-server puts it, or on the PATH."""
    beside = Path(sys.executable).parent / PROGRAM
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)


def what_is_missing(settings: Settings) -> str | None:
    """What spool.workers would take here, or None."""
    if not sys.platform.startswith("linux"):
        return "spool.workers needs Linux, where processes end with the one that started them: leave it away"
    if find_program() is None:
        return (
            f"spool.workers = {settings.spool.workers} needs the program {PROGRAM}: pip install"
            " 'ingestd[nats-server]', or leave spool.kind and spool.workers away, for one process"
        )
    return None


def directory_of(settings: Settings) -> Path:
    """Raises UserError where no state directory is named."""
    return find_state_directory(settings).absolute() / "nats"


def on_this_machine(settings: Settings) -> Settings:
    """With server and login of the local server, if there is to be one. Raises UserError: it was never
    started."""
    if not settings.spool.workers:
        return settings
    file = directory_of(settings) / "login.json"
    try:
        login = json.loads(file.read_bytes())
        return with_server(settings, int(login["port"]), str(login["token"]))
    except FileNotFoundError:
        raise UserError(
            "spool.workers is set, and `ingestd run` has not been started here yet: it makes the spool"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def with_server(settings: Settings, port: int, token: str) -> Settings:
    """As an edge or a worker of the local server has them."""
    spool = settings.spool.model_copy(
        update={"servers": [f"nats://{_HOST}:{port}"], "token": SecretStr(token), "workers": 0}
    )
    hide_secrets(spool)
    return settings.model_copy(update={"spool": spool})


class FileOwner(NamedTuple):
    """Of files: numbers of a user and a group."""

    user: int
    group: int


class InUse(UserError):
    """Another process has the directory of the server."""


class LocalServer:
    """``directory``: its own, which one supervisor has at a time. Raises UserError, InUse."""

    def __init__(self, directory: Path, program: str, *, tries: int = _TRIES) -> None:
        self.directory = directory
        self.port = _free_port()
        self.token = secrets.token_urlsafe(32)
        self._program = program
        self._log_from = 0
        self._configuration = directory / "server.conf"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UserError(f"cannot use {directory}: {error.strerror}") from None
        if not any(self._take_lock() for _ in range(tries)):
            os.close(self._lock)
            raise InUse(f"{directory} is in use by another `ingestd run`: stop that first")
        os.set_inheritable(self._lock, True)  # as long as the server lives nobody else may write there

    def _take_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            select.select([], [], [], _TRY_S)  # children of one that was killed are about to end
            return False
        return True

    def last_owner(self) -> FileOwner:
        """Who started the last server here: what that wrote is theirs. Raises UserError."""
        try:
            found = (self.directory / "login.json").stat()
        except OSError as error:
            raise UserError(f"cannot read {self.directory}: {error.strerror}") from None
        return FileOwner(found.st_uid, found.st_gid)

    def write_files(self, owner: FileOwner | None = None) -> None:
        """Configuration and login, readable for this user or ``owner`` only. Raises UserError."""
        quoted = {name: json.dumps(str(self.directory / name)) for name in ("streams", "log")}
        lines = [
            f'listen: "{_HOST}:{self.port}"',
            f"authorization {{ token: {json.dumps(self.token)} }}",
            f'jetstream {{ store_dir: {quoted["streams"]}, sync_interval: "always" }}',
            f"log_file: {quoted['log']}",
            f"logfile_size_limit: {_LOG_BYTES}",
            "logfile_max_num: 2",
        ]
        log = self.directory / "log"
        self._log_from = log.stat().st_size if log.exists() else 0
        login = json.dumps({"port": self.port, "token": self.token})
        try:
            _write_privately(self._configuration, "\n".join([*lines, ""]), owner)
            _write_privately(self.directory / "login.json", login, owner)
        except OSError as error:
            raise UserError(f"cannot write into {self.directory}: {error.strerror}") from None

    def execute(self) -> int:
        """Become the server: does not come back. Raises OSError."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.execv(self._program, [self._program, "-c", str(self._configuration)])  # noqa: S606 - found above

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._lock)

    def answers(self) -> bool:
        try:
            with socket.create_connection((_HOST, self.port), 1.0) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def last_words(self) -> str:
        """Of its log, since ``write_files``."""
        try:
            with (self.directory / "log").open(errors="replace") as opened:
                opened.seek(self._log_from)
                lines = opened.read(_LOG_BYTES).splitlines()
        except OSError:
            return ""
        return lines[-1][-500:] if lines else ""


def _write_privately(file: Path, text: str, owner: FileOwner | None) -> None:
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        if owner:
            os.fchown(opened.fileno(), *owner)
        opened.write(text)
    new.replace(file)


def _free_port() -> int:
    """Below those that Linux gives to connections: one of them could take it in between."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 0
    count = lowest - _LOWEST_PORT
    for _ in range(_PORTS if count > 0 else 0):
        port = _LOWEST_PORT + secrets.randbelow(count)
        with suppress(OSError), socket.create_server((_HOST, port)):
            return port
    with socket.create_server((_HOST, 0)) as probe:
        return int(probe.getsockname()[1])
