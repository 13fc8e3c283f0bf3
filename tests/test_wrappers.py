"""Back ends around others: normalization by domain, and detectors of other libraries."""

import sys
from types import ModuleType

import naive
import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from nearfar import backends
from nearfar.backends import BACKENDS, backend_class, learnt, restore

PerDomainNormalized = backend_class("per_domain_normalized")
Outlier = backend_class("outlier")

DOMAIN = np.array(["source"] * 30 + ["target"] * 10)
N, DIM = len(DOMAIN), 3
FOREST = {"n_estimators": 10}
NOVELTY = {"novelty": True, "n_neighbors": 5}


@pytest.fixture
def X(rng):  # noqa: N802
    """A dense source, a target three times as wide."""
    return np.where(DOMAIN == "source", 1.0, 3.0)[:, None] * rng.normal(size=(N, DIM)) + 2


@pytest.fixture
def unseen(rng):
    return 3 * rng.normal(size=(9, DIM))


def restored(fitted):
    copy = clone(fitted)
    restore(copy, learnt(fitted))
    return copy


# PerDomainNormalized


def nearest(bank, x):
    return min(naive.euclidean(x, b) for b in bank)


def mahalanobis(bank, x):
    return naive.nearest_domain_distance(bank, ["one"] * len(bank), x)


@pytest.mark.parametrize(
    ("backend", "twin"),
    [("nearest_neighbour", nearest), ("mahalanobis", mahalanobis)],
    ids=["nearest_neighbour", "mahalanobis"],
)
def test_a_score_is_relative_to_leave_one_out_scores(X, unseen, backend, twin):
    fitted = PerDomainNormalized(backend, folds=N).fit(X, DOMAIN)
    expected = [naive.normalized_by_domain(list(X), DOMAIN, x, twin) for x in unseen]
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected, rtol=1e-9)


def test_a_score_is_relative_to_scores_of_held_out_folds(X, unseen):
    """Each fold's clips are scored by the others, every clip once."""
    cls = backend_class("mahalanobis")
    fitted = PerDomainNormalized("mahalanobis", folds=4, random_state=5).fit(X, DOMAIN)
    expected = []
    for d in ("source", "target"):
        bank = X[d == DOMAIN]
        part = np.random.default_rng(5).permutation(len(bank)) % 4
        own = [
            cls().fit(bank[part != p], np.repeat(d, (part != p).sum())).anomaly_score(bank[[i]])[0]
            for i, p in enumerate(part)
        ]
        alone = cls().fit(bank, np.repeat(d, len(bank)))
        expected.append(alone.anomaly_score(unseen) / naive.sorted_median(own))
    np.testing.assert_allclose(fitted.anomaly_score(unseen), np.min(expected, axis=0), rtol=1e-12)


def test_a_median_normal_clip_scores_one_in_every_domain(rng):
    dense, sparse = rng.normal(size=(500, 4)), 50 + 7 * rng.normal(size=(500, 4))
    fitted = PerDomainNormalized("nearest_neighbour").fit(
        np.concatenate([dense[:400], sparse[:400]]), np.repeat(["a", "b"], 400)
    )
    for new in (dense[400:], sparse[400:]):
        assert np.median(fitted.anomaly_score(new)) == pytest.approx(1, rel=0.1)


HAVE_SELF_SCORES = [name for name in BACKENDS if hasattr(backend_class(name), "self_scores")]


def test_a_memory_bank_has_self_scores():
    assert "nearest_neighbour" in HAVE_SELF_SCORES


@pytest.mark.parametrize("domain", [DOMAIN, DOMAIN[::-1], np.repeat("one", N)], ids=["two", "turned", "one"])
@pytest.mark.parametrize("options", [{}, {"k": 3}, {"metric": "cosine"}], ids=str)
@pytest.mark.parametrize("name", HAVE_SELF_SCORES)
def test_self_scores_are_those_of_fits_without_the_clip(X, name, options, domain):
    cls = backend_class(name)
    without = [np.delete(np.arange(N), i) for i in range(N)]
    expected = [
        cls(**options).fit(X[rest], domain[rest]).anomaly_score(X[[i]])[0] for i, rest in enumerate(without)
    ]
    found = cls(**options).fit(X, domain).self_scores()
    np.testing.assert_allclose(np.sort(found), np.sort(expected), rtol=1e-12)


def test_a_domain_of_k_clips_has_no_self_scores(X):
    fitted = backend_class("nearest_neighbour")(k=10).fit(X, DOMAIN)
    with pytest.raises(
        ValueError, match=r"k=10, but a domain has 10 normal clips, which leaves 9 .* give 11"
    ):
        fitted.self_scores()


class WithSelfScores(BaseEstimator):
    """Scores by its first dimension; says that its own clips score their number."""

    def __init__(self, shift=0.0, random_state=0):
        self.shift = shift
        self.random_state = random_state

    def fit(self, X, domain, attributes=None):
        self.domain_, self.attributes_, self.n_ = domain, attributes, len(X)
        return self

    def anomaly_score(self, X):
        return X[:, 0] + self.shift

    def self_scores(self):
        return np.arange(1.0, self.n_ + 1) + self.shift


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(BACKENDS, "fake", f"{__name__}:WithSelfScores")


@pytest.mark.usefixtures("fake")
def test_self_scores_are_taken_where_a_back_end_has_them(X, unseen):
    fitted = PerDomainNormalized("fake", {"shift": 0.25}).fit(X, DOMAIN)
    np.testing.assert_allclose(fitted.scales_, [15.5 + 0.25, 5.5 + 0.25])
    expected = [min((x[0] + 0.25) / 15.75, (x[0] + 0.25) / 5.75) for x in unseen]
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected)


@pytest.mark.usefixtures("fake")
def test_each_back_end_sees_one_domain_and_its_attributes(X):
    attributes = np.array([f"speed_{i}" for i in range(N)])
    shuffled = np.random.default_rng(1).permutation(N)
    fitted = PerDomainNormalized("fake", random_state=7).fit(
        X[shuffled], DOMAIN[shuffled], attributes[shuffled]
    )
    for name, backend in zip(("source", "target"), fitted.backends_, strict=True):
        assert set(backend.domain_) == {name}
        assert sorted(backend.attributes_) == sorted(attributes[name == DOMAIN])
        assert backend.random_state == 7
    fixed = PerDomainNormalized("fake", {"random_state": 3}, random_state=7).fit(X, DOMAIN)
    assert {b.random_state for b in fixed.backends_} == {3}


# scores of a forest are not above zero, and Gaussians refuse a target domain alone: both say so
@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in ("outlier", "gaussians")])
def test_every_back_end_can_be_wrapped_and_restored(X, unseen, name):
    fitted = PerDomainNormalized(name, folds=3).fit(X, DOMAIN)
    scores = fitted.anomaly_score(unseen)
    assert np.isfinite(scores).all()
    assert all(array.dtype.kind in "fiu" for array in learnt(fitted).values())
    np.testing.assert_array_equal(restored(fitted).anomaly_score(unseen), scores)


def test_more_than_ten_domains_come_back_in_their_order(rng):
    X = rng.normal(size=(48, 2)) + np.repeat(np.arange(12), 4)[:, None] * 10
    domain = np.repeat([f"d{i:02}" for i in range(12)], 4)
    fitted = PerDomainNormalized("nearest_neighbour").fit(X, domain)
    assert "backends_.11.references_" in learnt(fitted)
    back = restored(fitted)
    assert len(back.backends_) == 12
    np.testing.assert_array_equal(back.anomaly_score(X + 0.5), fitted.anomaly_score(X + 0.5))


def test_rows_of_clips_of_different_length_can_be_wrapped(rng):
    X = [rng.normal(size=(5 + i % 3, DIM)) for i in range(N)]
    fitted = PerDomainNormalized("selective_mahalanobis").fit(X, DOMAIN)
    np.testing.assert_array_equal(restored(fitted).anomaly_score(X), fitted.anomaly_score(X))


class Holder(BaseEstimator):
    """One wrapped back end, not a list."""

    def unfitted(self):
        return backend_class("nearest_neighbour")()


def test_a_single_wrapped_back_end_is_restored_too(X, unseen):
    holder = Holder()
    holder.inner_ = holder.unfitted().fit(X, DOMAIN)
    holder.pair_ = (PerDomainNormalized().fit(X, DOMAIN), holder.inner_)
    arrays = learnt(holder)
    assert {"inner_.references_", "pair_.1.references_", "pair_.0.backends_.1.references_"} <= set(arrays)
    del holder.pair_
    back = restored(holder)
    np.testing.assert_array_equal(back.inner_.anomaly_score(unseen), holder.inner_.anomaly_score(unseen))


def test_an_array_below_a_dotted_name():
    arrays = {"a.1.x_": 1, "a.10.x_": 2, "a.1.b_.0.y_": 3, "ab.1.x_": 4}
    assert backends.part(arrays, "a.1") == {"x_": 1, "b_.0.y_": 3}


@pytest.mark.parametrize("scale", [0.0, -1.0])
@pytest.mark.usefixtures("fake")
def test_own_scores_that_are_not_above_zero_are_an_error(X, scale):
    shift = scale - 15.5  # the source's median
    with pytest.raises(
        ValueError,
        match=r"domain 'source': its 30 normal clips have a median score of -?\d by back end 'fake'",
    ):
        PerDomainNormalized("fake", {"shift": shift}).fit(X, DOMAIN)


def test_copies_of_one_recording_are_an_error(X):
    X[DOMAIN == "target"] = 1.0
    message = (
        r"domain 'target' of 1 normal clips: .* 0 others to each.*9 of the 40 are copies of another clip"
    )
    with pytest.raises(ValueError, match=message):
        PerDomainNormalized("nearest_neighbour").fit(X, DOMAIN)


def test_clips_that_are_equal_to_the_metric_are_an_error(X):
    X[DOMAIN == "target"] = np.arange(1.0, 11)[:, None]
    with pytest.raises(ValueError, match=r"domain 'target': .* score of 0 .* copies of one recording"):
        PerDomainNormalized("nearest_neighbour", {"metric": "cosine"}).fit(X, DOMAIN)


@pytest.mark.parametrize("fit_on", ["all", "each_domain"])
def test_copies_in_another_domain_count_once_where_domains_make_no_difference(X, unseen, fit_on):
    X[30:] = X[:10]
    fitted = Outlier("sklearn.neighbors:LocalOutlierFactor", NOVELTY, fit_on=fit_on).fit(X, DOMAIN)
    assert len(fitted.references_) == (30 if fit_on == "all" else 40)
    assert np.abs(fitted.anomaly_score(unseen)).max() < 100


def test_an_outlier_detector_of_equal_clips_is_an_error():
    with pytest.raises(ValueError, match=r"the normal clips do not differ.* copies of one recording"):
        Outlier().fit(np.ones((N, DIM)), DOMAIN)


def test_too_few_clips_are_an_error_with_the_domain_s_name(X):
    domain = np.array(["source"] * (N - 3) + ["target"] * 3)
    with pytest.raises(ValueError, match="domain 'target' of 3 normal clips: 2 normal clips in 1 domain"):
        PerDomainNormalized("mahalanobis").fit(X, domain)  # without one of the three
    domain = np.array(["source"] * (N - 1) + ["target"])
    with pytest.raises(ValueError, match="domain 'target' of 1 normal clips: a clip alone has no other"):
        PerDomainNormalized("mem_mixup").fit(X, domain)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"folds": 1}, "folds=1: must be at least 2"),
        ({"backend": "mahalanobi"}, "no back end 'mahalanobi'; did you mean 'mahalanobis'"),
        (
            {"backend": "mem_mixup", "backend_options": {"target_wight": 1}},
            "^no option of back end 'mem_mixup' 'target_wight'; did you mean 'target_weight'",
        ),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_an_error(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        PerDomainNormalized(**parameters).fit(X, DOMAIN)


# Outlier


@pytest.mark.parametrize(
    ("path", "options", "cls"),
    [
        ("sklearn.ensemble:IsolationForest", FOREST, IsolationForest),
        ("sklearn.neighbors:LocalOutlierFactor", NOVELTY, LocalOutlierFactor),
        ("sklearn.svm:OneClassSVM", {}, OneClassSVM),
        ("sklearn.covariance:EllipticEnvelope", {}, EllipticEnvelope),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_detectors_of_scikit_learn_are_turned_round(X, unseen, path, options, cls):
    seeded = {"random_state": 4} if "random_state" in cls().get_params() else {}
    pooled = Outlier(path, options, random_state=4).fit(X, DOMAIN)
    expected = -cls(**options, **seeded).fit(X).decision_function(unseen)
    np.testing.assert_array_equal(pooled.anomaly_score(unseen), expected)
    each = Outlier(path, options, fit_on="each_domain", random_state=4).fit(X, DOMAIN)
    of_domain = [
        -cls(**options, **seeded).fit(X[d == DOMAIN]).decision_function(unseen) for d in ("source", "target")
    ]
    np.testing.assert_array_equal(each.anomaly_score(unseen), np.min(of_domain, axis=0))
    for fitted in (pooled, each):
        assert fitted.anomaly_score(X.mean(axis=0, keepdims=True) + 30) > np.median(fitted.anomaly_score(X))
        np.testing.assert_array_equal(restored(fitted).anomaly_score(unseen), fitted.anomaly_score(unseen))


class OfPyod:
    """PyOD's convention: no scikit-learn estimator; higher is more anomalous."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, X, y=None):  # noqa: ARG002
        self.mean_ = X.mean(axis=0)
        return self

    def decision_function(self, X):
        return self.scale * np.linalg.norm(X - self.mean_, axis=1)


@pytest.fixture
def pyod(monkeypatch):
    module = ModuleType("pyod.models.centre")
    monkeypatch.setattr(OfPyod, "__module__", module.__name__)
    module.Centre = OfPyod
    for name in ("pyod", "pyod.models"):
        package = ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("pyod")
def test_detectors_of_pyod_are_not_turned_round(X, unseen):
    fitted = Outlier("pyod.models.centre:Centre", {"scale": 2.0}).fit(X, DOMAIN)
    expected = [2 * naive.euclidean(x, X.mean(axis=0)) for x in unseen]
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected)


def test_a_detector_is_fitted_once_and_again_after_loading(X, unseen, monkeypatch):
    fits = []
    fit = IsolationForest.fit
    monkeypatch.setattr(IsolationForest, "fit", lambda self, *data: fits.append(1) or fit(self, *data))
    fitted = Outlier(options=FOREST).fit(X, DOMAIN)
    fitted.anomaly_score(unseen)
    assert len(fits) == 1
    again = restored(fitted)
    assert len(fits) == 1  # not before it is needed
    again.anomaly_score(unseen)
    again.anomaly_score(unseen)
    assert len(fits) == 2


def test_the_random_state_is_stored(X, unseen):
    """A branch sets it when it fits, and does not when it loads."""
    first, again, other = (Outlier(options=FOREST, random_state=s).fit(X, DOMAIN) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.anomaly_score(unseen), again.anomaly_score(unseen))
    assert not np.array_equal(first.anomaly_score(unseen), other.anomaly_score(unseen))
    loaded = Outlier(options=FOREST, random_state=99)
    restore(loaded, learnt(first))
    np.testing.assert_array_equal(loaded.anomaly_score(unseen), first.anomaly_score(unseen))
    fixed = (Outlier(options={**FOREST, "random_state": 5}, random_state=s).fit(X, DOMAIN) for s in (1, 2))
    np.testing.assert_array_equal(*(f.anomaly_score(unseen) for f in fixed))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fit_on": "source"}, "fit_on='source': must be 'all' or 'each_domain'"),
        ({"detector": "os:system"}, "detector='os:system': must be of scikit-learn or PyOD"),
        ({"detector": "subprocess:Popen"}, "must be of scikit-learn or PyOD"),
        ({"detector": "sklearning:Forest"}, "must be of scikit-learn or PyOD"),
        (
            {"detector": "sklearn.ensembel:IsolationForest"},
            "cannot be imported: No module named 'sklearn.ensembel'",
        ),
        ({"detector": "sklearn.ensemble:IsolationForrest"}, "cannot be imported: .*no attribute"),
        ({"detector": "pyod.models.ecod:ECOD"}, "cannot be imported: No module named 'pyod'.* installed"),
        ({"detector": "sklearn.two words:Forest"}, "cannot be imported: invalid format"),
        ({"detector": "sklearn.svm:SVC"}, "neither an outlier detector of scikit-learn .* is unknown"),
        ({"detector": "sklearn.ensemble"}, "neither an outlier detector of scikit-learn"),
        ({"detector": "sklearn.base:OutlierMixin"}, "has no decision_function, so it cannot score new clips"),
        (
            {"detector": "sklearn.neighbors:LocalOutlierFactor"},
            r"only scores what it was fitted to; .* options = \{novelty = true\}",
        ),
        ({"options": {"n_trees": 5}}, r"options=\{'n_trees': 5\}: not of detector .*n_trees"),
    ],
    ids=str,
)
def test_a_detector_that_cannot_be_used_is_an_error(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        Outlier(**parameters).fit(X, DOMAIN)


@pytest.mark.usefixtures("fake")
def test_a_forest_s_scores_cannot_be_divided(X):
    """They are about zero, so that a ratio of them means nothing."""
    with pytest.raises(ValueError, match=r"median score of .* by back end 'outlier', which must be above 0"):
        PerDomainNormalized("outlier", {"options": FOREST}, folds=2).fit(X, DOMAIN)
