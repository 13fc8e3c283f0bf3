"""Any back end, fitted to each domain alone; its scores are divided by those of the domain's own clips."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfar.backends import Backend, backend_class
from nearfar.backends.normal_model import Float, NormalClips, NormalModel
from nearfar.backends.terms import Terms
from nearfar.recordings.clips import unknown

FOLDS = 10  # our choice: for the usual 10 target clips it is leave-one-out


class PerDomainNormalized(NormalModel):
    r"""Score of another back end, divided by those of a domain's own clips; the smallest over the domains.

    .. math:: \min_d \frac{s_d(x)}{\mathrm{median}_{i \in d}\; s_{d \setminus i}(x_i)}

    :math:`s_d` is the wrapped back end, fitted to domain d alone. So 1 is the score of a domain's median normal
    clip, in a dense domain of 990 clips as in a sparse one of 10. The median must be taken over clips that were
    left out of the fit, because a clip that was fitted scores too low (its nearest neighbour is itself). There are
    two ways:

    * If the back end has a method ``self_scores``, it leaves each clip out itself.
    * Otherwise the clips of a domain are divided into ``folds`` parts, and each part is scored by a fit to the
      others. If a domain has ``folds`` clips or fewer, each clip is left out on its own.

    The wrapped back end says what X may be.

    Parameters
    ----------
    backend : str
        Of ``backends.BACKENDS``. Its scores must be positive, as distances are.
    backend_options : dict or None
        Its options.
    folds : int
        At least 2. A domain with fewer clips has as many folds as clips.
    random_state : int
        Seed of the folds, and of the wrapped back end if its options do not set one.

    Attributes
    ----------
    backends_ : list of back ends
        One for each domain, in the order of the domains' names.
    scales_ : (n_domains,) array
        The medians.

    Raises
    ------
    ValueError
        By ``fit``, if ``folds`` is below 2, if the wrapped back end refuses the clips of a domain (the message
        names the domain), or if the median score of a domain is not above 0.

    Examples
    --------
    The target clips lie ten times as far apart as the source clips. A new clip that is as far from its nearest
    neighbour as normal clips are scores 1 in both domains.

    >>> import numpy as np
    >>> from nearfar.backends.per_domain_normalized import PerDomainNormalized
    >>> X = np.array([[0.0], [1.0], [2.0], [100.0], [110.0], [120.0]])
    >>> domain = np.array(["source"] * 3 + ["target"] * 3)
    >>> model = PerDomainNormalized("nearest_neighbour").fit(X, domain)
    >>> model.scales_
    array([ 1., 10.])
    >>> model.anomaly_score([[3.0], [130.0], [5.0]])
    array([1., 1., 3.])
    """

    def __init__(
        self,
        backend: str = "nearest_neighbour",
        backend_options: dict[str, Any] | None = None,
        *,
        folds: int = FOLDS,
        random_state: int = 0,
    ) -> None:
        self.backend = backend
        self.backend_options = backend_options
        self.folds = folds
        self.random_state = random_state

    def unfitted(self) -> Backend:
        """A wrapped back end with its options, not fitted.

        Raises
        ------
        ValueError
            If there is no such back end, or if it has no such option. The message names the nearest one.
        """
        cls = backend_class(self.backend)
        options, known = dict(self.backend_options or {}), cls().get_params()
        for name in options:
            if name not in known:
                raise ValueError(unknown(f"option of back end {self.backend!r}", name, known))
        if "random_state" in known:
            options.setdefault("random_state", self.random_state)
        return cls(**options)

    def _tells_apart(self) -> tuple[str, ...]:
        wrapped = self.unfitted()  # a wrong option is the fault of no domain
        return ("domain", *(wrapped._tells_apart() if isinstance(wrapped, NormalModel) else ("attributes",)))

    def _check_options(self) -> None:
        if self.folds < 2:
            raise ValueError(
                f"folds={self.folds}: must be at least 2, to score clips that were not fitted on"
            )

    def _check_normal(self, X: Any) -> Any:
        return X  # the wrapped back end checks them

    def _check_new(self, X: Any) -> Any:
        return X

    def _learn(self, clips: NormalClips) -> None:
        fitted = [self._fit_domain(name, clips.of_domain(name)) for name in clips.counts]
        self.backends_ = [backend for backend, _ in fitted]
        self.scales_ = np.array([scale for _, scale in fitted])

    def _fit_domain(self, name: str, clips: NormalClips) -> tuple[Backend, float]:
        """A domain's back end, and the median score of the domain's own clips."""
        n = len(clips)
        try:
            backend = self._fitted(clips)
            scale = float(np.median(self._self_scores(backend, clips)))
        except ValueError as error:
            raise ValueError(f"domain {name!r} of {n} normal clips: {error}") from error
        if not scale > 0:
            raise ValueError(
                f"domain {name!r}: its {n} normal clips have a median score of {scale:g} by back end "
                f"{self.backend!r}, which must be above 0 to divide by; are they copies of one recording, or are "
                "these scores no distances?"
            )
        return backend, scale

    def _fitted(self, clips: NormalClips) -> Backend:
        return self.unfitted().fit(clips.X, clips.domain, clips.attributes)

    def _self_scores(self, backend: Any, clips: NormalClips) -> Float:
        if hasattr(backend, "self_scores"):
            return backend.self_scores()
        n = len(clips)
        if n < 2:
            raise ValueError("a clip alone has no other to be scored by; give at least 2 of the domain")
        n_folds = min(self.folds, n)
        part = np.random.default_rng(self.random_state).permutation(n) % n_folds
        scores = np.empty(n)
        for k in range(n_folds):
            without = self._fitted(clips.select(part != k))
            scores[part == k] = without.anomaly_score(clips.select(part == k).X)
        return scores

    def _score(self, X: Any) -> Float:
        return self._relative(X).min(axis=0)

    def _relative(self, X: Any) -> Float:
        """Of each domain and clip: (n_domains, n_clips)."""
        return np.array([b.anomaly_score(X) / s for b, s in zip(self.backends_, self.scales_, strict=True)])

    def _terms(self, X: Any) -> Terms | None:
        nearest = int(self._relative(X)[:, 0].argmin())
        backend: Any = self.backends_[nearest]
        found: Terms | None = backend.terms(X[0]) if hasattr(backend, "terms") else None
        return None if found is None else found.divided_by(float(self.scales_[nearest]))
