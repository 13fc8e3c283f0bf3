"""Envelopes of bands, and the rates that are in them."""

from __future__ import annotations

import naive_evidence
import numpy as np
import pytest
from numpy.typing import NDArray

from nearfar.evidence.courses import Course, course_of, tone_in
from nearfar.evidence.envelopes import Envelope, EnvelopeSpectrum, envelope, envelope_spectrum, spectrum_of

RATE, SECONDS = 8000, 10.0
LOW, HIGH = 2000.0, 2400.0
Float = NDArray[np.float64]


def noise(seed: int, seconds: float = SECONDS) -> Float:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))


def time(seconds: float = SECONDS) -> Float:
    return np.arange(round(seconds * RATE)) / RATE


def knocks(hertz: float, seed: int = 0, *, jitter: float = 0.0, level: float = 0.2) -> Float:
    """A resonance at 2.2 kHz that is struck so often a second."""
    rng, t = np.random.default_rng(seed), time()
    at = np.cumsum((1 + jitter * rng.standard_normal(int(SECONDS * hertz))) / hertz)
    sound = np.zeros(len(t))
    for onset in at[at < SECONDS - 0.1]:
        k = int(onset * RATE)
        tail = np.arange(400) / RATE
        sound[k : k + 400] += np.exp(-150 * tail) * np.sin(2 * np.pi * 2200 * tail)
    return level * sound


def of(waveform: Float, low: float = LOW, high: float = HIGH) -> Envelope:
    samples = waveform.astype(np.float32)
    return envelope(spectrum_of(samples), len(samples), RATE, low, high)


def spectrum(
    waveform: Float, normal: list[Float] | None = None, low: float = LOW, high: float = HIGH
) -> EnvelopeSpectrum:
    usual = tuple(of(one, low, high) for one in normal or [])
    return envelope_spectrum(of(waveform, low, high), usual, view="near", low_hz=low, high_hz=high)


@pytest.mark.parametrize("samples", [4000, 4001, 3999])
def test_an_envelope_is_the_power_of_the_band(samples: int) -> None:
    waveform = noise(0)[:samples] + np.sin(2 * np.pi * 2100 * time()[:samples])
    found = of(waveform)
    times = np.arange(len(found.power)) / found.rate
    padded = np.pad(waveform, (0, len(np.fft.irfft(spectrum_of(waveform.astype(np.float32)))) - samples))
    slow = naive_evidence.envelope(padded, RATE, LOW, HIGH, times)
    np.testing.assert_allclose(found.power, slow, rtol=1e-3, atol=1e-4)
    assert len(found.power) / found.rate == pytest.approx(samples / RATE, abs=2 / found.rate)


def test_the_power_of_a_tone_is_its_mean_square() -> None:
    found = of(0.5 * np.sin(2 * np.pi * 2200 * time()))
    assert found.power.mean() == pytest.approx(0.125, rel=1e-3)
    blocks, step = found.blocks(1.0)
    assert (blocks.shape, step) == ((10,), pytest.approx(1.0, rel=1e-3))


def test_a_line_says_how_much_the_power_changes() -> None:
    """``(1 + m cos)^2`` changes by ``2 m / (1 + m^2 / 2)`` of its mean at the rate."""
    m = 0.3
    found = spectrum((1 + m * np.cos(2 * np.pi * 30 * time())) * np.sin(2 * np.pi * 2200 * time()))
    at = int(np.argmin(np.abs(found.frequencies - 30)))
    assert found.frequencies[at] == pytest.approx(30, abs=0.1)
    assert found.clip[at] == pytest.approx(20 * np.log10(2 * m / (1 + m**2 / 2)), abs=0.3)


@pytest.mark.parametrize("hertz", [2.5, 9.7, 29.3, 87.0, 140.0])
def test_the_rate_of_knocks_in_noise(hertz: float) -> None:
    found = spectrum(knocks(hertz, jitter=0.01) + noise(1), [noise(2), noise(3)])
    assert found.rate_hz == pytest.approx(hertz, rel=0.02)
    assert found.peaks[0].above_normal_db is not None
    assert 1 in [peak.order for peak in found.peaks]


def test_noise_has_no_rate() -> None:
    rates = [spectrum(noise(seed)).rate_hz for seed in range(60)]
    assert sum(rate is not None for rate in rates) <= 2  # the floor is not known exactly


def test_what_normal_clips_do_as_well_is_no_news() -> None:
    normal = [knocks(29.3, seed) + noise(10 + seed) for seed in (1, 2, 3)]
    assert spectrum(knocks(29.3) + noise(1), normal).rate_hz is None
    louder = spectrum(4 * knocks(29.3) + noise(1), [0.2 * knocks(29.3, 1) + noise(11)])
    assert louder.rate_hz == pytest.approx(29.3, rel=0.02)
    assert louder.normal.shape == (1, len(louder.frequencies))


def test_the_beat_of_two_tones_is_no_burst() -> None:
    two = np.sin(2 * np.pi * 2050 * time()) + np.sin(2 * np.pi * 2350 * time())
    assert spectrum(two + noise(1)).rate_hz is None


def test_a_band_of_few_bins_and_silence_are_no_error() -> None:
    assert spectrum(noise(1), low=50.0, high=50.5).peaks == ()
    assert spectrum(np.zeros(8000)).rate_hz is None
    short = spectrum(noise(1)[:800])
    assert np.isfinite(short.clip).all()


def course(
    waveform: Float, normal: list[Float] | None = None, low: float = LOW, high: float = HIGH
) -> Course:
    samples = waveform.astype(np.float32)
    tone = tone_in(spectrum_of(samples), len(samples), RATE, low, high)
    usual = tuple(of(one, low, high) for one in normal or [])
    return course_of(of(waveform, low, high), usual, spectrum(waveform, normal, low, high), tone)


def test_a_steady_hiss() -> None:
    assert course(noise(1)) == Course("steady")


def test_a_tone_and_its_frequency() -> None:
    found = course(0.5 * np.sin(2 * np.pi * 2234.5 * time()) + noise(1))
    assert found.kind == "steady"
    assert found.tone_hz == pytest.approx(2234.5, abs=0.5)


def test_a_tone_in_bursts() -> None:
    on = np.sin(2 * np.pi * 3 * time()) > 0
    found = course(np.sin(2 * np.pi * 2234.5 * time()) * on + 0.1 * noise(1))
    assert found.kind == "bursts"
    assert found.rate_hz == pytest.approx(3, rel=0.02)
    assert found.tone_hz == pytest.approx(2234.5, abs=1.0)


def test_a_tone_whose_loudness_hardly_changes_is_steady() -> None:
    """Its line at 30 Hz stands far above the floor, because nothing but the tone is there; nobody hears it."""
    tone = np.sin(2 * np.pi * 2234.5 * time())
    slight, clear = ((1 + m * np.cos(2 * np.pi * 30 * time())) * tone + 0.01 * noise(1) for m in (0.01, 0.2))
    assert spectrum(slight).rate_hz == pytest.approx(30, rel=0.02)
    assert course(slight).kind == "steady"
    assert course(clear).kind == "bursts"


def test_blocks_that_do_not_divide_the_recording_keep_their_places() -> None:
    power = np.ones(1015)
    power[995:1000] = 100.0
    blocks, step = Envelope(power, 100.0).blocks(0.2)
    assert (len(blocks), step) == (50, 0.2)
    assert blocks.argmax() * step == pytest.approx(9.8)
    assert [x.tolist() for x in (Envelope(np.ones(3), 100.0).blocks(1.0)[0],)] == [[1.0]]


def test_bursts_and_how_many() -> None:
    found = course(knocks(29.3) + 0.5 * noise(1))
    assert found.kind == "bursts"
    assert found.rate_hz == pytest.approx(29.3, rel=0.02)


def test_irregular_knocks() -> None:
    found = course(knocks(5.0, jitter=0.9, level=1.0) + 0.3 * noise(1), [noise(2)])
    assert found.kind == "irregular"


def test_one_event() -> None:
    loud = np.exp(-0.5 * ((time() - 3.25) / 0.05) ** 2)
    found = course(noise(1) * (1 + 20 * loud))
    assert found.kind == "once"
    assert found.begin_s is not None
    assert found.end_s is not None
    assert found.begin_s < 3.25 < found.end_s
    assert found.end_s - found.begin_s < 0.6
    assert found.change_db is not None
    assert found.change_db > 15


def test_a_part_of_the_clip() -> None:
    found = course(noise(1) * np.where((time() > 2) & (time() < 5), 4.0, 1.0))
    assert found.kind == "part"
    assert (found.begin_s, found.end_s) == (pytest.approx(2, abs=0.15), pytest.approx(5, abs=0.15))
    assert found.change_db == pytest.approx(12, abs=1)


@pytest.mark.parametrize(("end", "kind"), [(9.0, "rising"), (-9.0, "falling")])
def test_a_slope(end: float, kind: str) -> None:
    found = course(noise(1) * 10 ** (end / 20 * time() / SECONDS))
    assert found.kind == kind
    assert found.change_db == pytest.approx(end, abs=1.5)


def test_noise_of_a_narrow_low_band_is_steady() -> None:
    """The level of noise in a band of 6 Hz wanders by many dB: that is no event."""
    kinds = [course(noise(seed), low=50.0, high=56.0).kind for seed in range(20)]
    assert kinds.count("steady") >= 18
