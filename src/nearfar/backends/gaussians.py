"""One Gaussian for each group of normal clips."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.backends.normal_model import Array, Bool, Float, Index, NormalClips, NormalModel, Text
from nearfar.backends.terms import Quadratic, Terms

TARGET = "target"  # the domain that adds centres; all others count as source
REGULARIZATION = 1e-4  # of the report [1]_
N_CLUSTERS = 3  # of the report [1]_
N_INIT = 10  # starts of k-means, the best of which counts; our choice
COVERAGE = 0.95  # of the chi-square threshold; our choice, and the formula, too: the report names neither


class Gaussians(NormalModel):
    r"""Squared Mahalanobis distance to the nearest of several Gaussians, one for each group of normal clips.

    .. math:: A(z) = \min_k (z - \mu_k)^T \Sigma_k^{-1} (z - \mu_k)

    *Source clips* are all clips that are not of the domain "target". Source clips with equal attributes are a
    group [1]_. If there are fewer than two different attributes among them, k-means makes ``n_clusters`` groups: of
    all clips, target clips included [1]_, or of the source clips, see ``target_centres``. That a single attribute
    counts as none is our choice. Each group has its mean and its covariance (divisor n - 1) plus ``regularization``
    times the identity [1]_. So each covariance can be inverted, even if a group has fewer clips than dimensions: in
    a direction that its clips do not span, a step counts ``1 / regularization``. A group of *one* clip has no
    covariance. It takes the pooled covariance of all groups, which is our choice.

    *Target clips* with equal attributes are a group, too; with k-means of the source clips, target clips with the
    same nearest source centre. Each target group adds a Gaussian: its own mean, and the covariance of a source
    group, multiplied by

    .. math:: \max(1, \mathrm{median}_i\, d_i^2 / \chi^2_{0.95}(\mathrm{dim}))

    Here :math:`d_i` are the Mahalanobis distances of the group's clips from their mean, with the source covariance.
    The report scales this covariance "using a chi-square threshold so that the target normal samples are not
    over-penalized" [1]_. It gives no formula; this one is our choice.

    Parameters
    ----------
    target_centres : {"matching", "always", "never"}
        Which target groups add a Gaussian. ``"matching"``: those whose attributes also occur among the source clips
        [1]_. ``"always"``: all, which is our choice; a group with new attributes takes the covariance of the source
        group with the nearest mean (Euclidean). ``"never"``: none. With k-means, ``"matching"`` makes the groups of
        all clips, and no target group adds a Gaussian, since there is no attribute that could match. The two others
        make the groups of the source clips.
    n_clusters : int
        Number of clusters of k-means.
    regularization : float
        Added to the diagonal of each covariance.
    random_state : int
        Seed of k-means.

    Attributes
    ----------
    means_ : (n_gaussians, dim) array
        Means of the groups, then of the target groups that add a Gaussian.
    group_ : (n_gaussians,) array of int
        Number of the group whose covariance each Gaussian has.
    factors_ : (n_gaussians,) array
        Factor of that covariance.
    whitenings_ : (n_groups, dim, dim) array
        Inverse Cholesky factors W of the covariances: ``W.T @ W`` is the inverse covariance.

    Raises
    ------
    ValueError
        By ``fit``, if an option is out of its range, if there are no source clips, if some clips have attributes
        and others have none, or if there are too few clips for k-means or for a covariance.

    References
    ----------
    .. [1] Jiang and Han, technical report, DCASE Challenge 2026, Task 2: a dual-channel encoder with
       cross-attention, scored with Gaussians.

    Examples
    --------
    A machine runs at two speeds, and each has its own sound. Halfway between the two is not normal.

    >>> import numpy as np
    >>> from nearfar.backends.gaussians import Gaussians
    >>> X = np.array([[-1.0], [0.0], [1.0], [9.0], [10.0], [11.0]])
    >>> speed = np.array(["rpm_900"] * 3 + ["rpm_1500"] * 3)
    >>> model = Gaussians().fit(X, domain=np.array(["source"] * 6), attributes=speed)
    >>> model.anomaly_score([[0.0], [10.0], [5.0]]).round(1)
    array([ 0.,  0., 25.])
    """

    def __init__(
        self,
        target_centres: Literal["matching", "always", "never"] = "matching",
        *,
        n_clusters: int = N_CLUSTERS,
        regularization: float = REGULARIZATION,
        random_state: int = 0,
    ) -> None:
        self.target_centres = target_centres
        self.n_clusters = n_clusters
        self.regularization = regularization
        self.random_state = random_state

    def _learn(self, clips: NormalClips) -> None:
        X, is_target = clips.X, clips.domain == TARGET
        if is_target.all():
            raise ValueError(
                f"all {len(X)} normal clips are of the domain {TARGET!r}; the Gaussians are those of another "
                "domain: give source clips, or give these clips without a domain"
            )
        labels = self._by_attributes(is_target, clips.attributes)
        if labels is None:
            labels, is_target = self._clusters(X, is_target)
        names, group = np.unique(labels[~is_target], return_inverse=True)
        means, covariances = _moments(X[~is_target], group)
        self.whitenings_ = np.stack([self._whitening(covariance) for covariance in covariances])
        added = [] if self.target_centres == "never" else np.unique(labels[is_target]).tolist()
        centres = [
            self._target_centre(
                X[is_target & (labels == name)], np.flatnonzero(names == name), np.stack(means)
            )
            for name in added
            if self.target_centres == "always" or name in names
        ]
        self.means_ = np.stack([*means, *(mean for mean, _, _ in centres)])
        self.group_ = np.array([*range(len(means)), *(group for _, group, _ in centres)])
        self.factors_ = np.array([*np.ones(len(means)), *(factor for _, _, factor in centres)])

    def _tells_apart(self) -> tuple[str, ...]:
        return ("domain", "attributes")

    def _check_options(self) -> None:
        if self.target_centres not in ("matching", "always", "never"):
            raise ValueError(
                f"target_centres={self.target_centres!r}: must be 'matching', 'always' or 'never'"
            )
        if self.n_clusters < 1:
            raise ValueError(f"n_clusters={self.n_clusters}: must be at least 1")
        if not 0 < self.regularization < np.inf:
            raise ValueError(f"regularization={self.regularization}: must be above 0")

    def _by_attributes(self, is_target: Bool, attributes: Text | None) -> NDArray[Any] | None:
        """The group of each clip, (n_clips,); ``None`` if attributes do not tell two source groups apart."""
        labels = np.full(len(is_target), "") if attributes is None else attributes
        if len(np.unique(labels[(labels != "") & ~is_target])) < 2:
            return None
        if without := int((labels == "").sum()):
            raise ValueError(
                f"{without} of {len(labels)} normal clips have no attributes, the others have: groups need those "
                "of all clips, or of none"
            )
        return labels

    def _clusters(self, X: Array, is_target: Bool) -> tuple[Index, Bool]:
        """The group of each clip by k-means, and which clips can add centres beside those of the groups."""
        from sklearn.cluster import KMeans  # here, because a verdict does not need it

        added = np.zeros(len(X), dtype=bool) if self.target_centres == "matching" else is_target
        kind = "normal" if self.target_centres == "matching" else "source"
        if (different := len(np.unique(X[~added], axis=0))) < self.n_clusters:
            raise ValueError(
                f"n_clusters={self.n_clusters}, but there are {different} different {kind} clips to cluster; lower "
                "it, or give more normal clips"
            )
        k_means = KMeans(self.n_clusters, n_init=N_INIT, random_state=self.random_state).fit(X[~added])
        return k_means.predict(X), added

    def _whitening(self, covariance: Float) -> Float:
        regularized = covariance + self.regularization * np.eye(len(covariance))
        try:
            return np.linalg.inv(np.linalg.cholesky(regularized))
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f"regularization={self.regularization} is lost beside variances up to {covariance.max():g}, so a "
                "covariance cannot be inverted; raise it, or standardize the embeddings"
            ) from error

    def _target_centre(self, clips: Array, matching: Index, means: Float) -> tuple[Float, int, float]:
        """Mean of a target group, number of the source group whose covariance it takes, and the factor."""
        from scipy.special import chdtri  # here, because a verdict does not need it

        mean = clips.mean(axis=0)
        group = int(matching[0]) if len(matching) else int(((means - mean) ** 2).sum(axis=1).argmin())
        median = np.median((((clips - mean) @ self.whitenings_[group].T) ** 2).sum(axis=1))
        return mean, group, max(1.0, float(median / chdtri(clips.shape[1], 1 - COVERAGE)))

    def _score(self, X: Float) -> Float:
        return self._distances(X).min(axis=1)

    def _distances(self, X: Float) -> Float:
        """Of each clip and Gaussian: (n_clips, n_gaussians)."""
        distances = np.empty((len(X), len(self.means_)))
        for group, whitening in enumerate(self.whitenings_):
            own = self.group_ == group
            residuals = X[:, None] - self.means_[own]  # (n_clips, n_gaussians of the group, dim)
            white = residuals.reshape(-1, X.shape[1]) @ whitening.T
            squared = (white**2).sum(axis=1).reshape(len(X), -1)
            distances[:, own] = squared / self.factors_[own]
        return distances

    def _terms(self, X: Float) -> Terms:
        nearest = self._distances(X)[0].argmin()
        whitening = self.whitenings_[self.group_[nearest]]
        precision = whitening.T @ whitening
        return Terms((Quadratic(self.means_[nearest], precision, 1.0 / float(self.factors_[nearest])),))


def _moments(X: Array, group: Index) -> tuple[list[Float], list[Float]]:
    """Mean and covariance of each group. A group of one clip gets the covariance within all groups together."""
    means: list[Float] = []
    scatters: list[Float] = []
    sizes = np.bincount(group)
    for g in range(len(sizes)):
        means.append(X[group == g].mean(axis=0))
        centred = X[group == g] - means[g]
        scatters.append(centred.T @ centred)
    if (sizes == 1).all():
        raise ValueError(
            f"none of the {len(X)} clips shares its group with another, so there is no covariance; "
            "give more normal clips, or leave the attributes out"
        )
    covariances: list[Float] = [
        scatter / (size - 1) if size > 1 else np.sum(scatters, axis=0) / (len(X) - len(sizes))
        for scatter, size in zip(scatters, sizes, strict=True)
    ]
    return means, covariances
