"""Mean of squared residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nearfar.backends.normal_model import Array, Float, NormalClips, RowModel
from nearfar.backends.terms import Quadratic, Terms


class MeanSquaredError(RowModel):
    """Mean square of all numbers of a clip: the reconstruction error of an autoencoder, if they are its residuals.

    It learns nothing but the number of dimensions.

    Attributes
    ----------
    dim_ : int

    Examples
    --------
    Each clip has two rows of two residuals. The second clip is reconstructed badly.

    >>> import numpy as np
    >>> from nearfar.backends.mean_squared_error import MeanSquaredError
    >>> residuals = np.array([[[0.1, -0.1], [0.1, 0.1]], [[2.0, -2.0], [0.0, 0.0]]])
    >>> model = MeanSquaredError().fit(residuals, domain=np.array(["source", "source"]))
    >>> model.anomaly_score(residuals)
    array([0.01, 2.  ])
    """

    LEARNS_NOTHING: ClassVar[bool] = True

    @property
    def _dim(self) -> int:
        return self.dim_

    def _learn(self, clips: NormalClips) -> None:
        self.dim_ = int(clips.X[0].shape[-1])

    def _score(self, X: Sequence[Array]) -> Float:
        return np.array([float(np.mean(residuals**2, dtype=np.float64)) for residuals in X])

    def _terms(self, X: Sequence[Array]) -> Terms:
        return Terms((Quadratic(np.zeros(self.dim_), None, 1.0 / X[0].size, rows="sum"),))
