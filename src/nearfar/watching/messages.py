"""What sinks are told: rows of the logbook as JSON, in one form that stays (``docs/messages.md``).

Conventions
-----------
* A key that is there today stays, with its meaning, as long as ``format`` is 1. Keys may be added.
* Times are text, ISO 8601 in UTC with milliseconds, such as "2026-11-29T12:00:00.250Z". ``at`` is given as seconds
  since 1970, too: ``at_s``.
* A key is always there; what is not known is ``null``. Numbers are finite.
* The same row gives the same ``id`` whenever it is told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nearfar.files.times import iso
from nearfar.watching.sinks import Message, Stream

FORMAT = 1


def of_journal(row: Mapping[str, Any], site_name: str) -> Message:
    """What a row of the journal says.

    Parameters
    ----------
    row : mapping
        As ``logbook.asked.journal`` gives it: its columns, with ``machine``, and its event under ``event``.
    site_name : str

    Examples
    --------
    >>> from nearfar.watching.messages import of_journal
    >>> row = {
    ...     "id": 17, "machine": "pump-1", "what": "mode", "at": 0.0, "written_at": 0.5, "by": "", "comment": "",
    ...     "condition": None, "annunciated": True, "content": {"mode": "paused"}, "event": None,
    ... }
    >>> message = of_journal(row, "Hall 3")
    >>> message.id, message.content["at"], message.content["content"]
    ('journal-17', '1970-01-01T00:00:00.000Z', {'mode': 'paused'})
    """
    content = _decoded(row.get("content"))
    alert, standing, event = content.pop("alert", None), content.pop("standing", None), row.get("event")
    about = {
        "by": row["by"],
        "comment": row["comment"],
        "condition": row["condition"],
        "annunciated": bool(row["annunciated"]),
        "written": iso(row["written_at"]),
        "alert": _alert(alert, row, content.pop("was_annunciated", False)) if alert else None,
        "standing": _standing(standing) if standing else None,
        "event": _event(event) if event else None,
        "content": content,
    }
    return _message("journal", row, row["what"], row["at"], site_name, about)


def of_window(row: Mapping[str, Any], site_name: str) -> Message:
    """What a window says.

    Parameters
    ----------
    row : mapping
        The columns of ``windows``, with ``machine``.
    site_name : str
    """
    window = {
        "recording": row["recording_id"],
        "number": row["number"],
        "begins": iso(row["begins_at"]),
        "seconds": _finite(row["seconds"]),
        "decision": row["decision"],
        "score": _finite(row["score"]),
        "p_value": _finite(row["p_value"]),
        "evidence": _finite(row["evidence"]),
        "near_db": _finite(row["near_db"]),
        "far_db": _finite(row["far_db"]),
        "told": row["told"],
    }
    return _message("windows", row, "window", row["begins_at"], site_name, {"window": window})


def of_dropped(stream: Stream, dropped: int, before: int, site_name: str, *, now: float) -> Message:
    """That a sink has missed rows, because too many were waiting for it.

    Parameters
    ----------
    stream : {"journal", "windows"}
    dropped : int
        How many it has missed.
    before : int
        The number of the first row that it gets after them.
    site_name : str
    now : float
        In seconds since 1970.
    """
    row = {"id": f"dropped-before-{before}", "machine": ""}
    return _message(stream, row, "dropped", now, site_name, {"stream": stream, "dropped": dropped})


def _message(
    stream: Stream, row: Mapping[str, Any], what: str, at: float, site_name: str, about: Mapping[str, Any]
) -> Message:
    id = f"{stream}-{row['id']}"
    content = {
        "format": FORMAT,
        "id": id,
        "site": site_name,
        "machine": row["machine"],
        "what": what,
        "at": iso(at),
        "at_s": _finite(at),
        **about,
    }
    return Message(id=id, stream=stream, what=what, machine=row["machine"], content=content)


def _alert(alert: Mapping[str, Any], row: Mapping[str, Any], was_annunciated: bool) -> dict[str, Any]:
    """The alert as it was right after the row was written (``logbook.journal``): a row may be told much later."""
    active, acked = bool(alert["active"]), bool(alert["acked"])
    return {
        "id": alert["id"],
        "condition": row["condition"],
        "severity": alert["severity"],
        "state": f"{'active' if active else 'cleared'}, {'acknowledged' if acked else 'not acknowledged'}",
        "active": active,
        "acked": acked,
        "annunciated": bool(row["annunciated"]),
        "was_annunciated": bool(was_annunciated),
        "since": iso(alert["since_at"]),
        "began": iso(alert["began_at"]),
        "ended": iso(alert["ended_at"]),
        "message": alert["message"],
        "score": alert["score"],
        "sound": alert["sound"],
    }


def _standing(standing: Mapping[str, Any]) -> dict[str, Any]:
    """What people and sensors say of the condition."""
    return {
        "shelving": standing["shelving"],
        "shelved_until": iso(standing["shelved_until_at"]),
        "suppressed": bool(standing["suppressed"]),
        "out_of_service": bool(standing["out_of_service"]),
    }


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "begins": iso(row["begins_at"]),
        "ends": iso(row["ends_at"]),
        "peak_begins": iso(row["peak_begins_at"]),
        "peak_ends": iso(row["peak_ends_at"]),
        "peak_score": _finite(row["peak_score"]),
        "p_value": _finite(row["p_value"]),
        "windows": row["windows"],
        "anomalous": row["anomalous"],
        "unusable": row["unusable"],
        "sound": row["sound"],
    }


def _decoded(content: str | Mapping[str, Any] | None) -> dict[str, Any]:
    decoded = json.loads(content or "{}") if isinstance(content, str | None) else content
    return dict(_finite(decoded or {}))


def _finite(value: Any) -> Any:
    """The value, with ``None`` for each number that JSON cannot say."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value
