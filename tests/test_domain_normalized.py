"""Distances in units of a domain's own clips, against fits that leave every clip out one by one."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.backends import backend_class

DomainNormalized = backend_class("domain_normalized")
Mahalanobis = backend_class("mahalanobis")

seeds = st.integers(0, 2**32 - 1)


def two_domains(rng, n_source, n_target, dim, spread=3.0):
    X = np.concatenate([rng.normal(size=(n_source, dim)), 9 + spread * rng.normal(size=(n_target, dim))]) @ (
        np.eye(dim) + 0.5 * np.tri(dim, k=-1)
    )
    return X, np.repeat(["source", "target"], [n_source, n_target])


@given(seeds, st.integers(6, 25), st.integers(2, 6), st.integers(1, 12), st.booleans())
@settings(max_examples=30, deadline=None)
def test_scales_are_medians_of_clips_that_were_left_out(seed, n_source, n_target, dim, by_clips):
    X, domain = two_domains(np.random.default_rng(seed), n_source, n_target, dim)
    domain[0] = "source"
    fitted = DomainNormalized(few=30 if by_clips else 1).fit(X, domain)
    small = "target" if n_target <= n_source else "source"
    own = naive.left_out_distances(list(X), list(domain), fitted.shrinkage_, [small] if by_clips else [])
    medians = [naive.sorted_median(own[d]) for d in ("source", "target")]
    least = medians[0] if small == "target" else medians[1]
    np.testing.assert_allclose(fitted.scales_, np.maximum(medians, least), rtol=1e-6)


@pytest.mark.parametrize("few", [1, 10, 11])
def test_a_score_is_the_smallest_distance_over_the_scales(rng, few):
    X, domain = two_domains(rng, 40, 10, 5)
    fitted, plain = DomainNormalized(few=few).fit(X, domain), Mahalanobis().fit(X, domain)
    source, target = plain.means_
    of_target = X[40:] if few > 10 else [target]
    for x in 5 * rng.normal(size=(9, 5)):
        to_source, *to_target = [(x - c) @ plain.precision_ @ (x - c) for c in (source, *of_target)]
        expected = min(to_source / fitted.scales_[0], min(to_target) / fitted.scales_[1])
        assert fitted.anomaly_score([x])[0] == pytest.approx(expected, rel=1e-9)


def test_the_largest_domain_has_its_mean_as_centre_however_few_its_clips(rng):
    X, domain = two_domains(rng, 12, 5, 3)
    fitted = DomainNormalized().fit(X, domain)
    np.testing.assert_allclose(fitted.centres_, [X[:12].mean(axis=0), *X[12:]])
    assert fitted.centre_domains_.tolist() == [0, 1, 1, 1, 1, 1]


def test_a_few_clips_of_several_states_are_normal_in_each_state_and_not_between(rng):
    """Of a target with two speeds, the mean is a speed at which the machine never runs."""
    states = np.repeat([[30.0, 0.0], [-30.0, 0.0]], 5, axis=0)
    X = np.concatenate([rng.normal(size=(90, 2)), np.array([0.0, 50.0]) + states + rng.normal(size=(10, 2))])
    domain = np.repeat(["source", "target"], [90, 10])
    at_states, between = [[30.0, 50.0], [-30.0, 50.0]], [[0.0, 50.0]]
    by_clips, by_mean = DomainNormalized().fit(X, domain), DomainNormalized(few=1).fit(X, domain)
    assert by_clips.anomaly_score(at_states).max() < by_clips.anomaly_score(between).min() / 10
    assert by_mean.anomaly_score(at_states).min() > by_mean.anomaly_score(between).max()


@pytest.mark.parametrize("few", [0, -3])
def test_less_than_one_clip_is_an_error(rng, few):
    X, domain = two_domains(rng, 12, 5, 3)
    with pytest.raises(
        ValueError, match=f"few={few}: must be at least 1; with 1, every domain has one centre"
    ):
        DomainNormalized(few=few).fit(X, domain)


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_a_usual_clip_scores_one_in_a_large_and_in_a_small_domain(rng, spread):
    found = {"source": [], "target": []}
    for _ in range(20):
        X, domain = two_domains(rng, 400, 12, 8, spread)
        new, new_domain = two_domains(rng, 200, 200, 8, spread)
        scores = DomainNormalized().fit(X, domain).anomaly_score(new)
        for d, medians in found.items():
            medians.append(np.median(scores[new_domain == d]))
    assert np.median(found["source"]) == pytest.approx(1, rel=0.1)
    assert np.median(found["target"]) == pytest.approx(1, rel=0.2)


def test_the_scale_of_a_domain_is_never_below_that_of_the_largest(rng):
    X, domain = two_domains(rng, 60, 10, 4, spread=0.01)
    scales = DomainNormalized().fit(X, domain).scales_
    assert scales[0] == scales[1]


def test_a_domain_of_one_clip_takes_twice_the_scale_of_the_largest(rng):
    X, domain = two_domains(rng, 30, 1, 4)
    scales = DomainNormalized().fit(X, domain).scales_
    assert scales[1] == 2 * scales[0]


def test_with_one_domain_it_ranks_as_mahalanobis(rng):
    X, domain = two_domains(rng, 40, 0, 6)
    unseen = 3 * rng.normal(size=(30, 6))
    normalized, plain = (m().fit(X, domain).anomaly_score(unseen) for m in (DomainNormalized, Mahalanobis))
    np.testing.assert_array_equal(normalized.argsort(), plain.argsort())


def test_more_dimensions_than_clips_are_no_hindrance(rng):
    X, domain = two_domains(rng, 30, 8, 256)
    fitted = DomainNormalized().fit(X, domain)
    own = naive.left_out_distances(list(X), list(domain), fitted.shrinkage_)
    np.testing.assert_allclose(fitted.scales_[0], naive.sorted_median(own["source"]), rtol=1e-6)
