"""SMOTE against its loops, written out."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.backends import backend_class

Smote = backend_class("smote")
DISTANCES = {"euclidean": naive.euclidean, "cosine": naive.cosine}
DOMAIN = np.array(["source"] * 12 + ["target"] * 4 + ["source"] * 5 + ["target"] * 3)

seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("metric", DISTANCES)
@given(seeds, st.integers(2, 5), st.integers(1, 6), st.floats(0.1, 1))
@settings(max_examples=20, deadline=None)
def test_a_score_is_the_distance_to_the_nearest_written_out(metric, seed, dim, k, ratio):
    rng, distance = np.random.default_rng(seed), DISTANCES[metric]
    X, unseen = 1 + rng.normal(size=(len(DOMAIN), dim)), rng.normal(size=(6, dim))
    references = naive.smote_references(X, DOMAIN, k, ratio, distance, np.random.default_rng(seed))
    expected = [min(distance(x, r) for r in references) for x in unseen]
    fitted = Smote(k, ratio=ratio, metric=metric, random_state=seed).fit(X, DOMAIN)
    assert len(fitted.references_) == len(references)
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected, rtol=1e-9, atol=1e-12)


def synthetic(X, domain, **options):
    return Smote(**options).fit(X, domain).references_[len(X) :]


def test_synthetic_references_lie_between_neighbours_of_their_domain():
    source, target = np.c_[np.arange(30.0), np.zeros(30)], np.c_[np.arange(5.0), np.full(5, 100.0)]
    X, domain = np.concatenate([source, target]), np.repeat(["source", "target"], [30, 5])
    made = synthetic(X, domain, k=2)
    assert len(made) == 25
    assert (made[:, 1] == 100).all()
    assert ((made[:, 0] >= 0) & (made[:, 0] <= 4)).all()
    assert len(np.unique(made[:, 0])) == 25


def test_references_take_turns():
    X = np.concatenate(
        [1e-3 * np.arange(20)[:, None], 100.0 * np.arange(6)[:, None]]
    )  # so far apart that no line is short
    X[20:] += 1000
    domain = np.repeat(["source", "target"], [20, 6])
    made = synthetic(X, domain, k=1)  # with one neighbour each, a line's interval is one of five
    assert len(made) == 14
    begun = np.bincount(((made[:, 0] - 1000) // 100).astype(int), minlength=5)
    assert begun.sum() == 14
    assert (begun >= 2).sum() >= 3  # two or three of each reference, whose lines may overlap


@pytest.mark.parametrize(("ratio", "sizes"), [(1.0, (20, 20, 20)), (0.5, (20, 10, 12)), (0.1, (20, 5, 12))])
def test_every_smaller_domain_is_filled_up_to_the_ratio(rng, ratio, sizes):
    domain = np.repeat(["a", "b", "c"], [20, 5, 12])
    X = rng.normal(size=(37, 2)) + 1000 * np.repeat([0, 1, 2], [20, 5, 12])[:, None]
    references = Smote(k=4, ratio=ratio).fit(X, domain).references_
    found = np.bincount(np.round(references[:, 0] / 1000).astype(int))
    np.testing.assert_array_equal(found, sizes)


def test_equal_domains_and_one_domain_need_none(rng):
    X = rng.normal(size=(20, 3))
    for domain in (np.repeat(["a", "b"], 10), np.repeat("a", 20)):
        np.testing.assert_array_equal(Smote().fit(X, domain).references_, X)


def test_synthetic_references_are_of_the_seed(rng):
    X = rng.normal(size=(len(DOMAIN), 3))
    first, again, other = (synthetic(X, DOMAIN, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k": 0}, "k=0: must be at least 1"),
        ({"ratio": 0.0}, "ratio=0.0: must be above 0 and at most 1"),
        ({"ratio": 1.5}, "ratio=1.5: must be above 0 and at most 1"),
        ({"ratio": float("nan")}, "ratio=nan: must be above 0 and at most 1"),
        ({"metric": "manhattan"}, "metric='manhattan': must be 'euclidean' or 'cosine'"),
        (
            {"k": 7},
            "k=7, but domain 'target' has 7 normal clips, .* 6 others .* give 8 or more, or a smaller k",
        ),
    ],
    ids=str,
)
def test_a_parameter_out_of_its_range_is_an_error(rng, parameters, message):
    with pytest.raises(ValueError, match=message):
        Smote(**parameters).fit(rng.normal(size=(len(DOMAIN), 3)), DOMAIN)


def test_a_domain_of_one_clip_has_no_lines(rng):
    domain = np.array(["source"] * 9 + ["target"])
    with pytest.raises(
        ValueError, match="domain 'target' has 1 normal clips, so that a reference has 0 others"
    ):
        Smote(k=1).fit(rng.normal(size=(10, 3)), domain)


def test_a_silent_clip_has_no_cosine(rng):
    X = rng.normal(size=(len(DOMAIN), 3))
    fitted = Smote(metric="cosine").fit(X, DOMAIN)
    X[3] = 0
    with pytest.raises(ValueError, match="is a recording silent"):
        Smote(metric="cosine").fit(X, DOMAIN)
    with pytest.raises(ValueError, match="is a recording silent"):
        fitted.anomaly_score(X[3:4])
    assert np.isfinite(Smote().fit(X, DOMAIN).anomaly_score(X)).all()
