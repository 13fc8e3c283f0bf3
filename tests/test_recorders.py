"""Microphone faults, and that the health check of recordings finds them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import find_peaks, welch

from nearfar.recordings.audio import FAR, NEAR
from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.measured import measure
from nearfar.simulation.recorders import (
    DELAY_SECONDS,
    LEAD_SECONDS,
    MICROPHONE_FAULTS,
    Recording,
    dead,
    delayed,
    fitting_gain,
    hum,
    swapped,
)

RATE = 16000


@pytest.fixture
def recording(rng: np.random.Generator) -> Recording:
    lead = round(LEAD_SECONDS * RATE)
    return Recording(0.05 * rng.standard_normal((2, lead + 2 * RATE)), lead, RATE)


@pytest.mark.parametrize("fault", MICROPHONE_FAULTS)
@pytest.mark.parametrize("channel", [NEAR, FAR])
def test_a_fault_returns_a_clip_and_leaves_the_recording_alone(
    recording: Recording, fault: str, channel: int, rng: np.random.Generator
) -> None:
    before = recording.samples.copy()
    clip = MICROPHONE_FAULTS[fault](recording, channel, rng)
    assert clip.shape == (2, 2 * RATE)
    assert np.isfinite(clip).all()
    assert not np.array_equal(clip, recording.clip)
    np.testing.assert_array_equal(recording.samples, before)


@pytest.mark.parametrize("fault", ["dead", "clipped", "hum", "delayed"])
@pytest.mark.parametrize("channel", [NEAR, FAR])
def test_a_fault_befalls_its_channel_only(
    recording: Recording, fault: str, channel: int, rng: np.random.Generator
) -> None:
    clip = MICROPHONE_FAULTS[fault](recording, channel, rng)
    np.testing.assert_array_equal(clip[1 - channel], recording.clip[1 - channel])


@pytest.mark.parametrize("fault", ["dead", "clipped"])
@pytest.mark.parametrize("channel", [NEAR, FAR])
def test_the_health_check_finds_it(
    recording: Recording, fault: str, channel: int, rng: np.random.Generator
) -> None:
    assert faults_alone(measure(recording.clip.astype(np.float32), RATE)) == []
    clip = MICROPHONE_FAULTS[fault](recording, channel, rng)
    in_the_file = np.rint(clip * 32768) / 32768
    (found,) = faults_alone(measure(in_the_file.astype(np.float32), RATE))
    assert (found.kind, found.microphone) == (fault, ("near", "far")[channel])


def test_a_dead_channel_is_not_quite_silent(recording: Recording, rng: np.random.Generator) -> None:
    steps = np.rint(dead(recording, NEAR, rng)[NEAR] * 32768)
    assert 0 < np.abs(steps).max() <= 3


def test_a_ground_loop_hums_at_the_mains(recording: Recording, rng: np.random.Generator) -> None:
    frequencies, power = welch(hum(recording, FAR, rng)[FAR], RATE, nperseg=RATE)
    peaks, _ = find_peaks(power, height=30 * np.median(power))
    assert set(frequencies[peaks]) == {50.0, 150.0, 250.0}


def test_swapped_channels_are_exchanged(recording: Recording, rng: np.random.Generator) -> None:
    np.testing.assert_array_equal(swapped(recording, NEAR, rng), recording.clip[::-1])


def test_a_late_channel_holds_what_was_before(recording: Recording, rng: np.random.Generator) -> None:
    late = delayed(recording, NEAR, rng)[NEAR]
    shifts = [
        shift for shift in range(recording.lead + 1)
        if np.array_equal(late[:100], recording.samples[NEAR, recording.lead - shift :][:100])
    ]  # fmt: skip
    (shift,) = shifts
    assert DELAY_SECONDS[0] * RATE - 1 <= shift <= DELAY_SECONDS[1] * RATE + 1
    np.testing.assert_array_equal(late[shift:], recording.clip[NEAR, : len(late) - shift])


def test_only_what_is_too_loud_becomes_quieter() -> None:
    assert fitting_gain(np.array([[0.5, -0.9]])) == 1
    assert fitting_gain(np.array([[0.5, -2.0]])) == pytest.approx(0.495)
