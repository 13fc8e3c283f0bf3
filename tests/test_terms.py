"""The terms of back ends: they add up to the score, of every back end and option that has them."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from nearfar.backends import BACKENDS, backend_class
from nearfar.backends.terms import Quadratic, Terms

DOMAIN = np.array(["source"] * 30 + ["target"] * 10)
ATTRIBUTES = np.array(["speed_1", "speed_2"] * 20)
N, DIM = len(DOMAIN), 6
HAVE_NONE = ("outlier",)

METRICS = ("euclidean", "cosine")
RATIOS = ("ratio", "difference")
OPTIONS = {
    "beam": [{"bands": b, "rescaling": r} for b in (1, 3) for r in ("none", "varmin")],
    "density_normalized": [{"metric": m, "normalization": r} for m in METRICS for r in RATIOS],
    "domain_local_density": [{"metric": m, "normalization": r} for m in METRICS for r in RATIOS],
    "domain_normalized": [{}, {"few": 1}],
    "gaussians": [{}, {"target_centres": "always"}],
    "nearest_neighbour": [{"k": k, "metric": m} for k in (1, 3) for m in METRICS],
    "per_domain_normalized": [
        {"backend": b} for b in ("nearest_neighbour", "mahalanobis", "mem_mixup", "mean_squared_error")
    ],
    "smote": [{"metric": m} for m in METRICS],
}
VECTORS = [(n, o) for n in BACKENDS if n not in HAVE_NONE for o in OPTIONS.get(n, [{}])]
ROWS = [
    ("mean_squared_error", {}),
    ("selective_mahalanobis", {"reduction": "clip_mean"}),
    ("selective_mahalanobis", {"reduction": "per_frame"}),
    ("per_domain_normalized", {"backend": "selective_mahalanobis"}),
]
CASES = [(*case, (DIM,)) for case in VECTORS] + [(*case, (9, DIM)) for case in ROWS] + [("beam", {}, (3, 2))]


def told(name, options, shape=()):
    return " ".join([name, *(f"{key}={value}" for key, value in options.items()), *map(str, shape)])


def normals(rng, shape, n=N):
    return 2 + rng.normal(size=(n, *shape)) @ (np.eye(shape[-1]) + 0.5 * np.tri(shape[-1], k=-1))


def fitted(name, options, shape, rng):
    return backend_class(name)(**options).fit(normals(rng, shape), DOMAIN, ATTRIBUTES)


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=[told(*case) for case in CASES])
def test_terms_add_up_to_the_score(name, options, shape, rng):
    backend = fitted(name, options, shape, rng)
    for x in [*normals(rng, shape, n=5), *(normals(rng, shape, n=5) + 3)]:
        terms = backend.terms(x)
        assert terms.total(x) == pytest.approx(backend.anomaly_score(x[None])[0], rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(("name", "options"), VECTORS, ids=[told(*case) for case in VECTORS])
def test_a_clip_that_is_known_has_terms_too(name, options, rng):
    X = normals(rng, (DIM,))
    backend = backend_class(name)(**options).fit(X, DOMAIN, ATTRIBUTES)
    assert backend.terms(X[3]).total(X[3]) == pytest.approx(
        backend.anomaly_score(X[3:4])[0], rel=1e-9, abs=1e-13
    )


@pytest.mark.parametrize("name", HAVE_NONE)
def test_a_back_end_without_terms_says_so(name, rng):
    backend = fitted(name, {}, (DIM,), rng)
    assert backend.terms(normals(rng, (DIM,), n=1)[0]) is None
    wrapped = backend_class("per_domain_normalized")(
        name, {"detector": "sklearn.svm:OneClassSVM", "options": {"kernel": "linear"}}
    )
    wrapped.backends_, wrapped.scales_ = [backend], np.ones(1)
    assert wrapped.terms(normals(rng, (DIM,), n=1)[0]) is None


def test_terms_are_those_of_the_formula(rng):
    backend = fitted("mahalanobis", {}, (DIM,), rng)
    x = normals(rng, (DIM,), n=1)[0]
    (quadratic,) = backend.terms(x).quadratics
    r = [a - b for a, b in zip(x, quadratic.centre, strict=True)]
    value = sum(r[i] * backend.precision_[i][j] * r[j] for i in range(DIM) for j in range(DIM))
    assert quadratic.value(x) == pytest.approx(value, rel=1e-12)
    assert any(np.array_equal(quadratic.centre, mean) for mean in backend.means_)


def test_rows_count_one_by_one_or_by_their_mean():
    rows, zero = np.array([[3.0, 0.0], [-1.0, 0.0]]), np.zeros(2)
    assert Quadratic(zero, rows="sum").value(rows) == 10.0
    assert Quadratic(zero, rows="mean").value(rows) == 1.0
    assert Terms((Quadratic(zero, rows="mean"),), 2.0).divided_by(2.0).total(rows) == 1.5


def test_terms_are_asked_of_fitted_back_ends_and_their_embeddings(rng):
    with pytest.raises(NotFittedError, match="not fitted"):
        backend_class("mahalanobis")().terms(np.zeros(DIM))
    with pytest.raises(ValueError, match="features"):
        fitted("mahalanobis", {}, (DIM,), rng).terms(np.zeros(DIM + 1))
