"""Nearest neighbours band by band."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from nearfar.backends.neighbours import nearest, nearest_others, unit
from nearfar.backends.normal_model import NormalClips, NormalModel

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]

N_NEIGHBOURS = 4  # behind a reference's own distance b, in VarMin


class Beam(NormalModel):
    r"""Smallest cosine distance to the normal clips in each frequency band, averaged over bands (BEAM, [1]_).

    .. math:: A(z) = \frac{1}{B} \sum_b \min_i D_{bi}(z), \quad
              D_{bi}(z) = \frac{1 - \cos(z_b, r_{bi})}{2}

    over the references of all domains together. Each band finds a neighbour of its own, and a loud band weighs
    no more than a soft one.

    With ``rescaling="varmin"`` a reference that lies apart from the others is not held against the clips that
    lie near it: :math:`\min_i (D_{bi}(z) - \alpha_b b_{bi})`, where :math:`b_{bi}` is the mean distance of
    reference i to its 4 nearest others in band b. The factor is the one that leaves the least variance in the
    scores of normal clips. Every reference j plays the unseen clip for a bank without it: there its nearest
    reference is i(j), at the distance :math:`m_j`, and that one's mean distance to *its* 4 nearest others is
    :math:`b^{-j}_{i(j)}`, which does not count j either. Then

    .. math:: \alpha = \mathrm{Cov}_j(m_j, b^{-j}_{i(j)}) / \mathrm{Var}_j(b^{-j}_{i(j)})

    in each band, which minimizes :math:`\mathrm{Var}_j(m_j - \alpha b^{-j}_{i(j)})`; 0 where b does not vary.

    Parameters
    ----------
    bands : int
        Equal parts that a clip of one vector, (dim,), is cut into, one after another. A clip of shape
        (bands, dim) has its own.
    rescaling : {"none", "varmin"}

    Attributes
    ----------
    references_ : (bands, n_clips, dim) array
        The normal clips, each band of length one.
    offsets_ : (bands, n_clips) array
        What is subtracted from the distances to each reference: ``alpha b``, or 0.

    Notes
    -----
    What exactly covaries is our reading; the recipe says "Cov/Var by leave-one-out on the references". For
    whole vectors and Euclidean distances ``LocalDensity(normalization="difference")`` is the relative with
    alpha = 1, for each domain.

    References
    ----------
    .. [1] P. Saengthong and T. Shinozaki, "Sub-band spectral matching with localized score aggregation for
       robust anomalous sound detection," arXiv:2603.13749, 2026.
    """

    def __init__(self, bands: int = 1, *, rescaling: Literal["none", "varmin"] = "none") -> None:
        self.bands = bands
        self.rescaling = rescaling

    def _check_options(self) -> None:
        if self.rescaling not in ("none", "varmin"):
            raise ValueError(f"rescaling={self.rescaling!r}: must be 'none' or 'varmin'")

    def _check_normal(self, X: Array) -> Float:
        return _checked(X)

    def _check_new(self, X: Array) -> Float:
        X, (n_bands, _, dim) = _checked(X), self.references_.shape
        if X.ndim == 3 and X.shape[1:] != (n_bands, dim):
            raise ValueError(
                f"X has {X.shape[2]} dimensions in {X.shape[1]} bands; it was fitted with {dim} in {n_bands}"
            )
        if X.ndim == 2 and X.shape[1] != n_bands * dim:
            raise ValueError(f"X has {X.shape[1]} dimensions; it was fitted with {n_bands * dim}")
        return X

    def _learn(self, clips: NormalClips) -> None:
        X: Float = clips.X
        n_bands = self._n_bands(X)
        if self.rescaling == "varmin" and len(X) < N_NEIGHBOURS + 2:
            raise ValueError(
                f"rescaling='varmin' needs {N_NEIGHBOURS + 2} normal clips, for each to have {N_NEIGHBOURS} "
                f"neighbours while another is left out; there are {len(X)}: give more, or set it to 'none'"
            )
        self.references_ = np.empty((n_bands, len(X), X[0].size // n_bands))
        unit(X.reshape(len(X), n_bands, -1), out=self.references_.transpose(1, 0, 2))
        self.offsets_ = np.zeros(self.references_.shape[:2])
        if self.rescaling == "varmin":
            self.offsets_ = np.stack([_variance_minimizing(band) for band in self.references_])

    def _n_bands(self, X: Float) -> int:
        """Bands of a clip, checked against the parameter."""
        if X.ndim == 3:
            if self.bands not in (1, X.shape[1]):
                raise ValueError(
                    f"bands={self.bands}, but X has {X.shape[1]} bands of its own; leave it at 1"
                )
            return X.shape[1]
        if not 1 <= self.bands <= X.shape[1] or X.shape[1] % self.bands:
            raise ValueError(f"bands={self.bands}: X has {X.shape[1]} dimensions, which do not divide by it")
        return self.bands

    def _score(self, X: Float) -> Float:
        n_bands, _, dim = self.references_.shape
        queries = unit(X.reshape(len(X), n_bands, dim)).transpose(1, 0, 2)
        total = np.zeros(len(X))  # added up band by band: how np.sum adds depends on the number of clips
        for in_band, references, offsets in zip(queries, self.references_, self.offsets_, strict=True):
            total += _smallest(in_band, references, offsets)
        return total / n_bands


def _checked(X: Array) -> Float:
    checked: Float = check_array(X, dtype=np.float64, allow_nd=True)
    if checked.ndim > 3:
        raise ValueError(f"X has shape {checked.shape}; it must be (n_clips, bands, dim) or (n_clips, dim)")
    return checked


def _smallest(queries: Float, references: Float, offsets: Float) -> Float:
    """Of each query, the smallest distance less offset: (n_queries,)."""
    indices, squared = nearest(np.ascontiguousarray(queries), references, 1, offsets=-4 * offsets)
    return (
        squared[:, 0] / 4 - offsets[indices[:, 0]]
    )  # of vectors of length one, (1 - cos) / 2 = |q - r|^2 / 4


def _variance_minimizing(references: Float) -> Float:
    """``alpha b`` of each reference of a band: (n_references, dim) to (n_references,)."""
    indices, squared = nearest_others(references, N_NEIGHBOURS + 1)
    distance, matched = squared / 4, indices[:, 0]
    b = distance[:, :N_NEIGHBOURS].mean(axis=1)
    is_left_out = indices[matched] == np.arange(len(references))[:, None]  # among the match's 5 neighbours
    is_left_out[:, N_NEIGHBOURS] |= ~is_left_out.any(axis=1)  # if not, the fifth is left out
    b_without = distance[matched][~is_left_out].reshape(-1, N_NEIGHBOURS).mean(axis=1)
    centred = b_without - b_without.mean()
    variance = centred @ centred
    return (centred @ distance[:, 0] / variance if variance else 0.0) * b
