"""Coherence weighting: against its twin, scipy, and what is known of it."""

from __future__ import annotations

import naive_coherence
import numpy as np
import pytest
import scipy.signal
from two_microphones import RATE, decibels, recording, tone

from nearfar.recordings.coherence import FORGETTING, CoherenceWeighting
from nearfar.recordings.microphones import MICROPHONES, cancelled, listen

VIEWS = {"coherence_weighted": None, "coherence_weighted_running": 0.95}


def test_the_views_are_there():
    found = {n: m.view for n, m in MICROPHONES.items() if isinstance(m.view, CoherenceWeighting)}
    assert found == {name: CoherenceWeighting(1024, forgetting) for name, forgetting in VIEWS.items()}
    assert FORGETTING == 0.95


@pytest.mark.parametrize("forgetting", [None, 0.0, 0.6, 0.95])
@pytest.mark.parametrize("length", [1, 127, 128, 129, 700, 1024, 3000])
def test_it_is_its_naive_twin(rng, length, forgetting):
    near, far = samples = recording(rng, 3000)[:, :length]
    fast = CoherenceWeighting(256, forgetting)(samples)
    assert (fast.shape, fast.dtype) == ((length,), np.float32)
    expected = naive_coherence.weighted(near.astype(float), far.astype(float), 256, forgetting)
    np.testing.assert_allclose(fast, expected, rtol=0, atol=2e-6)


def test_over_a_clip_it_is_scipys_coherence_without_chance(rng):
    near, far = samples = recording(rng, 64_000)
    (found,) = CoherenceWeighting(512).coherence(samples)
    options = {"nperseg": 512, "noverlap": 256, "window": "hann", "detrend": False}
    _, expected = scipy.signal.coherence(near.astype(float), far.astype(float), **options)
    n = 1 + 64_000 // 256
    np.testing.assert_allclose(
        found, np.clip((expected - 1 / n) / (1 - 1 / n), 0, 1), atol=0.02
    )  # its ends differ


@pytest.mark.parametrize("name", VIEWS)
def test_a_silent_far_microphone_leaves_near_as_it_is(rng, name):
    samples = recording(rng)
    samples[1] = 0
    np.testing.assert_array_equal(listen(samples, name), samples[0])


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("length", [1, 2, 511])
def test_a_recording_of_one_frame_is_left_as_it_is(rng, name, length):
    samples = recording(rng)[:, 100 : 100 + length]
    np.testing.assert_array_equal(listen(samples, name), samples[0])


@pytest.mark.parametrize("name", VIEWS)
def test_two_equal_channels_leave_nothing(rng, name):
    samples = recording(rng)[[0, 0]]
    assert decibels(listen(samples, name)) < decibels(samples[0]) - 80


@pytest.mark.parametrize("name", VIEWS)
def test_noises_that_have_nothing_in_common_stay(rng, name):
    samples = rng.standard_normal((2, 10 * RATE)).astype(np.float32)
    assert decibels(listen(samples, name)) == pytest.approx(decibels(samples[0]), abs=0.5)


def test_it_takes_the_same_share_of_the_machine_where_cancellation_takes_none(rng):
    """A tone in common noise: cancellation leaves the tone; a mask lowers it, with the noise in its bin."""
    n = 6 * RATE
    noise, machine = 0.1 * rng.standard_normal(n), tone(1000.0, 0.02, seconds=6)
    samples = np.stack([noise + machine, noise]).astype(np.float32)

    def of_the_tone(waveform):
        return 2 * abs(np.mean(waveform * np.exp(-2j * np.pi * 1000 * np.arange(n) / RATE))) / 0.02

    assert of_the_tone(cancelled(samples)) == pytest.approx(1, abs=0.05)
    assert of_the_tone(listen(samples, "coherence_weighted")) < 0.85


def test_running_weights_follow_the_recording(rng):
    """Far hears near's noise in the second half only."""
    n = 4 * RATE
    noise, other = 0.1 * rng.standard_normal((2, 2 * n))
    samples = np.stack([noise, np.r_[other[:n], noise[n:]]]).astype(np.float32)
    running = listen(samples, "coherence_weighted_running")
    first, second = (
        decibels(running[part]) - decibels(noise[part]) for part in (slice(n), slice(n + RATE, None))
    )
    assert first > -2
    assert second < -15
    steady = listen(samples, "coherence_weighted")
    assert decibels(steady[:n]) - decibels(noise[:n]) == pytest.approx(
        decibels(steady[n:]) - decibels(noise[n:]), abs=0.5
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_fft": 7}, "n_fft=7: must be even and at least 2, because frames overlap by half"),
        ({"n_fft": 0}, "n_fft=0: must be even and at least 2"),
        (
            {"forgetting": 1.0},
            "forgetting=1.0: must be from 0 to below 1; None for averages over the recording",
        ),
        ({"forgetting": -0.1}, "forgetting=-0.1: must be from 0 to below 1"),
    ],
)
def test_parameters_out_of_their_range(options, match):
    with pytest.raises(ValueError, match=match):
        CoherenceWeighting(**options)


@pytest.mark.parametrize("shape", [(1, 2000), (2000,)])
def test_a_recording_of_one_channel(shape):
    with pytest.raises(ValueError, match=r"samples has the shape .*; expected \(2, samples\): near, far"):
        CoherenceWeighting()(np.zeros(shape, np.float32))
