"""Mahalanobis distance to each domain, in units of the domain's own clips when they are left out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nearfar.backends.normal_model import Bool, Float, Index, NormalClips
from nearfar.backends.shared_covariance import SharedCovariance
from nearfar.backends.terms import Terms

FEW = 30  # clips; our choice: three times the challenge's ten, and far below its 990
OF_ONE_CLIP = (
    2.0  # a new clip and the only one of a domain differ by two variances, a new clip and a mean by one
)


class DomainNormalized(SharedCovariance):
    r"""Squared Mahalanobis distance to the nearest domain, in units of that domain's own clips.

    .. math::

        \min_d \frac{D(x, C_d)}{m_d}, \qquad
        D(x, C) = \min_{c \in C}\, (x - c)^\top \Sigma^{-1} (x - c), \qquad
        m_d = \operatorname{median}_{i \in d} D_{\setminus i}(x_i, C_{d \setminus i})

    The centre of a domain is its mean. But a domain with less than ``few`` clips has its clips themselves as
    centres, unless it is the largest: if ten clips are of three speeds, their mean is a speed at which the machine
    never runs. One covariance, shrunk by the formula of Ledoit and Wolf, is shared by all domains, as in
    ``Mahalanobis``.

    New clips are further from ten clips than from a mean of 990, and new conditions may spread more than known
    ones. So a distance that is usual for the small domain would be an anomaly in the large one. The scales
    :math:`m_d` mend this: in every domain, 1 is the distance of the median normal clip, left out of the fit.

    Leaving clip i out changes its domain's centres and the covariance, but not ``shrinkage_``, which hardly
    depends on one clip. Then all n distances follow from one eigendecomposition (formula of Sherman and Morrison).
    No random folds are drawn.

    The scale of a domain is never below that of the largest domain. A few clips that happen to be alike, such as
    pieces of one recording, must not make the detector alarm at everything else. A domain with one clip tells no
    scale. It takes twice that of the largest domain.

    Parameters
    ----------
    few : int
        At least 1. With 1, every domain has its mean as centre.

    Attributes
    ----------
    means_, precision_, shrinkage_
        As of ``Mahalanobis``.
    centres_ : (n_centres, dim) array
    centre_domains_ : (n_centres,) array of int
        The domain of each, by the order of the domains' names.
    scales_ : (n_domains,) array
        The medians :math:`m_d`.

    Raises
    ------
    ValueError
        By ``fit``, as ``Mahalanobis``; or if ``few`` is below 1.

    Examples
    --------
    The target clips spread more than the source clips. A new clip that is as far from them as they are from each
    other is usual.

    >>> import numpy as np
    >>> from nearfar.backends.domain_normalized import DomainNormalized
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(100, 2)), 20 + 3 * rng.normal(size=(10, 2))])
    >>> model = DomainNormalized().fit(X, domain=np.array(["source"] * 100 + ["target"] * 10))
    >>> model.anomaly_score([[1, 1], [22, 23], [32, 33]]).round(1)
    array([ 1.4,  1.4, 28.9])
    """

    MIN_CLIPS: ClassVar[int] = 3

    def __init__(self, *, few: int = FEW) -> None:
        self.few = few

    def _check_options(self) -> None:
        if self.few < 1:
            raise ValueError(
                f"few={self.few}: must be at least 1; with 1, every domain has one centre, its mean"
            )

    def _learn(self, clips: NormalClips) -> None:
        super()._learn(clips)
        index, sizes = clips.domain_number, np.array(list(clips.counts.values()))
        largest = sizes.argmax()
        is_few = (sizes < self.few) & (np.arange(len(sizes)) != largest)
        centres = [
            clips.X[index == d] if few else self.means_[d : d + 1] for d, few in enumerate(is_few.tolist())
        ]
        self.centres_ = np.concatenate(centres)
        self.centre_domains_ = np.repeat(np.arange(len(sizes)), [len(c) for c in centres])
        own = self._left_out(clips.X, index, sizes, is_few)
        scales = np.array([np.median(own[index == d]) for d in range(len(sizes))])
        scales[sizes == 1] = OF_ONE_CLIP * scales[largest]
        self.scales_ = np.maximum(scales, scales[largest])

    def _left_out(self, X: Float, index: Index, sizes: Index, is_few: Bool) -> Float:
        """Squared distance of each clip from its domain's centres, by a fit without the clip: (n_clips,).

        With residuals r around the means, and n_d clips in a domain, a mean without clip i is further from the clip
        by the factor f = n_d / (n_d - 1), and the scatter lacks f r r'.
        """
        residuals = X - self.means_[index]
        others, dim = len(X) - 1, X.shape[1]
        factor = (sizes / np.maximum(sizes - 1, 1))[index]
        scatter, axes = np.linalg.eigh(residuals.T @ residuals)
        turned = residuals @ axes
        mean_variance = (scatter.sum() - factor * (turned**2).sum(axis=1)) / (dim * others)
        variances = (1 - self.shrinkage_) * scatter / others + self.shrinkage_ * mean_variance[:, None]
        lacking = (1 - self.shrinkage_) * factor / others
        distance = (turned**2 / variances).sum(axis=1)
        own = factor**2 * distance / (1 - lacking * distance)
        for i in np.flatnonzero(is_few[index] & (sizes[index] > 1)):
            mates = (index == index[i]) & (np.arange(len(X)) != i)
            away = turned[i] - turned[mates]
            along = (away * turned[i] / variances[i]).sum(axis=1)
            to_mates = (away**2 / variances[i]).sum(axis=1)
            own[i] = (to_mates + lacking[i] * along**2 / (1 - lacking[i] * distance[i])).min()
        return own

    def _score(self, X: Float) -> Float:
        return self._relative(X).min(axis=0)

    def _relative(self, X: Float) -> Float:
        """Of each clip and centre: (n_centres, n_clips)."""
        return np.asarray(self._distances(X, self.centres_) / self.scales_[self.centre_domains_][:, None])

    def _terms(self, X: Float) -> Terms:
        nearest = self._relative(X)[:, 0].argmin()
        return self._terms_of(self.centres_[nearest], float(self.scales_[self.centre_domains_[nearest]]))
