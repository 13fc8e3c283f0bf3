"""Each kind of fault is planted and named, and only it; normal recordings are called nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.ndimage
from two_microphones import RATE, coloured, pcm, recording, tone

from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.faults import KINDS, RecordingFault, each_once
from nearfar.recordings.inspection.measured import measure
from nearfar.recordings.inspection.usual import Usual, faults_against
from nearfar.recordings.microphones import MICROPHONES

SECONDS = 10
N = SECONDS * RATE
CLIPS = 30
SIDES = [(0, "near"), (1, "far")]


def clip(seed, samples=N, **how):
    return recording(np.random.default_rng(seed), samples, **how)


def kinds(faults):
    return [(f.kind, f.microphone) for f in faults]


def alone(samples, rate=RATE):
    return faults_alone(measure(samples, rate))


def found(usual, samples, rate=RATE):
    """What is said of a recording, as of a detector."""
    samples = np.ascontiguousarray(samples, np.float32)
    measured = measure(samples, rate)
    return each_once([*faults_alone(measured), *faults_against(usual, measured, lambda: samples)])


@pytest.fixture(scope="module")
def training():
    return [measure(clip(seed), RATE) for seed in range(CLIPS)]


@pytest.fixture(scope="module")
def usual(training):
    return Usual.of(training, [""] * CLIPS)


# one recording by itself


def test_nothing_is_wrong_with_a_good_recording(rng):
    samples = recording(rng)
    samples.setflags(write=False)
    assert alone(samples) == alone(samples[:1]) == []


@pytest.mark.parametrize(("channel", "name"), SIDES)
@pytest.mark.parametrize("left", ["zeros", "offset", "converter noise"])
def test_a_dead_microphone(rng, channel, name, left):
    samples = recording(rng)
    n = samples.shape[1]
    samples[channel] = {
        "zeros": np.zeros(n),
        "offset": np.full(n, 0.1),
        "converter noise": rng.integers(0, 2, n) / 32768,
    }[left]
    faults = alone(samples)
    assert kinds(faults) == [("dead", name)]
    assert f"the {name} microphone is silent" in faults[0].message


def test_a_quiet_microphone_is_not_dead(rng):
    assert alone(pcm(recording(rng) * 1e-3)) == []


@pytest.mark.parametrize(("channel", "name"), SIDES)
@pytest.mark.parametrize(
    "top",
    [1.0, 0.7, 0.1, 0.02],
    ids=["at full scale", "in the preamplifier", "gain lowered after", "gain lowered a lot"],
)
def test_a_clipped_microphone(rng, channel, name, top):
    samples = recording(rng)
    loud = 3 * samples[channel] / np.abs(samples[channel]).max()
    samples[channel] = pcm(np.clip(loud, -1, 1) * top)
    faults = alone(samples)
    assert kinds(faults) == [("clipped", name)]
    assert f"the {name} microphone clips" in faults[0].message


@pytest.mark.parametrize("sign", [1, -1])
def test_a_microphone_that_clips_on_one_side(sign):
    assert kinds(alone(sign * pcm(np.minimum(tone(300.0, 0.9), 0.8))[None])) == [("clipped", "near")]


def test_both_microphones_can_clip(rng):
    samples = pcm(np.clip(30 * recording(rng), -1, 1))
    assert kinds(alone(samples)) == [("clipped", "near"), ("clipped", "far")]


@pytest.mark.parametrize("amplitude", [1.0, 32767 / 32768, 0.999, 0.1])
@pytest.mark.parametrize(
    ("frequency", "rate"), [(30, 16_000), (50, 16_000), (100, 16_000), (1000, 16_000), (50, 48_000)]
)
def test_a_sine_is_not_clipped_however_loud(frequency, rate, amplitude):
    """Slow ones stay near their top for several samples."""
    assert alone(pcm(tone(frequency, amplitude, rate=rate))[None], rate) == []


@pytest.mark.parametrize("peak", [10, 30, 300, 1000, 3000])
def test_a_quiet_quantized_sound_is_not_clipped(rng, peak):
    """A few steps of the converter make flat tops without clipping."""
    sound = coloured(rng, 300, 2 * RATE)
    assert alone(pcm(sound / np.abs(sound).max() * peak / 32768)[None]) == []


def test_peak_normalized_noise_is_not_clipped(rng):
    sound = rng.standard_normal(2 * RATE)
    assert alone(pcm(sound / np.abs(sound).max())[None]) == []


@pytest.mark.parametrize("gain", [1.0, 0.25, -1.0, -0.1])
def test_a_doubled_mono_recording(rng, gain):
    samples = recording(rng)
    samples[1] = gain * samples[0] + 0.01  # an offset does not make it another
    faults = alone(samples)
    assert kinds(faults) == [("identical", "both")]
    assert "near and far are one signal" in faults[0].message


def test_two_dead_microphones_are_not_called_identical(rng):
    assert kinds(alone(0 * recording(rng))) == [("dead", "near"), ("dead", "far")]


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 2047, 4 * RATE // 10])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_shortest_clips_are_measured(usual, samples, channels):
    """Of fewer frames than coherence needs nothing is said of both channels together."""
    said = found(usual, clip(7)[:channels, 1000 : 1000 + samples])
    assert ("short", "both") in kinds(said)
    assert not {"swapped", "late", "drifting", "unrelated", "identical"} & {f.kind for f in said}


# how two channels run against each other


def late(samples, channel, by):
    samples = samples.copy()
    samples[channel] = np.roll(samples[channel], round(by * RATE))
    return samples


@pytest.mark.parametrize(("channel", "name"), SIDES)
@pytest.mark.parametrize("by", [0.005, 0.02])
def test_a_late_channel_is_not_called_drifting_where_the_surroundings_are_dull(channel, name, by):
    """Of low sound a slow drift explains a constant delay nearly as well."""

    def dull(seed):
        rng = np.random.default_rng(seed)
        hall = scipy.ndimage.uniform_filter1d(rng.standard_normal(4 * RATE), RATE // 4)
        hall *= 0.01 / hall.std()
        machine = sum(tone(30 * k * (1 + 0.003 * rng.standard_normal()), 0.03 / k, 4) for k in range(1, 30))
        own = 0.002 * rng.standard_normal((2, 4 * RATE))
        return pcm(np.stack([machine + 0.5 * hall, 0.1 * machine + hall]) + own)

    usual = Usual.of([measure(dull(seed), RATE) for seed in range(CLIPS)], [""] * CLIPS)
    faults = found(usual, late(dull(1000), channel, by))
    assert kinds(faults) == [("late", "both")]
    assert f"the {name} channel is {1000 * by:.3g} ms late" in faults[0].message


@pytest.fixture(scope="module")
def at_once():
    """Sound that arrives at both microphones at once: an exchange leaves the phases as they are."""

    def made(seed, runs=1.0):
        rng = np.random.default_rng(seed)
        hall = coloured(rng, 1500, 4 * RATE) * rng.uniform(0.01, 0.02)
        machine = rng.standard_normal(4 * RATE) * rng.uniform(0.08, 0.12) * runs
        own = 0.002 * rng.standard_normal((2, 4 * RATE))
        return pcm(np.stack([machine + 0.5 * hall, 0.1 * machine + hall]) + own)

    return made, Usual.of([measure(made(seed), RATE) for seed in range(CLIPS)], [""] * CLIPS)


@pytest.mark.parametrize(("start", "end"), [(0, 1 / 3), (0.5, 1), (0.3, 0.7)])
def test_channels_that_are_exchanged_for_a_part_are_no_machine_that_stands_still(at_once, start, end):
    made, usual = at_once
    samples = made(1000)
    part = slice(int(start * samples.shape[1]), int(end * samples.shape[1]))
    samples[:, part] = samples[::-1, part].copy()
    faults = found(usual, samples)
    assert kinds(faults) == [("swapped", "both")]
    said = re.search(r"from ([\d.]+) to ([\d.]+) s;", faults[0].message)
    assert [float(time) for time in said.groups()] == pytest.approx([4 * start, 4 * end], abs=0.15)


@pytest.mark.parametrize("off", [slice(0, None), slice(0, RATE), slice(2 * RATE, None)])
def test_a_machine_that_stands_still_is_not_called_exchanged(at_once, off):
    made, usual = at_once
    runs = np.ones(4 * RATE)
    runs[off] = 0.03
    assert "swapped" not in {fault.kind for fault in found(usual, made(1000, runs))}


@pytest.mark.parametrize(("hears", "kind"), [(True, "not_running"), (False, "gone")])
def test_a_near_channel_that_still_hears_the_surroundings_is_not_gone(at_once, hears, kind):
    """A machine that is switched off leaves near far quieter than it ever was."""
    made, usual = at_once
    runs = np.ones(4 * RATE)
    runs[2 * RATE :] = 0
    samples = made(1000, runs)
    if not hears:
        noise = np.random.default_rng(5).standard_normal(2 * RATE)
        samples[0, 2 * RATE :] = noise * samples[0, 2 * RATE :].std()
    assert kinds(found(usual, samples)) == [(kind, "near")]


@pytest.mark.parametrize("drift", [80e-6, -80e-6])
def test_a_drift_of_a_third_of_a_millisecond_over_a_short_clip(drift):
    usual = Usual.of([measure(clip(seed, 4 * RATE), RATE) for seed in range(CLIPS)], [""] * CLIPS)
    samples = clip(1000, 4 * RATE)
    grid = np.arange(samples.shape[1])
    samples[1] = np.interp(grid * (1 + drift), grid, samples[1])
    faults = found(usual, samples)
    assert kinds(faults) == [("drifting", "both")]
    assert ("far" if drift < 0 else "near") in faults[0].message


# which views a fault spoils

EVERYTHING, NOTHING = set(MICROPHONES), set()
SPOILT = {
    ("dead", "near"): {"near", "cancelled"},
    ("dead", "far"): {"far", "cancelled"},
    ("deaf", "far"): {"far", "cancelled"},
    ("gone", "near"): {"near", "cancelled"},
    ("units", "far"): {"far", "cancelled"},
    ("units", "both"): EVERYTHING,
    ("identical", "both"): {"cancelled"},
    ("late", "both"): {"cancelled"},
    ("drifting", "both"): {"cancelled"},
    ("swapped", "both"): EVERYTHING,
    ("short", "both"): EVERYTHING,
    ("rate", "both"): EVERYTHING,
    ("clipped", "near"): NOTHING,
    ("clipped", "far"): NOTHING,
    ("offset", "near"): NOTHING,
    ("long", "both"): NOTHING,
    ("unrelated", "both"): NOTHING,
    ("not_running", "near"): NOTHING,
    ("a note of a reader", "both"): NOTHING,
}


@pytest.mark.parametrize(("kind", "microphone"), SPOILT)
def test_a_fault_spoils_the_views_that_hear_it(kind, microphone):
    fault = RecordingFault(kind, microphone, "")
    assert {name for name, m in MICROPHONES.items() if fault.spoils([m])} == SPOILT[kind, microphone]
    assert fault.spoils(MICROPHONES.values()) == bool(SPOILT[kind, microphone])


def test_every_kind_that_spoils_something_is_judged_above():
    assert {kind for kind, what in KINDS.items() if what != "nothing"} <= {kind for kind, _ in SPOILT}


def test_a_fault_is_told_once_for_each_microphone():
    near, again, far = (
        RecordingFault("gone", *said) for said in (("near", "1"), ("near", "2"), ("far", "3"))
    )
    assert each_once([near, again, far]) == (near, far)
