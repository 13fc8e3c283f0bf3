"""Sounds without end: what goes on from block to block, and what the quick ways of computing it give."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.stats import norm, normaltest

from nearfar.simulation.continued import (
    BLOCK_SECONDS,
    Blocks,
    Continued,
    normal_at,
    of_events,
    passing,
    smooth,
)
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.mechanics import Condition, shaft_angle
from nearfar.simulation.machines.slider import strokes, travelled
from nearfar.simulation.signals import bump, coloured, drift, lines, ringing, rms, tabled_lines

RATE = 8000
GRID = Blocks(RATE)
WHOLE = GRID.samples + GRID.overlap


def in_block(block: int, seed: int = 1) -> Continued:
    return Continued(np.random.SeedSequence(seed), block, GRID)


def difference_db(one: np.ndarray, other: np.ndarray) -> float:
    return 20 * math.log10(rms(one - other) / rms(one))


def test_normal_numbers_have_the_bits_of_split_mix_64():
    # The first outputs of SplitMix64 for the seed 1234567, as in the tests of its implementations.
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    expected = norm.ppf([((bits >> 11) + 0.5) / 2**53 for bits in known])
    assert normal_at(np.arange(4), np.uint64(1234567)) == pytest.approx(expected, rel=1e-12)


def test_a_smooth_course_is_a_cubic_b_spline_over_them():
    key, at = np.uint64(5), np.linspace(3, 17.9, 200)
    knots = np.arange(0, 25)
    spline = BSpline(np.arange(-2, 27), normal_at(knots, key), 3)  # the coefficient k is around k
    assert smooth(at, key) == pytest.approx(spline(at) / math.sqrt(151 / 315), rel=1e-9)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100])
def test_blocks_divide_into_frames_at_every_rate(rate):
    grid = Blocks(rate)
    assert grid.samples == BLOCK_SECONDS * rate
    assert grid.samples % grid.overlap == 0
    assert grid.overlap <= rate


def test_noise_goes_on_and_is_new_in_every_block():
    sounds = [bump(900, octaves=1, samples=WHOLE, rate=RATE, rng=in_block(b)) for b in (-1, 0, 1, 2)]
    for before, after in pairwise(sounds):
        assert np.array_equal(before[GRID.samples :], after[: GRID.overlap])
        assert abs(np.corrcoef(before[:20000], after[:20000])[0, 1]) < 0.05
    assert np.mean([rms(sound) ** 2 for sound in sounds]) == pytest.approx(1, rel=0.03)
    assert normaltest(sounds[0][::7]).pvalue > 1e-3


def test_noise_has_the_spectrum_that_was_asked_for():
    mine, usual = (
        np.mean(
            np.abs(np.fft.rfft(coloured(4, samples=64000, rate=RATE, rng=rng).reshape(-1, 400))) ** 2, axis=0
        )
        for rng in (in_block(0), np.random.default_rng(0))
    )
    assert 10 * np.log10(mine / usual)[4:-2] == pytest.approx(0, abs=2)


def test_noise_can_begin_anywhere():
    rng = [in_block(3) for _ in range(2)]
    here = GRID.samples * 3 + 1234
    whole = bump(500, octaves=1, samples=WHOLE, rate=RATE, rng=rng[0])
    part = bump(500, octaves=1, samples=5000, rate=RATE, rng=rng[1], start=here)
    assert np.array_equal(part, whole[1234:6234])


def test_a_start_in_a_clip_leaves_out_what_comes_before():
    whole, part = np.random.default_rng(4), np.random.default_rng(4)
    expected = bump(500, octaves=1, samples=900, rate=RATE, rng=whole)[300:]
    assert np.array_equal(bump(500, octaves=1, samples=600, rate=RATE, rng=part, start=300), expected)


def test_courses_and_angles_go_on():
    for course in (
        lambda rng: drift(0.5, samples=WHOLE, rate=RATE, rng=rng),
        lambda rng: shaft_angle(1500, samples=WHOLE, rate=RATE, rng=rng),
    ):
        before, after = course(in_block(6)), course(in_block(7))
        assert np.allclose(before[GRID.samples :], after[: GRID.overlap], rtol=1e-12, atol=1e-9)
        assert np.abs(np.diff(before, 2)).max() < 1e-2


def test_a_shaft_without_end_fluctuates_as_one_of_a_clip():
    speeds = []
    for block in range(0, 4000, 80):
        angle = shaft_angle(1500, samples=WHOLE, rate=RATE, rng=in_block(block))
        speeds.append(np.diff(angle[::RATE]) / (2 * np.pi * 25) - 1)
    speeds = np.array(speeds)
    assert speeds.mean() == pytest.approx(0, abs=1.5e-3)
    assert speeds.mean(axis=1).std() == pytest.approx(0.003, rel=0.35)  # SETPOINT_SPREAD
    assert np.std(speeds - speeds.mean(axis=1, keepdims=True)) == pytest.approx(
        0.002, rel=0.35
    )  # SPEED_DRIFT


def test_what_is_drawn_directly_stays_and_what_passes_changes():
    first, second = in_block(1), in_block(2)
    assert first.uniform() == second.uniform()
    assert passing(first).uniform() != passing(second).uniform()
    assert of_events(np.array([7.0, 8.0]), first)[1] == of_events(np.array([8.0, 9.0]), second)[0]
    plain = np.random.default_rng(0)
    assert passing(plain) is plain
    assert np.array_equal(of_events(np.zeros(3), plain), np.random.default_rng(0).standard_normal(3))


def test_the_levels_of_a_day_change_slowly():
    levels = np.array([in_block(b).daily(3) for b in range(600)])
    assert levels.std(axis=0) == pytest.approx(1, rel=0.4)
    assert np.abs(np.diff(levels, axis=0)).max() < 0.3  # of a standard deviation, in 16 s


def test_lines_from_a_table_are_lines():
    rng = np.random.default_rng(0)
    angle = 3e5 + np.cumsum(np.full(20000, 0.01))
    for orders in ([1.0, 4.138, 6.0, 12.0, 48.0], [7.0, 14.0, 21.0], [0.2558], []):
        amplitudes, phases = rng.uniform(0, 1, len(orders)), rng.uniform(0, 6, len(orders))
        expected = np.zeros_like(angle)
        for order, amplitude, phase in zip(orders, amplitudes, phases, strict=True):
            expected += amplitude * np.cos(order * angle + phase)
        found = tabled_lines(angle, orders, amplitudes, phases)
        assert found == pytest.approx(expected, abs=1e-4 * max(amplitudes.sum(), 1))
        assert found == pytest.approx(
            lines(angle, orders, amplitudes, phases), abs=1e-4 * max(amplitudes.sum(), 1)
        )


@pytest.mark.parametrize("count", [3, 2000])
def test_quick_ringing_is_ringing(count):
    rng = np.random.default_rng(count)
    onsets, strengths = rng.uniform(-5, 8005, count), rng.uniform(-1, 1, count)
    slow, quick = (
        ringing(onsets, strengths, hertz=900, damping=0.02, samples=8000, rate=RATE, quick=quick)
        for quick in (False, True)
    )
    assert np.abs(quick - slow).max() < 3e-5 * count


def test_strokes_by_formula_are_those_that_are_summed_up():
    angle = np.linspace(0, 40, 400_001)
    assert np.abs(strokes(angle) - travelled(angle)).max() < 1e-4


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_goes_on(name):
    """Where two blocks overlap they are equal, but for the level that each is set to by itself."""
    kind = MACHINES[name]
    unit = kind.manufacture(np.random.default_rng(2))
    condition = Condition(kind.SPEEDS.usual[0], kind.LOADS.usual[-1])
    before, after = (unit.run(condition, samples=WHOLE, rate=RATE, rng=in_block(b)) for b in (40, 41))
    assert difference_db(before.sound[GRID.samples :], after.sound[: GRID.overlap]) < -25
    assert np.allclose(before.angle[GRID.samples :], after.angle[: GRID.overlap], rtol=1e-9)
    assert rms(before.sound) == pytest.approx(1)


@pytest.mark.parametrize("name", MACHINES)
def test_every_fault_can_be_heard_without_end(name):
    kind = MACHINES[name]
    unit = kind.manufacture(np.random.default_rng(2))
    rng = in_block(9)
    running = unit.run(Condition(kind.SPEEDS.usual[0], 1), samples=WHOLE, rate=RATE, rng=rng)
    for fault in unit.faults().values():
        added = fault(running, severity=1.0, rng=in_block(9, seed=3)) - running.sound
        assert 0.05 < rms(added) < 1.5
