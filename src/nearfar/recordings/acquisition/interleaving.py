"""Whether one channel holds the samples of several in turn.

asammdf writes a block of shape (samples, 2) as one channel: the first half of the recording, near and far in turn.
Nothing in such a file says so, but sound does not know which of its samples are even:

* The spectrum of its even samples is that of its odd samples. Near and far differ in level, at some frequencies.
* A spectrum is independent of itself shifted by half the sampling rate. Turns make the two coherent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LOOKED_AT = 2**18  # samples
TURNS = (2, 3)  # channels
SHORT, LONG = 24, 240  # samples of each channel, samples of all, in a frame
FEWEST_FRAMES = 16  # short ones
FEWEST_LONG_FRAMES = 40
SHIFTS = (-13, -7, 7, 11)  # bins, beside the shift that is tested: without noise, all shifts are coherent
NOISE = 1e-6  # of the mean power of a bin, in the median bin: below, a signal is computed, and shifts tell nothing
# With these limits, none of 1,248 channels (2 s of real motors, 4 s of all simulated machines) was taken for
# several, and 622 of 624 pairs of them, taking turns, were recognized.
DIFFERENCE, CHANCE = 0.05, 4.0  # of the power; standard deviations of noise
COHERENCE, ABOVE = 3.2, 4.0  # times that of independent spectra; times that of the other shifts


def takes_turns(values: NDArray[Any]) -> bool:
    """Whether these samples are of several channels in turn; ``False`` if there are too few to tell.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.acquisition.interleaving import takes_turns
    >>> near, far = np.random.default_rng(0).standard_normal((2, 40_000)) * [[1.0], [0.7]]
    >>> takes_turns(near), takes_turns(np.stack([near, far], axis=1).ravel())
    (False, True)
    """
    x = np.asarray(values[:MOST_LOOKED_AT], dtype=np.float64)
    if not np.isfinite(x).all():
        return False
    if any(_differ(x, count) for count in TURNS):
        return True
    return _is_recorded(x) and _shifted_spectra_cohere(x)


def _frames(x: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Frames without mean, equally loud; silent ones are left out."""
    frames = x[: len(x) // length * length].reshape(-1, length)
    frames = frames - frames.mean(axis=1, keepdims=True)
    loudness = np.sqrt((frames**2).mean(axis=1))
    heard = loudness > 1e-9 * np.abs(x).max(initial=0)
    return np.asarray(frames[heard] / loudness[heard, None])


def _differ(x: NDArray[np.float64], count: int) -> bool:
    """Whether every ``count``-th sample has another spectrum than its neighbours."""
    frames = _frames(x, SHORT * count)
    if len(frames) < FEWEST_FRAMES:
        return False
    turns = [frames[:, turn::count] for turn in range(count)]
    turns = [turn - turn.mean(axis=1, keepdims=True) for turn in turns]
    power = [(np.abs(np.fft.rfft(turn * np.hanning(SHORT), axis=1)) ** 2).mean(axis=0) for turn in turns]
    told = slice(
        2 * (count - 2), -2
    )  # not the ends where a tone meets its own image: its phase decides the power
    difference = max(
        float(np.abs(a - b)[told].sum() / max((a + b).sum(), np.finfo(np.float64).tiny))
        for i, a in enumerate(power)
        for b in power[:i]
    )
    return difference > DIFFERENCE + CHANCE / np.sqrt(len(frames))


def _is_recorded(x: NDArray[np.float64]) -> bool:
    """Whether there is noise between the tones."""
    power = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(x.size))) ** 2 if x.size else np.zeros(1)
    return bool(np.median(power) > NOISE * power.mean())


def _shifted_spectra_cohere(x: NDArray[np.float64]) -> bool:
    """Whether spectra are coherent with themselves, shifted as turns do, and not shifted by other frequencies."""
    spectra = np.fft.fft(_frames(x, LONG) * np.hanning(LONG), axis=1)
    if len(spectra) < FEWEST_LONG_FRAMES:
        return False
    for count in TURNS:
        shift = LONG // count
        coherence = _coherence(spectra, shift)
        others = float(np.median([_coherence(spectra, shift + more) for more in SHIFTS]))
        if coherence > max(COHERENCE / len(spectra), ABOVE * others):
            return True
    return False


def _coherence(spectra: NDArray[np.complex128], shift: int) -> float:
    """The squared coherence of spectra (frames, bins) and the same spectra shifted; the median over bins."""
    shifted = np.roll(spectra, shift, axis=1)
    power = (np.abs(spectra) ** 2).mean(axis=0)
    cross = np.abs((spectra * shifted.conj()).mean(axis=0)) ** 2
    return float(np.median(cross / np.maximum(power * np.roll(power, shift), np.finfo(np.float64).tiny)))
