"""Back ends: they are fitted to normal embeddings and turn a new embedding into an anomaly score.

A back end is a scikit-learn estimator with one more method::

    fit(X, domain, attributes=None) -> self      X: (n_clips, dim) or (n_clips, rows, dim)
    anomaly_score(X) -> (n_clips,)               higher is more anomalous

``domain`` is an array of strings, (n_clips,). Clips with the same string belong together. A clip's score is the
smallest one over the domains, because a clip that is normal in one domain is normal. ``anomaly_score`` does not
take a domain: a back end cannot use what is unknown when it scores. A score does not depend on the other clips
that are scored in the same call.

What a back end learns are arrays and numbers. Their names end in ``_``. A detector saves these and nothing else.
An attribute that begins with ``_`` is a cache; it can be computed again.

Some back ends have one of these methods too::

    self_scores() -> (n_clips,)    scores of the clips of the fit, each by a fit without that clip; in any order
    terms(x) -> Terms or None      how the score of one clip, (dim,) or (rows, dim), is made: ``backends.terms``
    unfitted() -> back end         of a back end that wraps others: one of those, not fitted yet

A back end that wraps others stores them, fitted, under a name that ends in ``_``: one, or a list of them. What
they have learnt is saved with it.

A new back end is one module and one line in ``BACKENDS``. Its class derives from ``normal_model.NormalModel``,
which checks what goes in. The line names the class and does not import it, so that only what a system uses is
loaded. A module of a back end imports scikit-learn in the function that needs it: a verdict must not load it.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.clips import unknown

Array = NDArray[np.floating[Any]]
Arrays = dict[str, NDArray[Any]]


class Backend(Protocol):
    """What every back end has, beside scikit-learn's ``get_params`` and ``set_params``."""

    def fit(self, X: Array, domain: NDArray[np.str_], attributes: NDArray[np.str_] | None = None) -> Self: ...
    def anomaly_score(self, X: Array) -> NDArray[np.float64]: ...


BACKENDS = {
    "beam": "nearfar.backends.beam:Beam",
    "density_normalized": "nearfar.backends.density_normalized:DensityNormalized",
    "domain_local_density": "nearfar.backends.domain_local_density:DomainLocalDensity",
    "domain_normalized": "nearfar.backends.domain_normalized:DomainNormalized",
    "gaussians": "nearfar.backends.gaussians:Gaussians",
    "mahalanobis": "nearfar.backends.mahalanobis:Mahalanobis",
    "mean_squared_error": "nearfar.backends.mean_squared_error:MeanSquaredError",
    "mem_mixup": "nearfar.backends.mem_mixup:MemMixup",
    "nearest_neighbour": "nearfar.backends.nearest_neighbour:NearestNeighbour",
    "outlier": "nearfar.backends.outlier:Outlier",
    "per_domain_normalized": "nearfar.backends.per_domain_normalized:PerDomainNormalized",
    "selective_mahalanobis": "nearfar.backends.selective_mahalanobis:SelectiveMahalanobis",
    "smote": "nearfar.backends.smote:Smote",
}


FORMER_NAMES = {"local_density": "domain_local_density"}  # and what they became


class RenamedWarning(FutureWarning):
    """A name that was given to something else, or will be."""


def present_name(name: str) -> str:
    """The name of a back end today. Warns if it had another one, which was given here."""
    if name not in FORMER_NAMES:
        return name
    present = FORMER_NAMES[name]
    warnings.warn(
        f"back end {name!r} is now called {present!r}, and does the same as before: write the new name, because "
        "the old one will be removed. The published normalization (arXiv:2509.10951) is 'density_normalized'",
        RenamedWarning,
        stacklevel=1,  # always this line, so that it is told once
    )
    return present


def backend_class(name: str) -> type[Any]:
    """The class of a back end, loaded now.

    Parameters
    ----------
    name : str
        Of ``BACKENDS``, or a former name, with a warning.

    Raises
    ------
    ValueError
        If there is no such back end. The message names the nearest one.
    """
    name = present_name(name)
    if name not in BACKENDS:
        raise ValueError(unknown("back end", name, BACKENDS))
    return pkgutil.resolve_name(BACKENDS[name])


def learnt(estimator: Any) -> Arrays:
    """Everything that an estimator has learnt, by name.

    These are the attributes whose names end in an underscore, which is scikit-learn's convention. A wrapped back
    end's arrays have dotted names, such as ``backends_.0.means_``.
    """
    named = {k: v for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("_")}
    return {name: array for k, v in named.items() for name, array in _arrays(k, v).items()}


def _arrays(name: str, value: Any) -> Arrays:
    if _is_backend(value):
        return {f"{name}.{inner}": array for inner, array in learnt(value).items()}
    if isinstance(value, list | tuple) and value and all(map(_is_backend, value)):
        parts = (_arrays(f"{name}.{i}", backend) for i, backend in enumerate(value))
        return {inner: array for part in parts for inner, array in part.items()}
    return {name: np.asarray(value)}


def _is_backend(value: Any) -> bool:
    return hasattr(value, "anomaly_score")


def restore(estimator: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give an estimator back what ``learnt`` returned.

    The estimator must have been made with the same options.
    """
    wrapped: dict[str, Arrays] = {}
    for name, array in arrays.items():
        attribute, dot, inner = name.partition(".")
        if dot:
            wrapped.setdefault(attribute, {})[inner] = array
        else:
            setattr(estimator, attribute, array.item() if array.ndim == 0 else array)
    for attribute, parts in wrapped.items():
        setattr(estimator, attribute, _restore_wrapped(estimator, parts))


def _restore_wrapped(wrapper: Any, arrays: Arrays) -> Any:
    """The wrapped back end; a list of them if the names begin with a number."""
    numbers = sorted({int(first) for first in (name.partition(".")[0] for name in arrays) if first.isdigit()})
    if numbers:
        return [_restore_wrapped(wrapper, part(arrays, str(number))) for number in numbers]
    backend = wrapper.unfitted()
    restore(backend, arrays)
    return backend


def part(arrays: Mapping[str, NDArray[Any]], name: str) -> Arrays:
    """The arrays below a dotted name, without that name."""
    return {k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")}
