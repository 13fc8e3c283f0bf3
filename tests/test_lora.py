"""Low-rank adapters: what they compute, where they sit, that merging changes nothing, and what is refused."""

from __future__ import annotations

import math
import pickle
import re
from collections import Counter

import numpy as np
import pytest
import tiny_weights
import torch
from tiny_encoder import Net, Tiny
from torch import nn

from nearfar.embedding.embeddings import origins
from nearfar.encoders import checkpoints, encoder_class
from nearfar.encoders.eat import EatNetwork
from nearfar.encoders.lora import LowRank, arrays, attach, layers_of, merge
from nearfar.files.digests import digest_arrays

PRETRAINED = list(tiny_weights.NETWORKS)
BLOCKS = {"efficientat": (2, 3, 5)}  # of different sizes; all others have 1 and 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def encoder_of(name, **options):
    options = {"weights": str(tiny_weights.written(name)), "device": "cpu", "blocks": (2,)} | options
    if name == "eat":
        options["frames"] = "clip"
    return encoder_class(name)(**options)


def adapted(network, blocks, *, seed=0, rank=3, **options):
    """Adapters on a network, with ``up`` drawn too."""
    adapters = attach(
        network, layers_of(network, blocks), rank=rank, alpha=2.0 * rank, generator=generator(seed), **options
    )
    for adapter in adapters.values():
        adapter.up.data.normal_(0, 0.05, generator=generator(seed + 1))
    return adapters


@pytest.fixture
def waveforms(rng):
    return torch.tensor(rng.standard_normal((2, 24_000)) / 8, dtype=torch.float32)


# what an adapter computes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_an_adapter_adds_up_times_down_to_its_layer(rng, kind, bias):
    layer = nn.Linear(5, 4, bias=bias) if kind == "linear" else nn.Conv2d(5, 4, 1, bias=bias)
    adapter = LowRank(layer, rank=2, alpha=6.0, generator=generator())
    adapter.up.data.normal_(generator=generator(1))
    x = rng.standard_normal((3, 6, 7, 5)).astype(np.float32)
    weight = layer.weight.detach().numpy().reshape(4, 5)
    expected = x @ (weight + 3.0 * adapter.up.detach().numpy() @ adapter.down.detach().numpy()).T
    if bias:
        expected = expected + layer.bias.detach().numpy()
    given = torch.from_numpy(x) if kind == "linear" else torch.from_numpy(x).permute(0, 3, 1, 2)
    found = adapter(given) if kind == "linear" else adapter(given).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_down_begins_as_kaimings_and_up_at_zero():
    adapter = LowRank(nn.Linear(400, 30), rank=8, alpha=16, generator=generator())
    assert adapter.down.shape == (8, 400)
    assert adapter.up.shape == (30, 8)
    assert not adapter.up.any()
    bound = math.sqrt(6 / (1 + 5) / 400)  # of a = sqrt(5)
    assert 0.99 * bound < float(adapter.down.detach().abs().max()) <= bound
    again = LowRank(nn.Linear(400, 30), rank=8, alpha=16, generator=generator())
    assert torch.equal(again.down, adapter.down)
    other = LowRank(nn.Linear(400, 30), rank=8, alpha=16, generator=generator(1))
    assert not torch.equal(other.down, adapter.down)


def test_what_is_dropped_is_drawn_for_each_part_of_the_batch_by_itself():
    adapter = LowRank(nn.Linear(50, 40), rank=2, alpha=1.0, dropout=0.25, generator=generator())
    ones = torch.ones(6, 30, 50)
    assert torch.equal(adapter.dropped(ones), ones)
    adapter.generators = [generator(s) for s in (3, 4, 5)]
    whole = adapter.dropped(ones)
    assert whole.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float((whole == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(whole[:2], whole[2:4])
    adapter.generators = [generator(4)]
    assert torch.equal(adapter.dropped(ones[2:4]), whole[2:4])


def test_only_the_input_of_the_adapter_is_dropped():
    adapter = LowRank(nn.Linear(50, 40), rank=2, alpha=1.0, dropout=0.9, generator=generator())
    adapter.generators = [generator(3)]
    x = torch.randn(2, 50, generator=generator(6))
    assert torch.equal(adapter(x), adapter.layer(x))  # up is zero


def test_dropout_does_not_draw_from_the_global_generator():
    before = torch.get_rng_state()
    adapter = LowRank(nn.Linear(50, 40), rank=2, alpha=1.0, dropout=0.9, generator=generator())
    adapter.generators = [generator(3)]
    drawn = torch.get_rng_state()
    adapter(torch.ones(2, 50))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not torch.equal(before, drawn)  # of nn.Linear, which draws its own


def test_under_autocast_products_are_in_bfloat16_and_weights_stay_in_float32(waveforms):
    network = encoder_of("eat").network
    adapters = adapted(network, (1, 2))
    with torch.autocast("cpu", torch.bfloat16):
        half = network(waveforms, (2,)).grid
    half.float().square().sum().backward()
    assert all(a.down.dtype == a.up.grad.dtype == torch.float32 for a in adapters.values())
    np.testing.assert_allclose(half.float().detach(), network(waveforms, (2,)).grid.detach(), atol=0.1)


# within a network


@pytest.mark.parametrize("name", PRETRAINED)
def test_an_adapter_that_has_learnt_nothing_changes_nothing(name, waveforms):
    network = encoder_of(name).network
    with torch.inference_mode():  # with gradients, torch may take other kernels
        before = network(waveforms, (2,)).grid
    attach(
        network,
        layers_of(network, BLOCKS.get(name, (1, 2))),
        rank=3,
        alpha=4.0,
        generator=generator(),
        dropout=0.5,
    )
    with torch.inference_mode():
        assert torch.equal(network(waveforms, (2,)).grid, before)


@pytest.mark.parametrize("name", PRETRAINED)
def test_merged_and_unmerged_are_the_same(name, waveforms):
    blocks = BLOCKS.get(name, (1, 2))
    network, merged = encoder_of(name).network, encoder_of(name).network
    plain = network(waveforms, blocks[-1:]).grid
    adapters = adapted(network, blocks)
    merge(merged, arrays(adapters), "here")
    expected = network(waveforms, blocks[-1:]).grid.detach()
    np.testing.assert_allclose(merged(waveforms, blocks[-1:]).grid, expected, rtol=1e-5, atol=1e-5)
    assert float((expected - plain).abs().max()) > 0.01 * float(plain.abs().max())


@pytest.mark.parametrize("name", PRETRAINED)
def test_forward_is_hear_of_the_spectrogram(name, waveforms):
    network = encoder_of(name).network
    spectrogram = network.spectrogram(waveforms)
    assert spectrogram.ndim == 3
    bands = {"beats": 128, "ced": 64, "eat": 128, "efficientat": 128, "m2d": 80}[name]
    assert spectrogram.shape[:2] == (2, bands)
    assert spectrogram.shape[2] == {"eat": 160, "efficientat": 75}.get(name, spectrogram.shape[2])
    whole = network(waveforms, (1,)).grid
    assert torch.equal(network.hear(spectrogram, (1,)).grid, whole)
    assert not torch.equal(network.hear(0.9 * spectrogram, (1,)).grid, whole)


@pytest.mark.parametrize("name", PRETRAINED)
def test_adapters_alone_have_gradients(name, waveforms):
    network = encoder_of(name).network
    adapters = adapted(network, BLOCKS.get(name, (1, 2)))
    network(waveforms, BLOCKS.get(name, (1, 2))[-1:]).grid.square().sum().backward()
    own = {id(p) for adapter in adapters.values() for p in (adapter.down, adapter.up)}
    assert {id(p) for p in network.parameters() if p.grad is not None} == own
    assert {id(p) for p in network.parameters() if p.requires_grad} == own
    assert all(float(p.grad.abs().max()) > 0 for p in network.parameters() if p.requires_grad)


def test_eat_base_has_184320_numbers_in_the_adapters_of_the_report():
    with torch.device("meta"):
        network = EatNetwork()
    adapters = attach(
        network, layers_of(network, (6, 7, 8, 9, 10)), rank=8, alpha=16.0, generator=generator()
    )
    assert sum(p.numel() for a in adapters.values() for p in (a.down, a.up)) == 184_320
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 184_320
    assert list(adapters) == [f"blocks.{i}.attn.{layer}" for i in range(5, 10) for layer in ("qkv", "proj")]


@pytest.mark.parametrize("name", PRETRAINED)
def test_layers_that_can_be_adapted_are_within_their_block_alone(name):
    network = encoder_of(name).network
    found = [layer for block in network.known_blocks for layer in network.adaptable(block)]
    assert max(Counter(found).values()) == 1
    assert all(isinstance(network.get_submodule(layer), nn.Linear | nn.Conv2d) for layer in found)
    assert not any("patch" in layer for layer in found)
    kinds = {"beats": 4, "ced": 2, "eat": 2, "m2d": 2}
    if name != "efficientat":
        assert [len(network.adaptable(block)) for block in network.known_blocks] == [kinds[name]] * 2


def test_of_efficientat_all_convolutions_of_single_pixels_can_be_adapted():
    network = tiny_weights.NETWORKS["efficientat"]()
    assert network.adaptable(0) == ()
    assert network.adaptable(2) == ("features.2.block.0.0", "features.2.block.2.0")
    assert network.adaptable(16) == ("features.16.0",)
    assert network.adaptable(4) == (
        "features.4.block.0.0",
        "features.4.block.3.0",
    )  # and not what squeezes channels


def test_targets_choose_among_the_layers_of_each_block():
    network = tiny_weights.NETWORKS["eat"]()
    assert layers_of(network, (2,)) == ("blocks.1.attn.qkv", "blocks.1.attn.proj")
    assert layers_of(network, (2, 1), targets=("attn.proj",)) == ("blocks.1.attn.proj", "blocks.0.attn.proj")
    both = layers_of(network, (1,), targets=("attn.proj", "attn.qkv"))
    assert both == ("blocks.0.attn.qkv", "blocks.0.attn.proj")  # in the order of the network
    assert layers_of(network, (1,), targets=("proj",)) == ("blocks.0.attn.proj",)  # never the patches'


def test_the_arrays_of_an_adapter_need_no_other_number():
    network = tiny_weights.NETWORKS["eat"]()
    adapters = adapted(network, (2,))
    found = arrays(adapters)
    assert list(found) == [f"blocks.1.attn.{n}.{end}" for n in ("qkv", "proj") for end in ("down", "up")]
    adapter = adapters["blocks.1.attn.qkv"]
    np.testing.assert_array_equal(found["blocks.1.attn.qkv.down"], adapter.down.detach())
    np.testing.assert_array_equal(found["blocks.1.attn.qkv.up"], 2 * adapter.up.detach())
    assert found["blocks.1.attn.qkv.up"].shape == (192, 3)
    found["blocks.1.attn.qkv.down"][:] = 0
    assert adapter.down.detach().any()


# a frozen encoder


@pytest.fixture
def learnt():
    """Arrays of an adapter of the tiny EAT."""
    return arrays(adapted(encoder_of("eat").network, (1, 2)))


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_frozen_encoder_takes_an_adapter_up_and_gives_it_again(name, waveforms):
    blocks = BLOCKS.get(name, (1, 2))
    encoder, clip = encoder_of(name, blocks=blocks[-1:]), waveforms.numpy()
    plain = encoder(clip)
    unmerged = encoder_of(name, blocks=blocks[-1:])
    learnt = arrays(adapted(unmerged.network, blocks))
    encoder.with_arrays(learnt)
    found = encoder(clip)
    assert np.abs(found - plain).max() > 0.01 * np.abs(plain).max()
    with torch.no_grad():
        np.testing.assert_allclose(found, unmerged(clip), rtol=1e-5, atol=1e-5)
    assert {n: a.tobytes() for n, a in encoder.arrays().items()} == {
        n: a.tobytes() for n, a in learnt.items()
    }
    again = encoder_of(name, blocks=blocks[-1:]).with_arrays(encoder.arrays())
    np.testing.assert_array_equal(again(clip), found)
    assert again.parameters == encoder_of(name).parameters
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder))(clip), found)
    np.testing.assert_array_equal(encoder.with_arrays({})(clip), plain)
    assert encoder.arrays() == {}


def test_the_file_of_the_weights_is_left_alone(learnt, waveforms):
    path = tiny_weights.written("eat")
    before = path.read_bytes()
    encoder_of("eat").with_arrays(learnt)(waveforms.numpy())
    assert path.read_bytes() == before


def test_an_encoder_keeps_arrays_of_its_own(learnt, waveforms):
    encoder = encoder_of("eat").with_arrays(learnt)
    expected = encoder_of("eat").with_arrays(learnt)(waveforms.numpy())
    for array in learnt.values():
        array[:] = 0
    np.testing.assert_array_equal(encoder(waveforms.numpy()), expected)


def test_the_digest_is_of_names_shapes_and_bytes(learnt):
    encoder = encoder_of("eat")
    first = encoder.with_arrays(learnt).adapter_digest
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert encoder.with_arrays(dict(reversed(learnt.items()))).adapter_digest == first
    others = [
        {name.replace("qkv", "kqv"): array for name, array in learnt.items()},
        {name: array.T if array.shape == (64, 3) else array for name, array in learnt.items()},
        {name: np.nextafter(array, np.float32(1)) for name, array in learnt.items()},
    ]
    assert len({first, *map(digest_arrays, others)}) == 4


def test_embeddings_of_an_adapted_encoder_are_kept_apart(learnt):
    def weights(encoder):
        return origins(encoder, "eat", {}, "abc", view="near")["near"].weights

    encoder = encoder_of("eat")
    assert weights(encoder) == "abc"
    assert weights(encoder.with_arrays(learnt)) == f"abc+{encoder.adapter_digest}"
    halved = {name: array / 2 for name, array in learnt.items()}
    assert weights(encoder.with_arrays(halved)) not in ("abc", f"abc+{digest_arrays(learnt)}")


@pytest.mark.parametrize("name", ["eat", "efficientat"])
def test_integers_are_made_of_the_adapted_weights(name, waveforms):
    pytest.importorskip("onnxruntime")
    blocks, clip = BLOCKS.get(name, (1, 2)), waveforms.numpy()
    learnt = arrays(adapted(encoder_of(name).network, blocks))
    encoder = encoder_of(name, blocks=blocks[-1:], precision="int8")
    plain, found = encoder(clip), encoder.with_arrays(learnt)(clip)
    exact = encoder_of(name, blocks=blocks[-1:]).with_arrays(learnt)(clip)
    assert np.abs(found - exact).mean() < 0.5 * np.abs(plain - exact).mean()


# what is refused


@pytest.mark.parametrize(
    ("blocks", "targets", "match"),
    [
        ((), (), r"blocks=\(\): give the numbers of one block or more, each once"),
        ((1, 1), (), r"blocks=\(1, 1\): give the numbers of one block or more, each once"),
        ((0, 1, 3), (), r"blocks=\[0, 3\]: there are blocks 1 to 2"),
        (
            (1, 2),
            ("attn.qkv", "attn.q", "patch_embed.proj"),
            r"targets=\['attn.q', 'patch_embed.proj'\]: must name one layer of block 1 each, .* it has "
            r"blocks\.0\.attn\.qkv, blocks\.0\.attn\.proj",
        ),
        ((1,), ("roj",), r"targets=\['roj'\]"),
    ],
)
def test_layers_that_a_network_has_not(blocks, targets, match):
    with pytest.raises(ValueError, match=match):
        layers_of(tiny_weights.NETWORKS["eat"](), blocks, targets=targets)


def test_a_target_that_two_layers_have():
    network = tiny_weights.NETWORKS["efficientat"]()
    with pytest.raises(ValueError, match=r"targets=\['0'\]: must name one layer of block 2 each"):
        layers_of(network, (2,), targets=("0",))


def test_a_block_without_any_such_layer():
    network = tiny_weights.NETWORKS["efficientat"]()
    with pytest.raises(ValueError, match="block 0 has nothing to adapt, neither a linear layer nor"):
        layers_of(network, (0, 1))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rank": 0}, r"rank=0, alpha=4, dropout=0: at least 1, above 0, from 0 to below 1"),
        ({"alpha": 0.0}, r"rank=3, alpha=0, dropout=0: at least 1"),
        ({"alpha": math.nan}, r"rank=3, alpha=nan, dropout=0: at least 1"),
        ({"dropout": 1.0}, r"rank=3, alpha=4, dropout=1: at least 1"),
        ({"dropout": -0.1}, r"rank=3, alpha=4, dropout=-0\.1: at least 1"),
    ],
)
def test_options_of_an_adapter_out_of_their_range(options, match):
    network = tiny_weights.NETWORKS["eat"]()
    with pytest.raises(ValueError, match=match):
        attach(
            network,
            ["blocks.0.attn.qkv"],
            **{"rank": 3, "alpha": 4.0, "generator": generator()} | options,
        )


@pytest.mark.parametrize("name", ["blocks.2.attn.qkv", "patch_embed.proj", "blocks.0.norm1", "blocks.0"])
def test_what_cannot_be_adapted(name):
    network = tiny_weights.NETWORKS["eat"]()
    with pytest.raises(ValueError, match=rf"cannot be adapted: {re.escape(name)}; only a linear layer or a"):
        attach(network, ["blocks.0.attn.qkv", name], rank=1, alpha=1.0, generator=generator())
    assert not any(isinstance(module, LowRank) for module in network.modules())


def test_a_layer_is_adapted_only_once():
    network = tiny_weights.NETWORKS["eat"]()
    adapted(network, (1,))
    for name in ("blocks.0.attn.qkv", "blocks.0.attn.qkv.layer"):
        with pytest.raises(ValueError, match=rf"cannot be adapted: {re.escape(name)}; .* only once"):
            attach(network, [name], rank=1, alpha=1.0, generator=generator())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"a.down": (2, 3)}, r"the arrays of 'tiny': .* among a\.down is no a\.up"),
        ({"a.up": (2, 3)}, r"among a\.up is no a\.down"),
        ({"a.up": (2, 3), "a.down": (3, 2), "a.alpha": ()}, r"is no a\.alpha\.down, a\.alpha\.up"),
        ({f"{n}.up": (2, 3) for n in range(9)}, r"5\.up, and 3 more is no 0\.down, .*, and 3 more"),
        ({"a.up": (2, 3), "a.down": (2, 3)}, r"up \(outputs, rank\): a: down \(2, 3\), up \(2, 3\)$"),
        ({"a.up": (3,), "a.down": (3, 2)}, r"down must be \(rank, inputs\) .*: a: down \(3, 2\), up \(3,\)$"),
        ({"a.up": (2, 3), "a.down": (3,)}, r"down must be \(rank, inputs\) .*: a: down \(3,\), up \(2, 3\)$"),
    ],
)
def test_arrays_that_are_no_adapters(given, match):
    with pytest.raises(ValueError, match=match):
        Tiny().with_arrays({name: np.zeros(shape) for name, shape in given.items()})


def test_adapters_of_another_network_are_refused_when_it_is_built(tmp_path):
    checkpoints.write(tmp_path / "tiny.safetensors", Net().state_dict(), configuration={})
    shapes = {
        "frames.up": (5, 2),
        "frames.down": (2, 8),
        "norm.up": (8, 2),
        "norm.down": (2, 8),
        "b.up": (1, 1),
        "b.down": (1, 1),
    }
    encoder = Tiny(weights=str(tmp_path / "tiny.safetensors"))
    encoder.with_arrays({name: np.zeros(shape) for name, shape in shapes.items()})
    with pytest.raises(
        ValueError,
        match=r"the adapter of .*tiny\.safetensors: not the adapters of this network: 2 of no layer that can be "
        r"adapted \(b, norm\); 1 of another shape \(frames: \(5, 8\) instead of \(6, 8\)\)",
    ):
        _ = encoder.network
