"""Windows of long ago become summaries of an hour, so that the logbook does not grow without end.

An hour is the time from one whole hour of UTC to the next. It becomes a summary as a whole, after all of it is
older than the site's file says (``keep_windows``). Windows of an hour that is a summary already, such as those of
a recorder's card that was read late, are added to it. All else stays: recordings, events, alerts and the journal.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql

from nearfar.logbook.database import Database
from nearfar.logbook.schema import machines, of_windows, summaries, windows

HOUR = 3600.0
COUNTS = ("windows", "scored", "anomalous", "unusable", "paused")
ROWS_AT_ONCE = 5000  # windows in one transaction: meanwhile, nobody else writes


def compact(database: Database, *, now: float, keep_windows_s: float) -> int:
    """Make summaries of all hours that are old enough.

    It does so in short transactions. Each is complete, so this may be interrupted and repeated.

    Parameters
    ----------
    database : Database
    now : float
        Seconds since 1970.
    keep_windows_s : float
        Seconds, at least an hour.

    Returns
    -------
    windows : int
        How many have become part of a summary.

    Raises
    ------
    ValueError
        If ``keep_windows_s`` is less than an hour, or no number.
    """
    if not keep_windows_s >= HOUR:
        raise ValueError(f"keep_windows_s={keep_windows_s}: keep windows for at least an hour")
    before = (now - keep_windows_s) // HOUR * HOUR
    total = 0
    while True:
        with database.reading() as c:  # mostly there is nothing, and nobody has to wait
            if not _due(c, before):
                return total
        with database.writing() as c:
            total += _compact(c, before)


def _due(c: sql.Connection, before: float) -> list[tuple[int, float]]:
    """Of each machine that has any, the first hour with windows that begin before that time; the oldest first."""
    first = (
        sql.select(sql.func.min(windows.c.begins_at))
        .where(windows.c.machine_id == machines.c.id, windows.c.begins_at < before)
        .scalar_subquery()
    )
    rows = c.execute(sql.select(machines.c.id, first.label("first"))).all()
    return sorted(
        ((row.id, row.first // HOUR * HOUR) for row in rows if row.first is not None), key=lambda one: one[1]
    )


def _compact(c: sql.Connection, before: float) -> int:
    """As many hours as one transaction may take, but at least one; how many windows that were."""
    done = 0
    while due := _due(c, before):
        for machine_id, hour in due:
            done += _summarize(c, machine_id, hour)
            if done >= ROWS_AT_ONCE:
                return done
    return done


def _summarize(c: sql.Connection, machine_id: int, hour: float) -> int:
    """One hour of one machine."""
    inside = (
        windows.c.machine_id == machine_id,
        windows.c.begins_at >= hour,
        windows.c.begins_at < hour + HOUR,
    )
    new = c.execute(sql.select(*of_windows()).where(*inside)).one()
    where = (summaries.c.machine_id == machine_id, summaries.c.begins_at == hour)
    old = c.execute(sql.select(summaries).where(*where)).one_or_none()
    if old is None:
        values = dict(new._mapping)
        c.execute(sql.insert(summaries).values(machine_id=machine_id, begins_at=hour, seconds=HOUR, **values))
    else:
        c.execute(sql.update(summaries).where(*where).values(_together(old, new)))
    c.execute(sql.delete(windows).where(*inside))
    return int(new.windows)


def _together(one: sql.Row[*tuple[Any, ...]], other: sql.Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """Two summaries as one."""
    counts = {name: getattr(one, name) + getattr(other, name) for name in COUNTS}
    scored = [row for row in (one, other) if row.scored]
    evidence = [row.evidence for row in (one, other) if row.evidence is not None]
    return {
        **counts,
        "lowest": min((row.lowest for row in scored), default=None),
        "mean": sum(row.mean * row.scored for row in scored) / counts["scored"] if scored else None,
        "highest": max((row.highest for row in scored), default=None),
        "evidence": max(evidence, default=None),
    }
