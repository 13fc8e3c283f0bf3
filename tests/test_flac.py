"""FLAC: the same samples come back, or as near to them as 24 bits allow; nothing clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError
from nearfar.recordings.flac import FLAC_RATE, decoded, encoded, holds


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "ULAW"])
@pytest.mark.parametrize("level", [1e-3, 0.1, 1.0])
def test_what_converters_give_comes_back_exactly(
    subtype: str, level: float, rng: np.random.Generator, tmp_path: Path
) -> None:
    samples = np.clip(level * rng.standard_normal((5000, 2)), -1, 1)  # full scale among them
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype=subtype)
    heard, rate = audio.read(tmp_path / "a.wav")
    found = encoded(heard, rate)
    again, said = decoded(found.content, found.exponent)
    assert (found.exponent, found.bits, said) == (0, 24 if subtype == "PCM_24" else 16, rate)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, heard)


@pytest.mark.parametrize("peak", [1e-6, 0.3, 1.0, 7.5, 3e4])
def test_floating_point_is_rounded_138_db_below_its_peak_and_never_clipped(
    peak: float, rng: np.random.Generator
) -> None:
    samples = rng.standard_normal((2, 5000)).astype(np.float32)
    samples *= np.float32(peak) / np.abs(samples).max()
    found = encoded(samples, 51200)
    again, rate = decoded(found.content, found.exponent)
    assert (found.bits, rate) == (24, 51200)
    assert np.abs(again - samples).max() <= np.abs(samples).max() * 2.0**-23
    assert np.abs(again).max() == pytest.approx(peak, rel=1e-6)


def test_the_largest_float_below_a_power_of_two_does_not_wrap_around() -> None:
    samples = np.array([[np.nextafter(np.float32(1), np.float32(0)), -1.0, 0.1]], np.float32)
    for factor in (np.float32(1), np.float32(4)):
        found = encoded(factor * samples, 8000)
        np.testing.assert_allclose(decoded(found.content, found.exponent)[0], factor * samples, rtol=2e-6)


def test_silence_and_a_single_sample() -> None:
    for samples in (np.zeros((2, 100), np.float32), np.full((1, 1), 0.5, np.float32)):
        found = encoded(samples, 16000)
        np.testing.assert_array_equal(decoded(found.content, found.exponent)[0], samples)


def test_equal_samples_give_equal_bytes(rng: np.random.Generator) -> None:
    samples = rng.standard_normal((2, 5000)).astype(np.float32)
    assert encoded(samples, 16000) == encoded(samples.copy(), 16000)


def test_the_highest_rate_and_most_channels(rng: np.random.Generator) -> None:
    samples = np.rint(rng.uniform(-9, 9, (8, 500))).astype(np.float32) / 32768
    again, rate = decoded(encoded(samples, FLAC_RATE).content)
    assert rate == FLAC_RATE
    np.testing.assert_array_equal(again, samples)


@pytest.mark.parametrize("rate", [1, 8000, 65_535, 65_536, 96_001, 102_400, 131_072, FLAC_RATE])
def test_rates_that_it_holds(rate: int, rng: np.random.Generator) -> None:
    """Above 65,535 Hz a frame tells its rate in steps of 10 Hz: so not powers of two."""
    samples = rng.standard_normal((2, 500)).astype(np.float32)
    if holds(2, rate):
        assert decoded(encoded(samples, rate).content)[1] == rate
    else:
        with pytest.raises(
            AudioError, match=f"rate={rate}: FLAC holds .* above 65535 Hz only multiples of 10"
        ):
            encoded(samples, rate)
    assert holds(2, rate) == (rate <= 65_535 or rate % 10 == 0)


def test_what_flac_cannot_hold_is_an_error() -> None:
    with pytest.raises(AudioError, match="rate=655351: FLAC holds up to 8 channels and 655350 Hz"):
        encoded(np.zeros((1, 9), np.float32), FLAC_RATE + 1)
    with pytest.raises(AudioError, match="channels=9, rate=16000: FLAC holds up to 8 channels"):
        encoded(np.zeros((9, 9), np.float32), 16000)
    with pytest.raises(AudioError, match="1 sample is NaN or infinite"):
        encoded(np.array([[0.0, np.nan]], np.float32), 16000)
    with pytest.raises(AudioError, match="no sound file"):
        decoded(b"nothing of that kind")
