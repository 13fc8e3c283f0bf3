"""What can be heard in a hall beside the machine: one class per kind of source, and recordings of one's own.

Conventions
-----------
Signals are as in ``signals``. A source is a specimen: what stays at one installation is drawn once, by ``draw``,
what a clip holds is drawn by the call. In the long run its RMS is about one; a clip may be quieter or louder,
but is never silent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter
from scipy.signal.windows import hann

from nearfar.files.listing import list_below
from nearfar.recordings.audio import AudioError, read_header, read_part, resample
from nearfar.recordings.clips import USUAL_SUFFIXES, is_audio
from nearfar.simulation.continued import Continued, passing
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.mechanics import Condition, Machine, harmonics_db
from nearfar.simulation.signals import (
    SPEED_OF_SOUND,
    Signal,
    bump,
    coloured,
    drift,
    from_db,
    lines,
    normalized,
    ringing,
    rms,
    tabled_lines,
)

FLOOR = 0.05  # RMS of what is left of a hall while a source pauses, our choice
TRIES = 50  # to find a part of a recording that is not silent
FLOOR_SLOPE = 3.0  # its colour in dB per octave, our choice


class Noise(Protocol):
    """A source of noise: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip: (samples,) array."""
        ...


class Kind(Noise, Protocol):
    """A kind of source whose specimens can be drawn."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """What stays at one installation."""
        ...


def noise_gain(wanted: Signal, noise: Signal, *, snr_db: float) -> float:
    """The factor on ``noise`` that makes it ``snr_db`` weaker than ``wanted``, in RMS over the clip.

    Raises
    ------
    ValueError
        If either is silent: no factor makes such a ratio.
    """
    levels = rms(wanted), rms(noise)
    if min(levels) == 0:
        raise ValueError(
            f"rms(wanted)={levels[0]}, rms(noise)={levels[1]}: both must be above 0 for a ratio of {snr_db} dB"
        )
    return float(levels[0] / levels[1] * from_db(-snr_db))


def _floor(*, samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """What is left of a hall while a source pauses."""
    return FLOOR * coloured(FLOOR_SLOPE, samples=samples, rate=rate, rng=rng)


def _place(grains: Signal, at: NDArray[np.int64], *, samples: int) -> Signal:
    """The sum of the (grains, length) sounds, each from its sample ``at`` on; what lies beyond is cut off."""
    index = at[:, None] + np.arange(grains.shape[1])
    total: Signal = np.bincount(index.ravel(), grains.ravel(), minlength=samples)[:samples].astype(np.float64)
    return total


@dataclass(frozen=True, slots=True)
class Factory:
    """A hall full of work: coloured noise whose level wanders, mains hum, and now and then something drops.

    Hum are lines at multiples of twice the mains' frequency, since magnetostriction does not know the sign of
    the field. Drops are a Poisson process of bursts of white noise that decay by 1 / e in ``DECAY_SECONDS``.

    Attributes
    ----------
    slope : float
        Of the coloured noise, in dB per octave downwards.
    hum : float
        Its RMS, relative to the coloured noise.
    """

    WANDER_DB: ClassVar[float] = 3.0  # standard deviation of the level, our choice
    WANDER_HZ: ClassVar[float] = 0.5  # how often it changes, our choice
    HUM_HZ: ClassVar[float] = 100.0
    HUM_HARMONICS: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.3, 0.2)  # amplitudes, our choice
    DROPS_PER_SECOND: ClassVar[float] = 0.5  # our choice: a workshop, not a forge
    DROP_LEVEL: ClassVar[tuple[float, float]] = (2.0, 6.0)  # of its onset, in RMS of the noise; our choice
    DECAY_SECONDS: ClassVar[float] = 0.03  # our choice

    slope: float
    hum: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """What stays at one installation."""
        return cls(slope=rng.uniform(2.0, 5.0), hum=rng.uniform(0.1, 0.4))

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip: (samples,) array."""
        wander = from_db(self.WANDER_DB * drift(self.WANDER_HZ, samples=samples, rate=rate, rng=rng))
        steady = coloured(self.slope, samples=samples, rate=rate, rng=rng)
        turned = 2 * np.pi * self.HUM_HZ / rate * np.arange(samples, dtype=np.float64)
        phases = rng.uniform(0, 2 * np.pi, len(self.HUM_HARMONICS))
        orders = np.arange(1.0, len(phases) + 1)
        summed = tabled_lines if isinstance(rng, Continued) else lines
        hum = normalized(summed(turned, orders, np.array(self.HUM_HARMONICS), phases))
        drops = self._drops(samples=samples, rate=rate, rng=rng)
        return (steady * wander + self.hum * hum + drops) / math.hypot(1.0, self.hum)

    def _drops(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        if isinstance(rng, Continued):
            return self._sparse_drops(samples=samples, rate=rate, rng=rng.passing)
        onsets = rng.integers(0, samples, rng.poisson(self.DROPS_PER_SECOND * samples / rate))
        strikes = np.bincount(onsets, rng.uniform(*self.DROP_LEVEL, len(onsets)), minlength=samples)
        envelope = lfilter([1.0], [1.0, -np.exp(-1 / (self.DECAY_SECONDS * rate))], strikes)
        drops: Signal = envelope * rng.standard_normal(samples)
        return drops

    def _sparse_drops(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """The same, each until it has decayed by 80 dB: noise is drawn where there is a drop only."""
        onsets = rng.integers(0, samples, rng.poisson(self.DROPS_PER_SECOND * samples / rate))
        decay = np.exp(-np.arange(int(9.2 * self.DECAY_SECONDS * rate)) / (self.DECAY_SECONDS * rate))
        drops = np.zeros(samples + len(decay))
        for onset, strike in zip(onsets, rng.uniform(*self.DROP_LEVEL, len(onsets)), strict=True):
            drops[onset : onset + len(decay)] += strike * decay * rng.standard_normal(len(decay))
        return drops[:samples]


@dataclass(frozen=True, slots=True)
class OtherMachine:
    """Another machine, in good order.

    Attributes
    ----------
    machine : str
        Its name in ``MACHINES``.
    specimen : Machine
    condition : Condition
        In which it runs all the time.
    """

    machine: str
    specimen: Machine
    condition: Condition

    @classmethod
    def draw(cls, rng: np.random.Generator, without: str | None = None) -> Self:
        """What stays at one installation: a machine of any type but ``without``."""
        machine = str(rng.choice([name for name in sorted(MACHINES) if name != without]))
        kind = MACHINES[machine]
        condition = Condition(int(rng.choice(kind.SPEEDS.usual)), int(rng.choice(kind.LOADS.usual)))
        return cls(machine, kind.manufacture(rng), condition)

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip: (samples,) array."""
        return self.specimen.run(self.condition, samples=samples, rate=rate, rng=rng).sound


@dataclass(frozen=True, slots=True)
class Hits:
    """Someone hammers, or puts things down: metal that is struck at random, and rings.

    A Poisson process of strikes of uniformly distributed strengths. Each sets all modes ringing as in
    ``signals.ringing``, more or less strongly by the place that it hits: our model. A mode with the amplitude
    ``a`` and the damping ratio ``zeta`` holds the energy ``a^2 / (4 zeta w)``, ``w = 2 pi hertz``.

    Attributes
    ----------
    per_second : float
        Mean number of strikes.
    hertz, damping, amplitudes : (modes,) tuple
        Frequency, damping ratio and, relative to each other, mean amplitude of the modes.
    """

    MODES: ClassVar[int] = 5
    STRENGTHS: ClassVar[tuple[float, float]] = (0.3, 1.0)  # weakest and strongest, our choice
    SPREAD: ClassVar[float] = 0.5  # relative standard deviation of a mode's amplitude, our choice

    per_second: float
    hertz: tuple[float, ...]
    damping: tuple[float, ...]
    amplitudes: tuple[float, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """What stays at one installation."""
        return cls(
            per_second=rng.uniform(0.5, 3.0),
            hertz=tuple(
                np.sort(np.geomspace(400, 3000, cls.MODES) * rng.uniform(0.8, 1.25, cls.MODES)).tolist()
            ),
            damping=tuple(np.exp(rng.uniform(np.log(0.002), np.log(0.01), cls.MODES)).tolist()),
            amplitudes=tuple(rng.uniform(0.3, 1.0, cls.MODES).tolist()),
        )

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip: (samples,) array."""
        endless, by_chance = isinstance(rng, Continued), passing(rng)
        onsets = by_chance.uniform(0, samples, by_chance.poisson(self.per_second * samples / rate))
        strengths = by_chance.uniform(*self.STRENGTHS, len(onsets))
        low, high = self.STRENGTHS
        square = (low**2 + low * high + high**2) / 3 * (1 + self.SPREAD**2)  # mean, of strength times place
        struck, power = np.zeros(samples), 0.0
        for hertz, damping, amplitude in zip(self.hertz, self.damping, self.amplitudes, strict=True):
            hits = amplitude * strengths * (1 + self.SPREAD * by_chance.standard_normal(len(onsets)))
            struck += ringing(
                onsets, hits, hertz=hertz, damping=damping, samples=samples, rate=rate, quick=endless
            )
            power += self.per_second * square * amplitude**2 / (4 * damping * 2 * math.pi * hertz)
        return struck / math.sqrt(power) + _floor(samples=samples, rate=rate, rng=rng)


# Average formants F1, F2, F3 of ten vowels of men, in Hz; these men speak at 132 Hz, the women at 223 Hz and with
# formants about 1.16 times as high: G. E. Peterson, H. L. Barney, "Control methods used in a study of the vowels",
# J. Acoust. Soc. Am. 24 (1952).
VOWELS = (
    (270, 2290, 3010),
    (390, 1990, 2550),
    (530, 1840, 2480),
    (660, 1720, 2410),
    (730, 1090, 2440),
    (570, 840, 2410),
    (440, 1020, 2240),
    (300, 870, 2240),
    (640, 1190, 2390),
    (490, 1350, 1690),
)


@dataclass(frozen=True, slots=True)
class Talker:
    """Someone who talks: pulses of a voice that set the formants of vowels ringing, and fricatives between.

    A syllable is a vowel under ``sin^2``, which lasts a quarter of a second on average, as the fluctuations of
    speech are strongest at 3 to 4 Hz (T. Houtgast, H. J. M. Steeneken, "A review of the MTF concept in room
    acoustics and its use for estimating speech intelligibility in auditoria", J. Acoust. Soc. Am. 77 (1985)).

    Attributes
    ----------
    pitch_hz : float
        Of the voice, on average.
    tract : float
        Formants, relative to those of ``VOWELS``.
    level_db : float
        Relative to the other talkers.
    """

    SYLLABLES_PER_SECOND: ClassVar[float] = 4.0
    EVENNESS: ClassVar[float] = 16.0  # shape of the gamma distribution of their lengths, our choice
    STRESSES: ClassVar[tuple[float, ...]] = (0.0, 0.5, 0.7, 1.0)  # of a pause and of syllables, our choice
    MELODY_OCTAVES: ClassVar[float] = 0.15  # standard deviation of the pitch, our choice
    MELODY_HZ: ClassVar[float] = 2.0  # how often it changes, our choice
    JITTER: ClassVar[float] = 0.01  # of a period, our choice
    BANDWIDTHS_HZ: ClassVar[tuple[float, ...]] = (80.0, 100.0, 150.0)  # of the formants, our choice
    FORMANTS_DB: ClassVar[tuple[float, ...]] = (
        0.0,
        -6.0,
        -10.0,
    )  # amplitudes that they ring with, our choice
    PULSE_SECONDS: ClassVar[float] = 0.016  # until the slowest formant has decayed by 35 dB
    FRICATIVES: ClassVar[float] = 0.5  # share of the syllables that begin with one, our choice
    FRICATIVE_SECONDS: ClassVar[float] = 0.08  # our choice
    FRICATIVE_LEVEL: ClassVar[float] = 0.5  # RMS of its middle, relative to the voice; our choice
    FRICATIVE_HZ: ClassVar[float] = 2500.0  # from where on it hisses, our choice

    pitch_hz: float
    tract: float
    level_db: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """A man or a woman."""
        pitch_hz = rng.uniform(100.0, 240.0)
        tract = float(np.interp(pitch_hz, (132.0, 223.0), (1.0, 1.16)))
        return cls(pitch_hz, tract, level_db=rng.uniform(-6.0, 0.0))

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """Speech of about RMS one: (samples,) array."""
        length = rate / self.SYLLABLES_PER_SECOND
        lengths = length * rng.gamma(self.EVENNESS, 1 / self.EVENNESS, 2 * int(samples / length) + 8)
        ends = np.cumsum(lengths) - rng.uniform(0, lengths[0])
        voice = self._voice(ends, lengths, samples=samples, rate=rate, rng=rng)
        return voice + self._fricatives(ends, samples=samples, rate=rate, rng=rng)

    def _voice(
        self, ends: Signal, lengths: Signal, *, samples: int, rate: int, rng: np.random.Generator
    ) -> Signal:
        """Vowels in the syllables with these ends and lengths, in samples."""
        pulses = 2 * int(samples / rate * self.pitch_hz) + 8
        melody = 2 ** (
            self.MELODY_OCTAVES * drift(self.MELODY_HZ, samples=pulses, rate=round(self.pitch_hz), rng=rng)
        )
        periods = rate / self.pitch_hz * (1 + self.JITTER * rng.standard_normal(pulses)) / melody
        at = np.cumsum(periods)
        at = at[at < samples]
        syllable = np.searchsorted(ends, at)
        stresses = rng.choice(self.STRESSES, len(ends))
        strengths = stresses[syllable] * np.sin(np.pi * (ends[syllable] - at) / lengths[syllable]) ** 2
        vowels = rng.integers(len(VOWELS), size=len(ends))
        grains = strengths[:, None] * self._vowels(rate)[vowels[syllable]]
        power = self.pitch_hz / rate * np.mean(np.square(self.STRESSES)) * 3 / 8  # the mean of sin^4
        return _place(grains, at.astype(np.int64), samples=samples) / math.sqrt(power)

    def _vowels(self, rate: int) -> Signal:
        """How one pulse sounds in each of ``VOWELS``, with the energy one: (vowels, samples) array."""
        since = np.arange(int(self.PULSE_SECONDS * rate)) / rate
        decays = from_db(np.array(self.FORMANTS_DB))[:, None] * np.exp(
            -np.pi * np.outer(self.BANDWIDTHS_HZ, since)
        )
        formants = self.tract * np.array(VOWELS)[:, :, None]
        rings = np.sum(decays * np.sin(2 * np.pi * formants * since), axis=1)
        return rings / np.sqrt(np.sum(rings**2, axis=1, keepdims=True))

    def _fricatives(self, ends: Signal, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """Bursts of noise after some of these ends of syllables."""
        onsets = ends[(ends < samples) & (rng.random(len(ends)) < self.FRICATIVES)].astype(np.int64)
        burst = hann(int(self.FRICATIVE_SECONDS * rate))
        grains = self.FRICATIVE_LEVEL * burst * rng.standard_normal((len(onsets), len(burst)))
        above = butter(2, self.FRICATIVE_HZ, "highpass", fs=rate)
        hiss: Signal = lfilter(*above, _place(grains, onsets, samples=samples))
        return hiss


@dataclass(frozen=True, slots=True)
class Babble:
    """People who talk, all at once.

    Attributes
    ----------
    talkers : tuple of Talker
    """

    talkers: tuple[Talker, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """What stays at one installation."""
        return cls(tuple(Talker.draw(rng) for _ in range(rng.integers(2, 5))))

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip: (samples,) array."""
        levels = from_db(np.array([talker.level_db for talker in self.talkers]))
        speech = np.zeros(samples)
        for level, talker in zip(levels / np.linalg.norm(levels), self.talkers, strict=True):
            speech += level * talker(samples=samples, rate=rate, rng=passing(rng))
        return speech + _floor(samples=samples, rate=rate, rng=rng)


@dataclass(frozen=True, slots=True)
class Vehicles:
    """Fork lifts or trucks that pass, one every ``interval`` seconds: the lines of an engine, and noise of tyres.

    At the time ``t`` after its passing a vehicle is ``r = hypot(distance, speed t)`` away. Its amplitude falls as
    ``1 / r``, and a line at ``f`` is heard at ``f / (1 + r' / c)``, with ``r' = speed^2 t / r`` (the Doppler effect
    of any textbook of acoustics). The time that the sound takes, some hundredths of a second, is left out.

    Attributes
    ----------
    firing_hz : float
        The engine's first line; all others are its multiples.
    harmonics_db : (harmonics,) tuple
        Levels of the lines.
    tyres : float
        RMS of their noise, relative to the engine's.
    speed, distance, interval : float
        In metres a second; in metres, at the nearest; in seconds.
    """

    WANDER: ClassVar[float] = 0.005  # standard deviation of the engine's relative speed, our choice
    WANDER_HZ: ClassVar[float] = 0.5  # how often it changes, our choice
    # Where tyres are loudest: U. Sandberg, J. A. Ejsmont, "Tyre/Road Noise Reference Book", 2002.
    TYRES_HZ: ClassVar[float] = 1000.0
    TYRES_OCTAVES: ClassVar[float] = 1.0  # half width of their noise, our choice

    firing_hz: float
    harmonics_db: tuple[float, ...]
    tyres: float
    speed: float
    distance: float
    interval: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """What stays at one installation."""
        return cls(
            firing_hz=rng.uniform(40.0, 80.0),
            harmonics_db=harmonics_db(8, rng),
            tyres=rng.uniform(0.3, 1.0),
            speed=rng.uniform(2.0, 6.0),
            distance=rng.uniform(3.0, 10.0),
            interval=rng.uniform(8.0, 20.0),
        )

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip: (samples,) array."""
        start = rng.uniform(0, self.interval)
        since = (start + np.arange(samples) / rate) % self.interval - self.interval / 2
        angle = self.speed * self.interval / (2 * self.distance)
        power = math.atan(angle) / angle  # the mean of (distance / r)^2
        passing = self.passage(since, rate=rate, rng=rng) / math.sqrt(power)
        return passing + _floor(samples=samples, rate=rate, rng=rng)

    def passage(self, since: Signal, *, rate: int, rng: np.random.Generator) -> Signal:
        """A vehicle at these times after it is nearest, in seconds; it has RMS one while it is nearest."""
        samples = len(since)
        away = np.hypot(self.distance, self.speed * since)
        sound = self._engine(self.speed**2 * since / away, rate=rate, rng=rng)
        noise = bump(self.TYRES_HZ, octaves=self.TYRES_OCTAVES, samples=samples, rate=rate, rng=rng)
        sound = (sound + self.tyres * noise) / math.hypot(1.0, self.tyres)
        return sound * (self.distance / away)

    def _engine(self, receding: Signal, *, rate: int, rng: np.random.Generator) -> Signal:
        """The lines of an engine of RMS one, which recedes with these metres a second."""
        wander = self.WANDER * drift(self.WANDER_HZ, samples=len(receding), rate=rate, rng=rng)
        heard = self.firing_hz * (1 + wander) / (1 + receding / SPEED_OF_SOUND)
        amplitudes = from_db(np.array(self.harmonics_db))
        phases = rng.uniform(0, 2 * np.pi, len(amplitudes))
        turned = 2 * np.pi / rate * np.cumsum(heard)
        return normalized(lines(turned, range(1, len(amplitudes) + 1), amplitudes, phases))


@dataclass(frozen=True, slots=True)
class Alarms:
    """A warning device that beeps: two tones one after the other, a pause, and again.

    Attributes
    ----------
    hertz : (2,) tuple
        Of the tones.
    period : float
        From a beep to the next, in seconds.
    duty : float
        Share of the period that sounds.
    """

    RAMP_SECONDS: ClassVar[float] = 0.005  # in which a beep comes and goes, our choice

    hertz: tuple[float, float]
    period: float
    duty: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """What stays at one installation."""
        return cls(
            hertz=(rng.uniform(2000, 3500), rng.uniform(2000, 3500)),
            period=rng.uniform(0.6, 1.5),
            duty=rng.uniform(0.3, 0.6),
        )

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip: (samples,) array."""
        return self.beeps(samples=samples, rate=rate, rng=rng) + _floor(samples=samples, rate=rate, rng=rng)

    def beeps(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """The device without the floor: (samples,) array."""
        beep = self.duty * self.period
        since = (rng.uniform(0, self.period) + np.arange(samples) / rate) % self.period
        gate = np.clip(np.minimum(since, beep - since) / self.RAMP_SECONDS, 0.0, 1.0)
        turned = np.cumsum(2 * np.pi / rate * np.where(since < beep / 2, *self.hertz))
        beeps: Signal = math.sqrt(2 / self.duty) * gate * np.sin(turned)
        return beeps


NOISES: dict[str, type[Kind]] = {
    "factory": Factory,
    "machine": OtherMachine,
    "impacts": Hits,
    "babble": Babble,
    "vehicles": Vehicles,
    "alarms": Alarms,
}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a recording, from the sample ``start`` of the file on."""

    path: Path
    start: int


@dataclass(frozen=True, slots=True)
class Recordings:
    """Noise that somebody recorded.

    Attributes
    ----------
    paths : tuple of Path
        WAV or FLAC files of any rate; only the first channel is used.
    """

    paths: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """All recordings in a folder and below, by name.

        Raises
        ------
        NotADirectoryError
        PermissionError
            If a folder below cannot be read.
        FileNotFoundError
            If there is no recording.
        """
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder}: not a folder; expected one with recordings of noise")
        found = list_below(folder, is_audio)
        for unreadable, why in found.unreadable.items():
            raise PermissionError(f"{unreadable}: this folder cannot be read ({why})")
        if not found.files:
            raise FileNotFoundError(f"{folder}: no recordings ({', '.join(USUAL_SUFFIXES)}) in this folder")
        return cls(found.files)

    def halves(self) -> tuple[Self, Self]:
        """Every other recording from the first and from the second on; a single one is in both."""
        kind = type(self)
        return kind(self.paths[::2]), kind(self.paths[1::2] or self.paths)

    def excerpt(self, *, samples: int, rate: int, rng: np.random.Generator) -> Excerpt:
        """What a call with an equal generator plays; it raises as that does."""
        return self._find(samples, rate, rng)[0]

    def __call__(self, *, samples: int, rate: int, rng: np.random.Generator) -> Signal:
        """One clip of RMS one: (samples,) array. A recording that is shorter is repeated, silence is passed over.

        Raises
        ------
        FileNotFoundError
        AudioError
            If a file is empty, not audio, damaged or truncated, has samples that are not finite, or if all parts
            that were tried are silent.
        """
        excerpt, part = self._find(samples, rate, rng)
        recorded = read_header(excerpt.path).rate
        frames = _frames(samples, rate, recorded)
        resampled = resample(np.resize(part, (1, frames)), recorded, rate)[0, :samples]
        return normalized(resampled.astype(np.float64))

    def _find(self, samples: int, rate: int, rng: np.random.Generator) -> tuple[Excerpt, NDArray[np.float32]]:
        """A part that is not silent."""
        for _ in range(TRIES):
            path = self.paths[rng.integers(len(self.paths))]
            header = read_header(path)
            frames = _frames(samples, rate, header.rate)
            start = int(rng.integers(max(header.samples - frames, 0) + 1))
            part = read_part(path, start, frames)[0]
            if part.any():
                return Excerpt(path, start), part
        raise AudioError(
            f"{path}: silent from sample {start} to {start + len(part)}, like {TRIES} parts before; remove "
            "silent recordings, or cut the silence out"
        )


def _frames(samples: int, rate: int, recorded: int) -> int:
    """How many samples of a recording at ``recorded`` Hz make that many at ``rate`` Hz."""
    return math.ceil(samples * recorded / rate)
