"""What the watcher writes: machines, recordings, windows, events, and how to go on.

Conventions
-----------
``c`` is a connection that writes (``database.Database.writing``). All that follows from a window is written in the
transaction in which ``save_progress`` passes it. So whoever is killed goes on with the next window, and knows
exactly what was known then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sql

from nearfar.evidence.contents import plain
from nearfar.listening.events import Event, event_to
from nearfar.logbook import journal
from nearfar.logbook.schema import MODES, events, machines, recordings, windows
from nearfar.logbook.schema import journal as journal_table


@dataclass(frozen=True, slots=True)
class MachineTold:
    """What the site's file and the detector say of a machine.

    Attributes
    ----------
    name : str
    detector : str
        Its folder.
    detector_digest : str
        Of everything in it that makes its verdicts.
    system : str
    window_s, hop_s : float
        Seconds.
    threshold : float or None
        Of the score; ``None`` if there is none.
    false_alerts : str
        Such as "1 per 30 days".
    """

    name: str
    detector: str
    detector_digest: str
    system: str
    window_s: float
    hop_s: float
    threshold: float | None
    false_alerts: str


@dataclass(frozen=True, slots=True)
class MachineRow:
    """What the logbook knows of a machine.

    Attributes
    ----------
    id : int
    mode : str
        One of ``schema.MODES``, as it was left.
    heard_until_at : float or None
        The end of the last window.
    steps : mapping or None
        What ``save_progress`` was given; ``None`` if nothing was heard, or if it was heard in another way: by
        another detector, in other windows, or with another rule for alerts.
    is_new : bool
        Whether it was not there before.
    was_changed : bool
        Whether it is heard in another way than before.
    """

    id: int
    mode: str
    heard_until_at: float | None
    steps: Mapping[str, Any] | None
    is_new: bool
    was_changed: bool


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A recording that was begun.

    Attributes
    ----------
    id : int
    key, name : str
    path : str or None
        Of a file that can be read again.
    began_at : float
    next_window : int
        How many of its windows are in the logbook, so the number of the next.
    finished : bool
    """

    id: int
    key: str
    name: str
    path: str | None
    began_at: float
    next_window: int
    finished: bool


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A window, as it is kept; what is not known is None or NaN.

    Attributes
    ----------
    number : int
        In its recording, from 0.
    begins_at, seconds : float
    score, p_value : float or None
    decision : str
        As of ``Verdict``; "paused" in a pause.
    evidence : float or None
        Of the rule for alerts, 0 to 1.
    near_db, far_db : float or None
        How loud each microphone is.
    told : str
        Faults and errors, in words.
    """

    number: int
    begins_at: float
    seconds: float
    score: float | None
    p_value: float | None
    decision: str
    evidence: float | None = None
    near_db: float | None = None
    far_db: float | None = None
    told: str = ""


@dataclass(frozen=True, slots=True)
class Latest:
    """What is known of a machine after its last window.

    Attributes
    ----------
    heard_until_at : float
        The end of this window.
    score : float or None
        None or NaN: the one before stays.
    decision : str
    evidence : float or None
    running : bool or None
    """

    heard_until_at: float
    score: float | None
    decision: str
    evidence: float | None
    running: bool | None


WAY = (
    "detector_digest",
    "window_s",
    "hop_s",
    "false_alerts",
)  # a machine's steps go on only if these are as before
RECORDING = (
    recordings.c.id, recordings.c.key, recordings.c.name, recordings.c.path, recordings.c.began_at,
    recordings.c.next_window, recordings.c.finished,
)  # fmt: skip


# Statements that are written for each window are made once.

_WINDOW = tuple(field.name for field in fields(WindowRow))
_LATEST = tuple(field.name for field in fields(Latest))
_ADDED = sql.insert(windows)
_PASSED = (
    sql.update(recordings)
    .where(recordings.c.id == sql.bindparam("of"))
    .values(next_window=sql.bindparam("next"), written_at=sql.bindparam("now"))
)
_KNOWN = sql.select(*RECORDING).where(
    recordings.c.machine_id == sql.bindparam("machine_id"), recordings.c.key == sql.bindparam("key")
)
_BEGUN = sql.insert(recordings)
_ENDED = (
    sql.update(recordings)
    .where(recordings.c.id == sql.bindparam("of"))
    .values(
        seconds=sql.bindparam("length"),
        error=sql.bindparam("why"),
        finished=True,
        written_at=sql.bindparam("now"),
    )
)
_NEW = {
    name: sql.bindparam(f"new_{name}", type_=machines.c[name].type)
    for name in ("heard_until_at", "score", "decision", "evidence", "running", "steps")
}
_LEARNT = (
    sql.update(machines)
    .where(machines.c.id == sql.bindparam("of"))
    .values(
        {
            **_NEW,
            "score": sql.func.coalesce(_NEW["score"], machines.c.score),
            "written_at": sql.bindparam("now"),
        }
    )
)


def open_machine(c: sql.Connection, told: MachineTold, *, now: float) -> MachineRow:
    """A machine by its name: what is told of it, and what is known.

    If it is heard in another way than before, or is new, the journal says so ("detector"). An alert that is active
    stays active.

    Parameters
    ----------
    c : Connection
    told : MachineTold
    now : float
    """
    values = asdict(told)
    known = c.execute(sql.select(machines).where(machines.c.name == told.name)).mappings().one_or_none()
    if known is None:
        values |= {"mode": "stopped", "mode_since_at": now, "written_at": now}
        machine_id = _inserted(c, sql.insert(machines), values)
        _note_detector(c, machine_id, told, before=None, now=now)
        return MachineRow(machine_id, "stopped", None, None, is_new=True, was_changed=False)
    machine_id, before = known["id"], {name: known[name] for name in WAY}
    changed = before != {name: values[name] for name in WAY}
    if changed:
        values["steps"] = None
        _note_detector(c, machine_id, told, before=before, now=now)
    c.execute(sql.update(machines).where(machines.c.id == machine_id).values(**values, written_at=now))
    steps = None if changed or known["steps"] is None else json.loads(known["steps"])
    return MachineRow(
        machine_id, known["mode"], known["heard_until_at"], steps, is_new=False, was_changed=changed
    )


def cut_of(c: sql.Connection, name: str) -> tuple[float, float] | None:
    """How the windows of a machine lay until now: their length and hop in seconds; ``None`` if it is new."""
    row = c.execute(sql.select(machines.c.window_s, machines.c.hop_s).where(machines.c.name == name)).first()
    return None if row is None else (row.window_s, row.hop_s)


def remove_others(c: sql.Connection, names: Sequence[str], *, now: float) -> list[int]:
    """Machines that the site's file does not name any more are "removed"; the ids of those that were not yet."""
    query = sql.select(machines.c.id).where(machines.c.name.not_in(names), machines.c.mode != "removed")
    found = [int(one) for one in c.execute(query).scalars()]
    for machine_id in found:
        set_mode(c, machine_id, "removed", at=now, now=now, told="not in the site's file any more")
    return found


def set_mode(c: sql.Connection, machine_id: int, mode: str, *, at: float, now: float, told: str = "") -> bool:
    """What a machine's listening does, and since when; the journal says so ("mode") if it or its reason changes.

    Returns
    -------
    changed : bool

    Raises
    ------
    ValueError
        If there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: must be one of {', '.join(MODES)}")
    before = c.execute(sql.select(machines.c.mode).where(machines.c.id == machine_id)).scalar_one()
    if before == mode and (not told or told == _reason(c, machine_id)):
        return False
    if before != mode:
        c.execute(
            sql.update(machines)
            .where(machines.c.id == machine_id)
            .values(mode=mode, mode_since_at=at, written_at=now)
        )
    content = {"mode": mode, "before": before, "told": told}
    journal.note(c, machine_id=machine_id, what="mode", at=at, now=now, content=content)
    return True


def _reason(c: sql.Connection, machine_id: int) -> str:
    """What was told of a machine's mode when it was last written to the journal."""
    table = journal_table.c
    query = (
        sql.select(table.content)
        .where(table.machine_id == machine_id, table.what == "mode")
        .order_by(table.id.desc())
        .limit(1)
    )
    found = c.execute(query).scalar()
    return "" if found is None else str(json.loads(found)["told"])


def begin_recording(  # noqa: PLR0913  # the columns of a recording
    c: sql.Connection,
    machine_id: int,
    *,
    key: str,
    name: str,
    path: str | None,
    began_at: float,
    rate: int | None,
    channels: int | None,
    now: float,
) -> RecordingRow:
    """A recording, by its key: as it is known, or as it begins.

    Parameters
    ----------
    c : Connection
    machine_id : int
    key : str
        The same recording has the same key, another one another.
    name : str
        What people read.
    path : str or None
        Of a file that can be read again. It may have moved since it was begun.
    began_at : float
        When its first sample was recorded. Of one that is known, the first answer stays.
    rate, channels : int or None
        Hertz; ``None`` if nothing of it can be read.
    now : float
    """
    row = c.execute(_KNOWN, {"machine_id": machine_id, "key": key}).one_or_none()
    if row is None:
        values = {
            "machine_id": machine_id, "key": key, "name": name, "path": path, "began_at": began_at, "rate": rate,
            "channels": channels, "next_window": 0, "finished": False, "error": "", "written_at": now,
        }  # fmt: skip
        return RecordingRow(_inserted(c, _BEGUN, values), key, name, path, began_at, 0, False)
    if (row.name, row.path) != (name, path):
        c.execute(sql.update(recordings).where(recordings.c.id == row.id).values(name=name, path=path))
    return RecordingRow(row.id, row.key, name, path, row.began_at, row.next_window, row.finished)


def is_finished(c: sql.Connection, machine_id: int, key: str) -> bool:
    """Whether a recording was heard to its end. This only reads."""
    row = c.execute(_KNOWN, {"machine_id": machine_id, "key": key}).one_or_none()
    return row is not None and bool(row.finished)


def finished_keys(c: sql.Connection, machine_id: int) -> Iterator[str]:
    """The keys of all recordings of a machine that were heard to their end. This only reads."""
    where = (recordings.c.machine_id == machine_id, recordings.c.finished)
    for keys in c.execute(sql.select(recordings.c.key).where(*where)).scalars().partitions(1000):
        yield from keys


def unfinished(c: sql.Connection, machine_id: int) -> list[RecordingRow]:
    """Recordings of a machine that were begun and not finished, in the order in which they were begun."""
    where = (recordings.c.machine_id == machine_id, recordings.c.finished == sql.false())
    rows = c.execute(sql.select(*RECORDING).where(*where).order_by(recordings.c.id))
    return [RecordingRow(*row) for row in rows]


def add_windows(c: sql.Connection, machine_id: int, recording_id: int, rows: Sequence[WindowRow]) -> None:
    """Windows that were heard, in order.

    Raises
    ------
    sqlalchemy.exc.IntegrityError
        If one of them was written before: the caller has lost its place.
    """
    if rows:
        of = {"machine_id": machine_id, "recording_id": recording_id}
        c.execute(_ADDED, [{**of, **{name: getattr(row, name) for name in _WINDOW}} for row in rows])


def add_event(
    c: sql.Connection,
    machine_id: int,
    recording_id: int,
    event: Event,
    *,
    began_at: float,
    sound: str | None,
    now: float,
) -> int:
    """An event that is over. The journal says so ("event"), at the event's end.

    Parameters
    ----------
    c : Connection
    machine_id, recording_id : int
    event : Event
    began_at : float
        When the recording began.
    sound : str or None
        Name of a file in the folder of sounds.
    now : float

    Returns
    -------
    event_id : int
    """
    values = {
        "machine_id": machine_id, "recording_id": recording_id,
        "begins_at": began_at + event.start, "ends_at": began_at + event.end,
        "peak_begins_at": began_at + event.peak_start, "peak_ends_at": began_at + event.peak_end,
        "peak_score": event.peak_score, "p_value": event.p_value,
        "windows": event.windows, "anomalous": event.anomalous, "unusable": event.unusable,
        "content": journal.as_json(event_to(event)), "sound": sound,
    }  # fmt: skip
    event_id = _inserted(c, sql.insert(events), values)
    content = {
        name: values[name]
        for name in (
            "begins_at",
            "ends_at",
            "peak_score",
            "p_value",
            "windows",
            "anomalous",
            "unusable",
            "sound",
        )
    }
    journal.note(
        c,
        machine_id=machine_id,
        what="event",
        at=began_at + event.end,
        now=now,
        event_id=event_id,
        content=content,
    )
    return event_id


def finish_recording(
    c: sql.Connection, recording_id: int, *, seconds: float | None, error: str, now: float
) -> None:
    """A recording was heard to its end.

    Parameters
    ----------
    c : Connection
    recording_id : int
    seconds : float or None
        How long it is; ``None`` if nothing of it can be read.
    error : str
        Why it ended, if not as it should; else "".
    now : float
    """
    c.execute(_ENDED, {"of": recording_id, "length": seconds, "why": error, "now": now})


def save_progress(
    c: sql.Connection,
    machine_id: int,
    recording_id: int,
    *,
    next_window: int,
    steps: Mapping[str, Any],
    latest: Latest,
    now: float,
) -> None:
    """All windows before this one are in the logbook, with everything that follows from them.

    Parameters
    ----------
    c : Connection
    machine_id, recording_id : int
    next_window : int
    steps : mapping
        What events and rules know, as JSON values; ``open_machine`` gives it back.
    latest : Latest
    now : float
    """
    c.execute(_PASSED, {"of": recording_id, "next": next_window, "now": now})
    told = {f"new_{name}": getattr(latest, name) for name in _LATEST}
    c.execute(_LEARNT, {"of": machine_id, **told, "new_steps": json.dumps(steps), "now": now})


def _note_detector(
    c: sql.Connection, machine_id: int, told: MachineTold, *, before: Mapping[str, Any] | None, now: float
) -> None:
    content = {
        **{name: plain(value) for name, value in asdict(told).items() if name != "name"},
        "before": before,
    }
    journal.note(c, machine_id=machine_id, what="detector", at=now, now=now, content=content)


def _inserted(c: sql.Connection, statement: sql.Insert, values: Mapping[str, Any]) -> int:
    """The id of the row that is inserted."""
    key = c.execute(statement, values).inserted_primary_key
    assert key is not None  # SQLAlchemy types it as optional
    return int(key[0])
