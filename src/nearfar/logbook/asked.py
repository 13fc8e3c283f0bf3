"""What is read of the logbook, as plain dicts with the names of the columns.

Conventions
-----------
``c`` is a connection that reads (``database.Database.reading``). Rows of what belongs to a machine have its name,
``machine``, beside ``machine_id``. Lists are the newest first, at most ``MOST`` at once, and go on after a row of
which the id is given. What is long is only in the answer about one alert or event.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sql

from nearfar.logbook import streams
from nearfar.logbook.life_cycle import CONDITIONS
from nearfar.logbook.schema import alerts as alert_table
from nearfar.logbook.schema import conditions as condition_table
from nearfar.logbook.schema import events as event_table
from nearfar.logbook.schema import journal as journal_table
from nearfar.logbook.schema import machines as machine_table
from nearfar.logbook.schema import normals, of_windows, recordings, summaries, windows
from nearfar.logbook.streams import OF_ALERTS, OF_EVENTS, Row, require_most

if TYPE_CHECKING:
    Query = sql.Select[*tuple[Any, ...]]

MOST = 1000  # rows of a list
MOST_POINTS = 5000  # of a trend: more than a screen has pixels
LONGEST_SUMMARY = 3600.0  # seconds
WIDTHS = (
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1200,
    1800,
    3600,
    7200,
    10800,
    21600,
    43200,
)  # of buckets, seconds
DAY = 86400
COUNTS = ("windows", "scored", "anomalous", "unusable", "paused")
State = Literal["retained", "active", "all"]

OF_MACHINES = tuple(column for column in machine_table.c if column.name != "steps")  # which is long
OF_CONDITIONS = tuple(
    column for column in condition_table.c if column.name not in ("machine_id", "condition")
)
UNTOUCHED = {"shelving": "unshelved", "shelved_until_at": None, "suppressed": False, "out_of_service": False}
MACHINE = machine_table.c.name.label("machine")


def machines(c: sql.Connection, *, removed: bool = False) -> list[Row]:
    """The machines, by name.

    Parameters
    ----------
    c : Connection
    removed : bool
        Whether those that the site's file does not name any more are among them.

    Returns
    -------
    rows : list of dict
        The columns without ``steps``; ``alerts``, those that are active, and the newest of the others that are
        retained, as of ``alerts``; ``unacknowledged``, how many retained alerts nobody has acknowledged;
        ``conditions``, as of ``conditions``.
    """
    query = sql.select(*OF_MACHINES).order_by(machine_table.c.name)
    if not removed:
        query = query.where(machine_table.c.mode != "removed")
    rows = [dict(row) for row in c.execute(query).mappings()]
    retained: dict[int, list[Row]] = {}
    found = alerts(c, state="active", most=MOST) + alerts(c, state="retained", most=MOST)
    for alert in {one["id"]: one for one in found}.values():
        retained.setdefault(alert["machine_id"], []).append(alert)
    unacknowledged = _unacknowledged(c)
    standing: dict[int, list[Row]] = {}
    for condition in conditions(c):
        standing.setdefault(condition["machine_id"], []).append(condition)
    return [
        {
            **row,
            "alerts": sorted(
                retained.get(row["id"], []), key=lambda one: (one["began_at"], one["id"]), reverse=True
            ),
            "unacknowledged": unacknowledged.get(row["id"], 0),
            "conditions": standing.get(row["id"], []),
        }
        for row in rows
    ]


def machine(c: sql.Connection, name: str) -> Row | None:
    """A machine by its name, as ``machines`` has it; ``None`` if there is none."""
    row = c.execute(sql.select(*OF_MACHINES).where(machine_table.c.name == name)).mappings().one_or_none()
    if row is None:
        return None
    machine_id = row["id"]
    return {
        **row,
        "alerts": alerts(c, state="retained", machine_id=machine_id, most=MOST),
        "unacknowledged": _unacknowledged(c, machine_id).get(machine_id, 0),
        "conditions": conditions(c, machine_id),
    }


def conditions(c: sql.Connection, machine_id: int | None = None) -> list[Row]:
    """Each condition of a machine, or of all, whether or not anything was ever said of it.

    Returns
    -------
    rows : list of dict
        The columns of ``conditions``; ``machine``; ``active``; ``alert_id``, of the alert that is active, or None.
    """
    of = sql.select(machine_table.c.id, machine_table.c.name).order_by(machine_table.c.name)
    said = sql.select(condition_table)
    active = sql.select(alert_table.c.machine_id, alert_table.c.condition, alert_table.c.id).where(
        alert_table.c.active
    )
    if machine_id is not None:
        of = of.where(machine_table.c.id == machine_id)
        said = said.where(condition_table.c.machine_id == machine_id)
        active = active.where(alert_table.c.machine_id == machine_id)
    known = {(row["machine_id"], row["condition"]): row for row in c.execute(said).mappings()}
    alert_ids = {(row.machine_id, row.condition): row.id for row in c.execute(active)}
    return [
        {
            "machine_id": machine.id, "machine": machine.name, "condition": condition,
            **known.get((machine.id, condition), UNTOUCHED),
            "active": (machine.id, condition) in alert_ids, "alert_id": alert_ids.get((machine.id, condition)),
        }
        for machine in c.execute(of).all()
        for condition in CONDITIONS
    ]  # fmt: skip


def scores(
    c: sql.Connection,
    machine_id: int,
    *,
    begin: float | None = None,
    end: float | None = None,
    points: int = 1000,
) -> list[Row]:
    """The course of a machine's scores: each window, or the lowest, mean and highest of several.

    Windows of long ago are summaries of an hour (``compaction``). If there are more windows and summaries than
    points, those that begin in the same bucket of time become one. Buckets begin at multiples of their width, so
    they stay where they are when ``begin`` and ``end`` move on.

    Parameters
    ----------
    c : Connection
    machine_id : int
    begin, end : float or None
        Windows that begin from ``begin`` on and before ``end``. A summary counts if any of its hour lies there.
        ``None``: from the first one, to the last one.
    points : int
        At most how many, up to ``MOST_POINTS``.

    Returns
    -------
    rows : list of dict
        In order of time: ``begins_at`` and ``seconds``, from the first beginning to the last end; ``windows``, how
        many; ``scored``, ``anomalous``, ``unusable``, ``paused``, how many of these; ``lowest``, ``mean``,
        ``highest`` of the scores, and the highest ``evidence``, or None.

    Raises
    ------
    ValueError
        If ``points`` is out of range, or a time is no number.
    """
    require_most(points, MOST_POINTS, "points")
    _require_times(begin, end)
    of_windows = (windows.c.machine_id == machine_id, *_within(windows.c.begins_at, begin, end))
    of_summaries = [summaries.c.machine_id == machine_id, *_within(summaries.c.begins_at, None, end)]
    if begin is not None:
        of_summaries += [
            summaries.c.begins_at > begin - LONGEST_SUMMARY,  # for the index
            summaries.c.begins_at + summaries.c.seconds > begin,
        ]
    each = sql.union_all(_each_window().where(*of_windows), _each_summary().where(*of_summaries))
    few = each.limit(points + 1).subquery()
    if c.execute(sql.select(sql.func.count()).select_from(few)).scalar_one() <= points:
        return [dict(row) for row in c.execute(each.order_by("begins_at")).mappings()]
    width = _width(*_bounds(c, (windows, of_windows), (summaries, of_summaries)), points)
    query = _in_buckets(
        _windows_in_buckets(c, width).where(*of_windows), _summaries_in_buckets(c, width).where(*of_summaries)
    )
    return [dict(row) for row in c.execute(query).mappings()]


def events(
    c: sql.Connection,
    *,
    machine_id: int | None = None,
    begin: float | None = None,
    end: float | None = None,
    most: int = 100,
    before_id: int | None = None,
) -> list[Row]:
    """Events, the newest first, without ``content``.

    Parameters
    ----------
    c : Connection
    machine_id : int or None
        ``None``: of all machines.
    begin, end : float or None
        Those that begin from ``begin`` on and before ``end``.
    most : int
        How many, up to ``MOST``.
    before_id : int or None
        Go on after this one, the last of the list before.

    Raises
    ------
    ValueError
        If ``most`` is out of range, or a time is no number.
    """
    require_most(most, MOST)
    _require_times(begin, end)
    query = _of_machines(sql.select(*OF_EVENTS, MACHINE), event_table, machine_id).where(
        *_within(event_table.c.begins_at, begin, end)
    )
    return _newest_first(c, query, event_table.c.begins_at, event_table.c.id, most, before_id)


def event(c: sql.Connection, event_id: int) -> Row | None:
    """An event, all of it; ``None`` if there is none.

    ``content`` is as ``listening.events.event_to`` gives it; ``recording`` is the name of the recording, and
    ``recording_began_at`` when it began.
    """
    query = (
        sql.select(
            event_table, MACHINE, recordings.c.name.label("recording"),
            recordings.c.began_at.label("recording_began_at"),
        )
        .join(machine_table, machine_table.c.id == event_table.c.machine_id)
        .join(recordings, recordings.c.id == event_table.c.recording_id)
        .where(event_table.c.id == event_id)
    )  # fmt: skip
    row = c.execute(query).mappings().one_or_none()
    return None if row is None else {**row, "content": json.loads(row["content"])}


def alerts(
    c: sql.Connection,
    *,
    state: State = "retained",
    machine_id: int | None = None,
    most: int = 100,
    before_id: int | None = None,
) -> list[Row]:
    """Alerts, the newest first, without ``evidence``.

    Parameters
    ----------
    c : Connection
    state : {"retained", "active", "all"}
    machine_id : int or None
        ``None``: of all machines.
    most : int
        How many, up to ``MOST``.
    before_id : int or None
        Go on after this one, the last of the list before.

    Returns
    -------
    rows : list of dict
        The columns; ``machine``; ``has_evidence``; and of the condition now: ``shelving``, ``shelved_until_at``,
        ``suppressed``, ``out_of_service``.

    Raises
    ------
    ValueError
        If ``most`` is out of range, or there is no such state.
    """
    require_most(most, MOST)
    query = _of_machines(_alerts_with_standing(*OF_ALERTS), alert_table, machine_id)
    if state in ("active", "retained"):
        query = query.where(alert_table.c[state])
    elif state != "all":
        raise ValueError(f"state={state!r}: must be retained, active or all")
    rows = _newest_first(c, query, alert_table.c.began_at, alert_table.c.id, most, before_id)
    return [_with_standing(row) for row in rows]


def alert(c: sql.Connection, alert_id: int) -> Row | None:
    """An alert, all of it; ``None`` if there is none.

    As of ``alerts``, with ``evidence`` as JSON values or None, and ``journal``: what happened to it, in order.
    """
    query = _of_machines(_alerts_with_standing(*alert_table.c), alert_table, None).where(
        alert_table.c.id == alert_id
    )
    row = c.execute(query).mappings().one_or_none()
    if row is None:
        return None
    evidence = None if row["evidence"] is None else json.loads(row["evidence"])
    return {**_with_standing(dict(row)), "evidence": evidence, "journal": streams.of_alert(c, alert_id)}


def words(c: sql.Connection, alert_ids: Sequence[int]) -> dict[int, list[str]]:
    """The sentences of the evidence of alerts, for those that have any; for lists, which have no ``evidence``."""
    query = (
        sql.select(journal_table.c.alert_id, journal_table.c.content)
        .where(journal_table.c.alert_id.in_(alert_ids), journal_table.c.what == "evidence")
        .order_by(journal_table.c.id)
    )
    found = {row.alert_id: json.loads(row.content).get("words") for row in c.execute(query)}
    return {alert_id: told for alert_id, told in found.items() if told}


def normals_to_learn(c: sql.Connection, machine_id: int) -> list[Row]:
    """What people said was normal, and was not learnt yet: the columns of ``normals``, in order."""
    query = (
        sql.select(normals)
        .where(normals.c.machine_id == machine_id, normals.c.learnt_at.is_(None))
        .order_by(normals.c.id)
    )
    return [dict(row) for row in c.execute(query).mappings()]


def journal(c: sql.Connection, *, after: int, most: int = 100) -> list[Row]:
    """The rows of the journal that follow a number, in order, as of ``streams.after``."""
    require_most(most, MOST)
    return streams.after(c, "journal", after, most=most)


def latest(c: sql.Connection) -> tuple[int, int]:
    """The numbers of the last row of the journal, and of the last window; 0 if there is none."""
    return streams.newest(c, "journal"), streams.newest(c, "windows")


# Scores


def _each_window() -> Query:
    """A window as if it were a summary."""
    score, decision = windows.c.score, windows.c.decision
    return sql.select(
        windows.c.begins_at, windows.c.seconds, sql.literal_column("1").label("windows"),
        sql.case((score.is_(None), 0), else_=1).label("scored"),
        sql.case((decision == "anomaly", 1), else_=0).label("anomalous"),
        sql.case((decision == "unusable", 1), else_=0).label("unusable"),
        sql.case((decision == "paused", 1), else_=0).label("paused"),
        score.label("lowest"), score.label("mean"), score.label("highest"), windows.c.evidence,
    )  # fmt: skip


def _each_summary() -> Query:
    return sql.select(*(column for column in summaries.c if column.name != "machine_id"))


def _windows_in_buckets(c: sql.Connection, width: float) -> Query:
    bucket = _bucket(c, windows.c.begins_at, width)
    return sql.select(
        bucket.label("bucket"),
        sql.func.min(windows.c.begins_at).label("begins_at"),
        sql.func.max(windows.c.begins_at + windows.c.seconds).label("ends_at"),
        *of_windows(),
    ).group_by("bucket")


def _summaries_in_buckets(c: sql.Connection, width: float) -> Query:
    of = summaries.c
    return sql.select(
        _bucket(c, of.begins_at, width).label("bucket"),
        of.begins_at, (of.begins_at + of.seconds).label("ends_at"),
        *(of[column.name] for column in of_windows()),
    )  # fmt: skip


def _in_buckets(*parts: Query) -> Query:
    """What begins in the same bucket, as one."""
    of = sql.union_all(*parts).subquery().c
    begins_at, scored = sql.func.min(of.begins_at), sql.func.sum(of.scored)
    return (
        sql.select(
            begins_at.label("begins_at"),
            (sql.func.max(of.ends_at) - begins_at).label("seconds"),
            *(
                sql.cast(sql.func.sum(of[name]), sql.BigInteger).label(
                    name
                )  # PostgreSQL adds up to a decimal number
                for name in COUNTS
            ),
            sql.func.min(of.lowest).label("lowest"),
            (sql.func.sum(of.mean * of.scored) / sql.func.nullif(scored, 0)).label("mean"),
            sql.func.max(of.highest).label("highest"),
            sql.func.max(of.evidence).label("evidence"),
        )
        .group_by(of.bucket)
        .order_by(of.bucket)
    )


def _bucket(c: sql.Connection, time: sql.Column[Any], width: float) -> sql.ColumnElement[int]:
    """The number of the bucket in which a time lies."""
    quotient = time / width
    if c.dialect.name == "postgresql":  # where a cast rounds; that of SQLite cuts off
        quotient = sql.func.floor(quotient)
    return sql.cast(quotient, sql.BigInteger)


def _bounds(
    c: sql.Connection, *parts: tuple[sql.Table, Sequence[sql.ColumnElement[bool]]]
) -> tuple[float, float]:
    """When the first of these begins, and the last; each from one end of an index."""
    query = sql.select(
        *(
            sql.select(bound(table.c.begins_at)).where(*of).scalar_subquery()
            for bound in (sql.func.min, sql.func.max)
            for table, of in parts
        )
    )
    times = [time for time in c.execute(query).one() if time is not None]
    return min(times), max(times)


def _width(first: float, last: float, points: int) -> float:
    """The narrowest buckets, of a width that people know, of which so many hold both times."""
    days = (DAY * number for number in itertools.count(1))
    return float(
        next(width for width in itertools.chain(WIDTHS, days) if last // width - first // width < points)
    )


# Lists


def _of_machines(query: Query, table: sql.Table, machine_id: int | None) -> Query:
    query = query.join_from(table, machine_table, machine_table.c.id == table.c.machine_id)
    return query if machine_id is None else query.where(table.c.machine_id == machine_id)


def _alerts_with_standing(*columns: sql.Column[Any]) -> Query:
    joined = sql.and_(
        condition_table.c.machine_id == alert_table.c.machine_id,
        condition_table.c.condition == alert_table.c.condition,
    )
    has_evidence = alert_table.c.evidence.is_not(None).label("has_evidence")
    return sql.select(*columns, has_evidence, MACHINE, *OF_CONDITIONS).outerjoin_from(
        alert_table, condition_table, joined
    )


def _with_standing(row: Row) -> Row:
    """An alert whose condition nobody has said anything of has the standing of these."""
    row = {**row, "has_evidence": bool(row["has_evidence"])}
    return row if row["shelving"] is not None else {**row, **UNTOUCHED}


def _newest_first(
    c: sql.Connection,
    query: Query,
    time: sql.Column[Any],
    number: sql.Column[Any],
    most: int,
    before_id: int | None,
) -> list[Row]:
    """By time; of the same time, by number."""
    if before_id is not None:
        at = c.execute(sql.select(time).where(number == before_id)).scalar_one_or_none()
        if at is None:
            return []
        query = query.where(sql.tuple_(time, number) < sql.tuple_(at, before_id))
    query = query.order_by(time.desc(), number.desc()).limit(most)
    return [dict(row) for row in c.execute(query).mappings()]


def _unacknowledged(c: sql.Connection, machine_id: int | None = None) -> dict[int, int]:
    query = (
        sql.select(alert_table.c.machine_id, sql.func.count().label("number"))
        .where(alert_table.c.retained, alert_table.c.acked == sql.false())
        .group_by(alert_table.c.machine_id)
    )
    if machine_id is not None:
        query = query.where(alert_table.c.machine_id == machine_id)
    return {row.machine_id: row.number for row in c.execute(query)}


def _within(time: sql.Column[Any], begin: float | None, end: float | None) -> list[sql.ColumnElement[bool]]:
    limits: list[sql.ColumnElement[bool]] = []
    if begin is not None:
        limits.append(time >= begin)
    if end is not None:
        limits.append(time < end)
    return limits


def _require_times(begin: float | None, end: float | None) -> None:
    for name, value in (("begin", begin), ("end", end)):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name}={value}: must be a time in seconds since 1970")
