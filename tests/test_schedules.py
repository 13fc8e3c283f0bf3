"""The learning rate over a training, by numbers computed by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from nearfar.training.schedules import warm_up_and_cosine


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [
        (0, 0.0),
        (1, 0.2),
        (2.5, 0.5),
        (4.999, 0.9998),
        (5, 1.0),
        (5 + 25 / 3, 0.75),  # cos 60 degrees
        (17.5, 0.5),  # half way
        (5 + 50 / 3, 0.25),  # cos 120 degrees
        (30, 0.0),
    ],
)
def test_the_fast_schedule_of_thirty_epochs(epoch, factor):
    assert warm_up_and_cosine(epoch, warm_up=5, length=30) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [
        (0, 0.0),
        (5, 1.0),
        (10, 0.9932),  # cos(pi 5 / 95) = 0.98636
        (30, 0.8386),  # cos(pi 25 / 95) = 0.67728
        (52.5, 0.5),
        (100, 0.0),
    ],
)
def test_the_slow_schedule_of_a_hundred_epochs(epoch, factor):
    assert warm_up_and_cosine(epoch, warm_up=5, length=100) == pytest.approx(factor, abs=5e-5)


def test_without_a_warm_up_it_begins_at_one():
    assert warm_up_and_cosine(0, warm_up=0, length=8) == 1.0
    assert warm_up_and_cosine(4, warm_up=0, length=8) == pytest.approx(0.5)


def test_it_rises_then_falls_without_a_jump():
    factors = [warm_up_and_cosine(i / 100, warm_up=5, length=30) for i in range(3001)]
    steps = [after - before for before, after in pairwise(factors)]
    assert min(steps[:500]) > 0
    assert max(steps[500:]) < 0
    assert max(map(abs, steps)) == pytest.approx(0.01 / 5)


@pytest.mark.parametrize(
    ("warm_up", "length"), [(-1, 30), (30, 30), (31, 30), (0, 0), (math.nan, 30), (5, math.nan)]
)
def test_a_warm_up_must_end_before_the_schedule(warm_up, length):
    with pytest.raises(ValueError, match=f"warm_up={warm_up}, length={length}: the warm-up must end before"):
        warm_up_and_cosine(0, warm_up=warm_up, length=length)


@pytest.mark.parametrize("epoch", [-0.5, 30.5, math.nan])
def test_an_epoch_outside_of_the_schedule(epoch):
    with pytest.raises(ValueError, match=f"epoch={epoch}: outside of the schedule, which is 30 epochs long"):
        warm_up_and_cosine(epoch, warm_up=5, length=30)
