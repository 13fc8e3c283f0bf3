"""Nearest neighbour with SMOTE: synthetic references fill up the smaller domains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.backends.neighbours import METRICS, Metric, distances, nearest, nearest_others, prepared
from nearfar.backends.normal_model import NormalClips, NormalModel

Array = NDArray[np.floating[Any]]

K = 5  # Chawla et al., section 4.2
RATIO = 1.0  # equal banks; the default of imbalanced-learn, no paper's


class Smote(NormalModel):
    r"""Distance to the nearest reference, of which the smaller domains have synthetic ones too.

    A domain with fewer references than ``ratio`` times those of the largest is filled up to that number.
    A synthetic reference lies on the line from a reference a to b, one of the ``k`` nearest others of its
    domain: :math:`a + u (b - a)`, u uniform in [0, 1). The references take turns as a, in random order, so
    that none begins more than one line more than another.

    Parameters
    ----------
    k : int
        Neighbours that b is drawn from.
    ratio : float
        Above 0 and at most 1.
    metric : {"euclidean", "cosine"}
        Of the neighbours and of the score; ``"cosine"`` is 1 - cos. Lines are between the vectors as they come.
    random_state : int
        Of the synthetic references.

    Attributes
    ----------
    references_ : (n_references, dim) array
        Those of the fit in their order, then the synthetic ones, domain after domain; of length one for the
        cosine.

    References
    ----------
    .. [1] N. V. Chawla et al., "SMOTE: Synthetic Minority Over-sampling Technique," Journal of Artificial
       Intelligence Research 16, 2002; arXiv:1106.1813. Its text, of one u for a line; its listing draws one for
       each dimension, which leaves the line.
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
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r}: must be 'euclidean' or 'cosine'")

    def _synthetic(
        self, bank: Array, domain: str, count: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """``count`` points on lines between neighbours of one domain's bank: (n, dim) to (count, dim)."""
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

    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        queries = prepared(X, self.metric)
        _, squared = nearest(queries, self.references_, 1)
        return distances(squared[:, 0], self.metric)
