"""What happens to conditions and alerts, and what people do about them: written, and told in the journal.

Conventions
-----------
* ``c`` is a connection that writes, alone (``database.Database.writing``). A function writes all of its rows or, if
  it raises, none; the caller rolls back.
* What is *heard* (activated, cleared, suppressed, unsuppressed) comes with ``at``, by the clock of the recording. If
  the same is heard again, nothing is written, and ``None`` is returned: state and journal stay as they are.
* What people *do* happens ``now``. Whatever the life cycle refuses raises ``LifeCycleError``, and writes nothing.
* A shelf whose time is over hides nothing, even if ``expire`` has not been called: each function that writes ends
  it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sql

from nearfar.files.names import printable
from nearfar.logbook import journal, schema
from nearfar.logbook.life_cycle import SEVERITIES, Alert, Condition, LifeCycleError, Standing, What

HIGHEST_SEVERITY = 1000  # OPC UA Part 5, 6.4.2

_Row = sql.RowMapping


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
    c : Connection
    machine_id : int
    condition : str
        One of ``life_cycle.CONDITIONS``.
    at : float
        When it became active.
    since : float
        The likely beginning of what is wrong.
    message : str
        What is wrong, in a sentence.
    now : float
    severity : int or None
        1 to 1000; ``None``: that of ``life_cycle.SEVERITIES``.
    score : float or None
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
    _machine(c, machine_id)
    journal.checked_condition(condition)
    severity = SEVERITIES[condition] if severity is None else severity
    if not 1 <= severity <= HIGHEST_SEVERITY:
        raise ValueError(f"severity={severity}: must be 1 to {HIGHEST_SEVERITY}")
    if is_active(c, machine_id, condition) or _is_known(c, machine_id, condition, at, since, score):
        return None
    standing = _standing(c, machine_id, condition, now)
    inserted = c.execute(
        sql.insert(schema.alerts).values(
            machine_id=machine_id,
            condition=condition,
            severity=severity,
            message=printable(message),
            since_at=since,
            began_at=at,
            active=True,
            acked=False,
            retained=True,
            score=score,
            sound=sound,
            evidence_error="",
        )
    ).inserted_primary_key
    assert inserted is not None  # SQLAlchemy types it as optional
    alert = _alert(c, int(inserted[0]))
    _tell(c, "activated", alert, standing, at=at, now=now, more=dict(content or {}))
    return int(alert["id"])


def clear(
    c: sql.Connection, machine_id: int, condition: Condition, *, at: float, now: float
) -> int | None:
    """A condition becomes inactive. If its alert is acknowledged, that is over. A shelf of one shot ends.

    Parameters
    ----------
    c : Connection
    machine_id : int
    condition : str
    at, now : float

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
    _machine(c, machine_id)
    journal.checked_condition(condition)
    alert = _active_alert(c, machine_id, condition)
    if alert is None or (at < alert["began_at"] and _ended_at(c, machine_id, condition, at)):
        return None
    standing = _standing(c, machine_id, condition, now)
    alert = _save_alert(c, alert, _state(alert).clear(), ended_at=at)
    _tell(c, "cleared", alert, standing, at=at, now=now)
    if not alert["retained"]:
        _tell(c, "re-armed", alert, standing, at=at, now=now, after="cleared")
    after = standing.after_clear()
    if after != standing:
        _save_standing(c, machine_id, condition, after)
        _tell(c, "unshelved", alert, after, at=at, now=now, ended="cleared")
    return int(alert["id"])


def is_active(c: sql.Connection, machine_id: int, condition: Condition) -> bool:
    """Whether a condition is active."""
    return _active_alert(c, machine_id, condition) is not None


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
    standing = _checked_standing(c, machine_id, condition, now)
    if standing.suppressed or _happened(c, machine_id, condition, "suppressed", at):
        return None
    return _change(
        c, machine_id, condition, standing.suppress(), "suppressed", at=at, now=now, reason=printable(reason)
    )


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
    standing = _checked_standing(c, machine_id, condition, now)
    if not standing.suppressed:
        return None
    if _happened(c, machine_id, condition, "unsuppressed", at) and at < _last(
        c, machine_id, condition, "suppressed"
    ):
        return None
    return _change(c, machine_id, condition, standing.unsuppress(), "unsuppressed", at=at, now=now)


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
        raise ValueError("evidence of an alert: give either the evidence, or the error for which there is none")
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
    standing = _standing(c, alert["machine_id"], alert["condition"], now)
    return _tell(c, "evidence", alert, standing, at=at, now=now, words=words, error=error)


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
        _standing(c, machine_id, condition, now)
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
    by, alert = journal.checked_by(by), _alert(c, alert_id)
    try:
        state = _state(alert).acknowledge()
    except LifeCycleError as error:
        raise error.of(f"alert {alert_id}") from None
    standing = _standing(c, alert["machine_id"], alert["condition"], now)
    alert = _save_alert(c, alert, state)
    told = _tell(c, "acknowledged", alert, standing, at=now, now=now, by=by, comment=comment)
    if not alert["retained"]:
        _tell(c, "re-armed", alert, standing, at=now, now=now, after="acknowledged")
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
    by, alert = journal.checked_by(by), _alert(c, alert_id)
    if not journal.checked_comment(comment):
        raise ValueError("comment: it is empty; say something")
    standing = _standing(c, alert["machine_id"], alert["condition"], now)
    return _tell(c, "commented", alert, standing, at=now, now=now, by=by, comment=comment)


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
    return _act(
        c, machine_id, condition, "shelved",
        lambda standing: standing.shelve(now=now, until=until), now=now, by=by, comment=comment,
    )  # fmt: skip


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
    return _act(
        c, machine_id, condition, "unshelved", Standing.unshelve, now=now, by=by, comment=comment, ended="by hand"
    )


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
    return _act(
        c, machine_id, condition, "out of service", Standing.take_out_of_service, now=now, by=by, comment=comment
    )


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
    return _act(
        c, machine_id, condition, "in service", Standing.return_to_service, now=now, by=by, comment=comment
    )


def mark_normal(
    c: sql.Connection, *, now: float, by: str, alert_id: int | None = None, event_id: int | None = None
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
    by = journal.checked_by(by)
    if (alert_id is None) == (event_id is None):
        raise ValueError("what was normal: give either an alert or an event")
    if alert_id is not None:
        subject, found = f"alert {alert_id}", _alert(c, alert_id)
        marked = schema.normals.c.alert_id == alert_id
    else:
        assert event_id is not None  # as checked above
        subject, found = f"event {event_id}", _event(c, event_id)
        marked = schema.normals.c.event_id == event_id
    before = c.execute(sql.select(schema.normals.c.by).where(marked)).first()
    if before is not None:
        raise LifeCycleError(f"{subject}: {before[0]} has marked it as normal already", "Bad_InvalidState")
    if not found["sound"]:
        raise LifeCycleError(f"{subject}: its sound is not kept, so nothing can be learnt of it", "Bad_NotFound")
    of = {"machine_id": found["machine_id"], "alert_id": alert_id, "event_id": event_id}
    values = {**of, "sound": found["sound"], "at": now, "by": by}
    key = c.execute(sql.insert(schema.normals).values(values)).inserted_primary_key
    assert key is not None  # SQLAlchemy types it as optional
    content = {"normal_id": int(key[0]), "sound": found["sound"]}
    journal.note(
        c, **of, what="normal", at=now, now=now, by=by, content=content, condition=found.get("condition")
    )
    return int(key[0])
