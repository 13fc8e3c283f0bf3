"""MemMixup against its virtual references, written out."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.backends import backend_class, mem_mixup

MemMixup = backend_class("mem_mixup")
DOMAIN = np.array(["source"] * 12 + ["target"] * 3 + ["source"] * 5 + ["target"])

seeds = st.integers(0, 2**32 - 1)


def explicit(fitted, domain, X, k, weight, target="target"):
    references = naive.mem_mixup_references(fitted, domain, k, weight, target)
    return [min(naive.euclidean(x, r) for r in references) for x in X]


@given(seeds, st.integers(1, 6), st.integers(1, 20), st.floats(0.01, 0.99))
@settings(max_examples=30, deadline=None)
def test_a_score_is_the_distance_to_the_nearest_written_out(seed, dim, k, weight):
    rng = np.random.default_rng(seed)
    X, unseen = rng.normal(size=(len(DOMAIN), dim)), rng.normal(size=(8, dim))
    scores = MemMixup(k, target_weight=weight).fit(X, DOMAIN).anomaly_score(unseen)
    np.testing.assert_allclose(scores, explicit(X, DOMAIN, unseen, k, weight), rtol=1e-9, atol=1e-12)


def test_far_from_the_origin_digits_stay(rng):
    X, unseen = 1e4 + rng.normal(size=(len(DOMAIN), 50)), 1e4 + rng.normal(size=(5, 50))
    scores = MemMixup().fit(X, DOMAIN).anomaly_score(unseen)
    np.testing.assert_allclose(scores, explicit(X, DOMAIN, unseen, 990, 0.9), rtol=1e-9)


def test_every_virtual_reference_is_one(rng):
    """A clip that lies on a virtual reference scores 0, one between references of one domain does not."""
    X = rng.normal(size=(len(DOMAIN), 30))
    sources, targets = X[DOMAIN == "source"], X[DOMAIN == "target"]
    virtual = (0.9 * targets[:, None] + 0.1 * sources).reshape(-1, 30)
    fitted = MemMixup().fit(X, DOMAIN)
    assert len(virtual) == 4 * 17
    np.testing.assert_allclose(fitted.anomaly_score(virtual), 0, atol=1e-12)
    np.testing.assert_allclose(fitted.anomaly_score(X), 0, atol=1e-12)
    assert (fitted.anomaly_score(0.9 * sources[1:] + 0.1 * sources[0]) > 0.1).all()


def test_only_the_k_nearest_sources_are_mixed():
    X = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 1.0]])
    domain = np.array(["source", "source", "target"])
    with_near, with_far = np.array([[0.0, 0.9]]), np.array([[1.0, 0.9]])
    assert MemMixup(1).fit(X, domain).anomaly_score(with_near)[0] == pytest.approx(0, abs=1e-12)
    assert MemMixup(1).fit(X, domain).anomaly_score(with_far)[0] == pytest.approx(1)
    assert MemMixup(2).fit(X, domain).anomaly_score(with_far)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("k", [17, 18, 990])
def test_more_neighbours_than_sources_are_all_sources(rng, k):
    fitted = MemMixup(k).fit(rng.normal(size=(len(DOMAIN), 3)), DOMAIN)
    assert fitted.partners_.shape == (4, 17)
    for partners in fitted.partners_:
        assert set(partners) == set(np.flatnonzero(DOMAIN == "source"))


@pytest.mark.parametrize("only", ["source", "target", "undisclosed"])
def test_with_one_domain_nothing_is_mixed(rng, only):
    X, unseen = rng.normal(size=(20, 3)), rng.normal(size=(6, 3))
    fitted = MemMixup().fit(X, np.array([only] * 20))
    assert len(fitted.targets_) == 0
    expected = [min(naive.euclidean(x, r) for r in X) for x in unseen]
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected, rtol=1e-12)


def test_all_other_domains_are_the_source_of_the_one_named(rng):
    X, unseen = rng.normal(size=(15, 4)), rng.normal(size=(6, 4))
    domain = np.repeat(["winter", "summer", "new"], 5)
    scores = MemMixup(k=7, target="new").fit(X, domain).anomaly_score(unseen)
    np.testing.assert_allclose(scores, explicit(X, domain, unseen, 7, 0.9, target="new"), rtol=1e-9)


def test_chunks_make_no_difference(rng, monkeypatch):
    fitted = MemMixup().fit(rng.normal(size=(len(DOMAIN), 4)), DOMAIN)
    unseen = rng.normal(size=(50, 4))
    whole = fitted.anomaly_score(unseen)
    monkeypatch.setattr(mem_mixup, "DISTANCES_AT_ONCE", 7 * len(DOMAIN))
    np.testing.assert_allclose(fitted.anomaly_score(unseen), whole, rtol=1e-12)
    monkeypatch.setattr(mem_mixup, "DISTANCES_AT_ONCE", 1)
    np.testing.assert_allclose(fitted.anomaly_score(unseen), whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k": 0}, "k=0: must be at least 1"),
        ({"target_weight": 0.0}, "target_weight=0.0: must be above 0 and below 1"),
        ({"target_weight": 1.0}, "target_weight=1.0: must be above 0 and below 1"),
        ({"target_weight": float("nan")}, "target_weight=nan: must be above 0 and below 1"),
    ],
    ids=str,
)
def test_a_parameter_out_of_its_range_is_an_error(rng, parameters, message):
    with pytest.raises(ValueError, match=message):
        MemMixup(**parameters).fit(rng.normal(size=(len(DOMAIN), 3)), DOMAIN)
