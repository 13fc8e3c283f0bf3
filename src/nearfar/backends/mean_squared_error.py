"""Mean of squared residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearfar.backends.normal_model import Array, NormalClips, RowModel


class MeanSquaredError(RowModel):
    """Mean square of everything that an encoder gives for a clip: the reconstruction error of an autoencoder.

    Nothing is learnt but the number of dimensions.

    Attributes
    ----------
    dim_ : int
    """

    @property
    def _dim(self) -> int:
        return self.dim_

    def _learn(self, clips: NormalClips) -> None:
        self.dim_ = int(clips.X[0].shape[-1])

    def _score(self, X: Sequence[Array]) -> NDArray[np.float64]:
        return np.array([float(np.mean(residuals**2, dtype=np.float64)) for residuals in X])
