"""How dependent normal windows are."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from nearfar.decisions.alerts import AlertRule, Alerts
from nearfar.decisions.betting import BETS, EDetector, RankBets
from nearfar.decisions.dependence import BEYOND, FEWEST_WINDOWS, MARGIN, Dependence, Tail, peaks

ASKED = AlertRule.parse("1 per 2 h", window_s=10, hop_s=10)


def series(n: int, *, phi: float, seed: int) -> NDArray[np.float64]:
    """A process in which each window keeps a share of the one before it, of variance 1."""
    noise = np.random.default_rng(seed).normal(size=n + 200)
    return np.asarray(lfilter([math.sqrt(1 - phi**2)], [1, -phi], noise)[200:])


def measure(
    scores: NDArray[np.float64], parts: NDArray[np.integer[Any] | np.floating[Any]]
) -> Dependence | None:
    """Of windows of 10 s, side by side."""
    return Dependence.measure(scores, parts, window_s=10, hop_s=10)


def got(scores: NDArray[np.float64], alerts: Alerts) -> float:
    """Hours between false alerts."""
    began = sum(alerts.after(score).began for score in scores.tolist())
    return len(scores) * 10 / 3600 / max(began, 1)


@pytest.mark.parametrize(("phi", "low", "high"), [(0.0, 0.6, 3.5), (0.5, 0.2, 1.0), (0.8, 0.06, 0.5)])
def test_the_tail_is_as_heavy_as_windows_are_dependent(phi: float, low: float, high: float) -> None:
    """For such a process and many windows, the rate is about (1 - phi) / (1 + phi)."""
    scores = series(4000, phi=phi, seed=1)
    measured = measure(scores, np.arange(4000) // 500)
    assert measured is not None
    assert all(low < tail.rate < high for tail in measured.tails)
    assert (measured.windows, measured.parts) == (4000, 8)


def test_asked_and_got_of_dependent_windows() -> None:
    """Without the measurement, alerts come too often; with it, they do not."""
    normal, later = series(2000, phi=0.6, seed=2), series(15_000, phi=0.6, seed=3)
    measured = measure(normal, np.arange(2000) // 400)
    assert got(later, Alerts(ASKED, normal)) < 1.6
    assert got(later, Alerts(ASKED, normal, dependence=measured)) > 1.6


def test_peaks_are_the_maxima_between_rests() -> None:
    normal, scores = series(300, phi=0.0, seed=4), series(2000, phi=0.7, seed=5).tolist()
    found = peaks(EDetector(RankBets(normal, memory=5000, bet=BETS[0])), scores)
    detector, tops, path = EDetector(RankBets(normal, memory=5000, bet=BETS[0])), [], [0.0]
    for score in scores:
        path.append(detector.take(score))
        detector.learn(score)
        if detector.at_rest:
            tops.append(max(path[:-1], default=0.0))
            path = []
    assert found == [top for top in tops if top]
    assert len(found) > 10


def test_the_threshold_is_what_the_tail_exceeds_as_rarely() -> None:
    """Of very many peaks, the exponential tail; of few, more than that."""
    many = Tail(10**7, 10**6, above=2.0, excess=2e6, highest=30.0)
    assert math.exp(-many.rate * (many.exceeded(1e4) - many.above)) == pytest.approx(1e-4, rel=0.01)
    few = Tail(100, 10, above=2.0, excess=20.0, highest=8.0)
    assert few.exceeded(1e4) > many.exceeded(1e4)
    assert few.exceeded(1) == few.above
    heights = [few.exceeded(x) for x in (0.5, 2, 100, 1000, 1e6)]
    assert heights == sorted(heights)
    measured = Dependence(10, 10, 1000, 5, (few, many))
    light = Tail(100, 10, above=2.0, excess=2.0, highest=5.0)
    assert Dependence(10, 10, 1000, 5, (light,)).log_thresholds(5000) == [5 + math.log(5 * MARGIN) / BEYOND]
    assert measured.log_thresholds(5000) == [few.exceeded(10 * MARGIN * 5), many.exceeded(1e6 * MARGIN * 5)]
    assert measured.log_thresholds(400) == [
        few.exceeded(10 * MARGIN * 0.4),
        many.exceeded(1e6 * MARGIN * 0.4),
    ]


@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_the_highest_peak_of_many_hours_is_not_asked_for_each_hour(phi: float) -> None:
    """Where more was recorded than is asked for, the tail tells the height: false alerts come, about as asked."""
    normal, later = series(20_000, phi=phi, seed=12), series(20_000, phi=phi, seed=13)
    measured = measure(normal, np.arange(20_000) // 400)
    assert measured is not None
    heights = measured.log_thresholds(2 * ASKED.windows)
    assert all(height < tail.highest - 1 for height, tail in zip(heights, measured.tails, strict=True))
    assert 1.6 < got(later, Alerts(ASKED, normal, dependence=measured)) < 20


def test_windows_that_could_not_be_used_are_left_out() -> None:
    scores = series(1000, phi=0.3, seed=6)
    parts = np.arange(1000) // 200
    with_gaps = np.insert(scores, [5, 500], np.nan)
    assert measure(with_gaps, np.insert(parts, [5, 500], [0, 2])) == measure(scores, parts)


def test_one_recording_is_cut_in_parts() -> None:
    scores = series(1000, phi=0.3, seed=7)
    assert measure(scores, np.zeros(1000)) == measure(scores, np.arange(1000) // 200)


def test_too_few_windows_tell_nothing() -> None:
    scores = series(FEWEST_WINDOWS, phi=0.0, seed=8)
    assert measure(scores[1:], np.zeros(FEWEST_WINDOWS - 1)) is None
    assert measure(scores, np.zeros(FEWEST_WINDOWS)) is not None


def test_equal_scores_change_no_threshold() -> None:
    measured = measure(np.ones(1000), np.arange(1000) // 200)
    assert measured is not None
    assert Alerts(ASKED, np.ones(1000), dependence=measured).thresholds == pytest.approx([1440, 1440])


def test_each_window_needs_a_part() -> None:
    with pytest.raises(
        ValueError, match=r"scores of shape \(5,\), parts of shape \(4,\): give one part for each"
    ):
        measure(np.ones(5), np.ones(4))


def test_what_was_measured_is_restored() -> None:
    measured = measure(series(1000, phi=0.5, seed=9), np.arange(1000) // 200)
    assert measured is not None
    assert Dependence.restore(json.loads(json.dumps(measured.describe()))) == measured
