"""What breaks: every fault adds what its docstring says, where it says, as much as its severity says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, hilbert, lfilter, sosfiltfilt, welch

from nearfar.simulation.faults import (
    BEARING_6205,
    Fault,
    Friction,
    Geometry,
    Impacts,
    Leak,
    Rattle,
    Rebound,
    Running,
    Shaking,
    Squeal,
    Surge,
    Wear,
    cage,
    inner_race,
    misalignment,
    outer_race,
    rolling_element,
    unbalance,
)
from nearfar.simulation.signals import rms

RATE = 16000
LEVEL = 0.3
Sound = NDArray[np.float64]

FAULTS: dict[str, Fault] = {
    "unbalance": unbalance(depth=0.0, level=LEVEL),
    "misalignment": misalignment(depth=0.0, level=LEVEL),
    "impacts": Impacts(1.0, 1500.0, damping=0.05, level=LEVEL),
    "outer_race": outer_race(BEARING_6205, resonance_hz=3000.0, level=LEVEL),
    "inner_race": inner_race(BEARING_6205, resonance_hz=3000.0, level=LEVEL),
    "rolling_element": rolling_element(BEARING_6205, resonance_hz=3000.0, level=LEVEL),
    "cage": cage(BEARING_6205, resonance_hz=3000.0, level=LEVEL),
    "rattle": Rattle(2.0, 1200.0, damping=0.05, level=LEVEL),
    "rebound": Rebound(0.05, 1200.0, damping=0.05, level=LEVEL),
    "wear": Wear(19.0, level=LEVEL),
    "friction": Friction(3000.0, octaves=0.5, level=LEVEL),
    "leak": Leak(2500.0, octaves=0.5, level=LEVEL),
    "squeal": Squeal(1100.0, level=LEVEL),
    "surge": Surge(depth=0.0, level=LEVEL, hertz=200.0),
}


def at_constant_speed(hertz: float, *, seconds: float = 4.0, rate: int = RATE) -> Running:
    """White noise, a shaft that turns ``hertz`` times a second, something that strikes twice a second."""
    samples = int(seconds * rate)
    turned = 2 * np.pi * hertz / rate * np.arange(samples)
    sound = 2 * np.random.default_rng(0).standard_normal(samples)
    return Running(sound, turned, rate, np.arange(0.1, seconds, 0.5) * rate)


def faulty(fault: Fault, running: Running, *, severity: float = 1.0, seed: int = 0) -> Sound:
    return fault(running, severity=severity, rng=np.random.default_rng(seed))


def added(fault: Fault, running: Running, *, severity: float = 1.0, seed: int = 0) -> Sound:
    return faulty(fault, running, severity=severity, seed=seed) - running.sound


def peaks(signal: Sound, count: int, *, rate: int = RATE) -> set[float]:
    """The frequencies of the strongest lines, in Hz; the signal has whole periods of them all."""
    power = np.abs(np.fft.rfft(signal - signal.mean()))
    return set(np.fft.rfftfreq(len(signal), 1 / rate)[np.argsort(power)[-count:]].round(6).tolist())


def line(signal: Sound, hertz: float, *, rate: int = RATE) -> float:
    """The amplitude of a line with whole periods in the signal."""
    turned = 2j * np.pi * hertz / rate * np.arange(len(signal))
    return float(2 * np.abs(np.mean(signal * np.exp(turned))))


def peak_near(signal: Sound, hertz: float, *, within: float, rate: int = RATE) -> float:
    """The frequency of the strongest line in a band."""
    power = np.abs(np.fft.rfft(signal - signal.mean()))
    frequencies = np.fft.rfftfreq(len(signal), 1 / rate)
    band = np.abs(frequencies - hertz) < within
    return float(frequencies[band][np.argmax(power[band])])


def struck(rings: Sound, *, hertz: float, damping: float, rate: int = RATE) -> NDArray[np.int64]:
    """When something was hit, to a sample: where the resonance does not merely go on."""
    pole = np.exp(complex(-damping, 1) * 2 * np.pi * hertz / rate)
    blows = np.abs(lfilter([1, -2 * pole.real, abs(pole) ** 2], [1.0], rings))
    at = np.flatnonzero(blows > 1e-8 * blows.max())
    return at[np.diff(at, prepend=-10) > 2]


def block_levels(signal: Sound, *, seconds: float, rate: int = RATE) -> Sound:
    """Level in dB of one block after the other."""
    length = int(seconds * rate)
    blocks = signal[: len(signal) // length * length].reshape(-1, length)
    return 10 * np.log10(np.mean(blocks**2, axis=1) + 1e-12)


def assert_bump(signal: Sound, *, hertz: float, octaves: float) -> None:
    """The power is symmetric about a frequency in octaves, and has halved some octaves away from there."""
    frequencies, power = welch(signal, RATE, nperseg=2048)
    at = np.log2(frequencies[1:] / hertz)

    def level(distance: float) -> float:
        return float(10 * np.log10(power[1:][np.abs(at - distance) < 0.06].mean()))

    for side in (-1, 1):
        assert level(0) - level(side * octaves) == pytest.approx(3, abs=0.8)


# What all faults have in common


@pytest.mark.parametrize("name", FAULTS)
def test_severity_0_changes_nothing(name: str) -> None:
    running = at_constant_speed(25.0, seconds=1.0)
    np.testing.assert_array_equal(faulty(FAULTS[name], running, severity=0.0), running.sound)


@pytest.mark.parametrize("fault", [unbalance(depth=0.7, level=0.4), Surge(depth=0.4, level=0.4, hertz=200.0)])
def test_severity_0_does_not_modulate(fault: Fault) -> None:
    running = at_constant_speed(25.0, seconds=1.0)
    np.testing.assert_array_equal(faulty(fault, running, severity=0.0), running.sound)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("severity", [0.25, 1.0])
def test_what_is_added_has_its_level(name: str, severity: float) -> None:
    running = at_constant_speed(25.0)
    part = added(FAULTS[name], running, severity=severity)
    assert rms(part) == pytest.approx(severity * LEVEL * rms(running.sound))


@pytest.mark.parametrize("fault", [unbalance(depth=0.7, level=0.4), Surge(depth=0.4, level=0.4, hertz=200.0)])
def test_a_modulation_grows_with_the_severity(fault: Fault) -> None:
    running = at_constant_speed(25.0, seconds=1.0)
    half, whole = (added(fault, running, severity=severity) for severity in (0.5, 1.0))
    np.testing.assert_allclose(2 * half, whole, atol=1e-12)


@pytest.mark.parametrize("name", FAULTS)
def test_equal_generators_break_it_equally(name: str) -> None:
    running = at_constant_speed(25.0, seconds=1.0)
    first, again, other = (added(FAULTS[name], running, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
def test_a_severity_beyond_its_range_is_refused(name: str, severity: float) -> None:
    with pytest.raises(
        ValueError, match=rf"severity={severity}: must be between 0 \(no change\) and 1 \(worst\)"
    ):
        faulty(FAULTS[name], at_constant_speed(25.0, seconds=0.5), severity=severity)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize(
    "change",
    [
        lambda running: replace(running, angle=1e-9 * running.angle),
        lambda running: replace(running, angle=np.full_like(running.angle, 3.0)),
        lambda running: replace(running, events=np.empty(0)),
        lambda running: replace(running, sound=np.zeros_like(running.sound)),
    ],
    ids=["it hardly turns", "it stands still", "no events", "silence"],
)
@pytest.mark.parametrize("rate", [8000, 48000])
def test_no_way_of_running_breaks_a_fault(name: str, change: Callable[[Running], Running], rate: int) -> None:
    running = change(at_constant_speed(25.0, seconds=0.5, rate=rate))
    sound = faulty(FAULTS[name], running)
    assert sound.shape == running.sound.shape
    assert np.isfinite(sound).all()
    assert rms(sound) <= 2 * rms(running.sound)


@pytest.mark.parametrize("name", ["impacts", "outer_race", "cage", "rattle"])
def test_a_shaft_that_stands_still_hits_nothing(name: str) -> None:
    running = at_constant_speed(25.0, seconds=0.5)
    still = replace(running, angle=np.zeros_like(running.angle))
    np.testing.assert_array_equal(faulty(FAULTS[name], still), still.sound)


# Shaking


@pytest.mark.parametrize(
    ("fault", "amplitudes"),
    [
        (unbalance(depth=0.0, level=1.0), {25: 1.0, 50: 0.6, 75: 0.36, 100: 0.216}),
        (misalignment(depth=0.0, level=1.0), {25: 0.5, 50: 1.0, 75: 0.4, 100: 0.3}),
    ],
)
def test_a_force_that_turns_has_lines_at_low_orders(fault: Shaking, amplitudes: dict[int, float]) -> None:
    part = added(fault, at_constant_speed(25.0))
    assert peaks(part, 4) == set(amplitudes)
    found = np.array([line(part, hertz) for hertz in amplitudes])
    expected = np.array(list(amplitudes.values()))
    np.testing.assert_allclose(found / found.max(), expected / expected.max(), rtol=1e-6)


@pytest.mark.parametrize(
    ("fault", "hertz"), [(unbalance(depth=0.8, level=0.0), 25.0), (misalignment(depth=0.8, level=0.0), 50.0)]
)
@pytest.mark.parametrize("severity", [0.5, 1.0])
def test_everything_swells_with_a_force_that_turns(fault: Shaking, hertz: float, severity: float) -> None:
    running = at_constant_speed(25.0)
    gain = faulty(fault, running, severity=severity) / running.sound
    assert peaks(gain, 1) == {hertz}
    assert gain.mean() == pytest.approx(1)
    assert line(gain, hertz) == pytest.approx(0.8 * severity)


def test_a_fault_sits_anywhere_on_the_shaft() -> None:
    running = at_constant_speed(25.0, seconds=1.0)
    starts = [added(unbalance(depth=0.0, level=1.0), running, seed=seed)[0] for seed in range(20)]
    assert np.std(starts) > 0.5


# Impacts


def test_a_damaged_tooth_is_heard_once_per_revolution() -> None:
    running = at_constant_speed(20.0)
    at = struck(added(Impacts(1.0, 1500.0, damping=0.05, level=1.0), running), hertz=1500, damping=0.05)
    assert len(at) == 4 * 20
    np.testing.assert_allclose(np.diff(at), RATE / 20, atol=1)


def test_impacts_follow_a_shaft_that_speeds_up() -> None:
    seconds = np.arange(4 * RATE) / RATE
    turned = 2 * np.pi * (10 * seconds + 2.5 * seconds**2)  # from 10 to 30 Hz
    running = replace(at_constant_speed(10.0), angle=turned)
    at = struck(added(Impacts(1.0, 1500.0, damping=0.05, level=1.0), running), hertz=1500, damping=0.05)
    np.testing.assert_allclose(np.diff(turned[at]), 2 * np.pi, atol=0.02)
    assert len(at) == pytest.approx(80, abs=1)


def test_slip_adds_up() -> None:
    fault = Impacts(1.0, 3000.0, damping=0.1, level=1.0, jitter=0.02)
    at = struck(added(fault, at_constant_speed(100.0, seconds=20)), hertz=3000, damping=0.1)
    between = np.diff(at)
    assert between.mean() == pytest.approx(160, rel=0.005)
    assert between.std() == pytest.approx(0.02 * 160, rel=0.1)
    assert np.corrcoef(between[1:], between[:-1])[0, 1] == pytest.approx(0, abs=0.1)
    strayed = [np.diff(at[::step]).std() for step in (1, 16)]
    assert strayed[1] == pytest.approx(4 * strayed[0], rel=0.35)


@pytest.mark.parametrize(("hertz", "damping"), [(1500.0, 0.05), (3000.0, 0.03)])
def test_what_is_hit_rings_at_its_resonance_and_decays(hertz: float, damping: float) -> None:
    """An impact falls by 8.686 zeta w dB a second."""
    rate = 48000
    part = added(Impacts(1.0, hertz, damping=damping, level=1.0), at_constant_speed(10.0, rate=rate))
    assert peak_near(part, hertz, within=1000, rate=rate) == pytest.approx(hertz, rel=0.02)
    first = struck(part, hertz=hertz, damping=damping, rate=rate)[3]
    levels = 20 * np.log10(np.abs(hilbert(part)))
    since = np.arange(int(0.0005 * rate), int(0.0035 * rate))
    fall = np.polyfit(since / rate, levels[first + since], 1)[0]
    assert -fall == pytest.approx(8.686 * damping * 2 * np.pi * hertz, rel=0.05)


def test_no_two_impacts_are_alike() -> None:
    rate = 48000
    part = added(Impacts(1.0, 500.0, damping=0.1, level=1.0), at_constant_speed(50.0, rate=rate))
    at = struck(part, hertz=500, damping=0.1, rate=rate)[:-1]
    heights = np.abs(part[at[:, None] + np.arange(rate // 500)]).max(1)
    assert heights.std() / heights.mean() == pytest.approx(0.2, rel=0.2)


def heights_by_angle(fault: Impacts, order: float) -> tuple[float, float]:
    """How much impacts swell, relative to their mean, with an order of the shaft, and with another one."""
    rate, shaft = 48000, 20.0
    running = at_constant_speed(shaft, seconds=10.0, rate=rate)
    part = added(fault, running)
    at = struck(part, hertz=fault.resonance_hz, damping=fault.damping, rate=rate)[:-1]
    heights = np.abs(part[at[:, None] + np.arange(int(0.0005 * rate))]).max(1)
    uneven = heights / heights.mean() - 1
    turned = 2 * np.pi * shaft * at / rate
    first, other = (2 * np.abs(np.mean(uneven * np.exp(1j * x * turned))) for x in (order, 1.37 * order))
    return float(first), float(other)


@pytest.mark.parametrize(
    ("fault", "order", "depth"),
    [
        (inner_race(BEARING_6205, resonance_hz=3000.0, level=1.0), 1.0, 0.8),
        (rolling_element(BEARING_6205, resonance_hz=3000.0, level=1.0), 0.39828, 0.8),
        (outer_race(BEARING_6205, resonance_hz=3000.0, level=1.0), 1.0, 0.0),
        (cage(BEARING_6205, resonance_hz=3000.0, level=1.0), 1.0, 0.0),
    ],
)
def test_impacts_swell_where_a_defect_moves_through_the_load(
    fault: Impacts, order: float, depth: float
) -> None:
    found, other = heights_by_angle(fault, order)
    assert found == pytest.approx(depth, abs=0.15)
    assert other == pytest.approx(0, abs=0.15)


# Bearings


@pytest.mark.parametrize(
    ("found", "published"),
    [
        (BEARING_6205.outer, 3.5848),
        (BEARING_6205.inner, 5.4152),
        (BEARING_6205.cage, 0.39828),
        (2 * BEARING_6205.ball, 4.7135),  # they count a defect of a ball on both races
    ],
)
def test_the_orders_of_the_6205_are_those_of_case_western_reserve_university(
    found: float, published: float
) -> None:
    assert found == pytest.approx(published, rel=2e-4)


def test_the_contact_angle_counts() -> None:
    """By hand: q = 10 / 40 cos 60 degrees = 1 / 8."""
    tilted = Geometry(balls=8, ball_diameter=10.0, pitch_diameter=40.0, contact_degrees=60.0)
    orders = (tilted.outer, tilted.inner, tilted.ball, tilted.cage)
    assert orders == pytest.approx((3.5, 4.5, 2 * (1 - 1 / 64), 0.4375))


def test_the_races_share_the_passing_balls() -> None:
    """BPFO + BPFI are all balls, and BPFO is as many balls as the cage carries past."""
    assert BEARING_6205.outer + BEARING_6205.inner == pytest.approx(9)
    assert BEARING_6205.outer == pytest.approx(9 * BEARING_6205.cage)


@pytest.mark.parametrize(
    ("make", "order"),
    [(outer_race, 3.5848), (inner_race, 5.4152), (rolling_element, 4.7135), (cage, 0.39828)],
)
def test_a_bearing_is_heard_at_its_order_in_the_envelope(make: Callable[..., Impacts], order: float) -> None:
    fault = make(BEARING_6205, resonance_hz=3000.0, level=1.0)
    part = added(fault, at_constant_speed(25.0, seconds=8.0))
    expected = order * 25
    assert peak_near(np.abs(hilbert(part)), expected, within=0.7 * expected) == pytest.approx(
        expected, rel=0.03
    )
    assert peak_near(part, 3000.0, within=2000) == pytest.approx(3000, rel=0.06)


def test_a_cage_scatters_more_than_a_race() -> None:
    rate = 48000  # a sample is a hundredth of the shortest time between two impacts
    running = at_constant_speed(100.0, seconds=20.0, rate=rate)

    def scatter(fault: Impacts) -> float:
        between = np.diff(struck(added(fault, running), hertz=3000, damping=fault.damping, rate=rate))
        return float(between.std() / between.mean())

    assert scatter(outer_race(BEARING_6205, resonance_hz=3000.0, level=1.0)) == pytest.approx(0.01, rel=0.2)
    assert scatter(cage(BEARING_6205, resonance_hz=3000.0, level=1.0)) == pytest.approx(0.04, rel=0.2)


# Rattle and rebound


def test_a_loose_part_hits_as_often_as_chance_has_it() -> None:
    running = at_constant_speed(20.0, seconds=60.0)
    part = added(Rattle(0.5, 1200.0, damping=0.1, level=1.0), running)
    at = struck(part, hertz=1200, damping=0.1)
    assert len(at) == pytest.approx(600, abs=75)  # three standard deviations of a Poisson process
    between = np.diff(at)
    assert between.std() / between.mean() == pytest.approx(1, abs=0.15)
    assert np.corrcoef(between[1:], between[:-1])[0, 1] == pytest.approx(0, abs=0.15)


def test_a_loose_part_sometimes_hits_hard() -> None:
    """Of exponential strengths the standard deviation is the mean, and the highest of 600 is six times it."""
    rate = 48000
    part = added(
        Rattle(0.5, 1200.0, damping=0.2, level=1.0), at_constant_speed(20.0, seconds=60.0, rate=rate)
    )
    at = struck(part, hertz=1200, damping=0.2, rate=rate)[:-1]
    heights = np.abs(part[at[:, None] + np.arange(rate // 1200)]).max(1)
    assert heights.std() / heights.mean() == pytest.approx(1, abs=0.15)
    assert heights.max() > 4 * heights.mean()


def test_a_valve_that_bounces_strikes_again_after_ever_shorter_times() -> None:
    running = replace(at_constant_speed(1.0, seconds=60.0), events=np.arange(0.1, 59.0, 0.5) * RATE)
    fault = Rebound(0.05, 1200.0, damping=0.2, level=1.0)
    at = struck(added(fault, running), hertz=1200, damping=0.2)
    assert len(at) == 4 * len(running.events)
    after = (at.reshape(-1, 4) - running.events[:, None]) / RATE
    assert after[:, 0].mean() == pytest.approx(0.05, rel=0.06)
    assert after[:, 0].std() == pytest.approx(0.2 * 0.05, rel=0.25)
    times = np.diff(after, axis=1, prepend=0.0)
    np.testing.assert_allclose(times[:, 1:] / times[:, :-1], 0.7, atol=0.01)


def test_a_valve_that_bounces_strikes_ever_weaker() -> None:
    rate = 48000
    running = at_constant_speed(1.0, seconds=10.0, rate=rate)
    part = added(Rebound(0.05, 600.0, damping=0.2, level=1.0, restitution=0.5, count=3), running)
    at = struck(part, hertz=600, damping=0.2, rate=rate)
    heights = np.abs(part[at[:, None] + np.arange(rate // 600)]).max(1).reshape(-1, 3)
    np.testing.assert_allclose(heights[:, 1:] / heights[:, :-1], 0.5, rtol=0.02)


# Wear


def test_worn_teeth_have_harmonics_of_the_mesh_from_the_second_on() -> None:
    part = added(Wear(19.0, level=1.0), at_constant_speed(20.0))
    assert peaks(part, 4) == {760.0, 1140.0, 1520.0, 1900.0}
    amplitudes = np.array([line(part, hertz) for hertz in (760, 1140, 1520, 1900)])
    np.testing.assert_allclose(amplitudes[1:] / amplitudes[:-1], 0.8, rtol=1e-6)
    assert line(part, 380) < 1e-9
    assert line(part, 2280) < 1e-9


def test_worn_teeth_have_sidebands_of_the_shaft() -> None:
    part = added(Wear(19.0, level=1.0), at_constant_speed(20.0))
    for mesh in (760, 1140, 1520, 1900):
        for away in (20, 40):
            for side in (-away, away):
                assert line(part, mesh + side) == pytest.approx(line(part, mesh) / 2)
        assert line(part, mesh + 60) < 1e-9


@pytest.mark.parametrize(
    ("rate", "kept"),
    [(16000, {4600.0, 6900.0}), (48000, {4600.0, 6900.0, 9200.0, 11500.0})],
)
def test_worn_teeth_have_no_lines_above_the_nyquist_frequency(rate: int, kept: set[float]) -> None:
    part = added(Wear(23.0, level=1.0), at_constant_speed(100.0, rate=rate))
    assert peaks(part, len(kept), rate=rate) == kept
    power = np.abs(np.fft.rfft(part))
    assert np.sum(power > 1e-6 * power.max()) == 5 * len(kept)  # each with four sidebands, and nothing else


def test_teeth_too_fast_for_the_rate_add_nothing() -> None:
    running = at_constant_speed(100.0, rate=8000)
    np.testing.assert_array_equal(faulty(Wear(23.0, level=1.0), running), running.sound)


# Friction and leaks


def test_friction_is_noise_around_its_frequency() -> None:
    fault = Friction(3000.0, octaves=0.4, level=1.0, depth=0.0, wander_db=0.0)
    assert_bump(added(fault, at_constant_speed(20.0, seconds=20.0)), hertz=3000.0, octaves=0.4)


@pytest.mark.parametrize(("swell", "hertz"), [(1.0, 20.0), (2.5, 50.0)])
def test_friction_comes_and_goes_with_the_shaft(swell: float, hertz: float) -> None:
    fault = Friction(3000.0, octaves=0.7, level=1.0, swell=swell, depth=0.6)
    envelope = np.abs(hilbert(added(fault, at_constant_speed(20.0, seconds=20.0))))
    assert peak_near(envelope, 105.0, within=100) == pytest.approx(hertz, abs=0.5)
    steady = np.abs(hilbert(added(replace(fault, depth=0.0), at_constant_speed(20.0, seconds=20.0))))
    assert line(envelope, hertz) > 10 * line(steady, hertz)


def test_the_level_of_friction_wanders() -> None:
    running = at_constant_speed(20.0, seconds=60.0)
    wanders, stays = (
        block_levels(added(Friction(3000.0, octaves=0.7, level=1.0, wander_db=db), running), seconds=0.1)
        for db in (3.0, 0.0)
    )
    assert wanders.std() == pytest.approx(2.7, abs=0.5)
    assert stays.std() < 0.7


def test_a_leak_hisses_steadily_around_its_frequency() -> None:
    part = added(Leak(2500.0, octaves=0.5, level=1.0), at_constant_speed(20.0, seconds=20.0))
    assert_bump(part, hertz=2500.0, octaves=0.5)
    assert block_levels(part, seconds=0.1).std() < 0.7


# Squeal


def test_a_squeal_is_a_sawtooth() -> None:
    """Harmonics at k f with amplitudes 1 / k, up to the Nyquist frequency."""
    frequencies, power = welch(
        added(Squeal(1100.0, level=1.0), at_constant_speed(20.0, seconds=20.0)), RATE, nperseg=4096
    )
    harmonics = np.array([power[np.abs(frequencies / (1100 * k) - 1) < 0.05].sum() for k in range(1, 7)])
    np.testing.assert_allclose(harmonics / harmonics[0], 1 / np.arange(1, 7) ** 2, rtol=0.15)
    strongest = np.abs(frequencies - 1100) < 400
    assert (frequencies * power)[strongest].sum() / power[strongest].sum() == pytest.approx(1100, rel=0.01)
    assert harmonics.sum() > 0.99 * power.sum()


@pytest.mark.parametrize(("limit", "share"), [(-1.0, 0.86), (0.0, 0.5), (1.0, 0.14)])
def test_a_squeal_comes_in_bursts(limit: float, share: float) -> None:
    part = added(Squeal(1100.0, level=1.0, limit=limit), at_constant_speed(20.0, seconds=60.0))
    sounds = block_levels(part, seconds=0.01) > -60
    assert sounds.mean() == pytest.approx(share, abs=0.1)
    starts = np.diff(sounds.astype(int)) == 1
    assert 15 < starts.sum() < 120  # at three changes a second


@pytest.mark.parametrize("limit", [0.0, 3.0])
def test_a_squeal_is_heard_in_every_clip(limit: float) -> None:
    running = at_constant_speed(20.0, seconds=0.5)
    for seed in range(50):
        part = added(Squeal(1100.0, level=0.5, limit=limit), running, seed=seed)
        assert rms(part) == pytest.approx(0.5 * rms(running.sound))


def test_sticking_and_slipping_is_steep_but_not_peaked() -> None:
    """The sum of sin(k x) / k up to k = 6 peaks at 1.88 times its RMS, that of cos(k x) / k at 2.84 times."""
    part = added(Squeal(1100.0, level=1.0, limit=-9.0), at_constant_speed(20.0))
    assert np.abs(part).max() / rms(part) == pytest.approx(1.88, rel=0.03)


def test_the_tone_of_a_squeal_wanders_by_a_percent() -> None:
    part = added(Squeal(1100.0, level=1.0, limit=-9.0), at_constant_speed(20.0, seconds=20.0))
    tone = sosfiltfilt(butter(2, [900, 1300], "bandpass", fs=RATE, output="sos"), part)
    hertz = np.diff(np.unwrap(np.angle(hilbert(tone)))[:: RATE // 50]) * 50 / (2 * np.pi)
    assert hertz.mean() == pytest.approx(1100, rel=0.005)
    assert hertz.std() / 1100 == pytest.approx(0.009, abs=0.002)


# Surge


@pytest.mark.parametrize(("swell", "hertz"), [(0.45, 9.0), (0.6, 12.0)])
def test_a_surge_swells_below_the_speed_of_the_shaft(swell: float, hertz: float) -> None:
    running = at_constant_speed(20.0)
    gain = faulty(Surge(depth=0.4, level=0.0, hertz=200.0, swell=swell), running) / running.sound
    assert peaks(gain, 1) == {hertz}
    assert line(gain, hertz) == pytest.approx(0.4)


def test_a_surge_rumbles_around_its_frequency_and_swells_itself() -> None:
    part = added(Surge(depth=0.0, level=1.0, hertz=400.0), at_constant_speed(20.0, seconds=40.0))
    assert_bump(part, hertz=400.0, octaves=1.0)
    envelope = np.abs(hilbert(part))
    assert peak_near(envelope, 20.0, within=18) == pytest.approx(9, abs=0.2)
    assert line(envelope, 9.0) == pytest.approx(0.8 * envelope.mean(), rel=0.15)


# What a machine hands over


def test_a_machine_without_events_has_none(rng: np.random.Generator) -> None:
    first, second = (Running(rng.standard_normal(9), np.arange(9.0), RATE) for _ in range(2))
    assert first.events.shape == (0,)
    assert first.events is not second.events
