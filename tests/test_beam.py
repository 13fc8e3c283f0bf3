"""BEAM and VarMin against their formulas."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.backends import backend_class

Beam = backend_class("beam")

BANDS, DIM = 3, 4
seeds = st.integers(0, 2**32 - 1)
rescalings = pytest.mark.parametrize("rescaling", ["none", "varmin"])


def clips(rng, n):
    return 1 + rng.normal(size=(n, BANDS, DIM))


def source(n):
    return np.array(["source"] * n)


@rescalings
@given(seeds)
@settings(max_examples=12, deadline=None)
def test_beam_is_its_formula(rescaling, seed):
    rng = np.random.default_rng(seed)
    X, unseen = clips(rng, 9), clips(rng, 3)
    expected = [naive.beam(list(X), x, varmin=rescaling == "varmin") for x in unseen]
    scores = Beam(rescaling=rescaling).fit(X, source(9)).anomaly_score(unseen)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-14)


@rescalings
def test_a_vector_is_its_bands_one_after_another(rng, rescaling):
    X, unseen = clips(rng, 9), clips(rng, 3)
    expected = Beam(rescaling=rescaling).fit(X, source(9)).anomaly_score(unseen)
    flat = Beam(BANDS, rescaling=rescaling).fit(X.reshape(9, -1), source(9))
    np.testing.assert_array_equal(flat.anomaly_score(unseen.reshape(3, -1)), expected)
    np.testing.assert_array_equal(flat.anomaly_score(unseen), expected)
    by_one = Beam(rescaling=rescaling).fit(X.reshape(9, -1), source(9))
    assert not np.allclose(by_one.anomaly_score(unseen.reshape(3, -1)), expected)


def test_each_band_finds_a_neighbour_of_its_own(rng):
    X = clips(rng, 3)
    mixed = np.stack([X[2, 0], X[0, 1], X[1, 2]])
    fitted = Beam().fit(X, source(3))
    assert fitted.anomaly_score(7 * mixed[None])[0] == pytest.approx(0, abs=1e-30)
    mixed[1] *= -1  # now only this band differs
    nearest = min(naive.cosine(mixed[1], x[1]) / 2 for x in X)
    assert fitted.anomaly_score(mixed[None])[0] == pytest.approx(float(nearest) / BANDS)


@rescalings
def test_loudness_of_a_band_does_not_count(rng, rescaling):
    X, unseen = clips(rng, 9), clips(rng, 4)
    gains = np.array([0.01, 1.0, 1000.0])[:, None]
    plain, scaled = (
        Beam(rescaling=rescaling).fit(g * X, source(9)).anomaly_score(g * unseen) for g in (1.0, gains)
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-9)


@rescalings
def test_all_domains_are_one_bank(rng, rescaling):
    X, unseen = clips(rng, 12), clips(rng, 4)
    one = Beam(rescaling=rescaling).fit(X, source(12)).anomaly_score(unseen)
    two = Beam(rescaling=rescaling).fit(X, np.array(["source"] * 11 + ["target"])).anomaly_score(unseen)
    np.testing.assert_array_equal(one, two)


@rescalings
def test_scores_are_equal_to_the_byte_alone_and_together(rng, rescaling):
    X, unseen = 3 + rng.normal(size=(40, 16, 30)), 3 + rng.normal(size=(20, 16, 30))
    fitted = Beam(rescaling=rescaling).fit(X, source(40))
    alone = [fitted.anomaly_score(x[None])[0] for x in unseen]
    np.testing.assert_array_equal(alone, fitted.anomaly_score(unseen))


@rescalings
def test_inputs_are_left_as_they_are(rng, rescaling):
    X, unseen = clips(rng, 9), clips(rng, 4)
    before = X.copy(), unseen.copy()
    Beam(rescaling=rescaling).fit(X, source(9)).anomaly_score(unseen)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(unseen, before[1])


# VarMin


def test_varmin_leaves_the_least_variance(rng):
    """Of the distances u to the nearest others, less a share of what those have, v: any other share leaves more."""
    X = np.concatenate([5 + rng.normal(size=(30, 1, DIM)), 5 + 6 * rng.normal(size=(10, 1, DIM))])
    fitted = Beam(rescaling="varmin").fit(X, source(40))
    references = list(X[:, 0])
    b = [float(naive.mean_to_others(i, references, 4, naive.cosine)) / 2 for i in range(40)]
    alpha = fitted.offsets_[0, 0] / b[0]
    np.testing.assert_allclose(fitted.offsets_[0], alpha * np.array(b), rtol=1e-9)
    u, v = (np.array(x, float) / 2 for x in zip(*naive.matched(references, naive.cosine), strict=True))
    variances = [np.var(u - a * v) for a in (alpha - 0.01, alpha, alpha + 0.01, 0.0)]
    assert variances.index(min(variances)) == 1
    assert variances[3] > 1.05 * variances[1]


def test_varmin_counts_a_clip_among_the_others_of_its_nearest_one(rng):
    """alpha is Cov(u, v) / Var(v), with z among the 4 others of j(z), as the authors' public notes have it."""
    X = 1 + rng.normal(size=(12, 1, DIM))
    unit = X[:, 0] / np.linalg.norm(X[:, 0], axis=1, keepdims=True)
    distance = (1 - unit @ unit.T) / 2 + np.diag(np.full(12, np.inf))
    b = np.sort(distance, axis=1)[:, :4].mean(axis=1)
    u, v = distance.min(axis=1), b[distance.argmin(axis=1)]
    alpha = np.cov(u, v)[0, 1] / np.var(v, ddof=1)
    np.testing.assert_allclose(
        Beam(rescaling="varmin").fit(X, source(12)).offsets_[0], alpha * b, rtol=1e-9, atol=1e-15
    )


def test_varmin_forgives_what_lies_near_a_lonely_reference(rng):
    """Two clips as far from their references: one of a crowd, one of a reference that is alone."""
    crowd = np.array([1.0, 0, 0]) + 0.05 * rng.normal(size=(60, 3))
    sparse = np.array([0, 1.0, 0]) + 0.5 * rng.normal(size=(15, 3))
    X = np.concatenate([crowd, sparse])[:, None]
    unseen = X[[0, -1]] + 0.05 * rng.normal(size=(2, 1, 3))
    plain, varmin = (Beam(rescaling=r).fit(X, source(75)).anomaly_score(unseen) for r in ("none", "varmin"))
    assert varmin[0] - varmin[1] > plain[0] - plain[1]


def test_varmin_of_equal_neighbourhoods_subtracts_nothing():
    X = np.eye(21)[:, None]  # all distances are equal
    fitted = Beam(rescaling="varmin").fit(X, source(21))
    assert not fitted.offsets_.any()


def test_too_few_clips_for_varmin_are_an_error(rng):
    message = "rescaling='varmin' needs 5 normal clips, .* there are 4: give more, or set it to 'none'"
    with pytest.raises(ValueError, match=message):
        Beam(rescaling="varmin").fit(clips(rng, 4), source(4))
    fitted = Beam(rescaling="varmin").fit(clips(rng, 5), source(5))
    assert np.isfinite(fitted.anomaly_score(clips(rng, 2))).all()


# errors


@pytest.mark.parametrize(
    ("parameters", "shape", "message"),
    [
        ({"rescaling": "min"}, (9, 3, 4), "rescaling='min': must be 'none' or 'varmin'"),
        ({"bands": 2}, (9, 3, 4), "bands=2, but X has 3 bands of its own; leave it at 1"),
        ({"bands": 5}, (9, 12), "bands=5: X has 12 dimensions, which do not divide by it"),
        ({"bands": 0}, (9, 12), "bands=0: X has 12 dimensions"),
        ({}, (9, 3, 4, 2), r"X has shape \(9, 3, 4, 2\); it must be \(n_clips, bands, dim\)"),
        ({}, (9,), "Expected 2D array"),
    ],
    ids=str,
)
def test_what_has_no_such_bands_is_an_error(rng, parameters, shape, message):
    with pytest.raises(ValueError, match=message):
        Beam(**parameters).fit(rng.normal(size=shape), source(9))


def test_a_silent_band_is_an_error_that_names_it(rng):
    X, unseen = clips(rng, 9), clips(rng, 2)
    fitted = Beam().fit(X, source(9))
    X[4, 1] = unseen[1, 2] = 0
    with pytest.raises(ValueError, match=r"X\[4, 1\] has length 0, .* is a recording silent"):
        Beam().fit(X, source(9))
    with pytest.raises(ValueError, match=r"X\[1, 2\] has length 0"):
        fitted.anomaly_score(unseen)


def test_other_bands_than_fitted_are_an_error(rng):
    fitted = Beam().fit(clips(rng, 9), source(9))
    with pytest.raises(ValueError, match="X has 6 dimensions in 2 bands; it was fitted with 4 in 3"):
        fitted.anomaly_score(rng.normal(size=(1, 2, 6)))
    with pytest.raises(ValueError, match="X has 5 dimensions; it was fitted with 12"):
        fitted.anomaly_score(rng.normal(size=(1, 5)))


def test_one_clip_suffices_without_rescaling(rng):
    X = clips(rng, 1)
    assert Beam().fit(X, source(1)).anomaly_score(-X)[0] == pytest.approx(1.0)
