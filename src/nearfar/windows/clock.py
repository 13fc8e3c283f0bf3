"""When a recording began, in clock time.

A recording tells it in one of three ways: by the chunk ``bext`` of its file, by a date in its name, or by the time
at which its file was last changed, which is when the recording ended.

The chunk ``bext`` (EBU Tech 3285, Broadcast Wave) has two times. *OriginationDate* and *OriginationTime* are when
the recording was made, by the recorder's clock, in whole seconds. *TimeReference* is the timecode of the first
sample, as samples since midnight. A timecode can be the time of day, but need not be: it may count what was
recorded, be a place in an edited programme, or run 0.1 % slow beside film. So the first two say when a recording
began. The third gives the fraction of the second where it agrees with them.

Conventions
-----------
Where nothing tells the time zone, as in ``bext``, times have none: they are what the recorder's clock showed. Times
from a file's last change have the zone of this computer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Literal

from nearfar.recordings.containers import chunk_of
from nearfar.recordings.recording import Recording

Source = Literal["bext", "name", "mtime"]

# Where the fields lie in the chunk bext: EBU Tech 3285 v2, section 2.3.
DATE, TIME, TIME_REFERENCE = slice(320, 330), slice(330, 338), slice(338, 346)
# Of the date "the separator should be '-', '_', ':', ' ' or '.'", and of the time.
BEXT_DATE = re.compile(r"(\d{4})[-_:/. ](\d{2})[-_:/. ](\d{2})")
BEXT_TIME = re.compile(r"(\d{2})[-_:/. ](\d{2})[-_:/. ](\d{2})")
DAY = 24 * 3600  # seconds
AGREES = 1.0  # seconds from OriginationTime within which a timecode is the time of day
MOST_OVERLAP = 60.0  # seconds: what names and clocks are wrong by
ASKED = ("bext", "mtime", "none")  # beside a pattern
DIRECTIVES = {  # of strptime, each with what it matches in a name
    "Y": r"\d{4}", "y": r"\d{2}", "m": r"\d{2}", "d": r"\d{2}", "j": r"\d{3}",
    "b": r"[^\W\d_]{3,4}", "B": r"[^\W\d_]{3,}",
    "H": r"\d{2}", "I": r"\d{2}", "p": r"[AaPp][Mm]", "M": r"\d{2}", "S": r"\d{2}", "f": r"\d{1,6}",
    "z": r"(?:Z|[+-]\d{2}:?\d{2})", "%": "%",
}  # fmt: skip


class ClockError(ValueError):
    """What a recording says of its time is wrong, or contradicts itself."""


@dataclass(frozen=True, slots=True)
class Clock:
    """When a recording began.

    Attributes
    ----------
    began : datetime
        With a time zone if that is known.
    said_by : {"bext", "name", "mtime"}
        What tells it.

    Examples
    --------
    >>> from datetime import datetime
    >>> from nearfar.windows.clock import Clock
    >>> print(Clock(datetime(2026, 3, 1, 23, 59, 30), "name").at(40.25).isoformat())
    2026-03-02T00:00:10.250000
    """

    began: datetime
    said_by: Source

    def at(self, seconds: float) -> datetime:
        """The clock time so many seconds after the recording began."""
        return self.began + timedelta(seconds=seconds)


def require_way(way: str) -> str:
    """The same way of telling the time, if it is one.

    Parameters
    ----------
    way : {"bext", "mtime", "none"} or str
        Or a pattern of ``strptime``, such as ``%Y%m%d_%H%M%S``.

    Raises
    ------
    ValueError
        If it is none of these, or a pattern that gives no date or no time of day.
    """
    if way in ASKED:
        return way
    if "%" not in way:
        raise ValueError(
            f"began={way!r}: must be bext, mtime, none, or a pattern for the date in the name, such as "
            "%Y%m%d_%H%M%S"
        )
    used = re.findall("%(.?)", way)
    unknown = [f"%{one}" for one in used if one not in DIRECTIVES]
    if unknown:
        known = ", ".join(f"%{one}" for one in DIRECTIVES)
        raise ValueError(f"began={way!r}: {', '.join(unknown)} is not known here; there are {known}")
    repeated = sorted({f"%{one}" for one in used if one != "%" and used.count(one) > 1})
    if repeated:
        raise ValueError(f"began={way!r}: {', '.join(repeated)} is there more than once")
    has = set(used)
    if not (has & {"Y", "y"} and ("j" in has or ("d" in has and has & {"m", "b", "B"}))):
        raise ValueError(f"began={way!r}: must give year, month and day, as %Y%m%d does")
    if not ("H" in has or {"I", "p"} <= has):
        raise ValueError(f"began={way!r}: must give the hour, as %H does; a date alone would mean midnight")
    return way


def clock_of(recording: Recording | Path, way: str = "bext", *, seconds: float) -> Clock | None:
    """When a recording began.

    Parameters
    ----------
    recording : Recording or Path
    way : {"bext", "mtime", "none"} or str
        What is to tell it: the chunk ``bext``; the time of its file's last change, which is taken for the end;
        nothing; or a pattern of ``strptime``, which is looked for in the file's name, or in its path if there is a
        slash in it.
    seconds : float
        How long the recording is.

    Returns
    -------
    Clock or None
        ``None`` if it does not say, which is an error with a pattern.

    Raises
    ------
    ClockError
        If the date is none, as in February 30; if the name does not have the pattern, or has two different dates.
    FileNotFoundError
    ValueError
        As of ``require_way``.
    """
    recording = Recording.of(recording)
    way = require_way(way)
    if way == "none":
        return None
    if way == "mtime":
        ended = max(path.stat().st_mtime for path in recording.paths)
        return Clock(datetime.fromtimestamp(ended - seconds).astimezone(), "mtime")
    if way != "bext":
        return Clock(date_in_name(recording.path, way), "name")
    began = _of_bext(recording.path)
    return None if began is None else Clock(began, "bext")


def date_in_name(path: Path, pattern: str) -> datetime:
    """The date and time in a file's name, or in its path if there is a slash in the pattern.

    Raises
    ------
    ClockError
        If there is none, one that is no date, or two different ones.
    ValueError
        As of ``require_way``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar.windows.clock import date_in_name
    >>> print(date_in_name(Path("hall/PUMP_20260301_101500_Tr1.wav"), "%Y%m%d_%H%M%S"))
    2026-03-01 10:15:00
    """
    require_way(pattern)
    text = path.absolute().as_posix() if "/" in pattern else path.name
    parts = re.split("(%.)", pattern)
    matched = "".join(DIRECTIVES[p[1]] if p[:1] == "%" and len(p) == 2 else re.escape(p) for p in parts)
    whole = rf"(?:(?<!\d)|(?!\d)){matched}(?:(?<!\d)|(?!\d))"  # no part of a longer number
    found = [match.group() for match in re.finditer(whole, text)]
    if not found:
        raise ClockError(
            f"{path}: no date of the form {pattern} in its name; give another pattern with --began"
        )
    dates = []
    for one in found:
        try:
            dates.append(datetime.strptime(one, pattern))
        except ValueError as error:
            raise ClockError(
                f"{path}: {one!r} in its name is no date of the form {pattern}: {error}"
            ) from None
    if len({*dates}) > 1:
        raise ClockError(
            f"{path}: its name has {len(found)} dates, {' and '.join(found)}; give a pattern that only one of them "
            "has, with the letters before or after it"
        )
    return dates[0]


def _of_bext(path: Path) -> datetime | None:
    """By the chunk ``bext`` of a WAV; ``None`` if it has none, or the date or time in it was never filled in."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        size = path.stat().st_size
        content = chunk_of(file, size, b"bext")
        if content is None or len(content) < TIME_REFERENCE.stop:
            return None
        head = chunk_of(file, size, b"fmt ") or b""
        file.seek(0)
        order: Literal["little", "big"] = "big" if file.read(4) == b"RIFX" else "little"
    day, clock = (content[field].decode("latin-1").strip("\0 ") for field in (DATE, TIME))
    if not (day.strip("0-_:/. ") and clock):
        return None
    matches = BEXT_DATE.fullmatch(day), BEXT_TIME.fullmatch(clock)
    try:
        if matches[0] is None or matches[1] is None:
            raise ValueError("expected yyyy-mm-dd and hh:mm:ss")
        year, month, day_of_month = map(int, matches[0].groups())
        hour, minute, second = map(int, matches[1].groups())
        began = datetime(year, month, day_of_month, hour, minute, second)
    except ValueError as error:
        raise ClockError(
            f"{path}: its chunk bext says that it began on {day!r} at {clock!r}, which is no date and time "
            f"({error}); give the date in its name with --began PATTERN, or ignore it with --began none"
        ) from None
    rate = int.from_bytes(head[4:8], order)
    low, high = (
        int.from_bytes(content[i : i + 4], order) for i in (TIME_REFERENCE.start, TIME_REFERENCE.start + 4)
    )
    samples = low + (high << 32)
    return began if rate == 0 else began + _fraction(began, samples / rate)


def _fraction(began: datetime, timecode: float) -> timedelta:
    """What a timecode, in seconds since midnight, adds to a time in whole seconds, if both are near each other."""
    since_midnight = began.hour * 3600 + began.minute * 60 + began.second
    more = (timecode - since_midnight + DAY / 2) % DAY - DAY / 2
    return timedelta(seconds=more) if abs(more) <= AGREES else timedelta()


def timestamp(began: datetime, zone: tzinfo, *, not_before: float | None = None) -> float:
    """A time that a recorder's clock showed, in seconds since 1970 (UTC).

    A time that clocks show twice, in autumn, is the first of the two, or the second one if the first would lie
    before what was recorded before.

    Parameters
    ----------
    began : datetime
        With a zone of its own, or by the clock on the wall.
    zone : tzinfo
        Where that clock hangs.
    not_before : float or None
        When the recording before it ended.

    Examples
    --------
    >>> from datetime import datetime
    >>> from zoneinfo import ZoneInfo
    >>> from nearfar.windows.clock import timestamp
    >>> twice = datetime(2026, 10, 25, 2, 30)
    >>> first = timestamp(twice, ZoneInfo("Europe/Berlin"))
    >>> timestamp(twice, ZoneInfo("Europe/Berlin"), not_before=first + 1800) - first
    3600.0
    """
    if began.tzinfo is not None:
        return began.timestamp()
    first = began.replace(tzinfo=zone, fold=0).timestamp()
    second = began.replace(
        tzinfo=zone, fold=1
    ).timestamp()  # in spring, of a time that there is not: an hour less
    is_late = not_before is not None and not_before - first > MOST_OVERLAP
    return second if is_late and second > first else first


def require_zones(clocks: Mapping[str, Clock]) -> None:
    """Raise unless the times of recordings, by their names, have all a zone, or all none.

    Raises
    ------
    ClockError
    """
    first = next(iter(clocks.items()), None)
    for name, clock in clocks.items():
        if first is not None and (clock.began.tzinfo is None) != (first[1].began.tzinfo is None):
            raise ClockError(
                f"{first[0]} and {name}: the time of one has a zone and that of the other has none, so they have "
                "no order; use --order name"
            )


def require_order(recordings: Sequence[tuple[str, Clock, float]]) -> None:
    """Raise unless each recording begins after the one before it has ended.

    Parameters
    ----------
    recordings : sequence of (name, Clock, seconds)
        In order.

    Raises
    ------
    ClockError
        If two overlap by more than ``MOST_OVERLAP``.
    """
    for (name, clock, seconds), (later, next_clock, _) in itertools.pairwise(recordings):
        if (clock.at(seconds) - next_clock.began).total_seconds() > MOST_OVERLAP:
            raise ClockError(
                f"{name} began at {shown(clock.began)} and lasts {seconds:.0f} s, but {later} began at "
                f"{shown(next_clock.began)}, before it had ended. Recordings of one machine follow each other: "
                "check the recorder's clock, or use --order name"
            )


def shown(moment: datetime) -> str:
    """A moment by ISO 8601, to the millisecond; with its offset from UTC if that is known."""
    return moment.isoformat(timespec="milliseconds")
