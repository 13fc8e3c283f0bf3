"""Alerts with a stated mean time between false ones."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.decisions.alarms import AlarmRule, Alarms
from nearfar.decisions.alerts import AlertRule, Alerts, AlertState, CountAlerts, mean_time, restore
from nearfar.decisions.dependence import Dependence, Tail

HEAVY = Tail(excursions=300, peaks=60, above=2.0, excess=240.0, highest=20.0)
MONTH = AlertRule.parse("1 per 30 days", window_s=10, hop_s=10)
AUC_95 = 2.326  # standard deviations between two normal distributions, of an AUC of 0.95


def normals(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=n)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1 per 30 days", 30 * 86400), ("1 per 2 h", 7200), ("2 per day", 43200), ("1 per week", 7 * 86400),
        (" 1  PER 90 min ", 5400), ("0.5 per hour", 7200), ("1per2h", 7200), ("1 per month", 30 * 86400),
        ("1 per year", 365 * 86400), ("3 per 1.5 h", 1800), ("1 per 600 s", 600),
    ],
)  # fmt: skip
def test_a_rate_is_read(text: str, seconds: float) -> None:
    assert mean_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30 days",
        "1 / 30 days",
        "1 per 30",
        "1 per 30 parsecs",
        "one per day",
        "-1 per day",
        "1 per 30 days.",
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='expected a rate such as "1 per 30 days"'):
        mean_time(text)


@pytest.mark.parametrize("text", ["0 per day", "1 per 0 days"])
def test_a_rate_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="both numbers must be above 0"):
        mean_time(text)


@pytest.mark.parametrize("name", ["mean_time_s", "window_s", "hop_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_times_must_be_times(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}=.*: must be a time above 0"):
        dataclasses.replace(MONTH, **{name: value})


def test_alerts_at_almost_every_window_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"false alerts of 1 per 1 min.*ask for a mean time of 1\.667 min or more"
    ):
        AlertRule.parse("1 per min", window_s=10, hop_s=10)


@pytest.mark.parametrize("n", [20, 300])
def test_independent_windows_alert_no_more_often_than_asked(n: int) -> None:
    """The theorem, by simulation, with few normal windows and with many; asked: 50 windows between alerts."""
    rng = np.random.default_rng(n)
    times = []
    for _ in range(60):
        alerts = Alerts(AlertRule(500, 10, 10), np.exp(rng.normal(size=n)))
        times.append(next(i for i in range(1, 10_000) if alerts.after(float(np.exp(rng.normal()))).began))
    assert np.mean(times) - 2 * np.std(times) / np.sqrt(len(times)) > 50


def test_a_fault_of_auc_95_alerts_within_three_minutes_at_one_per_30_days() -> None:
    rng = np.random.default_rng(4)
    delays = []
    for seed in range(30):
        alerts = Alerts(MONTH, normals(1000, seed))
        assert not any(alerts.after(score).alert for score in rng.normal(size=50))
        delays.append(next(i for i in range(1, 1000) if alerts.after(rng.normal() + AUC_95).began))
    assert np.median(delays) <= 8
    assert max(delays) <= 18


@pytest.mark.parametrize("n", [40, 1000])
@pytest.mark.parametrize("rate", ["1 per 2 h", "1 per 30 days"])
def test_the_strongest_fault_alerts_as_soon_as_said(n: int, rate: str) -> None:
    alerts = Alerts(AlertRule.parse(rate, window_s=10, hop_s=10), normals(n))
    states = [alerts.after(score) for score in np.linspace(100, 101, alerts.first_after)]
    assert [state.alert for state in states] == [False] * (alerts.first_after - 1) + [True]
    assert states[-1].evidence == 1
    assert [state.since for state in states] == list(range(1, alerts.first_after + 1))


def test_too_few_normal_windows_for_any_alert_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"with 1 normal windows, no fault could give an alert within 1 day; fit to more"
    ):
        Alerts(MONTH, [0.0])


def test_an_alert_lasts_and_ends_and_is_not_learnt() -> None:
    rng = np.random.default_rng(5)
    alerts = Alerts(MONTH, normals(1000))
    states = [alerts.after(score) for score in 5 + rng.normal(size=500)]
    began = [i for i, state in enumerate(states) if state.began]
    assert began == [3]
    assert all(state.alert for state in states[3:])
    known = alerts.state()["detectors"][0]["bets"]
    after = [alerts.after(score) for score in rng.normal(size=200)]
    ended = next(i for i, state in enumerate(after) if state.ended)
    assert 30 <= ended + 1 <= 40  # five minutes of windows, or a little later
    assert sum(state.began or state.ended for state in after) == 1
    assert not after[ended].alert
    assert after[ended].since == 0
    assert known["edges"][-1] < 9  # three of five hundred windows of the fault were learnt, before the alert
    assert sum(known["places"]) == 1001 + 3
    assert sum(alerts.state()["detectors"][0]["bets"]["places"]) == 1001 + 3 + (200 - ended)  # the rest was


def test_a_fault_that_comes_back_alerts_again() -> None:
    rng = np.random.default_rng(6)
    alerts = Alerts(MONTH, normals(1000))
    scores = np.concatenate([6 + rng.normal(size=60), rng.normal(size=100)] * 3)
    states = [alerts.after(score) for score in scores]
    assert [i for i, state in enumerate(states) if state.began] == pytest.approx([3, 163, 323], abs=1)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_window_that_could_not_be_used_changes_nothing_but_time(missing: float | None) -> None:
    alerts = Alerts(MONTH, normals(200))
    before = alerts.after(5.0)
    state = alerts.state()
    after = alerts.after(missing)
    assert math.isnan(after.p_value)
    assert (after.alert, after.evidence, after.since) == (False, before.evidence, before.since + 1)
    assert [{**d, "since": d["since"] - 1} for d in alerts.state()["detectors"]] == state["detectors"]
    assert {**alerts.state(), "detectors": 0} == {**state, "detectors": 0}


def test_a_machine_that_stops_is_not_heard_nor_the_minute_after() -> None:
    alerts = Alerts(MONTH, normals(200))
    state = alerts.state()
    stop = [alerts.after(9.0, running=False) for _ in range(20)]
    start = [alerts.after(9.0) for _ in range(6)]
    assert not any(s.alert or s.evidence for s in [*stop, *start])
    assert alerts.state() == state
    assert [alerts.after(9.0).alert for _ in range(4)] == [False, False, False, True]
    counts = CountAlerts(AlarmRule(1, 1), above=1.0)
    assert [counts.after(9.0, running=running).alert for running in (False, True)] == [False, True]


def test_a_slow_season_does_not_alert() -> None:
    """In twenty days the scores climb by four standard deviations; a window each minute."""
    rule = AlertRule.parse("1 per 30 days", window_s=60, hop_s=60)
    rng = np.random.default_rng(7)
    alerts = Alerts(rule, normals(720))
    scores = rng.normal(size=20 * 1440) + np.linspace(0, 4, 20 * 1440)
    assert not any(alerts.after(score).alert for score in scores)
    assert (
        next(i for i in range(100) if alerts.after(4 + rng.normal() + AUC_95).alert) < 12
    )  # and it is not deaf


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_a_rule_that_is_restored_goes_on_exactly(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    scores = [
        float(x) if rng.random() > 0.1 else None
        for x in rng.normal(size=300) + 4 * (np.arange(300) % 100 > 70)
    ]
    rule, dependence = (
        AlertRule(3600, 10, 5),
        Dependence(10, 5, 4000, 3, (Tail(50, 12, 1.5, 20.25, 7.125),) * 2),
    )
    unbroken = Alerts(rule, normals(60, seed % 100), dependence=dependence)
    first = Alerts.restore(json.loads(json.dumps(unbroken.state(), allow_nan=False)))
    whole = [unbroken.after(score) for score in scores]
    told = [first.after(score) for score in scores[:cut]]
    second = restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    told += [second.after(score) for score in scores[cut:]]
    assert [_comparable(state) for state in told] == [_comparable(state) for state in whole]
    assert json.dumps(second.state()) == json.dumps(unbroken.state())
    assert isinstance(second, Alerts)
    assert second.describe() == unbroken.describe()


def _comparable(state: AlertState) -> tuple[Any, ...]:
    return (*dataclasses.astuple(state)[:-1], repr(state.p_value))


def test_dependence_raises_the_threshold_and_never_lowers_it() -> None:
    tail = Dependence(10, 10, windows=4000, parts=4, tails=(HEAVY, HEAVY))
    plain = Alerts(MONTH, normals(500))
    assert plain.thresholds == pytest.approx([2 * MONTH.windows] * 2)
    raised = Alerts(MONTH, normals(500), dependence=tail)
    assert np.log(raised.thresholds) == pytest.approx(tail.log_thresholds(2 * MONTH.windows))
    assert min(raised.thresholds) > 1e10 * max(plain.thresholds)
    light = dataclasses.replace(
        tail, tails=(dataclasses.replace(HEAVY, excess=1.0, above=0.0, highest=1.0),) * 2
    )
    assert Alerts(MONTH, normals(500), dependence=light).thresholds == plain.thresholds


def test_dependence_that_allows_no_rule_is_refused() -> None:
    tail = Dependence(10, 10, windows=4000, parts=4, tails=(Tail(10, 10, 2.0, 5000.0, 900.0),) * 2)
    with pytest.raises(ValueError, match=r"measured on 4000 normal windows.*no alert could keep the rate"):
        Alerts(MONTH, normals(500), dependence=tail)


def test_dependence_of_other_windows_is_refused() -> None:
    tail = Dependence(10, 5, windows=4000, parts=4, tails=(HEAVY, HEAVY))
    with pytest.raises(
        ValueError, match=r"one each 10 s; but dependence was measured on windows of 10 s, one each 5 s"
    ):
        Alerts(MONTH, normals(500), dependence=tail)


def test_windows_may_differ_by_a_sample() -> None:
    tail = Dependence(9.9999, 10, windows=4000, parts=4, tails=(HEAVY, HEAVY))
    assert Alerts(MONTH, normals(500), dependence=tail).dependence == tail


def test_what_is_promised_and_what_is_measured_is_told() -> None:
    told = "\n".join(Alerts(MONTH, normals(500)).describe())
    assert (
        "Promised: if windows are exchangeable with the 500 normal ones, the mean time to a false alert is"
        in told
    )
    assert "at least 30 days" in told
    assert "Not measured" in told
    assert "at least 360 windows like these of long recordings, in order of time: 1 h, better several" in told
    assert "An alert takes at least 4 windows (40 s)" in told
    assert "overlap" not in told
    tail = Dependence(10, 10, windows=4000, parts=4, tails=(HEAVY, HEAVY))
    told = "\n".join(
        Alerts(
            dataclasses.replace(MONTH, hop_s=5), normals(500), dependence=dataclasses.replace(tail, hop_s=5)
        ).describe()
    )
    assert "Windows overlap" in told
    assert "Measured on 5.556 h of normal windows" in told
    assert "30 days is longer than what was heard: an extrapolation" in told


@given(st.lists(st.sampled_from([0.0, 2.0, None]), max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_counts_begin_as_alarms_do_and_end_later(scores: list[float | None], a: int, b: int) -> None:
    rule = AlarmRule(*sorted((a, b)))
    counts, alarms, was_on, seen = CountAlerts(rule, above=1.0), Alarms(rule), False, []
    for score in scores:
        alarm = alarms.after("here", None if score is None else score > 1)
        seen += [] if score is None else [score > 1]
        state = counts.after(score)
        few = sum(seen[-rule.of_last :]) <= (rule.needed - 1) // 2
        assert state.alert == (alarm or (was_on and not few))
        assert (state.began, state.ended) == (state.alert and not was_on, was_on and not state.alert)
        was_on = state.alert
        counts = CountAlerts.restore(json.loads(json.dumps(counts.state())))


def test_a_plain_threshold_is_one_of_one() -> None:
    alerts = CountAlerts(AlarmRule(1, 1), above=1.0)
    assert [alerts.after(score).alert for score in (0.0, 1.0, 1.1, 0.0, math.nan, 2.0)] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_a_count_needs_a_threshold() -> None:
    with pytest.raises(ValueError, match="above=nan: windows must be compared with a number"):
        CountAlerts(AlarmRule(1, 1), above=math.nan)


def test_the_state_of_another_rule_is_refused() -> None:
    bets, counts = Alerts(MONTH, normals(100)).state(), CountAlerts(AlarmRule(1, 1), above=1.0).state()
    with pytest.raises(ValueError, match="kind='counts': not the state of alerts by bets"):
        Alerts.restore(counts)
    with pytest.raises(ValueError, match="kind='bets': not the state of alerts by counts"):
        CountAlerts.restore(bets)
    with pytest.raises(ValueError, match="kind=None: not the state of alerts by bets"):
        restore({})
    assert isinstance(restore(counts), CountAlerts)
