"""The logbook in a database of PostgreSQL.

Those who write take turns by an advisory lock of the transaction, which holds for the database
(https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS). It is given back after what was
written can be seen, so numbers of rows can be seen in their order. Without it, a transaction could take the
number 7 and end after the one that has the number 8.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from nearfar.files.extras import resolve
from nearfar.logbook.schema import MARK, LogbookError, metadata

PATIENCE = 60.0  # seconds to wait for another process that writes
READERS = 16  # connections; more readers wait for one of them
SILENCE = 2 * PATIENCE  # seconds without an answer of the server
TURN = 0x6E656172666172  # the number of the lock: "nearfar"
DRIVER = "postgresql+pg8000"
OLDEST = (13,)  # of the server: pg_current_snapshot
# https://www.postgresql.org/docs/current/errcodes-appendix.html
DISK_FULL, NO_LOCK, NO_DATABASE, NO_PRIVILEGE = "53100", "55P03", "3D000", "42501"
AUTHORIZATION = "28"  # the class of these errors
UNREACHABLE = (
    "08",
    "57P",
    "53",
)  # classes: of connections, of a server that ends, of one that has no more room


class PostgreSQL:
    """A database of PostgreSQL, as the place of a logbook.

    Parameters
    ----------
    url : sqlalchemy.URL
        Such as ``postgresql://nearfar@db.example.org/hall3``.

    Raises
    ------
    MissingPackageError
        If the driver is not installed.
    """

    def __init__(self, url: sql.URL) -> None:
        self.url = url if "+" in url.drivername else url.set(drivername=DRIVER)
        if self.url.drivername == DRIVER:
            resolve("pg8000:connect", needed_by="a logbook in PostgreSQL")
        self._reader: sql.Engine | None = None

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def writer(self) -> sql.Engine:
        """Of one connection."""
        return self._engine(1)

    def reader(self) -> sql.Engine:
        """Of several connections."""
        self._reader = self._engine(READERS)
        return self._reader

    def migrator(self) -> sql.Engine:
        """As ``writer``."""
        return self._engine(1)

    def take_turn(self, c: sql.Connection) -> None:
        """Wait until nobody else writes."""
        c.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN})")

    def take_snapshot(self, c: sql.Connection) -> None:
        """All that is read in this transaction is of one moment, and it cannot write."""
        c.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def check(self, c: sql.Connection) -> None:
        """PostgreSQL checks what refers to what at once."""

    def refuse_unfit(self, c: sql.Connection) -> None:
        """Raise if the server is too old, or another program has tables of our names."""
        version = c.dialect.server_version_info or OLDEST
        if version < OLDEST:
            raise LogbookError(f"{self}: the server is version {version[0]}; it must be {OLDEST[0]} or newer")
        names = {*sql.inspect(c).get_table_names()}
        if MARK not in names and (taken := sorted(names & {*metadata.tables})):
            raise LogbookError(
                f"{self}: is no logbook, and another program has the tables {', '.join(taken)}; choose another "
                "database"
            )

    def moment(self) -> str:
        """Another text whenever something was committed, by whoever uses the server."""
        if self._reader is None:
            self._reader = self.reader()
        with self._reader.connect() as c:
            return str(c.exec_driver_sql("SELECT CAST(pg_current_snapshot() AS text)").scalar_one())

    def told(self, error: DBAPIError | UnicodeDecodeError) -> Exception | None:
        """An error of the server, as one that says what to do; ``None`` for one of a statement."""
        if isinstance(error, UnicodeDecodeError):
            return None
        state, words = _state_of(error.orig), _words_of(error.orig)
        if state == DISK_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        if state == NO_LOCK:
            return TimeoutError(
                f"{self}: another process has been writing for more than {PATIENCE:g} s; wait for its end, or "
                "end it"
            )
        if state == NO_DATABASE:
            return LogbookError(f"{self}: {words}; make it with createdb, or choose another one")
        if state == NO_PRIVILEGE or state.startswith(AUTHORIZATION):
            return PermissionError(
                f"{self}: {words}; see the user and the password in the URL, and what they may do"
            )
        if error.connection_invalidated or state.startswith(UNREACHABLE) or not state:
            return ConnectionError(f"{self}: {words}; see whether the server runs and can be reached")
        return None

    def close(self) -> None:
        """Nothing of its own."""

    def _engine(self, connections: int) -> sql.Engine:
        options: dict[str, Any] = {"timeout": SILENCE} if self.url.drivername == DRIVER else {}
        if "unix_sock" in self.url.query:
            options["ssl_context"] = (
                False  # a socket of this computer; pg8000 would load all certificates each time
            )
        engine = sql.create_engine(
            self.url, pool_size=connections, max_overflow=0, pool_timeout=PATIENCE, pool_pre_ping=True,
            connect_args=options,
        )  # fmt: skip
        engine.dialect.use_insertmanyvalues_wo_returning = True  # many rows in one statement, not one by one
        sql.event.listen(engine, "connect", _settle)
        return engine


def _settle(connection: Any, _record: object) -> None:
    """A new connection waits for its turn as long as one of SQLite, and what it commits is on the disk."""
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {1000 * PATIENCE:.0f}")
    cursor.execute("SET synchronous_commit = on")
    cursor.execute("SET client_encoding = 'UTF8'")
    cursor.close()
    connection.commit()


def _state_of(error: BaseException | None) -> str:
    """The five characters that say what is wrong (SQLSTATE); "" if the server has not said so."""
    said = _said(error)
    return str(said.get("C", "")) if said else str(getattr(error, "sqlstate", None) or "")


def _words_of(error: BaseException | None) -> str:
    said = _said(error)
    return str(said.get("M", said) if said else error).strip()


def _said(error: BaseException | None) -> dict[str, Any] | None:
    """What the server has said, as pg8000 keeps it; ``None`` of others.

    pg8000 takes leave of a server that refuses it. If that has hung up already, it raises "network error" instead,
    and the refusal is only what came before.
    """
    while error is not None:
        if error.args and isinstance(error.args[0], dict):
            return error.args[0]
        error = error.__cause__ or error.__context__
    return None
