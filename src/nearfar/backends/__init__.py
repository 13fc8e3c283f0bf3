"""Back ends: fitted on normal embeddings, they turn an embedding into an anomaly score.

A back end is a scikit-learn estimator with one more method::

    fit(X, domain, attributes=None) -> self      X: (n_clips, dim) or (n_clips, rows, dim)
    anomaly_score(X) -> (n_clips,)               higher is more anomalous

``domain`` is an array of strings, (n_clips,); clips of one string belong together, and a score is the smallest
over the domains. The domain of a *test* clip is no argument: a back end cannot use what it must not know. Nor
does a clip's score depend on the other clips that are scored with it. What was learnt are arrays and numbers
whose names end in ``_``: a detector saves these and nothing else.

A new back end is one module and one line in ``BACKENDS``. The line names the class instead of importing it,
because scikit-learn takes a second to load.
"""

from __future__ import annotations

import pkgutil
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.clips import unknown

Array = NDArray[np.floating[Any]]


class Backend(Protocol):
    """What every back end has, beside scikit-learn's ``get_params`` and ``set_params``."""

    def fit(self, X: Array, domain: NDArray[np.str_], attributes: NDArray[np.str_] | None = None) -> Self: ...
    def anomaly_score(self, X: Array) -> NDArray[np.float64]: ...


BACKENDS = {
    "mahalanobis": "nearfar.backends.mahalanobis:Mahalanobis",
    "mean_squared_error": "nearfar.backends.mean_squared_error:MeanSquaredError",
    "selective_mahalanobis": "nearfar.backends.selective_mahalanobis:SelectiveMahalanobis",
}


def backend_class(name: str) -> type[Any]:
    """The class of that name, loaded now.

    Raises
    ------
    ValueError
        If there is none; names the nearest.
    """
    if name not in BACKENDS:
        raise ValueError(unknown("back end", name, BACKENDS))
    return pkgutil.resolve_name(BACKENDS[name])
