"""What two microphones give."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from two_microphones import RATE, decibels, recording, tone

from nearfar.recordings.microphones import HOP, N_FFT, MicrophoneError, cancelled, listen

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
