r"""Short-time Fourier transforms as two products of matrices, and back.

A frame of N samples is a matrix of A rows and B columns, with N = A B. With :math:`n = B a + b` and
:math:`k = k_1 + A k_2`,

.. math:: X(k_1 + A k_2) = \sum_b e^{-2 \pi i b k_2 / B}
          \Big[ \sum_a w(B a + b)\, x(B a + b)\, e^{-2 \pi i (a k_1 / A + b k_1 / N)} \Big].

The inner sum is a convolution over the rows of the recording, with a stride, one for each column. The window and
the twiddle factors are in it. The outer one is a product with a small matrix. For 2,048 samples, this takes 15
times fewer products than all cosines and sines at once, and rounds as a fast Fourier transform does.

Conventions
-----------
Samples are real, so :math:`k_1` from 0 to A / 2 is enough. Spectra are ``(columns, 2, k1, frames)``: the second
axis is real and imaginary part. So bins are in an order of their own. Some are the conjugates of those of ``rfft``,
and some are there twice: what looks at one bin at a time need not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
from numpy.typing import NDArray

from nearfar.export.expressions import Expression

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frames:
    """Overlapping frames of a waveform, under a window.

    Attributes
    ----------
    window : (n_fft,) array
    hop : int
        Samples from frame to frame.
    """

    window: Float
    hop: int

    @property
    def n_fft(self) -> int:
        """Samples of a frame."""
        return len(self.window)

    @cached_property
    def columns(self) -> int:
        """B: of all divisors of frame and hop, the one that takes the fewest operations."""
        common = gcd(self.n_fft, self.hop)
        divisors = [n for n in range(1, common + 1) if common % n == 0]
        return min(divisors, key=self._operations)

    def _operations(self, columns: int) -> int:
        """Products of numbers that a frame takes."""
        return (1 + self.n_fft // columns // 2) * (2 * self.n_fft + 4 * columns**2)

    @property
    def rows(self) -> int:
        """A."""
        return self.n_fft // self.columns

    @property
    def _k1(self) -> NDArray[np.int64]:
        return np.arange(1 + self.rows // 2)

    @property
    def bins(self) -> NDArray[np.int64]:
        """Which bin of ``rfft`` each one is, as it is or conjugated: (columns, k1)."""
        k = self._k1 + self.rows * np.arange(self.columns)[:, None]
        return np.asarray(np.minimum(k, self.n_fft - k))

    def spectra(self, waveform: Expression) -> Expression:
        """Of a waveform whose frames begin with its first sample and end with its last: (columns, 2, k1, frames).

        Parameters
        ----------
        waveform : (n_fft + hop * (frames - 1),) float32
        """
        rows = waveform.reshape(1, -1, self.columns).transpose(0, 2, 1)
        kernel = np.moveaxis(self._inner(self.window), 0, -1).reshape(-1, 1, self.rows)
        inner = rows.convolved(kernel, group=self.columns, strides=[self._stride])
        outer = self._outer(sign=-1) @ inner.reshape(2 * self.columns, -1)
        return outer.reshape(self.columns, 2, len(self._k1), -1)

    def waveform(self, spectra: Expression, synthesis: Float) -> Expression:
        """The sum of all frames of which these are the spectra, each under a window, where they lie.

        Parameters
        ----------
        spectra : (columns, 2, k1, frames) float32
        synthesis : (n_fft,) array
            The window that frames are multiplied by.

        Returns
        -------
        (n_fft + hop * (frames - 1),) float32
        """
        k1 = self._k1
        once = np.where((k1 == 0) | (2 * k1 == self.rows), 1.0, 2.0) / self.n_fft
        outer = self._outer(sign=1) @ spectra.reshape(2 * self.columns, -1)
        kernel = np.moveaxis(self._inner(synthesis) * once, 0, -1).reshape(-1, 1, self.rows)
        inner = outer.reshape(1, len(kernel), -1)
        rows = inner.spread(kernel, group=self.columns, strides=[self._stride])
        return rows.transpose(0, 2, 1).reshape(-1)

    @property
    def _stride(self) -> int:
        """Rows from frame to frame."""
        return self.hop // self.columns

    def _inner(self, window: Float) -> Float:
        """What is summed over rows, (rows, columns, 2, k1).

        Real and imaginary part of the factors. Back, both parts of a sum are multiplied by them, which gives the
        real part of its product with the conjugate.
        """
        n = np.arange(self.n_fft)[:, None]
        angle = 2 * np.pi * (n * self._k1 % self.n_fft) / self.n_fft
        parts = np.stack([np.cos(angle), -np.sin(angle)], axis=1) * window[:, None, None]
        return parts.reshape(self.rows, self.columns, 2, -1)

    def _outer(self, *, sign: int) -> NDArray[np.float32]:
        """The transform over columns, forth or back, of real and imaginary parts in turns."""
        n = np.arange(self.columns)
        angle = sign * 2 * np.pi * (n[:, None] * n % self.columns) / self.columns
        of_parts = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return of_parts.transpose(2, 0, 3, 1).reshape(2 * self.columns, -1).astype(np.float32)
