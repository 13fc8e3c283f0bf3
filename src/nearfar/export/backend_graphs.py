"""What back ends make of an embedding, as nodes: a score, in double precision.

Distances to references are computed from differences, as those are that decide in ``backends.neighbours``.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.backends.beam import Beam
from nearfar.backends.density_normalized import DensityNormalized
from nearfar.backends.domain_local_density import DomainLocalDensity
from nearfar.backends.domain_normalized import DomainNormalized
from nearfar.backends.gaussians import Gaussians
from nearfar.backends.mahalanobis import Mahalanobis
from nearfar.backends.mean_squared_error import MeanSquaredError
from nearfar.backends.nearest_neighbour import NearestNeighbour
from nearfar.backends.neighbours import of_each_domain
from nearfar.backends.per_domain_normalized import PerDomainNormalized
from nearfar.backends.selective_mahalanobis import SelectiveMahalanobis
from nearfar.backends.shared_covariance import SharedCovariance
from nearfar.backends.smote import Smote
from nearfar.export.expressions import Expression, joined

Float = NDArray[np.float64]


@singledispatch
def score(backend: Any, x: Expression) -> Expression:  # noqa: ARG001  # those that are registered look at it
    """The score of one clip by a fitted back end, a scalar in double precision.

    Parameters
    ----------
    backend : fitted back end
    x : (1, dim) expression, or (rows, dim) expression
        In double precision.

    Raises
    ------
    ValueError
        If the back end is not exported; names those that are.
    """
    known = ", ".join(sorted(one.__name__ for one in score.registry if one is not object))
    raise ValueError(f"back end {type(backend).__name__} is not exported; those that are: {known}")


@score.register
def _(backend: Mahalanobis, x: Expression) -> Expression:
    return _shared_covariance(backend, x, backend.means_).min(0)


@score.register
def _(backend: DomainNormalized, x: Expression) -> Expression:
    distances = _shared_covariance(backend, x, backend.centres_)
    return (distances / backend.scales_[backend.centre_domains_]).min(0)


def _shared_covariance(backend: SharedCovariance, x: Expression, centres: Float) -> Expression:
    """Squared distances from centres, (n_centres,)."""
    residuals = x - centres
    return ((residuals @ backend.precision_) * residuals).sum(1)


@score.register
def _(backend: Gaussians, x: Expression) -> Expression:
    found = []
    for group, whitening in enumerate(backend.whitenings_):
        own = backend.group_ == group
        white = (x - backend.means_[own]) @ whitening.T
        found.append(white.sum_of_squares(1) / backend.factors_[own])
    return joined(found, axis=0).min(0)


@score.register
def _(backend: MeanSquaredError, x: Expression) -> Expression:  # noqa: ARG001  # it has learnt nothing
    return x.squared().mean(0, 1)


@score.register
def _(backend: SelectiveMahalanobis, x: Expression) -> Expression:
    rows = x.mean(0, keepdims=True) if backend.reduction == "clip_mean" else x
    by_domain = [
        ((rows @ precision) * rows).sum(1).mean(0, keepdims=True) for precision in backend.precisions_
    ]
    return joined(by_domain, axis=0).min(0)


@score.register
def _(backend: PerDomainNormalized, x: Expression) -> Expression:
    wrapped = zip(backend.backends_, backend.scales_, strict=True)
    return joined([(score(one, x) / scale).reshape(1) for one, scale in wrapped], axis=0).min(0)


@score.register
def _(backend: NearestNeighbour, x: Expression) -> Expression:
    distances = _distances(x, backend.references_, backend.metric)
    of_domains = [distances.cut(0, own.start, own.stop) for own in of_each_domain(backend.counts_)]
    return joined([one.smallest(backend.k).mean(0, keepdims=True) for one in of_domains], axis=0).min(0)


@score.register
def _(backend: Smote, x: Expression) -> Expression:
    return _distances(x, backend.references_, backend.metric).min(0)


@score.register
def _(backend: DensityNormalized, x: Expression) -> Expression:
    distances = _distances(x, backend.references_, backend.metric)
    if backend.normalization == "difference":
        return (distances - backend.scales_).min(0)
    return (distances / backend.scales_).min(0)


@score.register
def _(backend: DomainLocalDensity, x: Expression) -> Expression:
    distances = _distances(x, backend.references_, backend.metric)
    found = []
    for own in of_each_domain(backend.counts_):
        of_domain = distances.cut(0, own.start, own.stop)
        scale = of_domain.place_of_smallest().picks(backend.scales_[own])
        nearest = of_domain.min(0, keepdims=True)
        is_difference = backend.normalization == "difference"
        found.append(nearest - scale if is_difference else nearest / (scale + backend.eps))
    return joined(found, axis=0).min(0)


@score.register
def _(backend: Beam, x: Expression) -> Expression:
    n_bands, _, dim = backend.references_.shape
    bands = _unit(x.reshape(n_bands, 1, dim))
    squared = (bands - backend.references_).sum_of_squares(2)
    return (squared / 4 - backend.offsets_).min(1).sum(0) / n_bands


def _distances(x: Expression, references: Float, metric: str) -> Expression:
    """Distances of the metric from prepared references, (n_references,)."""
    if metric == "cosine":
        return (_unit(x) - references).sum_of_squares(1) / 2
    return (x - references).sum_of_squares(1).sqrt()


def _unit(x: Expression) -> Expression:
    """Scaled to length one along the last axis."""
    return x / x.sum_of_squares(-1, keepdims=True).sqrt()
