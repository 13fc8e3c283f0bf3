"""A room: how sound gets from a place to a microphone.

Conventions
-----------
Positions are ``(x, y, z)`` in metres from one corner of a shoebox. A way is the impulse response from a source to
a microphone; all ways of a room begin with the same delay of some samples (that of the interpolation between
samples), so that times between them are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyroomacoustics
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from nearfar.simulation.signals import SPEED_OF_SOUND, Signal

INTERPOLATION = 40  # samples on each side of an arrival, pyroomacoustics' default

# Eyring's reverberation time is 0.161 volume / (-surface ln(1 - absorption)) seconds (H. Kuttruff, "Room
# Acoustics", 5th ed., 2009). Image sources in a shoebox deviate from it: it is where the search begins.
EYRING = 0.161
DECAY_DB = (-5.0, -25.0)  # "T20" of ISO 3382-1: the part of the decay that is extrapolated to 60 dB
TOLERANCE = 0.03  # of that mean; single places deviate by more
STEPS = 12  # of the search for an absorption
MAX_IMAGES = 4_000_000  # of a source; 2 million take 8 s and 0.8 GB for four ways
MAX_TAPS = 2**22  # of a way, 260 s at 16 kHz
MEASURED = 0.75  # part of the decay that is looked at: what comes later moves the level at -25 dB by 0.04 dB

# Where the reverberation time is measured, as parts of the room's size: far apart, on no axis of symmetry.
PROBE_SOURCES = (0.29, 0.34, 0.41), (0.31, 0.83, 0.37)
PROBE_MICROPHONES = (0.69, 0.62, 0.53), (0.84, 0.23, 0.63)

Place = tuple[float, ...]  # (x, y, z)
Ways = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Room:
    """A shoebox whose surfaces absorb alike.

    Attributes
    ----------
    size : (3,) tuple
        In metres.
    reverberation_seconds : float
        The time of a decay by 60 dB.
    absorption : float
        Of energy, at every reflection.
    """

    size: Place
    reverberation_seconds: float
    absorption: float

    @classmethod
    def build(cls, size: Place, reverberation_seconds: float, *, rate: int) -> Room:
        """A room with the absorption that makes the sound decay in this time, found by measuring.

        Raises
        ------
        ValueError
            If no absorption does: the room is too large for a time so short, or so narrow or small that a time so
            long takes too many reflections; or if a number is not positive.
        """
        if not all(0 < number < np.inf for number in (*size, reverberation_seconds, rate)):
            raise ValueError(
                f"size={size}, reverberation_seconds={reverberation_seconds}, rate={rate}: all must be positive "
                "and finite"
            )
        cls(size, reverberation_seconds, absorption=0.0)._refuse_unbounded(rate)
        x, y, z = size
        surface = 2 * (x * y + y * z + z * x)
        exponent = EYRING * x * y * z / (surface * reverberation_seconds)  # -ln(1 - absorption)
        is_short = exponent > 1  # by Eyring's formula, most of the energy would have to go at each reflection
        nearest = np.inf
        for _ in range(STEPS):
            room = cls(size, reverberation_seconds, absorption=float(-np.expm1(-exponent)))
            measured = room._measured(rate)
            if abs(measured / reverberation_seconds - 1) < TOLERANCE:
                return room
            if measured > 0:  # else there is the direct sound, and no decay
                nearest = min(nearest, measured, key=lambda found: abs(found - reverberation_seconds))
            exponent *= measured / reverberation_seconds
            if not 0 < exponent < np.inf:
                break
        remedy = (
            "longer time or a smaller room" if is_short else "shorter time or a room of other proportions"
        )
        found = f"the nearest possible time in this room is {nearest:.3f} s"
        found = found if nearest < np.inf else "only the direct sound is heard in this room"
        raise ValueError(
            f"size={size}, reverberation_seconds={reverberation_seconds}: impossible; {found}. Ask for a "
            f"{remedy}"
        )

    def _refuse_unbounded(self, rate: int, decay: float = 1.0) -> None:
        """Raise before a computation that would take minutes, or all memory."""
        order, taps = np.float64(self._reflections(decay)), self._seconds(decay) * rate
        with np.errstate(over="ignore"):
            images = 4 / 3 * order**3  # in a shoebox: all (i, j, k) with |i| + |j| + |k| up to the order
        if not (images <= MAX_IMAGES and taps <= MAX_TAPS):
            raise ValueError(
                f"size={self.size}, reverberation_seconds={self.reverberation_seconds}, rate={rate}: takes "
                f"{images:.3g} reflections and {taps:.3g} samples, but at most {MAX_IMAGES:.3g} and {MAX_TAPS:.3g} "
                "are computed; ask for a shorter time, or a room that is larger or less narrow"
            )

    def _measured(self, rate: int) -> float:
        """The mean of the reverberation time over four ways."""
        sources, microphones = (
            [tuple(part * length for part, length in zip(parts, self.size, strict=True)) for parts in probes]
            for probes in (PROBE_SOURCES, PROBE_MICROPHONES)
        )
        ways = self.ways(sources, microphones, rate=rate, decay=MEASURED).reshape(4, -1)
        return float(np.mean([reverberation_seconds(way, rate) for way in ways]))

    def ways(
        self, sources: Sequence[Place], microphones: Sequence[Place], *, rate: int, decay: float = 1.0
    ) -> Ways:
        """From every source to every microphone, by image sources.

        J. B. Allen, D. A. Berkley, "Image method for efficiently simulating small-room acoustics", J. Acoust. Soc.
        Am. 65 (1979), as pyroomacoustics has it (R. Scheibler, E. Bezzam, I. Dokmanic, "Pyroomacoustics", ICASSP
        2018).

        Parameters
        ----------
        sources, microphones : sequences of places
        rate : int
            In Hz.
        decay : float
            The part of the reverberation time after which everything is cut off.

        Returns
        -------
        (sources, microphones, taps) array

        Raises
        ------
        ValueError
            If a place is not in the room, or there are too many reflections.
        """
        self._refuse_unbounded(rate, decay)
        for place in (*sources, *microphones):
            if not all(0 < at < length for at, length in zip(place, self.size, strict=True)):
                raise ValueError(
                    f"{place} is not inside the room of size {self.size}, in m; move the source or microphone"
                )
        with _one_thread():
            room = pyroomacoustics.ShoeBox(
                np.array(self.size),
                fs=rate,
                materials=pyroomacoustics.Material(self.absorption),
                max_order=self._order(decay),
            )
            room.set_sound_speed(SPEED_OF_SOUND)
            for source in sources:
                room.add_source(np.array(source))
            room.add_microphone_array(np.array(microphones).T)
            room.compute_rir()
        ways = np.zeros((len(sources), len(microphones), self._taps(rate, decay)))
        for m, of_microphone in enumerate(room.rir):
            for s, response in enumerate(of_microphone):
                kept = min(len(response), ways.shape[-1])
                ways[s, m, :kept] = response[:kept]
        return ways

    def _order(self, decay: float) -> int:
        return int(np.ceil(self._reflections(decay)))

    def _reflections(self, decay: float) -> float:
        """That a sound can have seen in that time, along the shortest way."""
        x, y, z = np.array(self.size)
        with np.errstate(all="ignore"):  # what is not finite is too many
            shortest = min(a * b / np.hypot(a, b) for a, b in ((x, y), (y, z), (z, x)))
            return float(SPEED_OF_SOUND * decay * self.reverberation_seconds / shortest)

    def _seconds(self, decay: float) -> float:
        """Until everything is cut off."""
        return math.hypot(*self.size) / SPEED_OF_SOUND + decay * self.reverberation_seconds

    def _taps(self, rate: int, decay: float) -> int:
        return round(self._seconds(decay) * rate) + 2 * INTERPOLATION


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads would add up the images in an order of their own, and bytes would depend on the machine."""
    before = pyroomacoustics.constants.get("num_threads")
    pyroomacoustics.constants.set("num_threads", 1)
    try:
        yield
    finally:
        pyroomacoustics.constants.set("num_threads", before)


def reverberation_seconds(response: Signal, rate: int) -> float:
    """The reverberation time of an impulse response, from the part of its decay that ``DECAY_DB`` names.

    M. R. Schroeder, "New method of measuring reverberation time", J. Acoust. Soc. Am. 37 (1965): the energy that
    is still to come falls as sound in the room does after its source has stopped.
    """
    to_come = np.cumsum(response[::-1] ** 2)[::-1]
    level = 10 * np.log10(to_come[to_come > 0] / to_come[0])
    first, last = (int(np.argmax(level <= limit)) for limit in DECAY_DB)
    if last - first < 2:  # nothing but the direct sound
        return 0.0
    slope = np.polyfit(np.arange(first, last) / rate, level[first:last], 1)[0]
    return float(-60 / slope)


def heard(sound: Signal, ways: Ways) -> Ways:
    """What microphones hear of a source.

    Parameters
    ----------
    sound : (samples + taps - 1,) array
        It begins before the recording does, so that the room is already filled.
    ways : (microphones, taps) array

    Returns
    -------
    (microphones, samples) array
    """
    recorded: Ways = oaconvolve(sound[None], ways, mode="valid", axes=-1)
    return recorded
