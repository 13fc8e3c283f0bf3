"""One contract for all back ends; then each against its formula, written out in ``naive``."""

import inspect

import naive
import numpy as np
import pytest
import sklearn.covariance
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from nearfar.backends import BACKENDS, backend_class, learnt, restore

Mahalanobis = backend_class("mahalanobis")
MeanSquaredError = backend_class("mean_squared_error")
SelectiveMahalanobis = backend_class("selective_mahalanobis")

TELL_TARGET = (
    "gaussians",
    "domain_local_density",
    "mem_mixup",
)  # to them "target" is a domain of its own kind, any other name is not
TAKE_ROWS = ("mean_squared_error", "selective_mahalanobis")
CASES = [(name, "vectors") for name in BACKENDS]
CASES += [(name, layout) for name in TAKE_ROWS for layout in ("rows", "uneven rows")]
DOMAIN = np.array(["source"] * 30 + ["target"] * 10)
N, DIM = len(DOMAIN), 4
EXACT = {"rtol": 1e-12, "atol": 0}

seeds = st.integers(0, 2**32 - 1)


def normals(layout, rng, n=N, dim=DIM):
    """Embeddings of n clips, whose mean is not zero and whose dimensions are correlated."""
    mixing = np.eye(dim) + 0.5 * np.tri(dim, k=-1)
    if layout == "vectors":
        return 1 + rng.normal(size=(n, dim)) @ mixing
    if layout == "rows":
        return 1 + rng.normal(size=(n, 6, dim)) @ mixing
    return [1 + rng.normal(size=(5 + i % 3, dim)) @ mixing for i in range(n)]


def some(X, indices):
    return X[indices] if isinstance(X, np.ndarray) else [X[i] for i in indices]


def moved(X, by):
    return X + by if isinstance(X, np.ndarray) else [x + by for x in X]


@pytest.fixture(params=CASES, ids=" ".join)
def case(request):
    return request.param


@pytest.fixture
def cls(case):
    return backend_class(case[0])


@pytest.fixture
def X(case, rng):  # noqa: N802
    return normals(case[1], rng)


@pytest.fixture
def unseen(case, rng):
    return normals(case[1], rng, n=7)


@pytest.fixture
def fitted(cls, X):
    return cls().fit(X, DOMAIN)


def test_fit_returns_itself_and_changes_no_parameter(cls, X):
    backend = cls()
    before = backend.get_params()
    assert backend.fit(X, DOMAIN) is backend
    assert backend.get_params() == before


def test_scores_are_finite_numbers_one_a_clip(fitted, unseen):
    scores = fitted.anomaly_score(unseen)
    assert scores.shape == (7,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert len(set(scores)) == 7


def test_a_score_knows_neither_domain_nor_label(cls):
    assert list(inspect.signature(cls.anomaly_score).parameters) == ["self", "X"]


def test_a_score_does_not_depend_on_the_other_clips(fitted, unseen):
    together = fitted.anomaly_score(unseen)
    alone = np.concatenate([fitted.anomaly_score(some(unseen, [i])) for i in range(7)])
    np.testing.assert_allclose(alone, together, **EXACT)
    order = [3, 0, 6, 2, 5, 1, 4]
    np.testing.assert_allclose(fitted.anomaly_score(some(unseen, order)), together[order], **EXACT)


def test_scoring_changes_nothing_that_was_learnt(fitted, unseen):
    before = {name: value.copy() for name, value in learnt(fitted).items()}
    fitted.anomaly_score(moved(unseen, 50.0))
    assert all(np.array_equal(value, before[name]) for name, value in learnt(fitted).items())


def test_far_away_scores_higher(fitted, X, unseen):
    assert fitted.anomaly_score(moved(unseen, 100.0)).min() > fitted.anomaly_score(X).max()


def test_a_clone_is_unfitted_and_fits_alike(fitted, X, unseen):
    copy = clone(fitted)
    assert not learnt(copy)
    np.testing.assert_array_equal(copy.fit(X, DOMAIN).anomaly_score(unseen), fitted.anomaly_score(unseen))


def test_all_that_was_learnt_ends_in_an_underscore(fitted, unseen):
    assert learnt(fitted)
    attributes = {name for name in vars(fitted) if not name.startswith("_")}
    assert attributes == {name.partition(".")[0] for name in learnt(fitted)} | set(fitted.get_params())
    assert all(array.dtype.kind in "fiu" for array in learnt(fitted).values())
    copy = clone(fitted)
    restore(copy, learnt(fitted))
    np.testing.assert_array_equal(copy.anomaly_score(unseen), fitted.anomaly_score(unseen))


def test_refitting_forgets(case, cls, fitted, rng):
    other, other_domain = normals(case[1], rng, n=20, dim=3), DOMAIN[:20]
    unseen = normals(case[1], rng, n=5, dim=3)
    again, fresh = fitted.fit(other, other_domain), cls().fit(other, other_domain)
    np.testing.assert_array_equal(again.anomaly_score(unseen), fresh.anomaly_score(unseen))


def test_a_single_domain_suffices(cls, X, unseen):
    assert np.isfinite(cls().fit(X, np.array(["source"] * N)).anomaly_score(unseen)).all()


@pytest.mark.parametrize("names", [("undisclosed", "Ziel/2"), ("", "ünïcode domain"), ("1", "10")])
def test_domains_may_be_called_anything(case, cls, fitted, X, unseen, names):
    renamed = np.where(DOMAIN == "source", *names)
    scores = cls().fit(X, renamed).anomaly_score(unseen)
    if case[0] in TELL_TARGET:
        fitted = cls().fit(X, np.where(DOMAIN == "source", "first", "second"))
    np.testing.assert_allclose(scores, fitted.anomaly_score(unseen), **EXACT)


def test_attributes_are_accepted(cls, X, unseen):
    attributes = np.array(["spd_1", "spd_2"] * (N // 2))
    scores = cls().fit(X, DOMAIN, attributes).anomaly_score(unseen)
    assert scores.shape == (7,)


def test_single_precision_scores_much_alike(cls, fitted, X, unseen):
    X, single = (
        v.astype(np.float32) if isinstance(v, np.ndarray) else [x.astype(np.float32) for x in v]
        for v in (X, unseen)
    )
    scores = cls().fit(X, DOMAIN).anomaly_score(single)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, fitted.anomaly_score(unseen), rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("clip", [0, -1])
def test_numbers_that_are_not_finite_are_an_error(cls, fitted, X, unseen, bad, clip):
    X[clip][..., 1] = bad
    unseen[clip][..., 1] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        cls().fit(X, DOMAIN)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        fitted.anomaly_score(unseen)


def awkward_dimension(clips, how):
    """One dimension that says little: constant, zero or twice another one."""
    for clip in [clips] if isinstance(clips, np.ndarray) else clips:
        clip[..., 1] = {"constant": 3.3, "zero": 0.0, "twice another": 2 * clip[..., 0]}[how]
    return clips


@pytest.mark.parametrize("how", ["constant", "zero", "twice another"])
def test_a_dimension_that_says_nothing_gives_finite_scores_or_is_an_error(cls, X, unseen, how):
    X, normal = (awkward_dimension(clips, how) for clips in (X, unseen))
    try:
        fitted = cls().fit(X, DOMAIN)
    except ValueError as error:
        assert "is singular" in str(error)  # noqa: PT017  # of some back ends only
        fitted = cls(shrinkage=0.1).fit(X, DOMAIN)
    scores = fitted.anomaly_score(normal)
    assert np.isfinite(scores).all()
    assert fitted.anomaly_score(moved(normal, -100.0)).min() > np.median(scores)


@pytest.mark.parametrize("where", ["source", "target", "everywhere"])
def test_equal_clips_give_finite_scores_or_an_error_that_names_copies(cls, X, unseen, where):
    equal = np.flatnonzero((where == DOMAIN) | (where == "everywhere"))
    for i in equal[1:]:
        X[i] = X[equal[0]].copy()
    try:
        scores = cls().fit(X, DOMAIN).anomaly_score(unseen)
    except ValueError as error:
        assert "are copies of another clip, and count once" in str(error)  # noqa: PT017  # of some back ends only
    else:
        assert np.isfinite(scores).all()
        assert len(set(scores)) > 1
        assert np.abs(scores).max() < 1e4


@pytest.mark.parametrize("times", [2, 7])
@pytest.mark.parametrize("which", ["one", "some", "all"])
def test_copies_among_the_normal_clips_change_no_score(cls, X, unseen, which, times, rng):
    copied = {"one": [3], "some": [0, 5, 6, 31, 32], "all": range(N)}[which]
    order = rng.permutation([*range(N), *list(copied) * (times - 1)])
    with_copies, domain = some(X, order), DOMAIN[order]
    first = np.sort(
        np.unique(order, return_index=True)[1]
    )  # the clips, in the order in which they come first
    without = cls().fit(some(with_copies, first), domain[first]).anomaly_score(unseen)
    np.testing.assert_array_equal(cls().fit(with_copies, domain).anomaly_score(unseen), without)


def test_a_copy_is_no_copy_in_another_domain(cls, X, unseen):
    X[35] = X[2].copy()
    assert np.isfinite(cls().fit(X, DOMAIN).anomaly_score(unseen)).all()


@pytest.mark.parametrize("size", [1e155, 1e300])
def test_numbers_whose_squares_overflow_are_an_error(cls, fitted, X, unseen, size):
    huge, huge_unseen = (
        c * size if isinstance(c, np.ndarray) else [x * size for x in c] for c in (X, unseen)
    )
    message = r"X has numbers up to .*e\+\d+, whose squares overflow; scale it down"
    with pytest.raises(ValueError, match=message):
        cls().fit(huge, DOMAIN)
    with pytest.raises(ValueError, match=message):
        fitted.anomaly_score(huge_unseen)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error(cls, fitted, unseen, monkeypatch, bad):
    score = cls._score
    monkeypatch.setattr(cls, "_score", lambda self, X: np.append(score(self, X)[:-1], bad))
    with pytest.raises(
        ValueError, match=rf"the score of X\[6\] is {bad:g} \(1 of 7 are not finite\), by back end"
    ):
        fitted.anomaly_score(unseen)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_learnt_and_not_finite_is_an_error(cls, X, monkeypatch, bad):
    learn = cls._learn

    def learn_badly(self, clips):
        learn(self, clips)
        self.bad_ = np.array([1.0, bad])

    monkeypatch.setattr(cls, "_learn", learn_badly)
    with pytest.raises(
        ValueError, match=r"bad_ of back end \w+ is not finite; X has numbers up to \d.*: scale it"
    ):
        cls().fit(X, DOMAIN)


def test_a_square_that_overflows_in_single_precision_is_an_error():
    residuals = np.full((2, 3, 4), 1e20, np.float32)
    fitted = MeanSquaredError().fit(residuals, DOMAIN[:2])
    with pytest.raises(
        ValueError, match=r"the score of X\[0\] is inf .*2 of 2 .* by back end MeanSquaredError"
    ):
        fitted.anomaly_score(residuals)


def test_scoring_before_fitting_is_an_error(cls, unseen):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        cls().anomaly_score(unseen)


def test_other_dimensions_than_fitted_are_an_error(case, fitted, rng):
    with pytest.raises(ValueError, match=r"X has 5 (dimensions|features)"):
        fitted.anomaly_score(normals(case[1], rng, dim=DIM + 1))


def test_unknown_back_end_names_the_nearest():
    with pytest.raises(ValueError, match="no back end 'mahalanobs'; did you mean 'mahalanobis'"):
        backend_class("mahalanobs")


# Mahalanobis


@given(seeds, st.integers(2, 25), st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_mahalanobis_is_its_formula(seed, n, dim, n_domains):
    rng = np.random.default_rng(seed)
    domain = np.array([f"domain {i % n_domains}" for i in range(n + 2 * n_domains)])
    X, unseen = 10 + rng.normal(size=(len(domain), dim)), 10 + 3 * rng.normal(size=(4, dim))
    expected = [naive.nearest_domain_distance(X, domain, x) for x in unseen]
    np.testing.assert_allclose(Mahalanobis().fit(X, domain).anomaly_score(unseen), expected, rtol=1e-6)


@pytest.mark.parametrize(("n", "dim"), [(200, 3), (40, 40), (12, 50)])
def test_shrinkage_is_ledoit_and_wolfs(rng, n, dim):
    X = rng.normal(size=(n, dim)) * np.linspace(1, 4, dim)
    domain = np.array(["source", "target"] * (n // 2))
    centred = X - np.where((domain == "source")[:, None], *(X[i::2].mean(axis=0) for i in (0, 1)))
    covariance, shrinkage = naive.ledoit_wolf(centred)
    fitted = Mahalanobis().fit(X, domain)
    assert fitted.shrinkage_ == pytest.approx(shrinkage, rel=1e-9)
    np.testing.assert_allclose(fitted.precision_, np.linalg.inv(covariance), rtol=1e-7, atol=1e-9)
    from_library = sklearn.covariance.ledoit_wolf(centred, assume_centered=True)
    assert shrinkage == pytest.approx(from_library[1], rel=1e-9)
    np.testing.assert_allclose(covariance, from_library[0], rtol=1e-9, atol=1e-12)


def test_mahalanobis_measures_from_the_nearest_domain(rng):
    X = rng.normal(size=(N, DIM)) + np.where(DOMAIN == "target", 50.0, 0.0)[:, None]
    fitted = Mahalanobis().fit(X, DOMAIN)
    source, target = (X[d == DOMAIN].mean(axis=0) for d in ("source", "target"))
    np.testing.assert_allclose(fitted.means_, [source, target])
    at_means_and_between = fitted.anomaly_score(np.stack([source, target, (source + target) / 2]))
    assert at_means_and_between[:2] == pytest.approx(0, abs=1e-12)
    assert at_means_and_between[2] > 1000  # of one domain with both clouds it would be 0


@pytest.mark.parametrize(("domain", "copies"), [("ssss", 3), ("ssst", 2), ("sstt", 2)])
def test_mahalanobis_of_equal_clips_is_an_error(domain, copies):
    X = np.array([[1.1, 2.2] if d == "s" else [3.3, 4.4] for d in domain])
    message = (
        rf"needs at least .* normal clips \({copies} of the 4 are copies of another clip, and count once\)"
    )
    with pytest.raises(ValueError, match=message):
        Mahalanobis().fit(X, np.array(list(domain)))


def test_mahalanobis_of_clips_that_differ_by_rounding_only_is_an_error():
    X = np.array([[1.1, 0.1], [np.nextafter(1.1, 2), 0.1], [1.1, np.nextafter(0.1, 0)]])
    with pytest.raises(ValueError, match=r"the 3 normal clips do not differ .* copies of one recording"):
        Mahalanobis().fit(X, np.array(["source"] * 3))


def test_two_clips_with_many_copies_are_two_clips(rng):
    """Else Ledoit and Wolf would shrink by nothing, and the inverse would be of rounding errors."""
    X = np.repeat(rng.normal(size=(2, DIM)), 20, axis=0)
    with pytest.raises(ValueError, match=r"2 normal clips in 1 domain: .* at least 3"):
        Mahalanobis().fit(X, np.array(["source"] * N))


def test_a_covariance_that_cannot_be_inverted_is_an_error(rng):
    with pytest.raises(
        ValueError, match=r"40 normal clips cannot be inverted; X has numbers up to .*e-200: scale"
    ):
        Mahalanobis().fit(1e-200 * rng.normal(size=(N, DIM)), DOMAIN)
    with pytest.raises(
        ValueError, match=r"precision_ of back end Mahalanobis is not finite; .*e-160: scale it"
    ):
        Mahalanobis().fit(1e-160 * rng.normal(size=(N, DIM)), DOMAIN)


def test_mahalanobis_of_one_clip_is_an_error(rng):
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        Mahalanobis().fit(rng.normal(size=(1, DIM)), np.array(["source"]))


@pytest.mark.parametrize("domain", [["a", "a"], ["a", "a", "b"]])
def test_mahalanobis_of_too_few_clips_is_an_error(rng, domain):
    """Two clips about their mean have equal outer products: Ledoit and Wolf would shrink by nothing."""
    needed = len(set(domain)) + 2
    X = rng.normal(size=(needed, DIM))
    with pytest.raises(ValueError, match=f"at least {needed}; give more normal clips"):
        Mahalanobis().fit(X[: len(domain)], np.array(domain))
    scores = Mahalanobis().fit(X, np.array([*domain, "a"])).anomaly_score(rng.normal(size=(20, DIM)))
    assert (scores > 0).all()


# SelectiveMahalanobis


def shuffled_batches(n, share, size, seed):
    order = np.random.default_rng(seed).permutation(n)[: int(share * n)]
    return [order[i : i + size] for i in range(0, len(order), size)]


@pytest.mark.parametrize("reduction", ["clip_mean", "per_frame"])
@given(seeds, st.integers(1, 5), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_selective_score_is_its_formula(reduction, seed, dim, n_rows):
    rng = np.random.default_rng(seed)
    fitted = SelectiveMahalanobis(reduction).fit(rng.normal(size=(N, 6, dim)), DOMAIN)
    rows = rng.normal(size=(n_rows, dim))
    twin = {"clip_mean": naive.mean_of_whole_matrix, "per_frame": naive.mean_of_row_lengths}[reduction]
    expected = min(twin(rows, precision) for precision in fitted.precisions_)
    assert fitted.anomaly_score(rows[None])[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_two_reductions_differ(rng):
    X = normals("rows", rng)
    mean, per_frame = (
        SelectiveMahalanobis(reduction).fit(X, DOMAIN).anomaly_score(X)
        for reduction in ("clip_mean", "per_frame")
    )
    assert (mean < per_frame).all()  # the length of a mean is below the mean of lengths


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5])
@pytest.mark.parametrize(("size", "n_rows"), [(None, 1), (16, 1), (None, 5), (7, 5), (1, 5)])
def test_covariances_are_those_of_the_official_pass(rng, share, size, n_rows):
    X = 3 + rng.normal(size=(N, 4 * n_rows, DIM))  # four vectors a clip
    backend = SelectiveMahalanobis(
        batch_size=size, rows_per_vector=n_rows, sample_share=share, random_state=5
    )
    batches = shuffled_batches(4 * N, share, size or 4 * N, seed=5)
    if n_rows == 1 and size == 1:
        pytest.skip("one row about its own mean is zero")
    covariances = naive.official_covariances(
        X.reshape(4 * N, n_rows * DIM), np.repeat(DOMAIN, 4), batches, dim=DIM
    )
    expected = [np.linalg.inv(covariances[d]) for d in ("source", "target")]
    np.testing.assert_allclose(backend.fit(X, DOMAIN).precisions_, expected, rtol=1e-9, atol=1e-12)


def test_uneven_rows_are_the_same_vectors(rng):
    X = normals("rows", rng)
    ragged = [row for clip in X for row in (clip[:2], clip[2:])]  # the same rows in clips of 2 and 4
    whole = SelectiveMahalanobis(rows_per_vector=2).fit(X, DOMAIN)
    parts = SelectiveMahalanobis(rows_per_vector=2).fit(ragged, np.repeat(DOMAIN, 2))
    np.testing.assert_array_equal(parts.precisions_, whole.precisions_)


def test_the_shuffle_is_of_the_seed(rng):
    X = normals("rows", rng)
    first, again, other = (
        SelectiveMahalanobis(batch_size=8, random_state=seed).fit(X, DOMAIN).precisions_ for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("shrinkage", [0.25, 1.0])
def test_selective_shrinkage_keeps_the_trace(rng, shrinkage):
    X = normals("rows", rng)
    plain, shrunk = (
        np.linalg.inv(SelectiveMahalanobis(shrinkage=s).fit(X, DOMAIN).precisions_) for s in (0.0, shrinkage)
    )
    for before, after in zip(plain, shrunk, strict=True):
        identity = np.trace(before) / DIM * np.eye(DIM)
        np.testing.assert_allclose(after, (1 - shrinkage) * before + shrinkage * identity, atol=1e-12)


def test_singular_covariance_names_rows_and_option(rng):
    X = rng.normal(size=(34, DIM))
    domain = np.array(["source"] * 30 + ["target"] * 4)  # four rows about their mean span three dimensions
    message = (
        "domain 'target' is singular: 4 dimensions, but 4 rows centred in 1 batches; give more normal "
        r"clips, or set shrinkage \(now 0.0\) to 0.1"
    )
    with pytest.raises(ValueError, match=message):
        SelectiveMahalanobis().fit(X, domain)
    assert np.isfinite(SelectiveMahalanobis(shrinkage=0.1).fit(X, domain).anomaly_score(X)).all()


def test_singular_by_centring_in_batches(rng):
    with pytest.raises(ValueError, match="but 40 rows centred in 40 batches"):
        SelectiveMahalanobis(batch_size=1).fit(rng.normal(size=(N, DIM)), np.array(["source"] * N))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"reduction": "mean"}, "reduction='mean': must be 'clip_mean' or 'per_frame'"),
        ({"shrinkage": -0.1}, "shrinkage=-0.1: must be between 0 and 1"),
        ({"shrinkage": 1.1}, "shrinkage=1.1: must be between 0 and 1"),
        ({"shrinkage": float("nan")}, "shrinkage=nan: must be between 0 and 1"),
        ({"sample_share": 0.0}, "sample_share=0.0: must be above 0 and at most 1"),
        ({"sample_share": 1.5}, "sample_share=1.5: must be above 0 and at most 1"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1, or None"),
        ({"rows_per_vector": 0}, "rows_per_vector=0: must be at least 1"),
        ({"rows_per_vector": 5}, "rows_per_vector=5: a clip has 6 rows, which is not a multiple of it"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_selective_parameters_out_of_range_are_an_error(rng, parameters, message):
    backend = SelectiveMahalanobis(**parameters)  # an estimator checks when it is fitted
    with pytest.raises(ValueError, match=message):
        backend.fit(normals("rows", rng), DOMAIN)


def test_a_domain_that_the_sample_misses_is_an_error(rng):
    X, domain = rng.normal(size=(N, 6, DIM)), np.array(["source"] * (N - 1) + ["target"])
    backend = SelectiveMahalanobis(sample_share=0.1, rows_per_vector=6, random_state=0)
    assert N - 1 not in np.random.default_rng(0).permutation(N)[:4]  # the only vector of the target domain
    with pytest.raises(ValueError, match="the sample has no vector of domain 'target'"):
        backend.fit(X, domain)


# MeanSquaredError


@given(seeds, st.integers(1, 5), st.lists(st.integers(1, 6), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_mean_squared_error_is_its_formula(seed, dim, n_rows):
    rng = np.random.default_rng(seed)
    clips = [rng.normal(size=(n, dim)) for n in n_rows]
    scores = MeanSquaredError().fit(clips, np.array(["source"] * len(clips))).anomaly_score(clips)
    expected = [sum(v**2 for row in clip for v in row) / clip.size for clip in clips]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_mean_squared_error_sums_in_double_precision():
    residuals = np.full((1, 4000, 640), 0.1, np.float32)
    score = MeanSquaredError().fit(residuals, np.array(["source"])).anomaly_score(residuals)[0]
    assert score == pytest.approx(float(np.float32(0.1) ** 2), rel=1e-12)


def test_mean_squared_error_of_other_dimensions_is_an_error(rng):
    fitted = MeanSquaredError().fit(normals("rows", rng), DOMAIN)
    with pytest.raises(ValueError, match="X has 3 dimensions; it was fitted with 4"):
        fitted.anomaly_score(normals("rows", rng, dim=3))
