"""What every encoder promises, checked for each one in ``ENCODERS``."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tiny_weights

from nearfar.encoders import ENCODERS, Layered, Limited, encoder_class
from nearfar.encoders.autoencoder import Autoencoder
from nearfar.encoders.features import Mel, mel_filters
from nearfar.encoders.frozen import Frozen
from nearfar.encoders.spectral import Spectral
from nearfar.recordings.transforms import Transforms
from nearfar.training import TRAINERS, trainer

SECONDS = 1.5
PRETRAINED = list(tiny_weights.NETWORKS)
SMALL = {"dca": {"channels": 64, "heads": 2}}  # which takes a second for a clip as it is
OF_PRETRAINED = {n: {"weights": str(tiny_weights.written(n)), "blocks": (1,)} for n in PRETRAINED}


def ready(name, **options):
    """An encoder that can be called: with the weights that it began with, or with small random ones in a file."""
    encoder = encoder_class(name)(**OF_PRETRAINED.get(name, {}), **SMALL.get(name, {}), **options)
    return encoder.with_arrays(encoder.arrays())


def encoder_name(encoder):
    return next(name for name in ENCODERS if type(encoder) is encoder_class(name))


def test_every_pretrained_encoder_has_small_weights_for_these_tests():
    assert {name for name in ENCODERS if issubclass(encoder_class(name), Frozen)} == set(PRETRAINED)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_blocks_that_it_says_are_those_that_it_gives(name, rng):
    encoder = ready(name)
    clip = noise(rng, encoder, batch=1, seconds=1.0)
    assert encoder(clip).shape[1] == len(encoder.blocks)


@pytest.mark.parametrize("name", PRETRAINED)
def test_all_blocks_in_one_run_are_those_of_a_run_each(name, rng):
    encoder = ready(name)
    clips = noise(rng, encoder, batch=2, seconds=1.0)
    found = encoder.by_block(clips, encoder.network.known_blocks)
    assert list(found) == list(encoder.network.known_blocks)
    for block, tokens in found.items():
        encoder.blocks = (block,)
        np.testing.assert_array_equal(tokens, encoder(clips))


def test_every_pretrained_encoder_is_layered():
    assert [name for name in ENCODERS if isinstance(encoder_class(name)(), Layered)] == PRETRAINED


@pytest.mark.parametrize("seconds", [6, 10, 16])
@pytest.mark.parametrize("name", PRETRAINED)
def test_every_pretrained_encoder_hears_a_clip_to_its_end(name, seconds, rng):
    encoder = ready(name)
    clip = noise(rng, encoder, batch=1, seconds=seconds)
    changed = clip.copy()
    changed[:, -int(0.3 * encoder.sample_rate) :] *= 0.01
    assert np.abs(encoder(changed) - encoder(clip)).max() > 1e-4


@pytest.mark.parametrize("name", PRETRAINED)
def test_an_encoder_says_what_it_fills(name, rng):
    encoder = ready(name)
    tokens = {s: encoder(noise(rng, encoder, batch=1, seconds=s)).shape[2] for s in (6, 9, 10, 11, 16)}
    of_ten = tokens[10] / 10
    for seconds, count in tokens.items():
        told = (
            encoder.cut_and_filled(seconds * encoder.sample_rate) if isinstance(encoder, Limited) else (0, 0)
        )
        assert count == pytest.approx(of_ten * (seconds + told[1] - told[0]), abs=0.05 * of_ten * 10)


@pytest.fixture(params=ENCODERS)
def encoder(request):
    return ready(request.param)


def noise(rng, encoder, *, batch, seconds):
    """(batch, samples), or (batch, 2, samples) for an encoder of two microphones."""
    microphones = () if encoder.microphones == 1 else (encoder.microphones,)
    shape = (batch, *microphones, int(seconds * encoder.sample_rate))
    return rng.standard_normal(shape).astype(np.float32) / 8


@pytest.fixture
def waveforms(rng, encoder):
    return noise(rng, encoder, batch=3, seconds=SECONDS)


def test_tokens_lie_on_a_grid_of_time_and_bands(encoder, waveforms):
    tokens = encoder(waveforms)
    assert isinstance(tokens, np.ndarray)
    assert tokens.ndim == 5
    assert len(tokens) == 3
    assert tokens.dtype == np.float32
    assert np.isfinite(tokens).all()
    shorter = encoder(waveforms[..., : waveforms.shape[-1] // 2])
    assert shorter.shape[2] < tokens.shape[2] or tokens.shape[2] == 1  # which is for a clip as a whole
    assert np.delete(shorter.shape, 2).tolist() == np.delete(tokens.shape, 2).tolist()


def test_a_batch_is_its_clips_one_by_one(encoder, waveforms):
    single = np.concatenate([encoder(waveform[None]) for waveform in waveforms])
    np.testing.assert_allclose(encoder(waveforms), single, rtol=1e-5, atol=1e-4)


def test_the_same_clip_gives_the_same_tokens_and_is_not_written_to(encoder, waveforms):
    waveforms.setflags(write=False)
    np.testing.assert_array_equal(encoder(waveforms), encoder(waveforms))


def test_what_is_saved_makes_the_same_encoder(encoder, waveforms):
    arrays = encoder.arrays()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = ready(encoder_name(encoder)).with_arrays({name: array.copy() for name, array in arrays.items()})
    assert again.parameters == encoder.parameters >= 0
    assert again.sample_rate == encoder.sample_rate
    np.testing.assert_array_equal(again(waveforms), encoder(waveforms))


@pytest.mark.parametrize("name", [n for n in ENCODERS if n not in PRETRAINED or n == "efficientat"])
def test_another_rate_is_taken_by_all_that_are_not_tied_to_one(name, rng):
    encoder = ready(name, sample_rate=8000)
    assert encoder.sample_rate == 8000
    assert np.isfinite(encoder(noise(rng, encoder, batch=1, seconds=1.0))).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_clip_of_as_few_samples_as_it_asks_for_is_enough(name, rng):
    encoder = ready(name)
    shortest = noise(rng, encoder, batch=1, seconds=1.0)[..., : encoder.min_samples]
    assert np.isfinite(encoder(shortest)).all()


def test_every_microphone_of_an_encoder_is_heard(encoder, waveforms):
    clip = waveforms[:1]
    tokens = encoder(clip)
    for microphone in range(encoder.microphones):
        other = clip.copy().reshape(encoder.microphones, -1)
        other[microphone] *= -0.3
        assert np.abs(encoder(other.reshape(clip.shape)) - tokens).max() > 1e-4


@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_fitted_per_machine_has_a_trainer(name):
    assert encoder_class(name).fitted_per_machine == (name in TRAINERS)
    assert name not in TRAINERS or callable(trainer(name))


def test_an_unknown_encoder_names_the_nearest():
    with pytest.raises(ValueError, match="no encoder 'spectrall'; did you mean 'spectral'"):
        encoder_class("spectrall")


def test_tokens_of_the_spectral_encoder_are_levels_of_bands(rng):
    waveform = rng.standard_normal((2, 16_000)).astype(np.float32)
    tokens = Spectral()(waveform)
    assert tokens.shape == (2, 1, 32, 128, 1)
    loud = Spectral()(10 * waveform)
    np.testing.assert_allclose(loud - tokens, 20, atol=1e-3)


def test_a_floor_is_pink_and_so_many_db_below_what_is_heard():
    """One tone: far from it, the levels are those of the floor."""
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)[None]
    plain, floored = (10 ** (Spectral(floor_db=f)(tone)[0, 0, :, :, 0].T / 10) for f in (None, -20.0))
    np.testing.assert_allclose(
        (floored - plain)[:, 5:25].std(axis=1) / floored[:, 5:25].mean(axis=1), 0, atol=0.01
    )
    floor = floored[100:, 10] / plain.mean()
    assert np.mean(floored - plain) == pytest.approx(plain.mean() / 100, rel=1e-3)
    octaves = [
        floor[i] * f for i, f in enumerate(mel_centres()[100:])
    ]  # of pink noise, density times frequency
    np.testing.assert_allclose(octaves, octaves[0], rtol=0.02)


def mel_centres():
    filters = mel_filters(Mel(f_max=8000))
    return filters @ (np.arange(513) * 16_000 / 1024) / filters.sum(axis=1)


def test_a_floor_follows_the_loudness_of_a_waveform_and_not_of_its_neighbours(rng):
    waveform = rng.standard_normal((1, 16_000)).astype(np.float32)
    encoder = Spectral(floor_db=-15.0)
    alone = encoder(waveform)
    np.testing.assert_allclose(encoder(10 * waveform) - alone, 20, atol=1e-3)
    np.testing.assert_array_equal(encoder(np.concatenate([100 * waveform, waveform]))[1:], alone)


def test_silence_above_a_floor_is_the_lowest_level():
    assert np.isfinite(Spectral(floor_db=-15.0)(np.zeros((1, 16_000), np.float32))).all()


@pytest.mark.parametrize("floor_db", [np.nan, -np.inf])
def test_a_floor_that_is_no_number_is_an_error(floor_db):
    with pytest.raises(ValueError, match=f"floor_db={floor_db}: must be finite; leave it out for no floor"):
        Spectral(floor_db=floor_db)


def test_a_spectral_encoder_has_no_arrays():
    with pytest.raises(ValueError, match=r"a spectral encoder has no arrays, but was given \['weight'\]"):
        Spectral().with_arrays({"weight": np.zeros(1)})


def test_an_autoencoder_must_be_fitted(rng):
    with pytest.raises(ValueError, match="not fitted; train it, or give it the arrays of a trained one"):
        Autoencoder()(rng.standard_normal((1, 16_000)).astype(np.float32))


@pytest.mark.parametrize("samples", [1, 2047])
def test_an_autoencoder_needs_five_frames(samples):
    with pytest.raises(
        ValueError, match=rf"{samples} samples give \d frames, but .* 5; .* at least 0.13 s long"
    ):
        ready("autoencoder")(np.zeros((1, samples), np.float32))


def test_five_frames_are_enough_for_an_autoencoder():
    assert ready("autoencoder")(np.zeros((1, 2048), np.float32)).shape == (1, 1, 5, 1, 128)


WITHOUT_TORCH = {
    "the registry": "import nearfar.encoders",
    "embeddings": "import nearfar.embedding.embeddings",
    "trainers": "import nearfar.training",
    "a spectral embedding": """
import numpy as np
from nearfar.embedding.embeddings import embed
from nearfar.encoders import encoder_class
samples = np.ones((2, 8000), np.float32)
embed(samples, encoder_class("spectral")(), view="near_and_cancelled", pooling="mean_std")
""",
}


@pytest.mark.parametrize("code", WITHOUT_TORCH.values(), ids=WITHOUT_TORCH)
def test_torch_is_not_loaded_for(code):
    check = "\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code + check], check=True, timeout=60)


@pytest.mark.parametrize(
    "options", [{}, {"floor_db": -10.0}, {"n_fft": 512, "hop": 256, "n_mels": 16}, {"hop": 300}]
)
@pytest.mark.parametrize("samples", [1024, 1500, 16_000, 16_384])
def test_spectral_levels_are_the_same_by_spectra_that_others_look_at(rng, options, samples):
    encoder, waveform = Spectral(**options), rng.standard_normal((1, samples)).astype(np.float32)
    np.testing.assert_array_equal(encoder.of_spectra(Transforms(waveform)), encoder(waveform))
