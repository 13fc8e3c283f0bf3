"""What back ends share that measure Mahalanobis distances: a mean for each domain, one covariance of all clips."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nearfar.backends.normal_model import Float, NormalClips, NormalModel
from nearfar.backends.terms import Quadratic, Terms
from nearfar.recordings.clips import counted
from nearfar.recordings.inspection.shrinkage import shrunk_covariance

ROUNDING = 8 * np.finfo(np.float64).eps  # relative: a mean of equal numbers is not quite equal to them


class SharedCovariance(NormalModel):
    """A mean for each domain, and one covariance of the clips around them: it learns what ``Mahalanobis`` lists."""

    MIN_CLIPS: ClassVar[int] = 2

    def _learn(self, clips: NormalClips) -> None:
        X, domains, index = clips.X, clips.counts, clips.domain_number
        if len(X) < len(domains) + 2:  # of two residuals one is the other's negative: nothing to shrink by
            raise ValueError(
                f"{counted(len(X), 'normal clip')} in {counted(len(domains), 'domain')}: a covariance around the "
                f"domains' means needs at least {len(domains) + 2}; give more normal clips"
            )
        self.means_ = np.stack([X[index == i].mean(axis=0) for i in range(len(domains))])
        centred = X - self.means_[index]
        centred[np.abs(centred) <= ROUNDING * np.abs(X).max(axis=0)] = 0.0  # where clips are equal
        if not centred.any():
            raise ValueError(
                f"the {len(X)} normal clips do not differ within their domains, so there is no covariance; "
                "are they copies of one recording?"
            )
        covariance, shrinkage = shrunk_covariance(centred)
        try:
            self.precision_: Float = np.linalg.inv(covariance)
        except np.linalg.LinAlgError as error:
            raise FloatingPointError(f"the covariance of {len(X)} normal clips cannot be inverted") from error
        self.shrinkage_ = shrinkage

    def _distances(self, X: Float, centres: Float) -> Float:
        """Squared distance of each clip from each centre, (n_centres, dim): (n_centres, n_clips)."""
        distances = np.empty((len(centres), len(X)))
        for i, centre in enumerate(centres):
            residuals = X - centre
            distances[i] = np.einsum("nd,nd->n", residuals @ self.precision_, residuals)
        return distances

    def _terms_of(self, centre: Float, scale: float = 1.0) -> Terms:
        """Of the squared distance from a centre, (dim,), divided by a scale."""
        return Terms((Quadratic(centre, self.precision_, 1.0 / scale),))
