"""Coherence weighting: near, with less of each bin the more it has in common with far.

Conventions
-----------
Samples are ``(channels, samples)``, as in ``audio``; frames are those of ``cancellation``. *Coherence* is the
magnitude-squared coherence of near and far in a bin, from 0 to 1: the share of near's energy there that one complex
coefficient explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import FAR, NEAR, Samples
from nearfar.recordings.cancellation import overlap_added
from nearfar.recordings.transforms import Spectra, Waveform, framed, hann

N_FFT = 1024  # as W1
FORGETTING = 0.95  # of running averages, from frame to frame: that of the published coherence of the 2026 set


@dataclass(frozen=True, slots=True)
class CoherenceWeighting:
    r"""Weighs each bin of near by one minus its coherence with far.

    With C and F the short-time spectra of near and far, and averages over frames t,

    .. math:: \gamma^2 = \frac{|\langle C \overline{F} \rangle|^2}{\langle |C|^2 \rangle \langle |F|^2 \rangle},
              \quad Y = (1 - \hat\gamma^2) \, C,

    where :math:`\hat\gamma^2 = \max(0, (\gamma^2 - 1/n) / (1 - 1/n))`: the average of n frames of two noises that
    have nothing to do with each other has a coherence of about 1 / n. So a short recording falls towards near.

    This is a mask, not a subtraction: it makes a bin softer, and takes the same share of the machine as of the
    noise in it. Where the bin is all noise, cancellation leaves the square root of :math:`1 - \gamma^2` of its
    amplitude. What it takes from the noise beyond that, it takes from the machine, too.

    Parameters
    ----------
    n_fft : int
        Samples of a frame, an even number.
    forgetting : float or None
        ``None``: averages over the recording, one weight for each bin. Otherwise from 0 to below 1: averages run,
        and a frame counts for a share ``1 - forgetting``. They begin at those of the recording, because the
        coherence of one frame is always 1.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.recordings.coherence import CoherenceWeighting
    >>> noise, machine = np.random.default_rng(0).standard_normal((2, 160_000)).astype(np.float32)
    >>> weigh = CoherenceWeighting()
    >>> round(float(np.std(weigh(np.stack([machine, noise])))), 2)  # nothing in common
    1.0
    >>> bool(np.abs(weigh(np.stack([noise, noise]))).max() < 1e-5)  # the same
    True
    """

    n_fft: int = N_FFT
    forgetting: float | None = None

    def __post_init__(self) -> None:
        if self.n_fft < 2 or self.n_fft % 2:
            raise ValueError(
                f"n_fft={self.n_fft}: must be even and at least 2, because frames overlap by half"
            )
        if self.forgetting is not None and not 0 <= self.forgetting < 1:
            raise ValueError(
                f"forgetting={self.forgetting}: must be from 0 to below 1; None for averages over the recording"
            )

    def __call__(self, samples: Samples) -> Waveform:
        """Near, weighted: (2, samples) to (samples,); equal to near if far is silent.

        Raises
        ------
        ValueError
            If there is no second channel.
        """
        if samples.ndim != 2 or len(samples) <= FAR:
            raise ValueError(f"samples has the shape {samples.shape}; expected (2, samples): near, far")
        near = self._spectra(samples[NEAR])
        taken = self.coherence(samples).astype(np.float32) * near
        return samples[NEAR] - overlap_added([taken], len(taken), self.n_fft, samples.shape[-1])

    def coherence(self, samples: Samples) -> NDArray[np.float64]:
        """Of (2, samples), corrected for chance: (1, bins), or (frames, bins) of running averages."""
        near, far = (self._spectra(samples[channel]).astype(np.complex128) for channel in (NEAR, FAR))
        n = 1 + samples.shape[-1] // (self.n_fft // 2)  # one more closes the overlap at the end
        cross, of_near, of_far = (
            self._averages(products, n) for products in (near * far.conj(), abs(near) ** 2, abs(far) ** 2)
        )
        energies = of_near * of_far
        share = np.divide(abs(cross) ** 2, energies, out=np.zeros_like(energies), where=energies > 0)
        chance = 1 / n
        if self.forgetting is not None:
            chance = max(chance, (1 - self.forgetting) / (1 + self.forgetting))
        return np.clip((share - chance) / (1 - chance), 0.0, 1.0) if chance < 1 else np.zeros_like(share)

    def _spectra(self, waveform: Waveform) -> Spectra:
        """(frames, bins)."""
        return np.asarray(scipy.fft.rfft(framed(waveform, self.n_fft) * hann(self.n_fft)))

    def _averages(self, products: NDArray[np.inexact], n: int) -> NDArray[np.inexact]:
        """Of (frames, bins): (1, bins) over the first n frames, or running ones, (frames, bins)."""
        mean = products[:n].mean(axis=0, keepdims=True)
        if self.forgetting is None:
            return mean
        from scipy.signal import lfilter  # here, because scipy.signal takes 0.1 s to load

        keep, new = self.forgetting, 1 - self.forgetting
        return np.asarray(lfilter([new], [1, -keep], products, axis=0, zi=keep * mean)[0])
