"""Whether a program watches with a logbook: one at most, and whoever shows the logbook sees whether there is one.

A watcher holds a lock as long as its process lives. So nobody is told that a machine is normal because the program
that listened to it was killed and could not say so any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from nearfar.files.locks import LockedError, is_locked, locked
from nearfar.logbook.sqlite import SQLiteFile

if TYPE_CHECKING:
    from nearfar.logbook.database import Database

logger = logging.getLogger(__name__)

WATCHER = 0x6E66776174636800  # of PostgreSQL's advisory lock: "nfwatch" and 0
BUSY = "another process watches with this logbook; end it, or give another one"
PATIENCE_S = 1.0  # whoever only looks whether there is a watcher has the lock of a file for a moment
HELD = sql.text(  # a key of 64 bits is shown as two of 32 (PostgreSQL's documentation of pg_locks)
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = CAST(:high AS bigint) AND objid = CAST(:low AS bigint)"
)


class WatchedError(RuntimeError):
    """Another process watches with this logbook."""


@contextmanager
def alone(database: Database) -> Iterator[Callable[[], None]]:
    """No other process watches with this logbook as long as the body runs.

    Yields
    ------
    callable
        To be called now and then: it takes the lock of a server again, if its connection was lost. It raises
        ``WatchedError`` if another one has taken it meanwhile, and ``ConnectionError`` if the server does not
        answer.

    Raises
    ------
    WatchedError
        If one does.
    """
    place = database.place
    if isinstance(place, SQLiteFile):
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(_lock_of(place), patience_s=PATIENCE_S))
            except LockedError as error:
                raise WatchedError(f"{database}: {BUSY}") from error
            yield lambda: None
        return
    lock = _ServersLock(database)
    try:
        lock.take()
        yield lock.require
    finally:
        lock.close()


class _ServersLock:
    """That of a server, for who watches. It is held by a connection of its own, and lost with it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = database.place.migrator()
        self._connection: sql.Connection | None = None

    def take(self) -> None:
        """Take it, or raise ``WatchedError`` if another one has it."""
        try:
            self._connection = self._engine.connect()
            took = self._connection.execute(sql.select(sql.func.pg_try_advisory_lock(WATCHER))).scalar_one()
            self._connection.commit()
        except DBAPIError as error:
            self._drop()
            raise self._database.place.told(error) or error from error
        if not took:
            self._drop()
            raise WatchedError(f"{self._database}: {BUSY}")

    def require(self) -> None:
        """Take it again, if the connection is lost.

        Raises
        ------
        WatchedError
            If another one has taken it meanwhile.
        ConnectionError
            If the server does not answer.
        """
        if self._connection is not None:
            try:
                self._connection.exec_driver_sql("SELECT 1")
                self._connection.commit()
                return
            except DBAPIError as error:
                logger.warning(
                    "%s: the lock of who watches is lost, and taken again: %s", self._database, error.orig
                )
                self._drop()
        self.take()

    def close(self) -> None:
        """Give it back."""
        self._drop()
        self._engine.dispose()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # not back to the pool: it would go on to hold the lock
            self._connection.close()
        self._connection = None


def is_watched(database: Database) -> bool:
    """Whether a process watches with this logbook now, this one or another."""
    place = database.place
    if isinstance(place, SQLiteFile):
        return is_locked(_lock_of(place))
    with database.reading() as c:
        return bool(c.execute(HELD, {"high": WATCHER >> 32, "low": WATCHER & 0xFFFFFFFF}).scalar_one())


def _lock_of(place: SQLiteFile) -> Path:
    return place.path.with_name(f"{place.path.name}-watch.lock")
