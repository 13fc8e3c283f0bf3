"""The logbook as a database: opened, brought up to date, written by one at a time, read by many.

``writing`` and ``reading`` give connections of SQLAlchemy Core, each in one transaction. What is written is there
for good when ``writing`` ends: all of it or, if the body raises or the process is killed, none of it. ``reading``
sees the logbook as it is at one moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Protocol, Self

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from nearfar import __version__
from nearfar.logbook import schema
from nearfar.logbook.postgresql import PostgreSQL
from nearfar.logbook.schema import LogbookError, logbook
from nearfar.logbook.sqlite import SQLiteFile


class Place(Protocol):
    """Where a logbook is: what SQLite and PostgreSQL do differently."""

    def writer(self) -> sql.Engine:
        """With one connection."""

    def reader(self) -> sql.Engine:
        """With several connections."""

    def migrator(self) -> sql.Engine:
        """As ``writer``, for a change of tables."""

    def take_turn(self, c: sql.Connection) -> None:
        """Wait, at the start of a transaction, until nobody else writes."""

    def take_snapshot(self, c: sql.Connection) -> None:
        """All that is read in the transaction is of one moment."""

    def refuse_unfit(self, c: sql.Connection) -> None:
        """Raise ``LogbookError`` if what is there belongs to another program, or is too old."""

    def check(self, c: sql.Connection) -> None:
        """Raise ``LogbookError`` if, after a change of tables, a row refers to one that is not there."""

    def moment(self) -> str:
        """Another text whenever something was committed."""

    def told(self, error: DBAPIError | UnicodeDecodeError) -> Exception | None:
        """An error of the place as one that says what to do; ``None`` for an error of a statement."""

    def close(self) -> None:
        """What it holds open itself."""


class Database:
    """A logbook that is open, for any number of threads; ``open`` makes it.

    Parameters
    ----------
    place : Place
    make : bool
        Whether tables that are not there are made.
    """

    def __init__(self, place: Place, *, make: bool) -> None:
        self.place = place
        self._thread = threading.local()
        self._writer, self._reader = place.writer(), place.reader()
        try:
            self._bring_up(make)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, where: Path | str, *, make: bool = True) -> Self:
        """Open a logbook; make it if it is not there, and bring it up to date if it is older.

        Parameters
        ----------
        where : Path or str
            A file of SQLite, or a URL of SQLAlchemy, such as ``postgresql://nearfar@localhost/hall3``.
        make : bool
            Whether one that is not there is made.

        Raises
        ------
        LogbookError
            If what is there is no logbook, is damaged, or is of a newer version of ``nearfar``; if the URL is none.
        FileNotFoundError
            If it is not there, and is not to be made.
        OSError
            If it cannot be read and written: ``PermissionError``, ``IsADirectoryError``, ``NotADirectoryError``;
            ``ConnectionError`` if the server does not answer.
        MissingPackageError
            If the driver of PostgreSQL is not installed.
        """
        return cls(_place_of(where, make=make), make=make)

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """A transaction in which nobody else writes, in any process; it ends on the disk, or has never been.

        Raises
        ------
        OSError
            If the disk is full, or the place cannot be reached: nothing was written, and it can be tried again.
            ``TimeoutError`` if another process has been writing for a minute.
        RuntimeError
            If this thread is writing already: it would wait for itself.
        """
        if getattr(self._thread, "writes", False):
            raise RuntimeError("this thread is writing to the logbook already; end that transaction first")
        self._thread.writes = True
        try:
            with self._errors_told(), self._writer.begin() as c:
                self.place.take_turn(c)
                yield c
        finally:
            self._thread.writes = False

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """A transaction that sees one moment, and cannot write. Keep it short.

        Raises
        ------
        OSError
            If the place cannot be reached.
        """
        with self._errors_told(), self._reader.begin() as c:
            self.place.take_snapshot(c)
            yield c

    def changed(self) -> str:
        """A text that is another one whenever something was written, by any process; it takes microseconds.

        It may be another one though nothing was written. Two texts can be compared only if they are of the same
        ``Database``.
        """
        with self._errors_told():
            return self.place.moment()

    def close(self) -> None:
        """Give all connections back. Nothing may use the logbook meanwhile, or later."""
        self._writer.dispose()
        self._reader.dispose()
        self.place.close()

    def __str__(self) -> str:
        return str(self.place)

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, UnicodeDecodeError) as error:
            told = self.place.told(error)
            if told is None:
                raise
            raise told from error
        except JSONDecodeError as error:  # of a column that holds JSON
            raise LogbookError(f"{self}: damaged ({error}); put the last backup in its place") from error
        except NoConnectionError as error:
            raise TimeoutError(f"{self}: all connections have been in use for a minute") from error

    def _bring_up(self, make: bool) -> None:
        with self.reading() as c:
            self.place.refuse_unfit(c)
            version = self._version(c)
        if version is None and not make:
            raise FileNotFoundError(f"{self}: there is no logbook yet; `nearfar watch` makes it")
        if version == schema.VERSION:
            return
        engine = self.place.migrator()
        try:
            with self._errors_told(), engine.begin() as c:
                self.place.take_turn(c)
                self._migrate(c)
        finally:
            engine.dispose()

    def _migrate(self, c: sql.Connection) -> None:
        """Make the tables, or bring them up to date; another process may have done so meanwhile."""
        version = self._version(c)
        if version is None:
            schema.metadata.create_all(c, checkfirst=False)
            c.execute(
                logbook.insert().values(version=schema.VERSION, made_at=time.time(), nearfar=__version__)
            )
            return
        for step in schema.MIGRATIONS[version - 1 :]:
            step(c)
        c.execute(logbook.update().values(version=schema.VERSION))
        self.place.check(c)

    def _version(self, c: sql.Connection) -> int | None:
        """Of the tables that are there; ``None`` if there are none."""
        if not sql.inspect(c).has_table(schema.MARK):
            return None
        columns = {column["name"] for column in sql.inspect(c).get_columns(schema.MARK)}
        if not columns >= {"version", "nearfar"}:
            raise LogbookError(
                f"{self}: is no logbook, but a database of another program; choose another one"
            )
        row = c.execute(sql.select(logbook.c.version, logbook.c.nearfar)).one_or_none()
        if row is None or not isinstance(row.version, int):
            raise LogbookError(f"{self}: does not say its version, so it is no logbook, or damaged")
        if row.version > schema.VERSION:
            raise LogbookError(
                f"{self}: its tables have version {row.version}; this nearfar, {__version__}, knows versions up to "
                f"{schema.VERSION}: update it"
            )
        return int(row.version)


def _place_of(where: Path | str, *, make: bool) -> Place:
    if isinstance(where, Path) or "://" not in where:
        return SQLiteFile(Path(where), make=make)
    try:
        url = sql.make_url(where)
    except (ArgumentError, ValueError):
        raise LogbookError(
            f"{where.partition('://')[0]}://...: no URL of a database, such as postgresql://user@host/name"
        ) from None  # the text may hold a password
    kind = url.get_backend_name()
    if kind == "postgresql":
        return PostgreSQL(url)
    if kind == "sqlite" and url.database not in (None, "", ":memory:") and not url.query:
        return SQLiteFile(Path(str(url.database)), make=make)
    raise LogbookError(
        f"{url}: a logbook is a file of SQLite, given as its path, or a database of PostgreSQL"
    )
