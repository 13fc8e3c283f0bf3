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
from nearfar.decisions.betting import RankBets, shiryaev_roberts
from nearfar.decisions.dependence import FEWEST_WINDOWS, MARGIN, Dependence, peaks

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


@pytest.mark.parametrize(("phi", "low", "high"), [(0.0, 0.7, 1.4), (0.5, 0.22, 0.5), (0.8, 0.06, 0.25)])
def test_the_tail_is_as_heavy_as_windows_are_dependent(phi: float, low: float, high: float) -> None:
    """For such a process and many windows, the rate is about (1 - phi) / (1 + phi)."""
    scores = series(4000, phi=phi, seed=1)
    measured = measure(scores, np.arange(4000) // 500)
    assert measured is not None
    assert low < measured.rate < high
    assert (measured.windows, measured.parts) == (4000, 8)


def test_asked_and_got_of_dependent_windows() -> None:
    """Without the measurement, alerts come too often; with it, they do not."""
    normal, later = series(2000, phi=0.6, seed=2), series(40_000, phi=0.6, seed=3)
    measured = measure(normal, np.arange(2000) // 400)
    assert got(later, Alerts(ASKED, normal)) < 1.6
    assert got(later, Alerts(ASKED, normal, dependence=measured)) > 1.6


def test_peaks_are_the_maxima_between_rests() -> None:
    normal, scores = series(300, phi=0.0, seed=4), series(2000, phi=0.7, seed=5).tolist()
    found = peaks(RankBets(normal, memory=5000), scores)
    bets, statistic, path = RankBets(normal, memory=5000), 0.0, []
    for score in scores:
        statistic = shiryaev_roberts(statistic, bets.pay(score))
        bets.learn(score)
        if statistic <= 1:
            bets.place_bets()
        path.append(statistic)
    climbs = "".join("x" if value > 1 else " " for value in path).split()
    assert len(found) == len(climbs) > 20
    assert max(found) == max(path)
    assert sorted(found)[0] == min(found) > 1


def test_the_threshold_is_what_the_tail_exceeds_as_rarely() -> None:
    """Of very many peaks, the exponential tail; of few, more than that."""
    many = Dependence(10, 10, 10**8, 5, 10**7, 10**6, above=2.0, excess=2e6, highest=30.0)
    windows = 1e5
    above = many.log_threshold(windows) - many.above
    assert many.peaks / many.windows * math.exp(-many.rate * above) == pytest.approx(
        1 / (MARGIN * windows), rel=0.01
    )
    few = Dependence(10, 10, 1000, 5, 100, 10, above=2.0, excess=20.0, highest=8.0)
    assert few.log_threshold(windows) > many.log_threshold(windows)
    assert few.log_threshold(10) == few.above
    heights = [few.log_threshold(x) for x in (10, 100, 1000, 1e6)]
    assert heights == sorted(heights)


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
    assert measured.peaks <= 5
    assert Alerts(ASKED, np.ones(1000), dependence=measured).threshold == pytest.approx(720)


def test_each_window_needs_a_part() -> None:
    with pytest.raises(
        ValueError, match=r"scores of shape \(5,\), parts of shape \(4,\): give one part for each"
    ):
        measure(np.ones(5), np.ones(4))


def test_what_was_measured_is_restored() -> None:
    measured = measure(series(1000, phi=0.5, seed=9), np.arange(1000) // 200)
    assert measured is not None
    assert Dependence.restore(json.loads(json.dumps(measured.describe()))) == measured
