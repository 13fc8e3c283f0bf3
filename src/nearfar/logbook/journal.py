"""The journal: one row for everything that is told, and what such a row says.

Each row says what happened (``life_cycle.WHAT``), to which machine, alert, event or condition, when, who did it,
and whether people are told of it (``annunciated``). ``CONTENT`` lists the keys of its ``content``. A row can be
told without asking for more, also much later: "alert" and "standing" are what they were right after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sql

from nearfar.evidence.contents import plain
from nearfar.files.names import one_line, printable
from nearfar.logbook import schema
from nearfar.logbook.life_cycle import CONDITIONS, WHAT, Condition, What

LONGEST_BY = 100  # characters of a name
LONGEST_COMMENT = 4000  # characters, about two pages; both our choice

ALERT = (  # keys of "alert": the columns of the table, but for evidence
    "id", "severity", "message", "since_at", "began_at", "ended_at", "active", "acked", "retained", "score",
    "sound",
)  # fmt: skip
STANDING = ("shelving", "shelved_until_at", "suppressed", "out_of_service")  # keys of "standing"
_EACH = (
    "alert",  # in rows of a condition, the one that is active, or has just ended; null if there is none
    "standing",
    "was_annunciated",  # whether people were told of that alert before
)
CONTENT: Mapping[What, tuple[str, ...]] = MappingProxyType(
    {
        "activated": (*_EACH, "more"),  # what the listener adds
        "annunciated": (*_EACH, "after"),  # what ended the silence: "unshelved", "unsuppressed", "in service"
        "acknowledged": _EACH,
        "cleared": (*_EACH, "reason"),  # "" if what was wrong is over
        "re-armed": (*_EACH, "after"),  # "acknowledged" or "cleared", whichever came last
        "evidence": (*_EACH, "words", "error"),  # the reasons; or why there are none
        "commented": _EACH,
        "shelved": _EACH,
        "unshelved": (*_EACH, "ended"),  # "by hand", "time", or "cleared"
        "suppressed": (*_EACH, "reason"),
        "unsuppressed": _EACH,
        "out of service": _EACH,
        "in service": _EACH,
        "normal": ("normal_id", "sound"),
        "event": (
            "begins_at", "ends_at", "peak_score", "p_value", "windows", "anomalous", "unusable", "sound",
        ),
        "mode": ("mode", "before", "told"),
        "detector": (
            "detector", "detector_digest", "system", "window_s", "hop_s", "threshold", "false_alerts", "before",
        ),
        "heard late": ("seconds",),
    }
)  # fmt: skip


def note(  # noqa: PLR0913  # the columns of a row
    c: sql.Connection,
    *,
    machine_id: int,
    what: What,
    at: float,
    now: float,
    alert_id: int | None = None,
    event_id: int | None = None,
    condition: Condition | None = None,
    by: str = "",
    comment: str = "",
    annunciated: bool = True,
    content: Mapping[str, Any] | None = None,
) -> int:
    """Write a row.

    Parameters
    ----------
    what : str
        One of ``life_cycle.WHAT``.
    at, now : float
        When it happened, and the clock of this computer; in seconds since 1970 UTC.
    alert_id, event_id : int or None
        What it happened to.
    condition : str or None
        One of ``life_cycle.CONDITIONS``.
    by : str
        Who did it; empty if nobody did.
    comment : str
        What they say about it.
    annunciated : bool
        Whether people are told of it: ``False`` if it is shelved, suppressed, or out of service.
    content : mapping or None
        See ``CONTENT``. Numbers that are not finite become null, as JSON has none.

    Returns
    -------
    id : int

    Raises
    ------
    ValueError
        If there is no such ``what`` or condition; or as of ``checked_by`` and ``checked_comment``.
    """
    if what not in WHAT:
        raise ValueError(f"what={what!r}: the journal knows {', '.join(WHAT)}")
    if condition is not None:
        checked_condition(condition)
    of = {"machine_id": machine_id, "alert_id": alert_id, "event_id": event_id, "condition": condition}
    said = {"by": checked_by(by) if by else "", "comment": checked_comment(comment)}
    told = {"what": what, "at": at, "written_at": now, "annunciated": annunciated}
    row = {**of, **told, **said, "content": as_json(content or {})}
    key = c.execute(sql.insert(schema.journal).values(row)).inserted_primary_key
    assert key is not None  # SQLAlchemy types it as optional
    return int(key[0])


def as_json(content: Mapping[str, Any]) -> str:
    """JSON on one line that every database can hold; what is not finite is null."""
    return json.dumps(plain(content), ensure_ascii=False, allow_nan=False)


def checked_condition(condition: str) -> None:
    """Require that there is such a condition.

    Raises
    ------
    ValueError
        If there is none.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition {condition!r}: must be one of {', '.join(CONDITIONS)}")


def checked_by(by: str) -> str:
    """The name of somebody who acts, without spaces around it.

    Raises
    ------
    ValueError
        If it is empty, longer than ``LONGEST_BY`` characters, or holds control characters.

    Examples
    --------
    >>> from nearfar.logbook.journal import checked_by
    >>> checked_by(" Ada ")
    'Ada'
    """
    name = by.strip()
    if not name:
        raise ValueError("by: say who does it; the name is empty")
    if len(name) > LONGEST_BY:
        raise ValueError(f"by: the name has {len(name)} characters, at most {LONGEST_BY} are allowed")
    if one_line(name) != name:
        raise ValueError(f"by: the name {one_line(name)!r} holds control characters; leave them out")
    return name


def checked_comment(comment: str) -> str:
    """A comment without spaces around it. Control characters are escaped, but for tabs and ends of lines.

    Raises
    ------
    ValueError
        If it is longer than ``LONGEST_COMMENT`` characters.

    Examples
    --------
    >>> from nearfar.logbook.journal import checked_comment
    >>> print(checked_comment("belt changed\\x07 "))
    belt changed\\x07
    """
    text = comment.replace("\r\n", "\n").strip()
    if len(text) > LONGEST_COMMENT:
        raise ValueError(
            f"comment: it has {len(text)} characters, at most {LONGEST_COMMENT} are allowed; shorten it"
        )
    return printable(text)
