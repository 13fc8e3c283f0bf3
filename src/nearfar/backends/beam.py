"""Nearest neighbours in each frequency band."""

from __future__ import annotations

from typing import Literal

import numpy as np

from nearfar.backends.neighbours import Rescaled, nearest, nearest_others, smallest, unit
from nearfar.backends.normal_model import Array, Float, NormalClips, NormalModel
from nearfar.backends.terms import Quadratic, Terms

N_NEIGHBOURS = 4  # behind a reference's own distance b, in VarMin


class Beam(NormalModel):
    r"""Distance to the nearest normal clip in each frequency band, averaged over the bands (BEAM, [1]_).

    .. math:: A(z) = \frac{1}{B} \sum_b \min_i D_{bi}(z), \quad
              D_{bi}(z) = \frac{1 - \cos(z_b, r_{bi})}{2}

    Each band has its own nearest neighbour, among the clips of all domains. A cosine ignores the level, so a loud
    band weighs no more than a soft one.

    ``rescaling="varmin"`` helps clips near a normal clip that lies apart from the others. The score in a band is
    then :math:`\min_i (D_{bi}(z) - \alpha_b b_{bi})`, where :math:`b_{bi}` is the mean distance of normal clip i to
    its 4 nearest others in band b. The factor :math:`\alpha_b` is learnt from the normal clips themselves: let
    :math:`j(z)` be the nearest other of normal clip z, :math:`u_z` their distance, and :math:`v_z = b_{j(z)}`. The
    clip z may be among the 4 nearest others of j(z). Then

    .. math:: \alpha = \mathrm{Cov}_z(u_z, v_z) / \mathrm{Var}_z(v_z)

    in each band, or 0 if v does not vary. This minimizes :math:`\mathrm{Var}_z(u_z - \alpha v_z)`.

    Parameters
    ----------
    bands : int
        Number of equal parts that a vector, (dim,), is cut into, one after another. Clips of shape (bands, dim)
        have their own bands; leave it at 1 then.
    rescaling : {"none", "varmin"}

    Attributes
    ----------
    references_ : (bands, n_clips, dim) array
        The normal clips. Each band of a clip has length one.
    offsets_ : (bands, n_clips) array
        What is subtracted from the distances to each normal clip: ``alpha b``, or 0.

    Raises
    ------
    ValueError
        By ``fit``, if ``bands`` does not fit X, if a band of a clip is all zeros, or if there are too few clips for
        ``"varmin"``.

    Notes
    -----
    The paper says "Cov/Var by leave-one-out on the references". Public notes of its authors say more: z counts
    among the neighbours of j(z). To leave z out there, too, makes alpha smaller. With alpha = 1,
    one band and half the cosine, the score is that of ``DensityNormalized(4, normalization="difference")``.

    References
    ----------
    .. [1] P. Saengthong and T. Shinozaki, "Sub-band spectral matching with localized score aggregation for
       robust anomalous sound detection," arXiv:2603.13749, 2026.

    Examples
    --------
    Four numbers are two bands of two. The new clip sounds like the first normal clip in its low band, and like the
    second in its high band. Only bands that are compared one by one find that.

    >>> import numpy as np
    >>> from nearfar.backends.beam import Beam
    >>> X, domain = np.array([[1.0, 0, 1, 0], [0, 1.0, 0, 1]]), np.array(["source", "source"])
    >>> new = [[1.0, 0, 0, 1]]
    >>> Beam(bands=2).fit(X, domain).anomaly_score(new)
    array([0.])
    >>> Beam(bands=1).fit(X, domain).anomaly_score(new).round(2)
    array([0.25])
    """

    def __init__(self, bands: int = 1, *, rescaling: Literal["none", "varmin"] = "none") -> None:
        self.bands = bands
        self.rescaling = rescaling

    def _tells_apart(self) -> tuple[str, ...]:
        return ()  # the nearest clip may be of any domain

    def _check_options(self) -> None:
        if self.rescaling not in ("none", "varmin"):
            raise ValueError(f"rescaling={self.rescaling!r}: must be 'none' or 'varmin'")

    def _check_normal(self, X: Array) -> Float:
        return _check(X)

    def _check_new(self, X: Array) -> Float:
        X, (n_bands, _, dim) = _check(X), self.references_.shape
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
        if self.rescaling == "varmin" and len(X) <= N_NEIGHBOURS:
            raise ValueError(
                f"rescaling='varmin' needs {N_NEIGHBOURS + 1} normal clips, for each to have {N_NEIGHBOURS} "
                f"others; there are {len(X)}: give more, or set it to 'none'"
            )
        self.references_ = np.empty((n_bands, len(X), X[0].size // n_bands))
        unit(X.reshape(len(X), n_bands, -1), out=self.references_.transpose(1, 0, 2))
        self.offsets_ = np.zeros(self.references_.shape[:2])
        if self.rescaling == "varmin":
            self.offsets_ = np.stack([_variance_minimizing(band) for band in self.references_])

    def _n_bands(self, X: Float) -> int:
        """Number of bands of a clip, checked against the option."""
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

    def _terms(self, X: Float) -> Terms:
        n_bands, _, dim = self.references_.shape
        bands = X.reshape(n_bands, dim)
        centres, constant = np.empty((n_bands, dim)), 0.0
        for i, (band, references, offsets) in enumerate(
            zip(unit(bands), self.references_, self.offsets_, strict=True)
        ):
            ((index,),), _ = nearest(band[None], references, 1, rescaled=_less(offsets))
            centres[i], constant = references[index], constant - float(offsets[index])
        scale = np.repeat(1.0 / np.linalg.norm(bands, axis=1), dim).reshape(X.shape[1:])
        factor = 1.0 / (4 * n_bands)
        return Terms((Quadratic(centres.reshape(X.shape[1:]), None, factor, scale),), constant / n_bands)


def _check(X: Array) -> Float:
    from sklearn.utils.validation import check_array  # here, because it takes a second to load

    checked: Float = check_array(X, dtype=np.float64, allow_nd=True)
    if checked.ndim > 3:
        raise ValueError(f"X has shape {checked.shape}; it must be (n_clips, bands, dim) or (n_clips, dim)")
    return checked


def _smallest(queries: Float, references: Float, offsets: Float) -> Float:
    """The smallest distance minus offset of each query: (n_queries,)."""
    return smallest(np.ascontiguousarray(queries), references, _less(offsets))


def _less(offsets: Float) -> Rescaled:
    """Distances, less the offset of the reference: of vectors of length one, (1 - cos) / 2 = |q - r|^2 / 4."""
    return lambda squared, which: squared / 4 - offsets[which]


def _variance_minimizing(references: Float) -> Float:
    """``alpha b`` of each normal clip in one band: (n_references, dim) to (n_references,)."""
    indices, squared = nearest_others(references, N_NEIGHBOURS)
    u, b = squared[:, 0] / 4, squared.mean(axis=1) / 4
    v = b[indices[:, 0]]
    centred = v - v.mean()
    variance = centred @ centred
    return (centred @ u / variance if variance else 0.0) * b
