"""When a machine is not listened to, by the clock on the wall: weekends, nights, holidays.

A pause has one of four forms. Each takes 00:00 to 23:59, and 24:00 as an end.

=========================================  =======================================================
``22:00 - 05:30``                          every day, here over midnight
``Sat 00:00 - Mon 05:00``                  every week, from one day to another
``Mon-Fri 12:00 - 12:30``                  on these days; also ``Mon, Wed 12:00 - 12:30``
``2026-12-24 12:00 - 2027-01-02 06:00``    once
=========================================  =======================================================

Conventions
-----------
* A pause goes from its first moment up to its last one, which is not part of it.
* A time that the clock shows twice, in autumn, is the first of the two. One that it does not show, in spring,
  counts by the offset before the change: 02:15 is the moment at which clocks show 03:15. This is the rule of
  iCalendar (RFC 5545, section 3.3.5). A pause that would end before it begins, because of the change, is left out
  on that day.
* Pauses may overlap or touch each other: then they are one.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Self

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SHORT = tuple(day[:3].capitalize() for day in DAYS)
MINUTES_OF_DAY = 24 * 60
MINUTES_OF_WEEK = 7 * MINUTES_OF_DAY
WEEK = 60.0 * MINUTES_OF_WEEK  # in seconds

_DAY = "|".join(f"{day}|{day[:3]}" for day in DAYS)
_CLOCK = r"(\d{1,2}):(\d{2})"
_TO = r"\s*(?:-|–|to)\s*"  # noqa: RUF001  # a dash, as word processors write it
_DATE = r"(\d{4}-\d{2}-\d{2})[ T]+"
_FORMS = {
    "dated": re.compile(rf"{_DATE}{_CLOCK}{_TO}{_DATE}{_CLOCK}"),
    "weekly": re.compile(rf"({_DAY})\s+{_CLOCK}{_TO}({_DAY})\s+{_CLOCK}", re.IGNORECASE),
    "on days": re.compile(
        rf"((?:{_DAY})(?:(?:{_TO}|\s*,\s*)(?:{_DAY}))*)\s+{_CLOCK}{_TO}{_CLOCK}", re.IGNORECASE
    ),
    "daily": re.compile(rf"{_CLOCK}{_TO}{_CLOCK}"),
}
EXPECTED = (
    'expected "22:00 - 05:30", "Sat 00:00 - Mon 05:00", "Mon-Fri 12:00 - 12:30", or "2026-12-24 12:00 - 2027-01-02 '
    '06:00"'
)
KEPT_WEEKS = 4096  # of all machines together: 400 machines, for some weeks


@dataclass(frozen=True, slots=True)
class _Weekly:
    """What begins on some days of the week: minutes from midnight of that day to the first and the last moment."""

    days: tuple[int, ...]
    begins: int
    ends: int

    def spans(self, first: date, last: date) -> Iterator[tuple[datetime, datetime]]:
        """By the clock on the wall: those that begin on these days, the last one counted."""
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            if day.weekday() in self.days:
                midnight = datetime(day.year, day.month, day.day)
                yield midnight + timedelta(minutes=self.begins), midnight + timedelta(minutes=self.ends)


@dataclass(frozen=True, slots=True)
class _Dated:
    """What is once."""

    begins: datetime
    ends: datetime

    def spans(self, first: date, last: date) -> Iterator[tuple[datetime, datetime]]:
        """It, if it has part in these days."""
        if self.begins.date() <= last and first <= self.ends.date():
            yield self.begins, self.ends


@dataclass(frozen=True, slots=True)
class Pauses:
    """When a machine is not listened to.

    Attributes
    ----------
    texts : tuple of str
        As they were written.
    zone : tzinfo
        Of the clock on the wall.

    Examples
    --------
    >>> from datetime import datetime
    >>> from zoneinfo import ZoneInfo
    >>> from nearfar.watching.pauses import Pauses
    >>> berlin = ZoneInfo("Europe/Berlin")
    >>> pauses = Pauses.parse(["Sat 00:00 - Mon 05:00"], berlin)
    >>> sunday = datetime(2026, 3, 1, 12, tzinfo=berlin).timestamp()
    >>> pauses.is_paused(sunday, sunday + 10)
    True
    >>> print(datetime.fromtimestamp(pauses.until(sunday), berlin))
    2026-03-02 05:00:00+01:00
    """

    texts: tuple[str, ...] = ()
    zone: tzinfo = UTC
    _rules: tuple[_Weekly | _Dated, ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str], zone: tzinfo) -> Self:
        """Pauses as people write them.

        Raises
        ------
        ValueError
            If one cannot be read, is empty, or never ends; or if all together never end.
        """
        rules = tuple(map(_rule, texts))
        if _fill_the_week(rule for rule in rules if isinstance(rule, _Weekly)):
            raise ValueError(
                "pauses: together they take all of the week, so the machine would never be listened to; leave one "
                "out, or leave out the machine"
            )
        return cls(tuple(texts), zone, rules)

    def is_paused(self, begin_at: float, end_at: float) -> bool:
        """Whether a pause has part in this span of time.

        Parameters
        ----------
        begin_at, end_at : float
            In seconds since 1970 (UTC); of a moment, both are the same.
        """
        return any(
            begins <= begin_at < ends or begin_at < begins < end_at
            for begins, ends in self._between(begin_at, end_at)
        )

    def until(self, at: float) -> float | None:
        """When the pause ends in which this moment lies, with all pauses that follow it at once.

        Returns
        -------
        float or None
            In seconds since 1970 (UTC); ``None`` if there is no pause then.
        """
        found = None
        while (ends := self._end(at)) is not None:
            found = at = ends
        return found

    def after(self, at: float, seconds: float) -> float:
        """The moment when so many seconds without a pause have passed.

        Parameters
        ----------
        at : float
            From when on, in seconds since 1970 (UTC).
        seconds : float
            At least 0.
        """
        while True:
            at = self.until(at) or at
            begins = self.begins_between(at, at + seconds)
            if begins is None:
                return at + seconds
            seconds -= begins - at
            at = begins

    def begins_between(self, at: float, before: float) -> float | None:
        """When the first pause begins after one moment and before another; ``None`` if none does."""
        spans = self._between(at, before)
        return next((begins for begins, _ in spans if at < begins < before), None)

    def _end(self, at: float) -> float | None:
        return next((ends for begins, ends in self._between(at, at) if begins <= at < ends), None)

    def _between(self, begin_at: float, end_at: float) -> Iterator[tuple[float, float]]:
        """All pauses that could have part in this span, in order of time, some perhaps twice."""
        if self._rules:
            for week in range(math.floor(begin_at / WEEK), math.floor(end_at / WEEK) + 1):
                yield from _of_week(self, week)

    def _spans(self, begin_at: float, end_at: float) -> list[tuple[float, float]]:
        """Those that have part in this span of time, none of which touches another, in order of time."""
        first = datetime.fromtimestamp(begin_at, self.zone).date() - timedelta(
            days=8
        )  # the longest of a week
        last = datetime.fromtimestamp(end_at, self.zone).date() + timedelta(days=1)
        found = sorted(
            (self._moment(begins), self._moment(ends))
            for rule in self._rules
            for begins, ends in rule.spans(first, last)
        )
        joined: list[tuple[float, float]] = []
        for begins, ends in found:
            if begins >= ends:  # clocks were changed between
                continue
            if joined and begins <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(ends, joined[-1][1])
            else:
                joined.append((begins, ends))
        return [(begins, ends) for begins, ends in joined if begins < end_at and begin_at < ends]

    def _moment(self, shown: datetime) -> float:
        return shown.replace(tzinfo=self.zone).timestamp()  # with fold=0, as RFC 5545 has it (PEP 495)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._rules)

    def __str__(self) -> str:
        return ", ".join(self.texts)


@lru_cache(maxsize=KEPT_WEEKS)
def _of_week(pauses: Pauses, week: int) -> tuple[tuple[float, float], ...]:
    """The pauses in this week, counted from 1970: the question comes with each window."""
    return tuple(pauses._spans(week * WEEK, (week + 1) * WEEK))


def _rule(text: str) -> _Weekly | _Dated:
    """A pause as it is written.

    Raises
    ------
    ValueError
        If it cannot be read, is empty, or never ends.
    """
    for form, pattern in _FORMS.items():
        if (match := pattern.fullmatch(text.strip())) is not None:
            try:
                return _READ[form](*match.groups())
            except ValueError as error:
                raise ValueError(f"pause {text!r}: {error}") from None
    raise ValueError(f"pause {text!r}: cannot be read; {EXPECTED}")


def _daily(*clock: str, days: tuple[int, ...] = tuple(range(7))) -> _Weekly:
    begins, ends = _minutes(*clock[:2]), _minutes(*clock[2:], is_end=True)
    if ends == begins:
        raise ValueError(
            "empty, or of a whole day: it ends when it begins; write 00:00 - 24:00 for a whole day"
        )
    return _Weekly(days, begins, ends if ends > begins else ends + MINUTES_OF_DAY)


def _on_days(listed: str, *clock: str) -> _Weekly:
    days: set[int] = set()
    for part in listed.split(","):
        names = re.findall(_DAY, part, re.IGNORECASE)
        for first, last in itertools.pairwise([*names, names[-1]] if len(names) > 1 else names * 2):
            days |= {day % 7 for day in range(_day(first), _day(first) + (_day(last) - _day(first)) % 7 + 1)}
    return _daily(*clock, days=tuple(sorted(days)))


def _weekly(first: str, hour: str, minute: str, last: str, end_hour: str, end_minute: str) -> _Weekly:
    begins, ends = _minutes(hour, minute), _minutes(end_hour, end_minute, is_end=True)
    ends += (_day(last) - _day(first)) % 7 * MINUTES_OF_DAY
    if ends == begins:
        raise ValueError("empty, or without an end: it ends when it begins")
    return _Weekly((_day(first),), begins, ends if ends > begins else ends + MINUTES_OF_WEEK)


def _dated(day: str, hour: str, minute: str, last_day: str, end_hour: str, end_minute: str) -> _Dated:
    begins = datetime.fromisoformat(day) + timedelta(minutes=_minutes(hour, minute))
    ends = datetime.fromisoformat(last_day) + timedelta(minutes=_minutes(end_hour, end_minute, is_end=True))
    if ends <= begins:
        raise ValueError("empty: it ends before it begins")
    return _Dated(begins, ends)


_READ: dict[str, Callable[..., _Weekly | _Dated]] = {
    "dated": _dated,
    "weekly": _weekly,
    "on days": _on_days,
    "daily": _daily,
}


def _minutes(hour: str, minute: str, *, is_end: bool = False) -> int:
    """From midnight."""
    found = 60 * int(hour) + int(minute)
    if int(minute) > 59 or found > MINUTES_OF_DAY or (found == MINUTES_OF_DAY and not is_end):
        raise ValueError(f"{hour}:{minute} is no time of day")
    return found


def _day(name: str) -> int:
    return SHORT.index(name[:3].capitalize())


def _fill_the_week(rules: Iterable[_Weekly]) -> bool:
    """Whether no minute of a week is left."""
    spans = sorted(
        (day * MINUTES_OF_DAY + rule.begins + week, day * MINUTES_OF_DAY + rule.ends + week)
        for rule, week in itertools.product(rules, (-MINUTES_OF_WEEK, 0))
        for day in rule.days
    )
    reached = 0
    for begins, ends in spans:
        if begins > reached:
            return False
        reached = max(reached, ends)
    return reached >= MINUTES_OF_WEEK
