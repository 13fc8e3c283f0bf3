"""Noise from many places at once, so many that two microphones hear little in common.

Conventions
-----------
Signals are as in ``signals``, places and ways as in ``rooms``. Of two microphones the first is near, the second
far.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import FAR, NEAR
from nearfar.simulation.noise import Factory
from nearfar.simulation.rooms import Place, Room, Ways
from nearfar.simulation.signals import DB_PER_OCTAVE, FLAT_BELOW_HZ, Signal, drift, from_db

SOURCES = (12, 24)  # fewest and most
LEVELS_DB = (-6.0, 0.0)  # of a source at 1 m; our choice: none stands out
OUTWARDS = (0.5, 1.0)  # of the way from the middle between the microphones to the walls; our choice
SLOPES = (1.0, 4.0)  # dB per octave downwards; our choice: flatter than a factory
# As of a factory. Every source's level wanders on its own, and so does what two microphones have in common.
WANDER_DB, WANDER_HZ = Factory.WANDER_DB, Factory.WANDER_HZ


@dataclass(frozen=True, slots=True)
class Crowd:
    """The sources of a field: steady coloured noises in all directions, of about equal levels.

    Attributes
    ----------
    places : (sources,) tuple of places
    levels_db : (sources,) tuple
        At 1 m, relative to each other.
    slopes : (sources,) tuple
        In dB per octave downwards.
    share_db : float
        Of all of them at the near microphone, against all other noise.
    """

    places: tuple[Place, ...]
    levels_db: tuple[float, ...]
    slopes: tuple[float, ...]
    share_db: float = 0.0

    @classmethod
    def draw(
        cls,
        room: Room,
        centre: Place,
        *,
        away_from: tuple[Place, ...],
        away: float,
        margin: float,
        rng: np.random.Generator,
    ) -> Self:
        """Sources in all directions from ``centre``.

        Parameters
        ----------
        away_from, away
            Places, and how many metres every source is away from each of them, at least.
        margin : float
            To the walls, in metres.
        """
        count = int(rng.integers(*SOURCES, endpoint=True))
        places: list[Place] = []
        while len(places) < count:
            place = _outwards(room, centre, margin, rng)
            if all(math.dist(place, other) >= away for other in away_from):
                places.append(place)
        levels, slopes = rng.uniform(*LEVELS_DB, count), rng.uniform(*SLOPES, count)
        return cls(tuple(places), tuple(levels.tolist()), tuple(slopes.tolist()))


def _outwards(room: Room, centre: Place, margin: float, rng: np.random.Generator) -> Place:
    """A place in any direction, on the outer part of the way to the wall there."""
    direction = rng.standard_normal(3)
    at, wall = np.array(centre), np.where(direction > 0, np.array(room.size) - margin, margin)
    reach = np.min((wall - at) / direction)
    place: Place = tuple((at + rng.uniform(*OUTWARDS) * reach * direction).tolist())
    return place


@dataclass(frozen=True, slots=True)
class Field:
    """What two microphones hear of a crowd.

    The sum of independent Gaussian noises, each through its own ways, is Gaussian, too: the powers and the
    cross-spectrum of the microphones determine it. So a clip needs two noises, not one for each source. They are
    drawn in blocks of about a second that overlap by half, and mixed by the Cholesky factor of the 2 x 2 matrix of
    the spectra. In each block every source has its own level. Blocks under the square root of a Hann window keep
    the power exactly; they lower what is in common at a delay of 1/25 of a block, 14 m at 16 kHz, by 1 percent.

    Attributes
    ----------
    crowd : Crowd
    powers : (2, sources, bins) array
        Power spectra of each source at the microphones.
    crossed : (sources, bins) array
        Cross-spectra: far times the conjugate of near.
    length : int
        Of a block, in samples.
    rate : int
        In Hz.
    """

    crowd: Crowd
    powers: Signal
    crossed: NDArray[np.complex128]
    length: int
    rate: int

    @classmethod
    def build(cls, crowd: Crowd, ways: Ways, *, power: float, rate: int) -> Self:
        """Prepare the spectra.

        Parameters
        ----------
        ways : (sources, 2, taps) array
        power : float
            Of all other noise at the near microphone.
        """
        length = 2 ** math.ceil(math.log2(2 * ways.shape[-1]))
        amplitudes = np.stack([_amplitudes(slope, length, rate) for slope in crowd.slopes])
        amplitudes *= from_db(np.array(crowd.levels_db))[:, None]
        spectra = scipy.fft.rfft(ways, length, axis=-1) * amplitudes[:, None]
        powers = np.abs(np.swapaxes(spectra, 0, 1)) ** 2
        scale = from_db(2 * crowd.share_db) * power / (2 / length * powers[NEAR].sum())
        crossed = scale * spectra[:, FAR] * spectra[:, NEAR].conj()
        return cls(crowd, scale * powers, crossed, length, rate)

    @property
    def power(self) -> Signal:
        """Mean square at both microphones, when every source has its median level: (2,) array."""
        total: Signal = 2 / self.length * self.powers.sum(axis=(1, 2))
        return total

    def __call__(self, *, samples: int, rng: np.random.Generator) -> Signal:
        """One clip: (2, samples) array."""
        hop = self.length // 2
        blocks = math.ceil(samples / hop) + 1
        levels = self._levels(blocks, rng)
        near, far = (np.einsum("sb,sf->bf", levels, power) for power in self.powers)
        crossed = np.einsum("sb,sf->bf", levels, self.crossed)
        parts = rng.standard_normal((2, 2, *near.shape)) * math.sqrt(self.length / 2)
        first, second = parts[:, 0] + 1j * parts[:, 1]
        root = np.sqrt(near)
        common = crossed / np.maximum(root, np.finfo(np.float64).tiny)
        alone = np.sqrt(np.maximum(far - np.abs(common) ** 2, 0.0))
        spectra = np.stack([root * first, common * first + alone * second])
        window = np.sin(np.pi * (np.arange(self.length) + 0.5) / self.length)
        sounds = window * scipy.fft.irfft(spectra, self.length, axis=-1)
        clip = np.zeros((2, (blocks + 1) * hop))
        for block in range(blocks):
            clip[:, block * hop : block * hop + self.length] += sounds[:, block]
        return clip[:, hop : hop + samples]

    def _levels(self, blocks: int, rng: np.random.Generator) -> Signal:
        """The sources' powers in each block, relative to their medians: (sources, blocks) array."""
        a_block = WANDER_HZ * self.length / 2 / self.rate
        courses = [drift(a_block, samples=blocks, rate=1, rng=rng) for _ in self.crowd.places]
        levels: Signal = from_db(2 * WANDER_DB * np.stack(courses))
        return levels

    def described(self) -> dict[str, Any]:
        """The parameters, in values that JSON can hold."""
        return asdict(self.crowd)


def _amplitudes(slope: float, length: int, rate: int) -> Signal:
    """The amplitude spectrum of coloured noise of RMS one, without what does not sound."""
    frequencies = np.arange(length // 2 + 1) * (rate / length)
    amplitudes: Signal = np.maximum(frequencies, FLAT_BELOW_HZ) ** (-slope / DB_PER_OCTAVE)
    amplitudes[0] = 0.0
    return amplitudes / math.sqrt(2 / length * np.sum(amplitudes**2))
