"""Machines: what all have in common, and that each sounds at the frequencies of its docstring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import hilbert, spectrogram, welch

from nearfar.simulation.faults import Fault, Running
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.fan import Fan
from nearfar.simulation.machines.gearbox import Gearbox
from nearfar.simulation.machines.mechanics import Condition, Machine, dry_sound, shaft_angle
from nearfar.simulation.machines.motor import BrushlessMotor, WeakMagnet
from nearfar.simulation.machines.toycar import ToyCar
from nearfar.simulation.signals import Signal, rms

RATE = 16000
RATES = (8000, 16000, 48000)


def specimen(machine: str, seed: int = 0) -> Machine:
    return MACHINES[machine].manufacture(np.random.default_rng(seed))


FAULTS = [(machine, fault) for machine in MACHINES for fault in specimen(machine).faults()]
TURNING = [machine for machine, kind in MACHINES.items() if kind.SPEED_UNIT == "rpm"]


def conditions(machine: str) -> list[Condition]:
    """All in which the machine can run."""
    speeds, loads = MACHINES[machine].SPEEDS, MACHINES[machine].LOADS
    return [Condition(*both) for both in product(speeds.usual + speeds.shifted, loads.usual + loads.shifted)]


@cache
def running(
    machine: str | Machine,
    speed: int,
    *,
    load: int = 1,
    seconds: float = 4.0,
    rate: int = RATE,
) -> Running:
    made = specimen(machine) if isinstance(machine, str) else machine
    rng = np.random.default_rng(0)
    return made.run(Condition(speed, load), samples=int(seconds * rate), rate=rate, rng=rng)


@cache
def dry(machine: str, fault: str | None = None, severity: float = 0.0, *, seconds: float = 0.5) -> Signal:
    made = specimen(machine)
    return dry_sound(
        made,
        Condition(made.SPEEDS.usual[0], 1),
        fault=fault,
        severity=severity,
        samples=int(seconds * RATE),
        rate=RATE,
        rng=np.random.default_rng(1),
    )


def added(machine: str, fault: str, healthy: Running, *, severity: float = 1.0) -> Signal:
    """What a fault adds to the sound."""
    faulty = specimen(machine).faults()[fault](healthy, severity=severity, rng=np.random.default_rng(2))
    return faulty - healthy.sound


def spectrum(signal: Signal, *, rate: int = RATE) -> tuple[Signal, Signal]:
    """Frequencies half a Hz apart, and power."""
    frequencies, power = welch(signal, rate, nperseg=2 * rate)
    return frequencies, power


def line_near(signal: Signal, hertz: float, *, within: float, rate: int = RATE) -> float:
    """The frequency of the strongest line in a band around ``hertz``, where there must be one."""
    frequencies, power = spectrum(signal, rate=rate)
    band = np.abs(frequencies - hertz) < within
    assert power[band].max() > 5 * np.median(power[band])
    return float(frequencies[band][np.argmax(power[band])])


def level_at(signal: Signal, hertz: float, *, rate: int = RATE) -> float:
    """Power in dB within 1.5 % (at least 1.5 Hz) of a frequency."""
    frequencies, power = spectrum(signal, rate=rate)
    return float(10 * np.log10(power[np.abs(frequencies - hertz) < max(1.5, 0.015 * hertz)].sum()))


# What all machines have in common


def test_the_registry_is_in_its_order() -> None:
    order = ["fan", "gearbox", "bearing", "pump", "slider", "valve", "motor", "toycar"]
    assert list(MACHINES) == order


@pytest.mark.parametrize("machine", MACHINES)
def test_a_specimen_is_its_seed(machine: str) -> None:
    assert specimen(machine, 0) == specimen(machine, 0)
    assert specimen(machine, 0) != specimen(machine, 1)


@pytest.mark.parametrize("machine", MACHINES)
def test_specimens_sound_differently(machine: str) -> None:
    speed = MACHINES[machine].SPEEDS.usual[0]
    one, other = (running(specimen(machine, seed), speed, seconds=0.5).sound for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_can_fail_in_three_ways_at_least(machine: str) -> None:
    assert len(specimen(machine).faults()) >= 3


@pytest.mark.parametrize("machine", MACHINES)
def test_names_fit_into_an_attribute(machine: str) -> None:
    made = specimen(machine)
    names = [machine, made.SPEED_UNIT, *made.faults(), *made.frequencies(conditions(machine)[0])]
    assert all(name.isidentifier() and name == name.lower() for name in names)
    assert made.SPEED_UNIT in ("rpm", "cpm")


@pytest.mark.parametrize("machine", MACHINES)
def test_a_shifted_domain_has_conditions_that_the_usual_one_has_not(machine: str) -> None:
    for offer in (MACHINES[machine].SPEEDS, MACHINES[machine].LOADS):
        values = offer.usual + offer.shifted
        assert offer.usual
        assert offer.shifted
        assert len(set(values)) == len(values)
        assert min(values) >= 1


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_has_one_level_in_all_conditions(machine: str) -> None:
    for condition in conditions(machine):
        made = running(machine, condition.speed, load=condition.load, seconds=0.5)
        assert rms(made.sound) == pytest.approx(1)
        assert np.isfinite(made.sound).all()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rate", RATES)
def test_a_machine_runs_and_fails_at_any_rate(machine: str, rate: int) -> None:
    fastest = max(condition.speed for condition in conditions(machine))
    healthy = running(machine, fastest, seconds=0.5, rate=rate)
    assert healthy.rate == rate
    assert len(healthy.sound) == len(healthy.angle) == rate // 2
    assert rms(healthy.sound) == pytest.approx(1)
    for fault in specimen(machine).faults():
        part = added(machine, fault, healthy)
        assert np.isfinite(part).all()
        assert rms(part) > 0.05


@pytest.mark.parametrize("machine", MACHINES)
def test_equal_generators_give_equal_bytes(machine: str) -> None:
    first, again, other = (
        specimen(machine).run(
            conditions(machine)[0], samples=RATE // 2, rate=RATE, rng=np.random.default_rng(seed)
        )
        for seed in (3, 3, 4)
    )
    for field in ("sound", "angle", "events"):
        assert getattr(first, field).tobytes() == getattr(again, field).tobytes()
    assert first.sound.tobytes() != other.sound.tobytes()


@pytest.mark.parametrize("machine", MACHINES)
def test_the_shaft_never_turns_back(machine: str) -> None:
    for condition in conditions(machine):
        made = running(machine, condition.speed, load=condition.load, seconds=0.5)
        assert (np.diff(made.angle) > 0).all()


@pytest.mark.parametrize("machine", TURNING)
def test_the_angle_has_the_speed_of_the_condition(machine: str) -> None:
    for speed in {condition.speed for condition in conditions(machine)}:
        angle = running(machine, speed, seconds=0.5).angle
        rpm = (angle[-1] - angle[0]) / (2 * np.pi) / (len(angle) - 1) * RATE * 60
        assert rpm == pytest.approx(speed, rel=0.02)


@pytest.mark.parametrize("machine", MACHINES)
def test_frequencies_are_positive_and_finite(machine: str) -> None:
    for condition in conditions(machine):
        frequencies = specimen(machine).frequencies(condition)
        assert frequencies
        assert all(0 < hertz < np.inf for hertz in frequencies.values())


@pytest.mark.parametrize(("machine", "fault"), FAULTS)
@pytest.mark.parametrize(("severity", "within"), [(0.0, 1e-12), (1e-9, 1e-6)])
def test_no_severity_is_a_healthy_machine(machine: str, fault: str, severity: float, within: float) -> None:
    np.testing.assert_allclose(dry(machine, fault, severity), dry(machine), rtol=0, atol=within)


@pytest.mark.parametrize(("machine", "fault"), FAULTS)
def test_severity_takes_the_spectrum_away_from_the_healthy_one(machine: str, fault: str) -> None:
    def levels(severity: float) -> Signal:
        sound = dry(machine, fault, severity, seconds=1.0)
        assert rms(sound) == pytest.approx(1)
        return 10 * np.log10(spectrogram(sound, RATE, nperseg=1024)[2])

    healthy = levels(0.0)
    distances = [np.abs(levels(severity) - healthy).mean() for severity in (0.25, 0.5, 1.0)]
    assert distances[0] < distances[1] < distances[2]
    assert distances[0] > 0.01
    assert distances[2] > 0.15  # dB; some are meant to be faint


@pytest.mark.parametrize(("machine", "fault"), FAULTS)
def test_what_a_fault_adds_is_proportional_to_its_severity(machine: str, fault: str) -> None:
    healthy = running(machine, MACHINES[machine].SPEEDS.usual[0], seconds=0.5)
    half, whole = (added(machine, fault, healthy, severity=severity) for severity in (0.5, 1.0))
    np.testing.assert_allclose(half, 0.5 * whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("machine", "fault"), FAULTS)
@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
def test_a_severity_beyond_its_range_is_refused(machine: str, fault: str, severity: float) -> None:
    silent = Running(np.zeros(100), np.linspace(0, 1, 100), RATE)
    with pytest.raises(ValueError, match=rf"severity={severity}: must be between 0 \(no change\) and 1"):
        added(machine, fault, silent, severity=severity)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_healthy_part_knows_nothing_of_fault_and_severity(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Signal] = []

    def spy(running: Running, *, severity: float, rng: np.random.Generator) -> Signal:
        heard.append(running.sound)
        return running.sound + severity * rng.standard_normal(len(running.sound))

    def faults(self: Machine) -> Mapping[str, Fault]:  # noqa: ARG001
        return {"one": spy, "other": spy}

    monkeypatch.setattr(MACHINES[machine], "faults", faults)
    for fault, severity in product(("one", "other"), (0.3, 1.0)):
        dry(machine, fault, severity)
    for sound in heard:
        np.testing.assert_array_equal(sound, dry(machine))
    assert len(heard) == 4


@pytest.mark.parametrize("rpm", [900, 12000])
def test_a_shaft_keeps_its_speed_within_two_percent(rpm: int, rng: np.random.Generator) -> None:
    for _ in range(20):
        angle = shaft_angle(rpm, samples=RATE, rate=RATE, rng=rng)
        speeds = np.diff(angle) * RATE / (2 * np.pi) * 60
        assert np.abs(speeds / rpm - 1).max() < 0.02
        assert np.ptp(speeds) > 0


# Frequencies: the formulas worked out by hand. The orders of the bearing 6205 are those that the Case Western
# Reserve University publishes: 5.4152 (inner race), 3.5848 (outer race), 0.39828 (cage), 4.7135 (ball, twice).


@pytest.mark.parametrize(
    ("machine", "speed", "name", "hertz"),
    [
        ("fan", 1200, "blade_passing", 7 * 20),
        ("fan", 1200, "outer_race", 3.5848 * 20),
        ("gearbox", 1800, "mesh_1", 19 * 30),
        ("gearbox", 1800, "shaft_2", 30 * 19 / 47),
        ("gearbox", 1800, "mesh_2", 23 * 30 * 19 / 47),
        ("bearing", 1200, "shaft", 20),
        ("bearing", 1200, "hum", 80),
        ("bearing", 1200, "outer_race", 3.5848 * 20),
        ("bearing", 1200, "inner_race", 5.4152 * 20),
        ("bearing", 1200, "ball", 4.7135 / 2 * 20),
        ("bearing", 1200, "cage", 0.39828 * 20),
        ("motor", 3000, "electric", 250),
        ("motor", 3000, "pull", 500),
        ("motor", 3000, "ripple", 1500),
        ("motor", 3000, "cogging", 3000),
        ("motor", 3000, "carrier", 6000),
        ("motor", 3000, "inner_race", 5.4152 * 50),
        ("toycar", 9000, "shaft", 150),
        ("toycar", 9000, "axle", 38.372),
        ("toycar", 9000, "commutation", 900),
        ("toycar", 9000, "mesh", 1650),
    ],
)
def test_frequencies_are_those_of_the_formulas(machine: str, speed: int, name: str, hertz: float) -> None:
    frequencies = specimen(machine).frequencies(Condition(speed, 1))
    assert frequencies[name] == pytest.approx(hertz, rel=2e-4)


def test_vortices_are_shed_at_their_strouhal_number(rng: np.random.Generator) -> None:
    fan = replace(Fan.manufacture(rng), wake=0.008)
    assert fan.frequencies(Condition(1200, 1))["vortices"] == pytest.approx(471.24, rel=1e-4)


@pytest.mark.parametrize(
    ("machine", "speed", "hertz", "within"),
    [
        *(("fan", 1200, k * 140, 60) for k in (1, 2, 3)),
        *(("fan", 1800, k * 210, 90) for k in (1, 2, 3)),
        ("gearbox", 1400, 443.33, 60),
        ("gearbox", 1400, 216.95, 40),
        ("gearbox", 2200, 696.67, 90),
        ("gearbox", 2200, 340.92, 70),
        ("bearing", 1200, 20, 8),
        *(("bearing", 1200, k * 71.696, 6) for k in (1, 2)),
        *(("bearing", 1200, k * 80, 7) for k in (1, 2, 3)),
        *(("bearing", 1800, k * 107.54, 9) for k in (1, 2)),
        ("motor", 2000, 33.33, 20),
        *(("motor", 2000, k * 333.33, 150) for k in (1, 2)),
        ("motor", 2000, 1000, 150),
        ("motor", 2000, 2000, 300),
        *(("motor", 2000, 6000 + k * 166.67, 120) for k in (-3, -1, 1, 3)),
        ("motor", 3000, 500, 200),
        ("motor", 3000, 3000, 500),
        ("toycar", 9000, 38.37, 20),
        *(("toycar", 9000, k * 900, 60) for k in (1, 2, 3)),
        *(("toycar", 9000, k * 1650, 60) for k in (1, 2)),
        ("toycar", 6000, 600, 100),
        ("toycar", 6000, 1100, 70),
    ],
)
def test_a_healthy_machine_has_its_lines(machine: str, speed: int, hertz: float, within: float) -> None:
    found = line_near(running(machine, speed).sound, hertz, within=within)
    assert found == pytest.approx(hertz, rel=0.015, abs=0.5)


@pytest.mark.parametrize(
    ("machine", "speed", "fault", "hertz", "within"),
    [
        ("fan", 1200, "blade", 20, 9),
        ("fan", 1200, "bearing", 71.696, 30),
        ("gearbox", 1800, "tooth", 30, 14),
        ("gearbox", 1800, "bearing", 107.54, 50),
        ("bearing", 1200, "outer_race", 71.696, 30),
        ("bearing", 1200, "inner_race", 108.3, 15),
        ("bearing", 1200, "inner_race", 20, 15),
        ("bearing", 1200, "inner_race", 108.3 - 20, 9),
        ("bearing", 1200, "inner_race", 108.3 + 20, 9),
        ("bearing", 1200, "rolling_element", 94.27, 5),
        ("bearing", 1200, "rolling_element", 7.966, 5),
        ("bearing", 1200, "rolling_element", 94.27 - 7.966, 3.5),
        ("bearing", 1200, "rolling_element", 94.27 + 7.966, 3.5),
        ("bearing", 1200, "cage", 7.966, 3.5),
        ("motor", 2000, "bearing", 180.51, 25),
        ("motor", 2000, "demagnetization", 33.33, 16),
        ("toycar", 9000, "tooth", 38.37, 18),
        ("toycar", 9000, "clogging", 38.37, 18),
    ],
)
def test_the_envelope_of_a_fault_has_its_frequency(
    machine: str, speed: int, fault: str, hertz: float, within: float
) -> None:
    part = added(machine, fault, running(machine, speed, seconds=8.0))
    found = line_near(np.abs(hilbert(part)), hertz, within=within)
    assert found == pytest.approx(hertz, rel=0.015, abs=0.5)


@pytest.mark.parametrize(
    ("machine", "speed", "fault", "hertz"),
    [
        ("fan", 1200, "unbalance", 20),
        ("gearbox", 1800, "misalignment", 60),
        ("motor", 2000, "unbalance", 33.33),
        ("motor", 2000, "eccentricity", 9 * 33.33),
        ("motor", 2000, "eccentricity", 11 * 33.33),
        ("toycar", 9000, "wheel", 38.37),
        ("toycar", 9000, "wheel", 2 * 38.37),
    ],
)
def test_a_rotor_that_shakes_adds_a_line(machine: str, speed: int, fault: str, hertz: float) -> None:
    part = added(machine, fault, running(machine, speed))
    found = line_near(part, hertz, within=0.4 * speed / 60 * (11 / 43 if machine == "toycar" else 1))
    assert found == pytest.approx(hertz, rel=0.015, abs=0.5)


# What each machine does beyond its lines


def test_turbulence_of_a_fan_grows_with_its_load() -> None:
    def between_lines(load: int) -> float:
        frequencies, power = spectrum(running("fan", 1200, load=load).sound)
        orders = frequencies / 140
        return float(power[(np.abs(orders % 1 - 0.5) < 0.2) & (orders < 10)].sum())

    assert between_lines(2) > 1.3 * between_lines(1)


def test_load_makes_the_mesh_of_a_gearbox_louder_than_its_hiss() -> None:
    def hiss(load: int) -> float:
        frequencies, power = spectrum(running("gearbox", 1800, load=load).sound)
        return float(power[frequencies > 6500].sum())

    assert hiss(3) < 0.5 * hiss(1)


@pytest.mark.parametrize(
    ("kind", "depth", "speed", "mesh_hz", "side_hz"),
    [
        (Gearbox, "amplitude_depth", 2200, 696.67, 36.67),
        (ToyCar, "eccentricity", 9000, 1650.0, 38.37),
        (BrushlessMotor, "eccentricity", 2000, 333.33, 33.33),
    ],
)
def test_a_line_has_sidebands_at_the_distance_of_the_shaft_that_is_not_round(
    kind: Any, depth: str, speed: int, mesh_hz: float, side_hz: float, rng: np.random.Generator
) -> None:
    eccentric = replace(kind.manufacture(rng), **{depth: 0.8})
    made = running(eccentric, speed, load=3)
    exact = (made.angle[-1] - made.angle[0]) / (2 * np.pi) / 4.0 / (speed / 60)  # of the speed in this clip
    frequencies, power = spectrum(made.sound)

    def around(hertz: float) -> float:
        return float(power[np.abs(frequencies / exact - hertz) < 0.15 * side_hz].max())

    for side in (-1, 1):
        assert around(mesh_hz + side * side_hz) > 5 * around(mesh_hz + side * 1.5 * side_hz)


def test_load_presses_the_balls_into_the_races() -> None:
    one, three = (running("bearing", 1200, load=load).sound for load in (1, 3))
    assert level_at(one, 80) - level_at(one, 71.696) == pytest.approx(
        6 + level_at(three, 80) - level_at(three, 71.696), abs=1.0
    )


def test_load_of_a_motor_raises_ripple_and_carrier_but_not_the_pull() -> None:
    one, three = (running("motor", 2000, load=load).sound for load in (1, 3))
    for hertz in (1000.0, 6166.67):
        above_pull = [level_at(sound, hertz) - level_at(sound, 333.33) for sound in (one, three)]
        assert above_pull[1] - above_pull[0] == pytest.approx(6, abs=1.5)


def test_load_of_a_toy_car_raises_the_lines_above_its_tyres() -> None:
    one, three = (running("toycar", 9000, load=load).sound for load in (1, 3))
    above_tyres = [level_at(sound, 1650) - level_at(sound, 1200) for sound in (one, three)]
    assert above_tyres[1] - above_tyres[0] == pytest.approx(6, abs=1.5)


def test_lines_that_cannot_be_sampled_are_left_out() -> None:
    """Of 6000 Hz and its sidebands nothing is folded to 2000 Hz and around."""
    motor = running("motor", 3000, rate=8000).sound
    for folded in (1750.0, 2000.0, 2250.0, 3500.0):
        around = [level_at(motor, folded + side, rate=8000) for side in (-120, 120)]
        assert level_at(motor, folded, rate=8000) < np.mean(around) + 3


def test_a_weak_magnet_is_missed_once_per_revolution() -> None:
    """The spectrum of one arch of a squared sine, a tenth of a revolution wide."""
    turned = 2 * np.pi * 25 / RATE * np.arange(4 * RATE)
    healthy = Running(np.random.default_rng(0).standard_normal(len(turned)), turned, RATE)
    faulty = WeakMagnet(10, depth=0.0, level=0.5)(healthy, severity=1.0, rng=np.random.default_rng(0))
    part = faulty - healthy.sound
    assert rms(part) == pytest.approx(0.5 * rms(healthy.sound))
    spectrum: NDArray[np.float64] = np.abs(np.fft.rfft(part))
    amplitudes = spectrum[:: 4 * 25]  # of the orders 0, 1, 2, ...
    expected = [np.sinc(k / 10) / (1 - (k / 10) ** 2) for k in (1, 5, 15)]
    np.testing.assert_allclose(
        amplitudes[[5, 15]] / amplitudes[1], np.array(expected[1:]) / expected[0], rtol=1e-3
    )
    assert amplitudes[20] < 1e-3 * amplitudes[1]
    assert amplitudes[0] < 1e-9 * amplitudes[1]


def test_a_weak_magnet_weakens_everything_while_it_passes() -> None:
    turned = 2 * np.pi * 25 / RATE * np.arange(4 * RATE)
    healthy = Running(np.ones(len(turned)), turned, RATE)
    faulty = WeakMagnet(10, depth=0.6, level=0.0)(healthy, severity=0.5, rng=np.random.default_rng(0))
    assert (faulty.min(), faulty.max()) == (pytest.approx(0.7, abs=1e-3), 1.0)
    assert (faulty < 1).mean() == pytest.approx(0.1, abs=0.01)
