"""Nearest neighbour with SMOTE: synthetic references fill up the smaller domains."""

from __future__ import annotations

import numpy as np

from nearfar.backends.neighbours import Metric, distances, nearest, nearest_others, prepared, require_metric
from nearfar.backends.normal_model import Array, Float, NormalClips, NormalModel
from nearfar.backends.terms import Terms, of_distances

K = 5  # Chawla et al., section 4.2
RATIO = 1.0  # equal banks; the default of imbalanced-learn, no paper's


class Smote(NormalModel):
    """Distance to the nearest reference, real or synthetic. The smaller domains get synthetic ones.

    A domain is filled up to ``ratio`` times the number of clips of the largest domain. A synthetic reference lies
    on the line from a normal clip a to b, which is one of the ``k`` nearest other clips of its domain: :math:`a + u
    (b - a)`, with u uniform in [0, 1). The clips of the domain take turns as a, in random order. So the numbers of
    lines that begin at two clips differ by one at most.

    Parameters
    ----------
    k : int
        Number of neighbours that b is drawn from.
    ratio : float
        Above 0, at most 1.
    metric : {"euclidean", "cosine"}
        For the neighbours and for the score. ``"cosine"`` is 1 - cos. The lines connect the vectors as they are.
    random_state : int
        Seed of the synthetic references.

    Attributes
    ----------
    references_ : (n_references, dim) array
        The normal clips in their order, then the synthetic references, domain by domain. For the cosine they have
        length one.

    Raises
    ------
    ValueError
        By ``fit``, if an option is out of its range, if a domain that is to be filled up has no more than ``k``
        clips, or if a cosine is asked for and a clip is all zeros.

    References
    ----------
    .. [1] N. V. Chawla et al., "SMOTE: Synthetic Minority Over-sampling Technique," Journal of Artificial
       Intelligence Research 16, 2002; arXiv:1106.1813. We follow its text, which draws one u for a line. Its
       listing draws one u for each dimension, which leaves the line.

    Examples
    --------
    Five source clips and two target clips: the target domain gets three synthetic references between its two clips.
    A new clip between the two is near one of them.

    >>> import numpy as np
    >>> from nearfar.backends.smote import Smote
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [20.0], [30.0]])
    >>> domain = np.array(["source"] * 5 + ["target"] * 2)
    >>> model = Smote(k=1).fit(X, domain)
    >>> model.references_[len(X):].ravel().round(1)
    array([22.7, 29.6, 20.2])
    >>> model.anomaly_score([[25.0]]).round(1)  # 5.0 without synthetic references
    array([2.3])
    """

    def __init__(
        self, k: int = K, *, ratio: float = RATIO, metric: Metric = "euclidean", random_state: int = 0
    ) -> None:
        self.k = k
        self.ratio = ratio
        self.metric = metric
        self.random_state = random_state

    def _learn(self, clips: NormalClips) -> None:
        rng = np.random.default_rng(self.random_state)
        wanted = round(self.ratio * max(clips.counts.values()))
        synthetic = [
            self._synthetic(clips.of_domain(d).X, d, wanted - n, rng)
            for d, n in clips.counts.items()
            if n < wanted
        ]
        self.references_ = prepared(np.concatenate([clips.X, *synthetic]), self.metric)

    def _check_options(self) -> None:
        if self.k < 1:
            raise ValueError(f"k={self.k}: must be at least 1")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio={self.ratio}: must be above 0 and at most 1")
        require_metric(self.metric)

    def _synthetic(self, bank: Array, domain: str, count: int, rng: np.random.Generator) -> Float:
        """``count`` points on lines between neighbours of one domain's clips: (n, dim) to (count, dim)."""
        if len(bank) <= self.k:
            raise ValueError(
                f"k={self.k}, but domain {domain!r} has {len(bank)} normal clips, so that a reference has "
                f"{len(bank) - 1} others to go towards; give {self.k + 1} or more, or a smaller k"
            )
        neighbours, _ = nearest_others(prepared(bank, self.metric), self.k)
        begins = np.resize(rng.permutation(len(bank)), count)
        ends = neighbours[begins, rng.integers(self.k, size=count)]
        u = rng.random((count, 1))
        return bank[begins] + u * (bank[ends] - bank[begins])

    def _score(self, X: Float) -> Float:
        queries = prepared(X, self.metric)
        _, squared = nearest(queries, self.references_, 1)
        return distances(squared[:, 0], self.metric)

    def _terms(self, X: Float) -> Terms:
        indices, squared = nearest(prepared(X, self.metric), self.references_, 1)
        return of_distances(X[0], self.references_[indices[0]], squared[0], self.metric)
