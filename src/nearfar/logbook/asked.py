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
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import sqlalchemy as sql

from nearfar.logbook import streams
from nearfar.logbook.life_cycle import CONDITIONS
from nearfar.logbook.schema import alerts as alert_table
from nearfar.logbook.schema import conditions as condition_table
from nearfar.logbook.schema import events as event_table
from nearfar.logbook.schema import journal as journal_table
from nearfar.logbook.schema import machines as machine_table
from nearfar.logbook.schema import normals, of_windows, recordings, summaries, windows
from nearfar.logbook.streams import OF_ALERTS, OF_EVENTS, Row, require_most, rows_of

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
    rows = rows_of(c, _machines(removed=removed))
    retained: dict[int, list[Row]] = {}
    found = alerts(c, state="active", most=MOST) + alerts(c, state="retained", most=MOST)
    for alert in {one["id"]: one for one in found}.values():
        retained.setdefault(alert["machine_id"], []).append(alert)
    waiting = unacknowledged(c)
    standing: dict[int, list[Row]] = {}
    for condition in conditions(c):
        standing.setdefault(condition["machine_id"], []).append(condition)
    return [
        {
            **row,
            "alerts": sorted(
                retained.get(row["id"], []), key=lambda one: (one["began_at"], one["id"]), reverse=True
            ),
            "unacknowledged": waiting.get(row["id"], 0),
            "conditions": standing.get(row["id"], []),
        }
        for row in rows
    ]


def machine(c: sql.Connection, name: str) -> Row | None:
    """A machine by its name, as ``machines`` has it; ``None`` if there is none."""
    for row in rows_of(c, _MACHINE, name=name):
        machine_id = row["id"]
        return {
            **row,
            "alerts": alerts(c, state="retained", machine_id=machine_id, most=MOST),
            "unacknowledged": unacknowledged(c, machine_id).get(machine_id, 0),
            "conditions": conditions(c, machine_id),
        }
    return None


def machine_id(c: sql.Connection, name: str) -> int | None:
    """The id of a machine; ``None`` if there is none of that name."""
    found = c.execute(_MACHINE_ID, {"name": name}).scalar_one_or_none()
    return None if found is None else int(found)


def unacknowledged(c: sql.Connection, machine_id: int | None = None) -> dict[int, int]:
    """How many retained alerts nobody has acknowledged, by the id of the machine; without those that have none."""
    query = _unacknowledged(of_machine=machine_id is not None)
    return {row.machine_id: row.number for row in c.execute(query, {"machine_id": machine_id})}


def conditions(c: sql.Connection, machine_id: int | None = None) -> list[Row]:
    """Each condition of a machine, or of all, whether or not anything was ever said of it.

    Returns
    -------
    rows : list of dict
        The columns of ``conditions``; ``machine``; ``active``; ``alert_id``, of the alert that is active, or None.
    """
    of, said, active = _conditions(of_machine=machine_id is not None)
    values = {"machine_id": machine_id}
    known = {(row["machine_id"], row["condition"]): row for row in rows_of(c, said, **values)}
    alert_ids = {(of_id, condition): found for of_id, condition, found in c.execute(active, values).all()}
    return [
        {
            "machine_id": of_id, "machine": name, "condition": condition,
            **known.get((of_id, condition), UNTOUCHED),
            "active": (of_id, condition) in alert_ids, "alert_id": alert_ids.get((of_id, condition)),
        }
        for of_id, name in c.execute(of, values).all()
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
    values = {"machine_id": machine_id, "begin": begin, "end": end}
    if begin is not None:
        values["earliest"] = begin - LONGEST_SUMMARY
    queries = _scores(c.dialect.name, has_begin=begin is not None, has_end=end is not None)
    if c.execute(queries.few, {**values, "most": points + 1}).scalar_one() <= points:
        return rows_of(c, queries.each, **values)
    times = [time for time in c.execute(queries.bounds, values).one() if time is not None]
    return rows_of(c, queries.in_buckets, **values, width=_width(min(times), max(times), points))


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
    query = _events(
        of_machine=machine_id is not None,
        has_begin=begin is not None,
        has_end=end is not None,
        goes_on=before_id is not None,
    )
    values = {"machine_id": machine_id, "begin": begin, "end": end}
    return _page(c, query, _EVENT_TIME, before_id, {**values, "most": most})


def event(c: sql.Connection, event_id: int) -> Row | None:
    """An event, all of it; ``None`` if there is none.

    ``content`` is as ``listening.events.event_to`` gives it; ``recording`` is the name of the recording, and
    ``recording_began_at`` when it began.
    """
    for row in rows_of(c, _EVENT, event_id=event_id):
        return {**row, "content": json.loads(row["content"])}
    return None


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
    if state not in get_args(State):
        raise ValueError(f"state={state!r}: must be retained, active or all")
    query = _alerts(state, of_machine=machine_id is not None, goes_on=before_id is not None)
    rows = _page(c, query, _ALERT_TIME, before_id, {"machine_id": machine_id, "most": most})
    return [_with_standing(row) for row in rows]


def alert(c: sql.Connection, alert_id: int) -> Row | None:
    """An alert, all of it; ``None`` if there is none.

    As of ``alerts``, with ``evidence`` as JSON values or None, and ``journal``: what happened to it, in order.
    """
    for row in rows_of(c, _ALERT, alert_id=alert_id):
        evidence = None if row["evidence"] is None else json.loads(row["evidence"])
        return {**_with_standing(row), "evidence": evidence, "journal": streams.of_alert(c, alert_id)}
    return None


def words(c: sql.Connection, alert_ids: Sequence[int]) -> dict[int, list[str]]:
    """The sentences of the evidence of alerts, for those that have any; for lists, which have no ``evidence``."""
    rows = c.execute(_WORDS, {"alert_ids": list(alert_ids)})
    found = {row.alert_id: json.loads(row.content).get("words") for row in rows}
    return {alert_id: told for alert_id, told in found.items() if told}


def normals_to_learn(c: sql.Connection, machine_id: int) -> list[Row]:
    """What people said was normal, and was not learnt yet: the columns of ``normals``, in order."""
    return rows_of(c, _NORMALS, machine_id=machine_id)


def journal(c: sql.Connection, *, after: int, most: int = 100) -> list[Row]:
    """The rows of the journal that follow a number, in order, as of ``streams.after``."""
    require_most(most, MOST)
    return streams.after(c, "journal", after, most=most)


def latest(c: sql.Connection) -> tuple[int, int]:
    """The numbers of the last row of the journal, and of the last window; 0 if there is none."""
    return streams.newest(c, "journal"), streams.newest(c, "windows")


# Statements. To put one together takes longer than SQLite takes to answer it, so each is made once, for all values.


def _given(name: str, column: sql.ColumnElement[Any]) -> sql.BindParameter[Any]:
    """A value that comes with the question, of the type of a column."""
    return sql.bindparam(name, type_=column.type)


def _of_machine(table: sql.Table) -> sql.ColumnElement[bool]:
    return table.c.machine_id == _given("machine_id", table.c.machine_id)


def _within(time: sql.Column[Any], *, has_begin: bool, has_end: bool) -> list[sql.ColumnElement[bool]]:
    limits: list[sql.ColumnElement[bool]] = []
    if has_begin:
        limits.append(time >= _given("begin", time))
    if has_end:
        limits.append(time < _given("end", time))
    return limits


_MACHINE = sql.select(*OF_MACHINES).where(machine_table.c.name == _given("name", machine_table.c.name))
_MACHINE_ID = sql.select(machine_table.c.id).where(
    machine_table.c.name == _given("name", machine_table.c.name)
)
_NORMALS = (
    sql.select(normals).where(_of_machine(normals), normals.c.learnt_at.is_(None)).order_by(normals.c.id)
)
_WORDS = (
    sql.select(journal_table.c.alert_id, journal_table.c.content)
    .where(
        journal_table.c.alert_id.in_(sql.bindparam("alert_ids", expanding=True)),
        journal_table.c.what == "evidence",
    )
    .order_by(journal_table.c.id)
)
_EVENT = (
    sql.select(
        event_table, MACHINE, recordings.c.name.label("recording"),
        recordings.c.began_at.label("recording_began_at"),
    )
    .join(machine_table, machine_table.c.id == event_table.c.machine_id)
    .join(recordings, recordings.c.id == event_table.c.recording_id)
    .where(event_table.c.id == _given("event_id", event_table.c.id))
)  # fmt: skip


@cache
def _machines(*, removed: bool) -> Query:
    query = sql.select(*OF_MACHINES).order_by(machine_table.c.name)
    return query if removed else query.where(machine_table.c.mode != "removed")


@cache
def _unacknowledged(*, of_machine: bool) -> Query:
    return (
        sql.select(alert_table.c.machine_id, sql.func.count().label("number"))
        .where(alert_table.c.retained, alert_table.c.acked == sql.false())
        .where(*([_of_machine(alert_table)] if of_machine else []))
        .group_by(alert_table.c.machine_id)
    )


@cache
def _conditions(*, of_machine: bool) -> tuple[Query, Query, Query]:
    """Which machines there are, what was said of conditions, and which are active."""
    of = sql.select(machine_table.c.id, machine_table.c.name).order_by(machine_table.c.name)
    said = sql.select(condition_table)
    active = sql.select(alert_table.c.machine_id, alert_table.c.condition, alert_table.c.id)
    active = active.where(alert_table.c.active)
    if of_machine:
        of = of.where(machine_table.c.id == _given("machine_id", machine_table.c.id))
        said, active = said.where(_of_machine(condition_table)), active.where(_of_machine(alert_table))
    return of, said, active


# Scores


class _OfScores(NamedTuple):
    """How many windows and summaries there are, up to ``most``; each of them; when the first and the last of
    them begin; and those in the same bucket of ``width`` as one."""

    few: Query
    each: sql.CompoundSelect[*tuple[Any, ...]]
    bounds: Query
    in_buckets: Query


@cache
def _scores(dialect: str, *, has_begin: bool, has_end: bool) -> _OfScores:
    of_windows = (
        _of_machine(windows),
        *_within(windows.c.begins_at, has_begin=has_begin, has_end=has_end),
    )
    of_summaries = [
        _of_machine(summaries),
        *_within(summaries.c.begins_at, has_begin=False, has_end=has_end),
    ]
    if has_begin:
        begins_at = summaries.c.begins_at
        of_summaries += [
            begins_at > _given("earliest", begins_at),  # for the index
            begins_at + summaries.c.seconds > _given("begin", begins_at),
        ]
    each = sql.union_all(_each_window().where(*of_windows), _each_summary().where(*of_summaries))
    few = each.limit(sql.bindparam("most", type_=sql.Integer)).subquery()
    return _OfScores(
        sql.select(sql.func.count()).select_from(few),
        each.order_by("begins_at"),
        _bounds((windows, of_windows), (summaries, of_summaries)),
        _in_buckets(
            _windows_in_buckets(dialect).where(*of_windows),
            _summaries_in_buckets(dialect).where(*of_summaries),
        ),
    )


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


def _windows_in_buckets(dialect: str) -> Query:
    bucket = _bucket(dialect, windows.c.begins_at)
    return sql.select(
        bucket.label("bucket"),
        sql.func.min(windows.c.begins_at).label("begins_at"),
        sql.func.max(windows.c.begins_at + windows.c.seconds).label("ends_at"),
        *of_windows(),
    ).group_by("bucket")


def _summaries_in_buckets(dialect: str) -> Query:
    of = summaries.c
    return sql.select(
        _bucket(dialect, of.begins_at).label("bucket"),
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


def _bucket(dialect: str, time: sql.Column[Any]) -> sql.ColumnElement[int]:
    """The number of the bucket in which a time lies."""
    quotient = time / _given("width", time)
    if dialect == "postgresql":  # where a cast rounds; that of SQLite cuts off
        quotient = sql.func.floor(quotient)
    return sql.cast(quotient, sql.BigInteger)


def _bounds(*parts: tuple[sql.Table, Sequence[sql.ColumnElement[bool]]]) -> Query:
    """When the first of these begins, and the last; each from one end of an index."""
    return sql.select(
        *(
            sql.select(bound(table.c.begins_at)).where(*of).scalar_subquery()
            for bound in (sql.func.min, sql.func.max)
            for table, of in parts
        )
    )


def _width(first: float, last: float, points: int) -> float:
    """The narrowest buckets, of a width that people know, of which so many hold both times."""
    days = (DAY * number for number in itertools.count(1))
    return float(
        next(width for width in itertools.chain(WIDTHS, days) if last // width - first // width < points)
    )


# Lists


def _with_machine(query: Query, table: sql.Table, *, of_machine: bool) -> Query:
    query = query.join_from(table, machine_table, machine_table.c.id == table.c.machine_id)
    return query.where(_of_machine(table)) if of_machine else query


def _newest_first(query: Query, time: sql.Column[Any], number: sql.Column[Any], *, goes_on: bool) -> Query:
    """By time; of the same time, by number. ``goes_on``: those that come after ``at`` and ``before_id``."""
    if goes_on:
        last = sql.tuple_(_given("at", time), _given("before_id", number))
        query = query.where(sql.tuple_(time, number) < last)
    return query.order_by(time.desc(), number.desc()).limit(sql.bindparam("most", type_=sql.Integer))


def _page(
    c: sql.Connection, query: Query, time: Query, before_id: int | None, values: Mapping[str, Any]
) -> list[Row]:
    """Rows of a list that goes on after a row; ``time`` asks for its time."""
    if before_id is None:
        return rows_of(c, query, **values)
    at = c.execute(time, {"before_id": before_id}).scalar_one_or_none()
    return [] if at is None else rows_of(c, query, **values, at=at, before_id=before_id)


@cache
def _events(*, of_machine: bool, has_begin: bool, has_end: bool, goes_on: bool) -> Query:
    of = event_table.c
    query = _with_machine(sql.select(*OF_EVENTS, MACHINE), event_table, of_machine=of_machine).where(
        *_within(of.begins_at, has_begin=has_begin, has_end=has_end)
    )
    return _newest_first(query, of.begins_at, of.id, goes_on=goes_on)


@cache
def _alerts(state: State, *, of_machine: bool, goes_on: bool) -> Query:
    query = _with_machine(_alerts_with_standing(*OF_ALERTS), alert_table, of_machine=of_machine)
    if state != "all":
        query = query.where(alert_table.c[state])
    return _newest_first(query, alert_table.c.began_at, alert_table.c.id, goes_on=goes_on)


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


_ALERT = _with_machine(_alerts_with_standing(*alert_table.c), alert_table, of_machine=False).where(
    alert_table.c.id == _given("alert_id", alert_table.c.id)
)
_ALERT_TIME = sql.select(alert_table.c.began_at).where(
    alert_table.c.id == _given("before_id", alert_table.c.id)
)
_EVENT_TIME = sql.select(event_table.c.begins_at).where(
    event_table.c.id == _given("before_id", event_table.c.id)
)


def _require_times(begin: float | None, end: float | None) -> None:
    for name, value in (("begin", begin), ("end", end)):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name}={value}: must be a time in seconds since 1970")
