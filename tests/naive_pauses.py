"""A naive twin of ``watching.pauses``: it looks at the clock on the wall minute by minute, and computes nothing.

It goes through the minutes of UTC and asks for each what the clock shows. A pause begins at the first minute at
which the clock shows its beginning. If the clock skips that time, it begins at the minute at which a clock that was
not changed would show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from functools import cache

MINUTE = 60.0
NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
BEFORE = 8 * 1440  # minutes: the longest pause of a week begins so early


def paused_minutes(text: str, zone: tzinfo, begin: datetime, days: int) -> set[float]:
    """The minutes in a pause, as seconds since 1970, among so many days from ``begin`` on, which has a zone."""
    first = begin.timestamp()
    minutes, shows = _clock(zone, first, days)
    found: set[float] = set()
    end = first + days * 1440 * MINUTE
    for begins, ends in _as_shown(text, zone, minutes):
        at, last = shows.get(begins, minutes[0]), shows.get(ends, minutes[-1])
        while at < last:
            if first <= at < end:
                found.add(at)
            at += MINUTE
    return found


@cache
def _clock(zone: tzinfo, first: float, days: int) -> tuple[list[float], dict[datetime, float]]:
    """All minutes, and the first of them at which the clock shows a time."""
    minutes = [first + MINUTE * number for number in range(-BEFORE, (days + 1) * 1440)]
    shows: dict[datetime, float] = {}
    for minute in minutes:
        shows.setdefault(_shown(minute, zone), minute)
    for minute in minutes:  # times that the clock skips, by the clock that was not changed
        before, after = _shown(minute - MINUTE, zone), _shown(minute, zone)
        skipped = before + timedelta(minutes=1)
        at = minute
        while skipped < after:
            shows.setdefault(skipped, at)
            skipped, at = skipped + timedelta(minutes=1), at + MINUTE
    return minutes, shows


@cache
def _shown(at: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)


def _as_shown(text: str, zone: tzinfo, minutes: list[float]) -> Iterator[tuple[datetime, datetime]]:
    """Beginning and end of each pause by the clock on the wall."""
    begin, end = text.split(" - ")
    minute, last = _shown(minutes[0], zone), _shown(minutes[-1], zone)
    while minute <= last:
        if _is(minute, begin):
            later = minute + timedelta(minutes=1)
            while not _is(later, end):
                later += timedelta(minutes=1)
            yield minute, later
        minute += timedelta(minutes=1)


def _is(shown: datetime, text: str) -> bool:
    """Whether the clock shows that time, such as "Sat 00:00" or "22:00"."""
    *days, clock = text.split()
    return (shown.hour, shown.minute) == (int(clock[:2]), int(clock[3:])) and all(
        NAMES[shown.weekday()] == day for day in days
    )
