"""Nearest neighbour with MemMixup: target clips are mixed with their nearest source clips."""

from __future__ import annotations

import numpy as np

from nearfar.backends.normal_model import Array, Float, Index, NormalClips, NormalModel
from nearfar.backends.terms import Terms, of_distances

TARGET_WEIGHT = 0.9  # lambda of GenRep; P. Saengthong and T. Shinozaki, arXiv:2409.05035
K = 990  # of GenRep: all source references of a machine of the challenge
DISTANCES_AT_ONCE = 2**20  # held in memory, 8 MiB; our choice


class MemMixup(NormalModel):
    r"""Euclidean distance to the nearest reference, real or virtual. The target domain gets virtual ones.

    Each target clip t is mixed with each of its ``k`` nearest source clips s, or with all of them if there are
    fewer:

    .. math:: v = \lambda t + (1 - \lambda) s

    The score of x is :math:`\min(D_s, D_t)`. :math:`D_s` is the distance to the nearest source clip, :math:`D_t`
    the distance to the nearest target clip, real or virtual. (GenRep [1]_ also scales the two distances before it
    takes the smaller one. Here, ``PerDomainNormalized`` is the back end that scales.)

    Virtual references are not stored. The distances to them follow from the distances between real clips, by
    Stewart's theorem:

    .. math:: |x - v|^2 = \lambda |x - t|^2 + (1 - \lambda) |x - s|^2 - \lambda (1 - \lambda) |t - s|^2

    Only the nearest reference of a clip is formed. The distance to it is then measured directly, without the
    rounding errors of the formula.

    Parameters
    ----------
    k : int
        Number of source clips that a target clip is mixed with, at most.
    target_weight : float
        :math:`\lambda`, above 0 and below 1.
    target : str
        Name of the domain that is mixed with the others. If all clips are of one domain there is nothing to mix,
        and the score is the distance to the nearest clip.

    Attributes
    ----------
    centre_ : (dim,) array
        Mean of the normal clips. It is subtracted from everything, because small numbers have small rounding
        errors.
    references_ : (n_clips, dim) array
        The normal clips, centred.
    squares_ : (n_clips,) array
        Their squared lengths.
    targets_ : (n_targets,) array of int
        Rows of ``references_`` that are mixed.
    partners_ : (n_targets, n_partners) array of int
        Rows of ``references_`` that each of them is mixed with, the nearest first.
    separations_ : (n_targets, n_partners) array
        Squared distances between the two.

    Raises
    ------
    ValueError
        By ``fit``, if an option is out of its range.

    References
    ----------
    .. [1] P. Saengthong and T. Shinozaki, "Deep Generic Representations for Domain-Generalized Anomalous Sound
       Detection," arXiv:2409.05035.

    Examples
    --------
    The target clip at 10 is mixed with the source clip at 0. With the default weight of 0.9 there is a virtual
    reference at 9.

    >>> import numpy as np
    >>> from nearfar.backends.mem_mixup import MemMixup
    >>> X, domain = np.array([[0.0], [10.0]]), np.array(["source", "target"])
    >>> model = MemMixup().fit(X, domain)
    >>> model.anomaly_score([[9.0], [5.0]]).round(3)
    array([0., 4.])
    """

    def __init__(self, k: int = K, *, target_weight: float = TARGET_WEIGHT, target: str = "target") -> None:
        self.k = k
        self.target_weight = target_weight
        self.target = target

    def _learn(self, clips: NormalClips) -> None:
        self.centre_ = clips.X.mean(axis=0)
        self.references_ = clips.X - self.centre_
        self.squares_ = _squares(self.references_)
        is_target = clips.domain == self.target
        sources = np.flatnonzero(~is_target)
        self.targets_ = np.flatnonzero(is_target) if len(sources) else np.empty(0, dtype=np.intp)
        squared = self._squared_distances(self.references_[self.targets_])[:, sources]
        nearest = np.argsort(squared, axis=1, kind="stable")[:, : self.k]
        self.partners_ = sources[nearest]
        self.separations_ = np.take_along_axis(squared, nearest, axis=1)

    def _check_options(self) -> None:
        if self.k < 1:
            raise ValueError(f"k={self.k}: must be at least 1")
        if not 0 < self.target_weight < 1:
            raise ValueError(
                f"target_weight={self.target_weight}: must be above 0 and below 1; at either end a virtual "
                "reference is a real one"
            )

    def _score(self, X: Array) -> Float:
        at_once = max(1, DISTANCES_AT_ONCE // len(self.references_))
        chunks = (X[start : start + at_once] for start in range(0, len(X), at_once))
        return np.concatenate([self._score_centred(chunk - self.centre_) for chunk in chunks])

    def _score_centred(self, x: Array) -> Float:
        return np.linalg.norm(x - self._nearest_references(x), axis=1)

    def _nearest_references(self, x: Array) -> Float:
        """The nearest reference of each clip, real or virtual, centred: (n, dim) to the same."""
        weight = self.target_weight
        of_target, of_source = self._nearest(self._squared_distances(x))
        return np.asarray(weight * self.references_[of_target] + (1 - weight) * self.references_[of_source])

    def _terms(self, X: Array) -> Terms:
        nearest = self._nearest_references(X - self.centre_)
        squared = ((X - self.centre_ - nearest) ** 2).sum(axis=1)
        return of_distances(X[0], nearest + self.centre_, squared, "euclidean")

    def _squared_distances(self, x: Array) -> Float:
        """From (n, dim), centred, to each real reference: (n, n_references), by one matrix product."""
        squared = _squares(x)[:, None] + self.squares_ - 2 * (x @ self.references_.T)
        return np.maximum(squared, 0, out=squared)

    def _nearest(self, squared: Array) -> tuple[Index, Index]:
        """The two references that the nearest one is mixed of: (n_clips,) each. If it is a real one, both are that
        one.

        Parameters
        ----------
        squared : (n_clips, n_references) array
            Squared distances to the real references.
        """
        weight, rows = self.target_weight, np.arange(len(squared))
        of_target = squared.argmin(axis=1)
        of_source, smallest = of_target.copy(), squared[rows, of_target]
        for target, partners, separation in zip(
            self.targets_, self.partners_, self.separations_, strict=True
        ):
            mixed = (1 - weight) * (squared[:, partners] - weight * separation)
            best = mixed.argmin(axis=1)
            distance = weight * squared[:, target] + mixed[rows, best]
            nearer = distance < smallest
            smallest[nearer], of_target[nearer] = distance[nearer], target
            of_source[nearer] = partners[best[nearer]]
        return of_target, of_source


def _squares(x: Array) -> Float:
    return np.einsum("nd,nd->n", x, x)
