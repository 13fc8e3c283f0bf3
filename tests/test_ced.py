"""CED is what its equations say, from every layout that its weights were published in."""

from __future__ import annotations

from dataclasses import replace

import naive_vit
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from nearfar.encoders.ced import BASE, Ced, CedNetwork
from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.frozen import Tokens
from nearfar.encoders.pretrained import PRETRAINED

DIM, DEPTH, HEADS = 128, 3, 2


@pytest.fixture
def weights(rng):
    return naive_vit.drawn(naive_vit.ced_shapes(DIM, DEPTH), rng)


@pytest.fixture
def waveforms(rng):
    """A loud clip and one that fades: (2, 8017)."""
    noise = rng.standard_normal((2, 8017)) * np.array([[0.3], [1e-3]])
    return (noise * np.linspace(1, 0.01, 8017)).astype(np.float32)


def zenodo(weights):
    """The same weights as the files of Zenodo have them."""
    named = {name.removeprefix("encoder."): array for name, array in weights.items()}
    named = {name.replace("init_bn.", "init_bn.1."): array for name, array in named.items()}
    return named | {
        "front_end.0.spectrogram.window": np.ones(512, np.float32),
        "front_end.0.mel_scale.fb": np.ones((257, 64), np.float32),
        "init_bn.1.num_batches_tracked": np.array(7),
    }


def hub(weights):
    return weights | {"encoder.init_bn.num_batches_tracked": np.array(7)}


def saved(tmp_path, weights):
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    return str(path)


def network(weights, dtype=torch.float32):
    """With the weights that are given, without a file."""
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    return Ced(weights="some.safetensors").build(tensors, "some.safetensors").eval().to(dtype)


def expected(waveform, weights, block):
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    return naive_vit.ced_in_chunks(naive_vit.ced_levels(waveform), wide, HEADS)[block]


@pytest.mark.parametrize("layout", [hub, zenodo, dict])
def test_a_file_of_every_layout_gives_the_tokens_of_the_equations(tmp_path, weights, waveforms, layout):
    encoder = Ced(weights=saved(tmp_path, layout(weights)), blocks=(3, 1))
    tokens = encoder(waveforms)
    assert tokens.shape == (2, 2, 3, 4, DIM)  # 51 frames
    for clip, waveform in zip(tokens, waveforms, strict=True):
        for grid, block in zip(clip, (3, 1), strict=True):
            np.testing.assert_allclose(grid, expected(waveform, weights, block), rtol=0, atol=1e-4)


@pytest.mark.parametrize("samples", [2400, 2559, 2560, 9999])
def test_every_block_in_double_precision(rng, weights, samples):
    waveform = rng.standard_normal(samples) / 5
    with torch.no_grad():
        tokens = network(weights, torch.float64)(torch.from_numpy(waveform)[None], (1, 2, 3))
    assert tokens.cls is None
    assert tokens.grid.shape[2] == (1 + samples // 160) // 16
    for grid, block in zip(tokens.grid[0], (1, 2, 3), strict=True):
        np.testing.assert_allclose(grid, expected(waveform, weights, block), rtol=0, atol=1e-8)


def test_tokens_of_an_image_in_single_precision(rng, weights):
    image = rng.standard_normal((1, 64, 75)).astype(np.float32)
    found = network(weights).encode(torch.from_numpy(image), (1, 2, 3)).grid.detach()
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    for grid, block in zip(found[0], (1, 2, 3), strict=True):
        right = naive_vit.ced(image[0].astype(np.float64), wide, HEADS)[block]
        np.testing.assert_allclose(grid, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frames", [1012, 1013, 2030])
def test_longer_than_its_positions_is_chunk_by_chunk(rng, frames):
    weights = naive_vit.drawn(naive_vit.ced_shapes(64, 1), rng)
    waveform = rng.standard_normal(160 * (frames - 1)) / 5
    with torch.no_grad():
        grid = network(weights, torch.float64)(torch.from_numpy(waveform)[None], (1,)).grid[0, 0]
    assert len(grid) == 63 * (1 + (frames - 1) // 1012)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    right = naive_vit.ced_in_chunks(naive_vit.ced_levels(waveform), wide, 1)[1]
    np.testing.assert_allclose(grid, right, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-3), (np.float64, 1e-5)])
def test_the_front_end_is_that_of_its_equations(weights, waveforms, dtype, tolerance):
    plain = network(weights, torch.float64 if dtype is np.float64 else torch.float32)
    plain.init_bn = nn.Identity()
    levels = plain.spectrogram(torch.from_numpy(waveforms.astype(dtype)))
    for found, waveform in zip(levels, waveforms, strict=True):
        np.testing.assert_allclose(found, naive_vit.ced_levels(waveform), rtol=0, atol=tolerance)


def test_levels_are_clipped_120_db_under_each_clips_maximum(weights):
    loud = torch.zeros(2, 4000)
    loud[0, 2000], loud[1, 2000] = 1e3, 1e-3
    plain = network(weights)
    plain.init_bn = nn.Identity()
    levels = plain.spectrogram(loud)
    assert levels[0].min() == levels[0].max() - 120
    assert levels[1].min() == pytest.approx(-100)  # the floor is higher


def test_probabilities_of_classes(weights, waveforms):
    found = network(weights).probabilities(torch.from_numpy(waveforms)).detach()
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    right = [naive_vit.ced_probabilities(expected(w, weights, DEPTH), wide) for w in waveforms]
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-4)


def test_a_batch_is_its_clips_one_by_one(tmp_path, weights, waveforms):
    encoder = Ced(weights=saved(tmp_path, weights), blocks=(2,))
    single = np.concatenate([encoder(waveform[None]) for waveform in waveforms])
    np.testing.assert_allclose(encoder(waveforms), single, rtol=0, atol=1e-5)


def test_gradients_reach_the_waveform(weights, waveforms):
    leaf = torch.tensor(waveforms, requires_grad=True)
    network(weights)(leaf, (3,)).grid.square().mean().backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad != 0).any(dim=1).all()


def test_normalization_is_the_same_in_training(weights, waveforms):
    both = network(weights)
    before = both.spectrogram(torch.from_numpy(waveforms))
    torch.testing.assert_close(both.train().spectrogram(torch.from_numpy(waveforms)), before)


def test_bfloat16_keeps_the_front_end(tmp_path, weights, waveforms):
    path = saved(tmp_path, weights)
    right, rough = Ced(weights=path), Ced(weights=path, precision="bfloat16")
    right.blocks = rough.blocks = (3,)
    difference = np.abs(rough(waveforms) - right(waveforms))
    assert 0 < difference.mean() < 0.02
    batch = torch.from_numpy(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            rough.network.spectrogram(batch), right.network.spectrogram(batch), rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("size", "dim", "count"),
    [
        ("tiny", 192, 5_503_183),
        ("mini", 256, 9_696_655),
        ("small", 384, 21_622_543),
        ("base", 768, 85_711_759),
    ],
)
def test_published_sizes(size, dim, count):
    record = PRETRAINED[f"ced_{size}"]
    assert (record.dim, record.parameters) == (dim, count)
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in naive_vit.ced_shapes(dim, 12).items()}
        built = Ced(weights=f"ced_{size}").build(tensors, size)
    assert sum(parameter.numel() for parameter in built.parameters()) == count
    assert built.blocks[0].attn.heads == dim // 64
    assert built.known_blocks == range(1, 13)


def without(weights, name):
    return {other: array for other, array in weights.items() if other != name}


@pytest.mark.parametrize("name", sorted(naive_vit.ced_shapes(64, 2)))
def test_one_missing_or_misshapen_tensor_is_refused_by_name(rng, name):
    weights = naive_vit.drawn(naive_vit.ced_shapes(64, 2), rng)
    own = name.removeprefix("encoder.").replace(".", r"\.")
    with pytest.raises(CheckpointError, match=rf"1 missing \({own}\)$"):
        network(without(weights, name))
    longer = np.zeros((*weights[name].shape[:-1], weights[name].shape[-1] + 1), np.float32)
    with pytest.raises(CheckpointError, match=rf"1 of another shape \({own}: "):
        network(weights | {name: longer})


@pytest.mark.parametrize("name", ["encoder.cls_token", "encoder.blocks.2.norm3.weight", "front_ends.0"])
def test_one_tensor_more_is_refused_by_name(weights, name):
    with pytest.raises(CheckpointError, match=rf"1 unexpected \({name.removeprefix('encoder.')}\)$"):
        network(weights | {name: np.zeros(DIM, np.float32)})


def test_a_published_size_has_all_of_its_blocks():
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in naive_vit.ced_shapes(192, 11).items()}
    with pytest.raises(CheckpointError, match=r"12 missing \(blocks\.11\.norm1\.weight"):
        Ced(weights="some.safetensors").build(tensors, "some.safetensors")


def test_weights_of_another_size_than_their_name_says():
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in naive_vit.ced_shapes(192, 12).items()}
    with pytest.raises(
        CheckpointError, match=r"of another shape .*\(1, 192, 1, 63\) instead of \(1, 768, 1, 63\)"
    ):
        Ced(weights="ced_base").build(tensors, "model.safetensors")


def test_a_network_can_be_made_of_any_geometry():
    tiny = CedNetwork(replace(BASE, dim=16, heads=2, depth=2), classes=3).eval()
    tokens = tiny(torch.randn(2, 6000), (1, 2))
    assert isinstance(tokens, Tokens)
    assert tokens.grid.shape == (2, 2, 2, 4, 16)
    assert tiny.probabilities(torch.randn(2, 6000)).shape == (2, 3)


def test_what_is_too_short(tmp_path, weights):
    encoder = Ced(weights=saved(tmp_path, weights), blocks=(1,))
    assert encoder(np.zeros((1, encoder.min_samples), np.float32)).shape == (1, 1, 1, 4, DIM)
    with pytest.raises(
        ValueError, match=r"waveforms of shape \(1, 2399\): 'ced' takes .* at least 2400 samples"
    ):
        encoder(np.zeros((1, encoder.min_samples - 1), np.float32))
