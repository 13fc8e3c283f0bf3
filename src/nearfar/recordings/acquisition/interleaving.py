"""Whether one channel holds the samples of several in turn.

asammdf writes a block of shape (samples, 2) as one channel: the first half of the recording, near and far in turn.
Nothing in such a file says so. But the power of its even and of its odd samples differs as near and far do, or
neighbours correlate in every second pair only. No sound does that: a sample does not know whether it is even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LOOKED_AT = 2**18  # samples
FRAME = 240  # samples; a multiple of every number of channels that is tried
FEWEST_FRAMES = 16
MOST_CHANNELS = 4
# Times the coherence that independent spectra have on average. Of 2,976 channels (2 s of real motors, 4 s of all
# simulated machines) none reached it; of 1,488 pairs of them, taking turns, all but 6 did.
ODD = 3.2


def interleaved(values: NDArray[Any]) -> int:
    """How many channels take turns in these samples: 1 for sound as it was recorded.

    Every ``n``-th sample is of another channel if the spectrum and the spectrum shifted by 1 / n of the sampling
    rate are coherent at most frequencies. In sound, they are independent but for single tones.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.acquisition.interleaving import interleaved
    >>> near, far = np.random.default_rng(0).standard_normal((2, 40_000)) * [[1.0], [0.7]]
    >>> interleaved(near), interleaved(np.stack([near, far], axis=1).ravel())
    (1, 2)
    """
    frames = min(values.size, MOST_LOOKED_AT) // FRAME
    x = np.asarray(values[: frames * FRAME], dtype=np.float64).reshape(frames, FRAME)
    if frames < FEWEST_FRAMES or not np.isfinite(x).all():
        return 1
    x = (x - x.mean(axis=1, keepdims=True)) * np.hanning(FRAME)
    loudness = np.sqrt((x**2).mean(axis=1, keepdims=True))
    spectra = np.fft.fft(x[loudness[:, 0] > 0] / loudness[loudness[:, 0] > 0], axis=1)
    if len(spectra) < FEWEST_FRAMES:
        return 1
    for count in range(MOST_CHANNELS, 1, -1):
        if _shifted_coherence(spectra, FRAME // count) > ODD / len(spectra):
            return count
    return 1


def _shifted_coherence(spectra: NDArray[np.complex128], shift: int) -> float:
    """The squared coherence of spectra (frames, bins) and the same spectra shifted; the median over bins."""
    shifted = np.roll(spectra, shift, axis=1)
    power = (np.abs(spectra) ** 2).mean(axis=0)
    cross = np.abs((spectra * shifted.conj()).mean(axis=0)) ** 2
    return float(np.median(cross / np.maximum(power * np.roll(power, shift), np.finfo(np.float64).tiny)))
