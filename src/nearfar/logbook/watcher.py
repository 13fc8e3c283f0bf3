"""Whether a program watches with a logbook: one at most, and whoever shows the logbook sees whether there is one.

A watcher holds a lock as long as its process lives. So nobody is told that a machine is normal because the program
that listened to it was killed and could not say so any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sql

from nearfar.files.locks import LockedError, is_locked, locked
from nearfar.logbook.sqlite import SQLiteFile

if TYPE_CHECKING:
    from nearfar.logbook.database import Database

WATCHER = 0x6E66776174636800  # of PostgreSQL's advisory lock: "nfwatch" and 0
PATIENCE_S = 1.0  # whoever only looks whether there is a watcher has the lock of a file for a moment
HELD = sql.text(  # a key of 64 bits is shown as two of 32 (PostgreSQL's documentation of pg_locks)
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = CAST(:high AS bigint) AND objid = CAST(:low AS bigint)"
)


class WatchedError(RuntimeError):
    """Another process watches with this logbook."""


@contextmanager
def alone(database: Database) -> Iterator[None]:
    """No other process watches with this logbook as long as the body runs.

    Raises
    ------
    WatchedError
        If one does.
    """
    busy = f"{database}: another process watches with this logbook; end it, or give another one"
    place = database.place
    if isinstance(place, SQLiteFile):
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(_lock_of(place), patience_s=PATIENCE_S))
            except LockedError as error:
                raise WatchedError(busy) from error
            yield
        return
    engine = place.migrator()  # of a connection of its own, which holds the lock until it ends
    try:
        with engine.connect() as c:
            if not c.execute(sql.select(sql.func.pg_try_advisory_lock(WATCHER))).scalar_one():
                raise WatchedError(busy)
            c.commit()
            yield
    finally:
        engine.dispose()


def is_watched(database: Database) -> bool:
    """Whether a process watches with this logbook now, this one or another."""
    place = database.place
    if isinstance(place, SQLiteFile):
        return is_locked(_lock_of(place))
    with database.reading() as c:
        return bool(c.execute(HELD, {"high": WATCHER >> 32, "low": WATCHER & 0xFFFFFFFF}).scalar_one())


def _lock_of(place: SQLiteFile) -> Path:
    return place.path.with_name(f"{place.path.name}-watch.lock")
