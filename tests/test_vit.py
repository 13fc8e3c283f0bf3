"""The vision transformer is what its equations say, whatever its switches."""

from __future__ import annotations

import sys
from dataclasses import replace

import naive_vit
import numpy as np
import pytest
import torch
from torch import nn

from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.frozen import Tokens
from nearfar.encoders.vit import Geometry, ViT, renamed, sine_positions, sized

TINY = Geometry(
    dim=16,
    heads=2,
    depth=3,
    bands=12,
    frames=30,
    rows="frequency",
    norm="pre",
    positions="table",
    has_cls=True,
    input_norm=False,
    final_norm=True,
    patch=(4, 4),
)
GEOMETRIES = {
    "as_eat": replace(TINY, rows="time", norm="post", input_norm=True, final_norm=False),
    "as_ced": replace(TINY, positions="axes", has_cls=False),
    "as_m2d": replace(TINY, positions="table_with_cls"),
    "oblong_patch": replace(TINY, patch=(6, 3), heads=4),
    "oblong_patch_of_time": replace(TINY, rows="time", patch=(5, 2), positions="table_with_cls"),
    "axes_of_time": replace(TINY, rows="time", positions="axes", norm="post"),
    "bare": replace(TINY, has_cls=False, final_norm=False, mlp_ratio=2),
    "all_norms": replace(TINY, norm="post", input_norm=True),
}


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES)
def vit(request, rng):
    return filled(ViT(request.param), rng)


def filled(network, rng):
    """With random weights."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    weights = naive_vit.drawn(shapes, rng)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return network.eval().requires_grad_(False)


def image_of(geometry, rng, frames, batch=2):
    size = (frames, geometry.bands) if geometry.rows == "time" else (geometry.bands, frames)
    return torch.from_numpy(rng.standard_normal((batch, *size)).astype(np.float32))


@pytest.mark.parametrize("frames", [7, 23, 30])
def test_tokens_are_those_of_the_equations(vit, rng, frames):
    images = image_of(vit.geometry, rng, frames)
    blocks = (2, 1, 3)
    tokens = vit.encode(images, blocks)
    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in vit.state_dict().items()}
    for i, image in enumerate(images.numpy().astype(np.float64)):
        grids, cls = naive_vit.encode(image, weights, vit.geometry)
        for j, block in enumerate(blocks):
            np.testing.assert_allclose(tokens.grid[i, j], grids[block], rtol=1e-5, atol=1e-5)
            if vit.geometry.has_cls:
                np.testing.assert_allclose(tokens.cls[i, j], cls[block], rtol=1e-5, atol=1e-5)
    assert (tokens.cls is None) == (not vit.geometry.has_cls)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_the_encoder_layer_of_torch(rng, norm):
    block = filled(ViT(replace(TINY, norm=norm)), rng).blocks[1]
    layer = nn.TransformerEncoderLayer(
        16, 2, 64, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=norm == "pre"
    )
    names = {
        "attn.qkv.": "self_attn.in_proj_",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    weights = block.state_dict()
    for own, other in names.items():
        weights = {name.replace(own, other): tensor for name, tensor in weights.items()}
    layer.load_state_dict(weights)
    tokens = torch.from_numpy(rng.standard_normal((2, 9, 16)).astype(np.float32))
    torch.testing.assert_close(block(tokens), layer.eval()(tokens), rtol=1e-5, atol=1e-5)


def test_a_token_lies_where_its_patch_does(vit, rng):
    """Without attention, a change in one patch changes one token."""
    for block in vit.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    images = image_of(vit.geometry, rng, 30, batch=1)
    by_time = images if vit.geometry.rows == "time" else images.mT
    before = vit.encode(images, (1,)).grid
    by_time[0, 29 - 30 % 4, 1] += 1  # a frame of the last patches, the lowest band of two
    changed = (vit.encode(images, (1,)).grid != before).any(dim=-1)[0, 0]
    time, band = changed.nonzero().T.tolist()
    size = vit.geometry.patch if vit.geometry.rows == "time" else vit.geometry.patch[::-1]
    assert (time, band) == ([(29 - 30 % 4) // size[0]], [0])


def test_blocks_after_the_highest_are_not_computed(vit, rng):
    vit.blocks[2].register_forward_hook(lambda *_: pytest.fail("was computed"))
    vit.encode(image_of(vit.geometry, rng, 12), (1, 2))


def test_the_output_of_a_block_does_not_depend_on_which_others_are_asked_for(vit, rng):
    images = image_of(vit.geometry, rng, 12)
    every = vit.encode(images, (1, 2, 3)).grid
    for block in (1, 2, 3):
        torch.testing.assert_close(vit.encode(images, (block,)).grid[:, 0], every[:, block - 1])


def test_the_final_norm_is_of_the_last_block_alone(rng):
    vit = filled(ViT(TINY), rng)
    images = image_of(TINY, rng, 12)
    before = vit.encode(images, (1, 3)).grid
    vit.norm = nn.Identity()
    after = vit.encode(images, (1, 3)).grid
    torch.testing.assert_close(after[:, 0], before[:, 0], rtol=0, atol=0)
    assert not torch.allclose(after[:, 1], before[:, 1])


@pytest.mark.parametrize(("rows", "columns", "dim"), [(3, 5, 16), (5, 1, 8), (768, 8, 16)])
def test_fixed_positions_are_sines_of_column_and_row(rows, columns, dim):
    right = [naive_vit.sine_position(r, c, dim) for r in range(rows) for c in range(columns)]
    np.testing.assert_allclose(sine_positions(rows, columns, dim), right, rtol=0, atol=1e-6)


def test_a_new_network_has_fixed_positions():
    table = ViT(replace(TINY, positions="table_with_cls")).pos_embed
    assert not table.requires_grad
    assert (table[0, 0] == 0).all()
    torch.testing.assert_close(table[0, 1:], sine_positions(3, 7, 16))
    torch.testing.assert_close(ViT(TINY).pos_embed[0], sine_positions(3, 7, 16))


@pytest.mark.parametrize("positions", ["table", "table_with_cls", "axes"])
def test_on_the_device_without_numbers_no_compiler_is_loaded(positions, monkeypatch):
    """Checkpoints are laid out there; torch's own arithmetic would load it, for a second."""
    for module in ("torch._dynamo", "torch.fx.experimental.symbolic_shapes"):
        monkeypatch.setitem(sys.modules, module, None)
    with torch.device("meta"):
        network = ViT(replace(TINY, positions=positions))
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_a_grid_that_is_smaller_takes_the_first_positions(vit):
    whole = vit.positions(*vit.geometry.grid)
    torch.testing.assert_close(vit.positions(2, 1), whole[..., :2, :1])


def test_low_rank_adaptation_finds_its_layers(vit):
    layers = dict(vit.named_modules())
    for block in range(3):
        assert isinstance(layers[f"blocks.{block}.attn.qkv"], nn.Linear)
        assert isinstance(layers[f"blocks.{block}.attn.proj"], nn.Linear)
    assert layers["blocks.0.attn.qkv"].weight.shape == (48, 16)


def test_gradients_reach_the_image_and_every_weight_that_is_learnt(vit, rng):
    images = image_of(vit.geometry, rng, 12).requires_grad_()
    learnt = {name: p for name, p in vit.requires_grad_().named_parameters() if name != "pos_embed"}
    tokens = vit.encode(images, (3,))
    (tokens.grid.pow(3).sum() + (0 if tokens.cls is None else tokens.cls.pow(3).sum())).backward()
    rows, columns = (n - n % size for n, size in zip(images.shape[1:], vit.geometry.patch, strict=True))
    assert (images.grad[:, :rows, :columns] != 0).all()
    assert [name for name, parameter in learnt.items() if parameter.grad is None] == []


def test_bfloat16_is_near_and_keeps_what_flows_past_the_blocks(vit, rng):
    images = image_of(vit.geometry, rng, 12)
    right = vit.encode(images, (1, 2, 3)).grid
    with torch.autocast("cpu", torch.bfloat16):
        rough = vit.encode(images, (1, 2, 3)).grid
    assert rough.dtype == torch.float32
    assert 0 < (rough - right).abs().mean() < 0.02 * right.abs().mean()


def test_chunks_follow_one_another(vit, rng):
    chunks = [image_of(vit.geometry, rng, frames) for frames in (30, 14)]
    first, second = (vit.encode(chunk, (3, 2)) for chunk in chunks)
    both = vit.encode_chunks(chunks, (3, 2))
    assert isinstance(both, Tokens)
    torch.testing.assert_close(both.grid, torch.cat([first.grid, second.grid], dim=2))
    if vit.geometry.has_cls:
        torch.testing.assert_close(both.cls, (first.cls + second.cls) / 2)
    else:
        assert both.cls is None


@pytest.mark.parametrize(
    ("frames", "bands", "match"),
    [
        (31, 12, r"31 frames and 12 bands: .* takes 12 bands, .* patch=\(4, 4\), to its last position, 30"),
        (3, 12, "3 frames and 12 bands"),
        (12, 16, "12 frames and 16 bands"),
    ],
)
@pytest.mark.parametrize("rows", ["time", "frequency"])
def test_an_image_that_does_not_suit(rows, frames, bands, match):
    size = (frames, bands) if rows == "time" else (bands, frames)
    with pytest.raises(ValueError, match=match):
        ViT(replace(TINY, rows=rows)).encode(torch.zeros(1, *size), (1,))


def test_an_unknown_block(rng):
    with pytest.raises(ValueError, match=r"blocks=\[0, 4\]: there are blocks 1 to 3"):
        ViT(TINY).encode(image_of(TINY, rng, 12), (1, 0, 4))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"heads": 3}, "dim=16: must be a multiple of heads=3, and of 4"),
        ({"dim": 18}, "dim=18: must be a multiple of heads=2, and of 4"),
        ({"bands": 14}, r"bands=14: must be whole patches, but patch=\(4, 4\) with rows='frequency'"),
        ({"patch": (4, 5), "rows": "time"}, r"bands=12: must be whole patches, but patch=\(4, 5\)"),
        ({"positions": "table_with_cls", "has_cls": False}, "'table_with_cls', but has_cls=False"),
    ],
)
def test_impossible_geometries(changes, match):
    with pytest.raises(ValueError, match=match):
        replace(TINY, **changes)


def test_prefixes_are_replaced_in_turn():
    rules = (("module.", ""), ("a.", "b."), ("b.", "c."))
    tensors = {name: torch.full((1,), i) for i, name in enumerate(("module.a.x", "b.y", "z.a.", "w"))}
    found = renamed(tensors, rules, where="file")
    assert {name: int(tensor) for name, tensor in found.items()} == {"c.x": 0, "c.y": 1, "z.a.": 2, "w": 3}


def test_two_names_that_become_one_are_refused():
    tensors = {"module.x": torch.zeros(1), "x": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="file: has 'x' twice, once as 'x'; it mixes two layouts"):
        renamed(tensors, (("module.", ""),), where="file")


def blocks_of(dim, depth):
    return {f"blocks.{i}.norm{n}.weight": torch.zeros(dim) for i in range(depth) for n in (1, 2)}


@pytest.mark.parametrize(
    ("dim", "found", "depth", "heads"),
    [(128, 5, 5, 2), (768, 3, 12, 12), (1024, 24, 24, 16), (192, 13, 12, 3)],
)
def test_a_size_is_read_from_blocks_and_is_a_published_one_where_there_is_one(dim, found, depth, heads):
    geometry = sized(TINY, blocks_of(dim, found), where="file", dim=None)
    assert geometry == replace(TINY, dim=dim, heads=heads, depth=depth)


def test_a_size_is_that_of_most_blocks_unless_it_is_known():
    tensors = blocks_of(128, 2) | {"blocks.0.norm1.weight": torch.zeros(129)}
    assert sized(TINY, tensors, where="file", dim=None).dim == 128
    assert sized(TINY, tensors, where="file", dim=256).dim == 256


def test_a_file_without_blocks():
    with pytest.raises(
        CheckpointError, match=r"file: has no transformer blocks, but \['layers.0.weight', 'x'\]"
    ):
        sized(TINY, {"x": torch.zeros(1), "layers.0.weight": torch.zeros(1)}, where="file", dim=None)


def test_a_width_that_is_of_no_heads():
    with pytest.raises(CheckpointError, match="file: is 100 wide, which is not a multiple of 64"):
        sized(TINY, blocks_of(100, 2), where="file", dim=None)
