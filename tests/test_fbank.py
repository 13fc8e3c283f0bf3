"""Kaldi's filter-bank features are what their definition says, of NumPy arrays and torch tensors alike."""

from __future__ import annotations

import naive_fbank
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.encoders.features import KALDI, KALDI_FLOOR, Fbank, kaldi_fbank, kaldi_filters

KINDS = {"numpy": np.asarray, "torch": torch.from_numpy}
TOLERANCE = {"float32": 1.2e-3, "float64": 1e-9}  # nepers; torchaudio's own distance from double precision
FBANKS = {
    "eat": Fbank(window="hanning"),
    "beats": Fbank(window="povey"),
    "8_khz": Fbank(rate=8000, n_mels=40, window="povey", f_max=3800.0),
    "odd": Fbank(rate=11_025, n_mels=23, frame_ms=20.0, hop_ms=7.3, pre_emphasis=0.9, f_min=0.0),
    "a_power_of_two": Fbank(n_mels=80, frame_ms=32.0, log_floor=1e-3),
}
EMPTY_BAND = 3  # of 128 bands at 16 kHz: its triangle lies between two bins


def sound(rng, *shape):
    """Noise that fades, on an offset: (*shape)."""
    return rng.standard_normal(shape) * np.linspace(0.5, 0.01, shape[-1]) + 0.1


def options(fbank):
    return {name: getattr(fbank, name) for name in Fbank.__dataclass_fields__}


def by_scipy(waveform, window):
    """Of 16 kHz, from SciPy's parts: Fourier transforms of all frames, and triangles by interpolation."""
    starts = range(0, len(waveform) - 399, 160)
    frames = np.stack([scipy.signal.detrend(waveform[i : i + 400], type="constant") for i in starts])
    first = -0.97 * frames[:, :1]
    emphasized = scipy.signal.lfilter([1.0, -0.97], [1.0], frames, zi=first)[0]
    weights = scipy.signal.get_window("hann", 400, fftbins=False) ** {"hanning": 1, "povey": 0.85}[window]
    power = np.abs(np.fft.rfft(emphasized * weights, 512)) ** 2
    mel = 1127 * np.log1p(np.arange(257) * 16_000 / 512 / 700)
    corners = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 130)
    bank = np.stack([np.interp(mel, corners[b : b + 3], [0, 1, 0]) for b in range(128)])
    return np.log(np.maximum(power @ bank.T, KALDI_FLOOR))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fbank", FBANKS.values(), ids=FBANKS)
def test_is_its_definition(rng, fbank, kind, dtype):
    waveform = sound(rng, 1100).astype(dtype)
    found = kaldi_fbank(KINDS[kind](waveform), fbank)
    assert type(found) is type(KINDS[kind](waveform))
    assert str(found.dtype).removeprefix("torch.") == dtype
    expected = naive_fbank.kaldi_fbank(waveform, **options(fbank))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", ["hanning", "povey"])
def test_is_what_scipy_makes(rng, window, kind):
    waveform = sound(rng, 16_011)
    expected = by_scipy(waveform, window)
    assert expected.shape == (98, 128)
    np.testing.assert_allclose(kaldi_fbank(KINDS[kind](waveform), window=window), expected, rtol=0, atol=1e-9)
    single = kaldi_fbank(KINDS[kind](waveform.astype(np.float32)), window=window)
    np.testing.assert_allclose(single, expected, rtol=0, atol=5e-3)
    assert np.quantile(np.abs(np.asarray(single) - expected), 0.99) < 1e-4


def test_options_change_the_parameters_given(rng):
    waveform = sound(rng, 2000)
    np.testing.assert_array_equal(kaldi_fbank(waveform), kaldi_fbank(waveform, Fbank(window="hanning")))
    np.testing.assert_array_equal(
        kaldi_fbank(waveform, FBANKS["8_khz"], n_mels=20),
        kaldi_fbank(waveform, rate=8000, n_mels=20, window="povey", f_max=3800.0),
    )
    assert not np.array_equal(kaldi_fbank(waveform), kaldi_fbank(waveform, window="povey"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_band_without_bins_is_at_the_floor(rng, kind):
    features = np.asarray(kaldi_fbank(KINDS[kind](sound(rng, 8000).astype(np.float32))))
    at_floor = (features == features[0, EMPTY_BAND]).all(axis=0)
    assert np.flatnonzero(at_floor).tolist() == [EMPTY_BAND]
    assert features[0, EMPTY_BAND] == pytest.approx(-15.942, abs=5e-4)
    assert np.flatnonzero(kaldi_filters(KALDI).sum(axis=1) == 0).tolist() == [EMPTY_BAND]


def test_the_bin_at_half_of_the_rate_has_no_weight():
    assert kaldi_filters(KALDI).shape == (128, 257)
    assert not kaldi_filters(KALDI)[:, -1].any()
    assert kaldi_filters(KALDI)[:, -2].any()


def test_filters_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        kaldi_filters(KALDI)[0, 0] = 1.0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(extra=st.integers(0, 700))
def test_frames_lie_wholly_within_the_waveform(kind, extra):
    waveform = np.ones(400 + extra, np.float32)
    assert kaldi_fbank(KINDS[kind](waveform)).shape == (1 + extra // 160, 128)


def test_ten_seconds_are_998_frames():
    assert kaldi_fbank(np.zeros(160_000, np.float32)).shape == (998, 128)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_clips_one_by_one(rng, kind):
    waveforms = KINDS[kind](sound(rng, 2, 3, 4000).astype(np.float32))
    batch = kaldi_fbank(waveforms)
    assert batch.shape == (2, 3, 23, 128)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(batch[i, j], kaldi_fbank(waveforms[i, j]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_silence_and_an_offset_are_at_the_floor(kind, dtype):
    silence = KINDS[kind](np.stack([np.zeros(4000), np.full(4000, 0.5)]).astype(dtype))
    np.testing.assert_allclose(kaldi_fbank(silence), np.log(KALDI_FLOOR), rtol=1e-6)


def test_ten_times_the_level_is_a_hundred_times_the_power(rng):
    waveform = sound(rng, 4000)
    difference = kaldi_fbank(10 * waveform) - kaldi_fbank(waveform)
    np.testing.assert_allclose(np.delete(difference, EMPTY_BAND, axis=1), np.log(100), atol=1e-9)


def test_a_tone_is_loudest_in_its_band():
    frequency = 1000.0
    features = kaldi_fbank(np.sin(2 * np.pi * frequency / 16_000 * np.arange(4000)))
    edges = np.linspace(naive_fbank.mel(20.0), naive_fbank.mel(8000.0), 130)
    nearest = np.abs(edges[1:-1] - naive_fbank.mel(frequency)).argmin()
    assert (features.argmax(axis=1) == nearest).all()


@pytest.mark.parametrize("window", ["hanning", "povey"])
def test_is_differentiable(rng, window):
    fbank = Fbank(rate=800, n_mels=3, window=window, frame_ms=15.0, hop_ms=5.0)
    waveform = torch.tensor(rng.standard_normal(25), requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: kaldi_fbank(w, fbank), waveform)


def test_what_is_given_is_not_written_to(rng):
    waveform = sound(rng, 4000)
    before = waveform.copy()
    waveform.setflags(write=False)
    kaldi_fbank(waveform)[:] = 0  # nor is what was remembered for the next call
    np.testing.assert_array_equal(kaldi_fbank(waveform), kaldi_fbank(before))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"window": "povay"}, r"no window 'povay'; did you mean 'povey'\? There are: hanning, povey"),
        ({"f_min": 4000.0, "f_max": 4000.0}, r"f_min=4000.0, f_max=4000.0: expected 0 <= f_min < f_max"),
        ({"f_max": 9000.0}, r"f_max=9000.0: .* <= 8000.0 Hz, half of rate=16000"),
        ({"f_min": -1.0}, "f_min=-1.0, f_max=8000.0"),
        ({"frame_ms": 0.1}, r"frame_ms=0.1, .* at rate=16000, a frame must have at least 2 samples"),
        ({"hop_ms": 0.01}, "hop_ms=0.01"),
        ({"n_mels": 0}, "n_mels=0: .* at least 1 band"),
        ({"log_floor": 0.0}, "log_floor=0.0: must be above 0"),
    ],
)
def test_impossible_parameters(changed, match):
    with pytest.raises(ValueError, match=match):
        Fbank(**changed)


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_samples(kind):
    with pytest.raises(
        ValueError, match=r"399 samples are too few for a frame of 400 samples \(25.0 ms at 16000 Hz\)"
    ):
        kaldi_fbank(KINDS[kind](np.zeros(399, np.float32)))


@pytest.mark.parametrize("waveform", [np.zeros(2000, np.int16), torch.zeros(2000, dtype=torch.float16)])
def test_samples_must_be_of_floating_point(waveform):
    with pytest.raises(ValueError, match=r"dtype=(int16|float16): a waveform is float32 or float64"):
        kaldi_fbank(waveform)
