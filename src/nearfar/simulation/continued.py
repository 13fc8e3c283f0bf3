"""A generator of a sound without end: what it draws in one block goes on where the block before ended.

Conventions
-----------
A sound without end is made in blocks of equal length. A block is computed from its index alone, so it can be made
without those before it. It also holds the first ``overlap`` samples of the next block; there both are equal where a
sound goes on, and the two are faded into each other.

A machine or a noise that draws from a ``Continued`` in place of a plain generator goes on by itself:

* What it draws directly (phases, places) is equal in all blocks.
* Coloured noise, slow courses, the levels of a day and the angle of a shaft, which it draws by the functions of
  ``signals`` and ``mechanics``, go on from block to block.
* What happens at random times is drawn from ``passing``, other in every block.
* What belongs to a certain event, as the strength of a blow, is drawn by ``of_events``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import ndtri

Signal = NDArray[np.float64]

BLOCK_SECONDS = 16  # whole: a line at a whole number of Hz has the same phase at the start of every block
FRAMES = 64  # of noise in a block, at most
STEP = 16  # samples between two values of an angle; it is straight between them
POINTS = 32  # between two independent values of a slow course; it is straight between them
# A cubic B-spline over independent normal numbers, one a knot: its variance; the standard deviation of its slope.
SPLINE_VARIANCE = 151 / 315
SPLINE_SLOPE = math.sqrt(2 / 3 / SPLINE_VARIANCE)
STEADY_SECONDS = 300.0  # a level of a day or a set point keeps about this long; our choice


@dataclass(frozen=True, slots=True)
class Blocks:
    """How time is cut.

    Attributes
    ----------
    rate : int
        In Hz.
    """

    rate: int

    @property
    def samples(self) -> int:
        """Of a block, without what it holds of the next."""
        return BLOCK_SECONDS * self.rate

    @property
    def overlap(self) -> int:
        """What a block holds of the next, which is also half a frame of noise."""
        return self.samples // math.gcd(FRAMES, self.samples)


class Turning(Protocol):
    """A shaft whose speed changes by a schedule."""

    @property
    def nominal(self) -> float:
        """Revolutions or cycles a minute, of which its fluctuations are a share."""
        ...

    def turns(self, samples: Signal) -> Signal:
        """How far it has turned at these samples of the stream, in revolutions."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """A shaft that keeps its speed, in revolutions a minute."""

    nominal: float
    rate: int

    def turns(self, samples: Signal) -> Signal:
        return self.nominal / 60 / self.rate * samples


class Continued(np.random.Generator):
    """The generator of one block; see the module.

    Parameters
    ----------
    seeds : SeedSequence
        Of the whole sound.
    block : int
        Index of the block.
    blocks : Blocks
    turning : Turning or None
        The course of the shaft; ``None``: at the speed that is asked for.
    """

    def __init__(
        self, seeds: np.random.SeedSequence, block: int, blocks: Blocks, turning: Turning | None = None
    ) -> None:
        super().__init__(np.random.PCG64(seeds))
        self.seeds, self.block, self.blocks, self.turning = seeds, block, blocks, turning
        self.passing = np.random.default_rng(self._below("passing", block % 2**32))
        self._asked = 0

    @property
    def start(self) -> int:
        """The first sample of the block, in the stream."""
        return self.block * self.blocks.samples

    def _below(self, *place: int | str) -> np.random.SeedSequence:
        """The seeds of a part of this sound."""
        key = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in place]
        return np.random.SeedSequence(self.seeds.entropy, spawn_key=(*self.seeds.spawn_key, *key))

    def _next_key(self) -> np.uint64:
        """The key of the next course, by the order in which they are asked for."""
        self._asked += 1
        return np.uint64(self._below("course", self._asked).generate_state(1, np.uint64)[0])

    def spawn(self, n_children: int) -> list[Any]:
        """Generators of parts of this sound; the same ones whenever it is called."""
        return [
            Continued(self._below("part", i), self.block, self.blocks, self.turning)
            for i in range(n_children)
        ]

    def shaped(
        self, amplitude: Callable[[Signal], Signal], *, samples: int, rate: int, start: int | None
    ) -> Signal:
        """Gaussian noise of RMS one, in expectation, with this amplitude spectrum.

        It is drawn in frames that overlap by half, under the square root of a Hann window, which keeps the power.

        Parameters
        ----------
        start : int or None
            The first sample, if it is not that of the block.
        """
        self._asked += 1
        hop = self.blocks.overlap
        first = self.start if start is None else start
        before = first // hop  # frames are counted by their middle
        count = -(-(first + samples) // hop) - before + 1
        spectra = self._frames(before, count, self._asked)
        frequencies = np.arange(hop + 1, dtype=np.float64) * (rate / (2 * hop))
        amplitudes = np.zeros(hop + 1)
        amplitudes[1:-1] = amplitude(frequencies[1:-1])
        amplitudes *= hop / math.sqrt(np.dot(amplitudes, amplitudes))
        spectra *= amplitudes.astype(np.float32)
        sounds = scipy.fft.irfft(spectra, 2 * hop, axis=-1, overwrite_x=True)
        sounds *= np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32)
        joined = (sounds[:-1, hop:] + sounds[1:, :hop]).ravel()
        return joined[first - before * hop :][:samples].astype(np.float64)

    def _frames(self, first: int, count: int, asked: int) -> NDArray[np.complex64]:
        """Complex normal spectra of frames, (count, bins); those of a block come from one generator."""
        hop = self.blocks.overlap
        in_block = self.blocks.samples // hop
        spectra = np.empty((count, hop + 1), dtype=np.complex64)
        at = first
        while at < first + count:
            block, begin = divmod(at, in_block)
            end = min(in_block, begin + first + count - at)
            rng = np.random.Generator(np.random.SFC64(self._below("noise", asked, block % 2**32)))
            for frame in range(end):  # one by one: so the first ones are equal, however many are drawn
                drawn = _complex_normal(hop + 1, rng)
                if frame >= begin:
                    spectra[at - first + frame - begin] = drawn
            at += end - begin
        return spectra

    def drift(self, hertz: float, *, samples: int, rate: int) -> Signal:
        """A smooth random course, about standard normal, with ``hertz`` independent values a second."""
        key = self._next_key()
        step = max(1, int(rate / hertz / POINTS))
        return straight(lambda at: smooth(at * (hertz / rate), key), self.start, samples, step)

    def daily(self, count: int) -> Signal:
        """Standard normal numbers that change within minutes, as they are in the middle of the block: (count,)."""
        keys = [self._next_key() for _ in range(count)]
        at = np.array([(self.block + 0.5) * BLOCK_SECONDS / STEADY_SECONDS])
        return np.array([smooth(at, key)[0] for key in keys])

    def of_events(self, at: Signal) -> Signal:
        """A standard normal number for each event, which is known by its place ``at``, whatever the block."""
        return normal_at(np.rint(1000 * np.asarray(at)).astype(np.int64), self._next_key())

    def angle(
        self, speed: float, *, samples: int, rate: int, fluctuation: tuple[float, float], setpoint: float
    ) -> Signal:
        """Unwrapped angle in radians of a shaft that does not quite keep its speed.

        It comes before and after where it should be, by two smooth courses, so that its speed fluctuates.

        Parameters
        ----------
        speed : float
            In revolutions a minute, unless there is a schedule.
        fluctuation : (float, float)
            Relative standard deviation of the speed, and how often it changes, in Hz.
        setpoint : float
            Relative standard deviation of the set point, which changes within minutes.
        """
        turning = self.turning or Constant(speed, rate)
        key, slow_key = self._next_key(), self._next_key()
        origin = self.uniform(0, 1)
        size, hertz = fluctuation
        quick = size * turning.nominal / 60 / (SPLINE_SLOPE * hertz)
        slow = setpoint * turning.nominal / 60 * STEADY_SECONDS / SPLINE_SLOPE

        def turns(at: Signal) -> Signal:
            ahead = quick * smooth(at * (hertz / rate), key) + slow * smooth(
                at / (rate * STEADY_SECONDS), slow_key
            )
            return 2 * np.pi * (origin + turning.turns(at) + ahead)

        return straight(turns, self.start, samples, STEP)


def passing(rng: np.random.Generator) -> np.random.Generator:
    """The generator of what happens at random times: of a block in a sound without end, else the same."""
    return rng.passing if isinstance(rng, Continued) else rng


def of_events(at: Signal, rng: np.random.Generator) -> Signal:
    """A standard normal number for each of the events at these places (any unit that tells them apart)."""
    return rng.of_events(at) if isinstance(rng, Continued) else rng.standard_normal(len(at))


def straight(course: Callable[[Signal], Signal], start: int, samples: int, step: int) -> Signal:
    """A course whose values are computed at multiples of ``step`` samples, and straight between them."""
    first = start // step
    last = -(-(start + samples) // step)
    values = course(step * np.arange(first, last + 1, dtype=np.float64))
    pieces: Signal = values[:-1, None] + np.diff(values)[:, None] * (np.arange(step) / step)
    return pieces.ravel()[start - first * step :][:samples]


def smooth(at: Signal, key: np.uint64) -> Signal:
    """A cubic B-spline over independent normal numbers, one for each whole number; of variance one on average."""
    knot = np.floor(at).astype(np.int64)
    lowest = int(knot.min()) - 1
    values = normal_at(np.arange(lowest, int(knot.max()) + 3), key)
    rest, place = at - knot, knot - lowest
    weights = (
        (1 - rest) ** 3,
        3 * rest**3 - 6 * rest**2 + 4,
        -3 * rest**3 + 3 * rest**2 + 3 * rest + 1,
        rest**3,
    )
    total = np.zeros_like(rest)
    for beside, weight in enumerate(weights):
        total += weight * values[place + beside - 1]
    course: Signal = total / (6 * math.sqrt(SPLINE_VARIANCE))
    return course


def normal_at(indices: NDArray[np.int64], key: np.uint64) -> Signal:
    """A standard normal number for each index, the same whenever it is asked for.

    The bits are those of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014), whose counter is the index.
    """
    with np.errstate(over="ignore"):
        bits = key + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    numbers: Signal = ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)
    return numbers


def _complex_normal(count: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Numbers whose real and imaginary parts are standard normal, by the transform of Box and Muller."""
    drawn = rng.random((2, count), dtype=np.float32)
    size = np.sqrt(-2 * np.log(1 - drawn[0]))
    turn = np.float32(2 * np.pi) * drawn[1]
    numbers = np.empty(count, dtype=np.complex64)
    numbers.real, numbers.imag = size * np.cos(turn), size * np.sin(turn)
    return numbers
