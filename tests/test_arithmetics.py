"""Every arithmetic gives nearly the tokens of float32, and a clip's tokens are its own."""

from __future__ import annotations

import functools
import pickle
import shutil
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, gelu, linear

from nearfar.encoders import engines
from nearfar.encoders.arithmetic import ARITHMETICS, LEAST_COSINE, Arithmetic, ArithmeticName, EngineName
from nearfar.encoders.beats import ITERATION_3, BeatsNetwork
from nearfar.encoders.ced import BASE as CED
from nearfar.encoders.ced import CedNetwork
from nearfar.encoders.checkpoints import write
from nearfar.encoders.eat import BASE as EAT
from nearfar.encoders.eat import EatNetwork
from nearfar.encoders.efficientat import MN04, EfficientAt, Network
from nearfar.encoders.engines import bfloat16, layers
from nearfar.encoders.engines.bfloat16 import PackedBlock, PackedLinear, with_bfloat16
from nearfar.files.extras import MissingPackageError
from nearfar.systems.components import Component

PROCESSOR = torch.device("cpu")
SMALL = {"dim": 64, "heads": 4, "depth": 2}
NETWORKS = {
    "eat": lambda: EatNetwork(replace(EAT, **SMALL), frames="clip"),
    "ced": lambda: CedNetwork(replace(CED, **SMALL, norm="post"), classes=3),
    "beats": lambda: BeatsNetwork(
        replace(
            ITERATION_3,
            encoder_layers=2,
            encoder_embed_dim=64,
            encoder_ffn_embed_dim=128,
            encoder_attention_heads=4,
        )
    ),
    "efficientat": lambda: Network(MN04),
}
BLOCK = 2
CLOSE = {"float32": 1 - 1e-6, "bfloat16": 0.999, "int8": 0.99}  # cosine of tokens; of networks this small
TO_THE_LAST_BITS = {"rtol": 1e-4, "atol": 1e-5}
IN_TORCH = [name for name, arithmetic in ARITHMETICS.items() if arithmetic.engine == "eager"]
CONVERTED = [
    name for name, arithmetic in ARITHMETICS.items() if arithmetic.engine in ("onnxruntime", "openvino")
]
# An engine converts a network, for seconds, in one way for all its precisions; these tell most exactly how well
OF_EACH_ENGINE = ["float32_onnxruntime", "float32_openvino"]


def made(name):
    """One with weights of the size that training gives, always the same."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
    return network


@functools.cache
def engine_of(name, arithmetic):
    """A network and the engine made of it, once: what an engine has converted, it keeps."""
    if not ARITHMETICS[arithmetic].is_installed:
        pytest.skip(f"needs {ARITHMETICS[arithmetic].packages}")
    network = engines.with_weights_for(made(name), ARITHMETICS[arithmetic], PROCESSOR)
    return network, engines.prepare(network, ARITHMETICS[arithmetic], PROCESSOR)


@pytest.fixture
def waveforms(rng):
    """A clip, one that is 60 dB louder, and another."""
    scale = np.array([[0.001], [1.0], [0.001]])
    return torch.tensor(rng.standard_normal((3, 6000)) * scale, dtype=torch.float32)


def require_parity(name, arithmetic, waveforms, block=BLOCK):
    network, engine = engine_of(name, arithmetic)
    with torch.inference_mode():
        spectrogram = network.spectrogram(waveforms)
        expected = made(name).hear(spectrogram, (block,))
        found = engine.hear(spectrogram, (block,))
        alone = engine.hear(spectrogram[:1], (block,))
        (grid,) = engine.outputs(spectrogram, (block,))
    assert found.grid.dtype == torch.float32
    assert found.grid.shape == expected.grid.shape
    least = cosine_similarity(found.grid, expected.grid, dim=-1).mean()
    assert least > CLOSE[ARITHMETICS[arithmetic].precision]
    assert torch.equal(grid, found.grid[:, 0])
    if arithmetic == "float32":
        torch.testing.assert_close(alone.grid, found.grid[:1], **TO_THE_LAST_BITS)
    else:
        assert torch.equal(alone.grid, found.grid[:1])
    if expected.cls is not None:
        assert found.cls.shape == expected.cls.shape
        assert torch.equal(alone.cls, found.cls[:1]) or arithmetic == "float32"


@pytest.mark.parametrize(
    ("name", "arithmetic"),
    [
        *(("eat", arithmetic) for arithmetic in [*IN_TORCH, *CONVERTED]),
        *(("efficientat", arithmetic) for arithmetic in [*IN_TORCH, *OF_EACH_ENGINE]),
    ],
)
def test_every_arithmetic_is_nearly_float32_and_no_clip_hears_a_loud_one(name, arithmetic, waveforms):
    require_parity(name, arithmetic, waveforms)


@pytest.mark.parametrize("arithmetic", IN_TORCH)
@pytest.mark.parametrize("name", ["ced", "beats"])
def test_so_it_is_of_other_architectures(name, arithmetic, waveforms):
    require_parity(name, arithmetic, waveforms)


@pytest.mark.parametrize("arithmetic", OF_EACH_ENGINE)
@pytest.mark.parametrize("name", ["ced", "beats"])
def test_other_architectures_can_be_converted(name, arithmetic, waveforms):
    require_parity(name, arithmetic, waveforms)


@pytest.mark.slow
def test_what_is_compiled_is_nearly_float32(waveforms):
    """Of one block, in the precision for which it pays: each takes the compiler many seconds."""
    require_parity("eat", "bfloat16_compiled", waveforms, block=1)


@pytest.mark.parametrize("arithmetic", ["bfloat16", *OF_EACH_ENGINE])
def test_lengths_and_blocks_of_any_size_in_one_run(arithmetic, waveforms):
    network, engine = engine_of("efficientat", arithmetic)
    with torch.inference_mode():
        for samples, blocks in ((6000, (BLOCK,)), (5000, (1, BLOCK))):
            spectrogram = network.spectrogram(waveforms[:1, :samples])
            found = engine.outputs(spectrogram, blocks)
            expected = made("efficientat").outputs(spectrogram, blocks)
            assert [grid.shape for grid in found] == [grid.shape for grid in expected]
            assert cosine_similarity(found[-1], expected[-1], dim=-1).mean() > 0.999


def test_a_few_functions_are_kept():
    asked = []

    class Counting(layers.OfOneShape):
        def made(self, layers, spectrogram):
            asked.append(spectrogram.shape[-1])
            return layers

    network = made("efficientat")
    engine = Counting(network, ARITHMETICS["float32"])
    with torch.inference_mode():
        for frames in (40, 40, 41, 42, 40, 43, 44, 40, 41):
            engine.hear(torch.zeros(1, 128, frames), (1,))
    assert layers.FUNCTIONS_KEPT == 4
    assert asked == [40, 41, 42, 43, 44, 41]  # 41 was not heard for longest


def test_an_unknown_name_is_told_with_all_that_there_are():
    with pytest.raises(ValueError, match=r"Input should be 'auto', 'float32', .* or 'bfloat16_openvino'"):
        Component.resolve("encoder", "efficientat", {"precision": "float32_openvin"})


def test_names_say_precision_and_engine():
    assert tuple(ARITHMETICS) == get_args(ArithmeticName)
    assert {arithmetic.engine for arithmetic in ARITHMETICS.values()} == set(get_args(EngineName))
    for name, arithmetic in ARITHMETICS.items():
        engine = "" if arithmetic.engine == "eager" else f"_{arithmetic.engine}"
        assert name == arithmetic.precision + engine
        assert arithmetic.computes_on("cpu")
    assert not ARITHMETICS["int8"].computes_on("cuda")
    assert ARITHMETICS["bfloat16_compiled"].computes_on("cuda")
    assert not any(ARITHMETICS[name].computes_on("cuda") for name in CONVERTED)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        (name, arithmetic.packages[-1], arithmetic.extra)
        for name, arithmetic in ARITHMETICS.items()
        if arithmetic.extra
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingPackageError,
        match=rf"precision='{name}' needs packages that are not installed here .*'nearfar\[{extra}\]'",
    ):
        engines.prepare(nn.Identity(), ARITHMETICS[name], PROCESSOR)


def test_without_a_compiler_there_is_an_error(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    engine = engines.prepare(made("eat"), ARITHMETICS["float32_compiled"], PROCESSOR)
    with pytest.raises(
        ValueError,
        match=r"precision='float32_compiled' needs a C\+\+ compiler, and there is no (cl|g\+\+ or .*) here",
    ):
        engine.hear(torch.zeros(1, 128, 32), (1,))


def test_packed_products_are_those_of_torch():
    if not bfloat16.has_packed_products():
        pytest.skip("torch has no packed products here")
    torch.manual_seed(0)
    rows = torch.randn(2, 7, 24)
    for layer in (nn.Linear(24, 40), nn.Linear(24, 40, bias=False)):
        layer.requires_grad_(False)
        expected = linear(rows, layer.weight, layer.bias)
        torch.testing.assert_close(PackedLinear(layer)(rows).float(), expected, atol=0.02, rtol=0.02)
        found = PackedLinear(layer, "gelu")(rows).float()
        torch.testing.assert_close(found, gelu(expected), atol=0.02, rtol=0.02)


def test_packed_products_are_tried_before_they_are_used(monkeypatch):
    for wrong in (lambda rows, *_: rows, lambda rows, *_: torch.zeros(len(rows), bfloat16.TRIED[-1])):
        with monkeypatch.context() as patch:
            patch.setattr(torch.ops.mkldnn, "_linear_pointwise", wrong)
            bfloat16.has_packed_products.cache_clear()
            assert not bfloat16.has_packed_products()
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        bfloat16.has_packed_products.cache_clear()
        assert not bfloat16.has_packed_products()
    bfloat16.has_packed_products.cache_clear()


def test_without_packed_products_weights_are_converted_as_they_lie(monkeypatch, waveforms):
    monkeypatch.setattr(bfloat16, "has_packed_products", lambda: False)
    network = with_bfloat16(made("eat"))
    assert not [m for m in network.modules() if isinstance(m, PackedBlock | PackedLinear)]
    assert {m.weight.dtype for m in network.modules() if isinstance(m, nn.Linear)} == {torch.bfloat16}
    assert {m.weight.dtype for m in network.modules() if isinstance(m, nn.LayerNorm)} == {torch.float32}
    require_parity("eat", "bfloat16", waveforms)


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "mn04.safetensors", made("efficientat").state_dict(), configuration={})
    return tmp_path / "mn04.safetensors"


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "bfloat16_openvino", "float32_onnxruntime"])
def test_an_encoder_in_any_arithmetic_is_as_in_float32_but_for_its_numbers(path, precision, rng):
    if not ARITHMETICS[precision].is_installed:
        pytest.skip(f"needs {ARITHMETICS[precision].packages}")
    exact = EfficientAt(weights=str(path), blocks=(4,), device="cpu")
    encoder = exact.computing_in(precision)
    assert (encoder.precision, exact.precision) == (precision, "float32")
    clips = rng.standard_normal((2, 5000)).astype(np.float32)
    tokens, expected = encoder(clips), exact(clips)
    assert tokens.dtype == np.float32
    assert 0 < np.linalg.norm(tokens - expected) < 0.5 * np.linalg.norm(expected)
    assert encoder.parameters == exact.parameters
    np.testing.assert_array_equal(encoder.by_block(clips, (4,))[4], tokens)
    again = pickle.loads(pickle.dumps(encoder))
    assert again.precision == precision
    if precision != "bfloat16_openvino":  # which is made again in the way of the others, for seconds
        np.testing.assert_array_equal(again(clips), tokens)


def test_an_adapter_is_merged_before(path, rng):
    clips = rng.standard_normal((1, 5000)).astype(np.float32)
    exact = EfficientAt(weights=str(path), device="cpu")
    layer = exact.network.adaptable(12)[0]
    outputs, inputs = exact.network.get_submodule(layer).weight.shape[:2]
    adapter = {
        f"{layer}.down": rng.standard_normal((2, inputs)).astype(np.float32),
        f"{layer}.up": rng.standard_normal((outputs, 2)).astype(np.float32),
    }
    half = exact.computing_in("bfloat16")
    plain = half(clips)
    adapted = half.with_arrays(adapter)(clips)
    expected = exact.with_arrays(adapter)(clips)
    assert np.linalg.norm(adapted - expected) < 0.1 * np.linalg.norm(expected)
    assert np.linalg.norm(adapted - plain) > 0.1 * np.linalg.norm(expected)


def test_the_default_is_float32_of_torch_alone():
    assert next(iter(ARITHMETICS.values())) == Arithmetic("float32", "float32", "eager", None)
    assert EfficientAt().precision == "float32"
    assert LEAST_COSINE > 0.999
