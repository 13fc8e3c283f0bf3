"""Networks in integers are nearly those in float32, and a clip's tokens are its own."""

from __future__ import annotations

import sys
from dataclasses import replace

import naive_int8
import numpy as np
import pytest
import torch
from torch import nn

from nearfar.encoders.beats import ITERATION_3, BeatsNetwork
from nearfar.encoders.ced import BASE as CED
from nearfar.encoders.ced import CedNetwork
from nearfar.encoders.eat import BASE as EAT
from nearfar.encoders.eat import EatNetwork
from nearfar.encoders.efficientat import MN04, EfficientAt, Network
from nearfar.encoders.int8 import PixelProduct, Product, integers, n_weights, with_integers
from nearfar.encoders.m2d import BASE as M2D
from nearfar.encoders.m2d import M2dNetwork

SMALL = {"dim": 64, "heads": 4, "depth": 2}
SMALL_BEATS = replace(
    ITERATION_3, encoder_layers=2, encoder_embed_dim=64, encoder_ffn_embed_dim=128, encoder_attention_heads=4
)
NETWORKS = {
    "eat": lambda: EatNetwork(replace(EAT, **SMALL), frames="clip"),
    "ced": lambda: CedNetwork(replace(CED, **SMALL), classes=3),
    "m2d": lambda: M2dNetwork(replace(M2D, **SMALL)),
    "beats": lambda: BeatsNetwork(SMALL_BEATS),
    "efficientat": lambda: Network(MN04),
}
BLOCK = 2  # whose tokens are compared
CLOSE = 0.05  # root mean square of the difference of tokens, of theirs; one product's is 0.01
CLOSE_OF_MN04 = 0.3  # ditto; twelve blocks of few channels each, 0.19 on recordings
ROUNDING = 1e-3  # ditto, where rounding in float32 moves a few numbers to the next integer


@pytest.fixture
def installed():
    pytest.importorskip("onnx", reason="the extra int8 is not installed")
    pytest.importorskip("onnxruntime", reason="the extra int8 is not installed")


@pytest.fixture
def waveforms(rng):
    return torch.tensor(rng.standard_normal((2, 16000)) * np.array([[0.3], [0.003]]), dtype=torch.float32)


@pytest.fixture
def make(rng):
    def made(name):
        """One with weights of the size that training gives."""
        network = NETWORKS[name]().eval().requires_grad_(False)
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.tensor(rng.standard_normal(weight.shape) * weight[0].numel() ** -0.5))
        return network

    return made


def difference(found, expected):
    """Root mean square, over that of what is expected."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.usefixtures("installed")
def test_a_product_is_what_its_definition_says(rng):
    layer = nn.Linear(24, 5)
    x = rng.standard_normal((7, 24)).astype(np.float32)
    x[0], x[1] = 0.0, 3.5  # rows without a step
    with torch.no_grad():
        layer.weight[2] = 0.0  # a column without a scale
        found = Product(layer.weight, layer.bias)(torch.tensor(x))
        weight, bias = (tensor.double().numpy() for tensor in (layer.weight, layer.bias))
    np.testing.assert_allclose(found.numpy(), naive_int8.product(x, weight, bias), atol=2e-5)


@pytest.mark.usefixtures("installed")
def test_largest_integers_do_not_saturate():
    layer = nn.Linear(512, 3, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.ones(1, 512)
    x[0, 0] = 0.0  # all others become 255, and all weights 64
    with torch.inference_mode():
        torch.testing.assert_close(Product(layer.weight, None)(x), layer(x), rtol=1e-6, atol=0)


@pytest.mark.usefixtures("installed")
def test_a_convolution_of_single_pixels_is_a_product(rng):
    layer = nn.Conv2d(12, 7, 1, bias=False).requires_grad_(False)
    maps = torch.tensor(rng.standard_normal((2, 12, 5, 3)), dtype=torch.float32)
    found = PixelProduct(layer.weight.flatten(1), None)(maps)
    assert found.shape == (2, 7, 5, 3)
    assert difference(found, layer(maps)) < CLOSE


def test_weights_have_seven_bits_and_a_scale_of_each_column(rng):
    weight = (rng.standard_normal((200, 3)) * np.array([1.0, 1e-3, 0.0])).astype(np.float32)
    w, scale = integers(weight)
    np.testing.assert_array_equal(np.abs(w).max(axis=0), [64, 64, 0])
    assert (np.abs(w * scale - weight) <= scale / 2 * 1.001).all()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_are_nearly_those_in_float32(make, waveforms, name):
    network = make(name)
    with torch.inference_mode():
        expected = network(waveforms, (BLOCK,)).grid
        count = sum(weight.numel() for weight in network.parameters())
        assert with_integers(network) is network
        found = network(waveforms, (BLOCK,)).grid
    assert found.shape == expected.shape
    assert 0 < difference(found, expected) < CLOSE
    assert n_weights(network) == count


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", NETWORKS)
def test_every_linear_layer_is_in_integers(make, name):
    network = with_integers(make(name))
    left = [module for module in network.modules() if isinstance(module, nn.Linear)]
    pixels = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert not left
    assert not [layer for layer in pixels if layer.groups == 1]
    assert any(isinstance(module, Product) for module in network.modules())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["eat", "beats"])
def test_a_clip_has_its_tokens_beside_any_others_and_at_any_length(make, waveforms, name):
    network = with_integers(make(name))
    with torch.inference_mode():
        both = network(waveforms, (BLOCK,)).grid
        for clip, tokens in zip(waveforms, both, strict=True):
            assert difference(network(clip[None], (BLOCK,)).grid[0], tokens) < ROUNDING
        shorter = network(waveforms[:, :12000], (BLOCK,)).grid
    assert shorter.shape[2] < both.shape[2]


@pytest.mark.usefixtures("installed")
def test_an_encoder_from_its_file(shared, waveforms):
    path = shared / "weights" / "mn04_as_mAP_432.pt"
    if not path.is_file():
        pytest.skip(f"needs {path}, which is not here")
    exact, found = (EfficientAt(weights=str(path), device="cpu", precision=p) for p in ("float32", "int8"))
    tokens = found(waveforms.numpy())
    assert tokens.dtype == np.float32
    assert found.parameters == exact.parameters
    expected = exact(waveforms.numpy())
    assert 0 < np.linalg.norm(tokens - expected) / np.linalg.norm(expected) < CLOSE_OF_MN04


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_it_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError,
        match=r"precision='int8' needs packages that are not installed here \(.*\); .*'nearfar\[int8\]'",
    ):
        with_integers(nn.Sequential(nn.Linear(2, 2)))
