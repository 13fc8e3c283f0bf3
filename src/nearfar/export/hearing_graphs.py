"""What microphone views hear, as nodes: near, far, and near without what far explains.

Conventions
-----------
Waveforms are (samples,), in single precision. Spectra are (bins, 2, frames): the second axis is real and imaginary
part, and bins are in the order of ``fourier_graphs``. As in ``recordings.cancellation``, sums over frames are of
single precision, and what is made of them is of double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearfar.export.expressions import Expression, counted, joined, where
from nearfar.export.fourier_graphs import Frames
from nearfar.recordings import microphones
from nearfar.recordings.audio import FAR, NEAR
from nearfar.recordings.cancellation import DEVIATIONS, Canceller
from nearfar.recordings.coherence import CoherenceWeighting
from nearfar.recordings.microphones import MICROPHONES

ROWS_AT_ONCE = 16  # of Gram matrices of several bins in one product of matrices: few large ones are faster

Taps = dict[int, "_Complex"]  # a number for each bin, by the frame of far that it is for


class Hearing:
    """The microphone views of one recording. Spectra that several look at are computed once.

    Parameters
    ----------
    samples : (channels, samples) expression
        In single precision.

    Attributes
    ----------
    length : (1,) expression
        Samples of the recording.
    """

    def __init__(self, samples: Expression) -> None:
        self._samples = samples
        self.length = samples.length(1)
        self._channels: dict[int, Expression] = {}
        self._views: dict[str, Expression] = {}
        self._spectra: dict[tuple[int, int], Expression] = {}

    def view(self, microphone: str) -> Expression:
        """The waveform of a microphone view, (samples,).

        Parameters
        ----------
        microphone : str
            Of ``MICROPHONES``.

        Raises
        ------
        ValueError
            If the view has no graph.
        """
        if microphone not in self._views:
            self._views[microphone] = self._heard(microphone)
        return self._views[microphone]

    def _heard(self, microphone: str) -> Expression:
        view = MICROPHONES[microphone].view
        match view:
            case microphones.near:
                return self._channel(NEAR)
            case microphones.far:
                return self._channel(FAR)
            case microphones.cancelled:
                return self._near_without(_one_tap(self), microphones.N_FFT)
            case Canceller():
                response = _Cancelling(self, view).response()
                return self._near_without(self.explained(response, view.n_fft), view.n_fft)
            case CoherenceWeighting():
                return self._near_without(_in_common(self, view), view.n_fft)
        raise ValueError(f"microphone {microphone!r} is not exported")

    def _channel(self, channel: int) -> Expression:
        if channel not in self._channels:
            self._channels[channel] = self._samples.taken(np.array(channel))
        return self._channels[channel]

    def spectra(self, channel: int, n_fft: int) -> Expression:
        """Of the frames of ``transforms.framed``: (bins, 2, frames)."""
        if (channel, n_fft) not in self._spectra:
            hop, frames = n_fft // 2, _hann_frames(n_fft)
            beyond = self._whole_hops(hop) - self.length + hop
            of_frames = frames.spectra(self._channel(channel).padded(0, hop, beyond))
            self._spectra[channel, n_fft] = of_frames.transpose(0, 2, 1, 3).reshape(frames.bins.size, 2, -1)
        return self._spectra[channel, n_fft]

    def inner_frames(self, n_fft: int) -> Expression:
        """How many frames there are but for one that only closes the overlap at the end; (1,)."""
        return 1 + self.length // (n_fft // 2)

    def _whole_hops(self, hop: int) -> Expression:
        """The samples, and as many more as fill the last hop; (1,)."""
        return (self.length + (hop - 1)) // hop * hop

    def explained(self, response: Taps, n_fft: int) -> Expression:
        """What these coefficients make of far, (bins, 2, frames)."""
        margin = max(map(abs, response))
        taps, bins = range(-margin, margin + 1), _hann_frames(n_fft).bins.size
        real, imaginary = (
            joined([parts[tap] if tap in parts else np.zeros((bins, 1, 1)) for tap in taps], axis=2)
            for parts in (
                {tap: one.real.astype(np.float32).reshape(bins, 1, 1) for tap, one in response.items()},
                {tap: one.imaginary.astype(np.float32).reshape(bins, 1, 1) for tap, one in response.items()},
            )
        )
        kernel = joined([real, -imaginary, imaginary, real], axis=1).reshape(2 * bins, 2, len(taps))
        of_far = self.spectra(FAR, n_fft).reshape(1, 2 * bins, -1)
        explained = of_far.convolved(kernel, group=bins, pads=[margin, margin])
        return explained.reshape(bins, 2, -1)

    def _near_without(self, spectra: Expression, n_fft: int) -> Expression:
        """Near, less the waveform of these spectra, by least-squares overlap-add."""
        frames, hop = _hann_frames(n_fft), n_fft // 2
        norm = frames.window[:hop] ** 2 + frames.window[hop:] ** 2
        in_order = spectra.reshape(*frames.bins.shape, 2, -1).transpose(0, 2, 1, 3)
        whole = frames.waveform(in_order, frames.window / np.tile(norm, 2))
        return self._channel(NEAR) - whole.cut(0, hop, self.length + hop)


def _hann_frames(n_fft: int) -> Frames:
    """The frames of ``transforms``."""
    return Frames(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft), n_fft // 2)


@dataclass(frozen=True, slots=True)
class _Complex:
    """Complex numbers, a real and an imaginary part of any shape that fits."""

    real: Expression
    imaginary: Expression

    def __add__(self, other: _Complex) -> _Complex:
        return _Complex(self.real + other.real, self.imaginary + other.imaginary)

    def __sub__(self, other: _Complex) -> _Complex:
        return _Complex(self.real - other.real, self.imaginary - other.imaginary)

    def __mul__(self, other: _Complex) -> _Complex:
        return _Complex(
            self.real * other.real - self.imaginary * other.imaginary,
            self.real * other.imaginary + self.imaginary * other.real,
        )

    def times(self, factor: Expression | float) -> _Complex:
        """Each number times a real one."""
        return _Complex(self.real * factor, self.imaginary * factor)

    def over(self, divisor: Expression) -> _Complex:
        """Each number divided by a real one."""
        return _Complex(self.real / divisor, self.imaginary / divisor)

    @property
    def conjugate(self) -> _Complex:
        return _Complex(self.real, -self.imaginary)

    @property
    def squared(self) -> Expression:
        """The square of the absolute value."""
        return self.real.squared() + self.imaginary.squared()


def _turned(spectra: Expression) -> Expression:
    """Divided by i, (bins, 2, frames): so imaginary parts of products become real parts."""
    return joined([spectra.cut(1, 1, 2), -spectra.cut(1, 0, 1)], axis=1)


def _one_tap(hearing: Hearing) -> Expression:
    """What far explains, by ``microphones.cancelled``: (bins, 2, frames)."""
    sums = _Sums(hearing, microphones.N_FFT, (0,))
    response = sums.cross[0].over(sums.gram[0, 0].real + microphones.EPSILON)
    return hearing.explained({0: response}, microphones.N_FFT)


class _Sums:
    """The sums of ``cancellation.Statistics`` in each bin: products of frames of near and far, (bins,) each.

    All are entries of one Gram matrix a bin. Its rows are real and imaginary parts of frames: of far, for each tap,
    and of near. Sums are in single precision; what is made of them is in double precision.

    Attributes
    ----------
    gram : mapping from pairs of taps
    cross : mapping from tap
    energy : expression
        Of near.
    frames : (1,) expression
        How many were summed.
    """

    def __init__(self, hearing: Hearing, n_fft: int, taps: Sequence[int]) -> None:
        self.frames = hearing.inner_frames(n_fft)
        margin = max(map(abs, taps))
        near, far = (hearing.spectra(channel, n_fft) for channel in (NEAR, FAR))
        far = far.padded(2, margin, margin) if margin else far
        parts = [far.cut(2, margin + tap, self.frames + (margin + tap)) for tap in taps]
        rows = joined([*parts, near.cut(2, 0, self.frames)], axis=1)
        last = len(taps)  # the place of near
        pairs = {(a, b): (i, j) for i, a in enumerate(taps) for j, b in enumerate(taps) if i <= j}
        wanted = [*pairs.values(), *((i, last) for i in range(last)), (last, last)]
        found = iter(_conjugate_products(rows, wanted, 2 * (last + 1), _hann_frames(n_fft).bins.size))
        self.gram = {pair: next(found) for pair in pairs}
        self.gram |= {(b, a): one.conjugate for (a, b), one in self.gram.items() if a != b}
        self.cross = {tap: next(found) for tap in taps}
        self.energy = next(found).real


def _conjugate_products(
    rows: Expression, pairs: Sequence[tuple[int, int]], n_rows: int, bins: int
) -> list[_Complex]:
    """For each pair, the sum over frames of the conjugate of the first times the second, (bins,).

    Parameters
    ----------
    rows : (bins, n_rows, frames) expression
        Real and imaginary parts in turns.
    pairs : sequence
        Of which numbers.
    n_rows, bins : int
    """
    together = max(n for n in (1, 2, 4) if bins % n == 0 and (n == 1 or n * n_rows <= ROWS_AT_ONCE))
    wide = rows.reshape(bins // together, together * n_rows, -1)
    products = (wide @ wide.transpose(0, 2, 1)).reshape(bins // together, -1)
    size = together * n_rows

    def place(bin_: int, row: int, column: int) -> int:
        return (bin_ * n_rows + row) * size + bin_ * n_rows + column

    terms = [((2 * a, 2 * b), (2 * a + 1, 2 * b + 1)) for a, b in pairs]
    terms += [((2 * a, 2 * b + 1), (2 * a + 1, 2 * b)) for a, b in pairs]
    signs = np.array([[1.0, 1.0]] * len(pairs) + [[1.0, -1.0]] * len(pairs))
    places = np.array([[[place(i, *one) for one in both] for both in terms] for i in range(together)])
    taken = products.taken(places, axis=1).astype(np.float64)
    summed = (taken * signs).sum(3).reshape(bins, len(terms)).transpose(1, 0)
    found = [summed.taken(np.array(i)) for i in range(len(terms))]
    return [_Complex(*parts) for parts in zip(found[: len(pairs)], found[len(pairs) :], strict=True)]


class _Cancelling:
    """The least-squares problem of a ``Canceller`` in each bin, with the names that it has there."""

    def __init__(self, hearing: Hearing, canceller: Canceller) -> None:
        self.canceller = canceller
        self.is_long_enough = hearing.length >= canceller.min_samples
        sums = _Sums(hearing, canceller.n_fft, canceller.taps)
        self.frames, self.gram, self.cross, self.energy = sums.frames, sums.gram, sums.cross, sums.energy

    def response(self) -> Taps:
        """The coefficients; zero where far is silent, and in a recording that is too short."""
        taps = self.canceller.taps
        diagonal = sum(
            (self.gram[tap, tap].real for tap in taps[1:]), self.gram[taps[0], taps[0]].real
        ) / len(taps)
        heard = diagonal > 0.0
        scale = where(heard, diagonal, 1.0)
        ridge = where(heard, self.canceller.ridge, 1.0)
        regular = {pair: one.over(scale) for pair, one in self.gram.items()}
        for tap in taps:
            regular[tap, tap] = _Complex(regular[tap, tap].real + ridge, regular[tap, tap].imaginary)
        found = _solved(taps, regular, {tap: one.over(scale) for tap, one in self.cross.items()})
        beside, own = self._shares(found)
        beyond = self._beyond_chance((beside - own).at_least(0.0).at_most(1.0))
        factor = beyond * self._within_limit(beyond * beside, beyond.squared() * own)
        factor = where(self.is_long_enough, factor, 0.0)
        return {tap: one.times(factor) for tap, one in found.items()}

    def _shares(self, response: Taps) -> tuple[Expression, Expression]:
        """What the coefficients explain of near, as a share of its energy, is the first minus the second."""
        taps = list(response)
        heard = self.energy > 0.0
        energy = where(heard, self.energy, 1.0)
        beside = 2 * _sum([(response[tap].conjugate * self.cross[tap]).real for tap in taps])
        own = [self.gram[tap, tap].real * response[tap].squared for tap in taps]
        own += [
            2 * (response[a].conjugate * self.gram[a, b] * response[b]).real
            for i, a in enumerate(taps)
            for b in taps[i + 1 :]
        ]
        return where(heard, beside / energy, 0.0), where(heard, _sum(own) / energy, 0.0)

    def _beyond_chance(self, share: Expression) -> Expression:
        """What coefficients are to be multiplied by that explain these shares of energy: from 0 to 1."""
        n, taps = self.frames.astype(np.float64), len(self.canceller.taps)
        mean = taps / n
        chance = (mean + DEVIATIONS * (mean * (1 - mean) / (n + 1)).sqrt()).at_most(1.0)
        chance = where(n > float(taps), chance, 1.0)
        beyond = (share - chance).at_least(0.0)
        is_beyond = beyond > 0.0
        return where(is_beyond, beyond / where(is_beyond, share * (1 - chance), 1.0), 0.0)

    def _within_limit(self, beside: Expression, own: Expression) -> Expression:
        """The largest factors up to 1 of the coefficients that take no more than the limit."""
        limit = 1 - 10 ** (-self.canceller.limit_db / 10)
        over = beside - own > limit
        root = (beside.squared() - 4 * limit * own).at_least(0.0).sqrt()
        return where(over, (beside - root) / where(over, 2 * own, 1.0), 1.0)


def _solved(taps: Sequence[int], matrix: dict[tuple[int, int], _Complex], right: Taps) -> Taps:
    """The solutions of Hermitian positive definite systems, one a bin, by Gaussian elimination."""
    matrix, found = dict(matrix), dict(right)
    for i, a in enumerate(taps):
        for j, b in enumerate(taps[i + 1 :], i + 1):
            factor = matrix[b, a].over(matrix[a, a].real)
            for c in taps[j:]:
                matrix[b, c] = matrix[b, c] - factor * matrix[a, c]
                matrix[c, b] = matrix[b, c].conjugate
            found[b] = found[b] - factor * found[a]
    for i, a in reversed(list(enumerate(taps))):
        for b in taps[i + 1 :]:
            found[a] = found[a] - matrix[a, b] * found[b]
        found[a] = found[a].over(matrix[a, a].real)
    return found


def _sum(parts: Sequence[Expression]) -> Expression:
    return sum(parts[1:], parts[0])


def _in_common(hearing: Hearing, weighting: CoherenceWeighting) -> Expression:
    """Near, times its coherence with far: (bins, 2, frames)."""
    n = hearing.inner_frames(weighting.n_fft)
    near = hearing.spectra(NEAR, weighting.n_fft)
    of_near, of_far = (
        hearing.spectra(channel, weighting.n_fft).astype(np.float64) for channel in (NEAR, FAR)
    )
    products = [
        (of_near * of_far).sum(1),
        (of_far * _turned(of_near)).sum(1),
        of_near.sum_of_squares(1),
        of_far.sum_of_squares(1),
    ]
    real, imaginary, near_energy, far_energy = (_averages(one, n, weighting.forgetting) for one in products)
    energies = near_energy * far_energy
    heard = energies > 0.0
    share = where(heard, (real.squared() + imaginary.squared()) / where(heard, energies, 1.0), 0.0)
    chance = 1 / n.astype(np.float64)
    if weighting.forgetting is not None:
        chance = chance.at_least((1 - weighting.forgetting) / (1 + weighting.forgetting))
    rest = 1 - chance
    tells = rest > 0.0
    coherence = where(tells, (share - chance) / where(tells, rest, 1.0), 0.0).at_least(0.0).at_most(1.0)
    bins = _hann_frames(weighting.n_fft).bins.size
    return coherence.astype(np.float32).reshape(bins, 1, -1) * near


def _averages(products: Expression, n: Expression, forgetting: float | None) -> Expression:
    """Of (bins, frames): (bins, 1) over the first n frames, or running ones that begin there, (bins, frames)."""
    mean = products.cut(1, 0, n).mean(1, keepdims=True)
    if forgetting is None:
        return mean
    frame = counted(products.length(1)).astype(np.float64).reshape(-1, 1)
    age = frame.transpose(1, 0) - frame  # of what came in at a row, at the time of a column
    share = where(age >= 0.0, (1 - forgetting) * age.as_exponent_of(forgetting), 0.0)
    return products @ share + mean * (frame.transpose(1, 0) + 1).as_exponent_of(forgetting)
