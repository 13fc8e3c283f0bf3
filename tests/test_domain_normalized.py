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


@given(seeds, st.integers(6, 25), st.integers(2, 6), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_scales_are_medians_of_clips_that_were_left_out(seed, n_source, n_target, dim):
    X, domain = two_domains(np.random.default_rng(seed), n_source, n_target, dim)
    fitted = DomainNormalized().fit(X, domain)
    own = naive.left_out_distances(list(X), list(domain), fitted.shrinkage_)
    source, target = (naive.sorted_median(own[d]) for d in ("source", "target"))
    np.testing.assert_allclose(fitted.scales_, [source, max(source, target)], rtol=1e-6)


def test_a_score_is_the_smallest_distance_over_the_scales(rng):
    X, domain = two_domains(rng, 40, 10, 5)
    fitted, plain = DomainNormalized().fit(X, domain), Mahalanobis().fit(X, domain)
    unseen = 5 * rng.normal(size=(9, 5))
    to_means = [[(x - m) @ plain.precision_ @ (x - m) for m in plain.means_] for x in unseen]
    np.testing.assert_allclose(
        fitted.anomaly_score(unseen), (np.array(to_means) / fitted.scales_).min(axis=1), rtol=1e-9
    )


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
