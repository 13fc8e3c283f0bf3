"""Any back end, fitted to each domain alone, its scores divided by those of the domain's own clips."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from nearfar.backends import Array, Backend, backend_class
from nearfar.recordings.clips import unknown

FOLDS = 10  # our choice: for the usual 10 target clips it is leave-one-out


class PerDomainNormalized(BaseEstimator):
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

    def fit(self, X: Array, domain: NDArray[np.str_], attributes: NDArray[np.str_] | None = None) -> Self:
        """Learn each domain, and what its own clips score.

        Parameters
        ----------
        X : as of the wrapped back end
        domain : (n_clips,) array of str
        attributes : (n_clips,) array of str or None
            Passed on.

        Raises
        ------
        ValueError
            If ``folds`` is below 2, the wrapped back end refuses a domain's clips (with the domain's name), or
            its own clips do not score above 0.
        """
        if self.folds < 2:
            raise ValueError(
                f"folds={self.folds}: must be at least 2, to score clips that were not fitted on"
            )
        check_consistent_length(X, domain)
        self.unfitted()  # a wrong option is the fault of no domain
        domain = np.asarray(domain)
        banks = {
            d: _some(X, domain, attributes, np.flatnonzero(domain == d)) for d in np.unique(domain).tolist()
        }
        fitted = [self._fit_bank(name, bank) for name, bank in banks.items()]
        self.backends_ = [backend for backend, _ in fitted]
        self.scales_ = np.array([scale for _, scale in fitted])
        return self

    def _fit_bank(self, name: str, bank: _Bank) -> tuple[Backend, float]:
        """A domain's back end, and the median of what its own clips score."""
        n = len(bank[1])
        try:
            backend = self.unfitted().fit(*bank)
            scale = float(np.median(self._self_scores(backend, bank)))
        except ValueError as error:
            raise ValueError(f"domain {name!r} of {n} normal clips: {error}") from error
        if not scale > 0:
            raise ValueError(
                f"domain {name!r}: its {n} normal clips have a median score of {scale:g} by back end "
                f"{self.backend!r}, which must be above 0 to divide by; are they copies of one recording, or are "
                "these scores no distances?"
            )
        return backend, scale

    def _self_scores(self, backend: Any, bank: _Bank) -> NDArray[np.float64]:
        if hasattr(backend, "self_scores"):
            return backend.self_scores()
        n = len(bank[1])
        if n < 2:
            raise ValueError("a clip alone has no other to be scored by; give at least 2 of the domain")
        n_folds = min(self.folds, n)
        part = np.random.default_rng(self.random_state).permutation(n) % n_folds
        scores = np.empty(n)
        for k in range(n_folds):
            held_out = np.flatnonzero(part == k)
            without = self.unfitted().fit(*_some(*bank, np.flatnonzero(part != k)))
            scores[held_out] = without.anomaly_score(_some(*bank, held_out)[0])
        return scores

    def anomaly_score(self, X: Array) -> NDArray[np.float64]:
        """Relative scores: X as of the wrapped back end, to (n_clips,)."""
        check_is_fitted(self)
        relative = [b.anomaly_score(X) / s for b, s in zip(self.backends_, self.scales_, strict=True)]
        return np.min(relative, axis=0)


_Bank = tuple[Array, NDArray[np.str_], NDArray[np.str_] | None]  # what a back end is fitted to


def _some(
    X: Array, domain: NDArray[np.str_], attributes: NDArray[np.str_] | None, clips: NDArray[np.intp]
) -> _Bank:
    """Of some clips only; X may be a list, of clips with different numbers of rows."""
    chosen: Any = X[clips] if isinstance(X, np.ndarray) else [X[i] for i in clips]
    return chosen, domain[clips], None if attributes is None else np.asarray(attributes)[clips]
