"""Each kind of fault is planted and named, and only it; normal recordings are called nothing."""

from __future__ import annotations

import functools
import math
import re

import naive
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from two_microphones import RATE, coloured, pcm, recording, tone

from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.faults import KINDS, RecordingFault, each_once
from nearfar.recordings.inspection.measured import BLOCK_SECONDS, Levels, frame_length, measure
from nearfar.recordings.inspection.usual import Usual, faults_against
from nearfar.recordings.microphones import MICROPHONES

SECONDS = 10
N = SECONDS * RATE
CLIPS = 30
SIDES = [(0, "near"), (1, "far")]


def clip(seed, samples=N, **how):
    return (
        recording(np.random.default_rng(seed), samples, **how) if how else _plain_clip(seed, samples).copy()
    )


@functools.cache
def _plain_clip(seed, samples):
    """It takes longer to make than to look at."""
    return recording(np.random.default_rng(seed), samples)


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
    return Usual.of(training, [""] * CLIPS).allowing(training)


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


def delayed(samples, channel, by):
    samples = samples.copy()
    samples[channel] = np.roll(samples[channel], round(by * RATE))
    return samples


@pytest.fixture(scope="module")
def dull():
    """Surroundings of low sound."""

    def made(seed):
        rng = np.random.default_rng(seed)
        hall = scipy.ndimage.uniform_filter1d(rng.standard_normal(4 * RATE), RATE // 4)
        hall *= 0.01 / hall.std()
        machine = sum(tone(30 * k * (1 + 0.003 * rng.standard_normal()), 0.03 / k, 4) for k in range(1, 30))
        own = 0.002 * rng.standard_normal((2, 4 * RATE))
        return pcm(np.stack([machine + 0.5 * hall, 0.1 * machine + hall]) + own)

    return made(1000), Usual.of([measure(made(seed), RATE) for seed in range(CLIPS)], [""] * CLIPS)


@pytest.mark.parametrize(("channel", "name"), SIDES)
@pytest.mark.parametrize("by", [0.005, 0.02])
def test_a_late_channel_is_not_called_drifting_where_the_surroundings_are_dull(dull, channel, name, by):
    """Of low sound a slow drift explains a constant delay nearly as well."""
    samples, usual = dull
    faults = found(usual, delayed(samples, channel, by))
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
CANCELLED = EVERYTHING - {"near", "far"}  # these hear both microphones
SPOILT = {
    ("dead", "near"): {"near"} | CANCELLED,
    ("dead", "far"): {"far"} | CANCELLED,
    ("deaf", "far"): {"far"} | CANCELLED,
    ("gone", "near"): {"near"} | CANCELLED,
    ("units", "far"): {"far"} | CANCELLED,
    ("units", "both"): EVERYTHING,
    ("identical", "both"): CANCELLED,
    ("late", "both"): CANCELLED,
    ("drifting", "both"): CANCELLED,
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


def test_the_summary_of_a_recording_is_levels_and_tilts_by_hand(rng):
    rate, noise = 16000, rng.normal(scale=0.01, size=160_000)
    brown = np.zeros_like(noise)  # 6 dB per octave down, from some 60 Hz on
    for n in range(1, len(noise)):
        brown[n] = 0.98 * brown[n - 1] + noise[n]
    found = measure(np.stack([noise, brown]).astype(np.float32), rate).summary()
    assert found.near_dbfs == pytest.approx(-40, abs=0.1)
    assert found.far_dbfs == pytest.approx(20 * np.log10(np.std(brown)), abs=0.01)
    assert found.near_tilt == pytest.approx(0, abs=0.1)
    assert found.far_tilt == pytest.approx(-6, abs=1)
    assert found.coherence > 0.9
    alone = measure(noise[None].astype(np.float32), rate).summary()
    assert (alone.near_dbfs, alone.near_tilt) == pytest.approx((found.near_dbfs, found.near_tilt), abs=1e-3)
    assert np.isnan([alone.far_dbfs, alone.far_tilt, alone.coherence]).all()


def test_a_fault_is_told_once_for_each_microphone():
    near, again, far = (
        RecordingFault("gone", *said) for said in (("near", "1"), ("near", "2"), ("far", "3"))
    )
    assert each_once([near, again, far]) == (near, far)


# compared with the training clips: each kind is planted in several clips, and only it is named

SEEDS = (1000, 1001)
REAL = 10 ** (-78 / 20)  # RMS of the noise of a converter


def in_channel(channel, change):
    def planted(seed):
        samples = clip(seed)
        samples[channel] = change(samples[channel], np.random.default_rng(seed))
        return samples

    return planted


def noise(rms):
    return lambda x, rng: pcm(rms * rng.standard_normal(len(x)))


def gap(seconds, left):
    """A part of the channel is zeros, or the noise of a converter."""

    def change(x, rng):
        length = round(seconds * RATE)
        start = int(rng.integers(0, len(x) - length))
        x[start : start + length] = 0 if left == "zeros" else noise(REAL)(x[:length], rng)
        return x

    return change


def late(channel, milliseconds):
    def planted(seed):
        lag = round(milliseconds * RATE / 1000)
        longer = clip(seed, N + lag)
        samples = longer[:, lag:].copy()
        samples[channel] = longer[channel, :N]
        return samples

    return planted


def drifting(millionths):
    def change(x, _):
        return np.interp(np.arange(N) * (1 - millionths * 1e-6), np.arange(N), x)

    return change


def exchanged(start, end):
    def planted(seed):
        samples = clip(seed)
        part = slice(int(start * N), int(end * N))
        samples[:, part] = samples[::-1, part].copy()
        return samples

    return planted


def doubled(channel, lag, gain):
    def planted(seed):
        one = clip(seed)[channel]
        return pcm(np.stack([one, gain * np.roll(one, lag)]))

    return planted


def running(share):
    """The machine is switched off after this share of the clip."""
    return lambda seed: clip(seed, runs=np.arange(N) < share * N)


PLANTED = {
    "exchanged": (exchanged(0, 1), "swapped", "both"),
    "exchanged from the middle on": (exchanged(0.5, 1), "swapped", "both"),
    "exchanged until the middle": (exchanged(0, 0.5), "swapped", "both"),
    "exchanged in the last quarter": (exchanged(0.75, 1), "swapped", "both"),
    "doubled": (doubled(0, 0, 1.0), "identical", "both"),
    "doubled a sample apart": (doubled(0, 1, 0.5), "identical", "both"),
    "far doubled a sample apart": (doubled(1, -1, -0.5), "identical", "both"),
    "32768 times as large": (lambda seed: clip(seed) * 32768, "units", "both"),
    "24 bits as 32": (lambda seed: clip(seed) / 256, "units", "both"),
    "switched off": (lambda seed: clip(seed, runs=0), "not_running", "near"),
    "off in the second half": (running(0.5), "not_running", "near"),
    "shorter": (lambda seed: clip(seed, 8 * RATE), "short", "both"),
    "much shorter": (lambda seed: clip(seed, 2 * RATE), "short", "both"),
    "longer": (lambda seed: clip(seed, 13 * RATE), "long", "both"),
    "of other microphones": (lambda seed: np.stack([clip(seed)[0], clip(seed + 9)[1]]), "unrelated", "both"),
}
for _channel, _name in SIDES:
    PLANTED |= {
        f"{_name} zeros": (in_channel(_channel, lambda x, _: 0 * x), "dead", _name),
        f"{_name} at -78 dBFS": (in_channel(_channel, noise(REAL)), "deaf", _name),
        f"{_name} at -58 dBFS": (in_channel(_channel, noise(10 ** (-58 / 20))), "deaf", _name),
        f"{_name} offset": (in_channel(_channel, lambda x, _: x + np.float32(0.02)), "offset", _name),
        f"{_name} clipped": (in_channel(_channel, lambda x, _: pcm(6 * x) / 2), "clipped", _name),
        f"{_name} in other units": (in_channel(_channel, lambda x, _: x * 32768), "units", _name),
        f"{_name} drifts slowly": (in_channel(_channel, drifting(100)), "drifting", "both"),
        f"{_name} drifts": (in_channel(_channel, drifting(300)), "drifting", "both"),
    }
    PLANTED |= {
        f"{_name} is gone for {seconds} s, {left}": (in_channel(_channel, gap(seconds, left)), "gone", _name)
        for seconds, left in [(0.02, "zeros"), (0.2, "zeros"), (3, "zeros"), (0.2, "noise"), (1, "noise"),
                              (6, "noise")]
    }  # fmt: skip
    PLANTED |= {f"{_name} is {ms} ms late": (late(_channel, ms), "late", "both") for ms in (5, 20, 50)}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_named_and_nothing_else(usual, what):
    planted, kind, microphone = PLANTED[what]
    seeds = SEEDS[:1] if kind in ("late", "drifting") else SEEDS
    assert [kinds(found(usual, planted(seed))) for seed in seeds] == [[(kind, microphone)]] * len(seeds)


def test_every_kind_of_fault_is_planted():
    assert {kind for _, kind, _ in PLANTED.values()} == set(KINDS) - {"rate"}


def test_another_rate_is_all_that_can_be_said(usual):
    samples = scipy.signal.resample_poly(clip(1000), 3, 1, axis=1)
    assert kinds(found(usual, samples, 3 * RATE)) == [("rate", "both")]
    assert kinds(found(usual, samples[:, : 6 * RATE], 3 * RATE)) == [("rate", "both"), ("short", "both")]


def test_messages_tell_where_and_how_much(usual):
    def said(what):
        (fault,) = found(usual, PLANTED[what][0](1000))
        return fault.message

    assert "the far channel is 20 ms late" in said("far is 20 ms late")
    assert "the near channel is 5 ms late" in said("near is 5 ms late")
    assert "the far channel falls behind the other by 300 millionths" in said("far drifts")
    assert "exchanged from 5" in said("exchanged from the middle on")
    assert "exchanged from 0 to 5" in said("exchanged until the middle")
    assert "seem to be exchanged; check" in said("exchanged")
    assert "the machine seems not to run: near hears only what far hears" in said("switched off")
    assert "8 s long, but the training clips are 10 s" in said("shorter")
    assert re.search(r"\b9\d dB louder than the training clips", said("32768 times as large"))
    assert re.search(r"\b4\d dB quieter than the training clips", said("24 bits as 32"))


# normal recordings


@settings(max_examples=25)
@given(
    st.integers(2000, 2**31),
    st.floats(-5.9, 5.9),
    st.sampled_from([16, 24]),
    st.floats(8.4, 11.9),
)
def test_no_fault_of_a_recording_is_said_of_a_normal_one(usual, seed, gain_db, bits, seconds):
    """With another gain below 6 dB, of another converter, and nearly as long as in training."""
    samples = clip(seed, int(seconds * RATE), gain=10 ** (gain_db / 20), bits=bits)
    assert {f.kind for f in found(usual, samples)} <= {"not_running"}


def test_a_machine_that_runs_is_rarely_said_to_be_off(usual):
    """In 15 of 600 clips, where the machine is softest; their decisions stand."""
    said = [found(usual, clip(seed)) for seed in range(5000, 5060)]
    assert sum(map(bool, said)) <= 3


@pytest.mark.parametrize("gains", [(1, 2), (2, 1), (1, 0.5), (0.5, 1)])
def test_a_gain_of_one_channel_is_neither_of_units_nor_of_the_relation(usual, gains):
    said = found(usual, clip(1000, gain=np.array(gains)[:, None]))
    assert not {"units", "deaf", "swapped", "unrelated", "late"} & {f.kind for f in said}


def test_recordings_of_one_microphone():
    near = Usual.of([measure(clip(seed)[:1], RATE) for seed in range(12)], [""] * 12)
    assert (near.channels, near.is_telling) == (1, False)
    assert [found(near, clip(1000 + seed)[:1]) for seed in range(10)] == [()] * 10
    for what in (
        "near at -78 dBFS",
        "near is gone for 1 s, noise",
        "near offset",
        "near in other units",
        "shorter",
    ):
        planted, kind, _ = PLANTED[what]
        assert [f.kind for f in found(near, planted(1000)[:1])] == [kind], what


def test_a_recording_of_two_microphones_after_training_of_one_and_the_reverse(usual):
    near = Usual.of([measure(clip(seed)[:1], RATE) for seed in range(12)], [""] * 12)
    assert found(near, clip(1000)) == ()
    assert found(usual, clip(1000)[:1]) == ()


def test_where_both_microphones_hear_the_same_a_swap_is_not_claimed():
    def alike(seed):
        rng = np.random.default_rng(seed)
        return pcm(0.1 * rng.standard_normal(2 * RATE) + 0.02 * rng.standard_normal((2, 2 * RATE)))

    same = Usual.of([measure(alike(seed), RATE) for seed in range(12)], [""] * 12)
    assert [found(same, alike(100 + i)[::-1]) for i in range(10)] == [()] * 10


def test_channels_without_a_delay_are_told_by_their_levels():
    """The phases of exchanged channels are then the same."""

    def at_once(seed):
        rng = np.random.default_rng(seed)
        machine = rng.standard_normal(2 * RATE)
        around = coloured(rng, 1500, 2 * RATE)
        return pcm(0.1 * np.stack([machine + 0.3 * around, 0.1 * machine + around]))

    learnt = Usual.of([measure(at_once(seed), RATE) for seed in range(20)], [""] * 20)
    assert [found(learnt, at_once(100 + i)) for i in range(10)] == [()] * 10
    assert [kinds(found(learnt, at_once(100 + i)[::-1])) for i in range(10)] == [[("swapped", "both")]] * 10


def test_microphones_with_nothing_in_common_have_no_relation_to_lose():
    def apart(seed):
        rng = np.random.default_rng(seed)
        return pcm(np.stack([0.1 * rng.standard_normal(2 * RATE), 0.05 * coloured(rng, 1500, 2 * RATE)]))

    learnt = Usual.of([measure(apart(seed), RATE) for seed in range(20)], [""] * 20)
    assert not learnt.is_telling
    assert [found(learnt, apart(100 + i)) for i in range(10)] == [()] * 10
    assert [kinds(found(learnt, apart(100 + i)[::-1])) for i in range(10)] == [[("swapped", "both")]] * 10


def test_what_is_usual_comes_back_from_its_arrays(usual):
    again = Usual.from_arrays(usual.arrays())
    for what in ("exchanged", "far is 5 ms late", "switched off", "near offset", "shorter", "near zeros"):
        samples = PLANTED[what][0](1000)
        assert found(again, samples) == found(usual, samples) != ()
    assert found(again, clip(1001)) == ()
    assert all(isinstance(array, np.ndarray) for array in usual.arrays().values())


# naive twins


@pytest.mark.parametrize("seconds", [2.0, 4.5])
def test_what_is_measured_is_its_naive_twin(seconds):
    samples = clip(3, int(seconds * RATE))
    measured, expected = measure(samples, RATE), naive.two_channels(samples, RATE)
    np.testing.assert_allclose(measured.pair.phase, expected["phase"], atol=1e-4)
    np.testing.assert_allclose(measured.pair.contrast, expected["contrast"], atol=1e-4)
    np.testing.assert_allclose(measured.pair.presence[0], expected["presence"], atol=1e-3)
    np.testing.assert_allclose(measured.pair.likeness, expected["likeness"], atol=1e-4)
    np.testing.assert_allclose(measured.level, expected["level"], atol=1e-4)


def test_the_agreement_is_its_naive_twin():
    clips = [clip(seed, 2 * RATE) for seed in range(5)]
    learnt = Usual.of([measure(one, RATE) for one in clips], [""] * 5)
    for other in (clip(9, 2 * RATE), clip(9, 2 * RATE)[::-1]):
        agreement = learnt.agreement_of(measure(other, RATE).pair.phase)
        assert agreement == pytest.approx(naive.agreement(clips, other, RATE), abs=1e-4)


def test_the_agreement_of_an_installation_is_high_and_of_other_channels_near_zero(usual):
    same, swapped, other = (
        usual.agreement_of(measure(x, RATE).pair.phase)
        for x in (clip(1000), clip(1000)[::-1], PLANTED["of other microphones"][0](1000))
    )
    assert same > 0.9 > 0.1 > abs(swapped)
    assert abs(other) < 0.1


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 96_000])
def test_frames_are_an_eighth_of_a_second_long(rate):
    assert 0.09 < frame_length(rate) / rate < 0.19


def test_contrast_is_near_over_far_by_band(rng):
    samples = recording(rng)
    contrast = measure(samples, RATE).pair.contrast
    np.testing.assert_allclose(measure(samples[::-1], RATE).pair.contrast, -contrast, atol=1e-4)
    louder = measure(samples * np.float32([[2], [1]]), RATE).pair.contrast
    np.testing.assert_allclose(louder - contrast, 20 * np.log10(2), atol=1e-4)


def test_levels_and_blocks_are_in_db_of_full_scale():
    samples = np.stack([tone(1000.0, 1.0), tone(1000.0, 0.1) + 0.3]).astype(np.float32)
    measured = measure(samples, RATE)
    np.testing.assert_allclose(measured.level, [-3.01, -23.01], atol=0.01)
    np.testing.assert_allclose(measured.mean, [0, 0.3], atol=1e-4)
    np.testing.assert_allclose(measured.blocks, [[-3.01] * 40, [-23.01] * 40], atol=0.01)
    assert measured.seconds == 2.0 == 40 * BLOCK_SECONDS


def test_levels_that_are_not_known_are_equal() -> None:
    one, same = (Levels(-20.0, math.nan, math.nan, -3.0, math.nan) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert one != Levels(-20.0, -30.0, math.nan, -3.0, math.nan)
    assert one != (-20.0, math.nan, math.nan, -3.0, math.nan)
