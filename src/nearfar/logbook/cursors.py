"""How far each sink is. The logbook is the queue: whoever was down goes on where it was.

A sink has a cursor for each stream that it takes (``streams``): the number of the last row that has arrived, was
refused, or was dropped. A row is told again until its cursor has passed it, so it arrives at least once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sql

from nearfar.logbook import streams
from nearfar.logbook.schema import cursors
from nearfar.logbook.streams import Row, Stream


@dataclass(frozen=True, slots=True)
class Pending:
    """What a sink has yet to be told.

    Attributes
    ----------
    rows : list of dict
        The next ones, in order, as of ``streams.after``.
    dropped : int
        How many before them are dropped, because too many wait. They count as told once ``delivered`` or
        ``refused`` says so, with the first of ``rows``.
    """

    rows: list[Row]
    dropped: int


def register(c: sql.Connection, sink: str, taken: Sequence[Stream]) -> None:
    """A sink takes these streams. One that is new begins at the end: it is not told what was before.

    Parameters
    ----------
    c : Connection
        One that writes.
    sink : str
        Its name in the site's file.
    taken : sequence of {"journal", "windows"}
    """
    c.execute(sql.delete(cursors).where(cursors.c.sink == sink, cursors.c.stream.not_in(taken)))
    known = {*c.execute(sql.select(cursors.c.stream).where(cursors.c.sink == sink)).scalars()}
    for stream in taken:
        if stream not in known:
            row = {
                "delivered": streams.newest(c, stream),
                "dropped": 0,
                "refused": 0,
                "attempts": 0,
                "error": "",
            }
            c.execute(sql.insert(cursors).values(sink=sink, stream=stream, **row))


def forget_others(c: sql.Connection, sinks: Sequence[str]) -> None:
    """Only these sinks are there. If another one comes back, it begins at the end."""
    c.execute(sql.delete(cursors).where(cursors.c.sink.not_in(sinks)))


def pending(c: sql.Connection, sink: str, stream: Stream, *, most: int, at_once: int) -> Pending:
    """The next rows for a sink. This only reads.

    Parameters
    ----------
    c : Connection
    sink : str
    stream : {"journal", "windows"}
    most : int
        How many rows may wait. Of more, the oldest are dropped.
    at_once : int
        How many rows to give.

    Returns
    -------
    pending : Pending
        What is dropped is counted by numbers of rows. In PostgreSQL, a transaction that fails uses up numbers.

    Raises
    ------
    LookupError
        If the sink is not registered for this stream.
    """
    query = sql.select(cursors.c.delivered).where(cursors.c.sink == sink, cursors.c.stream == stream)
    delivered = c.execute(query).scalar_one_or_none()
    if delivered is None:
        raise LookupError(f"sink {sink!r} does not take {stream}; register it first")
    begin = max(delivered, streams.newest(c, stream) - most)
    return Pending(streams.after(c, stream, begin, most=at_once), begin - delivered)


def delivered(c: sql.Connection, sink: str, stream: Stream, number: int, *, dropped: int = 0) -> None:
    """All rows up to this number have arrived, but for those that were dropped."""
    _pass(c, sink, stream, number, dropped=dropped)


def refused(
    c: sql.Connection, sink: str, stream: Stream, number: int, *, error: str, dropped: int = 0
) -> None:
    """The row of this number was refused, and is not told again."""
    _pass(c, sink, stream, number, dropped=dropped, refused=1, error=error)


def works(c: sql.Connection, sink: str, stream: Stream) -> None:
    """The sink can be reached again, though nothing was told."""
    c.execute(_of(sink, stream).values(failing_since_at=None, attempts=0, error=""))


def failed(c: sql.Connection, sink: str, stream: Stream, *, error: str, now: float) -> None:
    """The sink is down: an attempt was in vain."""
    since = cursors.c.failing_since_at
    first = sql.func.coalesce(since, sql.literal(now, since.type))
    c.execute(_of(sink, stream).values(attempts=cursors.c.attempts + 1, failing_since_at=first, error=error))


def standing(c: sql.Connection) -> list[Row]:
    """Of each sink and stream: the columns of ``cursors``, and ``behind``, how many rows wait."""
    rows = [
        dict(row)
        for row in c.execute(sql.select(cursors).order_by(cursors.c.sink, cursors.c.stream)).mappings()
    ]
    ends = {stream: streams.newest(c, stream) for stream in {row["stream"] for row in rows}}
    return [{**row, "behind": max(0, ends[row["stream"]] - row["delivered"])} for row in rows]


def _pass(
    c: sql.Connection,
    sink: str,
    stream: Stream,
    number: int,
    *,
    dropped: int,
    refused: int = 0,
    error: str = "",
) -> None:
    """The cursor goes on to a number; it never goes back."""
    c.execute(
        _of(sink, stream)
        .where(cursors.c.delivered < number)
        .values(
            delivered=number, dropped=cursors.c.dropped + dropped, refused=cursors.c.refused + refused,
            failing_since_at=None, attempts=0, error=error,
        )
    )  # fmt: skip


def _of(sink: str, stream: Stream) -> sql.Update:
    return sql.update(cursors).where(cursors.c.sink == sink, cursors.c.stream == stream)
