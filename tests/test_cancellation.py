"""Noise cancellation by several taps."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from two_microphones import RATE, decibels, recording, tone

from nearfar.recordings.cancellation import BANDS_HZ, Canceller, FittedCanceller, Statistics, energy_taken
from nearfar.recordings.microphones import MICROPHONES, N_FFT, cancelled, listen

CANCELLERS = {name: m.view for name, m in MICROPHONES.items() if isinstance(m.view, Canceller)}
LENGTHS = (1, 2, 511, 512, 513, 1024, 2047, 2048, 3071, 3072, 4096, 5000)


def echoing(rng, seconds=6.0, taps=4000):
    """A machine's tone in noise that comes to both microphones by long ways: near's tone, near's noise, samples."""
    n = int(seconds * RATE)
    noise, machine = rng.standard_normal(n), tone(1000.0, 0.1, seconds=seconds)
    decay = np.exp(-np.arange(taps) / (taps / 6))
    at_near, at_far = (
        0.02 * scipy.signal.oaconvolve(noise, rng.standard_normal(taps) * decay)[:n] for _ in range(2)
    )
    own = 1e-4 * rng.standard_normal((2, n))
    return machine, at_near, (np.stack([machine + at_near, at_far]) + own).astype(np.float32)


def test_the_views_are_there():
    assert set(CANCELLERS) == {"cancelled_3taps", "cancelled_5taps", "cancelled_4096"}
    assert CANCELLERS["cancelled_3taps"] == Canceller()


# against the plain solution


@pytest.mark.parametrize("length", [3000, 4096, 20_000])
@pytest.mark.parametrize("taps", [(0,), (-1, 0, 1), (-2, -1, 0, 1, 2), (0, 1), (3, 1), (-3, 2)])
def test_it_is_its_naive_twin(rng, taps, length):
    near, far = samples = recording(rng, length)
    fast = Canceller(512, taps)(samples)
    assert (fast.shape, fast.dtype) == ((length,), np.float32)
    expected = naive.cancelled_by_taps(near.astype(float), far.astype(float), 512, taps, 1e-3, 15)
    np.testing.assert_allclose(fast, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", CANCELLERS)
def test_views_are_the_plain_solution_to_a_hundred_thousandth(rng, name):
    near, far = samples = recording(rng, 4 * RATE)
    view = CANCELLERS[name]
    expected = naive.cancelled_by_taps(
        near.astype(float), far.astype(float), view.n_fft, view.taps, view.ridge, view.limit_db
    )
    error = listen(samples, name) - expected
    assert np.sqrt(np.mean(error**2)) < 1e-5 * np.sqrt(np.mean(expected**2))
    assert abs(error).max() < 1e-5


def test_one_tap_with_little_ridge_is_w1_but_for_chance(rng):
    samples = recording(rng, 10 * RATE)
    one = Canceller(N_FFT, (0,), ridge=1e-9)
    statistics = one.statistics(samples)
    response = (statistics.cross / statistics.gram[:, 0])[:, :1]
    np.testing.assert_allclose(one.apply(samples, response), cancelled(samples), rtol=0, atol=2e-6)


@pytest.mark.parametrize("taps", [(0,), (-1, 0, 1), (2, 5)])
def test_statistics_are_those_of_the_frames(rng, taps):
    samples = recording(rng, 7000)
    found = Canceller(512, taps).statistics(samples)
    padded = np.pad(samples.astype(float), ((0, 0), (256 * 9, 256 * 9)))
    window = np.hanning(513)[:-1]
    C, F = (
        np.array([np.fft.rfft(window * x[256 * t - 256 : 256 * t + 256]) for t in range(9, 9 + 28)])
        for x in padded
    )
    shifted = np.stack(
        [
            [
                np.fft.rfft(window * padded[1, 256 * (t + a) - 256 : 256 * (t + a) + 256])
                for t in range(9, 9 + 28)
            ]
            for a in taps
        ]
    )
    assert found.frames == len(F) == 28
    scale = found.energy.max()
    gram = np.einsum("atf,btf->fab", shifted.conj(), shifted)
    np.testing.assert_allclose(found.gram, gram, rtol=0, atol=1e-6 * abs(gram).max())
    np.testing.assert_allclose(
        found.cross, np.einsum("atf,tf->fa", shifted.conj(), C), rtol=0, atol=1e-6 * scale
    )
    np.testing.assert_allclose(found.energy, (abs(C) ** 2).sum(axis=0), rtol=0, atol=1e-6 * scale)


def test_statistics_add_up(rng):
    canceller = Canceller(512)
    one, other = (canceller.statistics(recording(rng, 5000)) for _ in range(2))
    both = one + other.weighted(2.0)
    assert both.frames == one.frames + other.frames
    np.testing.assert_array_equal(both.gram, one.gram + 2 * other.gram)
    np.testing.assert_array_equal(both.cross, one.cross + 2 * other.cross)
    np.testing.assert_array_equal(both.energy, one.energy + 2 * other.energy)


def test_per_clip_is_statistics_response_and_application(rng):
    canceller, samples = Canceller(), recording(rng)
    response = canceller.response(canceller.statistics(samples))
    assert response.shape == (1025, 3)
    np.testing.assert_array_equal(canceller.apply(samples, response), canceller(samples))


# safety


@pytest.mark.parametrize("name", CANCELLERS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_silent_far_microphone_leaves_the_near_one_as_it_is(rng, name, length):
    samples = recording(rng, length + RATE)[:, :length].copy()
    samples[1] = 0
    np.testing.assert_array_equal(listen(samples, name), samples[0])


@pytest.mark.parametrize("name", CANCELLERS)
@pytest.mark.parametrize("length", LENGTHS)
def test_clips_keep_their_length_and_short_ones_are_near(rng, name, length):
    samples = recording(rng, RATE)[:, 100 : 100 + length]
    out = listen(samples, name)
    assert out.shape == (length,)
    assert np.isfinite(out).all()
    if length < CANCELLERS[name].min_samples:
        np.testing.assert_array_equal(out, samples[0])
        assert not np.shares_memory(out, samples)


@pytest.mark.parametrize("name", CANCELLERS)
def test_few_frames_fall_towards_near_and_not_towards_silence(rng, name):
    """Far has nothing to do with near: least squares would explain taps / frames of near, all at first."""
    view = CANCELLERS[name]
    for frames in range(1, 4 * len(view.taps)):
        lost = []
        for _ in range(5):
            samples = 0.1 * rng.standard_normal((2, view.hop * frames), np.float32)
            lost.append(decibels(samples[0]) - decibels(view(samples)))
        assert np.mean(lost) < 0.5


@pytest.mark.parametrize("name", CANCELLERS)
def test_two_equal_channels_cancel_down_to_the_limit(rng, name):
    samples = recording(rng)[[0, 0]]
    assert decibels(listen(samples, name)) == pytest.approx(decibels(samples[0]) - 15, abs=0.2)
    unlimited = replace(CANCELLERS[name], limit_db=np.inf)
    assert decibels(unlimited(samples)) < decibels(samples[0]) - 50


@pytest.mark.parametrize("limit_db", [3.0, 6.0])
def test_no_bin_loses_more_than_the_limit(rng, limit_db):
    samples = recording(rng)[[0, 1]] + recording(rng)[[0, 0]]
    canceller = Canceller(limit_db=limit_db)
    s = canceller.statistics(samples)
    H = canceller.response(s)
    left = (
        s.energy - 2 * (H.conj() * s.cross).sum(1).real + np.einsum("fa,fab,fb->f", H.conj(), s.gram, H).real
    )
    lost = 10 * np.log10(s.energy / left)
    assert lost.max() == pytest.approx(limit_db, abs=1e-6)
    free = replace(canceller, limit_db=np.inf).response(s)
    np.testing.assert_array_equal(H[lost < limit_db - 0.01], free[lost < limit_db - 0.01])


@pytest.mark.parametrize("name", CANCELLERS)
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-9, 1.0, 1e9])
def test_whatever_the_level_of_far_all_is_finite_and_near_is_not_exceeded(rng, name, scale):
    samples = recording(rng) * np.float32([[1.0], [scale]])
    out = listen(samples, name)
    assert np.isfinite(out).all()
    assert decibels(out) < decibels(samples[0]) + 0.1


@settings(max_examples=20, deadline=None)
@given(st.integers(-6, 6), st.integers(-6, 6))
def test_gains_that_nobody_calibrated_only_scale_the_result(of_near, of_far):
    samples = recording(np.random.default_rng(1), 6000)
    scaled = samples * np.float32([[2.0**of_near], [2.0**of_far]])
    expected = Canceller()(samples) * 2.0**of_near
    np.testing.assert_allclose(Canceller()(scaled), expected, rtol=0, atol=1e-6 * 2.0**of_near)


def test_samples_are_not_written_to(rng):
    samples = recording(rng)
    samples.setflags(write=False)
    Canceller()(samples)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_fft": 1023}, "n_fft=1023: must be even and at least 2"),
        ({"n_fft": 0}, "n_fft=0: must be even and at least 2"),
        ({"taps": ()}, r"taps=\(\): expected at least one, each only once"),
        ({"taps": (0, 0)}, r"taps=\(0, 0\): expected at least one, each only once"),
        ({"ridge": 0.0}, "ridge=0.0: must be positive and finite"),
        ({"ridge": float("nan")}, "ridge=nan: must be positive and finite"),
        ({"limit_db": 0.0}, "limit_db=0.0: must be positive"),
        ({"limit_db": float("nan")}, "limit_db=nan: must be positive"),
    ],
)
def test_impossible_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Canceller(**parameters)


# what it is for


def test_more_taps_take_more_of_a_noise_with_long_ways(rng):
    machine, at_near, samples = echoing(rng)
    left = {
        name: decibels(listen(samples, name) - machine) - decibels(at_near)
        for name in ("cancelled", *CANCELLERS)
    }
    assert left["cancelled_3taps"] < left["cancelled"] - 4
    assert left["cancelled_5taps"] < left["cancelled"] - 4
    assert left["cancelled_4096"] < left["cancelled"] - 4


@pytest.mark.parametrize("name", CANCELLERS)
def test_the_machine_stays(rng, name):
    machine, _, samples = echoing(rng)
    of_tone = 2 * np.mean(listen(samples, name) * tone(1000.0, seconds=6))
    assert of_tone == pytest.approx(2 * np.mean(machine * tone(1000.0, seconds=6)), rel=0.05)


def test_silence_has_no_coefficients():
    canceller = Canceller(8)
    empty = Statistics(np.zeros((5, 3, 3), complex), np.zeros((5, 3), complex), np.zeros(5), 100)
    np.testing.assert_array_equal(canceller.response(empty), np.zeros((5, 3)))


# what was taken


def test_energy_that_was_taken_is_told_by_band():
    n = 2 * RATE
    bands = [tone(f, 0.1)[:n] for f in (500.0, 2500.0, 6000.0)]
    near = np.sum(bands, axis=0).astype(np.float32)
    left = (bands[0] + 0.5 * bands[1] + 0.1 * bands[2]).astype(np.float32)
    taken = energy_taken(near, left, rate=RATE)
    assert list(taken) == list(BANDS_HZ)
    assert list(taken.values()) == pytest.approx([0.0, 20 * np.log10(2), 20.0], abs=0.01)


def test_bands_that_a_recording_has_not_are_left_out(rng):
    near = rng.standard_normal(8000).astype(np.float32)
    assert list(energy_taken(near, near, rate=8000)) == ["below 1 kHz", "1 to 4 kHz"]
    assert energy_taken(near, near, rate=8000)["1 to 4 kHz"] == 0


def test_of_silence_nothing_is_taken_and_of_sound_all():
    silence, sound = np.zeros(5000, np.float32), np.ones(5000, np.float32)
    assert set(energy_taken(silence, silence, rate=RATE).values()) == {0.0}
    assert energy_taken(sound, silence, rate=RATE)["below 1 kHz"] == np.inf


# from training clips


def test_many_recordings_tell_more_than_a_short_one(rng):
    ways = rng.standard_normal((2, 600)) * np.exp(-np.arange(600) / 100)
    machine = tone(1000.0, 0.1, seconds=1.0)

    def heard():
        noise = 0.005 * scipy.signal.oaconvolve(rng.standard_normal((1, RATE)), ways, axes=-1)[:, :RATE]
        return (noise + np.stack([machine, 0 * machine])).astype(np.float32)

    samples, fitted = heard(), Canceller().fit(heard() for _ in range(20))
    left = {
        weight: decibels(replace(fitted, weight=weight)(samples) - machine) for weight in (0.0, 1.0, np.inf)
    }
    assert max(left[np.inf], left[1.0]) < left[0.0] - 0.5
    assert left[0.0] < decibels(samples[0] - machine) - 3


def test_a_loud_recording_does_not_rule(rng):
    quiet, loud = recording(rng), 100 * recording(rng)
    fitted = Canceller().fit([quiet, loud])
    np.testing.assert_allclose(
        fitted.response(quiet), Canceller().fit([quiet, loud / 100]).response(quiet), rtol=0, atol=1e-4
    )


def test_of_a_recording_unlike_the_training_ones_no_bin_loses_more_than_the_limit(rng):
    fitted = Canceller(limit_db=6.0).fit([recording(rng) for _ in range(3)])
    twice = recording(rng)[[0, 0]]
    assert decibels(twice[0]) - decibels(fitted(twice)) < 6.2


def test_a_fitted_canceller_leaves_near_where_far_is_silent(rng):
    fitted = Canceller().fit([recording(rng)])
    samples = recording(rng) * np.float32([[1], [0]])
    np.testing.assert_array_equal(fitted(samples), samples[0])


def test_what_was_learnt_is_saved_and_taken_up_again(rng):
    fitted, samples = Canceller(512).fit([recording(rng) for _ in range(2)], weight=0.5), recording(rng)
    again = FittedCanceller.of(Canceller(512), fitted.arrays, weight=0.5)
    np.testing.assert_array_equal(again(samples), fitted(samples))


def test_what_another_canceller_learnt_is_refused(rng):
    arrays = Canceller(512).fit([recording(rng)]).arrays
    with pytest.raises(ValueError, match=r"arrays of \(bins, taps\) \(257, 3\), but .* has \(1025, 3\)"):
        FittedCanceller.of(Canceller(), arrays)


@pytest.mark.parametrize("recordings", [[], [np.zeros((2, 5000), np.float32)]])
def test_nothing_is_learnt_from_nothing(recordings):
    with pytest.raises(
        ValueError, match="no recording to learn cancellation from in which the far microphone"
    ):
        Canceller().fit(recordings)


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_is_not_negative(rng, weight):
    with pytest.raises(ValueError, match=f"weight={weight}: must not be negative"):
        Canceller().fit([recording(rng)], weight=weight)


@pytest.mark.parametrize("shape", [(16_000,), (1, 16_000), (2, 2, 16_000)])
def test_what_has_no_second_channel_is_an_error(shape):
    with pytest.raises(ValueError, match=r"samples has the shape \(.*\); expected \(2, samples\): near, far"):
        Canceller()(np.zeros(shape, np.float32))
