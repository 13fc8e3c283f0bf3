"""Near minus far in embedding space, and what a prediction leaves: against refits, scikit-learn, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from quick import built
from sklearn.linear_model import Ridge, RidgeCV

from nearfar.embedding.microphone_pairs import STRENGTHS, NearMinusFar, Residual
from nearfar.systems.configuration import BranchConfig

BRANCH = {"encoder": "spectral", "view": "near_and_far", "pooling": "mean", "backend": "mahalanobis"}


def pairs(rng, n=30, dim=4, noise=0.5):
    """Far is a linear function of near, and noise."""
    near = rng.standard_normal((n, dim)) + 3
    return np.hstack(
        [near, near @ rng.standard_normal((dim, dim)) + noise * rng.standard_normal((n, dim)) - 1]
    )


# near minus far


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0, -0.3])
def test_near_minus_a_fraction_of_far(rng, fraction):
    X = rng.standard_normal((5, 6))
    expected = [[row[i] - fraction * row[3 + i] for i in range(3)] for row in X]
    np.testing.assert_allclose(NearMinusFar(fraction).fit_transform(X), expected, rtol=1e-12)


def test_a_fraction_that_is_not_finite():
    with pytest.raises(ValueError, match=r"fraction=nan: must be a finite number, such as 0\.5"):
        NearMinusFar(float("nan")).fit(np.ones((3, 2)))


@pytest.mark.parametrize("step", [NearMinusFar(), Residual()])
def test_embeddings_that_are_not_two_halves(step):
    with pytest.raises(
        ValueError, match=r"X has 3 dimensions; expected an even number: the embedding of near, th"
    ):
        step.fit(np.random.default_rng(0).standard_normal((5, 3)))


# the residual


def ridge_of(X, strength, *, predicts="far"):
    """scikit-learn's, with the penalty in its own units."""
    dim = X.shape[1] // 2
    a, b = (X[:, :dim], X[:, dim:]) if predicts == "far" else (X[:, dim:], X[:, :dim])
    unit = ((a - a.mean(axis=0)) ** 2).sum() / dim
    return a, b, strength * unit


@pytest.mark.parametrize("predicts", ["far", "near"])
@pytest.mark.parametrize(("n", "dim"), [(30, 4), (6, 9)])
@pytest.mark.parametrize("strength", [1e-3, 0.3, 10.0])
def test_residuals_are_those_of_scikit_learns_ridge(rng, predicts, n, dim, strength):
    X, unseen = pairs(rng, n, dim), pairs(rng, 7, dim)
    a, b, penalty = ridge_of(X, strength, predicts=predicts)
    expected = Ridge(alpha=penalty).fit(a, b)
    new_a, new_b, _ = ridge_of(unseen, strength, predicts=predicts)
    found = Residual(strength, predicts=predicts).fit(X)
    np.testing.assert_allclose(found.transform(unseen), new_b - expected.predict(new_a), rtol=1e-8, atol=1e-9)
    assert found.regularization_ == strength


@pytest.mark.parametrize(("n", "dim"), [(20, 3), (6, 9)])
def test_normal_clips_have_the_residuals_of_refits_without_them(rng, n, dim):
    X = pairs(rng, n, dim)
    a, b, penalty = ridge_of(X, 0.2)
    expected = []
    for left_out in range(n):
        others = np.arange(n) != left_out
        model = Ridge(alpha=penalty).fit(a[others], b[others])
        expected.append(b[left_out] - model.predict(a[left_out][None])[0])
    np.testing.assert_allclose(Residual(0.2).fit_transform(X), expected, rtol=1e-8, atol=1e-9)


def test_residuals_of_the_fit_itself_would_be_too_small(rng):
    X = pairs(rng, 40, 25)
    step = Residual(1e-3)
    left_out, unseen = step.fit_transform(X), step.transform(pairs(np.random.default_rng(5), 40, 25))
    assert np.mean(step.transform(X) ** 2) < 0.5 * np.mean(left_out**2)
    assert unseen.shape == left_out.shape


@pytest.mark.parametrize("noise", [0.01, 1.0, 30.0])
def test_regularization_is_chosen_as_scikit_learn_does_by_leaving_out(rng, noise):
    X = pairs(rng, 25, 6, noise)
    a, b, unit = ridge_of(X, 1.0)
    expected = RidgeCV(alphas=STRENGTHS * unit).fit(a, b)
    found = Residual().fit(X).regularization_
    assert found * unit == pytest.approx(expected.alpha_, rel=1e-9)


def test_more_noise_is_more_regularization(rng):
    found = [Residual().fit(pairs(rng, 25, 6, noise)).regularization_ for noise in (0.01, 100.0)]
    assert found[0] < found[1]


@pytest.mark.parametrize("regularization", [None, 1e-4])
@pytest.mark.parametrize("value", [1.0, 0.1])  # the mean of which is not exact
def test_a_near_microphone_that_never_varies_predicts_the_mean(value, regularization, rng):
    X = np.hstack([np.full((6, 2), value), rng.standard_normal((6, 2))])
    step = Residual(regularization=regularization)
    left_out = step.fit_transform(X)
    far = X[:, 2:]
    np.testing.assert_allclose(step.transform(X), far - far.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(left_out, (far - far.mean(axis=0)) * 6 / 5, atol=1e-12)
    other = step.transform(np.add(X, [0.01, 0.01, 0, 0]))
    np.testing.assert_allclose(other, far - far.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"regularization": 0.0},
            "regularization=0.0: must be positive and finite; or omit it, to choose it",
        ),
        ({"regularization": np.inf}, "regularization=inf: must be positive and finite"),
        ({"predicts": "both"}, "predicts='both': must be 'far' or 'near'"),
    ],
)
def test_options_out_of_their_range(rng, options, match):
    with pytest.raises(ValueError, match=match):
        Residual(**options).fit(pairs(rng))


def test_two_clips_are_too_few(rng):
    with pytest.raises(ValueError, match=r"2 sample\(s\).* while a minimum of 3 is required"):
        Residual().fit(pairs(rng, 2))


# in a branch


@pytest.mark.parametrize(
    "conditioning",
    [
        ["near_minus_far"],
        [{"name": "near_minus_far", "fraction": 0.3}, "standardize", "pca"],
        ["standardize", {"name": "residual", "predicts": "near"}, "whiten"],
    ],
)
def test_a_branch_takes_it(rng, conditioning):
    branch = built(BranchConfig(**BRANCH, conditioning=conditioning))
    X, domain = list(pairs(rng, 20, 3)), np.array(["source"] * 18 + ["target"] * 2)
    scores = branch.fit_backend(X, domain).anomaly_score(X)
    again = built(BranchConfig(**BRANCH, conditioning=conditioning)).with_arrays(branch.arrays())
    np.testing.assert_array_equal(again.anomaly_score(X), scores)


def test_a_change_of_near_alone_stands_out_of_a_residual(rng):
    """Far follows near in normal clips, over a range in which the change is nothing unusual."""
    branch = built(BranchConfig(**BRANCH, conditioning=["residual"]))
    near = 10 * rng.standard_normal((60, 3))
    X = np.hstack([near, near + 0.1 * rng.standard_normal((60, 3))])
    branch.fit_backend(list(X[:50]), np.array(["source"] * 50))
    changed = X[50:] + np.r_[1.0, 0, 0, 0, 0, 0]
    assert branch.anomaly_score(list(changed)).min() > branch.anomaly_score(list(X[50:])).max()


@pytest.mark.parametrize(
    "changes",
    [
        {"view": "near"},
        {"view": "near_and_cancelled"},
        {"view": "near_and_contrast"},
        {"conditioning": ["pca", "residual"]},
        {"conditioning": ["residual", "near_minus_far"]},
        {"encoder": "dca"},
    ],
)
def test_what_does_not_give_near_and_far_side_by_side_is_refused(changes):
    config = {**BRANCH, "conditioning": ["residual"], **changes}
    with pytest.raises(
        ValueError, match=r"takes the embeddings of near and far side by side; take view='near_and_f"
    ):
        BranchConfig(**config)
