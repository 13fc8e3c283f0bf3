"""M2D is what its equations say, from every layout that its weights were published in."""

from __future__ import annotations

from dataclasses import replace

import naive_vit
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.m2d import BASE, M2d, M2dNetwork
from nearfar.encoders.pretrained import PRETRAINED

DIM, DEPTH, HEADS = 128, 3, 2
ARCHIVE = "m2d_as_vit_base-80x{}p16x16-240213"


@pytest.fixture
def weights(rng):
    return naive_vit.drawn(naive_vit.m2d_shapes(DIM, DEPTH), rng)


@pytest.fixture
def waveforms(rng):
    noise = rng.standard_normal((2, 8017)) * np.array([[0.3], [1e-3]])
    return (noise * np.linspace(1, 0.01, 8017)).astype(np.float32)


def as_pretrained(weights):
    """With what only training needs."""
    dropped = {
        "mask_token": (1, 1, DIM),
        "decoder_embed.weight": (8, DIM),
        "decoder_pos_embed": (1, 191, 8),
        "decoder_blocks.0.norm1.weight": (8,),
        "target_blocks.0.norm1.weight": (DIM,),
        "target_norm.weight": (DIM,),
        "offline_predictor.weight": (DIM, DIM),
        "head.weight": (527, DIM),
        "head_norm.weight": (DIM,),
    }
    return weights | {name: np.ones(shape, np.float32) for name, shape in dropped.items()}


def prefixed(weights):
    return {f"backbone.{name}": array for name, array in weights.items()}


def fine_tuned(weights):
    named = {f"module.ar.runtime.backbone.{name}": array for name, array in weights.items()}
    return named | {"module.head.mlp.mlp.0.weight": np.ones((527, DIM), np.float32)}


def saved(folder, weights):
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "weights.safetensors")
    return str(folder / "weights.safetensors")


def network(weights, dtype=torch.float32, where="weights.safetensors"):
    """With the weights that are given, without a file."""
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    return M2d(weights=where).build(tensors, where).eval().to(dtype)


def doubled(weights):
    return {name: array.astype(np.float64) for name, array in weights.items()}


def expected(waveform, weights, longest=608, heads=HEADS):
    return naive_vit.m2d_in_chunks(naive_vit.m2d_log_mel(waveform), doubled(weights), heads, longest)


@pytest.mark.parametrize("layout", [dict, as_pretrained, prefixed, fine_tuned])
def test_a_file_of_every_layout_gives_the_tokens_of_the_equations(tmp_path, weights, waveforms, layout):
    encoder = M2d(weights=saved(tmp_path, layout(weights)), blocks=(3, 1))
    tokens = encoder.tokens(waveforms)
    assert tokens.grid.shape == (2, 2, 4, 5, DIM)  # 51 frames, filled up to 64
    assert tokens.cls.shape == (2, 2, DIM)
    for i, waveform in enumerate(waveforms):
        grids, cls = expected(waveform, weights)
        for j, block in enumerate((3, 1)):
            np.testing.assert_allclose(tokens.grid[i, j], grids[block], rtol=0, atol=1e-4)
            np.testing.assert_allclose(tokens.cls[i, j], cls[block], rtol=0, atol=1e-4)


@pytest.mark.parametrize("samples", [201, 2400, 2560, 9999])
def test_every_block_in_double_precision(rng, weights, samples):
    waveform = rng.standard_normal(samples) / 5
    with torch.no_grad():
        tokens = network(weights, torch.float64)(torch.from_numpy(waveform)[None], (1, 2, 3))
    assert tokens.grid.shape[2] == -(-(1 + samples // 160) // 16)
    grids, cls = expected(waveform, weights)
    for i, block in enumerate((1, 2, 3)):
        np.testing.assert_allclose(tokens.grid[0, i], grids[block], rtol=0, atol=1e-8)
        np.testing.assert_allclose(tokens.cls[0, i], cls[block], rtol=0, atol=1e-8)


def test_tokens_of_an_image_in_single_precision(rng, weights):
    image = rng.standard_normal((1, 80, 48)).astype(np.float32)
    found = network(weights).encode(torch.from_numpy(image), (1, 2, 3))
    grids, cls = naive_vit.m2d(image[0].astype(np.float64), doubled(weights), HEADS, 608)
    for i, block in enumerate((1, 2, 3)):
        np.testing.assert_allclose(found.grid[0, i].detach(), grids[block], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.cls[0, i].detach(), cls[block], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("longest", "frames", "columns"),
    [
        (608, 608, 38),
        (608, 609, 39),
        (608, 1001, 63),
        (608, 1217, 77),
        (1001, 992, 62),
        (1001, 993, 62),  # is filled up to 1001 only
        (1001, 1001, 62),
        (1001, 1002, 63),
    ],
)
def test_longer_than_its_positions_is_chunk_by_chunk(rng, longest, frames, columns):
    weights = naive_vit.drawn(naive_vit.m2d_shapes(64, 1, longest=longest), rng)
    waveform = rng.standard_normal(160 * (frames - 1)) / 5
    with torch.no_grad():
        tokens = network(weights, torch.float64)(torch.from_numpy(waveform)[None], (1,))
    assert tokens.grid.shape == (1, 1, columns, 5, 64)
    grids, cls = expected(waveform, weights, longest, heads=1)
    np.testing.assert_allclose(tokens.grid[0, 0], grids[1], rtol=0, atol=1e-8)
    np.testing.assert_allclose(tokens.cls[0, 0], cls[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-9)])
def test_the_front_end_is_that_of_its_equations(weights, waveforms, dtype, tolerance):
    plain = network(weights, torch.float64 if dtype is np.float64 else torch.float32)
    values = plain.spectrogram(torch.from_numpy(waveforms.astype(dtype)))
    for found, waveform in zip(values, waveforms, strict=True):
        right = (naive_vit.m2d_log_mel(waveform) + 6.5) / np.float32(3.9)
        np.testing.assert_allclose(found, right, rtol=0, atol=tolerance)


def test_without_statistics_those_of_its_training_data_are_used(weights, waveforms):
    del weights["norm_stats"]
    values = network(weights).spectrogram(torch.from_numpy(waveforms))
    right = (naive_vit.m2d_log_mel(waveforms[0]) + 7.1) / 4.2
    np.testing.assert_allclose(values[0], right, rtol=0, atol=1e-4)


def test_a_batch_is_its_clips_one_by_one(tmp_path, weights, waveforms):
    encoder = M2d(weights=saved(tmp_path, weights), blocks=(2,))
    single = np.concatenate([encoder(waveform[None]) for waveform in waveforms])
    np.testing.assert_allclose(encoder(waveforms), single, rtol=0, atol=1e-5)


def test_gradients_reach_the_waveform(weights, waveforms):
    leaf = torch.tensor(waveforms, requires_grad=True)
    tokens = network(weights)(leaf, (3,))
    (tokens.grid.square().mean() + tokens.cls.square().mean()).backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad != 0).any(dim=1).all()


def test_bfloat16_keeps_the_front_end(tmp_path, weights, waveforms):
    path = saved(tmp_path, weights)
    right, rough = M2d(weights=path, blocks=(3,)), M2d(weights=path, blocks=(3,), precision="bfloat16")
    assert 0 < np.abs(rough(waveforms) - right(waveforms)).mean() < 0.02
    batch = torch.from_numpy(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            rough.network.spectrogram(batch), right.network.spectrogram(batch), rtol=0, atol=0
        )


@pytest.mark.parametrize(("name", "longest"), [("m2d", 608), ("m2d_as", 608), ("m2d_as_finetuned", 1001)])
def test_published_sizes(name, longest):
    with torch.device("meta"):
        shapes = naive_vit.m2d_shapes(768, 12, longest=longest)
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
        built = M2d(weights=name).build(tensors, "checkpoint.pth")
    assert sum(parameter.numel() for parameter in built.parameters()) == PRETRAINED[name].parameters
    assert built.geometry == replace(BASE, frames=longest)
    assert built.known_blocks == range(1, 13)


@pytest.mark.parametrize(
    ("where", "longest"),
    [
        (f"{ARCHIVE.format(1001)}_AS-FT_enconly/weights_ep67it3124-0.48558.pth", 1001),
        (f"{ARCHIVE.format(992)}/checkpoint.pth", 992),
        (f"{ARCHIVE.format('1001')}p16k/checkpoint.pth".replace("-240213p16k", "p16k-240213"), 1001),
        (f"{ARCHIVE.format(992)}.safetensors", 992),
        ("elsewhere/checkpoint.pth", 1001),
    ],
)
def test_the_longest_input_is_in_the_name_of_the_archive(where, longest):
    with torch.device("meta"):
        shapes = naive_vit.m2d_shapes(64, 1, longest=longest)
        built = M2d(weights=where).build({key: torch.empty(shape) for key, shape in shapes.items()}, where)
    assert built.geometry.frames == longest


def test_positions_tell_the_longest_input_of_a_length_of_ones_own():
    with torch.device("meta"):
        shapes = naive_vit.m2d_shapes(64, 1, longest=208)
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
    assert M2d(weights="own.pth").build(tensors, "own.pth").geometry.frames == 208


def test_patches_of_another_size():
    where = "m2d_vit_base-80x200p16x4-230529/checkpoint.pth"
    shapes = naive_vit.m2d_shapes(64, 1)
    shapes |= {"pos_embed": (1, 1 + 5 * 50, 64), "patch_embed.proj.weight": (64, 1, 16, 4)}
    tensors = {key: torch.randn(shape) for key, shape in shapes.items()}
    built = M2d(weights=where).build(tensors, where).eval()
    assert built(torch.randn(1, 160 * 209), (1,)).grid.shape == (1, 1, 50 + 3, 5, 64)  # 200 and 10 frames


@pytest.mark.parametrize(
    ("archive", "match"),
    [
        (
            "m2d_vit_base-80x608p16x16p32k-240413",
            r"80x608p16x16p32k is of 80 bands at 32 kHz; only .* 80 .* 16",
        ),
        ("m2d_vit_base-64x608p16x16-240413", r"64x608p16x16 is of 64 bands at 16 kHz"),
    ],
)
def test_another_front_end_is_refused(weights, archive, match):
    with pytest.raises(CheckpointError, match=match):
        network(weights, where=f"{archive}/checkpoint.pth")


@pytest.mark.parametrize("name", sorted(naive_vit.m2d_shapes(64, 2)))
def test_one_missing_or_misshapen_tensor_is_refused_by_name(rng, name):
    weights = naive_vit.drawn(naive_vit.m2d_shapes(64, 2), rng)
    own = name.replace(".", r"\.")
    longer = np.zeros((*weights[name].shape[:-1], weights[name].shape[-1] + 1), np.float32)
    with pytest.raises(CheckpointError, match=rf"1 of another shape \({own}: "):
        network(weights | {name: longer})
    del weights[name]
    if name != "norm_stats":
        with pytest.raises(CheckpointError, match=rf"1 missing \({own}\)$"):
            network(weights)


@pytest.mark.parametrize("shape", [(1, 192, DIM), (191, DIM), ()])
def test_positions_that_are_not_of_a_grid_are_refused(weights, shape):
    with pytest.raises(CheckpointError, match=r"1 of another shape \(pos_embed: "):
        network(weights | {"pos_embed": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("name", ["time_pos_embed", "backbone.blocks.2.norm3.weight", "module.ar.to_spec"])
def test_one_tensor_more_is_refused_by_name(weights, name):
    with pytest.raises(CheckpointError, match=r"1 unexpected \((time_pos|blocks.2.norm3.w|ar\.to_spec)"):
        network(weights | {name: np.zeros(DIM, np.float32)})


def test_weights_of_another_length_than_their_name_says(weights):
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    with pytest.raises(CheckpointError, match=r"pos_embed: \(1, 191, 128\) instead of \(1, 311, 768\)"):
        M2d(weights="m2d_as_finetuned").build(
            dict(pos_embed=tensors.pop("pos_embed"), **tensors), "weights.pth"
        )


def test_a_network_can_be_made_of_any_geometry():
    tiny = M2dNetwork(replace(BASE, dim=16, heads=2, depth=2, frames=64)).eval()
    tokens = tiny(torch.randn(2, 160 * 69), (2, 1))
    assert tokens.grid.shape == (2, 2, 5, 5, 16)
    assert tokens.cls.shape == (2, 2, 16)


def test_what_is_too_short(tmp_path, weights):
    encoder = M2d(weights=saved(tmp_path, weights), blocks=(1,))
    assert encoder(np.zeros((1, 201), np.float32)).shape == (1, 1, 1, 5, DIM)
    with pytest.raises(
        ValueError, match=r"waveforms of shape \(1, 200\): 'm2d' takes .* at least 201 samples"
    ):
        encoder(np.zeros((1, 200), np.float32))
