"""Distance to the nearest normal clip, relative to the distances around that clip."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from nearfar.backends.neighbours import (
    Metric,
    bank,
    distances,
    nearest,
    nearest_others,
    of_each_domain,
    prepared,
    require_metric,
    require_normalization,
)
from nearfar.backends.normal_model import Float, NormalClips, NormalModel
from nearfar.backends.terms import Terms, of_distances

TARGET = "target"  # the domain of few clips, in the challenge's words
EPS = 1e-12  # our choice; the report [1]_ names an epsilon, but no value
FLOOR = 0.05  # of the median scale of a domain; our choice: on two real motors, no scale is below 0.09 of it
ROUNDING = 1e-14  # relative, of distances: less is no distance


class DomainLocalDensity(NormalModel):
    r"""Distance to the nearest normal clip, divided by that clip's distances to its own neighbours.

    This is domain-conditioned local density (DLD) [1]_. If 990 source clips lie close together and ten target clips
    lie far apart, then the same distance means more among the source clips. The division corrects for that. Let
    :math:`n_d(z)` be the normal clip of domain d that is nearest to z, and let u be its :math:`K_d` nearest *other*
    clips of the same domain. Then

    .. math:: D_d(z) = \frac{\|z - n_d(z)\|}{\sum_u \|n_d(z) - u\| + \epsilon}

    and the score is the smallest :math:`D_d(z)` over the domains (equations 2 and 3 of [1]_).

    Parameters
    ----------
    k : int
        Number of neighbours K in every domain that is not called "target". [1]_ submitted 8, and used 16 in the
        audit of its adapted branch.
    k_target : int
        Number of neighbours K in the domain "target". [1]_ submitted 5, and used 9 in
        that audit.
    metric : {"euclidean", "cosine"}
        ``"cosine"`` is 1 - cos. [1]_ uses it for M2D, and the Euclidean distance for EAT and CED.
    normalization : {"ratio", "difference"}
        ``"difference"`` subtracts the *mean* distance of the K neighbours, as a variant of [2]_ does. The sum would
        be K times as large as one distance, so the mean is our choice. For K = 1 they are equal.
    eps : float
        The epsilon of the ratio.

    Attributes
    ----------
    references_ : (n_clips, dim) array
        The normal clips, domain by domain. For the cosine they have length one.
    counts_ : (n_domains,) array of int
        Number of clips of each domain.
    scales_ : (n_clips,) array
        For each normal clip the sum (ratio) or mean (difference) of its distances to its K nearest others. None is
        below 0.05 of the median scale of its domain: that of a clip and a near copy of it (another container, other
        rounding) would say nothing of the density, and would make every score beside it huge.

    Raises
    ------
    ValueError
        By ``fit``, if a domain has fewer than K + 1 different clips, or if a cosine is asked for and a clip is all
        zeros.

    References
    ----------
    .. [1] J. Lei, "Task-adapted dual-microphone representations with domain-conditioned local-density fusion,"
       technical report, DCASE Challenge 2026, Task 2.
    .. [2] K. Wilkinghoff et al., "Local density-based anomaly score normalization for domain generalization,"
       arXiv:2509.10951, 2025.

    Examples
    --------
    The source clips are 1 apart, the target clips 10 apart. Both new clips are 5 away from the nearest normal clip.
    That is far from the source clips, but not from the target clips.

    >>> import numpy as np
    >>> from nearfar.backends.domain_local_density import DomainLocalDensity
    >>> X = np.array([[0.0], [1.0], [2.0], [100.0], [110.0], [120.0]])
    >>> domain = np.array(["source"] * 3 + ["target"] * 3)
    >>> model = DomainLocalDensity(k=1, k_target=1).fit(X, domain)
    >>> model.anomaly_score([[7.0], [125.0]])
    array([5. , 0.5])
    """

    def __init__(
        self,
        k: int = 8,
        k_target: int = 5,
        *,
        metric: Metric = "euclidean",
        normalization: Literal["ratio", "difference"] = "ratio",
        eps: float = EPS,
    ) -> None:
        self.k = k
        self.k_target = k_target
        self.metric = metric
        self.normalization = normalization
        self.eps = eps

    def _learn(self, clips: NormalClips) -> None:
        ks = [self._k(name, count) for name, count in clips.counts.items()]
        self.references_, self.counts_ = bank(clips.X, clips.domain, self.metric)
        self.scales_ = np.concatenate(
            [
                self._scales(name, own, k)
                for name, own, k in zip(clips.counts, of_each_domain(self.counts_), ks, strict=True)
            ]
        )

    def _check_options(self) -> None:
        require_metric(self.metric)
        require_normalization(self.normalization)
        if not 0 < self.eps < np.inf:
            raise ValueError(
                f"eps={self.eps}: must be above 0; it keeps ratios finite where clips are copies"
            )

    def _k(self, domain: str, count: int) -> int:
        """Number of neighbours in a domain, checked."""
        name, k = ("k_target", self.k_target) if domain == TARGET else ("k", self.k)
        if count < 2:
            raise ValueError(
                f"domain {domain!r} has one normal clip, so it has no neighbour; a local density needs two or more"
            )
        if not 1 <= k < count:
            raise ValueError(
                f"{name}={k}, but domain {domain!r} has {count} normal clips; it must be between 1 and "
                f"{count - 1}, for no clip is its own neighbour"
            )
        return k

    def _scales(self, domain: str, own: slice, k: int) -> Float:
        """The scale of each normal clip of a domain: (n_references,)."""
        _, squared = nearest_others(self.references_[own], k)
        to_neighbours = distances(squared, self.metric)
        median = np.median(mean := to_neighbours.mean(axis=1))
        if not median > ROUNDING * np.abs(self.references_[own]).max():
            raise ValueError(
                f"half of the {len(mean)} normal clips of domain {domain!r} have {k} others at a distance of "
                f"{median:.3g} by metric {self.metric!r}, so there is no scale; are they copies of one recording?"
            )
        scales = np.maximum(mean, FLOOR * median)
        return scales if self.normalization == "difference" else k * scales

    def _score(self, X: Float) -> Float:
        queries = prepared(X, self.metric)
        return np.min([self._score_in(queries, own) for own in of_each_domain(self.counts_)], axis=0)

    def _terms(self, X: Float) -> Terms:
        queries = prepared(X, self.metric)
        domains = of_each_domain(self.counts_)
        own = domains[int(np.argmin([self._score_in(queries, own)[0] for own in domains]))]
        indices, squared = nearest(queries, self.references_[own], 1)
        scale, references = float(self.scales_[own][indices[0, 0]]), self.references_[own][indices[0]]
        if self.normalization == "difference":
            return replace(of_distances(X[0], references, squared[0], self.metric), constant=-scale)
        return of_distances(X[0], references, squared[0], self.metric, scale + self.eps)

    def _score_in(self, queries: Float, own: slice) -> Float:
        indices, squared = nearest(queries, self.references_[own], 1)
        to_nearest, scales = distances(squared[:, 0], self.metric), self.scales_[own][indices[:, 0]]
        return to_nearest - scales if self.normalization == "difference" else to_nearest / (scales + self.eps)
