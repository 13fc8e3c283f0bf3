"""Levels in bands, by microphone view: against a slow twin, against physics, and at the edges of what there is."""

from __future__ import annotations

from itertools import pairwise

import naive
import numpy as np
import pytest
from two_microphones import RATE, recording, tone

from nearfar.recordings import bands
from nearfar.recordings.bands import band_edges, measured_bands
from nearfar.recordings.inspection.measured import frame_length
from nearfar.recordings.microphones import MicrophoneError, listen
from nearfar.recordings.transforms import Transforms

VIEWS = ("near", "far", "cancelled_3taps")
LOW = 2000  # Hz, a rate that is quick to transform slowly


@pytest.mark.parametrize("rate", [2000, 8000, 16000, 22050, 44100, 48000, 96000, 250000])
def test_edges_are_a_sixth_of_an_octave_where_the_spectrum_resolves_it(rate: int) -> None:
    edges = band_edges(rate)
    octaves, bin_hz = np.log2(edges[1:] / edges[:-1]), rate / frame_length(rate)
    bins = np.arange(frame_length(rate) // 2 + 1) * bin_hz
    inside = [((bins >= low) & (bins < high)).sum() for low, high in pairwise(edges)]
    assert (edges[0], edges[-1]) == (50, rate / 2)
    assert min(inside) >= 2
    wide = edges[:-1] > 2 * bin_hz / (2 ** (1 / 6) - 1)  # above, a sixth of an octave has two bins for sure
    np.testing.assert_allclose(octaves[wide][:-1], 1 / 6)
    assert 1 / 12 <= octaves[-1] <= 1 / 4
    assert not edges.flags.writeable


def test_rates_at_which_hardly_anything_is_above_50_hz() -> None:
    edges = band_edges(120)
    assert edges[0] < 60 == edges[-1]
    assert (np.diff(edges) > 0).all()


@pytest.mark.parametrize("samples", [256, 257, 383, 384, 1024, 3001])  # a frame has 256
def test_levels_and_peaks_are_those_of_the_slow_twin(rng: np.random.Generator, samples: int) -> None:
    heard = recording(rng, samples)
    heard[0, samples // 2 :] *= 4  # so that frames differ
    edges = band_edges(LOW)
    levels, peaks = measured_bands(heard, LOW, VIEWS, edges)
    assert levels.dtype == peaks.dtype == np.float32
    for i, view in enumerate(VIEWS):
        expected = naive.bands(listen(heard, view), LOW, edges)
        np.testing.assert_allclose(levels[i], expected[0], atol=2e-3)
        np.testing.assert_allclose(peaks[i], expected[1], atol=2e-3)


def test_a_tone_has_its_level_in_its_band(rng: np.random.Generator) -> None:
    edges = band_edges(RATE)
    heard = np.stack([tone(1000, 0.1), 1e-4 * rng.standard_normal(2 * RATE)]).astype(np.float32)
    levels, peaks = measured_bands(heard, RATE, ("near", "far"), edges)
    band = int(np.searchsorted(edges, 1000)) - 1
    assert levels[0, band] == pytest.approx(10 * np.log10(0.1**2 / 2), abs=0.05)
    assert peaks[0, band] == pytest.approx(levels[0, band], abs=0.05)
    assert levels[0].argmax() == band
    assert levels[1, band] < -80


def test_the_powers_of_all_bands_are_the_power_of_what_lies_in_them(rng: np.random.Generator) -> None:
    noise = 0.1 * rng.standard_normal((1, 30 * RATE)).astype(np.float32)
    levels, _ = measured_bands(noise, RATE, ("near",), band_edges(RATE))
    assert 10 * np.log10((10 ** (levels[0] / 10)).sum()) == pytest.approx(
        -20 + 10 * np.log10(7950 / 8000), abs=0.03
    )


def test_a_short_sound_stands_out_in_the_peaks_only(rng: np.random.Generator) -> None:
    heard = 1e-3 * rng.standard_normal((1, 10 * RATE)).astype(np.float32)
    edges = band_edges(RATE)
    before = measured_bands(heard, RATE, ("near",), edges)
    heard[0, : int(0.8 * RATE)] += tone(3000, 0.05, seconds=0.8).astype(np.float32)  # 8 % of the time
    levels, peaks = measured_bands(heard, RATE, ("near",), edges)
    band = int(np.searchsorted(edges, 3000)) - 1
    assert peaks[0, band] - levels[0, band] > 8
    assert peaks[0, band] == pytest.approx(10 * np.log10(0.05**2 / 2), abs=0.5)
    assert before[1][0, band] - before[0][0, band] < 5


@pytest.mark.parametrize("samples", [1, 600, 2047])
def test_a_recording_shorter_than_a_frame_is_one(rng: np.random.Generator, samples: int) -> None:
    heard = np.full((2, samples), 0.1, np.float32) * np.sign(rng.standard_normal((2, samples))).astype(
        np.float32
    )
    levels, peaks = measured_bands(heard, RATE, VIEWS, band_edges(RATE))
    np.testing.assert_array_equal(levels, peaks)
    assert 10 * np.log10((10 ** (levels[0] / 10)).sum()) == pytest.approx(-20, abs=0.5)


def test_silence_is_at_the_floor() -> None:
    levels, peaks = measured_bands(np.zeros((2, RATE), np.float32), RATE, VIEWS, band_edges(RATE))
    assert (levels == -100).all()
    assert (peaks == -100).all()


def test_what_others_have_computed_changes_no_bit(rng: np.random.Generator) -> None:
    heard, edges = recording(rng), band_edges(RATE)
    transforms = Transforms(heard)
    waveforms = {"cancelled_3taps": listen(heard, "cancelled_3taps", transforms)}
    shared = measured_bands(heard, RATE, VIEWS, edges, transforms=transforms, waveforms=waveforms)
    alone = measured_bands(heard, RATE, VIEWS, edges)
    np.testing.assert_array_equal(shared, alone)


def test_a_view_of_two_microphones_needs_both(rng: np.random.Generator) -> None:
    for view in ("far", "cancelled_3taps"):
        with pytest.raises(MicrophoneError, match="needs 2 channels"):
            measured_bands(recording(rng)[:1], RATE, (view,), band_edges(RATE))


@pytest.mark.parametrize("n", [1, 2, 20, 21, 155, 156])
def test_the_peak_is_numpys_quantile_to_the_last_bit(rng: np.random.Generator, n: int) -> None:
    values = 20 * rng.standard_normal((n, 41))
    np.testing.assert_array_equal(bands._quantile(values, 0.95), np.quantile(values, 0.95, axis=0))
