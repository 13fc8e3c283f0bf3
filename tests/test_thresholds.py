"""Decisions: p-values, thresholds, and the folds that give scores of unseen clips."""

import re

import naive
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats
from synthetic import write_machine

from nearfar.decisions.folds import deal
from nearfar.decisions.thresholds import (
    THRESHOLDS,
    Conformal,
    Gamma,
    ThresholdConfig,
    _likeliest_gamma,
    is_anomaly,
    refuse_unattainable,
    smallest_rate,
)
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.systems import configuration

ROUNDING = 1e-12  # relative; a rate of 1 - 0.9 means 0.1

few_values = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=60)  # many ties
any_values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
normal_scores = st.one_of(few_values, any_values)
rates = st.one_of(
    st.floats(0.01, 0.99),
    st.integers(1, 99).map(lambda percent: percent / 100),
    st.integers(1, 99).map(lambda percent: 1 - percent / 100),
    st.tuples(st.integers(1, 60), st.integers(2, 61)).map(lambda kn: min(kn[0], kn[1] - 1) / kn[1]),
)


@given(normal_scores, st.lists(st.floats(-10, 10), max_size=5))
def test_p_values_are_ranks(normals, others):
    scores = np.array([*normals, *others])
    threshold = Conformal.fit(np.array(normals), false_alarm_rate=0.5)
    expected = [naive.p_value(normals, score) for score in scores]
    np.testing.assert_array_equal(threshold.p_value(scores), expected)
    assert threshold.floor == 1 / (len(normals) + 1)
    assert threshold.floor <= threshold.p_value(scores).min()
    assert threshold.p_value(scores).max() <= 1


@settings(max_examples=150)
@given(normal_scores, rates)
@example([float(i) for i in range(19)], 0.05)
@example([float(i) for i in range(99)], 0.29)  # 0.29 * 100 is below 29
@example([float(i) for i in range(9)], 1 - 0.9)  # is below 0.1
def test_a_decision_is_a_p_value_up_to_the_rate(normals, rate):
    if rate * (len(normals) + 1) < 1 - ROUNDING:
        with pytest.raises(ValueError, match="attain no rate below"):
            Conformal.fit(np.array(normals), false_alarm_rate=rate)
        return
    threshold = Conformal.fit(np.array(normals), false_alarm_rate=rate)
    known = np.array(normals)
    scores = np.concatenate([known, known - 0.5, known + 0.5, [-1e9, 1e9]])
    as_p_values = threshold.p_value(scores) <= rate * (1 + ROUNDING)
    np.testing.assert_array_equal(is_anomaly(threshold, scores), as_p_values)
    assert threshold.value in known


def test_conformal_is_learnt_in_any_order(rng):
    scores = rng.normal(size=50)
    one, other = (Conformal.fit(s, false_alarm_rate=0.1) for s in (scores, scores[::-1].copy()))
    assert one.value == other.value
    np.testing.assert_array_equal(one.normal_scores, np.sort(scores))


@pytest.mark.parametrize("n", [19, 30, 100])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25])
def test_false_alarms_are_as_rare_as_asked(rng, n, rate):
    trials = 4000
    flagged = 0
    for _ in range(trials):
        *normals, new = rng.exponential(size=n + 1)
        flagged += is_anomaly(Conformal.fit(np.array(normals), false_alarm_rate=rate), new)
    exact = np.floor(rate * (n + 1) + 1e-9) / (n + 1)  # of ranks without ties; at most the rate
    assert exact <= rate + 1e-9
    assert flagged <= stats.binom.isf(1e-6, trials, rate)
    assert stats.binom.ppf(1e-6, trials, exact) <= flagged <= stats.binom.isf(1e-6, trials, exact)


@given(st.one_of(st.integers(1, 499).map(lambda k: k / 1000), st.integers(3, 3000).map(lambda n: 1 / n)))
@example(0.05)
@example(1 / 49)
def test_unattainable_rate_says_how_many_clips_it_takes(rate):
    with pytest.raises(ValueError, match="attain no rate below 1/2") as error:
        Conformal.fit(np.zeros(1), false_alarm_rate=rate)
    needed = int(re.search(r"fit to (\d+) normal clips or more", str(error.value))[1])
    Conformal.fit(np.zeros(needed), false_alarm_rate=rate)
    with pytest.raises(ValueError, match="attain no rate below"):
        Conformal.fit(np.zeros(needed - 1), false_alarm_rate=rate)


def test_how_many_clips_it_takes_counts_those_that_are_fitted_on(tmp_path):
    machine = datasets.load_machine(write_machine(tmp_path, "fan", train=8, target=2, test=0))
    held_out = {"calibration": "held_out", "folds": 5, "false_alarm_rate": 0.2}
    system = configuration.load(
        "spectral_near", {f"threshold.{key}": value for key, value in held_out.items()}
    )
    with pytest.raises(ValueError, match="attain no rate below 1/3") as error:
        Detector.fit(machine, system, jobs=Jobs(tmp_path / "cache"))
    assert int(re.search(r"fit to (\d+) normal clips or more", str(error.value))[1]) > 10


def test_unattainable_rate_says_what_is_attainable():
    message = (
        r"the scores of 9 unseen normal clips attain no rate below 1/10 = 0\.1; .* fit to 19 normal clips"
    )
    with pytest.raises(ValueError, match=message):
        Conformal.fit(np.arange(9.0), false_alarm_rate=0.05)
    Conformal.fit(np.arange(9.0), false_alarm_rate=0.1)


# gamma


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_gamma_is_scipys_quantile(rng, rate):
    scores = rng.gamma(3, 2, size=300) + 5
    threshold = Gamma.fit(scores, false_alarm_rate=rate)
    fitted = stats.gamma(*stats.gamma.fit(np.sort(scores)))
    assert threshold.value == pytest.approx(fitted.isf(rate), rel=1e-12)
    new = np.array([0.0, 5.0, 8.0, 20.0, 1e6])
    np.testing.assert_allclose(threshold.p_value(new), fitted.sf(new), rtol=1e-12)
    assert threshold.p_value(np.array([threshold.value]))[0] == pytest.approx(rate)


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_gamma_attains_the_rate_on_a_gamma(rng, rate):
    threshold = Gamma.fit(rng.gamma(4, 3, size=2000), false_alarm_rate=rate)
    assert is_anomaly(threshold, rng.gamma(4, 3, size=20000)).mean() == pytest.approx(rate, abs=0.02)


def test_gamma_decisions_are_p_values_below_the_rate(rng):
    scores = rng.gamma(2, size=50)
    threshold = Gamma.fit(scores, false_alarm_rate=0.1)
    new = np.linspace(0, 10, 1001)
    np.testing.assert_array_equal(is_anomaly(threshold, new), threshold.p_value(new) < 0.1)
    assert threshold.floor == 0


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
def test_gamma_of_equal_or_too_few_scores_is_an_error(scores):
    message = "equal or too few normal scores: a gamma needs 3" if scores else "no normal scores"
    with pytest.raises(ValueError, match=message):
        Gamma.fit(np.array(scores), false_alarm_rate=0.1)


def normal_quantiles(n):
    return stats.norm.ppf((np.arange(n) + 0.5) / n)


def lognormal(n, deviation=0.8):
    return np.exp(4 + deviation * normal_quantiles(n))


SCORES_THAT_GO_WRONG = {
    "scipy stops early, 60": lognormal(60),
    "scipy stops early, 1000": lognormal(1000),
    "scipy stops early, heavy tail": lognormal(300, 1.5),
    "two domains": np.concatenate([normal_quantiles(100), 10 + 3 * normal_quantiles(20)]),
    "one outlier": np.append(100 + 3 * normal_quantiles(40), 200.0),
    "one outlier, far": np.append(100 + 3 * normal_quantiles(60), 1e6),
    "skewed to the left": 200 - np.exp(2 + 0.8 * normal_quantiles(60)),
    "two clusters": np.concatenate([normal_quantiles(60), 100 + 3 * normal_quantiles(60)]),
    "nearly all equal": np.append(np.ones(58), [1.1, 1.3]),
}


@pytest.mark.parametrize(
    "move", [lambda x: x, lambda x: 1e-9 * x, lambda x: 1e5 + x], ids=["", "tiny", "far"]
)
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25])
@pytest.mark.parametrize("scores", SCORES_THAT_GO_WRONG.values(), ids=SCORES_THAT_GO_WRONG)
def test_about_the_asked_share_of_its_own_scores_lies_above_a_gamma(scores, rate, move):
    scores = move(scores)
    n, threshold = len(scores), Gamma.fit(scores, false_alarm_rate=rate)
    above = is_anomaly(threshold, scores).sum()
    tied = (scores == threshold.value).sum() if threshold.fitted_by == "ranks" else 0
    assert rate * n / 2 - 1 <= above + tied
    assert above <= 1.5 * rate * n + 2
    p_values = threshold.p_value(scores)
    np.testing.assert_array_equal(
        is_anomaly(threshold, scores), p_values <= rate * (1 + ROUNDING) if tied else p_values < rate
    )
    assert p_values.min() >= threshold.floor


@pytest.mark.parametrize(
    ("name", "fitted_by"),
    [
        ("scipy stops early, 60", "likelihood"),
        ("scipy stops early, 1000", "likelihood"),
        ("skewed to the left", "ranks"),
        ("one outlier", "ranks"),
        ("nearly all equal", "ranks"),
    ],
)
def test_a_gamma_that_contradicts_its_scores_falls_back_in_order(name, fitted_by, caplog):
    threshold = Gamma.fit(SCORES_THAT_GO_WRONG[name], false_alarm_rate=0.1)
    assert threshold.fitted_by == fitted_by
    told = "no gamma distribution agrees" in caplog.text and "threshold.method='conformal'" in caplog.text
    assert told == (fitted_by == "ranks")


def test_ranks_instead_of_a_gamma_are_those_of_conformal():
    scores = SCORES_THAT_GO_WRONG["one outlier"]
    threshold, conformal = (kind.fit(scores, false_alarm_rate=0.1) for kind in (Gamma, Conformal))
    new = np.linspace(90, 250, 99)
    assert (threshold.value, threshold.floor) == (conformal.value, conformal.floor)
    np.testing.assert_array_equal(threshold.p_value(new), conformal.p_value(new))


def test_scores_without_a_gamma_and_too_few_for_ranks_are_an_error():
    message = (
        r"no gamma distribution agrees with the 41 .* attain no rate below 1/42 .* fit to 99 normal clips or"
    )
    with pytest.raises(ValueError, match=message):
        Gamma.fit(SCORES_THAT_GO_WRONG["one outlier"], false_alarm_rate=0.01)


def test_the_likeliest_gamma_is_the_one_that_scores_were_drawn_from(rng):
    shape, location, scale = 3.0, 5.0, 2.0
    scores = np.sort(stats.gamma(shape, location, scale).rvs(20000, random_state=rng))
    assert _likeliest_gamma(scores) == pytest.approx((shape, location, scale), rel=0.1)


@pytest.mark.parametrize(
    "scores", [np.array([-1e308, 0.0, 1.0, 1e308]), np.array([1.0, 1.0, 1.0 + 1e-15, 2e200])]
)
def test_scores_at_the_end_of_the_numbers_have_a_threshold(scores):
    threshold = Gamma.fit(np.repeat(scores, 10), false_alarm_rate=0.3)
    assert np.isfinite(threshold.value)
    assert is_anomaly(threshold, scores).sum() <= 1


def test_scipy_that_gives_up_is_no_error(monkeypatch):
    def gives_up(*_):
        raise stats.FitError("does not converge")

    monkeypatch.setattr(stats.gamma, "fit", gives_up)
    assert Gamma.fit(lognormal(60), false_alarm_rate=0.1).fitted_by == "likelihood"


# both


@pytest.mark.parametrize("kind", THRESHOLDS.values(), ids=THRESHOLDS)
class TestEveryThreshold:
    def test_a_higher_score_has_no_higher_p_value(self, kind, rng):
        threshold = kind.fit(rng.gamma(2, size=40), false_alarm_rate=0.1)
        p_values = threshold.p_value(np.linspace(-1, 20, 500))
        assert (np.diff(p_values) <= 0).all()
        assert threshold.floor <= p_values.min()
        assert p_values.max() <= 1

    def test_a_lower_rate_flags_less(self, kind, rng):
        scores = rng.gamma(2, size=200)
        values = [kind.fit(scores, false_alarm_rate=rate).value for rate in (0.5, 0.2, 0.1, 0.05, 0.01)]
        assert values == sorted(values)

    def test_comes_back_from_its_scores_and_rate(self, kind, rng):
        threshold = kind.fit(rng.gamma(2, size=40), false_alarm_rate=0.1)
        again = kind(threshold.normal_scores, threshold.false_alarm_rate)
        assert again.value == threshold.value
        new = rng.gamma(2, size=10)
        np.testing.assert_array_equal(again.p_value(new), threshold.p_value(new))

    def test_does_not_touch_its_scores(self, kind, rng):
        scores = rng.gamma(2, size=40)
        before = scores.copy()
        kind.fit(scores, false_alarm_rate=0.1)
        np.testing.assert_array_equal(scores, before)

    def test_scores_that_are_not_finite_are_an_error(self, kind):
        with pytest.raises(ValueError, match="2 of 5 normal scores are not finite"):
            kind.fit(np.array([1.0, np.nan, 2.0, np.inf, 3.0]), false_alarm_rate=0.5)

    @pytest.mark.parametrize("many", [False, True])
    def test_a_score_that_is_not_a_number_is_neither_normal_nor_an_anomaly(self, kind, many):
        threshold = kind.fit(np.arange(40.0), false_alarm_rate=0.1)
        scores = np.array([1.0, np.nan, 50.0] if many else np.nan)
        message = "1 of 3 scores are NaN" if many else "1 of 1 scores are NaN: not a number is neither normal"
        with pytest.raises(ValueError, match=message):
            is_anomaly(threshold, scores)
        with pytest.raises(ValueError, match=message):
            threshold.p_value(scores)
        assert is_anomaly(threshold, np.array([-np.inf, np.inf])).tolist() == [False, True]

    def test_no_scores_are_an_error(self, kind):
        with pytest.raises(ValueError, match=r"no normal scores: .* that the fit has not seen"):
            kind.fit(np.array([]), false_alarm_rate=0.5)


# folds

counts = st.tuples(st.integers(1, 30), st.integers(0, 12), st.integers(0, 3))


def domains_of(counts, seed=0):
    of_each = [
        name for name, n in zip(("source", "target", "undisclosed"), counts, strict=True) for _ in range(n)
    ]
    return np.random.default_rng(seed).permutation(np.array(of_each))


@given(counts, st.integers(2, 12), st.integers(0, 5))
def test_folds_are_a_partition_stratified_by_domain(counts, n_folds, seed):
    domain = domains_of(counts)
    pairs = list(deal(domain, ThresholdConfig(folds=n_folds), seed=seed).pairs)
    assert len(pairs) == min(n_folds, len(domain))
    assert sorted(np.concatenate([held_out for _, held_out in pairs])) == list(range(len(domain)))
    for fitted_on, held_out in pairs:
        assert sorted([*fitted_on, *held_out]) == list(range(len(domain)))
    for d in {*domain}:
        of_domain = [int((domain[held_out] == d).sum()) for _, held_out in pairs]
        assert max(of_domain) - min(of_domain) <= 1
    sizes = [len(held_out) for _, held_out in pairs]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


@given(counts, st.integers(2, 12), st.integers(0, 5))
def test_held_out_is_the_first_fold(counts, n_folds, seed):
    domain = domains_of(counts)
    every = list(deal(domain, ThresholdConfig(folds=n_folds), seed=seed).pairs)
    only = list(deal(domain, ThresholdConfig(folds=n_folds, calibration="held_out"), seed=seed).pairs)
    assert len(only) == 1
    for one, other in zip(only[0], every[0], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_folds", [12, 13, 1000])
def test_as_many_folds_as_clips_leave_one_out(n_folds):
    pairs = list(deal(domains_of((9, 3, 0)), ThresholdConfig(folds=n_folds), seed=0).pairs)
    assert len(pairs) == 12
    assert all(len(held_out) == 1 and len(fitted_on) == 11 for fitted_on, held_out in pairs)


def test_folds_are_of_the_seed():
    domain = domains_of((20, 5, 0))

    def parts(seed):
        return [held_out.tolist() for _, held_out in deal(domain, ThresholdConfig(), seed=seed).pairs]

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)


# configuration


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"false_alarm": 0.1}, "Extra inputs"),
        ({"method": "quantile"}, "'conformal', 'gamma' or 'none'"),
        ({"calibration": "none"}, "'cross_fit' or 'held_out'"),
        ({"false_alarm_rate": 0}, "greater than 0"),
        ({"false_alarm_rate": 1}, "less than 1"),
        ({"false_alarm_rate": float("nan")}, r"should be (greater than 0|less than 1)"),
        ({"false_alarm_rate": "low"}, "should be a valid number"),
        ({"folds": 1}, "greater than or equal to 2"),
        ({"folds": 2.5}, "should be a valid integer"),
    ],
    ids=lambda value: "-".join(map(str, value.items())) if isinstance(value, dict) else "",
)
def test_a_bad_setting_is_an_error(setting, message):
    with pytest.raises(ValidationError, match=message):
        ThresholdConfig(**setting)


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="Instance is frozen"):
        ThresholdConfig().folds = 5


@pytest.mark.parametrize("n", [1, 2, 12, 18, 19, 28, 41, 199, 1234, 54321])
def test_the_smallest_rate_that_an_error_names_is_not_refused(n):
    named = float(re.split("= |about ", smallest_rate(n))[1].rstrip(")"))
    refuse_unattainable(ThresholdConfig(false_alarm_rate=named), n)
    assert named == pytest.approx(1 / (n + 1), rel=0.02)
