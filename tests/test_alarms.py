"""Alarms by several clips."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nearfar.decisions.alarms import MOST, AlarmRule, Alarms


@pytest.mark.parametrize(("needed", "of_last"), [(1, 1), (3, 5), (2, 3), (5, 5), (40, 1000)])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_the_rate_of_independent_clips_is_the_tail_of_a_binomial(
    needed: int, of_last: int, rate: float
) -> None:
    expected = stats.binom.sf(needed - 1, of_last, rate)
    assert AlarmRule(needed, of_last).rate_if_independent(rate) == pytest.approx(expected, rel=1e-9)


def test_one_of_one_is_the_rate_of_a_clip() -> None:
    rule = AlarmRule(1, 1)
    assert rule.rate_if_independent(0.03) == rule.rate_at_most(0.03) == 0.03


@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.floats(0.01, 1), min_size=2**6, max_size=2**6))
def test_no_dependence_of_the_clips_breaks_the_bound(a: int, b: int, weights: list[float]) -> None:
    """Any distribution of the flags of a group, each clip flagged with its own rate; the rule gets their mean."""
    needed, of_last = sorted((a, b))
    groups = list(itertools.product((0, 1), repeat=of_last))
    chance = np.array(weights[: len(groups)]) / sum(weights[: len(groups)])
    flagged = np.array(groups).sum(axis=1)
    rate = float(chance @ flagged) / of_last
    alarmed = float(chance[flagged >= needed].sum())
    assert alarmed <= AlarmRule(needed, of_last).rate_at_most(min(rate, 1.0)) + 1e-12


def test_the_bound_is_attained_by_clips_that_are_flagged_together() -> None:
    """In 1 of 100 groups 3 of 5 clips are flagged, in the others none: the rate of a clip is 0.6 %."""
    assert AlarmRule(3, 5).rate_at_most(0.006) == pytest.approx(0.01)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    for of in (AlarmRule(3, 5).rate_if_independent, AlarmRule(3, 5).rate_at_most):
        with pytest.raises(ValueError, match=r"rate=.*must be from 0 to 1"):
            of(rate)


@pytest.mark.parametrize("text", ["3/5", " 3 / 5 "])
def test_a_rule_is_parsed(text: str) -> None:
    assert AlarmRule.parse(text) == AlarmRule(3, 5)
    assert str(AlarmRule.parse(text)) == "3/5"


@pytest.mark.parametrize("text", ["", "3", "3 of 5", "a/b", "-1/5", "3/5/7", "3.0/5"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected two whole numbers with a slash"):
        AlarmRule.parse(text)


@pytest.mark.parametrize("text", ["0/5", "6/5", "0/0", f"1/{MOST + 1}"])
def test_impossible_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"alarm={text}: .* at least 1 and at most the second"):
        AlarmRule.parse(text)


@given(st.lists(st.sampled_from([True, False, None]), max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_an_alarm_is_a_count_of_the_last_known_clips(flags: list[bool | None], a: int, b: int) -> None:
    needed, of_last = sorted((a, b))
    alarms = Alarms(AlarmRule(needed, of_last))
    for done, flagged in enumerate(flags, start=1):
        known = [flag for flag in flags[:done] if flag is not None]
        assert alarms.after("here", flagged) == (sum(known[-of_last:]) >= needed)


def test_places_are_not_mixed() -> None:
    alarms = Alarms(AlarmRule(2, 2))
    assert [alarms.after(place, True) for place in ("hall", "yard", "hall", "yard")] == [
        False,
        False,
        True,
        True,
    ]
