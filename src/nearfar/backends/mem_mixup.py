"""Nearest neighbour with MemMixup: target references mixed with their nearest source references."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.backends.normal_model import NormalClips, NormalModel

Array = NDArray[np.floating[Any]]

TARGET_WEIGHT = 0.9  # lambda of GenRep; P. Saengthong and T. Shinozaki, arXiv:2409.05035
K = 990  # of GenRep: all source references of a machine of the challenge
DISTANCES_AT_ONCE = 2**20  # held in memory, 8 MiB; our choice


class MemMixup(NormalModel):
    r"""Euclidean distance to the nearest reference, of which the target domain has virtual ones too.

    Each target reference t is mixed with each of its ``k`` nearest source references s, and with all of them
    if there are no more than ``k``:

    .. math:: v = \lambda t + (1 - \lambda) s

    The score of x is :math:`\min(D_s, D_t)`, with :math:`D_s` the distance to the nearest source reference and
    :math:`D_t` that to the nearest target reference, real or virtual. (GenRep also scales the two distances
    before it takes the smaller; here that is for another back end to do.)

    Virtual references are not stored. Distances to them follow from those between real vectors, by Stewart's
    theorem, and only the nearest reference of a clip is formed, to measure the distance to it without the
    rounding errors of the Gram matrix:

    .. math:: |x - v|^2 = \lambda |x - t|^2 + (1 - \lambda) |x - s|^2 - \lambda (1 - \lambda) |t - s|^2

    Parameters
    ----------
    k : int
        Source references that a target reference is mixed with, at most: a machine with fewer mixes all.
    target_weight : float
        :math:`\lambda`, above 0 and below 1.
    target : str
        The domain whose references are mixed, with those of all other domains. Where all references are of
        one domain there is nothing to mix, and the score is the distance to the nearest reference.

    Attributes
    ----------
    centre_ : (dim,) array
        Mean of the references, which is subtracted from everything: small numbers have small rounding errors.
    references_ : (n_clips, dim) array
    squares_ : (n_clips,) array
        Their squared lengths.
    targets_ : (n_targets,) array of int
        Rows of ``references_`` that are mixed.
    partners_ : (n_targets, n_partners) array of int
        Rows of ``references_`` that each is mixed with, the nearest first.
    separations_ : (n_targets, n_partners) array
        Squared distances between the two.

    References
    ----------
    .. [1] P. Saengthong and T. Shinozaki, "Deep Generic Representations for Domain-Generalized Anomalous Sound
       Detection," arXiv:2409.05035.
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

    def _score(self, X: Array) -> NDArray[np.float64]:
        at_once = max(1, DISTANCES_AT_ONCE // len(self.references_))
        chunks = (X[start : start + at_once] for start in range(0, len(X), at_once))
        return np.concatenate([self._score_centred(chunk - self.centre_) for chunk in chunks])

    def _score_centred(self, x: Array) -> NDArray[np.float64]:
        weight = self.target_weight
        of_target, of_source = self._nearest(self._squared_distances(x))
        virtual = weight * self.references_[of_target] + (1 - weight) * self.references_[of_source]
        return np.linalg.norm(x - virtual, axis=1)

    def _squared_distances(self, x: Array) -> NDArray[np.float64]:
        """Of (n, dim), centred, to every real reference: (n, n_references), by one matrix product."""
        squared = _squares(x)[:, None] + self.squares_ - 2 * (x @ self.references_.T)
        return np.maximum(squared, 0, out=squared)

    def _nearest(self, squared: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The two references that the nearest one is mixed of, a real one of itself and itself: (n_clips,) each.

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


def _squares(x: Array) -> NDArray[np.float64]:
    return np.einsum("nd,nd->n", x, x)
