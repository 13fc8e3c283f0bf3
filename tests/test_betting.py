"""Bets on ranks: that their mean pay is 1, whatever was heard before."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import places_of_the_next_score
from scipy.integrate import quad

from nearfar.decisions import betting
from nearfar.decisions.betting import MOST_BINS, Calibrator, RankBets, shiryaev_roberts


@pytest.mark.parametrize("power", [0.01, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("floor", [0.0, 1e-4, 0.002, 0.3])
def test_a_calibrator_is_the_stated_function_and_its_integral_is_one(power: float, floor: float) -> None:
    calibrator = Calibrator(power, floor)
    assert calibrator.mean(0, 1) == pytest.approx(1, rel=1e-12)
    whole = floor * floor ** (power - 1) if floor else 0.0
    whole += (1 - floor**power) / power
    for low, high in ((0.3, 0.31), (0.05, 0.9), (0.31, 0.35)):
        expected = quad(lambda p: max(p, floor) ** (power - 1) / whole, low, high, points=[floor])[0] / (
            high - low
        )
        assert calibrator.mean(low, high) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("power", [0.0, 1.0, -1.0, math.nan])
def test_an_impossible_power_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match=r"power=.*: must be above 0 and below 1"):
        Calibrator(power=power)


@pytest.mark.parametrize("floor", [-0.1, 1.0, math.nan])
def test_an_impossible_floor_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match=r"floor=.*: must be from 0 to below 1"):
        Calibrator(floor=floor)


def heard(
    bets: RankBets, scores: list[float], *, rebet: Callable[[int], bool] = lambda _: True
) -> list[float]:
    """What the bets pay for scores one after the other."""
    paid = []
    for number, score in enumerate(scores):
        paid.append(bets.pay(score))
        bets.learn(score)
        if rebet(number):
            bets.place_bets()
    return paid


@pytest.mark.parametrize("most_bins", [MOST_BINS, 4])
@pytest.mark.parametrize("rebet", [lambda _: True, lambda _: False, lambda number: number % 2 == 1])
def test_over_all_orders_the_statistic_grows_by_exactly_one_each_window(
    most_bins: int, rebet: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The theorem, without chance: 7 scores in all 5040 orders, 3 of them normal and 4 heard."""
    monkeypatch.setattr(betting, "MOST_BINS", most_bins)
    sums = np.zeros(4)
    for order in itertools.permutations([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]):
        statistic = 0.0
        bets = RankBets(order[:3], memory=100)
        for number, pay in enumerate(heard(bets, list(order[3:]), rebet=rebet)):
            statistic = shiryaev_roberts(statistic, pay)
            sums[number] += statistic
    np.testing.assert_allclose(sums / math.factorial(7), [1, 2, 3, 4], rtol=1e-10)


def test_ties_do_not_raise_the_mean() -> None:
    """All orders of seven scores with ties: the mean pay of a window, given the orders, is not above 1."""
    sums, orders = np.zeros(4), list(itertools.permutations([0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0]))
    for order in orders:
        statistic = 0.0
        for number, pay in enumerate(heard(RankBets(order[:3], memory=100), list(order[3:]))):
            statistic = shiryaev_roberts(statistic, pay)
            sums[number] += statistic
    assert (sums / len(orders) <= np.arange(1, 5) + 1e-10).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-8, 8) | st.floats(-3, 3), min_size=1, max_size=80),
    st.lists(st.integers(-8, 12) | st.floats(-3, 9), max_size=80),
)
def test_a_bin_has_the_places_of_all_scores_in_it(normal: list[float], scores: list[float]) -> None:
    """Against a twin that keeps every score and counts."""
    bets = RankBets(normal, memory=1000)
    for done in range(len(scores) + 1):
        state = bets.state()
        assert state["places"] == places_of_the_next_score(normal + scores[:done], state["edges"])
        assert len(state["places"]) <= MOST_BINS
        average = np.dot(state["places"], state["pays"]) / np.sum(state["places"])
        if done < len(scores):
            score = scores[done]
            i = sum(edge < score for edge in state["edges"])
            assert bets.pay(score) == pytest.approx(state["pays"][i] / average)
            as_high = sum(other >= score for other in normal + scores[:done])
            assert bets.p_value(score) >= (1 + as_high) / (len(normal) + done + 1) - 1e-12
            bets.learn(score)
            bets.place_bets()


def test_a_higher_score_never_pays_less() -> None:
    rng = np.random.default_rng(0)
    bets = RankBets(rng.normal(size=500), memory=100)
    heard(bets, rng.normal(size=2000).tolist())
    pays = [bets.pay(score) for score in np.linspace(-5, 5, 1000)]
    assert (np.diff(pays) >= -1e-12).all()


def test_the_highest_scores_are_known_one_by_one() -> None:
    """The p-value of a score above 9 of 1000 others is the conformal one, before and after many were learnt."""
    scores = np.random.default_rng(1).permutation(5000).astype(float)
    bets = RankBets(scores[:1000], memory=10_000)
    heard(bets, scores[1000:].tolist())
    assert [bets.p_value(5000.5 - k) for k in (1, 2, 3, 4)] == [k / 5001 for k in (1, 2, 3, 4)]


@pytest.mark.parametrize("drift", [3.0, -3.0])
def test_a_slow_drift_is_followed(drift: float) -> None:
    """In 20 memories the scores move by three standard deviations; then a normal one pays about 1, a fault more."""
    rng = np.random.default_rng(2)
    bets = RankBets(rng.normal(size=500), memory=500)
    moving = rng.normal(size=20_000) + np.linspace(0, drift, 20_000)
    assert np.log(heard(bets, moving.tolist())).sum() < -10_000  # nobody gets rich on a drift
    assert 0.6 < np.mean([bets.pay(score) for score in rng.normal(size=4000) + drift]) < 1.3
    assert np.mean([math.log(bets.pay(score)) for score in rng.normal(size=1000) + drift + 2.326]) > 1.8


def test_scores_beyond_all_numbers_are_learnt() -> None:
    bets = RankBets([1.0, 2.0], memory=10)
    heard(bets, [math.inf, -math.inf, math.inf])
    assert json.loads(json.dumps(bets.state(), allow_nan=False)) == bets.state()


def test_restored_bets_pay_the_same() -> None:
    rng = np.random.default_rng(3)
    bets = RankBets(rng.normal(size=100), memory=200)
    heard(bets, rng.normal(size=500).tolist())
    again = RankBets.restore(json.loads(json.dumps(bets.state())))
    scores = rng.normal(size=500).tolist()
    assert heard(again, scores) == heard(bets, scores)
    assert again.state() == bets.state()


@pytest.mark.parametrize(
    ("scores", "message"),
    [([], "no normal scores"), ([1.0, math.nan, math.inf], "2 of 3 normal scores are not finite")],
)
def test_normal_scores_must_be_numbers(scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankBets(scores, memory=10)


def test_a_memory_must_hold_a_window() -> None:
    with pytest.raises(ValueError, match="memory=0: must be at least 1 window"):
        RankBets([1.0], memory=0)
