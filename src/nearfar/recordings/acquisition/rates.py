"""Whole sampling rates from what files say of them: rates, intervals, time stamps.

Conventions
-----------
Rates are in Hz, intervals and time stamps in seconds. A rate is rounded to a whole number only as far as its source
explains it: an interval of six digits, the scatter of time stamps. What is not explained is an error, because a
wrong rate moves every frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.sound import Note

# Of converters and of recorders; a rate that is known only roughly is one of these.
USUAL_RATES = (
    8000, 10000, 11025, 12000, 12800, 16000, 16384, 20000, 22050, 24000, 25000, 25600, 32000, 32768, 40000, 44100,
    48000, 50000, 51200, 64000, 65536, 88200, 96000, 100000, 102400, 128000, 131072, 176400, 192000, 200000, 204800,
    250000, 256000,
)  # fmt: skip
SINGLE_PRECISION = 1e-7  # relative: an interval that went through 32 bits still names its whole rate
FEWEST_DIGITS = 5  # of an interval, for it to name a rate
E13_DIGITS = 6  # of an interval in a universal file
SLACK = 1.02  # a half is rounded up or down
MOST_DIGITS = 12  # an interval with more was computed, not written down
CRYSTAL = 1e-4  # relative; how far a converter's clock may differ from the clock of time stamps
ROUGHEST = 5e-3  # relative; beyond that, neighbouring usual rates can't be told apart
GAP = 1.75  # median intervals: one sample is missing
COLLISION = 0.25  # median intervals: two stamps that can't belong to neighbouring samples


class RateError(ValueError):
    """There is no whole rate; the message says why, without the name of the file."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A whole rate in Hz, and what was done to find it."""

    hz: int
    notes: tuple[Note, ...] = ()


def from_rate(rate: float) -> Rate:
    """Of a rate that a file names.

    Raises
    ------
    RateError
        If it is not positive, or not a whole number and not the inverse of a rounded interval.

    Examples
    --------
    >>> from nearfar.recordings.acquisition.rates import from_rate
    >>> from_rate(48000.07680012288).hz  # 1 / 2.08333e-05
    48000
    """
    if not (np.isfinite(rate) and rate > 0):
        raise RateError(f"its rate is {rate:g} Hz; a rate must be positive")
    nearest = round(rate)
    if nearest > 0 and abs(rate - nearest) <= SINGLE_PRECISION * rate:
        return Rate(nearest)
    interval = float(f"{1 / rate:.{E13_DIGITS - 1}e}")  # as in a universal file, of which the rate may come
    digits, half_a_digit = _written(rate)
    error = half_a_digit * SLACK if digits <= MOST_DIGITS else 1e-10 * rate
    explained = abs(1 / interval - rate) <= error
    return from_interval(interval if explained else 1 / rate, said=f"its rate is {rate:.12g} Hz")


def from_interval(interval: float, *, said: str = "") -> Rate:
    """Of the interval between two samples.

    Parameters
    ----------
    interval : float
        As written in a file: the fewer digits, the more rates it can mean.
    said : str
        How an error begins; by default, with the interval.

    Raises
    ------
    RateError
        If it is not positive, or the inverse of no whole rate.

    Examples
    --------
    >>> from nearfar.recordings.acquisition.rates import from_interval
    >>> from_interval(2.08333e-05).hz
    48000
    """
    if not (np.isfinite(interval) and interval > 0):
        raise RateError(f"its sampling interval is {interval:g} s; an interval must be positive")
    rate = 1 / interval
    nearest = round(rate)
    if nearest > 0 and abs(rate - nearest) <= SINGLE_PRECISION * rate:
        return Rate(nearest)
    said = said or f"its sampling interval is {interval:.12g} s, that is {rate:.12g} Hz"
    digits, half_a_digit = _written(interval)
    hz = _plausible(rate, SLACK * rate * half_a_digit / interval) if digits <= MOST_DIGITS else None
    if digits < FEWEST_DIGITS or hz is None:
        raise RateError(
            f"{said}; that is no whole rate, and not one that was rounded to a few digits: resample it to a whole "
            "rate, or correct the rate in the file"
        )
    message = (
        f"an interval of {interval:.{digits - 1}e} s means {rate:.8g} Hz; within its {digits} digits, {hz} Hz"
    )
    return Rate(hz, (Note("rate_rounded", message),))


def from_stamps(stamps: NDArray[Any], *, resolution: float = 0.0) -> Rate:
    """Of the time stamp of every sample.

    Parameters
    ----------
    stamps : (n,) array
    resolution : float
        The last digit in which they were written, in seconds.

    Raises
    ------
    RateError
        If samples are missing between two stamps, or the stamps don't increase, are too coarse, or give no rate.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.acquisition.rates import from_stamps
    >>> from_stamps(np.arange(100) / 16000).hz
    16000
    """
    stamps = np.asarray(stamps)
    if stamps.size < 2 or not np.isfinite(stamps).all():
        raise RateError(f"its {stamps.size} time stamps give no rate; at least two are needed, and no NaN")
    if stamps.dtype == np.float32:
        resolution = max(resolution, float(np.spacing(np.abs(stamps).max())))
    stamps = stamps.astype(np.float64)
    steps = np.diff(stamps)
    median = float(np.median(steps))
    _refuse_gaps(stamps, steps, median, resolution)
    rate = (stamps.size - 1) / (stamps[-1] - stamps[0])
    scatter = float(np.abs(steps - median).max())
    error = max(
        SINGLE_PRECISION,
        4 * float(steps.std()) / median / np.sqrt(steps.size),  # jitter that adds up
        2 * max(scatter, resolution) / (stamps[-1] - stamps[0]),  # jitter of each stamp
    )
    hz = _plausible(rate, rate * error, clock=CRYSTAL * rate)
    if hz is None:
        raise RateError(
            f"its time stamps mean {rate:.9g} Hz; that is no whole rate, and their scatter does not explain it: "
            "resample it to a whole rate, or give the rate in the file"
        )
    if scatter <= 1e-3 * median and abs(rate - hz) <= SINGLE_PRECISION * rate:
        return Rate(hz)
    message = (
        f"time stamps scatter by up to {100 * scatter / median:.1f} % of an interval and mean {rate:.8g} Hz; taken "
        f"as {hz} Hz without gaps"
    )
    return Rate(hz, (Note("jitter", message),))


def _refuse_gaps(stamps: NDArray[Any], steps: NDArray[Any], median: float, resolution: float) -> None:
    if median <= 0 or steps.min() <= COLLISION * median - resolution:
        place = int(steps.argmin())
        raise RateError(
            f"its time stamps do not increase by even steps: {stamps[place]:.9g} s is followed by "
            f"{stamps[place + 1]:.9g} s (sample {place + 1}); they were written with too few digits, or belong to "
            "several recordings"
        )
    gaps = np.flatnonzero(steps > GAP * median + resolution)
    if gaps.size:
        lost = float((steps[gaps] - median).sum())
        raise RateError(
            f"samples are missing: {gaps.size} gaps in its time stamps, {lost:.4g} s in all, the first after "
            f"{stamps[gaps[0]] - stamps[0]:.4g} s (sample {gaps[0] + 1}); record it again, or cut out a part "
            "without gaps"
        )


def _written(value: float) -> tuple[int, float]:
    """How many significant digits a number was written with, and half of the last one."""
    digits = len(np.format_float_scientific(value, trim="-").partition("e")[0].replace(".", ""))
    exponent = int(np.format_float_scientific(value).partition("e")[2])
    return digits, 0.5 * 10.0 ** (exponent - digits + 1)


def _plausible(rate: float, error: float, *, clock: float = 0.0) -> int | None:
    """The whole rate within ``error``; of several the usual one, or else the roundest.

    ``clock`` is how far a usual rate may be away.
    """
    if error > ROUGHEST * rate:
        return None
    usual = min(USUAL_RATES, key=lambda known: abs(known - rate))
    if abs(usual - rate) <= max(error, clock):
        return usual
    low, high = int(np.ceil(rate - error)), int(np.floor(rate + error))
    for unit in (1000, 100, 10, 1):
        if (round_one := -(-low // unit) * unit) <= high and round_one > 0:
            return round_one
    return None
