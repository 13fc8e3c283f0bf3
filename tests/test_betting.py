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
from numpy.typing import NDArray

from nearfar.decisions import betting
from nearfar.decisions.betting import BETS, MOST_BINS, Bet, EDetector, RankBets

STRONG = BETS[0]
HALF = Bet(share=0.3, stake=0.5)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 0.7])
@pytest.mark.parametrize("stake", [0.1, 0.75, 0.99])
def test_a_bet_is_the_stated_function_and_its_integral_is_one(share: float, stake: float) -> None:
    bet = Bet(share, stake)
    assert bet.mean(0, 1) == pytest.approx(1, rel=1e-12)
    assert bet.mean(0, share) == pytest.approx(1 - stake + stake / share)
    assert bet.mean(share, 1) == pytest.approx(1 - stake)
    assert bet.mean(share / 2, 2 * share) == pytest.approx(1 - stake + stake / share / 3)


@pytest.mark.parametrize("name", ["share", "stake"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan])
def test_an_impossible_bet_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.*: must be above 0 and below 1"):
        Bet(**{"share": 0.1, "stake": 0.5, name: value})


def heard(
    bets: RankBets, scores: list[float], *, rebet: Callable[[int], bool] = lambda _: True
) -> list[float]:
    """What the bets pay for scores one after the other."""
    paid: list[float] = []
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
    """The theorem, without chance: 7 scores in all orders, 3 of them normal and 4 heard."""
    monkeypatch.setattr(betting, "MOST_BINS", most_bins)
    sums = mean_statistics([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], rebet=rebet)
    np.testing.assert_allclose(sums, [1, 2, 3, 4], rtol=1e-10)


def mean_statistics(
    scores: list[float], *, rebet: Callable[[int], bool] = lambda _: True
) -> NDArray[np.float64]:
    """After each of four windows, over all orders of seven scores: the first three are normal, in any order."""
    sums, orders = np.zeros(4), 0
    for normal in itertools.combinations(range(7), 3):
        for order in itertools.permutations(set(range(7)) - set(normal)):
            statistic, orders = 0.0, orders + 1
            bets = RankBets([scores[i] for i in normal], memory=100, bet=HALF)
            for number, pay in enumerate(heard(bets, [scores[i] for i in order], rebet=rebet)):
                statistic = pay * (statistic + 1)
                sums[number] += statistic
    return sums / orders


def test_normal_scores_may_come_in_any_order() -> None:
    scores = np.random.default_rng(9).normal(size=100).tolist()
    first, second = (RankBets(some, memory=1000, bet=STRONG) for some in (scores, scores[::-1]))
    assert first.state() == second.state()


def test_ties_do_not_raise_the_mean() -> None:
    """All orders of seven scores with ties: the mean pay of a window, given the orders, is not above 1."""
    sums = mean_statistics([0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0])
    assert (sums <= np.arange(1, 5) + 1e-10).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-8, 8) | st.floats(-3, 3), min_size=1, max_size=80),
    st.lists(st.integers(-8, 12) | st.floats(-3, 9), max_size=80),
)
def test_a_bin_has_the_places_of_all_scores_in_it(normal: list[float], scores: list[float]) -> None:
    """Against a twin that keeps every score and counts."""
    bets = RankBets(normal, memory=1000, bet=STRONG)
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
    bets = RankBets(rng.normal(size=500), memory=100, bet=STRONG)
    heard(bets, rng.normal(size=2000).tolist())
    pays = [bets.pay(score) for score in np.linspace(-5, 5, 1000)]
    assert (np.diff(pays) >= -1e-12).all()


def test_the_highest_scores_are_known_one_by_one() -> None:
    """The p-value of a score above 9 of 1000 others is the conformal one, before and after many were learnt."""
    scores = np.random.default_rng(1).permutation(5000).astype(float)
    bets = RankBets(scores[:1000], memory=10_000, bet=STRONG)
    heard(bets, scores[1000:].tolist())
    assert [bets.p_value(5000.5 - k) for k in (1, 2, 3, 4)] == [k / 5001 for k in (1, 2, 3, 4)]


@pytest.mark.parametrize("drift", [3.0, -3.0])
def test_a_slow_drift_is_followed(drift: float) -> None:
    """In 20 memories the scores move by three standard deviations; then a normal one pays about 1, a fault more."""
    rng = np.random.default_rng(2)
    bets = RankBets(rng.normal(size=500), memory=500, bet=STRONG)
    moving = rng.normal(size=20_000) + np.linspace(0, drift, 20_000)
    assert np.log(heard(bets, moving.tolist())).sum() < -5000  # nobody gets rich on a drift
    assert 0.6 < np.mean([bets.pay(score) for score in rng.normal(size=4000) + drift]) < 1.3
    assert np.mean([math.log(bets.pay(score)) for score in rng.normal(size=1000) + drift + 2.326]) > 0.8


def test_scores_beyond_all_numbers_are_learnt() -> None:
    bets = RankBets([1.0, 2.0], memory=10, bet=STRONG)
    heard(bets, [math.inf, -math.inf, math.inf])
    assert json.loads(json.dumps(bets.state(), allow_nan=False)) == bets.state()


def test_infinite_scores_tell_no_trend() -> None:
    """Else all known scores would move beyond every number, and no fault would be above them."""
    scores = np.random.default_rng(7).normal(size=300).tolist()
    bets = RankBets(scores, memory=20, bet=STRONG)
    heard(bets, [math.inf, math.inf, -math.inf, -math.inf, *scores])
    assert bets.p_value(5.0) < 0.1 < 0.3 < bets.p_value(0.0) < 0.7


def test_restored_bets_pay_the_same() -> None:
    rng = np.random.default_rng(3)
    bets = RankBets(rng.normal(size=100), memory=200, bet=STRONG)
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
        RankBets(scores, memory=10, bet=STRONG)


def test_a_memory_must_hold_a_window() -> None:
    with pytest.raises(ValueError, match="memory=0: must be at least 1 window"):
        RankBets([1.0], memory=0, bet=STRONG)


def test_a_detector_bets_again_what_it_won() -> None:
    """Both statistics are what their definitions say: a sum of products, and the largest product."""
    rng = np.random.default_rng(8)
    normal, scores = rng.normal(size=200).tolist(), (rng.normal(size=60) + 0.7).tolist()
    detector, pays = EDetector(RankBets(normal, memory=1000, bet=STRONG)), []
    for number, score in enumerate(scores):
        pays.append(detector.bets.pay(score))
        products = [math.prod(pays[start:]) for start in range(number + 1)]
        assert detector.take(score) == pytest.approx(sum(products))
        assert detector.cusum == pytest.approx(max(products))
        best = number + 1 - int(np.argmax(products))
        assert detector.since == (best if max(products) > 1 else 0)
        detector.learn(score)
    detector.wait()
    detector.hold(0.2)
    assert (detector.statistic, detector.cusum) == (0.2, 0.2)
    detector.restart()
    assert (detector.statistic, detector.cusum, detector.since, detector.at_rest) == (0, 0, 0, True)
