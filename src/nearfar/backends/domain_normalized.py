"""Mahalanobis distance to each domain, divided by that of the domain's own clips when they are left out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nearfar.backends.normal_model import Float, NormalClips
from nearfar.backends.shared_covariance import SharedCovariance

OF_ONE_CLIP = (
    2.0  # a new clip and the only clip of a domain differ by two variances, a new clip and a mean by one
)


class DomainNormalized(SharedCovariance):
    r"""Squared Mahalanobis distance to a domain's mean, in units of the domain's own clips; the smallest one.

    .. math::

        \min_d \frac{(x - \mu_d)^\top \Sigma^{-1} (x - \mu_d)}{m_d}, \qquad
        m_d = \operatorname{median}_{i \in d}\;
        (x_i - \mu_{d \setminus i})^\top \Sigma_{\setminus i}^{-1} (x_i - \mu_{d \setminus i})

    Means and covariance are those of ``Mahalanobis``: a mean for each domain, and one shrunk covariance. A mean of
    ten clips lies further from new clips than a mean of 990, and new conditions may spread more than known ones. So
    a distance that is usual for the small domain would be an anomaly in the large one. Here, 1 is the distance of a
    domain's median normal clip that was left out, in every domain.

    Leaving clip i out changes its domain's mean and the covariance, but not ``shrinkage_``, which hardly depends on
    one clip. Then all n distances follow from one eigendecomposition (formula of Sherman and Morrison). No random
    folds are drawn.

    The scale of a domain is never below that of the largest domain. A few clips that happen to be alike, such as
    pieces of one recording, must not make the detector alarm at everything else. A domain with one clip tells no
    scale. It takes twice that of the largest domain, since its mean varies as much as a clip does.

    Attributes
    ----------
    means_, precision_, shrinkage_
        As of ``Mahalanobis``.
    scales_ : (n_domains,) array
        The medians :math:`m_d`, in the order of the domains' names.

    Raises
    ------
    ValueError
        By ``fit``, as ``Mahalanobis``.

    Examples
    --------
    The target clips spread more than the source clips. A new clip that is as far from the mean of the target clips
    as they are themselves has a score of about 1.

    >>> import numpy as np
    >>> from nearfar.backends.domain_normalized import DomainNormalized
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(100, 2)), 20 + 3 * rng.normal(size=(10, 2))])
    >>> model = DomainNormalized().fit(X, domain=np.array(["source"] * 100 + ["target"] * 10))
    >>> model.anomaly_score([[1, 1], [22, 23], [29, 29]]).round(1)
    array([1.4, 0.6, 8.7])
    """

    MIN_CLIPS: ClassVar[int] = 3

    def _learn(self, clips: NormalClips) -> None:
        super()._learn(clips)
        index, sizes = clips.domain_number, np.array(list(clips.counts.values()))
        own = self._left_out(clips.X - self.means_[index], sizes[index])
        largest = sizes.argmax()
        scales = np.array([np.median(own[index == d]) for d in range(len(sizes))])
        if not scales[largest] > 0:
            scales[largest] = own[own > 0].min(initial=1.0)
        scales[sizes == 1] = OF_ONE_CLIP * scales[largest]
        self.scales_ = np.maximum(scales, scales[largest])

    def _left_out(self, residuals: Float, sizes: Float) -> Float:
        """Squared distance of each clip from its domain's mean, by a fit without the clip: (n_clips,).

        With residuals r around the means, and n_d clips in a domain, a mean without clip i is further from the clip
        by the factor f = n_d / (n_d - 1), and the scatter lacks f r r'.
        """
        n, dim = residuals.shape
        others = n - 1
        factor = sizes / np.maximum(sizes - 1, 1)
        scatter, axes = np.linalg.eigh(residuals.T @ residuals)
        squared = (residuals @ axes) ** 2
        mean_variance = (scatter.sum() - factor * squared.sum(axis=1)) / (dim * others)
        variances = (1 - self.shrinkage_) * scatter / others + self.shrinkage_ * mean_variance[:, None]
        distance = (squared / variances).sum(axis=1)
        lacking = (1 - self.shrinkage_) * factor / others
        return factor**2 * distance / (1 - lacking * distance)

    def _score(self, X: Float) -> Float:
        return (self._distances(X) / self.scales_[:, None]).min(axis=0)
