"""What two microphones give, and whether they work."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.recordings.microphones import (
    BANDS,
    HOP,
    MICROPHONES,
    N_FFT,
    MicrophoneError,
    MicrophoneFault,
    Placement,
    cancelled,
    contrast,
    health,
    listen,
)

RATE = 16_000


def decibels(waveform):
    return 10 * np.log10(np.mean(np.asarray(waveform, np.float64) ** 2))


def tone(frequency, amplitude=1.0, seconds=2.0, rate=RATE):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate + 0.3)


def pcm(waveform, bits=16):
    """What a converter gives: rounded to steps, and cut off at full scale."""
    steps = 2 ** (bits - 1)
    return (np.clip(np.rint(waveform * steps), -steps, steps - 1) / steps).astype(np.float32)


def coloured(rng, corner, samples):
    """Noise below ``corner`` Hz, of RMS one."""
    noise = scipy.signal.lfilter(*scipy.signal.butter(2, corner, fs=RATE), rng.standard_normal(samples))
    return noise / noise.std()


def recording(rng, samples=2 * RATE):
    """A bright machine close to the near microphone, dull surroundings in both: (2, samples)."""
    machine = rng.standard_normal(samples) * rng.uniform(0.08, 0.12)
    surroundings = coloured(rng, 1500, samples) * rng.uniform(0.05, 0.1)
    late = np.roll(surroundings, 40)
    own = 0.002 * rng.standard_normal((2, samples))
    return pcm(np.stack([machine + 0.5 * late, 0.2 * np.roll(machine, 60) + surroundings]) + own)


def kinds(faults):
    return [(f.kind, f.microphone) for f in faults]


# views


def test_near_and_far_are_the_channels(rng):
    samples = recording(rng)
    np.testing.assert_array_equal(listen(samples, "near"), samples[0])
    np.testing.assert_array_equal(listen(samples, "far"), samples[1])
    np.testing.assert_array_equal(listen(samples, "cancelled"), cancelled(samples))


def test_the_near_microphone_alone_needs_one_channel(rng):
    samples = recording(rng)[:1]
    np.testing.assert_array_equal(listen(samples, "near"), samples[0])


@pytest.mark.parametrize("microphone", ["far", "cancelled"])
def test_a_mono_recording_has_no_far_microphone(rng, microphone):
    with pytest.raises(
        MicrophoneError,
        match=rf"{microphone!r} needs 2 channels \(near, far\), but the recording has 1; record",
    ):
        listen(recording(rng)[:1], microphone)


@pytest.mark.parametrize("length", [2000, 2048])
def test_cancelled_is_its_naive_twin(rng, length):
    near, far = recording(rng, length).astype(np.float64)
    fast = cancelled(np.stack([near, far]).astype(np.float32))
    assert (fast.shape, fast.dtype) == ((length,), np.float32)
    np.testing.assert_allclose(fast, naive.cancelled(near, far), rtol=0, atol=2e-6)


def test_cancelled_is_made_of_librosas_transforms(rng):
    librosa = pytest.importorskip("librosa")
    near, far = samples = recording(rng, 20_000)
    C, F = (librosa.stft(x.astype(np.float64), n_fft=N_FFT, hop_length=HOP) for x in (near, far))
    H = (C * F.conj()).sum(axis=1) / ((abs(F) ** 2).sum(axis=1) + 1e-12)
    expected = librosa.istft(C - H[:, None] * F, n_fft=N_FFT, hop_length=HOP, length=20_000)
    np.testing.assert_allclose(cancelled(samples)[N_FFT:-N_FFT], expected[N_FFT:-N_FFT], rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [1, 2, 511, 513, 1023, 5000])
def test_a_silent_far_microphone_leaves_the_near_one_as_it_is(rng, length):
    samples = recording(rng, length + RATE)[:, :length].copy()
    samples[1] = 0
    np.testing.assert_array_equal(cancelled(samples), samples[0])


@pytest.mark.parametrize("length", [1, 2, 100, 511, 512, 513, 1024, 1025])
def test_short_clips_keep_their_length(rng, length):
    out = cancelled(recording(rng, RATE)[:, 100 : 100 + length])
    assert out.shape == (length,)
    assert np.isfinite(out).all()


def test_two_equal_channels_cancel(rng):
    samples = recording(rng)[[0, 0]]
    assert decibels(cancelled(samples)) < decibels(samples[0]) - 100


def test_shared_noise_goes_and_the_machine_stays(rng):
    n = 6 * RATE
    noise, machine = rng.standard_normal(n), tone(1000.0, 0.1, seconds=6)
    paths = [rng.standard_normal(48) * np.exp(-np.arange(48) / 8) for _ in range(2)]
    at_near, at_far = (0.1 * scipy.signal.lfilter(path, 1, noise) for path in paths)
    own = 1e-4 * rng.standard_normal((2, n))
    samples = (np.stack([machine + at_near, at_far]) + own).astype(np.float32)
    out = cancelled(samples)
    of_tone = 2 * np.mean(out * tone(1000.0, seconds=6))
    assert of_tone == pytest.approx(0.1, rel=0.03)
    assert decibels(out - machine) < decibels(at_near) - 12


@settings(max_examples=20, deadline=None)
@given(st.integers(-6, 6), st.integers(-6, 6))
def test_gains_that_nobody_calibrated_only_scale_the_result(of_near, of_far):
    samples = recording(np.random.default_rng(1), 6000)
    scaled = samples * np.float32([[2.0**of_near], [2.0**of_far]])
    expected = cancelled(samples) * 2.0**of_near
    np.testing.assert_allclose(cancelled(scaled), expected, rtol=0, atol=1e-6 * 2.0**of_near)


def test_samples_are_not_written_to(rng):
    samples = recording(rng)
    samples.setflags(write=False)
    cancelled(samples)
    health(samples)


# health


def test_nothing_is_wrong_with_a_good_recording(rng):
    assert health(recording(rng)) == ()
    assert health(recording(rng)[:1]) == ()


@pytest.mark.parametrize(("channel", "name"), [(0, "near"), (1, "far")])
@pytest.mark.parametrize("left", ["zeros", "offset", "converter noise"])
def test_a_dead_microphone(rng, channel, name, left):
    samples = recording(rng)
    n = samples.shape[1]
    samples[channel] = {
        "zeros": np.zeros(n),
        "offset": np.full(n, 0.1),
        "converter noise": rng.integers(0, 2, n) / 32768,
    }[left]
    faults = health(samples)
    assert kinds(faults) == [("dead", name)]
    assert f"the {name} microphone is silent" in faults[0].message


def test_a_quiet_microphone_is_not_dead(rng):
    assert health(pcm(recording(rng) * 1e-3)) == ()


@pytest.mark.parametrize(("channel", "name"), [(0, "near"), (1, "far")])
@pytest.mark.parametrize(
    "top", [1.0, 0.7, 0.1], ids=["at full scale", "in the preamplifier", "gain lowered after"]
)
def test_a_clipped_microphone(rng, channel, name, top):
    samples = recording(rng)
    loud = 3 * samples[channel] / np.abs(samples[channel]).max()
    samples[channel] = pcm(np.clip(loud, -1, 1) * top)
    faults = health(samples)
    assert kinds(faults) == [("clipped", name)]
    assert f"the {name} microphone clips" in faults[0].message


def test_a_microphone_that_clips_on_one_side():
    assert kinds(health(pcm(np.minimum(tone(300.0, 0.9), 0.8))[None])) == [("clipped", "near")]


def test_both_microphones_can_clip(rng):
    samples = pcm(np.clip(30 * recording(rng), -1, 1))
    assert kinds(health(samples)) == [("clipped", "near"), ("clipped", "far")]


@pytest.mark.parametrize("amplitude", [1.0, 32767 / 32768, 0.999, 0.1])
@pytest.mark.parametrize(
    ("frequency", "rate"), [(30, 16_000), (50, 16_000), (100, 16_000), (1000, 16_000), (50, 48_000)]
)
def test_a_sine_is_not_clipped_however_loud(frequency, rate, amplitude):
    """Slow ones stay near their top for several samples."""
    assert health(pcm(tone(frequency, amplitude, rate=rate))[None]) == ()


@pytest.mark.parametrize("peak", [10, 30, 300, 1000, 3000])
def test_a_quiet_quantized_sound_is_not_clipped(rng, peak):
    """A few steps of the converter make flat tops without clipping."""
    sound = coloured(rng, 300, 2 * RATE)
    assert health(pcm(sound / np.abs(sound).max() * peak / 32768)[None]) == ()


def test_peak_normalized_noise_is_not_clipped(rng):
    sound = rng.standard_normal(2 * RATE)
    assert health(pcm(sound / np.abs(sound).max())[None]) == ()


@pytest.mark.parametrize("gain", [1.0, 0.25, -1.0, -0.1])
def test_a_doubled_mono_recording(rng, gain):
    samples = recording(rng)
    samples[1] = gain * samples[0] + 0.01  # an offset does not make it another
    faults = health(samples)
    assert kinds(faults) == [("identical", "both")]
    assert "near and far are one signal" in faults[0].message


def test_two_dead_microphones_are_not_called_identical(rng):
    assert kinds(health(0 * recording(rng))) == [("dead", "near"), ("dead", "far")]


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_shortest_clips_have_a_health(samples):
    health(np.array([[0.5, -0.5, 0.2], [0.1, 0.3, -0.2]], np.float32)[:, :samples])


# placement


@pytest.fixture(scope="module")
def placement():
    return Placement.of(contrast(recording(np.random.default_rng(i))) for i in range(30))


@pytest.fixture(scope="module")
def others():
    return [recording(np.random.default_rng(1000 + i)) for i in range(30)]


def test_contrast_is_near_over_far_by_band(rng):
    near, far = recording(rng)
    expected = decibels(
        scipy.signal.lfilter(*scipy.signal.butter(4, (6000, 7900), "band", fs=RATE), near)
    ) - (decibels(scipy.signal.lfilter(*scipy.signal.butter(4, (6000, 7900), "band", fs=RATE), far)))
    heard = contrast(np.stack([near, far]))
    assert heard.shape == (BANDS,)
    assert heard[-1] == pytest.approx(expected, abs=0.5)
    np.testing.assert_allclose(contrast(np.stack([far, near])), -heard, atol=1e-9)
    np.testing.assert_allclose(contrast(np.stack([2 * near, near])), 20 * np.log10(2), atol=1e-5)


def test_swapped_microphones_are_found(placement, others):
    for samples in others:
        faults = health(samples[::-1], placement)
        assert kinds(faults) == [("swapped", "both")]
    assert "seem to be exchanged" in faults[0].message


def test_swapped_is_not_claimed_without_cause(placement, others):
    assert [health(samples, placement) for samples in others] == [()] * 30


def test_without_a_placement_swapped_microphones_go_unseen(others):
    assert health(others[0][::-1]) == ()


def test_another_machine_is_not_a_swap(placement, rng):
    """Implausible both ways: whatever it is, exchanged cables do not explain it."""
    samples = pcm(0.1 * np.stack([coloured(rng, 100, 2 * RATE), rng.standard_normal(2 * RATE)]))
    assert health(samples, placement) == health(samples[::-1], placement) == ()


def test_where_both_microphones_hear_the_same_a_swap_is_not_claimed():
    def alike(seed):
        rng = np.random.default_rng(seed)
        return pcm(0.1 * rng.standard_normal(2 * RATE) + 0.02 * rng.standard_normal((2, 2 * RATE)))

    placement = Placement.of(contrast(alike(i)) for i in range(10))
    assert [health(alike(100 + i)[::-1], placement) for i in range(10)] == [()] * 10


def test_a_dead_or_doubled_microphone_is_not_also_swapped(placement, others):
    assert kinds(health(others[0][[1, 1]], placement)) == [("identical", "both")]
    assert kinds(health(others[0][::-1] * [[1], [0]], placement)) == [("dead", "far")]


# which views a fault spoils

SPOILT = {
    ("dead", "near"): {"near", "cancelled"},
    ("dead", "far"): {"far", "cancelled"},
    ("identical", "both"): {"cancelled"},
    ("clipped", "near"): set(),
    ("clipped", "far"): set(),
    ("swapped", "both"): set(),
}


@pytest.mark.parametrize(("kind", "microphone"), SPOILT)
def test_a_fault_spoils_the_views_that_hear_it(kind, microphone):
    fault = MicrophoneFault(kind, microphone, "")
    assert {name for name, m in MICROPHONES.items() if m.is_spoilt_by(fault)} == SPOILT[kind, microphone]
