"""What happens to conditions and alerts, and what people do about them: written, and told in the journal.

Conventions
-----------
* ``c`` is a connection that writes, alone (``database.Database.writing``). Whoever opened it rolls back what was
  written, if a function raises.
* What is *heard* (activated, cleared, suppressed, unsuppressed) comes with ``at``, by the clock of the recording.
  If the same is heard again, nothing is written, and ``None`` is returned.
* What people *do* happens ``now``. What the life cycle refuses raises ``LifeCycleError``.
* A shelf whose time is over hides nothing, even if ``expire`` was not called: each function that writes ends it
  first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sql

from nearfar.files.names import printable
from nearfar.logbook import journal, schema
from nearfar.logbook.life_cycle import SEVERITIES, Alert, Condition, LifeCycleError, Standing, What

HIGHEST_SEVERITY = 1000  # OPC UA Part 5, 6.4.2
LARGEST_KEY = 2**63 - 1  # of a BIGINT

_Row = sql.RowMapping


class _Key(NamedTuple):
    """Which condition."""

    machine_id: int
    condition: Condition


@dataclass(frozen=True, slots=True)
class _Deed:
    """When something happens, and who does it."""

    at: float
    now: float
    by: str = ""
    comment: str = ""


def _deed(now: float, by: str, comment: str = "") -> _Deed:
    """What somebody does, if the name and the comment can be taken."""
    journal.checked_comment(comment)
    return _Deed(now, now, journal.checked_by(by), comment)


# what is heard


def activate(  # noqa: PLR0913  # the columns of an alert
    c: sql.Connection,
    machine_id: int,
    condition: Condition,
    *,
    at: float,
    since: float,
    message: str,
    now: float,
    severity: int | None = None,
    score: float | None = None,
    sound: str | None = None,
    content: Mapping[str, Any] | None = None,
) -> int | None:
    """A condition becomes active: a new alert.

    A former alert of the condition that is not acknowledged stays retained, until somebody acknowledges it.

    Parameters
    ----------
    condition : str
        One of ``life_cycle.CONDITIONS``.
    at, since : float
        When it became active, and the likely beginning of what is wrong.
    message : str
        What is wrong, in a sentence.
    severity : int or None
        1 to 1000; ``None``: that of ``life_cycle.SEVERITIES``.
    sound : str or None
        Name of its file in the folder of sounds.
    content : mapping or None
        What the journal tells beside this, as JSON values: "more" in ``journal.CONTENT``.

    Returns
    -------
    alert_id : int or None
        ``None`` if it is active already, or if this very alert was written before: with the same ``at``, ``since``
        and score.

    Raises
    ------
    LookupError
        If there is no such machine.
    ValueError
        If there is no such condition, or if the severity is out of range.
    """
    key = _key(c, machine_id, condition)
    severity = SEVERITIES[condition] if severity is None else severity
    if not 1 <= severity <= HIGHEST_SEVERITY:
        raise ValueError(f"severity={severity}: must be 1 to {HIGHEST_SEVERITY}")
    score = None if score is None or not math.isfinite(score) else float(score)
    if _active_alert(c, key) is not None or _is_known(c, key, at, since, score):
        return None
    standing = _standing(c, key, now)
    told = {"severity": severity, "message": printable(message), "score": score, "sound": sound}
    alert = _new_alert(c, key, since_at=since, began_at=at, **told)
    _tell(c, "activated", key, alert, standing, _Deed(at, now), more=dict(content or {}))
    return int(alert["id"])


def clear(
    c: sql.Connection, machine_id: int, condition: Condition, *, at: float, now: float, reason: str = ""
) -> int | None:
    """A condition becomes inactive. If its alert is acknowledged, that is over. A shelf of one shot ends.

    Parameters
    ----------
    c : Connection
    machine_id : int
    condition : str
    at, now : float
    reason : str
        Why, if not because what was wrong is over.

    Returns
    -------
    alert_id : int or None
        ``None`` if it is not active, or if an alert before this one was cleared at that time.

    Raises
    ------
    LookupError
        If there is no such machine.
    ValueError
        If there is no such condition.
    """
    key = _key(c, machine_id, condition)
    alert = _active_alert(c, key)
    if alert is None or (at < alert["began_at"] and _happened(c, key, "cleared", at)):
        return None
    standing, deed = _standing(c, key, now), _Deed(at, now)
    # what was recorded before may come in later, as from a recorder that was away: no alert ends before it began
    alert = _save_alert(c, alert, _state(alert).clear(), ended_at=max(at, alert["began_at"]))
    _tell(c, "cleared", key, alert, standing, deed, reason=printable(reason))
    if not alert["retained"]:
        _tell(c, "re-armed", key, alert, standing, deed, after="cleared")
    after = standing.after_clear()
    if after != standing:
        _save_standing(c, key, after)
        _tell(c, "unshelved", key, alert, after, deed, ended="cleared")
    return int(alert["id"])


def is_active(c: sql.Connection, machine_id: int, condition: Condition) -> bool:
    """Whether a condition is active."""
    return _active_alert(c, _Key(machine_id, condition)) is not None


def suppress(
    c: sql.Connection, machine_id: int, condition: Condition, *, at: float, now: float, reason: str
) -> int | None:
    """Sensors of a condition are at fault: it is not annunciated until they are well again.

    Returns
    -------
    journal_id : int or None
        ``None`` if it is suppressed already, or was suppressed at that very time.

    Raises
    ------
    LookupError
        If there is no such machine.
    ValueError
        If there is no such condition.
    """
    key = _key(c, machine_id, condition)
    if _saved_standing(c, key).suppressed or _happened(c, key, "suppressed", at):
        return None
    return _change(c, key, Standing.suppress, "suppressed", _Deed(at, now), reason=printable(reason))


def unsuppress(
    c: sql.Connection, machine_id: int, condition: Condition, *, at: float, now: float
) -> int | None:
    """Sensors of a condition are well again. If it is active and nothing else hides it, it is annunciated.

    Returns
    -------
    journal_id : int or None
        ``None`` if it is not suppressed, or if a suppression before this one ended at that very time.

    Raises
    ------
    LookupError
        If there is no such machine.
    ValueError
        If there is no such condition.
    """
    key = _key(c, machine_id, condition)
    if not _saved_standing(c, key).suppressed:
        return None
    if _happened(c, key, "unsuppressed", at) and at < _last(c, key, "suppressed"):
        return None
    return _change(c, key, Standing.unsuppress, "unsuppressed", _Deed(at, now))


def add_evidence(
    c: sql.Connection,
    alert_id: int,
    *,
    at: float,
    now: float,
    evidence: Mapping[str, Any] | None = None,
    error: str = "",
) -> int | None:
    """What speaks for an alert, made after it was told.

    Parameters
    ----------
    c : Connection
    alert_id : int
    at, now : float
    evidence : mapping or None
        As of ``evidence.explanation.Explanation.content``.
    error : str
        Why there is none.

    Returns
    -------
    journal_id : int or None
        ``None`` if the alert has evidence already, or the same error.

    Raises
    ------
    LookupError
        If there is no such alert.
    ValueError
        If neither evidence nor an error is given, or both.
    """
    if (evidence is None) == (not error):
        raise ValueError(
            "evidence of an alert: give either the evidence, or the error for which there is none"
        )
    alert, error = _alert(c, alert_id), printable(error)
    if alert["evidence"] is not None or (evidence is None and alert["evidence_error"] == error):
        return None
    text = None if evidence is None else journal.as_json(evidence)
    c.execute(
        sql.update(schema.alerts)
        .where(schema.alerts.c.id == alert_id)
        .values(evidence=text, evidence_error=error)
    )
    words = [reason["words"] for reason in (evidence or {}).get("reasons", ())]
    key = _key_of(alert)
    return _tell(c, "evidence", key, alert, _standing(c, key, now), _Deed(at, now), words=words, error=error)


def expire(c: sql.Connection, *, now: float) -> int:
    """End the shelves whose time is over. What is active then, and not hidden otherwise, is annunciated again.

    Returns
    -------
    ended : int
        How many.
    """
    table = schema.conditions
    over = c.execute(
        sql.select(table.c.machine_id, table.c.condition)
        .where(table.c.shelved_until_at <= now)
        .order_by(table.c.shelved_until_at, table.c.machine_id, table.c.condition)
    ).all()
    for machine_id, condition in over:
        _standing(c, _Key(machine_id, condition), now)
    return len(over)


# what people do


def acknowledge(c: sql.Connection, alert_id: int, *, now: float, by: str, comment: str = "") -> int:
    """Somebody knows of an alert. If it is not active any more, it is over: re-armed.

    Returns
    -------
    journal_id : int

    Raises
    ------
    LookupError
        If there is no such alert.
    LifeCycleError
        If it is acknowledged already.
    ValueError
        If the name or the comment cannot be taken (``journal.checked_by``, ``journal.checked_comment``).
    """
    deed, alert = _deed(now, by, comment), _alert(c, alert_id)
    try:
        state = _state(alert).acknowledge()
    except LifeCycleError as error:
        raise error.of(f"alert {alert_id}") from None
    key = _key_of(alert)
    standing = _standing(c, key, now)
    alert = _save_alert(c, alert, state)
    told = _tell(c, "acknowledged", key, alert, standing, deed)
    if not alert["retained"]:
        _tell(c, "re-armed", key, alert, standing, _Deed(now, now), after="acknowledged")
    return told


def comment(c: sql.Connection, alert_id: int, *, now: float, by: str, comment: str) -> int:
    """Somebody says something about an alert, in whatever state it is.

    Returns
    -------
    journal_id : int

    Raises
    ------
    LookupError
        If there is no such alert.
    ValueError
        If the comment is empty; or as of ``acknowledge``.
    """
    deed, alert = _deed(now, by, comment), _alert(c, alert_id)
    if not journal.checked_comment(comment):
        raise ValueError("comment: it is empty; say something")
    key = _key_of(alert)
    return _tell(c, "commented", key, alert, _standing(c, key, now), deed)


def shelve(
    c: sql.Connection,
    machine_id: int,
    condition: Condition,
    *,
    now: float,
    by: str,
    until: float | None = None,
    comment: str = "",
) -> int:
    """Somebody does not want to be told of a condition for a while, whether it is active or not.

    Parameters
    ----------
    c : Connection
    machine_id : int
    condition : str
    now : float
    by : str
    until : float or None
        When the shelf ends. ``None``: when the condition becomes inactive (one shot), or after
        ``life_cycle.LONGEST_SHELF_S``.
    comment : str

    Returns
    -------
    journal_id : int

    Raises
    ------
    LookupError
        If there is no such machine.
    LifeCycleError
        If it is shelved in this way already, or if the time cannot be taken.
    ValueError
        If there is no such condition; or as of ``acknowledge``.
    """
    key, deed = _key(c, machine_id, condition), _deed(now, by, comment)
    return _change(c, key, lambda standing: standing.shelve(now=now, until=until), "shelved", deed)


def unshelve(
    c: sql.Connection, machine_id: int, condition: Condition, *, now: float, by: str, comment: str = ""
) -> int:
    """Somebody wants to be told again. If the condition is active and nothing else hides it, it is annunciated.

    Returns
    -------
    journal_id : int

    Raises
    ------
    LookupError
        If there is no such machine.
    LifeCycleError
        If it is not shelved.
    ValueError
        If there is no such condition; or as of ``acknowledge``.
    """
    key, deed = _key(c, machine_id, condition), _deed(now, by, comment)
    return _change(c, key, Standing.unshelve, "unshelved", deed, ended="by hand")


def take_out_of_service(
    c: sql.Connection, machine_id: int, condition: Condition, *, now: float, by: str, comment: str = ""
) -> int:
    """Somebody works on the machine or its microphones: the condition is not annunciated until it is returned.

    Returns
    -------
    journal_id : int

    Raises
    ------
    LookupError
        If there is no such machine.
    LifeCycleError
        If it is out of service already.
    ValueError
        If there is no such condition; or as of ``acknowledge``.
    """
    key, deed = _key(c, machine_id, condition), _deed(now, by, comment)
    return _change(c, key, Standing.take_out_of_service, "out of service", deed)


def return_to_service(
    c: sql.Connection, machine_id: int, condition: Condition, *, now: float, by: str, comment: str = ""
) -> int:
    """The work is done. If the condition is active and nothing else hides it, it is annunciated.

    Returns
    -------
    journal_id : int

    Raises
    ------
    LookupError
        If there is no such machine.
    LifeCycleError
        If it is in service.
    ValueError
        If there is no such condition; or as of ``acknowledge``.
    """
    key, deed = _key(c, machine_id, condition), _deed(now, by, comment)
    return _change(c, key, Standing.return_to_service, "in service", deed)


def mark_normal(
    c: sql.Connection,
    *,
    now: float,
    by: str,
    alert_id: int | None = None,
    event_id: int | None = None,
    comment: str = "",
) -> int:
    """Somebody says that what was heard was normal: its sound is for ``learn``.

    It neither acknowledges nor clears an alert.

    Parameters
    ----------
    c : Connection
    now : float
    by : str
    alert_id, event_id : int or None
        One of them.
    comment : str

    Returns
    -------
    normal_id : int
        Of the table of normal sounds.

    Raises
    ------
    LookupError
        If there is no such alert or event.
    LifeCycleError
        If it was marked already, or if its sound is not kept.
    ValueError
        If both are given, or neither; or as of ``acknowledge``.
    """
    deed = _deed(now, by, comment)
    subject, found, marked = _heard(c, alert_id, event_id)
    before = c.execute(sql.select(schema.normals.c.by).where(marked)).scalar()
    if before is not None:
        raise LifeCycleError(f"{subject}: {before} has marked it as normal already", "Bad_InvalidState")
    if not found["sound"]:
        raise LifeCycleError(
            f"{subject}: its sound is not kept, so nothing can be learnt of it", "Bad_NotFound"
        )
    of = {"machine_id": found["machine_id"], "alert_id": alert_id, "event_id": event_id}
    values = {**of, "sound": found["sound"], "at": now, "by": deed.by}
    key = c.execute(sql.insert(schema.normals).values(values)).inserted_primary_key
    assert key is not None  # SQLAlchemy types it as optional
    told: dict[str, Any] = {
        "condition": found.get("condition"),
        "content": {"normal_id": key[0], "sound": found["sound"]},
    }
    journal.note(c, what="normal", at=now, now=now, by=deed.by, comment=comment, **of, **told)
    return int(key[0])


# rows


def _key(c: sql.Connection, machine_id: int, condition: Condition) -> _Key:
    """A condition that there is."""
    journal.checked_condition(condition)
    _machine_name(c, machine_id)
    return _Key(machine_id, condition)


def _key_of(alert: _Row) -> _Key:
    return _Key(alert["machine_id"], alert["condition"])


def _machine_name(c: sql.Connection, machine_id: int) -> str:
    table = schema.machines
    name = c.execute(sql.select(table.c.name).where(table.c.id == machine_id)).scalar()
    if name is None:
        raise LookupError(f"machine {machine_id}: there is no such machine in the logbook")
    return str(name)


def _alert(c: sql.Connection, alert_id: int) -> _Row:
    return _of(c, schema.alerts, "alert", alert_id)


def _event(c: sql.Connection, event_id: int) -> _Row:
    return _of(c, schema.events, "event", event_id)


def _of(c: sql.Connection, table: sql.Table, kind: str, key: int) -> _Row:
    row = None
    if key <= LARGEST_KEY:  # SQLite cannot even ask for a larger one
        row = c.execute(sql.select(table).where(table.c.id == key)).mappings().first()
    if row is None:
        raise LookupError(f"{kind} {key}: there is no such {kind} in the logbook")
    return row


def _heard(
    c: sql.Connection, alert_id: int | None, event_id: int | None
) -> tuple[str, _Row, sql.ColumnElement[bool]]:
    """What a mark is about: in words, its row, and the marks of it that there are."""
    if alert_id is not None and event_id is None:
        return f"alert {alert_id}", _alert(c, alert_id), schema.normals.c.alert_id == alert_id
    if event_id is not None and alert_id is None:
        return f"event {event_id}", _event(c, event_id), schema.normals.c.event_id == event_id
    raise ValueError("what was normal: give either an alert or an event")


def _active_alert(c: sql.Connection, key: _Key) -> _Row | None:
    """The alert that is on; there is one at most."""
    table = schema.alerts
    where = (table.c.machine_id == key.machine_id, table.c.condition == key.condition, table.c.active)
    return c.execute(sql.select(table).where(*where)).mappings().first()


def _is_known(c: sql.Connection, key: _Key, at: float, since: float, score: float | None) -> bool:
    """Whether this very alert was written before. Another at the same time is one by a clock that was set back."""
    table = schema.alerts
    where = (table.c.machine_id == key.machine_id, table.c.condition == key.condition, table.c.began_at == at)
    found = c.execute(sql.select(table.c.since_at, table.c.score).where(*where)).all()
    return (since, score) in [tuple(row) for row in found]


def _happened(c: sql.Connection, key: _Key, what: What, at: float) -> bool:
    """Whether it was written before, with the same time."""
    table = schema.journal
    where = (table.c.machine_id == key.machine_id, table.c.at == at, table.c.condition == key.condition)
    return c.execute(sql.select(table.c.id).where(*where, table.c.what == what)).first() is not None


def _last(c: sql.Connection, key: _Key, what: What) -> float:
    """When it last happened, in the order in which it was written."""
    table = schema.journal
    where = (table.c.machine_id == key.machine_id, table.c.condition == key.condition, table.c.what == what)
    return float(
        c.execute(sql.select(table.c.at).where(*where).order_by(table.c.id.desc()).limit(1)).scalar_one()
    )


def _state(alert: _Row) -> Alert:
    return Alert(active=alert["active"], acked=alert["acked"])


def _new_alert(c: sql.Connection, key: _Key, **columns: Any) -> _Row:
    state = Alert()
    flags = {"active": state.active, "acked": state.acked, "retained": state.retained}
    values = {**key._asdict(), **flags, "evidence_error": "", **columns}
    inserted = c.execute(sql.insert(schema.alerts).values(values)).inserted_primary_key
    assert inserted is not None  # SQLAlchemy types it as optional
    return _alert(c, inserted[0])


def _save_alert(c: sql.Connection, alert: _Row, state: Alert, **columns: float) -> _Row:
    """The alert as it is then."""
    values = {"active": state.active, "acked": state.acked, "retained": state.retained, **columns}
    c.execute(sql.update(schema.alerts).where(schema.alerts.c.id == alert["id"]).values(values))
    return _alert(c, alert["id"])


def _saved_standing(c: sql.Connection, key: _Key) -> Standing:
    """As it was written last; a condition without a row is as a new one."""
    table = schema.conditions
    columns = [table.c[name] for name in journal.STANDING]
    where = (table.c.machine_id == key.machine_id, table.c.condition == key.condition)
    row = c.execute(sql.select(*columns).where(*where)).mappings().first()
    return Standing() if row is None else Standing(**row)


def _save_standing(c: sql.Connection, key: _Key, standing: Standing) -> None:
    table, values = schema.conditions, asdict(standing)
    where = (table.c.machine_id == key.machine_id, table.c.condition == key.condition)
    if c.execute(sql.update(table).where(*where).values(values)).rowcount == 0:
        c.execute(sql.insert(table).values(**key._asdict(), **values))


def _standing(c: sql.Connection, key: _Key, now: float) -> Standing:
    """As it is now: a shelf whose time is over ends first."""
    before = _saved_standing(c, key)
    if before.shelved_until_at is None or not before.is_over(now):
        return before
    after, deed = before.unshelve(), _Deed(before.shelved_until_at, now)
    _become(c, key, after, "unshelved", deed, ended="time")
    return after


def _change(
    c: sql.Connection,
    key: _Key,
    step: Callable[[Standing], Standing],
    what: What,
    deed: _Deed,
    **particulars: Any,
) -> int:
    """Take a step of the life cycle, and tell it.

    Returns
    -------
    journal_id : int
    """
    try:
        after = step(_standing(c, key, deed.now))
    except LifeCycleError as error:
        raise error.of(f"{_machine_name(c, key.machine_id)}, {key.condition}") from None
    return _become(c, key, after, what, deed, **particulars)


def _become(
    c: sql.Connection,
    key: _Key,
    standing: Standing,
    what: What,
    deed: _Deed,
    **particulars: Any,
) -> int:
    """Write another standing, and tell it. If nothing hides an active alert any more, it is annunciated."""
    alert = _active_alert(c, key)
    _save_standing(c, key, standing)
    told = _tell(c, what, key, alert, standing, deed, **particulars)
    if alert is not None and standing.annunciates:
        _tell(c, "annunciated", key, alert, standing, _Deed(deed.at, deed.now), after=what)
    return told


def _tell(
    c: sql.Connection,
    what: What,
    key: _Key,
    alert: _Row | None,
    standing: Standing,
    deed: _Deed,
    **particulars: Any,
) -> int:
    """A row of the journal, with what ``journal.CONTENT`` states."""
    content = {
        "alert": None if alert is None else {name: alert[name] for name in journal.ALERT},
        "standing": asdict(standing),
        "was_annunciated": alert is not None and _was_annunciated(c, alert["id"]),
        **particulars,
    }
    return journal.note(
        c,
        **key._asdict(),
        what=what,
        at=deed.at,
        now=deed.now,
        alert_id=None if alert is None else alert["id"],
        by=deed.by,
        comment=deed.comment,
        annunciated=standing.annunciates,
        content=content,
    )


def _was_annunciated(c: sql.Connection, alert_id: int) -> bool:
    """Whether people were told of an alert before."""
    table = schema.journal
    where = (
        table.c.alert_id == alert_id,
        table.c.what.in_(("activated", "annunciated")),
        table.c.annunciated,
    )
    return c.execute(sql.select(table.c.id).where(*where).limit(1)).first() is not None
