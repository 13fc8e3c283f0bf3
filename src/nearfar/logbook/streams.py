"""What is told, in order: the journal, and the windows. Sinks and pages follow them by the numbers of rows."""

from __future__ import annotations

import json
from typing import Any, Literal

import sqlalchemy as sql

from nearfar.logbook.schema import alerts, events, journal, machines, windows

Stream = Literal["journal", "windows"]
TABLES: dict[str, sql.Table] = {"journal": journal, "windows": windows}
MOST = 10_000  # rows at once
Row = dict[str, Any]

OF_ALERTS = tuple(column for column in alerts.c if column.name != "evidence")  # which is long
OF_EVENTS = tuple(column for column in events.c if column.name != "content")  # which is long


def newest(c: sql.Connection, stream: Stream) -> int:
    """The number of the last row; 0 if there is none."""
    return int(c.execute(sql.select(sql.func.max(_table(stream).c.id))).scalar_one() or 0)


def after(c: sql.Connection, stream: Stream, number: int, *, most: int) -> list[Row]:
    """The rows that follow a number, in order.

    Parameters
    ----------
    c : Connection
    stream : {"journal", "windows"}
    number : int
        Of the last row that is known; 0: from the first one on.
    most : int
        How many rows, up to ``MOST``.

    Returns
    -------
    rows : list of dict
        The columns of the table, and ``machine``, its name. Rows of the journal have their ``content`` as JSON
        values, and ``alert`` and ``event``: the columns of these without what is long, or None. These are as they
        are now; how they were is in ``content``.

    Raises
    ------
    ValueError
        If ``most`` is out of range, or there is no such stream.
    """
    require_most(most, MOST)
    table = _table(stream)
    query = (
        sql.select(table, machines.c.name.label("machine"))
        .join(machines, machines.c.id == table.c.machine_id)
        .where(table.c.id > number)
        .order_by(table.c.id)
        .limit(most)
    )
    rows = [dict(row) for row in c.execute(query).mappings()]
    return rows if stream == "windows" else _with_what_they_are_of(c, rows)


def of_alert(c: sql.Connection, alert_id: int) -> list[Row]:
    """The journal of an alert, in order: columns, with ``content`` as JSON values."""
    query = sql.select(journal).where(journal.c.alert_id == alert_id).order_by(journal.c.id)
    return [_decoded(dict(row)) for row in c.execute(query).mappings()]


def require_most(most: int, highest: int, name: str = "most") -> None:
    """Raise ``ValueError`` if so many rows are too many, or none."""
    if not 1 <= most <= highest:
        raise ValueError(f"{name}={most}: must be 1 to {highest}")


def _table(stream: str) -> sql.Table:
    if stream not in TABLES:
        raise ValueError(f"stream={stream!r}: must be one of {', '.join(TABLES)}")
    return TABLES[stream]


def _with_what_they_are_of(c: sql.Connection, rows: list[Row]) -> list[Row]:
    """Rows of the journal, each with its alert and its event."""
    of_alerts = _by_id(c, alerts, OF_ALERTS, {row["alert_id"] for row in rows})
    of_events = _by_id(c, events, OF_EVENTS, {row["event_id"] for row in rows})
    return [
        {
            **_decoded(row),
            "alert": of_alerts.get(row["alert_id"]),
            "event": of_events.get(row["event_id"]),
        }
        for row in rows
    ]


def _by_id(
    c: sql.Connection, table: sql.Table, columns: tuple[sql.Column[Any], ...], ids: set[int | None]
) -> dict[int | None, Row]:
    wanted = [one for one in ids if one is not None]
    if not wanted:
        return {}
    query = sql.select(*columns).where(table.c.id.in_(wanted))
    return {row["id"]: dict(row) for row in c.execute(query).mappings()}


def _decoded(row: Row) -> Row:
    return {**row, "content": json.loads(row["content"])}
