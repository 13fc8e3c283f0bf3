"""Which windows a recording is cut into.

Conventions
-----------
Times are in seconds of the recording. They come from whole numbers of its samples, at its own rate, so that they do
not drift: window k begins at sample ``k * hop``. The last window ends where the recording ends, so that no sound is
lost; it overlaps the one before it by more than the others do. A rest shorter than ``LEAST_REST`` of a window is
dropped.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

from nearfar.recordings.recording import Recording, Span

WINDOW_SECONDS = 10.0  # of the clips of the DCASE Challenge, Task 2
LEAST_REST = 0.01  # of a window: less sound after the last one is dropped

_UNITS = {
    "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_TIME = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[a-z]*)", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d{1,2}):(?P<seconds>\d{2}(?:\.\d*)?)")


@dataclass(frozen=True, slots=True)
class Cut:
    """How recordings are cut into windows.

    Attributes
    ----------
    seconds : float
        Length of a window.
    hop : float
        From the beginning of a window to that of the next; at most ``seconds``, or sound would be lost.

    Raises
    ------
    ValueError
        If a length is not above 0, or the hop is longer than the window.

    Examples
    --------
    Of 25 s, the last window is moved back to the end.

    >>> from nearfar.windows.cutting import Cut
    >>> [str(span) for span in Cut.of(10).spans(25 * 16_000, 16_000)]
    ['t=0,10', 't=10,20', 't=15,25']
    """

    seconds: float
    hop: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"window={self.seconds:g}: must be a time above 0 s, such as 10")
        if not 0 < self.hop <= self.seconds:
            raise ValueError(
                f"hop={self.hop:g}: must be above 0 s, and at most the window ({self.seconds:g} s); with a longer "
                "hop, the sound between windows would be lost"
            )

    @classmethod
    def of(cls, seconds: float = WINDOW_SECONDS, hop: float | None = None) -> Self:
        """Windows of that length; without a hop, they lie side by side."""
        return cls(seconds, seconds if hop is None else hop)

    def window_samples(self, rate: int) -> int:
        """Of a window at this rate."""
        return max(1, round(self.seconds * rate))

    def hop_samples(self, rate: int) -> int:
        """Between the beginnings of windows at this rate."""
        return max(1, round(self.hop * rate))

    def count(self, samples: int, rate: int) -> int:
        """How many windows a recording of so many samples has."""
        length, hop = self.window_samples(rate), self.hop_samples(rate)
        if samples <= length:
            return min(samples, 1)
        whole = 1 + (samples - length) // hop
        rest = samples - ((whole - 1) * hop + length)
        return whole + (rest > 0 and rest >= LEAST_REST * length)

    def span(self, index: int, samples: int, rate: int) -> Span:
        """The window of that number, from 0.

        Parameters
        ----------
        index : int
        samples : int
            Of the recording.
        rate : int
            Of the recording, in Hz.

        Raises
        ------
        IndexError
            If the recording does not have so many.
        """
        count = self.count(samples, rate)
        if not 0 <= index < count:
            raise IndexError(f"window {index}: the recording has {count}")
        length = min(self.window_samples(rate), samples)
        start = min(index * self.hop_samples(rate), samples - length)
        return Span(start, start + length, rate)

    def spans(self, samples: int, rate: int) -> list[Span]:
        """All windows of a recording of so many samples, in order of time; a shorter recording is one window."""
        return [self.span(index, samples, rate) for index in range(self.count(samples, rate))]


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a recording.

    Attributes
    ----------
    recording : str
        What the recording is called.
    index : int
        From 0, in order of time.
    start, seconds : float
        When it begins, in seconds of the recording, and how long it is.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar.recordings.recording import Recording
    >>> from nearfar.windows.cutting import Cut, Window
    >>> Window.of(Recording((Path("press.wav"),)), 2, Cut.of(10).span(2, 25 * 16_000, 16_000))
    Window(recording='press.wav', index=2, start=15.0, seconds=10.0)
    """

    recording: str
    index: int
    start: float
    seconds: float

    @classmethod
    def of(cls, recording: Recording, index: int, span: Span) -> Window:
        """The window of that number, which is this part of a recording."""
        return cls(str(recording), index, span.begins, span.seconds)

    @property
    def end(self) -> float:
        """In seconds of the recording."""
        return self.start + self.seconds


def parse_time(text: str, name: str = "time") -> float:
    """A time in seconds, as people write it.

    Parameters
    ----------
    text : str
        A number of seconds, with or without a unit ("10", "0.5 min", "2h"); or a clock's ("1:30", "0:01:30.5").
    name : str
        What a message calls it.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> from nearfar.windows.cutting import parse_time
    >>> parse_time("10"), parse_time("0.5 min"), parse_time("1:30"), parse_time("2 hours")
    (10.0, 30.0, 90.0, 7200.0)
    """
    given = text.strip()
    if clock := _CLOCK.fullmatch(given):
        hours, minutes, seconds = (float(clock[part] or 0) for part in ("hours", "minutes", "seconds"))
        if seconds < 60 and (minutes < 60 or clock["hours"] is None):
            return 3600 * hours + 60 * minutes + seconds
    elif plain := _TIME.fullmatch(given):
        factor = _UNITS.get(plain["unit"].lower())
        if factor is not None:
            return float(plain["number"]) * factor
    raise ValueError(
        f"{name}={text!r}: no time; give seconds, such as 10, or with a unit: 0.5 min, 2 h, 1:30"
    )


def told_time(seconds: float) -> str:
    """A length of time in words: seconds up to two minutes, minutes up to three hours, then hours.

    Examples
    --------
    >>> from nearfar.windows.cutting import told_time
    >>> told_time(10), told_time(3600), told_time(12 * 3600)
    ('10 s', '60 min', '12 h')
    """
    for least, factor, unit in ((3 * 3600, 3600, "h"), (120, 60, "min"), (0, 1, "s")):
        if seconds >= least:
            return f"{seconds / factor:.3g} {unit}"
    raise ValueError(f"seconds={seconds}: must be at least 0")
