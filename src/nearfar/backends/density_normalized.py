"""Distance to every normal clip, relative to that clip's distances to its own neighbours; the smallest of all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from nearfar.backends.neighbours import (
    Metric,
    distances,
    nearest,
    nearest_others,
    prepared,
    require_metric,
    require_normalization,
    smallest,
)
from nearfar.backends.normal_model import Float, NormalClips, NormalModel
from nearfar.backends.terms import Terms, of_distances

N_NEIGHBOURS = 4  # K is free in [1]_; 4 is our choice, and that of an earlier measurement on two motors
FLOOR = 1e-3  # of the median scale, for ratios; our choice: far below any density, above what rounding leaves
ROUNDING = 1e-14  # relative, of distances: less is no distance


class DensityNormalized(NormalModel):
    r"""Distance to the nearest normal clip, after each distance is normalized by the density around that clip.

    This is local density-based anomaly score normalization [1]_. The normal clips of all domains are one bank. Let
    :math:`D(r_i, r_k)` be the distances of normal clip i to its K nearest *other* normal clips. Then

    .. math:: s_i = \frac{1}{K} \sum_k D(r_i, r_k), \qquad
              A(z) = \min_i \frac{D(z, r_i)}{s_i} \quad\text{or}\quad A(z) = \min_i \left(D(z, r_i) - s_i\right)

    The smallest is taken *after* the division (or subtraction). So the clip that decides need not be the nearest
    one: a clip in a sparse region, where distances are large anyway, may be the better explanation. No domain has
    to be known. ``DomainLocalDensity`` is another method: it first takes the nearest clip of each domain, and then
    divides.

    Parameters
    ----------
    k : int
        Number of neighbours K.
    metric : {"euclidean", "cosine"}
        ``"cosine"`` is 1 - cos. Half of it, as in ``Beam``, would halve the differences and leave the ratios.
    normalization : {"ratio", "difference"}

    Attributes
    ----------
    references_ : (n_clips, dim) array
        The normal clips. For the cosine they have length one.
    scales_ : (n_clips,) array
        The mean distance of each to its K nearest others. For ratios, none is below 0.001 of the median of all, so
        nothing is divided by 0. With K = 1, a clip and a near copy of it (another container, other rounding) hardly
        serve as references; a larger K mends that.

    Raises
    ------
    ValueError
        By ``fit``, if there are fewer than K + 1 different clips, if a cosine is asked for and a clip is all zeros,
        or if ratios are asked for and half of the clips are copies of others.

    References
    ----------
    .. [1] K. Wilkinghoff et al., "Local density-based anomaly score normalization for domain generalization,"
       arXiv:2509.10951, 2025.

    Examples
    --------
    The source clips are 1 apart, the target clips 10 apart. Both new clips are 5 away from the nearest normal clip.
    That is far from the source clips, but not from the target clips.

    >>> import numpy as np
    >>> from nearfar.backends.density_normalized import DensityNormalized
    >>> X = np.array([[0.0], [1.0], [2.0], [100.0], [110.0], [120.0]])
    >>> domain = np.array(["source"] * 3 + ["target"] * 3)
    >>> model = DensityNormalized(k=1).fit(X, domain)
    >>> model.anomaly_score([[7.0], [125.0]])
    array([5. , 0.5])

    30 is nearest to a source clip, at 28. It is 70 from a target clip, which is less in relation.

    >>> model.anomaly_score([[30.0]])
    array([7.])
    """

    def __init__(
        self,
        k: int = N_NEIGHBOURS,
        *,
        metric: Metric = "euclidean",
        normalization: Literal["ratio", "difference"] = "ratio",
    ) -> None:
        self.k = k
        self.metric = metric
        self.normalization = normalization

    def _tells_apart(self) -> tuple[str, ...]:
        return ()  # the domains are one bank

    def _check_options(self) -> None:
        require_metric(self.metric)
        require_normalization(self.normalization)

    def _learn(self, clips: NormalClips) -> None:
        n = len(clips)
        if n < 2:
            raise ValueError("there is one normal clip, so it has no neighbour; a density needs two or more")
        if not 1 <= self.k < n:
            raise ValueError(
                f"k={self.k}, but there are {n} normal clips; it must be between 1 and {n - 1}, for no clip is its "
                "own neighbour"
            )
        self.references_ = clips.X.copy() if self.metric == "euclidean" else prepared(clips.X, self.metric)
        _, squared = nearest_others(self.references_, self.k)
        self.scales_ = distances(squared, self.metric).mean(axis=1)
        if self.normalization == "ratio":
            self.scales_ = np.maximum(self.scales_, FLOOR * self._median())

    def _median(self) -> float:
        """The median scale, as a divisor."""
        median = float(np.median(self.scales_))
        if not median > ROUNDING * np.abs(self.references_).max():
            raise ValueError(
                f"half of the {len(self.scales_)} normal clips have {self.k} others at a distance of {median:.3g} "
                f"by metric {self.metric!r}, so there is nothing to divide by; are they copies of one recording? "
                "If not, take a larger k, or normalization='difference'"
            )
        return median

    def _score(self, X: Float) -> Float:
        return smallest(prepared(X, self.metric), self.references_, self._normalized)

    def _terms(self, X: Float) -> Terms:
        queries = prepared(X, self.metric)
        (index,), squared = (
            found[0] for found in nearest(queries, self.references_, 1, rescaled=self._normalized)
        )
        scale, references = float(self.scales_[index]), self.references_[index][None]
        if self.normalization == "difference":
            return replace(of_distances(X[0], references, squared, self.metric), constant=-scale)
        return of_distances(X[0], references, squared, self.metric, scale)

    def _normalized(self, squared: Float, which: Any) -> Float:
        """Squared distances to some references, as they are compared."""
        to_each, scales = distances(squared, self.metric), self.scales_[which]
        return to_each - scales if self.normalization == "difference" else to_each / scales
