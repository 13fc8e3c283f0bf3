"""Any back end, fitted to each domain alone, its scores divided by those of the domain's own clips."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.backends import Backend, backend_class
from nearfar.backends.normal_model import NormalClips, NormalModel
from nearfar.recordings.clips import unknown

FOLDS = 10  # our choice: for the usual 10 target clips it is leave-one-out


class PerDomainNormalized(NormalModel):
    r"""The smallest, over domains, score relative to that of the domain's own clips.

    .. math:: \min_d \frac{s_d(x)}{\mathrm{median}_{i \in d}\; s_{d \setminus i}(x_i)}

    with :math:`s_d` the wrapped back end fitted to domain d alone. So 1 is what the median normal clip of a
    domain scores, in a dense bank of 990 as in a sparse one of 10. What a clip scores in a bank that it is part
    of says nothing (its nearest neighbour is itself); the median is over scores by fits without the clip:

    * by the back end's own ``self_scores()``, which are leave-one-out, if it has this method;
    * else by cross-fitting: the clips of a domain are dealt into ``folds`` parts, and each part is scored by a
      fit to the others. That is leave-one-out where a domain has ``folds`` clips or fewer.

    Parameters
    ----------
    backend : str
        Of ``backends.BACKENDS``. Its scores must be positive, as distances are.
    backend_options : dict or None
        Of its parameters.
    folds : int
        At least 2; as many as a domain has clips, at most.
    random_state : int
        Of the folds, and of the wrapped back end unless its options have one.

    Attributes
    ----------
    backends_ : list of back ends
        One for each domain, in the order of the domains' names.
    scales_ : (n_domains,) array
        The medians.
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
        """A wrapped back end, as the parameters say.

        Raises
        ------
        ValueError
            If there is no such back end, or it has no such option; names the nearest.
        """
        cls = backend_class(self.backend)
        options, known = dict(self.backend_options or {}), cls().get_params()
        for name in options:
            if name not in known:
                raise ValueError(unknown(f"option of back end {self.backend!r}", name, known))
        if "random_state" in known:
            options.setdefault("random_state", self.random_state)
        return cls(**options)

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
        self.unfitted()  # a wrong option is the fault of no domain
        fitted = [self._fit_domain(name, clips.of_domain(name)) for name in clips.counts]
        self.backends_ = [backend for backend, _ in fitted]
        self.scales_ = np.array([scale for _, scale in fitted])

    def _fit_domain(self, name: str, clips: NormalClips) -> tuple[Backend, float]:
        """A domain's back end, and the median of what its own clips score."""
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

    def _self_scores(self, backend: Any, clips: NormalClips) -> NDArray[np.float64]:
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

    def _score(self, X: Any) -> NDArray[np.float64]:
        relative = [b.anomaly_score(X) / s for b, s in zip(self.backends_, self.scales_, strict=True)]
        return np.min(relative, axis=0)
