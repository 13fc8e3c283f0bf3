"""Gaussians of groups against their formula."""

import naive
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.backends import backend_class

Gaussians = backend_class("gaussians")

seeds = st.integers(0, 2**32 - 1)
DOMAIN = np.array(["source"] * 24 + ["target"] * 10)
ATTRIBUTES = np.array(["spd_1", "spd_2", "spd_3"] * 8 + ["spd_2"] * 4 + ["spd_3"] * 3 + ["spd_9"] * 3)


def machine(rng, dim=3, spread=1.0):
    """Groups apart from each other, target clips beside theirs."""
    centres = {name: 20 * i + rng.normal(size=dim) for i, name in enumerate(np.unique(ATTRIBUTES))}
    X = np.stack([centres[a] for a in ATTRIBUTES]) + rng.normal(size=(34, dim))
    X[24:] += 3 + (spread - 1) * rng.normal(size=(10, dim))
    return X


@given(seeds, st.integers(1, 5), st.sampled_from([1.0, 20.0]))
@settings(max_examples=25, deadline=None)
def test_gaussians_are_their_formula(seed, dim, spread):
    rng = np.random.default_rng(seed)
    X, unseen = machine(rng, dim, spread), 20 * rng.normal(size=(6, dim))
    fitted = Gaussians().fit(X, DOMAIN, ATTRIBUTES)
    threshold = scipy.stats.chi2.ppf(0.95, dim)
    expected = [
        naive.gaussians(X[:24], ATTRIBUTES[:24], X[24:], ATTRIBUTES[24:], x, threshold) for x in unseen
    ]
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected, rtol=1e-6)


def test_target_groups_that_the_source_has_add_a_centre(rng):
    X = machine(rng)
    fitted = Gaussians().fit(X, DOMAIN, ATTRIBUTES)
    assert fitted.group_.tolist() == [0, 1, 2, 1, 2]  # spd_1, spd_2, spd_3; of the target spd_2 and spd_3
    np.testing.assert_allclose(fitted.means_[3], X[24:28].mean(axis=0))
    np.testing.assert_allclose(fitted.anomaly_score(fitted.means_), 0, atol=1e-12)
    assert fitted.anomaly_score(X[31:].mean(axis=0)[None])[0] > 50  # spd_9


def test_always_gives_other_target_groups_the_nearest_covariance(rng):
    X = machine(rng)
    fitted = Gaussians("always").fit(X, DOMAIN, ATTRIBUTES)
    assert fitted.group_.tolist() == [0, 1, 2, 1, 2, 2]  # spd_9 lies beside spd_3
    np.testing.assert_allclose(fitted.means_[5], X[31:].mean(axis=0))


def test_never_leaves_the_target_out(rng):
    X = machine(rng)
    fitted, without = (
        Gaussians("never").fit(X[:n], DOMAIN[:n], ATTRIBUTES[:n]).anomaly_score(X) for n in (34, 24)
    )
    np.testing.assert_array_equal(fitted, without)
    assert (fitted >= Gaussians().fit(X, DOMAIN, ATTRIBUTES).anomaly_score(X) - 1e-9).all()


def test_a_wide_target_group_widens_its_covariance(rng):
    X = machine(rng, spread=20.0)
    fitted = Gaussians().fit(X, DOMAIN, ATTRIBUTES)
    assert (fitted.factors_[:3] == 1).all()
    assert (fitted.factors_[3:] > 5).all()
    white = (X[24:28] - fitted.means_[3]) @ fitted.whitenings_[1].T
    median = np.median((white**2).sum(axis=1) / fitted.factors_[3])
    assert median == pytest.approx(scipy.stats.chi2.ppf(0.95, 3))


def test_a_narrow_target_group_keeps_the_covariance(rng):
    X = machine(rng)
    X[24:] = [X[24:][ATTRIBUTES[24:] == a].mean(axis=0) for a in ATTRIBUTES[24:]]
    assert (Gaussians().fit(X, DOMAIN, ATTRIBUTES).factors_ == 1).all()


NO_TWO_GROUPS = [
    None,
    np.array([""] * 34),
    np.array(["spd_1"] * 24 + ["spd_2"] * 10),
    np.array(["a"] * 34),
]


@pytest.mark.parametrize("attributes", NO_TWO_GROUPS)
@pytest.mark.parametrize(("target_centres", "clustered"), [("always", 24), ("never", 24), ("matching", 34)])
def test_without_two_source_groups_there_are_clusters(rng, attributes, target_centres, clustered):
    X = machine(rng)
    X[31:] -= 20  # spd_9, now beside spd_3
    clusters = Gaussians(target_centres).fit(X, DOMAIN, attributes)
    domain = np.where(np.arange(34) < clustered, "source", "target")
    near = np.where(ATTRIBUTES == "spd_9", "spd_3", ATTRIBUTES)
    right = Gaussians("never" if target_centres == "never" else "matching").fit(X, domain, near)
    np.testing.assert_allclose(clusters.anomaly_score(X), right.anomaly_score(X), rtol=1e-9)


def blobs(rng):
    """Twelve source clips in three heaps that touch, and four target clips apart from them."""
    X = np.concatenate([3 * np.repeat(np.eye(3, 2), 4, axis=0), np.full((4, 2), 8.0)])
    return X + rng.normal(size=X.shape) / 2, np.array(["source"] * 12 + ["target"] * 4)


def nearest_of(points, centres):
    return [int(np.argmin([np.sum((p - c) ** 2) for c in centres])) for p in points]


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_clusters_of_all_clips_are_their_formula(seed):
    rng = np.random.default_rng(seed)
    X, domain = blobs(rng)
    unseen = 6 * rng.normal(size=(6, 2))
    fitted = Gaussians(n_clusters=2).fit(X, domain)
    groups = naive.k_means(X, 2)
    expected = [naive.gaussians(X, groups, [], [], x, threshold=1.0) for x in unseen]
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected, rtol=1e-6)


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_clusters_of_source_clips_and_target_centres_are_their_formula(seed):
    rng = np.random.default_rng(seed)
    X, domain = blobs(rng)
    unseen = 6 * rng.normal(size=(6, 2))
    fitted = Gaussians("always", n_clusters=2).fit(X, domain)
    groups = naive.k_means(X[:12], 2)
    means = [np.mean([x for x, g in zip(X[:12], groups, strict=True) if g == h], axis=0) for h in (0, 1)]
    threshold = scipy.stats.chi2.ppf(0.95, 2)
    of_target = nearest_of(X[12:], means)
    expected = [naive.gaussians(X[:12], groups, X[12:], of_target, x, threshold) for x in unseen]
    np.testing.assert_allclose(fitted.anomaly_score(unseen), expected, rtol=1e-6)


def test_without_attributes_target_clips_are_clustered_and_add_no_centre(rng):
    X = machine(rng)
    X[24:] = 200 + rng.normal(size=(10, 3))  # far from all source clips
    matching, always = (Gaussians(name).fit(X, DOMAIN) for name in ("matching", "always"))
    assert matching.group_.tolist() == [0, 1, 2]  # two of the source, one of the target
    assert np.abs(matching.means_ - X[24:].mean(axis=0)).sum(axis=1).min() == pytest.approx(0, abs=1e-9)
    assert always.group_.tolist() == [0, 1, 2, always.group_[3]]
    np.testing.assert_allclose(always.means_[3], X[24:].mean(axis=0))


def test_clusters_of_all_clips_do_not_look_at_the_domain(rng):
    X = machine(rng)
    one = Gaussians().fit(X, DOMAIN)
    undisclosed = Gaussians().fit(X, np.array(["undisclosed"] * 34))
    np.testing.assert_array_equal(one.anomaly_score(X), undisclosed.anomaly_score(X))


def test_every_domain_but_target_is_source(rng):
    X = machine(rng)
    named = np.where(np.arange(34) % 2, "undisclosed", "source")
    fitted = Gaussians().fit(X, named, ATTRIBUTES)
    assert fitted.group_.tolist() == [0, 1, 2, 3]


def test_a_group_of_fewer_clips_than_dimensions_is_invertible(rng):
    X = rng.normal(size=(12, 20))
    fitted = Gaussians(regularization=0.01).fit(X, np.array(["source"] * 12), np.array(["a", "b"] * 6))
    clips = X[::2]
    outside = np.linalg.svd(clips - clips.mean(axis=0))[2][-1]  # perpendicular to what the six clips span
    score = fitted.anomaly_score((clips.mean(axis=0) + outside)[None])[0]
    assert score <= 1 / 0.01 * (1 + 1e-9)
    alone = fitted.whitenings_[0] @ outside
    assert alone @ alone == pytest.approx(1 / 0.01)


def test_a_group_of_one_clip_takes_the_pooled_covariance(rng):
    X = rng.normal(size=(21, 3))
    attributes = np.array(["a"] * 10 + ["b"] * 10 + ["c"])
    fitted = Gaussians().fit(X, np.array(["source"] * 21), attributes)
    centred = np.concatenate([X[:10] - X[:10].mean(axis=0), X[10:20] - X[10:20].mean(axis=0)])
    precision = np.linalg.inv(centred.T @ centred / (20 - 2) + 1e-4 * np.eye(3))
    np.testing.assert_allclose(fitted.whitenings_[2].T @ fitted.whitenings_[2], precision, rtol=1e-9)


def test_clusters_are_of_the_seed_and_nothing_else(rng):
    X = rng.normal(size=(34, 3))
    first, again = (Gaussians(random_state=1).fit(X, DOMAIN) for _ in range(2))
    for name in ("means_", "group_", "factors_", "whitenings_"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


@pytest.mark.parametrize("n", [10, 3])
def test_a_few_clips_suffice(rng, n):
    X = np.concatenate([rng.normal(size=(n - 1, 3)), [[9.0, 9, 9]]])
    X[1] = X[0] + np.array([0.1, 0, 0])
    fitted = Gaussians(n_clusters=2).fit(X, np.array(["undisclosed"] * n))
    assert np.isfinite(fitted.anomaly_score(rng.normal(size=(4, 3)))).all()


# errors


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target_centres": "all"}, "target_centres='all': must be 'matching', 'always' or 'never'"),
        ({"n_clusters": 0}, "n_clusters=0: must be at least 1"),
        ({"regularization": 0.0}, "regularization=0.0: must be above 0"),
        ({"regularization": float("nan")}, "regularization=nan: must be above 0"),
        ({"n_clusters": 35}, "n_clusters=35, but there are 34 different normal clips to cluster; lower it"),
        (
            {"n_clusters": 25, "target_centres": "always"},
            "n_clusters=25, but there are 24 different source clips to cluster; lower it",
        ),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_an_error(rng, parameters, message):
    with pytest.raises(ValueError, match=message):
        Gaussians(**parameters).fit(machine(rng), DOMAIN)


def test_copies_are_no_clusters():
    with pytest.raises(ValueError, match="n_clusters=3, but there are 2 different normal clips"):
        Gaussians().fit(np.repeat(np.eye(2), 5, axis=0), np.array(["source"] * 10))


def test_only_target_clips_are_an_error(rng):
    with pytest.raises(
        ValueError, match=r"all 10 normal clips are of the domain 'target'; .* give source clips"
    ):
        Gaussians().fit(rng.normal(size=(10, 3)), DOMAIN[24:])


def test_attributes_of_some_clips_only_are_an_error(rng):
    attributes = ATTRIBUTES.copy()
    attributes[[2, 30]] = ""
    with pytest.raises(ValueError, match="2 of 34 normal clips have no attributes, the others have"):
        Gaussians().fit(machine(rng), DOMAIN, attributes)


def test_groups_of_one_clip_each_are_an_error(rng):
    X = rng.normal(size=(3, 2))
    message = "none of the 3 clips shares its group with another, so there is no covariance"
    with pytest.raises(ValueError, match=message):
        Gaussians().fit(X, DOMAIN[:3], np.array(["a", "b", "c"]))
    with pytest.raises(ValueError, match=message):
        Gaussians().fit(X, DOMAIN[:3])


def test_variances_beside_which_the_regularization_is_lost_are_an_error(rng):
    X = 1e9 * rng.normal(size=(12, 20))
    with pytest.raises(ValueError, match=r"regularization=0.0001 is lost beside variances up to .*e\+18"):
        Gaussians(n_clusters=1).fit(X, np.array(["source"] * 12))


@pytest.mark.parametrize("shape", [(34,), (34, 2, 2)])
def test_another_shape_is_an_error(rng, shape):
    with pytest.raises(ValueError, match=r"Expected 2D array|dim <= 2 is required"):
        Gaussians().fit(rng.normal(size=shape), DOMAIN)


def test_other_numbers_of_clips_are_an_error(rng):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        Gaussians().fit(machine(rng), DOMAIN, ATTRIBUTES[1:])
