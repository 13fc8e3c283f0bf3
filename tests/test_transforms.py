"""Short-time spectra that are computed once, also where windows of a recording overlap."""

from __future__ import annotations

import numpy as np
import pytest
from two_microphones import RATE, recording

from nearfar.recordings import transforms
from nearfar.recordings.cancellation import Canceller
from nearfar.recordings.inspection.measured import frame_length, measure
from nearfar.recordings.transforms import Overlap, Transforms, framed, powers

LENGTH = 30_000


@pytest.mark.parametrize("length", [2, 511, 512, 1024, 5000])
@pytest.mark.parametrize("margin", [0, 1, 5])
def test_spectra_are_those_of_frames_centred_in_zeros(rng, length, margin):
    samples = recording(rng, length)
    found = Transforms(samples).spectra(1, 512, margin=margin)
    padded = np.pad(samples[1].astype(float), (256, 1024))
    frames = 1 + -(-length // 256)
    window = np.hanning(513)[:-1]
    expected = [np.fft.rfft(window * padded[256 * t : 256 * t + 512]) for t in range(frames)]
    np.testing.assert_allclose(found, np.pad(expected, ((margin, margin), (0, 0))), atol=1e-5)


@pytest.mark.parametrize(
    "hops", [[256] * 9, [1024, 256, 4096, 25_600, 256, 80_000, 512], [1000, 24, 1024, 77]]
)
@pytest.mark.parametrize("start", [0, 2560])
def test_windows_that_overlap_give_the_same_bits(rng, hops, start):
    samples, overlap = recording(rng, start + sum(hops) + LENGTH), Overlap()
    for origin in start + np.cumsum([0, *hops]):
        window = samples[:, origin : origin + LENGTH].copy()
        shared = Transforms(window, overlap=overlap, origin=int(origin))
        for channel, margin in ((0, 0), (1, 2), (1, 7), (0, 2)):
            found = shared.spectra(channel, 512, margin=margin)
            np.testing.assert_array_equal(found, Transforms(window).spectra(channel, 512, margin=margin))
        for view in (Canceller(512), Canceller(512, (-3, 2))):
            np.testing.assert_array_equal(view(window, shared), view(window))


def test_what_windows_share_is_computed_once(rng, monkeypatch):
    computed = []
    transform = transforms.transform
    monkeypatch.setattr(transforms, "transform", lambda f, out: computed.append(len(f)) or transform(f, out))
    samples, overlap = recording(rng, 2 * LENGTH), Overlap()
    for origin in range(0, LENGTH, 2560):
        shared = Transforms(samples[:, origin : origin + LENGTH], overlap=overlap, origin=origin)
        for _ in range(3):
            shared.spectra(0, 512)
            shared.spectra(0, 512, margin=2)
        assert sum(computed) == (1 + -(-LENGTH // 256) if origin == 0 else 10 + 3)
        computed.clear()


def test_a_recording_is_measured_alike_by_the_spectra_of_others(rng):
    samples, length = recording(rng, 10 * RATE), frame_length(RATE)
    shared = Transforms(samples, wanted={length})
    alone, found = measure(samples, RATE), measure(samples, RATE, shared)
    for name in ("mean", "peak", "level", "blocks", "stuck", "flat", "bands"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-5)
    for name in ("contrast", "presence", "likeness", "correlation"):
        np.testing.assert_allclose(getattr(found.pair, name), getattr(alone.pair, name), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.pair.phase, alone.pair.phase, atol=1e-4)


def test_what_nobody_wants_is_not_computed_to_measure(rng, monkeypatch):
    samples = recording(rng, 10 * RATE)
    monkeypatch.setattr(transforms, "transform", lambda *_: pytest.fail("computed"))
    measure(samples, RATE, Transforms(samples, wanted={512}))
    measure(samples + np.float32(0.5), RATE, Transforms(samples, wanted={frame_length(RATE)}))


@pytest.mark.parametrize("length", [1, 5, 511, 1024, 1025, 5000])
def test_frames_are_those_of_a_padded_waveform(rng, length):
    waveform = rng.standard_normal(length).astype(np.float32)
    padded = np.pad(waveform, (512, 512 + -length % 512))
    expected = [padded[start : start + 1024] for start in range(0, len(padded) - 1023, 512)]
    np.testing.assert_array_equal(framed(waveform, 1024), expected)


def test_what_is_made_of_samples_is_made_once(rng):
    heard, made = Transforms(recording(rng, LENGTH)), []
    for _ in range(3):
        found = heard.derived("how", lambda: made.append(1) or np.zeros(LENGTH, np.float32))
        assert found.samples.shape == (1, LENGTH)
    assert made == [1]
    assert Canceller(512).heard(heard) is Canceller(512).heard(heard) is not Canceller(1024).heard(heard)
    np.testing.assert_array_equal(Canceller(512)(heard.samples, heard), Canceller(512)(heard.samples))


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_powers_are_squared_magnitudes(rng, kind):
    spectra = (rng.standard_normal((5, 9)) + 1j * rng.standard_normal((5, 9))).astype(kind)
    np.testing.assert_array_equal(powers(spectra), spectra.real**2 + spectra.imag**2)
