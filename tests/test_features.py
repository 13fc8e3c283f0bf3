"""Mel spectrograms are librosa's, of NumPy arrays and torch tensors alike."""

from __future__ import annotations

import warnings

import naive
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.encoders.features import (
    BASELINE,
    DB_FLOOR,
    Mel,
    hertz,
    log_mel,
    mel_frequencies,
    mel_spectrogram,
    stack_frames,
)

MELS = {
    "baseline": BASELINE,
    "ced": Mel(n_fft=512, hop=160, n_mels=64, scale="htk", norm=None, pad="reflect"),
    "m2d": Mel(n_fft=400, hop=160, n_mels=80, f_min=50.0, pad="reflect"),
    "dca_128": Mel(n_fft=1024, hop=156, n_mels=128),
    "dca_256": Mel(n_fft=2048, hop=156, n_mels=256),
    "empty_bands": Mel(n_fft=512, hop=200, n_mels=256),
    "short_window": Mel(n_fft=512, hop=160, win_length=400, n_mels=40, pad="reflect"),
    "odd_window": Mel(n_fft=512, hop=200, win_length=333, n_mels=40),
    "48_khz": Mel(rate=48000, n_fft=2048, hop=512, n_mels=64, f_max=20000.0),
}
few = settings(max_examples=40, deadline=None)
TOLERANCE = {"float32": 1e-3, "float64": 1e-5}  # dB
KINDS = {"numpy": np.asarray, "torch": torch.from_numpy}


def librosa_log_mel(waveform, mel):
    librosa = pytest.importorskip("librosa")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters detected")
        power = librosa.feature.melspectrogram(
            y=waveform,
            sr=mel.rate,
            n_fft=mel.n_fft,
            hop_length=mel.hop,
            win_length=mel.win_length,
            pad_mode=mel.pad,
            n_mels=mel.n_mels,
            fmin=mel.f_min,
            fmax=mel.f_max,
            htk=mel.scale == "htk",
            norm=mel.norm,
            dtype=waveform.dtype,
        )
    return 10 * np.log10(np.maximum(power, DB_FLOOR))


def sound(rng, *shape):
    """Noise that fades: (*shape)."""
    return rng.standard_normal(shape) * np.linspace(0.5, 0.01, shape[-1])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mel", MELS.values(), ids=MELS)
def test_log_mel_is_librosas(rng, mel, kind, dtype):
    waveform = sound(rng, 20_011).astype(dtype)
    level = log_mel(KINDS[kind](waveform), mel)
    assert type(level) is type(KINDS[kind](waveform))
    assert str(level.dtype).removeprefix("torch.") == dtype
    assert level.shape == (mel.n_mels, 1 + 20_011 // mel.hop)
    np.testing.assert_allclose(level, librosa_log_mel(waveform, mel), rtol=0, atol=TOLERANCE[dtype])


def test_a_band_without_bins_is_at_the_floor(rng):
    level = log_mel(sound(rng, 4000), MELS["empty_bands"])
    at_floor = (level == level.min()).all(axis=1)
    assert level.min() == pytest.approx(10 * np.log10(DB_FLOOR))
    assert 0 < at_floor.sum() == at_floor[:100].sum() < 40  # only low bands are so narrow


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 511, 512, 513, 100 * 512])
def test_frames_are_counted_from_the_first_sample(kind, samples):
    assert log_mel(KINDS[kind](np.ones(samples, np.float32))).shape == (128, 1 + samples // 512)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mel", [BASELINE, MELS["m2d"]], ids=["baseline", "m2d"])
def test_a_batch_is_its_clips_one_by_one(rng, mel, kind):
    waveforms = KINDS[kind](sound(rng, 2, 3, 16_000).astype(np.float32))
    batch = log_mel(waveforms, mel)
    assert batch.shape == (2, 3, mel.n_mels, 1 + 16_000 // mel.hop)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(batch[i, j], log_mel(waveforms[i, j], mel), rtol=0, atol=1e-4)


def test_a_view_of_every_other_sample_is_read_right(rng):
    waveform = sound(rng, 4000).astype(np.float32)
    np.testing.assert_array_equal(log_mel(waveform[::2]), log_mel(waveform[::2].copy()))


def test_what_is_given_is_not_written_to(rng):
    waveform = sound(rng, 4000)
    before = waveform.copy()
    waveform.setflags(write=False)
    first = log_mel(waveform)
    first[:] = 0  # nor is what was remembered for the next call
    np.testing.assert_array_equal(log_mel(waveform), log_mel(before))


@pytest.mark.parametrize("pad", ["constant", "reflect"])
def test_log_mel_is_differentiable(rng, pad):
    mel = Mel(rate=800, n_fft=16, hop=8, n_mels=3, f_max=400.0, win_length=12, pad=pad)
    waveform = torch.tensor(rng.standard_normal(20), requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: log_mel(w, mel), waveform)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_digital_silence_is_at_the_floor(kind, dtype):
    silence = KINDS[kind](np.zeros((2, 4000), dtype))
    np.testing.assert_allclose(log_mel(silence), 10 * np.log10(DB_FLOOR), rtol=1e-6)
    np.testing.assert_allclose(log_mel(silence, floor=1e-10), -100, rtol=1e-6)
    np.testing.assert_allclose(log_mel(silence, floor=1e-10, top_db=80.0), -100, rtol=1e-6)


def test_an_ended_sound_does_not_leak_into_the_silence_after_it(rng):
    waveform = np.zeros(8192, np.float32)
    waveform[:2048] = rng.standard_normal(2048)
    level = log_mel(waveform)
    np.testing.assert_array_equal(level[:, 6:], level[0, -1])
    assert level[:, 0].min() > level[0, -1] + 50


@pytest.mark.parametrize("kind", KINDS)
def test_top_db_is_under_each_clips_own_maximum(rng, kind):
    waveforms = KINDS[kind](sound(rng, 2, 16_000) * np.array([[1.0], [1e-3]]))
    full, clipped = log_mel(waveforms), log_mel(waveforms, top_db=20.0)
    assert full[0].max() > full[1].max() + 50
    for i in range(2):
        expected = np.maximum(np.asarray(full[i]), np.asarray(full[i]).max() - 20)
        np.testing.assert_array_equal(clipped[i], expected)
        assert clipped[i].min() == pytest.approx(float(full[i].max()) - 20)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@few
@given(frequency=st.floats(0, 24_000))
def test_the_mel_scale_is_librosas_and_can_be_inverted(scale, frequency):
    hz = np.array([frequency])
    librosa = pytest.importorskip("librosa")
    mel = mel_frequencies(hz, scale)
    assert mel == pytest.approx(librosa.hz_to_mel(hz, htk=scale == "htk"), rel=1e-12, abs=1e-12)
    assert hertz(mel, scale) == pytest.approx(hz, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@few
@given(bands=st.integers(1, 4), frames=st.integers(1, 9), data=st.data())
def test_stacking_is_frame_by_frame(kind, bands, frames, data):
    n_frames = data.draw(st.integers(1, frames))
    features = np.arange(bands * frames, dtype=np.float64).reshape(bands, frames)
    stacked = stack_frames(KINDS[kind](features), n_frames)
    np.testing.assert_array_equal(stacked, naive.stack_frames(features, n_frames))


def test_stacking_a_batch_stacks_each_clip(rng):
    features = rng.standard_normal((2, 3, 4, 6))
    stacked = stack_frames(features, 5)
    assert stacked.shape == (2, 3, 2, 20)
    np.testing.assert_array_equal(stacked[1, 2], naive.stack_frames(features[1, 2], 5))


@pytest.mark.parametrize("n_frames", [0, -1, 7])
def test_too_few_frames_to_stack(n_frames):
    with pytest.raises(ValueError, match=f"n_frames={n_frames}: must be between 1 .* which is 6"):
        stack_frames(np.zeros((2, 6)), n_frames)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"f_min": 4000.0, "f_max": 4000.0}, r"f_min=4000.0, f_max=4000.0: expected 0 <= f_min < f_max"),
        ({"f_min": -1.0}, "f_min=-1.0"),
        ({"rate": 8000}, r"f_max=8000.0: .* <= 4000.0 Hz, half of rate=8000"),
        ({"win_length": 1025}, "win_length=1025: must be between 1 and n_fft=1024"),
        ({"win_length": -1}, "win_length=-1"),
        ({"n_fft": 0}, "n_fft=0"),
        ({"hop": 0}, "hop=0, n_mels=128: both must be at least 1"),
        ({"n_mels": 0}, "n_mels=0"),
    ],
)
def test_impossible_parameters(options, match):
    with pytest.raises(ValueError, match=match):
        Mel(**options)


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_samples(kind):
    with pytest.raises(
        ValueError, match="0 samples are too few for frames of n_fft=1024 with pad='constant'"
    ):
        log_mel(KINDS[kind](np.zeros(0, np.float32)))
    with pytest.raises(ValueError, match=r"200 samples are too few .* n_fft=400 with pad='reflect'"):
        log_mel(KINDS[kind](np.zeros(200, np.float32)), MELS["m2d"])
    log_mel(KINDS[kind](np.zeros(201, np.float32)), MELS["m2d"])


@pytest.mark.parametrize("waveform", [np.zeros(2000, np.int16), torch.zeros(2000, dtype=torch.float16)])
def test_samples_must_be_of_floating_point(waveform):
    with pytest.raises(ValueError, match=r"dtype=(int16|float16): a waveform is float32 or float64"):
        mel_spectrogram(waveform)
