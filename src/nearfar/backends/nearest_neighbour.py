"""Distance to the nearest normal clips."""

from __future__ import annotations

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
)
from nearfar.backends.normal_model import Float, NormalClips, NormalModel
from nearfar.backends.terms import Terms, of_distances
from nearfar.embedding.estimators import require_fitted


class NearestNeighbour(NormalModel):
    """Mean distance to the k nearest normal clips of a domain; the smallest over the domains.

    With ``k=1`` the domains make no difference: the score is the distance to the nearest normal clip.

    Parameters
    ----------
    k : int
        Number of neighbours. With few target clips, 1 is best in nearly all cases (K. Wilkinghoff et al.,
        arXiv:2509.10951).
    metric : {"euclidean", "cosine"}
        ``"cosine"`` is 1 - cos.

    Attributes
    ----------
    references_ : (n_clips, dim) array
        The normal clips, domain by domain. For the cosine they have length one.
    counts_ : (n_domains,) array of int
        Number of clips of each domain.

    Raises
    ------
    ValueError
        By ``fit``, if a domain has fewer than ``k`` clips, or if a cosine is asked for and a clip is all zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.backends.nearest_neighbour import NearestNeighbour
    >>> X = np.array([[0.0], [1.0], [10.0]])
    >>> model = NearestNeighbour(k=1).fit(X, domain=np.array(["source"] * 3))
    >>> model.anomaly_score([[3.0], [9.5]])
    array([2. , 0.5])

    A normal clip has distance 0 to itself. ``self_scores`` leaves each clip out when it scores it.

    >>> model.self_scores()
    array([1., 1., 9.])
    """

    def __init__(self, k: int = 1, *, metric: Metric = "euclidean") -> None:
        self.k = k
        self.metric = metric

    def _check_options(self) -> None:
        require_metric(self.metric)

    def _learn(self, clips: NormalClips) -> None:
        for name, count in clips.counts.items():
            if not 1 <= self.k <= count:
                raise ValueError(
                    f"k={self.k}, but domain {name!r} has {count} normal clips; it must be "
                    f"between 1 and {count}"
                )
        self.references_, self.counts_ = bank(clips.X, clips.domain, self.metric)

    def _score(self, X: Float) -> Float:
        queries = prepared(X, self.metric)
        scores = []
        for own in of_each_domain(self.counts_):
            _, squared = nearest(queries, self.references_[own], self.k)
            scores.append(distances(squared, self.metric).mean(axis=1))
        return np.min(scores, axis=0)

    def _terms(self, X: Float) -> Terms:
        queries = prepared(X, self.metric)
        found = []
        for own in of_each_domain(self.counts_):
            references = self.references_[own]
            indices, squared = nearest(queries, references, self.k)
            found.append((float(distances(squared, self.metric).mean()), references[indices[0]], squared[0]))
        _, references, squared = min(found, key=lambda one: one[0])
        return of_distances(X[0], references, squared, self.metric)

    def self_scores(self) -> Float:
        """Score each normal clip by the others: (n_clips,), in the order of ``references_``.

        Raises
        ------
        ValueError
            If a domain has no more than ``k`` clips.
        """
        require_fitted(self)
        domains = of_each_domain(self.counts_)
        if (smallest := int(self.counts_.min())) <= self.k:
            raise ValueError(
                f"k={self.k}, but a domain has {smallest} normal clips, which leaves {smallest - 1} others to "
                f"each; give {self.k + 1} or more, or a smaller k"
            )
        scores = [[self._leaving_one_out(own, other) for other in domains] for own in domains]
        return np.concatenate([np.min(of_domain, axis=0) for of_domain in scores])

    def _leaving_one_out(self, own: slice, other: slice) -> Float:
        """Mean distances of one domain's clips to the nearest clips of a domain, never to themselves."""
        queries, references = self.references_[own], self.references_[other]
        if own == other:
            _, squared = nearest_others(references, self.k)
        else:
            _, squared = nearest(queries, references, self.k)
        return distances(squared, self.metric).mean(axis=1)
