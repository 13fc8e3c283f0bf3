"""Moments as text for other programs."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float | None) -> str | None:
    """A time in seconds since 1970 as ISO 8601 in UTC, with milliseconds; ``None`` if a calendar has no such day.

    Examples
    --------
    >>> from nearfar.files.times import iso
    >>> iso(1.25), iso(None), iso(1e18)
    ('1970-01-01T00:00:01.250Z', None, None)
    """
    if at is None:
        return None
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
