"""Exact neighbours, and the back ends that are little else: nearest neighbour, and the two of local density."""

import tracemalloc

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.backends import backend_class, neighbours
from nearfar.backends.neighbours import (
    bank,
    distances,
    nearest,
    nearest_others,
    of_each_domain,
    prepared,
    unit,
)

DensityNormalized = backend_class("density_normalized")
DomainLocalDensity = backend_class("domain_local_density")
NearestNeighbour = backend_class("nearest_neighbour")

DISTANCE = {"euclidean": naive.euclidean, "cosine": naive.cosine}
DOMAIN = np.array(["source"] * 20 + ["target"] * 10)
ALL = [
    NearestNeighbour(3),
    NearestNeighbour(metric="cosine"),
    DomainLocalDensity(),
    DomainLocalDensity(metric="cosine"),
    DomainLocalDensity(normalization="difference"),
    DensityNormalized(),
    DensityNormalized(1, metric="cosine"),
    DensityNormalized(normalization="difference"),
]

seeds = st.integers(0, 2**32 - 1)
metrics = pytest.mark.parametrize("metric", ["euclidean", "cosine"])
back_ends = pytest.mark.parametrize("backend", ALL, ids=str)


# neighbours


@metrics
@given(seeds, st.integers(1, 5), st.integers(2, 12), st.sampled_from([0.0, 1.0, 1e3]))
@settings(max_examples=25, deadline=None)
def test_nearest_are_the_naive_ones(metric, seed, k, dim, shift):
    rng = np.random.default_rng(seed)
    queries, references = shift + rng.normal(size=(3, dim)), shift + rng.normal(size=(5, dim))
    indices, squared = nearest(prepared(queries, metric), prepared(references, metric), k)
    for query, i, d in zip(queries, indices, distances(squared, metric), strict=True):
        expected = naive.nearest(query, references, k, DISTANCE[metric])
        assert i.tolist() == [index for _, index in expected]
        np.testing.assert_allclose(d, np.array([e for e, _ in expected], float), rtol=1e-9)


@metrics
@pytest.mark.parametrize("k", [1, 3])
def test_near_duplicates_keep_their_digits(rng, metric, k):
    """Squared distances of 1e-13 to 1e-12 from squares of 1e4, which a Gram matrix rounds to 1e-12."""
    query = 10 + rng.normal(size=100)
    steps = np.linspace(5e-8, 1e-7, 40)[:, None] / 10
    references = rng.permutation(query + steps * rng.choice([-1, 1], size=(40, 100)))
    indices, squared = nearest(prepared(query[None], metric), prepared(references, metric), k)
    expected = naive.nearest(query, references, 40, DISTANCE[metric])
    found = np.array([{j: d for d, j in expected}[i] for i in indices[0]], float)
    rtol = 1e-9 if metric == "euclidean" else 1e-6  # scaled to length one, vectors are rounded once more
    np.testing.assert_allclose(distances(squared, metric)[0], found, rtol=rtol)
    np.testing.assert_allclose(found, np.array([d for d, _ in expected[:k]], float), rtol=rtol)
    gram = (query**2).sum() + (references**2).sum(axis=1) - 2 * references @ query
    assert gram.argmin() != expected[0][1]


def test_a_clip_is_at_distance_zero_from_its_copy(rng):
    references = 1e6 + rng.normal(size=(50, 30))
    indices, squared = nearest(references, references, 1)
    assert indices[:, 0].tolist() == list(range(50))
    assert not squared.any()


def test_of_equal_distances_the_first_reference_is_the_first():
    references = np.array([[1.0], [-1.0], [1.0], [-1.0], [3.0]])
    indices, squared = nearest(np.zeros((1, 1)), references, 3)
    assert indices.tolist() == [[0, 1, 2]]
    assert squared.tolist() == [[1, 1, 1]]


def test_none_is_its_own_neighbour_but_a_copy_is():
    references = np.array([[0.0], [0.0], [2.0], [5.0]])
    indices, squared = nearest_others(references, 2)
    assert indices.tolist() == [[1, 2], [0, 2], [0, 1], [2, 0]]
    assert squared.tolist() == [[0, 4], [0, 4], [4, 4], [9, 25]]


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_what_is_compared_can_be_rescaled(seed):
    rng = np.random.default_rng(seed)
    queries, references, scales = rng.normal(size=(4, 3)), rng.normal(size=(9, 3)), 0.1 + rng.random(9)
    indices, squared = nearest(queries, references, 9, rescaled=lambda s, which: np.sqrt(s) - scales[which])
    for query, i, d in zip(queries, indices, squared, strict=True):
        exact = np.array([sum((query - r) ** 2) for r in references])
        assert i.tolist() == np.argsort(np.sqrt(exact) - scales).tolist()
        np.testing.assert_allclose(d, exact[i], rtol=1e-12)
    found = neighbours.smallest(queries, references, lambda s, which: s / scales[which])
    expected = [min(sum((q - r) ** 2) / s for r, s in zip(references, scales, strict=True)) for q in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def by_all_differences(X, k):
    """Indices and squared distances of the k nearest others, from all differences; equal ones by index."""
    squared = ((X[:, None] - X[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(squared, order, axis=1)


def hard_banks(rng):
    """Banks that single precision, or few pairs a reference, are not enough for."""
    clouds = 100 * rng.normal(size=(6, 7))
    yield "one cloud", rng.normal(size=(61, 7))
    yield "far from the origin", 1e6 + rng.normal(size=(61, 7))
    yield "large numbers", 1e80 * rng.normal(size=(61, 7))
    yield "small numbers", 1e-80 * rng.normal(size=(61, 7))
    yield "tight clouds", np.concatenate([c + 1e-7 * rng.normal(size=(10, 7)) for c in clouds])
    yield "a grid, with equal distances", np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3)
    yield "copies", np.repeat(rng.normal(size=(20, 7)), 3, axis=0)
    yield "all equal", np.ones((30, 4))
    yield "one dimension", rng.normal(size=(61, 1))


@pytest.mark.parametrize("k", [1, 4, 20])
@pytest.mark.parametrize("block", [2, 40, 2**20])
@pytest.mark.parametrize("coarse", [-1.0, 1 / 32, 1.0], ids=["double", "usual", "single"])
def test_nearest_others_are_exact_however_hard_the_bank(rng, monkeypatch, k, block, coarse):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    monkeypatch.setattr(neighbours, "COARSE", coarse)
    for name, X in hard_banks(rng):
        indices, squared = nearest_others(X, k)
        expected, distance = by_all_differences(X, k)
        if "numbers" not in name:  # sums of squares in another order can turn equal ones around
            np.testing.assert_array_equal(indices, expected, err_msg=name)
        np.testing.assert_allclose(squared, distance, rtol=1e-12, atol=0, err_msg=name)


@pytest.mark.parametrize("few", [-1.0, 1 / 200, 1.0], ids=["in vain", "usual", "always"])
def test_a_first_look_at_the_principal_components_changes_nothing(rng, monkeypatch, few):
    monkeypatch.setattr(neighbours, "BLOCK", 800)  # blocks of 40
    monkeypatch.setattr(neighbours, "MANY", 12)
    monkeypatch.setattr(neighbours, "FEW", few)
    for spread in (1.0, 10.0 ** -np.arange(12)):  # components alike, or falling steeply
        X = 5 + spread * rng.normal(size=(400, 12))
        X[7] = X[300]
        search = neighbours._Others(X, 4, patience=0)
        assert search.reduced is not None
        lower = neighbours._opposite(search.reduced) @ search.reduced.T
        exact = ((X[:, None] - X[None]) ** 2).sum(axis=-1) / 4.0**search.exponent
        assert (lower <= exact).all()
        indices, squared = nearest_others(X, 4)
        expected, distance = by_all_differences(X, 4)
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_allclose(squared, distance, rtol=1e-12)


def test_bounds_hold_for_every_pair(rng):
    """In both precisions, and with what double precision makes of single."""
    X = rng.normal(size=(50, 300)) * 10.0 ** rng.integers(-6, 1, size=(50, 1))
    search = neighbours._Others(X, 3, patience=0)
    exact = np.array([[sum((np.longdouble(a) - b) ** 2) for b in X] for a in X]) / 4.0**search.exponent
    for dtype in (np.float32, np.float64):
        terms, slack = neighbours._terms(search._centred(slice(0, 50)), dtype)
        lower = (neighbours._opposite(terms) @ terms.T).astype(np.longdouble)
        assert (lower <= exact).all()
        assert (exact <= lower + slack[:, None] + slack).all()


def test_a_search_holds_a_bounded_number_of_pairs(monkeypatch):
    """All vectors are equally far from each other, so every pair could be among the nearest."""
    monkeypatch.setattr(neighbours, "BLOCK", 64)
    X = np.eye(120)
    search = neighbours._Others(X, 2, patience=0)
    for first in range(0, 120, 30):
        for second in range(first, 120, 30):
            search.compare(slice(first, first + 30), slice(second, second + 30))
            assert sum(len(pair[0]) for pair in search.pairs) <= search._most
    assert search.found()[0].tolist() == [[1, 2], [0, 2], *[[0, 1]] * 118]


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_change_no_byte(rng, monkeypatch, block):
    queries, references = rng.normal(size=(23, 5)), rng.normal(size=(11, 5))
    whole = [*nearest(queries, references, 3), *nearest_others(references, 3)]
    monkeypatch.setattr(neighbours, "BLOCK", block)
    parts = [*nearest(queries, references, 3), *nearest_others(references, 3)]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_is_bounded_by_blocks(rng, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 2**14)
    queries, references = rng.normal(size=(200, 8)), rng.normal(size=(4000, 8))
    tracemalloc.start()
    nearest(queries, references, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 8 * 2**14  # eight arrays of a block; all pairs would be 6.4 MB in one array


def test_squares_that_overflow_are_an_error():
    with pytest.raises(
        ValueError, match=r"X has numbers up to 1e\+200, whose squares overflow; scale it down"
    ):
        nearest(np.zeros((1, 2)), np.full((3, 2), 1e200), 1)


def test_unit_vectors_have_length_one(rng):
    X = rng.normal(size=(5, 3, 7)) * 100
    np.testing.assert_allclose((unit(X) ** 2).sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(unit(X), unit(X / 7), rtol=1e-14)


@pytest.mark.parametrize("length", [0.0, 1e200])
def test_a_vector_without_direction_is_an_error_that_names_it(rng, length):
    X = rng.normal(size=(5, 3, 7))
    X[3, 1] = X[4, 2] = length
    with pytest.raises(
        ValueError, match=r"X\[3, 1\] has length .* no direction and no cosine \(2 such vectors\)"
    ):
        unit(X)


@metrics
def test_a_bank_has_domains_side_by_side(rng, metric):
    X, domain = rng.normal(size=(6, 2)), np.array(["t", "s", "t", "s", "s", "t"])
    before = X.copy()
    references, counts = bank(X, domain, metric)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(references, prepared(X[[1, 3, 4, 0, 2, 5]], metric))
    assert of_each_domain(counts) == [slice(0, 3), slice(3, 6)]


def test_a_bank_names_a_silent_clip_by_its_own_position(rng):
    X = rng.normal(size=(4, 2))
    X[1] = 0
    with pytest.raises(ValueError, match=r"X\[1\] has length 0"):
        bank(X, np.array(["z", "z", "a", "a"]), "cosine")


# all of these back ends


@back_ends
def test_scores_are_equal_to_the_byte_alone_and_together(rng, backend):
    X, unseen = 5 + rng.normal(size=(30, 40)), 5 + rng.normal(size=(20, 40))
    backend.fit(X, DOMAIN)
    alone = [backend.anomaly_score(x[None])[0] for x in unseen]
    np.testing.assert_array_equal(alone, backend.anomaly_score(unseen))


@back_ends
def test_the_order_of_normal_clips_is_of_no_consequence(rng, backend):
    X, unseen, order = rng.normal(size=(30, 4)), rng.normal(size=(9, 4)), rng.permutation(30)
    expected = backend.fit(X, DOMAIN).anomaly_score(unseen)
    scores = backend.fit(X[order], DOMAIN[order]).anomaly_score(unseen)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@back_ends
def test_inputs_are_left_as_they_are(rng, backend):
    X, unseen = rng.normal(size=(30, 4)), rng.normal(size=(9, 4))
    before = X.copy(), unseen.copy()
    backend.fit(X, DOMAIN).anomaly_score(unseen)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(unseen, before[1])


@back_ends
def test_ten_clips_suffice(rng, backend):
    X, unseen = rng.normal(size=(10, 4)), rng.normal(size=(3, 4))
    for domain in ("source", "target", "undisclosed"):
        assert np.isfinite(backend.fit(X, np.array([domain] * 10)).anomaly_score(unseen)).all()


@back_ends
@pytest.mark.parametrize("shape", [(30,), (30, 2, 2)])
def test_another_shape_is_an_error(rng, backend, shape):
    with pytest.raises(ValueError, match=r"Expected 2D array|dim <= 2 is required"):
        backend.fit(rng.normal(size=shape), DOMAIN)


@back_ends
def test_another_number_of_domains_is_an_error(rng, backend):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        backend.fit(rng.normal(size=(30, 4)), DOMAIN[:29])


@pytest.mark.parametrize("cls", [NearestNeighbour, DomainLocalDensity, DensityNormalized])
def test_an_unknown_metric_is_an_error(rng, cls):
    with pytest.raises(ValueError, match="metric='cosinus': must be 'euclidean' or 'cosine'"):
        cls(metric="cosinus").fit(rng.normal(size=(30, 4)), DOMAIN)


@pytest.mark.parametrize("cls", [NearestNeighbour, DomainLocalDensity, DensityNormalized])
def test_a_silent_clip_has_no_cosine(rng, cls):
    X = rng.normal(size=(30, 4))
    fitted = cls(metric="cosine").fit(X, DOMAIN)
    with pytest.raises(ValueError, match=r"X\[0\] has length 0, .*; is a recording silent"):
        fitted.anomaly_score(np.zeros((1, 4)))
    X[7] = 0
    with pytest.raises(ValueError, match=r"X\[7\] has length 0"):
        cls(metric="cosine").fit(X, DOMAIN)
    assert np.isfinite(cls().fit(X, DOMAIN).anomaly_score(X)).all()


# NearestNeighbour


@metrics
@given(seeds, st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_nearest_neighbour_is_its_formula(metric, seed, k):
    rng = np.random.default_rng(seed)
    X, unseen, domain = rng.normal(size=(12, 3)), rng.normal(size=(4, 3)), np.array(["b", "a", "b"] * 4)
    expected = [naive.nearest_neighbour(X, domain, x, k, DISTANCE[metric]) for x in unseen]
    scores = NearestNeighbour(k, metric=metric).fit(X, domain).anomaly_score(unseen)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


@pytest.mark.parametrize("k", [0, 11])
def test_more_neighbours_than_clips_are_an_error(rng, k):
    X = rng.normal(size=(30, 4))
    message = rf"k={k}, but domain '.*' has (20|10) normal clips; it must be between 1 and (20|10)"
    with pytest.raises(ValueError, match=message):
        NearestNeighbour(k).fit(X, DOMAIN)
    assert np.isfinite(NearestNeighbour(10).fit(X, DOMAIN).anomaly_score(X)).all()


def test_the_nearest_of_one_clip():
    fitted = NearestNeighbour().fit(np.array([[3.0, 4.0]]), np.array(["source"]))
    assert fitted.anomaly_score(np.zeros((1, 2))).tolist() == [5.0]


# DomainLocalDensity


@metrics
@pytest.mark.parametrize("normalization", ["ratio", "difference"])
@given(seeds, st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_domain_local_density_is_its_formula(metric, normalization, seed, k, k_target):
    rng = np.random.default_rng(seed)
    X, unseen, domain = (
        rng.normal(size=(12, 3)),
        rng.normal(size=(3, 3)),
        np.array(["source"] * 7 + ["target"] * 5),
    )
    ks = {"source": k, "target": k_target}
    expected = [
        naive.domain_local_density(X, domain, x, ks, DISTANCE[metric], normalization, 0.25) for x in unseen
    ]
    backend = DomainLocalDensity(k, k_target, metric=metric, normalization=normalization, eps=0.25)
    np.testing.assert_allclose(backend.fit(X, domain).anomaly_score(unseen), expected, rtol=1e-9)


def test_domain_local_density_by_hand():
    """Source clips at 0, 1, 3; target clips at 10, 14. No clip is its own neighbour: else 1 would be over 1."""
    X, domain = np.array([[0.0], [1.0], [3.0], [10.0], [14.0]]), np.array(["source"] * 3 + ["target"] * 2)
    fitted = DomainLocalDensity(2, 1).fit(X, domain)
    np.testing.assert_array_equal(fitted.scales_, [1 + 3, 1 + 2, 2 + 3, 4, 4])
    np.testing.assert_allclose(fitted.anomaly_score([[1.5], [9.0], [4.0]]), [0.5 / 3, 1 / 4, 1 / 5])
    fitted = DomainLocalDensity(2, 1, normalization="difference").fit(X, domain)
    np.testing.assert_array_equal(fitted.scales_, [2, 1.5, 2.5, 4, 4])
    np.testing.assert_allclose(fitted.anomaly_score([[1.5], [9.0], [4.0]]), [0.5 - 1.5, 1 - 4, 1 - 2.5])


def test_only_the_domain_called_target_has_the_target_k(rng):
    X = rng.normal(size=(30, 4))
    scales = {
        name: DomainLocalDensity(8, 5).fit(X, np.array([name] * 30)).scales_ for name in ("target", "other")
    }
    np.testing.assert_array_equal(
        scales["target"], DomainLocalDensity(5).fit(X, np.array(["other"] * 30)).scales_
    )
    assert (scales["other"] > scales["target"]).all()


@metrics
@pytest.mark.parametrize("normalization", ["ratio", "difference"])
def test_a_scale_is_not_that_of_a_near_copy(rng, metric, normalization):
    X = rng.normal(size=(30, 4))
    options = {"k": 1, "k_target": 1, "metric": metric, "normalization": normalization}
    new = X[2] + np.array([[0.0, 0, 0, 0], [1, -1, 1, 0]])
    clean = DomainLocalDensity(**options).fit(X, DOMAIN).anomaly_score(new)
    X[3] = X[2] * (1 + 1e-14)  # equal but for rounding
    fitted = DomainLocalDensity(**options).fit(X, DOMAIN)
    assert fitted.scales_[[2, 3]] == pytest.approx(0.05 * np.median(fitted.scales_[:20]))
    if normalization == "ratio":
        assert (fitted.anomaly_score(new) <= 100 * clean).all()


@metrics
def test_near_copies_of_one_clip_are_an_error(rng, metric):
    X = rng.normal(size=4) * (1 + 1e-15 * np.arange(30)[:, None])
    message = (
        r"half of the 20 normal clips of domain 'source' have 8 others at a distance of .* by metric .*copies"
    )
    with pytest.raises(ValueError, match=message):
        DomainLocalDensity(metric=metric).fit(X, DOMAIN)


@metrics
def test_too_few_clips_beside_copies_are_an_error(rng, metric):
    X = np.repeat(rng.normal(size=(3, 4)), 10, axis=0)
    message = r"k=8, but domain 'source' has 2 normal clips.* \(27 of the 30 are copies of another clip"
    with pytest.raises(ValueError, match=message):
        DomainLocalDensity(metric=metric).fit(X, DOMAIN)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"k": 20},
            r"^k=20, but domain 'source' has 20 normal clips; it must be between 1 and 19, for no clip",
        ),
        ({"k": 0}, "^k=0, but domain 'source' has 20 normal clips; it must be between 1 and 19"),
        (
            {"k_target": 10},
            "^k_target=10, but domain 'target' has 10 normal clips; it must be between 1 and 9",
        ),
        ({"normalization": "log"}, "normalization='log': must be 'ratio' or 'difference'"),
        ({"eps": 0.0}, r"eps=0.0: must be above 0"),
        ({"eps": float("nan")}, r"eps=nan: must be above 0"),
    ],
    ids=str,
)
def test_domain_local_density_parameters_out_of_range_are_an_error(rng, parameters, message):
    with pytest.raises(ValueError, match=message):
        DomainLocalDensity(**parameters).fit(rng.normal(size=(30, 4)), DOMAIN)
    largest = DomainLocalDensity(19, 9).fit(rng.normal(size=(30, 4)), DOMAIN)
    assert np.isfinite(largest.scales_).all()


def test_one_clip_has_no_density(rng):
    with pytest.raises(ValueError, match="domain 'target' has one normal clip, so it has no neighbour"):
        DomainLocalDensity().fit(rng.normal(size=(30, 4)), np.array(["source"] * 29 + ["target"]))


# DensityNormalized


normalizations = pytest.mark.parametrize("normalization", ["ratio", "difference"])


@metrics
@normalizations
@given(seeds, st.integers(1, 11))
@settings(max_examples=10, deadline=None)
def test_density_normalized_is_its_formula(metric, normalization, seed, k):
    rng = np.random.default_rng(seed)
    spread = rng.choice([0.1, 1.0, 5.0], size=(12, 1))
    X, unseen, domain = (
        1 + spread * rng.normal(size=(12, 3)),
        rng.normal(size=(3, 3)),
        np.array(["b", "a", "b"] * 4),
    )
    expected = [naive.density_normalized(list(X), x, k, DISTANCE[metric], normalization) for x in unseen]
    backend = DensityNormalized(k, metric=metric, normalization=normalization)
    np.testing.assert_allclose(backend.fit(X, domain).anomaly_score(unseen), expected, rtol=1e-9, atol=1e-12)


def test_density_normalized_by_hand():
    """At 0, 1, 3, 10, 14. The smallest is taken last: from 6 the nearest is at 3, but 10 is nearer in relation."""
    X, domain = np.array([[0.0], [1.0], [3.0], [10.0], [14.0]]), np.array(["source"] * 3 + ["target"] * 2)
    fitted = DensityNormalized(1).fit(X, domain)
    np.testing.assert_array_equal(fitted.scales_, [1, 1, 2, 4, 4])
    np.testing.assert_allclose(fitted.anomaly_score([[6.0], [1.5], [4.0]]), [4 / 4, 0.5, 1 / 2])
    fitted = DensityNormalized(2, normalization="difference").fit(X, domain)
    np.testing.assert_array_equal(fitted.scales_, [2, 1.5, 2.5, 5.5, 7.5])
    np.testing.assert_allclose(fitted.anomaly_score([[6.0], [1.5], [4.0]]), [4 - 5.5, 0.5 - 1.5, 1 - 2.5])


def test_the_domains_are_one_bank(rng):
    X, unseen = rng.normal(size=(30, 4)), rng.normal(size=(9, 4))
    one = DensityNormalized().fit(X, np.array(["source"] * 30)).anomaly_score(unseen)
    np.testing.assert_array_equal(DensityNormalized().fit(X, DOMAIN).anomaly_score(unseen), one)


def test_a_ratio_has_no_unit_and_a_difference_has_that_of_the_distance(rng):
    X, unseen = rng.normal(size=(30, 4)), rng.normal(size=(9, 4))
    for normalization, factor in (("ratio", 1), ("difference", 7)):
        plain, large = (
            DensityNormalized(normalization=normalization).fit(f * X, DOMAIN).anomaly_score(f * unseen)
            for f in (1, 7)
        )
        np.testing.assert_allclose(large, factor * plain, rtol=1e-9)


@metrics
def test_nothing_is_divided_by_the_distance_of_a_near_copy(rng, metric):
    X = rng.normal(size=(30, 4))
    X[3] = X[2] * (1 + 1e-14)  # equal but for rounding
    new = X[2] + np.array([[0.0, 0, 0, 0], [1, -1, 1, 0]])
    fitted = DensityNormalized(1, metric=metric).fit(X, DOMAIN)
    assert fitted.scales_[[2, 3]] == pytest.approx(0.001 * np.median(fitted.scales_))
    expected = [naive.density_normalized(list(X), x, 1, DISTANCE[metric], "ratio") for x in new]
    np.testing.assert_allclose(fitted.anomaly_score(new), expected, rtol=1e-9, atol=1e-12)
    difference = DensityNormalized(1, metric=metric, normalization="difference").fit(X, DOMAIN)
    assert (difference.scales_[[2, 3]] < 1e-12).all()


@metrics
def test_near_copies_have_no_density_to_divide_by(rng, metric):
    X = rng.normal(size=4) * (1 + 1e-15 * np.arange(30)[:, None])
    with pytest.raises(
        ValueError, match=r"half of the 30 normal clips have 4 others at .* by metric .* are they copies"
    ):
        DensityNormalized(metric=metric).fit(X, DOMAIN)
    fitted = DensityNormalized(metric=metric, normalization="difference").fit(X, DOMAIN)
    assert np.isfinite(fitted.anomaly_score(X)).all()


@pytest.mark.parametrize(
    ("parameters", "n", "message"),
    [
        ({"k": 30}, 30, "^k=30, but there are 30 normal clips; it must be between 1 and 29, for no clip"),
        ({"k": 0}, 30, "^k=0, but there are 30 normal clips; it must be between 1 and 29"),
        ({"normalization": "log"}, 30, "normalization='log': must be 'ratio' or 'difference'"),
        ({"k": 1}, 1, "there is one normal clip, so it has no neighbour"),
    ],
    ids=str,
)
def test_density_normalized_parameters_out_of_range_are_an_error(rng, parameters, n, message):
    with pytest.raises(ValueError, match=message):
        DensityNormalized(**parameters).fit(rng.normal(size=(n, 4)), np.array(["source"] * n))


def test_copies_in_two_domains_are_one_clip(rng):
    X = np.repeat(rng.normal(size=(4, 4)), 2, axis=0)
    with pytest.raises(ValueError, match=r"k=4, but there are 4 normal clips.* \(4 of the 8 are copies"):
        DensityNormalized().fit(X, np.array(["source", "target"] * 4))


def test_what_was_fitted_is_a_copy(rng):
    X, unseen = rng.normal(size=(30, 4)), rng.normal(size=(9, 4))
    fitted = DensityNormalized().fit(X, DOMAIN)
    before = fitted.anomaly_score(unseen)
    X[:] = 0
    np.testing.assert_array_equal(fitted.anomaly_score(unseen), before)
