"""The simulator: its layout, its determinism, and that it sounds as its docstrings say."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import hilbert, stft, welch
from sklearn.metrics import roc_auc_score

from nearfar.audio import FAR, NEAR, read, read_header
from nearfar.clips import parse_clip
from nearfar.simulation import MACHINES, simulate
from nearfar.simulation.dataset import DOMAINS, LABELS, Cell, Planned, Site, plan, record
from nearfar.simulation.faults import Impacts, Running, Unbalance, outer_race_order
from nearfar.simulation.machines import OUTER_RACE_6205, Condition, Fan, Gearbox, dry_sound, shaft_angle
from nearfar.simulation.noise import HUM_HZ, Surroundings, coloured, drift, hum, impacts, noise_gain, rms
from nearfar.simulation.rooms import (
    HALF_WIDTH,
    SPEED_OF_SOUND,
    Installation,
    Room,
    add_arrival,
    first_images,
    heard,
    impulse_response,
)

RATE = 16000
SMALL: dict[str, Any] = {"source_clips": 3, "target_clips": 2, "test_clips": 3, "seconds": 0.5}
TINY: dict[str, Any] = {"machines": ["fan"], "source_clips": 1, "target_clips": 1, "test_clips": 1}
FAULTS = [
    (name, fault)
    for name, kind in MACHINES.items()
    for fault in kind.manufacture(np.random.default_rng(0)).faults()
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("simulation") / "made", **SMALL)


@pytest.fixture(scope="module")
def manifest(made: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def spectrum(signal: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies one Hz apart, and power."""
    frequencies, power = welch(signal, RATE, nperseg=RATE)
    return frequencies, power


def peak_near(signal: NDArray[np.float64], hertz: float, *, within: float) -> float:
    """The frequency of the strongest line in a band around ``hertz``."""
    frequencies, power = spectrum(signal)
    band = np.abs(frequencies - hertz) < within
    return float(frequencies[band][np.argmax(power[band])])


# The layout


def test_every_recording_parses_as_a_clip_of_the_challenge(
    made: Path, manifest: list[dict[str, Any]]
) -> None:
    for line in manifest:
        clip = parse_clip(made / line["key"])
        assert clip.path.is_file()
        assert (clip.key, clip.section) == (line["key"], 0)
        for field in ("machine", "split", "domain", "label"):
            assert getattr(clip, field) == line[field]
        assert clip.attributes == f"rpm_{line['rpm']}_load_{line['load']}"


def test_the_folder_holds_what_was_asked_for_and_nothing_else(
    made: Path, manifest: list[dict[str, Any]]
) -> None:
    cells = Counter((c["machine"], c["split"], c["domain"], c["label"]) for c in manifest)
    expected = {}
    for machine in MACHINES:
        expected |= {(machine, "train", "source", "normal"): 3, (machine, "train", "target", "normal"): 2}
        expected |= {(machine, "test", domain, label): 3 for domain in DOMAINS for label in LABELS}
    assert cells == expected
    tables = {"manifest.jsonl", "simulated.json", *(f"{m}/attributes_00.csv" for m in MACHINES)}
    assert set(contents(made)) == tables | {c["key"] for c in manifest}


def test_recordings_are_16_bit_of_two_channels(made: Path, manifest: list[dict[str, Any]]) -> None:
    header = read_header(made / manifest[0]["key"])
    assert (header.rate, header.channels, header.samples, header.format) == (RATE, 2, 8000, "WAV/PCM_16")
    for line in manifest:
        samples, _ = read(made / line["key"])
        assert 10 ** (-11 / 20) < np.abs(samples).max() < 10 ** (-3 / 20) + 1e-4


def test_the_attribute_table_lists_every_clip(made: Path, manifest: list[dict[str, Any]]) -> None:
    for machine in MACHINES:
        with (made / machine / "attributes_00.csv").open() as file:
            rows = list(csv.DictReader(file))
        listed = [(r["file_name"], r["d1p"], int(r["d1v"]), r["d2p"], int(r["d2v"])) for r in rows]
        assert listed == [
            (c["key"], "rpm", c["rpm"], "load", c["load"]) for c in manifest if c["machine"] == machine
        ]


def test_the_manifest_tells_the_truth_about_faults(manifest: list[dict[str, Any]]) -> None:
    for line in manifest:
        machine = MACHINES[line["machine"]]
        assert (line["fault"] is not None) == (line["severity"] > 0) == (line["label"] == "anomaly")
        assert line["rpm"] in (machine.SOURCE_RPM if line["domain"] == "source" else machine.TARGET_RPM)
        assert -8 <= line["snr_db"] <= 0
    assert {(c["machine"], c["fault"]) for c in manifest if c["fault"]} == set(FAULTS)


def test_speeds_of_the_target_are_new() -> None:
    for machine in MACHINES.values():
        assert not set(machine.SOURCE_RPM) & set(machine.TARGET_RPM)


def test_the_parameters_are_kept(made: Path) -> None:
    kept = json.loads((made / "simulated.json").read_text())
    asked = {**SMALL, "machines": ["fan", "gearbox"], "rate": RATE, "snr": [-8.0, 0.0], "seed": 0}
    assert kept == {"format": 1, **asked}


# Determinism


def test_equal_seeds_give_equal_bytes(made: Path, tmp_path: Path) -> None:
    assert contents(simulate(tmp_path / "again", **SMALL)) == contents(made)


def test_another_seed_gives_other_recordings(made: Path, tmp_path: Path) -> None:
    other = contents(simulate(tmp_path / "other", seconds=0.5, seed=1, **TINY))
    recordings = {v for k, v in contents(made).items() if k.endswith(".wav")}
    assert not recordings & set(other.values())


def test_a_clip_is_the_same_whatever_else_there_is(made: Path, tmp_path: Path) -> None:
    fewer = contents(simulate(tmp_path / "fewer", seconds=0.5, **TINY))
    recordings = {k: v for k, v in fewer.items() if k.endswith(".wav")}
    assert len(recordings) == 6
    assert recordings.items() <= contents(made).items()


# Machines: the frequencies of their docstrings


def running(machine: str, rpm: int, *, seconds: float = 4.0, load: int = 1) -> Running:
    rng = np.random.default_rng(0)
    specimen = MACHINES[machine].manufacture(rng)
    return specimen.run(Condition(rpm, load), samples=int(seconds * RATE), rate=RATE, rng=rng)


@pytest.mark.parametrize("rpm", [1200, 1800])
@pytest.mark.parametrize("harmonic", [1, 2, 3])
def test_a_fan_has_lines_at_the_blade_passing_frequency(rpm: int, harmonic: int) -> None:
    expected = harmonic * Fan.BLADES * rpm / 60
    found = peak_near(running("fan", rpm).sound, expected, within=0.4 * Fan.BLADES * rpm / 60)
    assert found == pytest.approx(expected, rel=0.015)


def test_turbulence_of_a_fan_grows_with_its_load() -> None:
    def between_lines(load: int) -> float:
        frequencies, power = spectrum(running("fan", 1200, load=load).sound)
        orders = frequencies / (Fan.BLADES * 1200 / 60)
        return float(power[(np.abs(orders % 1 - 0.5) < 0.2) & (orders < 10)].sum())

    assert between_lines(2) > 1.3 * between_lines(1)


@pytest.mark.parametrize("rpm", [1400, 2200])
def test_a_gearbox_has_lines_at_both_mesh_frequencies(rpm: int) -> None:
    first, second = Gearbox.STAGES
    sound = running("gearbox", rpm).sound
    for expected in (
        first.driving * rpm / 60,
        second.driving * rpm / 60 * first.driving / first.driven,
    ):
        assert peak_near(sound, expected, within=0.2 * expected) == pytest.approx(expected, rel=0.015)


def test_a_mesh_line_has_sidebands_at_the_distance_of_its_shaft(rng: np.random.Generator) -> None:
    eccentric = replace(Gearbox.manufacture(rng), amplitude_depth=0.8)
    sound = eccentric.run(Condition(2200, 2), samples=4 * RATE, rate=RATE, rng=rng).sound
    frequencies, power = spectrum(sound)
    orders, mesh = frequencies / (2200 / 60), Gearbox.STAGES[0].driving

    def around(order: float) -> float:
        return float(power[np.abs(orders - order) < 0.06].max())

    for side in (-1, 1):
        assert around(mesh + side) > 5 * around(mesh + 1.4 * side)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_has_one_level_before_it_is_recorded(machine: str) -> None:
    for rpm, load in ((MACHINES[machine].SOURCE_RPM[0], 1), (MACHINES[machine].TARGET_RPM[-1], 2)):
        assert rms(running(machine, rpm, load=load).sound) == pytest.approx(1)


@pytest.mark.parametrize("machine", MACHINES)
def test_specimens_differ(machine: str) -> None:
    manufacture = MACHINES[machine].manufacture
    assert manufacture(np.random.default_rng(0)) != manufacture(np.random.default_rng(1))
    assert manufacture(np.random.default_rng(0)) == manufacture(np.random.default_rng(0))


def test_a_shaft_keeps_its_speed_within_two_percent(rng: np.random.Generator) -> None:
    for _ in range(20):
        angle = shaft_angle(1400, samples=RATE, rate=RATE, rng=rng)
        rpm = np.diff(angle) * RATE / (2 * np.pi) * 60
        assert np.abs(rpm / 1400 - 1).max() < 0.02
        assert np.ptp(rpm) > 0


# Faults


def faulty(machine: str, fault: str | None, severity: float) -> NDArray[np.float64]:
    specimen = MACHINES[machine].manufacture(np.random.default_rng(0))
    return dry_sound(
        specimen,
        Condition(specimen.SOURCE_RPM[0], 1),
        fault=fault,
        severity=severity,
        samples=2 * RATE,
        rate=RATE,
        rng=np.random.default_rng(1),
    )


@pytest.mark.parametrize(("machine", "fault"), FAULTS)
def test_severity_0_is_a_healthy_machine(machine: str, fault: str) -> None:
    np.testing.assert_allclose(faulty(machine, fault, 0.0), faulty(machine, None, 0.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("machine", "fault"), FAULTS)
def test_severity_takes_the_spectrum_away_from_the_healthy_one(machine: str, fault: str) -> None:
    def levels(severity: float) -> NDArray[np.float64]:
        sound = faulty(machine, fault, severity)
        assert rms(sound) == pytest.approx(1)
        return 10 * np.log10(welch(sound, RATE, nperseg=1024)[1])

    healthy = levels(0.0)
    distances = [np.abs(levels(severity) - healthy).mean() for severity in (0.25, 0.5, 1.0)]
    assert distances[0] < distances[1] < distances[2]
    assert distances[0] > 0.01
    assert distances[2] > 0.3


def at_constant_speed(hertz: float, *, seconds: float = 4.0) -> Running:
    """White noise with a shaft that turns ``hertz`` times a second."""
    turned = 2 * np.pi * hertz / RATE * np.arange(int(seconds * RATE))
    return Running(np.random.default_rng(0).standard_normal(len(turned)), turned, RATE)


def test_unbalance_swells_once_per_revolution() -> None:
    healthy = at_constant_speed(25.0)
    sound = Unbalance(depth=0.8, line=0.0)(healthy, severity=1.0, rng=np.random.default_rng(0))
    assert peak_near(np.abs(hilbert(sound)), 25.0, within=20) == pytest.approx(25, abs=1)


def test_unbalance_adds_a_line_at_order_one() -> None:
    healthy = at_constant_speed(25.0)
    sound = Unbalance(depth=0.0, line=0.5)(healthy, severity=1.0, rng=np.random.default_rng(0))
    assert peak_near(sound, 25.0, within=20) == pytest.approx(25, abs=1)
    alone = Unbalance(depth=0.0, line=0.5, harmonics=1)(healthy, severity=1.0, rng=np.random.default_rng(0))
    assert rms(alone - healthy.sound) == pytest.approx(0.5 * rms(healthy.sound), rel=1e-3)


def test_an_outer_race_is_hit_at_its_ball_pass_frequency() -> None:
    fault = Impacts(OUTER_RACE_6205, 3000.0, damping=0.03, level=1.0, jitter=0.01)
    healthy = at_constant_speed(25.0)
    ringing = fault(healthy, severity=1.0, rng=np.random.default_rng(0)) - healthy.sound
    envelope = np.abs(hilbert(ringing))
    assert peak_near(envelope, OUTER_RACE_6205 * 25, within=40) == pytest.approx(OUTER_RACE_6205 * 25, abs=2)
    assert peak_near(ringing, 3000.0, within=2000) == pytest.approx(3000, rel=0.03)
    assert rms(ringing) == pytest.approx(rms(healthy.sound))


def test_the_order_of_an_outer_race_is_the_published_one() -> None:
    assert pytest.approx(3.5848, abs=1e-3) == OUTER_RACE_6205  # Case Western Reserve University
    assert outer_race_order(balls=8, ball_diameter=1.0, pitch_diameter=5.0) == pytest.approx(3.2)


def test_a_damaged_tooth_is_heard_once_per_revolution(rng: np.random.Generator) -> None:
    angle = at_constant_speed(20.0).angle
    onsets = Impacts(1.0, 1500.0, damping=0.05, level=1.0).onsets(angle, rng=rng)
    np.testing.assert_allclose(np.diff(onsets), RATE / 20)
    assert len(onsets) == 4 * 20


def test_slip_adds_up(rng: np.random.Generator) -> None:
    fault = Impacts(1.0, 1500.0, damping=0.05, level=1.0, jitter=0.02)
    intervals = np.diff(fault.onsets(at_constant_speed(100.0, seconds=20).angle, rng=rng))
    assert intervals.mean() == pytest.approx(160, rel=0.005)
    assert intervals.std() == pytest.approx(0.02 * 160, rel=0.1)
    assert np.corrcoef(intervals[1:], intervals[:-1])[0, 1] == pytest.approx(0, abs=0.1)


def test_ringing_is_the_sum_of_damped_sines() -> None:
    """Against the formula of the docstring, impact by impact."""
    fault = Impacts(1.0, 1500.0, damping=0.05, level=1.0)
    onsets = np.array([10.0, 33.3, 500.75])
    samples, omega = np.arange(2000), 2 * np.pi * 1500 / RATE
    strengths = 1 + 0.2 * np.random.default_rng(3).standard_normal(3)
    expected = np.zeros(2000)
    for onset, strength in zip(onsets, strengths, strict=True):
        since = np.maximum(samples - onset, 0)
        expected += strength * np.exp(-0.05 * omega * since) * np.sin(omega * since)
    ringing = fault._ringing(onsets, samples=2000, rate=RATE, rng=np.random.default_rng(3))
    np.testing.assert_allclose(ringing, expected, atol=1e-10)


def test_a_shaft_that_hardly_turns_hits_nothing() -> None:
    still = Running(np.ones(100), np.linspace(0, 1e-9, 100), RATE)
    fault = Impacts(1.0, 1500.0, damping=0.05, level=1.0)
    np.testing.assert_array_equal(fault(still, severity=1.0, rng=np.random.default_rng(0)), still.sound)


@pytest.mark.parametrize(
    "fault", [Unbalance(depth=0.5, line=0.5), Impacts(1.0, 1500.0, damping=0.05, level=1.0)]
)
@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
def test_a_severity_beyond_its_range_is_refused(fault: Any, severity: float) -> None:
    with pytest.raises(ValueError, match=rf"severity={severity}: must be between 0"):
        fault(at_constant_speed(25.0, seconds=0.1), severity=severity, rng=np.random.default_rng(0))


# Rooms


@pytest.fixture(scope="module")
def room() -> Room:
    return Room(size=np.array([9.0, 7.0, 4.0]), reflection=0.5)


@pytest.mark.parametrize("distance", [0.2, 0.2137, 1.0, 2.718])
def test_a_sound_arrives_between_the_samples(distance: float) -> None:
    response = np.zeros(512)
    add_arrival(response, distance, 1 / distance, rate=RATE)
    omega = 2 * np.pi * np.arange(0, 7000, 50) / RATE
    transfer = np.exp(-1j * np.outer(omega, np.arange(512))) @ response
    expected = np.exp(-1j * omega * (HALF_WIDTH + distance / SPEED_OF_SOUND * RATE)) / distance
    np.testing.assert_allclose(transfer, expected, atol=0.01 / distance)


def test_images_are_as_far_behind_the_walls_as_the_source_is_before_them(room: Room) -> None:
    source = np.array([1.0, 2.0, 3.0])
    images = first_images(room, source)
    expected = [(-1, 2, 3), (17, 2, 3), (1, -2, 3), (1, 12, 3), (1, 2, -3), (1, 2, 5)]
    np.testing.assert_allclose(images, expected)


def test_a_room_decays_in_its_reverberation_time(room: Room, rng: np.random.Generator) -> None:
    source, microphone = np.array([2.0, 3.5, 1.0]), np.array([4.5, 3.5, 1.0])
    responses = np.array([impulse_response(room, source, microphone, rate=RATE, rng=rng) for _ in range(20)])
    from_sample, to_sample = int(0.05 * RATE), int((0.05 + room.reverberation_seconds / 3) * RATE)
    energy = (responses**2).mean(0)
    decay_db = 10 * np.log10(
        energy[from_sample : from_sample + 160].mean() / energy[to_sample : to_sample + 160].mean()
    )
    assert decay_db == pytest.approx(20, abs=2)


def test_diffuse_sound_is_as_strong_as_direct_sound_at_the_critical_distance(
    room: Room, rng: np.random.Generator
) -> None:
    source, microphone = np.array([2.0, 3.5, 1.0]), np.array([4.5, 3.5, 1.0])
    responses = [impulse_response(room, source, microphone, rate=RATE, rng=rng) for _ in range(50)]
    diffuse = np.var(responses, axis=0).sum()  # the arrivals are the same every time
    assert diffuse == pytest.approx(1 / room.critical_distance**2, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_the_machine_is_loud_near_and_the_noise_is_loud_far(seed: int) -> None:
    at = Installation.draw(rate=RATE, rng=np.random.default_rng(seed))
    machine = np.sum(at.machine**2, axis=1)
    assert 10 * np.log10(machine[NEAR] / machine[FAR]) > 12
    for ways in (at.hum, *at.ambient.values()):
        noise = np.sum(ways**2, axis=1)
        assert 10 * np.log10(noise[FAR] / noise[NEAR]) > 3


def test_an_installation_is_its_seed() -> None:
    first, again, other = (Installation.draw(rate=RATE, rng=np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.machine, again.machine)
    np.testing.assert_array_equal(first.gains, again.gains)
    assert not np.array_equal(first.gains, other.gains)


def test_both_microphones_hear_a_sound_through_their_way(rng: np.random.Generator) -> None:
    sound, ways = rng.standard_normal(300), rng.standard_normal((2, 50))
    expected = [np.convolve(sound, way, mode="valid") for way in ways]
    np.testing.assert_allclose(heard(sound, ways), expected, atol=1e-10)


# Noise and its mixing


@pytest.mark.parametrize("slope", [0.0, 3.0, 6.0])
def test_coloured_noise_falls_by_its_slope(slope: float, rng: np.random.Generator) -> None:
    frequencies, power = welch(coloured(slope, samples=20 * RATE, rate=RATE, rng=rng), RATE, nperseg=4096)
    band = (frequencies > 100) & (frequencies < 6000)
    fitted = np.polyfit(np.log2(frequencies[band]), 10 * np.log10(power[band]), 1)
    assert -fitted[0] == pytest.approx(slope, abs=0.2)


def test_drift_is_slow_and_about_standard_normal(rng: np.random.Generator) -> None:
    course = drift(0.5, samples=200 * 100, rate=100, rng=rng)
    assert (course.mean(), course.std()) == (pytest.approx(0, abs=0.3), pytest.approx(1, abs=0.25))
    assert np.abs(np.diff(course)).max() < 0.1


def test_hum_is_at_twice_the_mains(rng: np.random.Generator) -> None:
    sound = hum(samples=RATE, rate=RATE, rng=rng)
    assert rms(sound) == pytest.approx(1)
    assert peak_near(sound, 500, within=500) == HUM_HZ


def test_impacts_are_rare_and_decay(rng: np.random.Generator) -> None:
    sound = impacts(samples=60 * RATE, rate=RATE, rng=rng)
    loud = np.abs(sound) > 0.5
    assert 0 < loud.mean() < 0.1


def test_the_colour_of_the_surroundings_shifts(rng: np.random.Generator) -> None:
    source, target = (Surroundings.draw(domain, rng) for domain in DOMAINS)
    assert source.slope < target.slope


@pytest.mark.parametrize("snr_db", [-8.0, 0.0, 12.0])
def test_noise_is_mixed_to_the_ratio_asked_for(snr_db: float, rng: np.random.Generator) -> None:
    wanted, noise = 3.0 * rng.standard_normal(RATE), 0.1 * rng.standard_normal(RATE)
    mixed = wanted + noise_gain(wanted, noise, snr_db=snr_db) * noise
    assert 20 * np.log10(rms(wanted) / rms(mixed - wanted)) == pytest.approx(snr_db, abs=0.5)


def test_silence_cannot_be_mixed() -> None:
    with pytest.raises(ValueError, match=r"rms\(wanted\)=0.0, rms\(noise\)=1.0: both must be above 0"):
        noise_gain(np.zeros(10), np.ones(10), snr_db=0.0)


# Recordings


def planned(site: Site, machine: str, *, index: int = 0, **cell: Any) -> Planned:
    where = Cell(machine, **{"split": "test", "domain": "source", "label": "normal", **cell})
    return plan(site.machine, where, index, snr=(-8.0, 0.0), seed=0)


@pytest.fixture(scope="module")
def sites() -> dict[str, Site]:
    return {machine: Site.draw(machine, rate=RATE, seed=0) for machine in MACHINES}


@pytest.mark.parametrize("machine", MACHINES)
def test_loudness_does_not_tell_normal_from_anomalous(machine: str, sites: dict[str, Site]) -> None:
    labels, levels = [], []
    for label in LABELS:
        for domain in DOMAINS:
            for index in range(30):
                clip = planned(sites[machine], machine, index=index, domain=domain, label=label)
                recording = record(sites[machine], clip, samples=RATE // 2, rate=RATE)
                labels.append(label == "anomaly")
                levels.append([rms(recording[NEAR]), rms(recording[FAR])])
    for channel in np.array(levels).T:
        assert 0.42 < roc_auc_score(labels, channel) < 0.58


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_what_the_far_microphone_explains_can_be_taken_from_the_near_one(
    machine: str, domain: Any, sites: dict[str, Site]
) -> None:
    """Least squares per frequency on the mixture; the gain is measured on its two parts."""
    clip = planned(sites[machine], machine, domain=domain)
    loud, quiet = (
        record(sites[machine], replace(clip, snr_db=snr_db), samples=4 * RATE, rate=RATE)
        for snr_db in (60.0, -60.0)
    )
    machine_alone = stft(loud / rms(loud[NEAR]), nperseg=1024)[2]
    noise_alone = stft(quiet / rms(quiet[NEAR]) * 10 ** (4 / 20), nperseg=1024)[2]
    near, far = machine_alone + noise_alone
    explained = (near * far.conj()).sum(-1) / ((np.abs(far) ** 2).sum(-1) + 1e-12)

    def energy(part: NDArray[np.complex128], factor: NDArray[np.complex128]) -> float:
        return float((np.abs(part[NEAR] - factor[:, None] * part[FAR]) ** 2).sum())

    nothing = np.zeros_like(explained)
    before = energy(machine_alone, nothing) / energy(noise_alone, nothing)
    after = energy(machine_alone, explained) / energy(noise_alone, explained)
    assert 10 * np.log10(before) == pytest.approx(-4, abs=0.5)
    assert 10 * np.log10(after / before) > 1.5


def test_the_fault_changes_neither_speed_nor_noise(sites: dict[str, Site]) -> None:
    site = sites["fan"]
    clip = planned(site, "fan", label="anomaly")
    healthy = replace(clip, fault=None, severity=0.0)
    almost = record(site, replace(clip, severity=1e-9), samples=RATE, rate=RATE)
    np.testing.assert_allclose(almost, record(site, healthy, samples=RATE, rate=RATE), atol=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"machines": ["fam"]}, r"no machine 'fam'; did you mean 'fan'\? There are: fan, gearbox"),
        ({"machines": []}, r"machines=\(\): expected at least one machine"),
        ({"machines": ["fan", "fan"]}, r"machines=\('fan', 'fan'\): .* each once"),
        ({"source_clips": 0}, "source_clips=0: must be between 1 and 10000"),
        ({"target_clips": -1}, "target_clips=-1: must be between 1 and 10000"),
        ({"test_clips": 10001}, "test_clips=10001: must be between 1 and 10000"),
        ({"seconds": 0.4}, "seconds=0.4: must be finite and at least 0.5"),
        ({"seconds": float("nan")}, "seconds=nan: must be finite"),
        ({"rate": 4000}, "rate=4000: must be at least 8000 Hz"),
        ({"snr": (3.0, -3.0)}, r"snr=\(3.0, -3.0\): expected two finite levels in dB, the lower one first"),
        ({"snr": (0.0, float("inf"))}, "snr=.*: expected two finite levels"),
        ({"seed": -1}, "seed=-1: must not be negative"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_is_written(
    parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path / "out", **parameters)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        simulate(tmp_path, **TINY)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_progress_is_told_and_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    told = []

    def stop_at_the_third(done: int, total: int) -> None:
        told.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", seconds=0.5, progress=stop_at_the_third, **TINY)
    assert told == [(1, 6), (2, 6), (3, 6)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_rates_are_recorded_too(rate: int, tmp_path: Path) -> None:
    out = simulate(tmp_path / "out", seconds=0.5, rate=rate, **{**TINY, "machines": list(MACHINES)})
    headers = [read_header(path) for path in out.rglob("*.wav")]
    assert {(h.rate, h.samples) for h in headers} == {(rate, rate // 2)}
