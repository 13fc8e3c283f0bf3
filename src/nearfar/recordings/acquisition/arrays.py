"""Channels among the named arrays of a file, for formats that have no notion of a channel.

One-dimensional arrays are channels. Of two-dimensional ones, the longer axis is time, whatever its place, and each
place of the other is a channel, named ``mic:1``, ``mic:2``. The rate is a number with a usual name (``fs``,
``SampleRate``, ``sr``, ``dt``, ...), the nearest one: at the array, beside it, in what it is in, or the only one of
the file. Without a number, it comes from an array of time stamps of the same length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.acquisition import rates
from nearfar.recordings.acquisition.channels import Channel, full_scale, is_time, named_rate
from nearfar.recordings.acquisition.rates import Rate, RateError
from nearfar.recordings.sound import AudioFault, Note

MOST_PLACES = 64  # of the shorter axis; beyond, a table is an image or a spectrogram
FEWEST_SAMPLES = 16  # of a channel; shorter arrays are parameters
MOST_STAMPS = 2**27
CONTRADICTION = 1e-3  # relative, between a rate and time stamps

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """An array of real numbers in a file.

    Attributes
    ----------
    place : tuple of str
        Names of what it is in, and its own.
    shape : tuple of int
    dtype : dtype
    read : callable
        ``read(index)`` gives what is there, as of NumPy's indexing; ``read(())`` all.
    unit : str
    properties : dict
        That it has itself.
    scaling : (float, float) or None
        Offset and factor, ``value * factor + offset``, if the file has them.
    problem, fault : str
        As of ``Channel``.
    """

    place: Place
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[tuple[slice | int, ...]], NDArray[Any]]
    unit: str = ""
    properties: dict[str, object] = field(default_factory=dict)
    scaling: tuple[float, float] | None = None
    problem: str = ""
    fault: AudioFault = "refused"

    @property
    def length(self) -> int:
        return max(self.shape, default=0)

    @property
    def places(self) -> int:
        """Of its shorter axis."""
        return min(self.shape) if len(self.shape) == 2 else 1


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """What a file holds: arrays, and by place what else is written there.

    Attributes
    ----------
    arrays : list of Array
    values : dict from place to dict
    joined_by : str
        Between the names of a place.
    """

    joined_by: str
    arrays: list[Array] = field(default_factory=list)
    values: dict[Place, dict[str, object]] = field(default_factory=dict)

    def note(self, place: Place, name: str, value: object) -> None:
        """Remember a single value."""
        self.values.setdefault(place, {})[name] = value


def channels(tree: Tree) -> tuple[Channel, ...]:
    """The channels among the arrays, in their order."""
    arrays = [array for array in tree.arrays if _is_channel(array)]
    stamps = [array for array in tree.arrays if is_time(array.place[-1]) and array.places == 1]
    return tuple(c for array in arrays for c in _channels(array, stamps, tree))


def _is_channel(array: Array) -> bool:
    ends = [size for size in array.shape if size != 1]
    if len(ends) > 2 or array.length < FEWEST_SAMPLES or is_time(array.place[-1]):
        return False
    return len(array.shape) == 1 or len(ends) == 1 or array.places <= MOST_PLACES


def _channels(array: Array, stamps: Sequence[Array], tree: Tree) -> Iterator[Channel]:
    rate: Rate | None = None
    problem, fault, start = array.problem, array.fault, None
    if not problem and len(array.shape) == 2 and array.shape[0] == array.shape[1]:
        problem = (
            f"its shape is {array.shape}; which axis is time is not clear: write one array for each channel"
        )
    if not problem:
        try:
            rate, start = _rate(array, stamps, tree)
        except RateError as error:
            problem = str(error)
    offset, factor, notes = 0.0, 1.0, tuple[Note, ...]()
    if array.scaling is None:
        offset, factor, notes = full_scale(array.dtype, array.unit)
    else:
        factor, offset = array.scaling[1], -array.scaling[0] / array.scaling[1]
    name = tree.joined_by.join(array.place)
    places = array.places if len(array.shape) == 2 else 1
    for place in range(places):
        yield Channel(
            name=name if places == 1 else f"{name}:{place + 1}",
            unit=array.unit,
            rate=rate.hz if rate else None,
            samples=array.length,
            read=_reader(array, place, offset, factor),
            problem=problem,
            fault=fault,
            start=start,
            aliases=(array.place[-1] if places == 1 else f"{array.place[-1]}:{place + 1}",),
            notes=(*(rate.notes if rate else ()), *notes),
        )


def _reader(array: Array, place: int, offset: float, factor: float) -> Callable[[int, int], NDArray[Any]]:
    def read(start: int, stop: int) -> NDArray[Any]:
        values = np.asarray(array.read(_within(array.shape, place, start, stop))).reshape(-1)
        return values if (offset, factor) == (0.0, 1.0) else (values.astype(np.float64) - offset) * factor

    return read


def _within(shape: tuple[int, ...], place: int, start: int, stop: int) -> tuple[slice | int, ...]:
    """Where in an array the samples of one place lie: its longest axis is time."""
    time = shape.index(max(shape))
    return tuple(slice(start, stop) if axis == time else place for axis in range(len(shape)))


def _rate(array: Array, stamps: Sequence[Array], tree: Tree) -> tuple[Rate, float | None]:
    """Rate and beginning of an array."""
    named = _named_rate(array, tree)
    times = _times(array, stamps)
    if times is None:
        if named is None:
            raise RateError(
                "the file does not tell its rate: no number called fs, SampleRate, sr or dt, and no time vector of "
                "its length; add the rate in Hz under the name fs"
            )
        return named, None
    if array.length > MOST_STAMPS:
        raise RateError(
            f"it has {array.length} samples; at most {MOST_STAMPS} are read: cut the recording into clips"
        )
    moments = np.asarray(times.read(())).reshape(-1)
    measured = rates.from_stamps(_seconds(moments, times))
    if named is not None and abs(measured.hz - named.hz) > CONTRADICTION * named.hz:
        raise RateError(
            f"its rate is {named.hz} Hz, but its time vector {tree.joined_by.join(times.place)!r} means "
            f"{measured.hz} Hz; one of them is wrong: correct it"
        )
    return named or measured, float(moments[0])


def _seconds(moments: NDArray[Any], times: Array) -> NDArray[Any]:
    """Time stamps in seconds."""
    factor = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}.get(times.unit.strip())
    return moments if factor is None else moments.astype(np.float64) * factor


def _times(array: Array, stamps: Sequence[Array]) -> Array | None:
    """The time vector of the same length that is nearest: beside the array, or in what it is in."""
    for depth in range(len(array.place) - 1, -1, -1):
        for times in stamps:
            if times.place[:-1] == array.place[:depth] and times.length == array.length:
                return times
    return None


def _named_rate(array: Array, tree: Tree) -> Rate | None:
    for values in (
        array.properties,
        *(tree.values.get(array.place[:depth], {}) for depth in range(len(array.place) - 1, -1, -1)),
    ):
        if (found := named_rate(values)) is not None:
            return found
    everywhere = [rate for values in tree.values.values() if (rate := named_rate(values)) is not None]
    return everywhere[0] if len({rate.hz for rate in everywhere}) == 1 else None
