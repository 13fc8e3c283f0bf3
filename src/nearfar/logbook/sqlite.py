"""The logbook in one file, by SQLite.

Readers see the logbook as it was when they began, and never wait: the file is in WAL mode
(https://www.sqlite.org/wal.html). One who writes waits for the other. What was written is on the disk when
``Database.writing`` ends (``synchronous=FULL``), so not even a power cut takes it back.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from nearfar.files.atomic import refuse_unwritable
from nearfar.logbook.schema import MARK, LogbookError, metadata

logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds to wait for another process that writes
READERS = 16  # connections; more readers wait for one of them
WAL_BYTES = 64 * 2**20  # to which the file beside the logbook is cut once it was longer
PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {1000 * PATIENCE:.0f}",
    f"PRAGMA journal_size_limit = {WAL_BYTES}",
)
REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
OF_ITS_TABLES = (  # errors of a statement that say that the file has not the tables of a logbook
    "no such column", "no such table", "no such index", "malformed database schema", "unsupported file format",
)  # fmt: skip
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
MOUNTS = Path("/proc/self/mountinfo")  # of Linux; proc_pid_mountinfo(5)
ON_A_NETWORK = (
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
)


class SQLiteFile:
    """A file of SQLite, as the place of a logbook.

    Parameters
    ----------
    path : Path
    make : bool
        Whether a file that is not there is made.

    Raises
    ------
    FileNotFoundError
        If it is not there, and is not to be made.
    IsADirectoryError, NotADirectoryError, PermissionError
        If it cannot be a file there, or it cannot be written to.
    LogbookError
        If it is no file of SQLite, or one of another program.
    """

    def __init__(self, path: Path, *, make: bool) -> None:
        self.path = path.absolute()
        self._lock = threading.Lock()
        self._watcher: sqlite3.Connection | None = None
        self._refuse_unfit(make)
        on = network_file_system(self.path.parent)
        if on is not None:
            logger.warning(
                "%s: lies on a network file system (%s), on which SQLite can lose or damage what is written; keep "
                "it on a disk of this computer, or use PostgreSQL", path, on,
            )  # fmt: skip
        self._prepare()
        self._file = _identity(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def writer(self) -> sql.Engine:
        """Of one connection. A transaction begins by taking the turn to write."""
        engine = sql.create_engine(
            "sqlite://", creator=self._connect, poolclass=sql.QueuePool, pool_size=1, max_overflow=0,
            pool_timeout=PATIENCE,
        )  # fmt: skip
        sql.event.listen(engine, "begin", _begin_immediate)
        return engine

    def reader(self) -> sql.Engine:
        """Of several connections, which cannot write."""
        engine = sql.create_engine(
            "sqlite://", creator=self._connect_to_read, poolclass=sql.QueuePool, pool_size=READERS, max_overflow=0,
            pool_timeout=PATIENCE,
        )  # fmt: skip
        sql.event.listen(engine, "begin", _begin)
        return engine

    def migrator(self) -> sql.Engine:
        """As ``writer``, for a change of tables: what refers to what is checked at its end, not meanwhile.

        See https://www.sqlite.org/lang_altertable.html#otheralter.
        """
        engine = sql.create_engine("sqlite://", creator=self._connect_to_migrate, poolclass=sql.NullPool)
        sql.event.listen(engine, "begin", _begin_immediate)
        return engine

    def take_turn(self, c: sql.Connection) -> None:  # noqa: ARG002
        """BEGIN IMMEDIATE has done so; but what is written to a file that was removed would be lost."""
        if _identity(self.path) != self._file:
            raise FileNotFoundError(
                f"{self}: was moved, removed or replaced while it was in use, so nothing more is written to it; "
                "start again"
            )

    def take_snapshot(self, c: sql.Connection) -> None:
        """A transaction sees one moment, as it is."""

    def refuse_unfit(self, c: sql.Connection) -> None:
        """It was refused before it was opened."""

    def check(self, c: sql.Connection) -> None:
        """At the end of a change of tables: raise ``LogbookError`` if a row refers to one that is not there."""
        broken = c.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise LogbookError(
                f"{self}: {len(broken)} rows would refer to what is not there, such as {broken[0]}"
            )

    def moment(self) -> str:
        """Another text whenever something was committed, by whichever process."""
        try:
            with self._lock:
                if self._watcher is None:
                    self._watcher = self._connect_to_read()
                (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._told(error) or error from error
        return str(version)

    def told(self, error: DBAPIError | UnicodeDecodeError) -> Exception | None:
        """An error of the file, as one that says what to do; ``None`` for one of a statement."""
        if isinstance(error, UnicodeDecodeError):
            return self._told(error)
        return self._told(error.orig) if isinstance(error.orig, sqlite3.Error) else None

    def close(self) -> None:
        """Of ``moment``."""
        with self._lock:
            if self._watcher is not None:
                self._watcher.close()
            self._watcher = None

    def _told(self, error: sqlite3.Error | UnicodeDecodeError) -> Exception | None:
        if isinstance(error, UnicodeDecodeError):  # in a message of SQLite, which cites what is there
            error = sqlite3.DatabaseError(str(error))
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary one
        if code == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if code in BUSY:
            return TimeoutError(
                f"{self}: another process has been writing for more than {PATIENCE:g} s; wait for its end, or "
                "end it"
            )
        if code in REFUSED:
            return PermissionError(
                f"{self}: {error}; make the file and its folder writable, or choose another place"
            )
        if code == sqlite3.SQLITE_IOERR:
            return OSError(errno.EIO, f"{error}; see what is wrong with the disk", str(self.path))
        if code == sqlite3.SQLITE_NOTADB:
            return LogbookError(f"{self}: is no logbook, but a file of another kind; choose another name")
        if code == sqlite3.SQLITE_CORRUPT or self._lacks_tables(error):
            return LogbookError(
                f"{self}: damaged ({error}); move it away, and put the last backup in its place (docs/logbook.md)"
            )
        return None

    def _lacks_tables(self, error: sqlite3.Error) -> bool:
        """Whether an error says that the file has not the tables of a logbook; else a statement is wrong."""
        if not str(error).startswith(OF_ITS_TABLES):
            return False
        try:
            with closing(self._connected("ro")) as c:
                for table in metadata.tables.values():
                    there = {row[1] for row in c.execute(f"PRAGMA table_info({table.name})")}
                    if not there >= {column.name for column in table.columns}:
                        return True
        except sqlite3.Error:
            return True
        return False

    def _refuse_unfit(self, make: bool) -> None:
        if self.path.is_dir():
            raise IsADirectoryError(f"{self} is a folder; the logbook is a file: choose another name")
        if self.path.exists():
            if not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK | os.X_OK)):
                raise PermissionError(
                    f"{self}: make the file and its folder writable, or choose another place"
                )
        elif make:
            refuse_unwritable(self.path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
        else:
            raise FileNotFoundError(f"{self}: there is no logbook; `nearfar watch` makes it")

    def _prepare(self) -> None:
        """The file in WAL mode, if it is a logbook or empty; nothing is changed in one of another program."""
        try:
            with closing(self._connected("rwc")) as c:
                names = [name for (name,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                if names and MARK not in names:
                    raise LogbookError(
                        f"{self}: is no logbook, but a database of another program, with the tables "
                        f"{', '.join(sorted(names)[:5])}; choose another name"
                    )
                (mode,) = c.execute("PRAGMA journal_mode = WAL").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._told(error) or error from error
        if mode != "wal":
            raise LogbookError(
                f"{self}: SQLite cannot use its write-ahead log there; keep it on a disk of this computer"
            )

    def _connected(self, mode: str) -> sqlite3.Connection:
        """Without Python's own idea of when a transaction begins."""
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False,
            timeout=PATIENCE,
        )  # fmt: skip

    def _connect(self) -> sqlite3.Connection:
        c = self._connected("rw")  # a file that somebody has removed is not made again, empty
        for pragma in PRAGMAS:
            c.execute(pragma)
        return c

    def _connect_to_read(self) -> sqlite3.Connection:
        c = self._connect()
        c.execute("PRAGMA query_only = ON")
        return c

    def _connect_to_migrate(self) -> sqlite3.Connection:
        c = self._connect()
        c.execute("PRAGMA foreign_keys = OFF")
        return c


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever its name; ``None`` if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def network_file_system(folder: Path) -> str | None:
    """The kind of the network file system on which a folder lies, such as "nfs4"; ``None`` if none is known."""
    try:
        device, mounts = folder.stat().st_dev, MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return network_kind(f"{os.major(device)}:{os.minor(device)}", mounts)


def network_kind(device: str, mounts: Iterable[str]) -> str | None:
    """The same, of a device such as "0:46", from the lines of ``MOUNTS``."""
    for line in mounts:
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [device]:
            kind = after.partition(" ")[0]
            return kind if kind in ON_A_NETWORK else None
    return None


def _begin(c: sql.Connection) -> None:
    c.exec_driver_sql("BEGIN")


def _begin_immediate(c: sql.Connection) -> None:
    c.exec_driver_sql("BEGIN IMMEDIATE")
