"""Shares of flagged clips, and their intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from nearfar.decisions.rates import FlaggedShare, percent


@pytest.mark.parametrize(("flagged", "clips"), [(1, 10), (9, 190), (0, 12), (12, 12), (50, 1000)])
def test_the_interval_is_that_of_clopper_and_pearson(flagged, clips):
    low, high = FlaggedShare(flagged, clips).interval()
    assert stats.binom.sf(flagged - 1, clips, low) == pytest.approx(0.025 if flagged else 1)
    assert stats.binom.cdf(flagged, clips, high) == pytest.approx(0.025 if flagged < clips else 1)


def test_none_of_n_is_the_rule_of_three():
    low, high = FlaggedShare(0, 100).interval(0.9)  # both sides: 5 % are above
    assert low == 0
    assert high == pytest.approx(1 - 0.05 ** (1 / 100))
    assert math.isclose(high, 3 / 100, rel_tol=0.02)


def test_a_higher_confidence_is_a_wider_interval():
    narrow, wide = FlaggedShare(5, 60).interval(0.5), FlaggedShare(5, 60).interval(0.99)
    assert wide[0] < narrow[0] < 5 / 60 < narrow[1] < wide[1]


def test_flags_are_counted():
    assert FlaggedShare.of(np.array([True, False, True])) == FlaggedShare(2, 3)
    assert FlaggedShare.of(score > 1 for score in (0.5, 2.0)) == FlaggedShare(1, 2)


def test_it_says_what_was_flagged_and_what_that_tells():
    assert str(FlaggedShare(9, 190)) == "9 of 190 clips (4.7 %; 95 % interval 2.2 to 8.8 %)"
    assert str(FlaggedShare(1, 1)) == "1 of 1 clip (100 %; 95 % interval 2.5 to 100 %)"


def test_more_clips_of_the_same_share_narrow_the_interval():
    more = FlaggedShare(1, 10).with_clips(100)
    assert more == FlaggedShare(10, 100)
    assert more.interval()[1] < FlaggedShare(1, 10).interval()[1]


@pytest.mark.parametrize(
    ("share", "shown"), [(0.1, "10 %"), (0.0474, "4.7 %"), (0.0025, "0.2 %"), (0, "0 %")]
)
def test_percent_has_one_decimal_where_there_is_one(share, shown):
    assert percent(share) == shown


def test_impossible_counts_and_confidences_are_refused():
    with pytest.raises(ValueError, match="clips=0: a share needs at least 1 clip"):
        FlaggedShare(0, 0)
    with pytest.raises(ValueError, match="flagged=3 of clips=2: must be from 0 to 2"):
        FlaggedShare(3, 2)
    with pytest.raises(ValueError, match="confidence=1: must be above 0"):
        FlaggedShare(1, 2).interval(1)
