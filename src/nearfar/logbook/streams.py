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


def rows_of(c: sql.Connection, query: sql.Executable, **values: Any) -> list[Row]:
    """What a question is answered, as dicts with the names of the columns.

    Parameters
    ----------
    c : Connection
    query : Executable
    **values
        What it was made without: its ``bindparam`` by name. Others are not looked at.
    """
    found = c.execute(query, values)
    names = tuple(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found.all()]


def newest(c: sql.Connection, stream: Stream) -> int:
    """The number of the last row; 0 if there is none."""
    return int(c.execute(_NEWEST[_checked(stream)]).scalar_one() or 0)


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
    rows = rows_of(c, _AFTER[_checked(stream)], number=number, most=most)
    return rows if stream == "windows" else _with_what_they_are_of(c, rows)


def of_alert(c: sql.Connection, alert_id: int) -> list[Row]:
    """The journal of an alert, in order: columns, with ``content`` as JSON values."""
    return [_decoded(row) for row in rows_of(c, _OF_ALERT, alert_id=alert_id)]


def require_most(most: int, highest: int, name: str = "most") -> None:
    """Raise ``ValueError`` if so many rows are too many, or none."""
    if not 1 <= most <= highest:
        raise ValueError(f"{name}={most}: must be 1 to {highest}")


def _checked(stream: str) -> str:
    if stream not in TABLES:
        raise ValueError(f"stream={stream!r}: must be one of {', '.join(TABLES)}")
    return stream


def _after(table: sql.Table) -> sql.Select[*tuple[Any, ...]]:
    return (
        sql.select(table, machines.c.name.label("machine"))
        .join(machines, machines.c.id == table.c.machine_id)
        .where(table.c.id > sql.bindparam("number", type_=table.c.id.type))
        .order_by(table.c.id)
        .limit(sql.bindparam("most", type_=sql.Integer))
    )


def _with_ids(table: sql.Table, columns: tuple[sql.Column[Any], ...]) -> sql.Select[*tuple[Any, ...]]:
    return sql.select(*columns).where(table.c.id.in_(sql.bindparam("ids", expanding=True)))


# Statements are made once: to put one together takes longer than SQLite takes to answer it.
_NEWEST = {name: sql.select(sql.func.max(table.c.id)) for name, table in TABLES.items()}
_AFTER = {name: _after(table) for name, table in TABLES.items()}
_OF_ALERT = (
    sql.select(journal)
    .where(journal.c.alert_id == sql.bindparam("alert_id", type_=journal.c.alert_id.type))
    .order_by(journal.c.id)
)
_ALERTS, _EVENTS = _with_ids(alerts, OF_ALERTS), _with_ids(events, OF_EVENTS)


def _with_what_they_are_of(c: sql.Connection, rows: list[Row]) -> list[Row]:
    """Rows of the journal, each with its alert and its event."""
    of_alerts = _by_id(c, _ALERTS, {row["alert_id"] for row in rows})
    of_events = _by_id(c, _EVENTS, {row["event_id"] for row in rows})
    return [
        {
            **_decoded(row),
            "alert": of_alerts.get(row["alert_id"]),
            "event": of_events.get(row["event_id"]),
        }
        for row in rows
    ]


def _by_id(
    c: sql.Connection, query: sql.Select[*tuple[Any, ...]], ids: set[int | None]
) -> dict[int | None, Row]:
    wanted = [one for one in ids if one is not None]
    return {row["id"]: row for row in rows_of(c, query, ids=wanted)} if wanted else {}


def _decoded(row: Row) -> Row:
    return {**row, "content": json.loads(row["content"])}
