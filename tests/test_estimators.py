"""Back ends and conditionings are estimators of scikit-learn, though they do not derive from its classes."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_array, check_is_fitted

from nearfar.backends import BACKENDS, backend_class, learnt
from nearfar.embedding import CONDITIONING, conditioning_class
from nearfar.embedding.conditioning import PrincipalComponents, Standardize, Whitening
from nearfar.embedding.estimators import (
    Estimator,
    Transformer,
    checked_for_fit,
    checked_like_fit,
    require_fitted,
)

CLASSES = [*map(backend_class, BACKENDS), *map(conditioning_class, CONDITIONING)]
DOMAIN = np.array(["source"] * 20 + ["target"] * 10)

Mahalanobis = backend_class("mahalanobis")
LocalDensity = backend_class("domain_local_density")


@pytest.fixture
def X(rng):  # noqa: N802
    return rng.normal(size=(len(DOMAIN), 4))


def of_scikit_learn(cls):
    """A class with the same signature that derives from scikit-learn's."""
    bases = (TransformerMixin, BaseEstimator) if issubclass(cls, Transformer) else (BaseEstimator,)
    return type(cls.__name__, bases, {"__init__": cls.__init__, "fit": cls.fit})


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
class TestEach:
    def test_its_parameters_are_those_of_its_signature(self, cls):
        assert issubclass(cls, Estimator)
        assert list(cls().get_params().items()) == list(of_scikit_learn(cls)().get_params().items())

    def test_scikit_learn_asks_it_as_any_other(self, cls):
        assert get_tags(cls()) == get_tags(of_scikit_learn(cls)())

    def test_it_is_shown_as_any_other(self, cls):
        assert repr(cls()) == repr(of_scikit_learn(cls)())
        assert cls.__name__ in cls()._repr_html_()

    def test_a_clone_has_the_same_parameters(self, cls):
        changed = cls()
        for name, value in cls().get_params().items():
            changed.set_params(**{name: (value, "changed")})
        assert clone(changed).get_params() == changed.get_params()
        assert clone(changed) is not changed


def test_what_is_not_a_parameter_is_an_error():
    with pytest.raises(
        ValueError, match=r"Invalid parameter 'q' for estimator DomainLocalDensity\(k=3\)\. Valid.*'k'"
    ):
        LocalDensity(k=3).set_params(k=2, q=1)


class Wrapper(Estimator):
    def __init__(self, inner, *, size=(1, 2)):
        self.inner = inner
        self.size = size


def test_parameters_of_a_parameter():
    wrapper = Wrapper(LocalDensity(k=3))
    assert wrapper.get_params()["inner__k"] == 3
    assert wrapper.get_params(deep=False) == {"inner": wrapper.inner, "size": (1, 2)}
    assert wrapper.set_params(inner__k=4, size=5) is wrapper
    assert (wrapper.inner.k, wrapper.size) == (4, 5)
    assert repr(wrapper) == "Wrapper(inner=DomainLocalDensity(k=4), size=5)"
    assert wrapper.set_params(inner__k=7, inner=LocalDensity()).inner.k == 7
    copy = clone(wrapper)
    assert copy.inner is not wrapper.inner
    assert copy.get_params()["inner__k"] == 7


def test_a_pipeline_is_fitted_searched_copied_and_shown(X):
    steps = make_pipeline(StandardScaler(), Whitening(components=3), LocalDensity(k=3))
    expected = StandardScaler().fit_transform(X)
    expected = Whitening(components=3).fit_transform(expected)
    expected = LocalDensity(k=3).fit(expected, DOMAIN).anomaly_score(expected)

    def scores(pipeline, X):
        return pipeline[-1].anomaly_score(pipeline[:-1].transform(X))

    np.testing.assert_array_equal(scores(steps.fit(X, DOMAIN), X), expected)
    np.testing.assert_array_equal(scores(pickle.loads(pickle.dumps(steps)), X), expected)
    np.testing.assert_array_equal(scores(clone(steps).fit(X, DOMAIN), X), expected)
    assert "DomainLocalDensity(k=3)" in repr(steps)
    assert "Whitening" in steps._repr_html_()
    search = GridSearchCV(
        steps, {"domainlocaldensity__k": [1, 2]}, scoring=lambda p, X, _: -scores(p, X).mean(), cv=3
    )
    assert search.fit(X, DOMAIN).best_params_["domainlocaldensity__k"] in (1, 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.longdouble, ">f8", int])
@pytest.mark.parametrize("order", ["C", "F"])
def test_new_rows_are_as_scikit_learn_gives_them(X, dtype, order):
    new = np.asarray(10 * X, dtype=dtype, order=order)
    ours, theirs = checked_like_fit(Mahalanobis().fit(X, DOMAIN), new), check_array(new, dtype=np.float64)
    np.testing.assert_array_equal(ours, theirs, strict=True)
    assert ours.flags.c_contiguous == theirs.flags.c_contiguous
    assert (ours is new) == (theirs is new)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda X: X[0], "Expected 2D array, got 1D array"),
        (lambda X: X[:, :3], "X has 3 features, but Mahalanobis is expecting 4 features"),
        (lambda X: X[:0], r"Found array with 0 sample\(s\)"),
        (lambda X: X + 1j, "Complex data not supported"),
        (lambda X: np.append(X[:-1], [[0, 1, np.nan, 2]], axis=0), "Input X contains NaN"),
        (lambda X: np.append(X[:-1], [[0, 1, np.inf, 2]], axis=0), "Input X contains infinity"),
    ],
)
def test_new_rows_that_are_not_as_they_should_be_are_scikit_learns_errors(X, spoil, match):
    fitted = Mahalanobis().fit(X, DOMAIN)
    with pytest.raises(ValueError, match=match):
        fitted.anomaly_score(spoil(X))


def test_rows_without_the_names_of_the_fit_are_told():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [0.0, 1.0, 3.0], "b": [1.0, 0.0, 2.0]})
    fitted = PrincipalComponents().fit(frame)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        checked_like_fit(fitted, frame.to_numpy())


def test_a_fit_keeps_the_number_of_dimensions(X):
    model = Mahalanobis()
    np.testing.assert_array_equal(checked_for_fit(model, X.tolist()), X)
    assert model.n_features_in_ == 4
    with pytest.raises(ValueError, match="a minimum of 40 is required"):
        checked_for_fit(model, X, at_least=40)


def test_what_is_not_fitted_is_told_as_by_scikit_learn(X):
    for check in (require_fitted, check_is_fitted):
        with pytest.raises(NotFittedError, match="This Mahalanobis instance is not fitted yet"):
            check(Mahalanobis())
        check(Mahalanobis().fit(X, DOMAIN))


class TestStandardize:
    """To the bit as scikit-learn's, whose class is not asked for finite floats."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, int])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_it_is_scikit_learns(self, rng, dtype, order):
        X = np.asarray(100 + 30 * rng.normal(size=(30, 7)), dtype=dtype, order=order)
        X[:, 3] = 5  # constant: its scale is 1
        new = np.asarray(100 + 30 * rng.normal(size=(5, 7)), dtype=dtype, order=order)
        ours, theirs = Standardize().fit(X), StandardScaler().fit(X)
        assert learnt(ours).keys() == learnt(theirs).keys()
        for name, array in learnt(theirs).items():
            np.testing.assert_array_equal(learnt(ours)[name], array, strict=True)
        given = new.copy(order)
        found, expected = ours.transform(given), theirs.transform(new)
        np.testing.assert_array_equal(found, expected, strict=True)
        assert found.flags.c_contiguous == expected.flags.c_contiguous
        np.testing.assert_array_equal(given, new)  # is not changed
        np.testing.assert_array_equal(ours.transform(new[:1]), found[:1], strict=True)

    def test_what_is_missing_stays_so(self, X):
        ours, theirs = Standardize().fit(X), StandardScaler().fit(X)
        X[2, 1] = np.nan
        np.testing.assert_array_equal(ours.transform(X), theirs.transform(X))
        np.testing.assert_array_equal(ours.fit_transform(X), theirs.fit_transform(X))

    def test_a_refit_forgets(self, X):
        model = Standardize().fit(X)
        np.testing.assert_array_equal(model.fit(X[:9, :2]).mean_, X[:9, :2].mean(axis=0))

    def test_errors_are_scikit_learns(self, X):
        with pytest.raises(NotFittedError, match="This Standardize instance is not fitted yet"):
            Standardize().transform(X)
        model = Standardize().fit(X)
        with pytest.raises(ValueError, match="X has 3 features, but StandardScaler is expecting 4"):
            model.transform(X[:, :3])
        X[0, 0] = np.inf
        with pytest.raises(ValueError, match="Input X contains infinity"):
            model.transform(X)
