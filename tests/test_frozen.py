"""What all pretrained encoders share, on a tiny network."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from tiny_encoder import Net, Tiny

from nearfar.encoders import choosing, frozen, kept, pretrained
from nearfar.encoders.checkpoints import CheckpointError, write
from nearfar.encoders.devices import has_bfloat16
from nearfar.encoders.frozen import Frozen, Tokens
from nearfar.encoders.pretrained import WeightsError


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    write(tmp_path / "tiny.safetensors", Net().state_dict(), configuration={})
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def encoder(path):
    return Tiny(weights=str(path), blocks=(2, 1))


@pytest.fixture
def waveforms(rng):
    return rng.standard_normal((3, 33)).astype(np.float32)


def test_arrays_go_in_and_come_out(encoder, waveforms):
    waveforms.setflags(write=False)
    tokens = encoder(waveforms)
    assert tokens.shape == (3, 2, 4, 2, 3)
    assert tokens.dtype == np.float32
    np.testing.assert_array_equal(tokens[:, 0], 2 * tokens[:, 1])
    np.testing.assert_array_equal(encoder(waveforms), tokens)


def test_the_token_of_the_clip_is_apart(encoder, waveforms):
    found = encoder.tokens(waveforms)
    assert found.cls.shape == (3, 2, 3)
    np.testing.assert_array_equal(found.grid.numpy(), encoder(waveforms))


def test_nothing_is_read_before_it_is_needed(tmp_path, waveforms):
    encoder = Tiny(weights=str(tmp_path / "none.safetensors"))
    assert encoder.arrays() == {}
    with pytest.raises(WeightsError, match=r"none\.safetensors: no such file of weights"):
        encoder(waveforms)


def test_the_file_is_read_once(encoder, waveforms):
    before = Tiny.built
    encoder(waveforms)
    encoder(waveforms)
    assert Tiny.built == before + 1


def test_the_network_is_frozen_but_not_of_inference_alone(encoder, waveforms):
    encoder(waveforms)
    assert not encoder.network.training
    assert not any(p.requires_grad or p.is_inference() for p in encoder.network.parameters())
    given = torch.tensor(waveforms, requires_grad=True)
    encoder.network(given, (1,)).grid.sum().backward()
    assert given.grad.any()


def test_half_precision_gives_nearly_the_same_in_float32(path, encoder, waveforms):
    half = Tiny(weights=str(path), blocks=(2, 1), precision="bfloat16")
    found = half(waveforms)
    assert found.dtype == np.float32
    assert half.tokens(waveforms).cls.dtype == torch.float32
    np.testing.assert_allclose(found, encoder(waveforms), atol=0.05)
    assert (found != encoder(waveforms)).any()


def test_digest_and_parameters_are_those_of_the_file(path, encoder):
    assert encoder.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert encoder.parameters == 8 * 6 + 2 * 8


def test_another_process_reads_the_file_itself(encoder, waveforms):
    tokens = encoder(waveforms)
    sent = pickle.dumps(encoder)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent)(waveforms), tokens)


def test_weights_of_another_network_are_refused(encoder, path, waveforms):
    write(path, {"frames.weight": torch.zeros(6, 8)}, configuration={})
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(str(path))}: not the weights.* 5 missing \(norm\.weight"
    ):
        encoder(waveforms)


def test_a_block_that_is_not_there(path, waveforms):
    with pytest.raises(ValueError, match=r"blocks=\[3, 0\]: .*tiny\.safetensors has the blocks 1 to 2"):
        Tiny(weights=str(path), blocks=(3, 1, 0))(waveforms)


@pytest.mark.parametrize("blocks", [(), (1, 1)])
def test_blocks_are_one_or_more_each_once(blocks):
    with pytest.raises(ValueError, match=r"blocks=\(.*\): give the numbers of one block or more, each once"):
        Tiny(blocks=blocks)


def test_an_unknown_precision():
    with pytest.raises(
        ValueError, match=r"precision='float16': must be one of auto, float32, bfloat16, int8, "
    ):
        Tiny(precision="float16")


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_processors_with_bfloat16_are_known(path, monkeypatch, avx512, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert has_bfloat16(torch.device("cpu")) == (avx512 or amx)
    meant = "bfloat16" if avx512 or amx else "float32"
    assert choosing.unmeasured(Tiny(weights=str(path), precision="auto")) == meant


def test_a_device_of_another_kind_is_not_known_to_have_bfloat16():
    assert not has_bfloat16(torch.device("meta"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_auto_on_a_gpu_is_bfloat16_where_it_has_it(path):
    expected = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    auto = Tiny(weights=str(path), precision="auto", device="cuda")
    assert auto.precision_on(torch.device("cuda")) == expected


def test_integers_are_for_the_processor(path):
    integers = Tiny(weights=str(path), precision="int8")
    assert integers.precision_on(torch.device("cpu")) == "int8"
    with pytest.raises(
        ValueError, match="precision='int8' is for the processor, but device='cuda:0'; take device='cpu'"
    ):
        integers.precision_on(torch.device("cuda:0"))


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(path, waveforms, device):
    with pytest.raises(
        ValueError,
        match=rf"device='{device}': cannot be used here, where there are \d+ CUDA devices; take 'cpu'",
    ):
        Tiny(weights=str(path), device=device)(waveforms)


@pytest.mark.parametrize("shape", [(3, 7), (8,), (1, 1, 8)])
def test_waveforms_of_another_shape(encoder, shape):
    with pytest.raises(
        ValueError,
        match=r"waveforms of shape .*: 'tiny' takes \(batch, samples\), at least 8 samples \(0\.08 s",
    ):
        encoder(np.zeros(shape, np.float32))


def test_weights_of_another_encoder(monkeypatch):
    with pytest.raises(ValueError, match=r"weights='eat' are of 'eat'; 'tiny' has: none"):
        Tiny(weights="eat")
    record = pretrained.PRETRAINED["mn04_as"]
    monkeypatch.setattr(Tiny, "ENCODER", record.encoder)
    with pytest.raises(ValueError, match=r"weights='eat' are of 'eat'; 'efficientat' has: mn04_as"):
        Tiny(weights="eat")
    assert Tiny(weights="mn04_as").record is record
    assert Tiny(weights="own.pt").record is None
    with pytest.raises(ValueError, match="no weights 'mn04'; did you mean 'mn04_as'"):
        Tiny(weights="mn04")


def test_without_an_adapter_it_has_no_arrays(encoder, waveforms):
    tokens, network = encoder(waveforms), encoder.network
    assert encoder.with_arrays({}) is encoder
    assert encoder.network is network
    assert encoder.adapter_digest is None
    with pytest.raises(
        ValueError, match=r"the arrays of 'tiny': adapters are pairs .* among w is no w\.down"
    ):
        encoder.with_arrays({"w": np.zeros(1)})
    np.testing.assert_array_equal(encoder(waveforms), tokens)


def test_an_encoder_says_how_its_network_is_built(path):
    class Unfinished(Tiny):
        build = Frozen.build

    with pytest.raises(TypeError, match=r"abstract class Unfinished .*build"):
        Unfinished(weights=str(path))


def test_tokens_of_any_blocks_in_one_run(path, encoder, waveforms):
    found = encoder.by_block(waveforms, [1, 2])
    assert list(found) == [1, 2]
    for block, tokens in found.items():
        alone = Tiny(weights=str(path), blocks=(block,))
        np.testing.assert_array_equal(tokens, alone(waveforms))
    with pytest.raises(ValueError, match=r"blocks=\[3\]: .*tiny\.safetensors has the blocks 1 to 2"):
        encoder.by_block(waveforms, [2, 3])
    with pytest.raises(ValueError, match=r"waveforms of shape .*: 'tiny' takes \(batch, samples\)"):
        encoder.by_block(waveforms[0], [1])


def test_recordings_are_computed_together_on_a_gpu_alone(encoder, monkeypatch):
    assert encoder.batch_size(1000) == 1
    monkeypatch.setattr(frozen, "chosen", lambda _: torch.device("cuda"))
    at_once = frozen.RECORDINGS_AT_ONCE
    longest = frozen.SAMPLES_AT_ONCE // at_once
    lengths = [0, 1000, longest, longest + 1, frozen.SAMPLES_AT_ONCE, 2 * frozen.SAMPLES_AT_ONCE]
    assert [encoder.batch_size(n) for n in lengths] == [at_once, at_once, at_once, at_once - 1, 1, 1]


def test_tokens_need_no_token_of_the_clip(encoder, waveforms, monkeypatch):
    bare = encoder.network.hear
    monkeypatch.setattr(encoder.network, "hear", lambda heard, blocks: Tokens(bare(heard, blocks).grid))
    assert encoder.tokens(waveforms).cls is None


@pytest.fixture
def kept_networks(monkeypatch):
    """Networks are kept on the processor as on a GPU."""
    monkeypatch.setattr(kept, "DEVICES", frozenset({"cpu"}))
    monkeypatch.setattr(kept, "_networks", OrderedDict())


@pytest.mark.usefixtures("kept_networks")
def test_the_next_encoder_of_a_process_finds_the_network_loaded(path, waveforms):
    first, second = (Tiny(weights=str(path), device="cpu") for _ in range(2))
    np.testing.assert_array_equal(first(waveforms), second(waveforms))
    assert first.network is second.network


@pytest.mark.usefixtures("kept_networks")
def test_another_file_or_precision_is_another_network(path):
    first = Tiny(weights=str(path), device="cpu").network
    other = Net()
    torch.nn.init.ones_(next(iter(other.parameters())))
    write(path, other.state_dict(), configuration={})
    assert Tiny(weights=str(path), device="cpu").network is not first
    assert Tiny(weights=str(path), device="cpu", precision="bfloat16").network is not first
    assert len(kept._networks) == 3


@pytest.mark.usefixtures("kept_networks")
def test_few_networks_are_kept():
    for number in range(kept.MOST + 2):
        assert kept.kept(number, lambda number=number: [number]) == [number]
    assert list(kept._networks) == [2, 3, 4, 5]
    kept.kept(2, list)
    kept.kept(9, list)
    assert list(kept._networks) == [4, 5, 2, 9]
