"""Noise cancellation: near without what frames of far explain, by least squares in each bin.

Conventions
-----------
Samples are ``(channels, samples)``, as in ``audio``; frames and spectra are those of ``transforms``. A *tap* a says
that frame t of near is explained by frame ``t + a`` of far; a frame outside the recording is zero. Sums over many
frames are in double precision, transforms in single.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import FAR, NEAR, Samples
from nearfar.recordings.transforms import (
    BLOCK,
    Spectra,
    Transforms,
    Waveform,
    framed,
    frames_at_once,
    hann,
)

Complex = NDArray[np.complex128]

N_FFT = 2048  # 128 ms at 16 kHz: longer than the early part of a room's response
TAPS = (-1, 0, 1)  # a room's response is longer than a frame, and far may hear a noise later than near does
RIDGE = 1e-3  # of the mean of the diagonal: where the noise is a tone, its frames are nearly dependent
LIMIT_DB = 15.0  # docs/cancellation.md: the least that costs nothing where noise dominates
DEVIATIONS = 2.0  # above the mean of the share of energy that is explained by chance: the usual 95 %
BANDS_HZ = {"below 1 kHz": (0.0, 1e3), "1 to 4 kHz": (1e3, 4e3), "above 4 kHz": (4e3, math.inf)}


def overlap_added(blocks: Iterable[Spectra], frames: int, n_fft: int, length: int) -> Waveform:
    """The waveform, (length,), of spectra of ``framed`` frames: least-squares overlap-add.

    Parameters
    ----------
    blocks : iterable of (n, bins) arrays
        The spectra, some frames at a time.
    frames : int
        In all blocks.
    n_fft, length : int
    """
    hop, window = n_fft // 2, hann(n_fft)
    summed, start = np.zeros((frames + 1, hop), np.float32), 0
    for spectra in blocks:
        block = scipy.fft.irfft(spectra, n=n_fft)
        block *= window
        stop = start + len(block)
        summed[start:stop] += block[:, :hop]
        summed[start + 1 : stop + 1] += block[:, hop:]
        start = stop
    inner = summed[1:-1]
    inner /= window[:hop] ** 2 + window[hop:] ** 2
    return inner.ravel()[:length]


@dataclass(frozen=True, slots=True)
class Statistics:
    """The sums of a least-squares problem in each bin. Those of several recordings add up.

    Attributes
    ----------
    gram : (bins, taps, taps) array
        Sums over t of ``conj(F(t + a)) F(t + b)``: the left side of the normal equations.
    cross : (bins, taps) array
        Sums over t of ``conj(F(t + a)) C(t)``: the right side.
    energy : (bins,) array
        Sums of ``|C(t)|^2``.
    frames : int
        How many were summed.
    """

    gram: Complex
    cross: Complex
    energy: NDArray[np.float64]
    frames: int

    @property
    def far_energy(self) -> float:
        """Of all bins, once for each tap."""
        return float(np.einsum("fii->", self.gram).real)

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.gram + other.gram,
            self.cross + other.cross,
            self.energy + other.energy,
            self.frames + other.frames,
        )

    def weighted(self, weight: float) -> Statistics:
        """As if every sample of both channels had been larger by the root of ``weight``."""
        return Statistics(weight * self.gram, weight * self.cross, weight * self.energy, self.frames)


@dataclass(frozen=True, slots=True)
class Canceller:
    r"""Takes away from near what far explains, with one complex coefficient for each bin and tap.

    With C and F the short-time spectra of near and far, the coefficients H of a bin minimize

    .. math:: \sum_t \Big| C(t) - \sum_a H_a F(t + a) \Big|^2 + \lambda \sum_a |H_a|^2,

    where lambda is ``ridge`` times the mean over a of :math:`\sum_t |F(t + a)|^2`. Then they are shrunk, because K
    coefficients explain a part of n frames of anything: by chance K / n of near's energy on average. Let q be this
    and twice its standard deviation, and :math:`R^2` the share that is explained. The coefficients are multiplied
    by :math:`\max(0, (R^2 - q) / (R^2 (1 - q)))`. So a bin that is explained no better than by chance stays,
    and with few frames the result falls towards near.

    Last, a bin loses at most ``limit_db``: coefficients that would take more are made smaller. Least squares cannot
    tell the machine from noise. Where the machine reaches far and little else does, it is the machine that is taken
    away, and the limit says how much of it is left at least.

    Parameters
    ----------
    n_fft : int
        Samples of a frame, an even number.
    taps : tuple of int
        Frames of far that explain a frame of near.
    ridge : float
    limit_db : float
        Of energy, in each bin over the recording; infinite for no limit.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.cancellation import Canceller
    >>> rng = np.random.default_rng(0)
    >>> noise, machine = rng.standard_normal((2, 160_000)).astype(np.float32)
    >>> near = 0.1 * machine + np.roll(noise, 300)
    >>> left = Canceller()(np.stack([near, noise])) - 0.1 * machine
    >>> round(float(10 * np.log10(np.var(noise) / np.var(left))))  # dB of noise that are gone
    13
    """

    n_fft: int = N_FFT
    taps: tuple[int, ...] = TAPS
    ridge: float = RIDGE
    limit_db: float = LIMIT_DB

    def __post_init__(self) -> None:
        if self.n_fft < 2 or self.n_fft % 2:
            raise ValueError(
                f"n_fft={self.n_fft}: must be even and at least 2, because frames overlap by half"
            )
        if not self.taps or len(set(self.taps)) != len(self.taps):
            raise ValueError(
                f"taps={self.taps}: expected at least one, each only once; for example (-1, 0, 1)"
            )
        if not 0 < self.ridge < np.inf:
            raise ValueError(
                f"ridge={self.ridge}: must be positive and finite; without it a tone in far has no unique solution"
            )

        if not self.limit_db > 0:
            raise ValueError(
                f"limit_db={self.limit_db}: must be positive: what a bin may lose; inf for no limit"
            )

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return self.n_fft // 2

    @property
    def min_samples(self) -> int:
        """A shorter recording has no more frames than there are taps, and is returned as it is."""
        return len(self.taps) * self.hop

    def __call__(self, samples: Samples, transforms: Transforms | None = None) -> Waveform:
        """Near without what far explains in this recording.

        Parameters
        ----------
        samples : (2, samples) array
        transforms : Transforms or None
            Of these samples, if others look at them, too. Then the result is theirs as well, and only to read.

        Returns
        -------
        (samples,) array
            Equal to near if far is silent, or the recording shorter than ``min_samples``.

        Raises
        ------
        ValueError
            If there is no second channel.
        """
        if samples.ndim != 2 or len(samples) <= FAR:
            raise ValueError(f"samples has the shape {samples.shape}; expected (2, samples): near, far")
        if transforms is None:
            return self._cancelled(Transforms(samples))
        return self.heard(transforms).samples[0]

    def heard(self, transforms: Transforms) -> Transforms:
        """The result as ``__call__`` gives it, with its spectra: once for all that look at these samples."""
        return transforms.derived(self, lambda: self._cancelled(transforms))

    def _cancelled(self, heard: Transforms) -> Waveform:
        if heard.samples.shape[-1] < self.min_samples:
            return heard.samples[NEAR].copy()
        return self._without(heard, self.response(self._summed(heard)))

    def statistics(self, samples: Samples) -> Statistics:
        """The sums of a recording, (2, samples)."""
        return self._summed(Transforms(samples))

    def apply(self, samples: Samples, response: Complex) -> Waveform:
        """Near, (samples,), without what far explains with these coefficients, (bins, taps)."""
        return self._without(Transforms(samples), response)

    def response(self, statistics: Statistics) -> Complex:
        """The coefficients that these sums give, (bins, taps); zero in bins where far is silent."""
        gram, cross = _by_tap(statistics)
        diagonal = sum(gram[i, i].real for i in range(len(gram))) / len(gram)
        heard = diagonal > 0
        scale = np.where(heard, diagonal, 1.0)
        regular = gram / scale
        for i in range(len(gram)):
            regular[i, i] += np.where(heard, self.ridge, 1.0)
        found = _solved(regular, cross / scale)
        beside, own = _shares(found, gram, cross, statistics.energy)
        beyond = _beyond_chance(np.clip(beside - own, 0.0, 1.0), len(gram), statistics.frames)
        return np.asarray((found * (beyond * self._within_limit(beyond * beside, beyond**2 * own))).T)

    def limited(self, response: Complex, statistics: Statistics) -> Complex:
        """Coefficients that take at most ``limit_db`` from any bin of these sums."""
        shares = _shares(response.T, *_by_tap(statistics), statistics.energy)
        return np.asarray(response * self._within_limit(*shares)[:, None])

    def _within_limit(self, beside: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
        return _within(1 - 10 ** (-self.limit_db / 10), beside, own)

    def fit(self, recordings: Iterable[Samples], *, weight: float = math.inf) -> FittedCanceller:
        """A canceller that knows the sums of many recordings, each (2, samples).

        Every recording counts as if far were as loud as in the others.

        Raises
        ------
        ValueError
            If there is no recording, far is silent in all of them, or the weight is negative.
        """
        total, count = None, 0
        for samples in recordings:
            of_one = self.statistics(samples)
            if of_one.far_energy > 0:
                of_one = of_one.weighted(1 / of_one.far_energy)
                total, count = (of_one if total is None else total + of_one), count + 1
        if total is None:
            raise ValueError(
                "no recording to learn cancellation from in which the far microphone hears anything; are near and "
                "far the channels that you think?"
            )
        return FittedCanceller(self, total.weighted(1 / count), weight)

    @property
    def _margin(self) -> int:
        """How many frames earlier or later a frame of far may explain one of near."""
        return max(map(abs, self.taps))

    @property
    def _lags(self) -> tuple[int, ...]:
        """By how many frames two of far may lie apart that explain the same one of near."""
        return tuple(sorted({b - a for a in self.taps for b in self.taps if b >= a}))

    def _summed(self, heard: Transforms) -> Statistics:
        near, far = heard.spectra(NEAR, self.n_fft), heard.spectra(FAR, self.n_fft, margin=self._margin)
        margin, bins, taps = self._margin, self.hop + 1, self.taps
        n = (
            1 + heard.samples.shape[-1] // self.hop
        )  # the frame beyond them only closes the overlap at the end
        cross, energy = np.zeros((len(taps), bins), np.complex128), np.zeros(bins)
        lagged = {lag: np.zeros(bins, np.complex128) for lag in self._lags}
        at_once, base = frames_at_once(self.n_fft), margin + min(taps)
        space = np.empty((at_once, bins), np.complex64)
        for i in range(0, n, at_once):
            size = min(at_once, n - i)
            around, there = far[i : i + 2 * margin + size], space[:size]
            conjugate = near[i : i + size].conj()
            for k, a in enumerate(taps):
                cross[k] += np.multiply(conjugate, around[margin + a :][:size], out=there).sum(axis=0)
            energy += (conjugate.real**2 + conjugate.imag**2).sum(axis=0)
            conjugate = np.conjugate(around[base:][:size], out=conjugate)
            for lag, total in lagged.items():
                total += np.multiply(conjugate, around[base + lag :][:size], out=there).sum(axis=0)
        return Statistics(self._gram(far, lagged, n), cross.T.conj(), energy, n)

    def _gram(self, of_far: Spectra, lagged: Mapping[int, Complex], n: int) -> Complex:
        """From the sums for each lag that begin at the first tap: those of a later tap are of later frames."""
        gram = np.empty((self.hop + 1, len(self.taps), len(self.taps)), np.complex128)
        first = self._margin + min(self.taps)
        for (i, a), (k, b) in product(enumerate(self.taps), repeat=2):
            if a <= b:
                start = self._margin + a
                left_out = _products(of_far, first, start, b - a)
                gram[:, i, k] = lagged[b - a] - left_out + _products(of_far, first + n, start + n, b - a)
                gram[:, k, i] = gram[:, i, k].conj()
        return gram

    def _without(self, heard: Transforms, response: Complex) -> Waveform:
        """Near, less what is explained."""
        margin = self._margin
        far, of_taps = heard.spectra(FAR, self.n_fft, margin=margin), response.T.astype(np.complex64)
        frames, at_once = len(far) - 2 * margin, frames_at_once(self.n_fft)

        def explained(start: int) -> Spectra:
            size = min(at_once, frames - start)
            total: Spectra | None = None
            for a, of_tap in zip(self.taps, of_taps, strict=True):
                of_one = far[margin + start + a :][:size] * of_tap
                total = of_one if total is None else np.add(total, of_one, out=total)
            assert total is not None
            return total

        near = heard.samples[NEAR]
        blocks = (explained(start) for start in range(0, frames, at_once))
        return near - overlap_added(blocks, frames, self.n_fft, len(near))


def _products(spectra: Spectra, start: int, stop: int, lag: int) -> NDArray[np.complex64]:
    """The sum over these frames of the conjugate, times the frame that is so much later: (bins,)."""
    return np.asarray((spectra[start:stop].conj() * spectra[start + lag : stop + lag]).sum(axis=0))


@dataclass(frozen=True, slots=True)
class FittedCanceller:
    """Cancels with what many recordings say, the recording itself, or both.

    For microphones and noise that stay where they are. What machine and noise have in common by chance averages out
    over recordings, so that less of the machine is lost; what far hears of the machine itself does not.

    Attributes
    ----------
    canceller : Canceller
    training : Statistics
        The mean of those of the recordings, each with ``far_energy`` one.
    weight : float
        Of ``training``, against 1 for the recording itself; infinite for ``training`` alone.
    """

    canceller: Canceller
    training: Statistics
    weight: float = math.inf

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(
                f"weight={self.weight}: must not be negative; inf for the training recordings alone"
            )

    def __call__(self, samples: Samples) -> Waveform:
        """Near, (samples,), without what far explains of these (2, samples)."""
        return self.canceller.apply(samples, self.response(samples))

    def response(self, samples: Samples) -> Complex:
        """The coefficients for a recording, (bins, taps); it loses no more than the canceller's limit."""
        own = self.canceller.statistics(samples)
        energy = own.far_energy
        if energy == 0:
            return np.zeros_like(own.cross)
        own = own.weighted(1 / energy)
        return self.canceller.limited(self.canceller.response(self._both(own)), own)

    def _both(self, own: Statistics) -> Statistics:
        """The weighted mean, and how many frames say as much as those that are in it."""
        if self.weight == math.inf:
            return self.training
        of_own = 1 / (1 + self.weight)
        mean = own.weighted(of_own) + self.training.weighted(1 - of_own)
        frames = 1 / (of_own**2 / own.frames + (1 - of_own) ** 2 / self.training.frames)
        return replace(mean, frames=round(frames))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt, to be saved."""
        of = self.training
        return {"gram": of.gram, "cross": of.cross, "energy": of.energy, "frames": np.array(of.frames)}

    @classmethod
    def of(
        cls, canceller: Canceller, arrays: Mapping[str, NDArray[Any]], *, weight: float = math.inf
    ) -> FittedCanceller:
        """From saved ``arrays``.

        Raises
        ------
        ValueError
            If they are those of another canceller.
        """
        expected = (canceller.hop + 1, len(canceller.taps))
        if arrays["cross"].shape != expected:
            raise ValueError(
                f"arrays of (bins, taps) {arrays['cross'].shape}, but {canceller} has {expected}: they were learnt "
                "with another one"
            )
        training = Statistics(arrays["gram"], arrays["cross"], arrays["energy"], int(arrays["frames"]))
        return cls(canceller, training, weight)


def _beyond_chance(share: NDArray[np.float64], taps: int, frames: int) -> NDArray[np.float64]:
    """What coefficients are to be multiplied by that explain these shares of energy: from 0 to 1."""
    chance = 1.0 if frames <= taps else _share_by_chance(taps, frames)
    beyond = np.clip(share - chance, 0.0, None)
    return np.divide(beyond, share * (1 - chance), out=np.zeros_like(share), where=beyond > 0)


def _share_by_chance(taps: int, frames: int) -> float:
    """Hardly ever exceeded if far has nothing to do with near: the share then has a beta distribution."""
    mean = taps / frames
    return min(1.0, mean + DEVIATIONS * math.sqrt(mean * (1 - mean) / (frames + 1)))


def _by_tap(statistics: Statistics) -> tuple[Complex, Complex]:
    """Gram and cross with the bins last, (taps, taps, bins) and (taps, bins): all bins are worked on at once."""
    gram = np.ascontiguousarray(np.moveaxis(statistics.gram, 0, -1))
    return gram, np.ascontiguousarray(statistics.cross.T)


def _solved(matrix: Complex, right: Complex) -> Complex:
    """The solutions of Hermitian positive definite systems, one a bin: (n, n, bins), (n, bins) to (n, bins).

    Gaussian elimination, which such a matrix needs no pivots for; n is a few, and the bins are a thousand.
    """
    matrix, found = matrix.copy(), right.copy()
    n = len(found)
    for i in range(n):
        for j in range(i + 1, n):
            factor = matrix[j, i] / matrix[i, i].real
            matrix[j, i + 1 :] -= factor * matrix[i, i + 1 :]
            found[j] -= factor * found[i]
    for i in reversed(range(n)):
        for j in range(i + 1, n):
            found[i] -= matrix[i, j] * found[j]
        found[i] /= matrix[i, i].real
    return found


def _shares(
    response: Complex, gram: Complex, cross: Complex, energy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What coefficients explain of near, as a share of its energy, is the first minus the second, each (bins,).

    Arguments are as of ``_by_tap``, and (taps, bins).
    """
    heard = energy > 0
    energy = np.where(heard, energy, 1.0)
    conjugate = response.conj()
    beside = 2 * (conjugate * cross).real.sum(axis=0)
    own = np.zeros_like(beside)
    for i, of_tap in enumerate(conjugate):
        own += gram[i, i].real * (of_tap.real**2 + of_tap.imag**2)
        for j in range(i + 1, len(conjugate)):
            own += 2 * (of_tap * gram[i, j] * response[j]).real
    return heard * beside / energy, heard * own / energy


def _within(limit: float, beside: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest factors s up to 1 of the coefficients that take at most a share of near: s beside - s^2 own."""
    over = beside - own > limit
    root = np.sqrt(np.clip(beside**2 - 4 * own * limit, 0.0, None))
    return np.divide(beside - root, 2 * own, out=np.ones_like(own), where=over)


def energy_taken(near: Waveform, cancelled: Waveform, *, rate: int) -> dict[str, float]:
    """By how many dB cancellation lowered each band of ``BANDS_HZ``, by the band's name.

    A large number is good where it is noise that went, and bad where it is the machine. Compare it with how much of
    what near hears is noise: with the surroundings silent, all of it is the machine's.

    Parameters
    ----------
    near, cancelled : (samples,) arrays
    rate : int
        In Hz. Bands that begin above half of it are left out.

    Returns
    -------
    dict from str to float
        0 where near is silent.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.cancellation import energy_taken
    >>> near = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    >>> taken = energy_taken(near, near / 10, rate=16_000)
    >>> {name: round(taken[name], 3) for name in taken}
    {'below 1 kHz': 20.0, '1 to 4 kHz': 20.0, 'above 4 kHz': 20.0}
    """
    frequencies = np.fft.rfftfreq(N_FFT, 1 / rate)
    powers = []
    for waveform in (near, cancelled):
        frames, power = framed(waveform, N_FFT), np.zeros(len(frequencies))
        for i in range(0, len(frames), BLOCK):
            power += (abs(scipy.fft.rfft(frames[i : i + BLOCK] * hann(N_FFT))) ** 2).sum(axis=0)
        powers.append(power)
    taken = {}
    for name, (low, high) in BANDS_HZ.items():
        of_band = (frequencies >= low) & (frequencies < high)
        if low < rate / 2:
            before, after = (float(power[of_band].sum()) for power in powers)
            taken[name] = 0.0 if before == 0 else math.inf if after == 0 else 10 * math.log10(before / after)
    return taken
