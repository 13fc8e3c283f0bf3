"""BEATs is what its equations say, and takes the published files' layout and no other."""

from __future__ import annotations

import dataclasses
import sys
import warnings

import naive_beats
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nearfar.encoders import checkpoints
from nearfar.encoders.beats import (
    ITERATION_3,
    Attention,
    Beats,
    BeatsNetwork,
    Block,
    PositionalConvolution,
    Settings,
    bucket,
    built,
    normalized_fbank,
)
from nearfar.encoders.checkpoints import CheckpointError

TINY = Settings(
    input_patch_size=16,
    embed_dim=10,
    encoder_layers=3,
    encoder_embed_dim=12,
    encoder_ffn_embed_dim=20,
    encoder_attention_heads=3,
    conv_pos=6,
    conv_pos_groups=2,
    num_buckets=16,
    max_distance=20,
    gru_rel_pos=True,
    deep_norm=True,
    relative_position_embedding=True,
)
ONE_BLOCK = dataclasses.replace(TINY, encoder_layers=1)
SETTINGS = {
    "published": TINY,
    "odd_convolution": dataclasses.replace(TINY, conv_pos=5, conv_pos_groups=4),
    "without_gate": dataclasses.replace(TINY, gru_rel_pos=False),
    "without_deep_norm": dataclasses.replace(TINY, deep_norm=False),
    "one_block": ONE_BLOCK,
    "small_patches": dataclasses.replace(TINY, input_patch_size=8, encoder_attention_heads=4),
}
TABLE = "encoder.layers.0.self_attn.relative_attention_bias.weight"
ALL_BLOCKS = (1, 2, 3)
OF_TRAINING = {  # what the published cfg also has
    "dropout": 0.0,
    "encoder_layerdrop": 0.05,
    "layer_wise_gradient_decay_ratio": 0.6,
    "finetuned_model": False,
    "predictor_class": 527,
}


def cfg(settings):
    return dataclasses.asdict(settings) | OF_TRAINING


def network(settings=TINY):
    """One with random weights, biases and gates large enough to matter."""
    rng = np.random.default_rng(1)
    made = BeatsNetwork(settings)
    for name, parameter in made.named_parameters():
        mean = float(name.endswith(("norm.weight", "grep_a", "weight_g")))
        parameter.data = mean + 0.3 * noise(rng, *parameter.shape)
    return made.eval().requires_grad_(False)


def noise(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def published(made):
    """The weights as a published file has them: the first block's table under every block."""
    tensors = dict(made.state_dict())
    others = made.known_blocks[:-1]
    return tensors | {TABLE.replace("layers.0", f"layers.{i}"): tensors[TABLE] for i in others}


def state(module):
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


@pytest.fixture
def file(tmp_path):
    """An original file, of ``TINY``."""
    path = tmp_path / "BEATs_tiny.pt"
    torch.save({"cfg": cfg(TINY), "model": published(network())}, path)
    return path


# the parts


def test_the_front_end_is_its_definition(rng):
    waveform = rng.standard_normal(4000) * 0.1
    expected = naive_beats.front_end(waveform)
    assert expected.shape == (23, 128)
    double = normalized_fbank(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(double, expected, rtol=0, atol=1e-9)
    single = normalized_fbank(torch.from_numpy(waveform.astype(np.float32))[None])[0]
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-3 / 13)


def test_the_front_end_keeps_its_precision_under_autocast(rng):
    waveforms = torch.from_numpy(rng.standard_normal((1, 4000)).astype(np.float32))
    with torch.autocast("cpu", torch.bfloat16):
        features = normalized_fbank(waveforms)
    torch.testing.assert_close(features, normalized_fbank(waveforms), rtol=0, atol=0)


@pytest.mark.parametrize("settings", [ITERATION_3, TINY], ids=["published", "tiny"])
def test_buckets_are_their_definition(settings):
    distances = np.arange(-3000, 3001)
    expected = [naive_beats.bucket(int(d), settings.num_buckets, settings.max_distance) for d in distances]
    found = bucket(torch.from_numpy(distances), settings)
    np.testing.assert_array_equal(found, expected)
    assert sorted(set(found.tolist())) == [
        b for b in range(settings.num_buckets) if b != settings.num_buckets // 2
    ]


def test_buckets_of_the_published_settings():
    distances = torch.tensor([0, 1, -1, 79, 80, 81, 799, 800, 5000, -800])
    assert bucket(distances, ITERATION_3).tolist() == [0, 161, 1, 239, 240, 240, 319, 319, 319, 159]


@pytest.mark.parametrize("n_tokens", [1, 2, 40])
def test_biases_are_of_key_position_less_query_position(n_tokens):
    encoder = network().encoder
    table = encoder.layers[0].self_attn.relative_attention_bias.weight
    bias = encoder.bias(n_tokens)
    assert bias.shape == (3, n_tokens, n_tokens)
    for query, key in np.ndindex(n_tokens, n_tokens):
        expected = table[naive_beats.bucket(key - query, TINY.num_buckets, TINY.max_distance)]
        torch.testing.assert_close(bias[:, query, key], expected, rtol=0, atol=0)


@pytest.mark.parametrize("n_tokens", [1, 2, 7, 24])
@pytest.mark.parametrize("length", [1, 5, 6, 8])
def test_the_positional_convolution_is_its_definition(rng, length, n_tokens):
    settings = dataclasses.replace(TINY, conv_pos=length)
    convolution = network(settings).encoder.pos_conv
    tokens = rng.standard_normal((n_tokens, 12))
    weights = {f"encoder.pos_conv.{name}": value for name, value in state(convolution).items()}
    expected = naive_beats.positions(weights, tokens, settings.conv_pos_groups)
    found = convolution.double()(torch.from_numpy(tokens)[None])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_weight_norm_is_torchs(rng):
    convolution = PositionalConvolution(TINY)
    convolution.weight_g.data += 0.3 * noise(rng, 1, 1, TINY.conv_pos)
    theirs = torch.nn.Conv1d(12, 12, TINY.conv_pos, padding=TINY.conv_pos // 2, groups=TINY.conv_pos_groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what the published files were saved with
        torch.nn.utils.weight_norm(theirs, dim=2)
    theirs.load_state_dict(convolution.state_dict())
    tokens = noise(rng, 2, 9, 12)
    expected = torch.nn.functional.gelu(theirs(tokens.transpose(1, 2))[..., :9]).transpose(1, 2)
    torch.testing.assert_close(convolution(tokens), expected, rtol=0, atol=1e-6)


def test_a_gate_is_of_the_projected_query(rng):
    attention = network().double().encoder.layers[1].self_attn
    query = rng.standard_normal((3, 5, 4))
    found = attention.gate(torch.from_numpy(query)[None])[0, ..., 0]
    weights = {f"x.{name}": value for name, value in state(attention).items()}
    expected = [[naive_beats.gate(weights, "x", q, h) for q in query[h]] for h in range(3)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_gate_without_weights_is_seven_quarters(rng):
    attention = Attention(TINY, None)
    for parameter in attention.grep_linear.parameters():
        parameter.data.zero_()
    gate = attention.gate(noise(rng, 2, 3, 5, 4))
    torch.testing.assert_close(gate, torch.full((2, 3, 5, 1), 1.75))


def test_deep_norm_scales_residuals():
    assert ITERATION_3.residual_scale == pytest.approx(24**0.25)
    assert Block(ITERATION_3, None).residual_scale == pytest.approx(2.2133638)
    assert dataclasses.replace(ITERATION_3, deep_norm=False).residual_scale == 1.0


# the whole


@pytest.mark.parametrize("frames", [16, 37])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_block_is_its_definition(rng, settings, frames):
    made = network(settings)
    fbank = rng.standard_normal((frames, 128))
    expected = naive_beats.outputs(made.state_dict(), fbank, dataclasses.asdict(settings))
    grid = made.patches(torch.from_numpy(fbank.astype(np.float32))[None])
    found = made.encoder(grid.flatten(1, 2), tuple(made.known_blocks))
    patch = settings.input_patch_size
    assert grid.shape == (1, frames // patch, 128 // patch, 12)
    assert len(found) == len(expected) == settings.encoder_layers
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours[0], theirs.reshape(ours[0].shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [2801, 5360])
def test_waveforms_to_tokens_are_the_definition(rng, samples):
    waveform = rng.standard_normal(samples) * 0.1
    made = network()
    expected = naive_beats.outputs(made.state_dict(), naive_beats.front_end(waveform), cfg(TINY))
    tokens = made.double()(torch.from_numpy(waveform)[None], ALL_BLOCKS)
    assert tokens.cls is None
    assert tokens.grid.shape == (1, 3, 1 if samples < 5360 else 2, 8, 12)
    np.testing.assert_allclose(tokens.grid[0], expected, rtol=0, atol=1e-9)


def test_ten_seconds_are_62_by_8_tokens():
    grid = network()(torch.zeros(1, 160_000), (3,)).grid
    assert grid.shape == (1, 1, 62, 8, 12)


def test_time_comes_before_frequency(rng):
    made = network()
    fbank = noise(rng, 1, 48, 128)
    changed = fbank.clone()
    changed[:, 32:, 16:32] += 1
    moved = (made.patches(changed) - made.patches(fbank)).abs().amax(-1)[0] > 0
    assert moved.nonzero().tolist() == [[2, 1]]
    assert made.patches(fbank).flatten(1, 2)[0, 17].equal(made.patches(fbank)[0, 2, 1])


def test_blocks_are_given_as_asked_for(rng):
    made = network()
    waveforms = noise(rng, 2, 6000)
    every = made(waveforms, ALL_BLOCKS).grid
    some = made(waveforms, (3, 1)).grid
    assert some.equal(every[:, [2, 0]])
    assert not every[:, 0].allclose(every[:, 2])


def test_blocks_after_the_last_one_asked_for_are_not_computed(rng):
    made, computed = network(), []
    for number, block in enumerate(made.encoder.layers, start=1):
        block.register_forward_hook(lambda *_, number=number: computed.append(number))
    made(noise(rng, 1, 3000), (2, 1))
    assert computed == [1, 2]


def test_a_batch_is_its_clips_one_by_one(rng):
    made = network()
    waveforms = noise(rng, 3, 6000) * torch.tensor([[1.0], [0.1], [1e-3]])
    batch = made(waveforms, ALL_BLOCKS).grid
    for i in range(3):
        torch.testing.assert_close(
            made(waveforms[i : i + 1], ALL_BLOCKS).grid[0], batch[i], rtol=0, atol=1e-5
        )


def test_is_differentiable(rng):
    """Along a random direction, the gradient is the difference quotient."""
    made = network().double()
    waveforms = torch.from_numpy(rng.standard_normal((1, 5400)) * 0.1).requires_grad_()
    direction, weights = noise(rng, 1, 5400).double(), noise(rng, 3, 2, 8, 12)

    def value(x):
        return (made(x, ALL_BLOCKS).grid[0] * weights).sum()

    (gradient,) = torch.autograd.grad(value(waveforms), waveforms)
    step = 1e-7 * direction
    with torch.no_grad():
        quotient = (value(waveforms + step) - value(waveforms - step)) / 2e-7
    assert quotient.abs() > 1
    torch.testing.assert_close((gradient * direction).sum(), quotient, rtol=1e-5, atol=0)


def test_every_weight_has_a_gradient(rng):
    made = network().requires_grad_(True)
    (made(noise(rng, 1, 6000), (3,)).grid * noise(rng, 2, 8, 12)).sum().backward()
    still = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert [
        name for name in still if not name.endswith("k_proj.bias")
    ] == []  # a softmax does not see that one


def test_bfloat16_is_near_float32(rng):
    made = network()
    waveforms = noise(rng, 2, 6000)
    exact = made(waveforms, ALL_BLOCKS).grid
    with torch.autocast("cpu", torch.bfloat16):
        rough = made(waveforms, ALL_BLOCKS).grid.float()
    assert 0 < (rough - exact).abs().max() < 0.1


def test_the_published_geometry_has_90_million_parameters(monkeypatch):
    """Without numbers, and without torch's compiler, which torch's own drawing would load there."""
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.symbolic_shapes", None)
    with torch.device("meta"):
        made = BeatsNetwork(ITERATION_3)
    assert sum(p.numel() for p in made.parameters()) == 90_311_792
    shapes = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    assert shapes["patch_embedding.weight"] == (512, 1, 16, 16)
    assert shapes["post_extract_proj.weight"] == (768, 512)
    assert shapes["encoder.pos_conv.0.weight_g"] == (1, 1, 128)
    assert shapes["encoder.pos_conv.0.weight_v"] == (768, 48, 128)
    assert shapes[TABLE] == (320, 12)
    assert shapes["encoder.layers.11.self_attn.grep_linear.weight"] == (8, 64)
    assert shapes["encoder.layers.11.self_attn.grep_a"] == (1, 12, 1, 1)
    assert shapes["encoder.layers.11.fc1.weight"] == (3072, 768)


# files


def test_an_original_file_is_loaded(file, rng):
    waveforms = rng.standard_normal((2, 6000)).astype(np.float32)
    encoder = Beats(weights=str(file), blocks=(1, 3))
    tokens = encoder(waveforms)
    expected = network()(torch.from_numpy(waveforms), (1, 3)).grid
    assert tokens.shape == (2, 2, 2, 8, 12)
    assert tokens.dtype == np.float32
    np.testing.assert_allclose(tokens, expected, rtol=0, atol=1e-5)
    assert encoder.parameters == sum(p.numel() for p in network().parameters())


@pytest.mark.parametrize("layout", ["original", "first_table_alone"])
def test_a_converted_file_is_loaded(file, tmp_path, layout, rng):
    tensors = checkpoints.read(file) if layout == "original" else network().state_dict()
    path = tmp_path / "converted.safetensors"
    checkpoints.write(path, tensors, configuration=checkpoints.configuration(file))
    waveforms = rng.standard_normal((1, 6000)).astype(np.float32)
    converted, original = (Beats(weights=str(p), blocks=(3,))(waveforms) for p in (path, file))
    np.testing.assert_array_equal(converted, original)


def test_the_head_of_a_fine_tuned_file_is_dropped():
    head = {"predictor.weight": torch.zeros(527, 12), "predictor.bias": torch.zeros(527)}
    made = built(published(network()) | head, TINY, where="file.pt")
    assert made.state_dict().keys() == network().state_dict().keys()


def test_the_weights_of_a_file_are_copied():
    tensors = published(network())
    made = built(tensors, TINY, where="file.pt")
    tensors[TABLE].zero_()
    assert made.state_dict()[TABLE].any()


@pytest.mark.parametrize("name", network(ONE_BLOCK).state_dict())
def test_a_missing_weight_is_refused_by_name(name):
    tensors = published(network(ONE_BLOCK))
    del tensors[name]
    with pytest.raises(CheckpointError, match=rf"file\.pt: not the weights.*1 missing \({name}\)"):
        built(tensors, ONE_BLOCK, where="file.pt")


@pytest.mark.parametrize(
    "name", ["mask_emb", "predictors.weight", "encoder.layers.3.fc1.weight", "encoder.layers.0.self_attn.x"]
)
def test_an_extra_weight_is_refused_by_name(name):
    tensors = published(network()) | {name: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=rf"1 unexpected \({name}\)"):
        built(tensors, TINY, where="file.pt")


@pytest.mark.parametrize("name", network(ONE_BLOCK).state_dict())
def test_a_weight_of_another_shape_is_refused_by_name(name):
    tensors = published(network(ONE_BLOCK)) | {name: torch.zeros(7, 7)}
    with pytest.raises(CheckpointError, match=rf"1 of another shape \({name}: \(7, 7\) instead of"):
        built(tensors, ONE_BLOCK, where="file.pt")


def test_tables_that_differ_are_refused():
    tensors = published(network())
    name = TABLE.replace("layers.0", "layers.2")
    tensors[name] = tensors[name] + 1
    with pytest.raises(CheckpointError, match=rf"file\.pt: {name} differ from {TABLE}, which all blocks"):
        built(tensors, TINY, where="file.pt")


def test_settings_are_those_of_the_file():
    assert Settings.of(cfg(ITERATION_3), "file.pt") == ITERATION_3


def test_a_setting_that_a_file_does_not_name_has_the_official_default():
    settings = Settings.of({"input_patch_size": 16, "relative_position_embedding": True}, "file.pt")
    assert (settings.max_distance, settings.deep_norm, settings.gru_rel_pos) == (1280, False, False)


def test_a_file_without_settings_is_refused(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_file(network().state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"bare\.safetensors: has no 'cfg' .* \(found: none\); take the original"
    ):
        Beats(weights=str(path))(np.zeros((1, 3000), np.float32))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (
            {"layer_norm_first": True},
            r"'cfg' has \{'layer_norm_first': True\}, but .* \{'layer_norm_first': False\}",
        ),
        ({"activation_fn": "glu"}, r"\{'activation_fn': 'glu'\}"),
        ({"conv_bias": True}, r"\{'conv_bias': True\}"),
        ({"relative_position_embedding": False}, r"\{'relative_position_embedding': False\}"),
        ({"max_distance": 80}, r"max_distance=80; must be above 80, a quarter of num_buckets=320"),
    ],
)
def test_settings_of_another_network_are_refused(changed, match):
    with pytest.raises(CheckpointError, match=rf"file\.pt: .*{match}"):
        Settings.of(cfg(ITERATION_3) | changed, "file.pt")


@pytest.mark.parametrize(
    "changed",
    [
        {"encoder_layers": None},
        {"embed_dim": "512"},
        {"conv_pos": 0},
        {"num_buckets": 2**40},
        {"deep_norm": 1},
    ],
    ids=str,
)
def test_a_cfg_of_other_types_or_sizes_is_refused(changed):
    (name,) = changed
    with pytest.raises(CheckpointError, match=rf"file\.pt: its 'cfg' has {name}=.*; expected (int|bool)"):
        Settings.of(cfg(ITERATION_3) | changed, "file.pt")


def test_a_cfg_with_more_blocks_than_there_can_be_is_refused():
    with pytest.raises(CheckpointError, match=r"encoder_layers=100000, but it holds 0 tensors"):
        built({}, dataclasses.replace(ITERATION_3, encoder_layers=100_000), where="file.pt")


def test_a_block_that_is_not_there_is_refused(file):
    with pytest.raises(ValueError, match=r"blocks=\[4\]: .* has the blocks 1 to 3"):
        Beats(weights=str(file), blocks=(3, 4))(np.zeros((1, 3000), np.float32))


def test_waveforms_must_fill_a_patch(file):
    encoder = Beats(weights=str(file), blocks=(3,))
    assert encoder.min_samples == 2800
    assert encoder(np.zeros((1, 2800), np.float32)).shape == (1, 1, 1, 8, 12)
    with pytest.raises(ValueError, match=r"at least 2800 samples \(0\.17 s at 16000 Hz\)"):
        encoder(np.zeros((1, 2799), np.float32))


def test_the_default_is_the_last_block_of_iteration_3_plus():
    encoder = Beats()
    assert (encoder.weights, encoder.blocks, encoder.sample_rate) == ("beats_iter3_plus", (12,), 16_000)
