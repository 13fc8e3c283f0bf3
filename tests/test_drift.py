"""The test for slow changes: its statistics against slow twins and scipy, its false rate, what it finds."""

from __future__ import annotations

import dataclasses
from collections import Counter

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nearfar.decisions import drift
from nearfar.decisions.drift import DAY, FEWEST, HOUR, Blocks

RATE = 0.1  # false rate of the simulations here
TRIALS = 200
FEW = 199  # series for each p-value
CHANCE = RATE + 3 * np.sqrt(RATE * (1 - RATE) / TRIALS)  # what a test with this rate stays below
values = st.lists(st.integers(-5, 5), min_size=8, max_size=14)  # with many that are equal


def of_days(y, number=None):
    """Blocks of a day with these values."""
    y = np.asarray(y, float)
    number = np.arange(len(y)) if number is None else np.asarray(number)
    return Blocks(DAY, number, y, np.stack([number * DAY, y], axis=1))


def autoregressive(n, coefficient, rng):
    y = rng.standard_normal(n)
    for i in range(1, n):
        y[i] = coefficient * y[i - 1] + np.sqrt(1 - coefficient**2) * y[i]
    return y


def found(y, rate=RATE):
    return drift.change(of_days(y), false_rate=rate, simulated=FEW)


# statistics


@given(values)
def test_kendall_is_the_count_of_pairs(y):
    assert drift.kendall(np.array(y, float)) == naive.kendall(y)
    assert drift.kendall(np.array([y, y[::-1]], float)).tolist() == [naive.kendall(y), -naive.kendall(y)]


def test_kendall_and_its_variance_are_those_of_scipy(rng):
    for n in (10, 23):
        y = rng.standard_normal(n)
        of_scipy = stats.kendalltau(np.arange(n), y, method="asymptotic")
        size = drift.kendall(y)
        assert size / (n * (n - 1) / 2) == pytest.approx(of_scipy.statistic)
        z = abs(size) / np.sqrt(drift.kendall_variance(n, 0.0))
        assert 2 * stats.norm.sf(z) == pytest.approx(of_scipy.pvalue)


@pytest.mark.parametrize(("coefficient", "within"), [(0.0, 1e-12), (0.3, 0.02), (0.6, 0.05), (0.8, 0.12)])
def test_the_variance_under_dependence_is_near_the_exact_one(coefficient, within):
    """The formula is an approximation. That is no harm: p-values are simulated."""
    assert drift.kendall_variance(16, coefficient) == pytest.approx(
        naive.kendall_variance(16, coefficient), rel=within
    )


def test_steps_and_lines_are_compared_by_what_they_leave(rng):
    t = np.arange(12.0)
    y = rng.standard_normal((5, 3, 12))
    expected = np.array([[naive.left_by_step_and_line(one.tolist()) for one in some] for some in y])
    constant, of_step, of_line = np.moveaxis(expected, -1, 0)
    np.testing.assert_allclose(drift.sharpness(y), np.log(constant / of_step))
    np.testing.assert_allclose(drift.straightness(y, t), np.log(of_step / of_line))


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=12))
def test_the_best_step_is_found_by_trying_all(y):
    place, before, after = drift.step(np.array(y))
    k, a, b = naive.step(y, drift.ENDS)

    def left(place):
        parts = np.array(y[:place]), np.array(y[place + 1 :])
        return sum(((part - part.mean()) ** 2).sum() for part in parts)

    assert left(int(place)) == pytest.approx(left(k), abs=1e-9)
    if int(place) == k:
        assert (float(before), float(after)) == pytest.approx((a, b), abs=1e-9)


def test_a_step_in_the_middle_of_a_day_is_in_that_day():
    place, before, after = drift.step(np.array([1.0, 1, 1, 1, 4, 9, 9, 9]))
    assert (int(place), float(before), float(after)) == (4, 1.0, 9.0)


@pytest.mark.parametrize("n", [10, 25])
def test_the_slope_and_its_interval_are_those_of_scipy(n, rng):
    t = np.sort(rng.choice(60, n, replace=False)).astype(float)
    y = 0.1 * t + rng.standard_normal(n)
    spread = stats.norm.isf(0.025) * np.sqrt(drift.kendall_variance(n, 0.0))
    of_scipy = stats.theilslopes(y, t, alpha=0.95)
    expected = (of_scipy.slope, of_scipy.low_slope, of_scipy.high_slope)
    assert drift.sen(y, t, spread=float(spread)) == pytest.approx(expected)


# blocks


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=4, max_size=4), min_size=3, max_size=6
    )
)
def test_a_median_polish_is_the_one_by_hand(table):
    table = [row for row in table if any(v is not None for v in row)] or [[1, 2, 3, 4]]
    array = np.array([[np.nan if v is None else v for v in row] for row in table], float)
    expected = naive.median_polish(table, drift.POLISHES)
    for own, by_hand in zip(drift.median_polish(array), expected, strict=True):
        np.testing.assert_allclose(own, by_hand, atol=1e-12)


def test_a_block_is_the_middle_of_the_medians_of_its_hours(rng):
    """Of whole days without a cycle, in any order."""
    t = np.repeat(np.arange(48.0), 5) * HOUR + rng.uniform(0, HOUR, 240)
    y = rng.standard_normal(240)
    order = rng.permutation(240)
    own = drift.blocks(t[order], y[order])
    hours = np.median(y.reshape(48, 5), axis=1)
    np.testing.assert_array_equal(own.number, [0, 1])
    by_hour = hours.reshape(2, 24).mean(axis=0)  # of two days, the median
    np.testing.assert_allclose(
        own.values, np.median(hours.reshape(2, 24) - by_hour, axis=1) + np.median(by_hour)
    )


def test_shifts_and_missing_hours_make_no_difference():
    hours = np.arange(20 * 24)
    cycle = 6.0 * ((hours % 24 > 6) & (hours % 24 < 22))
    slow = 0.5 * (hours // 24)
    gone = (hours < 10) | (hours > 20 * 24 - 9) | ((hours // 24 == 7) & (hours % 24 < 11))
    own = drift.blocks(hours * HOUR, np.where(gone, np.nan, cycle + slow))
    np.testing.assert_array_equal(own.number, np.arange(20))
    np.testing.assert_allclose(np.diff(own.values), 0.5, atol=1e-12)


def test_a_day_of_a_few_hours_has_no_value():
    hours = np.arange(12 * 24)
    own = drift.blocks(hours * HOUR, np.where((hours // 24 == 5) & (hours % 24 > 3), np.nan, 1.0))
    assert 5 not in own.number
    assert (len(own.number), own.span) == (11, 12)


def test_one_block_is_a_week_if_it_is_asked_for():
    hours = np.arange(10 * 168)
    weekend = hours % 168 >= 120
    own = drift.blocks(hours * HOUR, np.where(weekend, -9.0, 0.0) + hours // 168, seconds=168 * HOUR)
    np.testing.assert_allclose(np.diff(own.values), 1.0)


@pytest.mark.parametrize("seconds", [0.0, 1800.0, 5400.0, float("nan")])
def test_a_block_that_is_not_of_whole_hours_is_refused(seconds):
    with pytest.raises(ValueError, match=r"block=.* h: must be whole hours, at least 1"):
        drift.blocks(np.arange(3.0), np.arange(3.0), seconds=seconds)


def test_no_value_at_all_is_an_error():
    with pytest.raises(ValueError, match="no value is known"):
        drift.blocks(np.arange(3.0), np.full(3, np.nan))


# the false rate


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("n", [14, 28])
def test_a_trend_or_a_step_is_found_by_mistake_no_more_often_than_asked(n, coefficient):
    rng = np.random.default_rng(n)
    own = [found(autoregressive(n, coefficient, rng)) for _ in range(TRIALS)]
    assert np.mean([one.p_trend <= RATE for one in own]) <= CHANCE
    assert np.mean([one.p_step <= RATE for one in own]) <= CHANCE
    assert np.mean([one.kind == "drift" for one in own]) <= CHANCE


def test_without_the_correction_the_rate_is_missed():
    """So that the test above can fail: as it would, with Kendall's test for independent values."""
    rng = np.random.default_rng(28)
    y = np.array([autoregressive(28, 0.8, rng) for _ in range(TRIALS)])
    z = np.abs(drift.kendall(y)) / np.sqrt(drift.kendall_variance(28, 0.0))
    assert np.mean(2 * stats.norm.sf(z) <= RATE) > 3 * RATE


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
@pytest.mark.parametrize("size", [3.0, 8.0])
def test_a_sudden_change_is_no_drift(size, coefficient):
    rng = np.random.default_rng(7)
    kinds: Counter[str] = Counter()
    for _ in range(TRIALS):
        onset = rng.uniform(2, 25)
        growth = np.clip(np.arange(28) - onset, 0, 1)  # within a day
        kinds[found(size * growth + autoregressive(28, coefficient, rng)).kind] += 1
    assert kinds["drift"] <= CHANCE * TRIALS


# what is found


def test_a_slow_change_is_found_with_its_slope():
    rng = np.random.default_rng(1)
    own = [found(0.3 * np.arange(28) + autoregressive(28, 0.3, rng)) for _ in range(50)]
    assert sum(one.kind == "drift" for one in own) >= 45
    assert sum(one.low <= 0.3 <= one.high for one in own) >= 42
    assert np.median([one.slope for one in own]) == pytest.approx(0.3, rel=0.05)


def test_a_sudden_change_is_told_with_its_hour(rng):
    hours = np.arange(28 * 24)
    y = 5.0 * (hours >= 400) + 0.3 * rng.standard_normal(len(hours)) + 2.0 * (hours % 24 > 12)
    own = drift.change(drift.blocks(hours * HOUR, y), simulated=FEW)
    assert own.kind == "sudden"
    assert own.at == pytest.approx(400 * HOUR, abs=HOUR)
    assert own.step == pytest.approx(5, abs=0.1)


def test_a_fault_that_is_repaired_is_no_drift(rng):
    y = autoregressive(28, 0.0, rng)
    y[20:22] += 20
    assert found(y).kind == "none"


def test_a_change_that_may_be_slow_or_sudden_is_not_called_either():
    kinds = Counter(
        found(0.1 * np.arange(28) + np.random.default_rng(seed).standard_normal(28)).kind
        for seed in range(30)
    )
    assert kinds["unclear"] > 10
    assert kinds["sudden"] <= 3


def test_units_and_signs_and_the_first_day_make_no_difference(rng):
    y = 0.3 * np.arange(20) + autoregressive(20, 0.3, rng)
    own, later = (
        found(y),
        drift.change(of_days(1000 * y + 7, np.arange(20) + 500), false_rate=RATE, simulated=FEW),
    )
    p_values = ("p_trend", "p_step", "p_not_sudden", "p_not_slow", "kind")
    assert [getattr(own, p) for p in p_values] == [getattr(later, p) for p in p_values]
    assert (later.slope, later.low, later.high) == pytest.approx(
        (1000 * own.slope, 1000 * own.low, 1000 * own.high)
    )
    assert later.first == 500 * DAY
    falling = found(-y)
    assert (falling.p_trend, falling.p_step, falling.kind) == (own.p_trend, own.p_step, own.kind)
    assert (falling.slope, falling.low, falling.high) == pytest.approx((-own.slope, -own.high, -own.low))


def test_the_same_values_give_the_same_answer(rng):
    y = autoregressive(15, 0.5, rng)
    first = found(y)
    drift._by_chance.cache_clear()
    assert repr(found(y)) == repr(first)


def test_days_may_be_missing():
    number = np.r_[0:9, 14:30]
    own = drift.change(of_days(0.5 * number + np.sin(97.0 * number), number), simulated=FEW)
    assert (own.kind, own.blocks, own.span) == ("drift", 25, 30)
    assert own.slope == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("y", [np.zeros(14), np.full(14, -40.123), np.r_[np.zeros(13), 1.0]])
def test_values_that_hardly_differ_do_not_change(y):
    own = found(y)
    assert (own.kind, own.slope, own.at) == ("none", 0.0, None)


def test_a_shorter_block_gives_the_slope_of_a_day_too():
    y = 0.1 * np.arange(24) + 0.01 * np.sin(97.0 * np.arange(24))
    own = drift.change(dataclasses.replace(of_days(y), seconds=6 * HOUR), simulated=FEW)
    assert own.kind == "drift"
    assert own.slope == pytest.approx(0.4, abs=0.02)


def test_too_few_blocks_are_refused_with_how_many_are_needed():
    with pytest.raises(ValueError, match=f"9 blocks of 24 h have values: at least {FEWEST} are needed"):
        drift.change(of_days(np.arange(9.0)))


@pytest.mark.parametrize("rate", [0.0, 0.0009, 0.5, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match=r"false_rate=.*: must be at least 0.001 and below 0.5"):
        drift.change(of_days(np.arange(12.0)), false_rate=rate)
