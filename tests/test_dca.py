"""The DCA encoder: its shapes, its network layer by layer against the twin, what it takes and what it refuses."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import naive_dca
import numpy as np
import pytest
import torch

from nearfar.encoders import dca, devices
from nearfar.encoders.dca import CrossAttention, Dca, Exchange, Network, dropped
from nearfar.encoders.features import log_mel

RATE = 16_000
TINY = {"n_fft": 128, "n_mels": 16, "frames": 16, "channels": 16, "device": "cpu"}
STRIDES = ((2, 2), (2, 2), (2, 2), (2, 1), (1, 1))
SMALL_HEADS = 2


@pytest.fixture(autouse=True)
def initial_weights():
    """The same in each test: where there was no training they are drawn from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def shaken(module, seed=0):
    """In double precision, and no number of it as it begins: all biases, norms and running statistics too."""
    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64) / 3
            positive = name.endswith(("running_var", "level"))
            tensor.copy_(drawn.abs() + 0.5 if positive else tensor + drawn)
    return module


def state(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def fitted(seed=0, **options):
    """Weights that no training gave, but none of them as it begins."""
    encoder = Dca(**TINY | options)
    shaken(encoder.network, seed).float().level.copy_(torch.tensor([-40.0, 12.0]))
    return encoder.with_arrays(encoder.arrays())


def noise(rng, *shape):
    return (rng.standard_normal(shape) / 8).astype(np.float32)


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# shapes and numbers of the report


@pytest.fixture(scope="module", params=[(128, 1024, 1024), (256, 2048, 2048)], ids=["DCA-128", "DCA-256"])
def published(request):
    """An encoder of full size, and how many tokens the report gives it."""
    n_mels, n_fft, tokens = request.param
    encoder = Dca(n_mels=n_mels, n_fft=n_fft, device="cpu")
    return encoder.with_arrays(encoder.arrays()), tokens


def test_ten_seconds_have_the_published_shapes(published, rng):
    encoder, tokens = published
    waveforms = noise(rng, 1, 2, 10 * RATE)
    spectrograms = encoder.spectrograms(waveforms)
    assert spectrograms.shape == (1, 2, encoder.n_mels, 1024)
    with torch.inference_mode():
        assert encoder.network.tokens(spectrograms).shape == (1, 2, tokens, 256)
    embedding = encoder(waveforms)
    assert embedding.shape == (1, 1, 1, 1, 256)
    assert embedding.dtype == np.float32


def convolution_numbers(before, after):
    kernel, scale, shift = 3 * 3 * before * after, after, after
    return kernel + scale + shift


def linear_numbers(before, after):
    return before * after + after


def attention_numbers(channels):
    norms = 2 * (channels + channels)
    query_key_value_output = 4 * linear_numbers(channels, channels)
    return (
        norms
        + query_key_value_output
        + linear_numbers(channels, 2 * channels)
        + linear_numbers(2 * channels, channels)
    )


def test_the_parameters_are_counted(published):
    convolutions = [(1, 32), (32, 64), (64, 128), (128, 256), (256, 256)]
    expected = sum(convolution_numbers(*pair) for pair in convolutions)
    expected += 2 * attention_numbers(256) + linear_numbers(256, 256)
    assert published[0].parameters == expected == 2_098_656


def test_each_direction_has_a_layer_of_its_own_if_they_are_separate():
    shared, separate = (Dca(**TINY, directions=directions) for directions in ("shared", "separate"))
    assert separate.parameters - shared.parameters == 2 * attention_numbers(16)


def test_more_layers_and_other_heads_have_the_numbers_they_should():
    assert Dca(**TINY, layers=3).parameters - Dca(**TINY).parameters == attention_numbers(16)
    assert Dca(**TINY, heads=2).parameters == Dca(**TINY).parameters


# spectrograms


@pytest.mark.parametrize(
    ("samples", "hop"),
    [
        (16 * 100, 100),  # 17 frames: one is cut
        (16 * 100 + 15, 100),  # samples that no hop reaches
        (16 * 201 - 1, 200),  # 17 frames
        (16, 1),
        (31, 1),  # 32 frames: half of them are cut
        (15, 1),  # 16 frames, just enough
        (7, 1),  # 8 frames: the last one stands nine times
        (1, 1),
    ],
)
def test_a_clip_of_any_length_has_all_frames(rng, samples, hop):
    encoder, waveforms = Dca(**TINY), noise(rng, 3, 2, samples)
    found = encoder.spectrograms(waveforms)
    assert found.shape == (3, 2, 16, 16)
    assert found.dtype == torch.float32
    every = log_mel(waveforms, replace(encoder.mel, hop=hop))
    assert every.shape[-1] == 1 + samples // hop
    for clip, of_clip in zip(found.numpy(), every, strict=True):
        for one, levels in zip(clip, of_clip, strict=True):
            np.testing.assert_array_equal(one, naive_dca.of_frames(levels, 16))


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_the_spectrogram_reaches_half_the_sampling_rate(rate):
    """A tone near to it is loudest in the highest band, one further down is not."""
    tones = [np.sin(2 * np.pi * share * np.arange(rate // 4)) for share in (0.47, 0.3)]
    levels = Dca(**TINY, sample_rate=rate).spectrograms(np.float32([tones]))[0]
    high, low = levels.argmax(dim=1)
    assert (high == 15).all()
    assert (low < 15).all()


@pytest.mark.parametrize("n_fft", [64, 256])
def test_the_shortest_clip_that_it_asks_for_is_one_frame_of_the_transform(rng, n_fft):
    encoder = fitted(n_fft=n_fft)
    assert encoder.min_samples == n_fft
    assert np.isfinite(encoder(noise(rng, 1, 2, n_fft))).all()


def test_a_clip_is_not_written_to(rng):
    waveforms = noise(rng, 2, 2, 2000)
    waveforms.setflags(write=False)
    encoder = fitted()
    np.testing.assert_array_equal(encoder(waveforms), encoder(waveforms))


@pytest.mark.parametrize("shape", [(2, 2000), (1, 1, 2000), (1, 3, 2000), (1, 1, 2, 2000)])
def test_waveforms_that_are_not_of_two_microphones_are_refused(shape):
    with pytest.raises(
        ValueError, match=rf"waveforms of shape {re.escape(str(shape))}: expected \(batch, 2, samples\)"
    ):
        fitted()(np.zeros(shape, np.float32))


# embeddings


def test_each_microphone_has_an_embedding_of_length_one_and_their_mean_is_the_clips(rng):
    encoder, waveforms = fitted(), noise(rng, 4, 2, 3000)
    found = encoder.channel_embeddings(waveforms)
    assert found.shape == (4, 2, 16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-6)
    embedding = encoder(waveforms)
    assert embedding.shape == (4, 1, 1, 1, 16)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding[:, 0, 0, 0], (found[:, 0] + found[:, 1]) / 2, rtol=1e-6, atol=1e-7)
    assert (np.linalg.norm(embedding, axis=-1) < 0.999).all()  # not normalized again


@pytest.mark.parametrize(("directions", "swapped"), [("shared", True), ("separate", False)])
def test_microphones_that_change_places_change_their_embeddings(rng, directions, swapped):
    encoder, waveforms = fitted(directions=directions), noise(rng, 3, 2, 3000) * [[[1.0], [0.1]]]
    waveforms = waveforms.astype(np.float32)
    one, other = encoder.channel_embeddings(waveforms), encoder.channel_embeddings(waveforms[:, ::-1])
    assert np.abs(one - other).max() > 1e-2
    assert np.allclose(one, other[:, ::-1], rtol=1e-5, atol=1e-6) == swapped


def test_a_batch_is_its_clips_one_by_one(rng):
    encoder, waveforms = fitted(), noise(rng, 5, 2, 3000)
    single = np.concatenate([encoder.channel_embeddings(clip[None]) for clip in waveforms])
    np.testing.assert_allclose(encoder.channel_embeddings(waveforms), single, rtol=0, atol=1e-5)
    assert np.abs(single - single[0]).max() > 1e-2


def test_each_microphone_hears_the_other(rng):
    encoder, waveforms = fitted(), noise(rng, 1, 2, 3000)
    before = encoder.channel_embeddings(waveforms)
    waveforms[:, 1] = noise(rng, 1, 3000)
    assert (np.abs(encoder.channel_embeddings(waveforms) - before).max(axis=-1) > 1e-3).all()


def test_it_computes_without_gradients_and_without_drawing_anything(rng):
    encoder, before = fitted(), torch.get_rng_state()
    encoder(noise(rng, 2, 2, 3000))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in encoder.network.parameters())


# the network, layer by layer, against the twin


def test_a_convolution_is_its_twin():
    for i, stride in enumerate([(2, 2), (2, 1), (1, 1)]):
        layer, maps = shaken(dca.convolution(3, 4, stride), seed=i), drawn(1, 3, 6, 7)
        with torch.inference_mode():
            found = layer(maps)[0].numpy()
        expected = naive_dca.convolved(maps[0].numpy(), state(layer)["0.weight"], stride)
        expected = naive_dca.gelu(naive_dca.batch_normalized(expected, naive_dca.part(state(layer), "1")))
        assert found.shape == (4, math.ceil(6 / stride[0]), math.ceil(7 / stride[1]))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_what_tokens_hear_of_others_is_the_twins(heads):
    layer = shaken(CrossAttention(8, heads))
    own, others = drawn(5, 8, seed=1), drawn(5, 8, seed=2)
    with torch.inference_mode():
        found = layer.attended(own, others)
    expected = naive_dca.attended(own.numpy(), others.numpy(), state(layer), heads)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 8), (3, 5, 8), (3, 2, 5, 8)])
def test_a_layer_of_cross_attention_is_its_twin(shape):
    layer = shaken(CrossAttention(8, SMALL_HEADS))
    own, others = drawn(*shape, seed=1), drawn(*shape, seed=2)
    with torch.inference_mode():
        found = layer(own, others)
    assert found.shape == shape
    each = zip(own.reshape(-1, 5, 8).numpy(), others.reshape(-1, 5, 8).numpy(), strict=True)
    expected = [naive_dca.listened(a, b, state(layer), SMALL_HEADS) for a, b in each]
    np.testing.assert_allclose(found.numpy(), np.reshape(expected, shape), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("directions", ["shared", "separate"])
def test_both_directions_hear_what_the_other_was_before(directions):
    layer, tokens = shaken(Exchange(8, SMALL_HEADS, directions)), drawn(3, 2, 5, 8)
    with torch.inference_mode():
        found = layer(tokens)
    expected = [naive_dca.exchanged(*clip, state(layer), SMALL_HEADS) for clip in tokens.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("bands", "frames"), [(16, 16), (32, 24)])
def test_tokens_are_those_of_the_twin(bands, frames):
    network, spectrograms = shaken(Network(8, heads=2)), drawn(1, 2, bands, frames)
    with torch.inference_mode():
        found = network.tokens(spectrograms)
    assert found.shape == (1, 2, bands // 16 * frames // 8, 8)
    expected = [naive_dca.tokens_of(one, state(network), STRIDES) for one in spectrograms[0].numpy()]
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("directions", "layers"), [("shared", 2), ("separate", 2), ("shared", 1)])
def test_the_whole_network_is_its_twin(directions, layers):
    network = shaken(Network(8, heads=2, layers=layers, directions=directions))
    network.level.copy_(torch.tensor([-40.0, 12.0]))
    levels = 12 * drawn(2, 2, 32, 16) - 40
    with torch.inference_mode():
        found = network(levels).numpy()
    expected = [
        naive_dca.channel_embeddings(one, state(network), STRIDES, 2, layers) for one in levels.numpy()
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(np.diff(found, axis=0)).max() > 1e-2


def test_a_waveforms_embeddings_are_those_of_the_twin(rng):
    encoder, waveforms = fitted(), noise(rng, 2, 2, 1700)
    levels = encoder.spectrograms(waveforms).numpy().astype(np.float64)
    weights = {name: array.astype(np.float64) for name, array in encoder.arrays().items()}
    expected = [naive_dca.channel_embeddings(one, weights, STRIDES, 4, 2) for one in levels]
    np.testing.assert_allclose(encoder.channel_embeddings(waveforms), expected, rtol=0, atol=1e-4)


# dropout


def test_nothing_is_dropped_without_a_generator():
    added = drawn(20, 30)
    assert torch.equal(dropped(added, None), added)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tenth_is_dropped_and_the_rest_is_larger_by_as_much(dtype):
    added = torch.ones(300, 500, dtype=dtype)
    found = dropped(added, torch.Generator().manual_seed(0))
    assert found.dtype == dtype
    gone = found == 0
    assert float(gone.double().mean()) == pytest.approx(0.1, abs=0.003)  # four standard errors
    torch.testing.assert_close(found[~gone], added[~gone] / 0.9)


def test_a_layer_drops_a_tenth_of_what_it_adds_and_nothing_of_what_it_has():
    """With weights that make each of the two additions a one, a token of zeros is 0, 1, or 2 over 0.9."""
    layer = CrossAttention(8, SMALL_HEADS).eval()
    for parameter in layer.parameters():
        parameter.data.zero_()
    layer.output.bias.data.fill_(1)
    layer.feed_forward[2].bias.data.fill_(1)
    own = torch.full((40, 50, 8), 5.0)
    with torch.inference_mode():
        found = layer(own, own, torch.Generator().manual_seed(0))
        again = layer(own, own, torch.Generator().manual_seed(0))
        other = layer(own, own, torch.Generator().manual_seed(1))
    values, counts = ((found - 5) * 0.9).round(decimals=4).unique(return_counts=True)
    assert values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(counts / found.numel(), [0.01, 0.18, 0.81], atol=0.015)
    assert torch.equal(found, again)
    assert not torch.equal(found, other)


def test_the_network_drops_in_all_of_its_layers_if_it_has_a_generator():
    network, spectrograms = Network(8, heads=2, layers=3).eval(), drawn(2, 2, 16, 16).float()
    count = []
    for layer in network.modules():
        if isinstance(layer, CrossAttention):
            layer.register_forward_hook(lambda _, arguments, __: count.append(arguments[2]))
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        plain = network.embeddings(spectrograms)
        assert torch.equal(plain, network.embeddings(spectrograms))
        assert not torch.allclose(plain, network.embeddings(spectrograms, generator))
    assert count == [None] * 6 + [generator] * 3


# what is saved


@pytest.mark.parametrize("directions", ["shared", "separate"])
def test_what_is_saved_makes_the_same_encoder_to_the_bit(rng, directions):
    encoder, waveforms = fitted(directions=directions), noise(rng, 2, 2, 2000)
    arrays = {name: array.copy() for name, array in encoder.arrays().items()}
    assert arrays["level"].shape == (2,)
    again = Dca(**TINY, directions=directions).with_arrays(arrays)
    assert {n: a.tobytes() for n, a in again.arrays().items()} == {n: a.tobytes() for n, a in arrays.items()}
    np.testing.assert_array_equal(again(waveforms), encoder(waveforms))
    for array in arrays.values():
        array[...] = 0  # they were copied
    np.testing.assert_array_equal(again(waveforms), encoder(waveforms))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda arrays: arrays.pop("projection.bias"), "Missing key.*projection.bias"),
        (lambda arrays: arrays.update(other=np.zeros(1)), "Unexpected key.*other"),
        (lambda arrays: arrays.update({"projection.bias": np.zeros(3)}), "size mismatch for projection.bias"),
    ],
)
def test_foreign_arrays_are_refused(change, match):
    encoder = Dca(**TINY)
    arrays = dict(encoder.arrays())
    change(arrays)
    with pytest.raises(ValueError, match=rf"these are not the arrays of this network: (?s:.)*{match}"):
        encoder.with_arrays(arrays)
    assert not encoder.is_fitted


def test_arrays_of_the_other_directions_are_refused():
    with pytest.raises(ValueError, match="these are not the arrays of this network"):
        Dca(**TINY).with_arrays(Dca(**TINY, directions="separate").arrays())


def test_it_must_be_fitted(rng):
    with pytest.raises(ValueError, match="not fitted; train it, or give it the arrays of a trained one"):
        Dca(**TINY)(noise(rng, 1, 2, 2000))


# options


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_mels": 24}, "^n_mels=24: must be a positive multiple of 16$"),
        ({"n_mels": 0}, "^n_mels=0: must be a positive multiple of 16$"),
        ({"frames": 20}, "^frames=20: must be a positive multiple of 8$"),
        ({"frames": -8}, "^frames=-8: must be a positive multiple of 8$"),
        ({"channels": 12}, "^channels=12: must be a positive multiple of 8$"),
        ({"channels": 16, "heads": 3}, "^channels=16: must be a positive multiple of 24$"),
        ({"channels": 24, "heads": 16}, "^channels=24: must be a positive multiple of 16$"),
        ({"heads": 0}, "^heads=0: must be at least 1$"),
        ({"heads": -4}, "^heads=-4: must be at least 1$"),
        ({"n_mels": 8, "frames": 4, "channels": 4}, "^n_mels=8: .* 16; frames=4: .* 8; channels=4: .* 8$"),
    ],
)
def test_options_that_do_not_come_out_even_are_refused_all_at_once(options, match):
    with pytest.raises(ValueError, match=match):
        Dca(**TINY | options)


def test_a_bad_number_of_heads_does_not_hide_the_others():
    with pytest.raises(ValueError, match=r"n_mels=8: must be a positive multiple of 16"):
        Dca(**TINY | {"heads": 0, "n_mels": 8})


@pytest.mark.parametrize("options", [{"layers": 0}, {"directions": "seperate"}])
def test_no_layer_or_an_unknown_direction_is_refused(options):
    with pytest.raises(ValueError, match="at least 1 layer, and one of shared, separate"):
        Dca(**TINY | options)


def test_options_of_a_spectrogram_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="win_length=None: must be between 1 and n_fft=0"):
        Dca(**TINY | {"n_fft": 0})


# devices


@pytest.mark.parametrize(("has", "name"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_cuda_device_where_there_is_one(monkeypatch, has, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has)
    assert devices.chosen("auto") == torch.device(name)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:x"])
def test_a_device_that_cannot_be_used_is_refused(name):
    match = rf"device='{name}': cannot be used here, where there are \d+ CUDA devices; take 'cpu', or 'auto' \(.+\)"
    with pytest.raises(ValueError, match=match):
        Dca(**TINY | {"device": name})


def test_the_processor_is_always_there():
    assert devices.chosen("cpu") == torch.device("cpu")
    encoder = Dca(**TINY)
    assert {parameter.device.type for parameter in encoder.network.parameters()} == {"cpu"}
