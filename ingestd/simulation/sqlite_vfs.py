"""SQLite's own way to the disk, with a listener in between: in this process, for the ``sqlite3`` module.

A table of C functions stands between SQLite and a file. Of the usual one a copy is made in which writing,
truncating and syncing are ours. The first two call the usual ones with the same file, so all that reads,
locks and shares memory runs as it always does. Nothing is synced: it need not last.
See https://sqlite.org/vfs.html.
"""

import _sqlite3
import ctypes as c
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

IOERR_WRITE, FULL = 778, 13
_OPEN_CREATE, _OPEN_JOURNAL, _OPEN_WAL = 0x4, 0x800, 0x80000
_VOID = c.c_void_p


class Operation(NamedTuple):
    """On a file, by its name in its directory. ``kind``: write, truncate (to ``offset``), sync, delete;
    sync_names: of the directory, which makes deletions last."""

    name: str
    kind: str
    offset: int = 0
    data: bytes = b""


class DiskListener(Protocol):
    def before(self, operation: Operation, /) -> int:
        """0: it is done; else the error code for SQLite. Not for writes."""
        ...

    def before_write(self, name: str, offset: int, data: bytes, /) -> int:
        """The same for a write, of which there are most."""
        ...


class _Methods(c.Structure):
    _fields_ = (
        ("version", c.c_int),
        *((name, _VOID) for name in ("close", "read", "write", "truncate", "sync", "size", "lock", "unlock")),
        *((name, _VOID) for name in ("check", "control", "sector", "device", "shm_map", "shm_lock")),
        *((name, _VOID) for name in ("shm_barrier", "shm_unmap", "fetch", "unfetch")),
    )


class _Vfs(c.Structure):
    _fields_ = (
        *(("version", c.c_int), ("file_bytes", c.c_int), ("path_chars", c.c_int)),
        *(("next", _VOID), ("name", c.c_char_p), ("data", _VOID)),
        *((name, _VOID) for name in ("open", "delete", "access", "full_path", "dl_open", "dl_error")),
        *((name, _VOID) for name in ("dl_symbol", "dl_close", "randomness", "sleep", "time", "last_error")),
        *((name, _VOID) for name in ("time64", "set_call", "get_call", "next_call")),
    )


_OPEN = c.CFUNCTYPE(c.c_int, _VOID, _VOID, _VOID, c.c_int, _VOID)
_DELETE = c.CFUNCTYPE(c.c_int, _VOID, c.c_char_p, c.c_int)
_SLEEP = c.CFUNCTYPE(c.c_int, _VOID, c.c_int)
_WRITE = c.CFUNCTYPE(c.c_int, _VOID, _VOID, c.c_int, c.c_int64)
_TRUNCATE = c.CFUNCTYPE(c.c_int, _VOID, c.c_int64)
_SYNC = c.CFUNCTYPE(c.c_int, _VOID, c.c_int)

_copy = c.PYFUNCTYPE(c.py_object, _VOID, c.c_ssize_t)(("PyBytes_FromStringAndSize", c.pythonapi))


class SqliteDisk:
    """Made once; lives as long as the process, since files may be open. ``listener`` is called for files in
    directories that it is given for; the rest goes past it."""

    def __init__(self) -> None:
        self.listeners: dict[str, DiskListener] = {}  # by directory
        self._library = c.CDLL(getattr(_sqlite3, "__file__", None))
        find = self._library.sqlite3_vfs_find
        find.restype, find.argtypes = c.POINTER(_Vfs), [c.c_char_p]
        self._usual = find(None)
        self._tables: dict[int, int] = {}  # by the address of the usual one that of ours
        self._open_files: dict[int, tuple[str, str, bool]] = {}  # directory, name, whether that is new
        usual = self._usual.contents
        self._usual_open, self._usual_delete = _OPEN(usual.open), _DELETE(usual.delete)
        self._own = _Vfs()
        c.memmove(c.byref(self._own), self._usual, c.sizeof(_Vfs))
        self._own.next, self._own.name = None, b"ingestd-simulation"
        self._kept: list[Any] = [_OPEN(self._open), _DELETE(self._delete), _SLEEP(lambda vfs, micros: micros)]
        self._own.open, self._own.delete, self._own.sleep = (c.cast(one, _VOID).value for one in self._kept)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """For connections that are opened in this block. Nobody waits in it for another's lock."""
        register = self._library.sqlite3_vfs_register
        register.argtypes = [_VOID, c.c_int]
        register(c.addressof(self._own), 1)
        try:
            yield
        finally:
            register(c.cast(self._usual, _VOID), 1)

    def _ask(self, directory: str, operation: Operation) -> int:
        listener = self.listeners.get(directory)
        return listener.before(operation) if listener else 0

    def _open(self, vfs: int, name: bytes | None, file: int, flags: int, out: int) -> int:
        code: int = self._usual_open(c.addressof(self._usual.contents), name, file, flags, out)
        path = (c.string_at(name) if name else b"").decode()
        directory, _, file_name = path.rpartition("/")
        if code == 0 and directory in self.listeners:
            methods = _VOID.from_address(file)  # a file begins with the address of its table
            methods.value = self._tables.get(methods.value or 0) or self._make_table(methods.value or 0)
            new_name = bool(flags & (_OPEN_JOURNAL | _OPEN_WAL) and flags & _OPEN_CREATE)
            self._open_files[file] = (directory, file_name, new_name)
        return code

    def _delete(self, vfs: int, name: bytes, sync: int) -> int:
        directory, _, file_name = name.decode().rpartition("/")
        code = self._ask(directory, Operation(file_name, "delete"))
        if code == 0 and sync:
            code = self._ask(directory, Operation(file_name, "sync_names"))
        return code or self._usual_delete(c.addressof(self._usual.contents), name, sync)

    def _make_table(self, address: int) -> int:
        usual, own = _Methods.from_address(address), _Methods()
        c.memmove(c.byref(own), c.byref(usual), c.sizeof(_Methods))
        usual_write, usual_truncate = _WRITE(usual.write), _TRUNCATE(usual.truncate)
        files = self._open_files
        ask, listeners = self._ask, self.listeners

        def write(file: int, data: int, size: int, offset: int) -> int:
            directory, name, _ = files[file]
            listener = listeners.get(directory)
            code = listener.before_write(name, offset, _copy(data, size)) if listener else 0
            return code or usual_write(file, data, size, offset)

        def truncate(file: int, size: int) -> int:
            directory, name, _ = files[file]
            return ask(directory, Operation(name, "truncate", size)) or usual_truncate(file, size)

        def sync(file: int, flags: int) -> int:
            directory, name, new_name = files[file]
            code = ask(directory, Operation(name, "sync"))
            if code == 0 and new_name:  # the directory too: SQLite's os_unix.c, unixSync
                files[file] = (directory, name, False)
                code = ask(directory, Operation(name, "sync_names"))
            return code  # nothing that is real has to last

        kept = [_WRITE(write), _TRUNCATE(truncate), _SYNC(sync)]
        own.write, own.truncate, own.sync = (c.cast(one, _VOID).value for one in kept)
        self._kept += own, kept
        self._tables[address] = self._tables[c.addressof(own)] = c.addressof(own)
        return c.addressof(own)
