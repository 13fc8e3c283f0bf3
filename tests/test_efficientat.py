"""EfficientAT against a twin written from its equations, and with its real weights."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import naive_efficientat as naive
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.efficientat import (
    LARGE,
    MN04,
    Bottleneck,
    EfficientAt,
    Geometry,
    InvertedBottleneck,
    LogMel,
    Network,
    rounded,
    scaled,
)
from nearfar.encoders.features import Fbank
from nearfar.recordings import audio

SINE_WAVE, STATIC, SILENCE = 501, 515, 500  # classes of AudioSet
RATE = 32000

TINY = Geometry(
    stem=8,
    bottlenecks=(
        Bottleneck(3, 8, 8, False, "relu", 1),
        Bottleneck(5, 16, 8, True, "relu", 2),
        Bottleneck(5, 16, 8, True, "hard_swish", 1),
    ),
    last=16,
    hidden=8,
    classes=5,
    fbank=Fbank(rate=1000, n_mels=10, frame_ms=14, hop_ms=6, f_min=0.0, f_max=450.0),  # n_fft 16
)
TINY_STRIDES, TINY_HARD_SWISH = (1, 2, 1), 3


class Tiny(EfficientAt):
    GEOMETRY: ClassVar[Geometry] = TINY

    def __init__(self, *, sample_rate=TINY.fbank.rate, **options):
        super().__init__(sample_rate=sample_rate, **options)


def weighted(network, rng):
    """A network in evaluation mode, with random weights and running statistics."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, tensor.shape)))
        elif tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(rng.normal(scale=0.5, size=tensor.shape)))
    return network.eval().requires_grad_(False)


def arrays(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.fixture
def tiny(rng):
    return weighted(Network(TINY), rng)


@pytest.fixture
def tiny_file(tiny, tmp_path):
    save_file(tiny.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture(scope="module")
def mn04(shared):
    file = shared / "weights" / "mn04_as_mAP_432.pt"
    if not file.is_file():
        pytest.skip(f"needs the weights of mn04: {file}")
    return EfficientAt(weights=str(file), blocks=(12,), sample_rate=RATE)


class TestGeometry:
    def test_mn04_has_the_channels_of_its_file(self):
        assert MN04.channels == (8, 8, 16, 16, 16, 16, 16, 32, 32, 32, 32, 48, 48, 64, 64, 64, 384)
        expanded = (8, 24, 32, 32, 48, 48, 96, 80, 72, 72, 192, 272, 272, 384, 384)
        assert tuple(row.expanded for row in MN04.bottlenecks) == expanded
        assert MN04.hidden == 512

    def test_strides_and_activations_are_the_table_s(self):
        assert tuple(row.stride for row in LARGE.bottlenecks) == naive.STRIDES
        assert [row.activation for row in LARGE.bottlenecks] == ["relu"] * 6 + ["hard_swish"] * 9

    def test_a_block_of_10_s_has_the_published_size(self):
        frames = 1 + (10 * RATE - 1) // MN04.fbank.hop
        sizes = {
            n: (MN04.channels[n], 128 // MN04.strides[n], -(-frames // MN04.strides[n]))
            for n in (6, 12, 15, 16)
        }
        assert sizes == {6: (16, 16, 125), 12: (48, 8, 63), 15: (64, 4, 32), 16: (384, 4, 32)}

    def test_mn04_has_the_published_number_of_parameters(self):
        assert sum(p.numel() for p in Network(MN04).parameters()) == 983_599

    def test_its_frames_are_the_published_ones(self):
        assert (MN04.fbank.length, MN04.fbank.hop, MN04.fbank.n_fft) == (800, 320, 1024)

    def test_the_whole_width_is_the_paper_s(self):
        assert scaled(LARGE, 1.0) == LARGE

    @pytest.mark.parametrize(
        ("channels", "expected"),
        [
            (6.4, 8),
            (9.6, 16),
            (16, 16),
            (20, 24),
            (28.8, 32),
            (12, 16),
            (11.9, 16),
            (44.8, 48),
            (268.8, 272),
            (1, 8),
        ],
    )
    def test_channels_come_in_eights_and_lose_a_tenth_at_most(self, channels, expected):
        assert rounded(channels) == expected


class TestLogMel:
    @pytest.mark.parametrize("samples", [514, 1000, 3201, 4000])
    def test_is_the_twin_s(self, rng, samples):
        waveform = rng.normal(scale=0.1, size=samples)
        levels = LogMel(MN04.fbank).double()(torch.from_numpy(waveform)[None])
        np.testing.assert_allclose(levels[0, 0], naive.log_mel(waveform), atol=1e-5)

    def test_float32_is_close_to_the_twin(self, rng):
        waveform = rng.normal(scale=0.1, size=3200).astype(np.float32)
        levels = LogMel(MN04.fbank)(torch.from_numpy(waveform)[None])
        assert levels.dtype == torch.float32
        np.testing.assert_allclose(levels[0, 0], naive.log_mel(waveform.astype(np.float64)), atol=1e-4)

    @pytest.mark.parametrize(
        ("samples", "frames"), [(10 * RATE, 1000), (10 * RATE + 1, 1001), (641, 3), (640, 2)]
    )
    def test_a_frame_begins_every_hop(self, samples, frames):
        assert LogMel(MN04.fbank)(torch.zeros(1, samples)).shape == (1, 1, 128, frames)

    def test_silence_is_the_floor_everywhere(self):
        levels = LogMel(MN04.fbank)(torch.zeros(1, 2000))
        assert torch.allclose(levels, torch.full_like(levels, (np.log(1e-5) + 4.5) / 5))

    def test_the_shortest_waveform_is_the_one_said(self):
        front_end = LogMel(MN04.fbank)
        assert front_end(torch.zeros(1, MN04.min_samples)).shape[-1] == 2
        with pytest.raises(RuntimeError, match=r"[Pp]adding"):
            front_end(torch.zeros(1, MN04.min_samples - 1))

    def test_has_a_gradient(self, rng):
        waveforms = torch.from_numpy(rng.normal(size=(2, 40))).requires_grad_()
        assert torch.autograd.gradcheck(LogMel(TINY.fbank).double(), waveforms)

    def test_stays_in_float32_under_autocast(self, rng):
        waveforms = torch.from_numpy(rng.normal(size=(1, 100)).astype(np.float32))
        front_end = LogMel(TINY.fbank)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(front_end(waveforms), front_end(waveforms.clone()))
            assert front_end(waveforms).dtype == torch.float32
        assert torch.equal(front_end(waveforms), _under_autocast(front_end, waveforms))


def _under_autocast(module, *arguments):
    with torch.autocast("cpu", torch.bfloat16):
        return module(*arguments)


class TestInvertedBottleneck:
    @pytest.mark.parametrize("activation", ["relu", "hard_swish"])
    @pytest.mark.parametrize("squeezes", [True, False])
    @pytest.mark.parametrize(
        ("kernel", "expanded", "channels", "stride"),
        [(3, 8, 8, 1), (3, 24, 8, 1), (5, 24, 8, 2), (5, 8, 16, 1), (3, 16, 16, 2)],
    )
    def test_is_the_twin_s(self, rng, kernel, expanded, channels, stride, squeezes, activation):
        row = Bottleneck(kernel, expanded, channels, squeezes, activation, stride)
        block = weighted(InvertedBottleneck(8, row), rng).double()
        maps = rng.normal(size=(8, 7, 6))
        tensors = {f"here.{name}": array for name, array in arrays(block).items()}
        expected = naive.bottleneck(maps, tensors, "here", stride, getattr(naive, activation))
        np.testing.assert_allclose(block(torch.from_numpy(maps)[None])[0], expected, atol=1e-10)


class TestNetwork:
    @pytest.mark.parametrize("samples", [40, 97, 250])
    def test_every_block_is_the_twin_s(self, tiny, rng, samples):
        waveform = rng.normal(size=samples).astype(np.float32)
        levels = tiny.front_end(torch.from_numpy(waveform)[None])[0, 0].numpy()
        expected = naive.blocks(levels, arrays(tiny), TINY_STRIDES, TINY_HARD_SWISH)
        for n in tiny.known_blocks:
            grid = tiny(torch.from_numpy(waveform)[None], (n,)).grid
            np.testing.assert_allclose(grid[0, 0], expected[n].transpose(2, 1, 0), atol=1e-5)

    def test_front_end_and_blocks_together_are_the_twin_s(self, tiny, rng):
        waveform = rng.normal(size=120)
        fbank = TINY.fbank
        levels = naive.log_mel(
            waveform, rate=fbank.rate, n_fft=16, length=14, hop=6, n_mels=fbank.n_mels, f_max=fbank.f_max
        )
        expected = naive.blocks(levels, arrays(tiny), TINY_STRIDES, TINY_HARD_SWISH)
        grid = tiny.double()(torch.from_numpy(waveform)[None], (4,)).grid
        np.testing.assert_allclose(grid[0, 0], expected[4].transpose(2, 1, 0), atol=1e-4)
        probabilities = tiny.classify(torch.from_numpy(waveform)[None])
        np.testing.assert_allclose(
            probabilities[0], naive.probabilities(expected[4], arrays(tiny)), atol=1e-5
        )

    def test_blocks_of_one_size_come_in_the_order_asked_for(self, tiny, rng):
        waveforms = torch.from_numpy(rng.normal(size=(2, 60)).astype(np.float32))
        grid = tiny(waveforms, (3, 2)).grid
        assert grid.shape == (2, 2, 3, 3, 8)
        assert torch.equal(grid[:, 0], tiny(waveforms, (3,)).grid[:, 0])
        assert torch.equal(grid[:, 1], tiny(waveforms, (2,)).grid[:, 0])

    def test_blocks_of_different_size_are_refused(self, tiny):
        message = (
            r"blocks=\(0, 2\).*block 0: 8 channels, stride 2; block 2: 8 channels, stride 4.*one block at a"
        )
        with pytest.raises(ValueError, match=message):
            tiny(torch.zeros(1, 60), (0, 2))

    def test_blocks_of_different_channels_are_refused(self, tiny):
        with pytest.raises(ValueError, match=r"block 4: 16 channels, stride 4"):
            tiny(torch.zeros(1, 60), (3, 4))

    def test_a_waveform_s_tokens_do_not_depend_on_its_batch(self, tiny, rng):
        waveforms = torch.from_numpy(rng.normal(size=(3, 90)).astype(np.float32))
        together = tiny(waveforms, (4,)).grid
        alone = torch.cat([tiny(w[None], (4,)).grid for w in waveforms])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)

    def test_has_no_token_beside_the_grid(self, tiny):
        assert tiny(torch.zeros(1, 60), (4,)).cls is None

    def test_has_a_gradient_down_to_the_waveform(self, tiny, rng):
        waveforms = torch.from_numpy(rng.normal(size=(1, 60))).requires_grad_()
        assert torch.autograd.gradcheck(lambda w: tiny.double()(w, (2,)).grid, waveforms)

    def test_bfloat16_is_close_to_float32(self, tiny, rng):
        waveforms = torch.from_numpy(rng.normal(size=(1, 200)).astype(np.float32))
        grid = tiny(waveforms, (4,)).grid
        rounded_grid = _under_autocast(tiny, waveforms, (4,)).grid.float()
        assert not torch.equal(rounded_grid, grid)
        assert (rounded_grid - grid).norm() < 0.05 * grid.norm()


class TestEncoder:
    def test_blocks_of_different_size_are_no_encoder_s_but_come_from_one_run(self, tiny_file, rng):
        with pytest.raises(ValueError, match=r"blocks=\(0, 2\) have different sizes"):
            Tiny(weights=str(tiny_file), blocks=(0, 2))
        waveforms = rng.normal(size=(2, 60)).astype(np.float32)
        found = Tiny(weights=str(tiny_file), blocks=(4,)).by_block(waveforms, (2, 0))
        assert [tokens.shape for tokens in found.values()] == [(2, 1, 3, 3, 8), (2, 1, 5, 5, 8)]
        for block, tokens in found.items():
            alone = Tiny(weights=str(tiny_file), blocks=(block,))
            np.testing.assert_array_equal(tokens, alone(waveforms))

    def test_gives_tokens_of_a_file_s_weights(self, tiny, tiny_file, rng):
        waveforms = rng.normal(size=(2, 90)).astype(np.float32)
        encoder = Tiny(weights=str(tiny_file), blocks=(4,))
        tokens = encoder(waveforms)
        assert (tokens.dtype, tokens.shape) == (np.float32, (2, 1, 4, 3, 16))
        np.testing.assert_array_equal(tokens, tiny(torch.from_numpy(waveforms), (4,)).grid)

    def test_says_what_it_needs(self, tiny_file):
        encoder = Tiny(weights=str(tiny_file))
        assert (encoder.sample_rate, encoder.min_samples) == (1000, 10)
        assert (EfficientAt().sample_rate, EfficientAt().min_samples, EfficientAt().blocks) == (
            16000,
            257,
            (12,),
        )
        assert EfficientAt(sample_rate=RATE).min_samples == 514

    def test_brings_what_it_is_given_to_the_network_s_rate(self, tiny_file, rng):
        waveforms = rng.normal(size=(2, 60)).astype(np.float32)
        upsampled = audio.resample(waveforms, 500, 1000)
        assert upsampled.shape == (2, 120)
        found = Tiny(weights=str(tiny_file), blocks=(4,), sample_rate=500)(waveforms)
        np.testing.assert_array_equal(found, Tiny(weights=str(tiny_file), blocks=(4,))(upsampled))
        shortest = Tiny(weights=str(tiny_file), blocks=(4,), sample_rate=500).min_samples
        assert shortest == 5
        assert (
            Tiny(weights=str(tiny_file), blocks=(4,), sample_rate=500)(waveforms[:, :shortest]).shape[2] == 1
        )

    @pytest.mark.parametrize("rate", [0, 48000])
    def test_a_rate_that_the_network_has_no_use_for(self, rate):
        with pytest.raises(ValueError, match=rf"sample_rate={rate}: must be between 1 and 32000 Hz"):
            EfficientAt(sample_rate=rate)

    def test_takes_the_shortest_waveform_that_it_says(self, tiny_file):
        encoder = Tiny(weights=str(tiny_file), blocks=(4,))
        assert encoder(np.zeros((1, encoder.min_samples), np.float32)).shape[2] == 1

    def test_an_unknown_block_is_refused(self, tiny_file):
        with pytest.raises(ValueError, match=r"blocks=\[5\].*the blocks 0 to 4"):
            Tiny(weights=str(tiny_file), blocks=(5,))(np.zeros((1, 90), np.float32))

    def test_counts_its_parameters(self, tiny, tiny_file):
        assert Tiny(weights=str(tiny_file), blocks=(4,)).parameters == sum(
            p.numel() for p in tiny.parameters()
        )

    @pytest.mark.parametrize("name", ["features.2.block.2.conc_se_layers.0.fc1.bias", "classifier.5.weight"])
    def test_a_missing_tensor_is_refused_by_name(self, tiny, name):
        tensors = {k: v for k, v in tiny.state_dict().items() if k != name}
        with pytest.raises(CheckpointError, match=rf"one\.pt.*1 missing \({name}\)"):
            Tiny().build(tensors, "one.pt")

    def test_a_tensor_too_many_is_refused_by_name(self, tiny):
        tensors = {**tiny.state_dict(), "features.9.0.weight": torch.zeros(1)}
        with pytest.raises(CheckpointError, match=r"1 unexpected \(features\.9\.0\.weight\)"):
            Tiny().build(tensors, "one.pt")

    def test_a_tensor_of_another_shape_is_refused_by_name(self, tiny):
        tensors = {**tiny.state_dict(), "features.0.0.weight": torch.zeros(8, 3, 3, 3)}
        message = r"features\.0\.0\.weight: \(8, 3, 3, 3\) instead of \(8, 1, 3, 3\)"
        with pytest.raises(CheckpointError, match=message):
            Tiny().build(tensors, "one.pt")

    def test_weights_of_another_width_are_refused(self):
        with pytest.raises(CheckpointError, match=r"of another shape"):
            EfficientAt().build(Network(scaled(LARGE, 0.1)).state_dict(), "mn01.pt")

    def test_another_geometry_is_another_network(self):
        longer = replace(TINY, bottlenecks=(*TINY.bottlenecks, TINY.bottlenecks[-1]))
        assert Network(longer).known_blocks == range(6)


def seconds(n):
    return np.arange(n * RATE, dtype=np.float32) / RATE


class TestRealWeights:
    def test_the_file_has_the_names_of_the_network(self, mn04):
        assert len(mn04.network.state_dict()) == 312
        assert not any(module.training for module in mn04.network.modules())

    @pytest.mark.parametrize(
        ("block", "form"), [(6, (125, 16, 16)), (12, (63, 8, 48)), (15, (32, 4, 64)), (16, (32, 4, 384))]
    )
    def test_blocks_of_10_s_have_the_published_forms(self, mn04, block, form):
        encoder = EfficientAt(weights=mn04.weights, blocks=(block,), sample_rate=RATE)
        assert encoder(np.zeros((1, 10 * RATE), np.float32)).shape == (1, 1, *form)

    def test_a_tone_is_a_sine_wave(self, mn04):
        """The amplitude is ours; others give 0.65 to 0.77."""
        found = probabilities_of(mn04, 0.3 * np.sin(2 * np.pi * 440 * seconds(10)))
        assert found.argmax() == SINE_WAVE
        assert found[SINE_WAVE] == pytest.approx(0.66, abs=0.01)

    def test_white_noise_is_static(self, mn04):
        found = np.array(
            [
                probabilities_of(mn04, np.random.default_rng(seed).normal(scale=0.05, size=10 * RATE))
                for seed in range(4)
            ]
        )
        assert (found.argmax(axis=1) == STATIC).all()
        assert found[:, STATIC].mean() == pytest.approx(0.31, abs=0.06)

    def test_silence_is_silence(self, mn04):
        """One sample more makes one frame more: far from what it was trained on, the network notices that much."""
        for samples, expected in ((10 * RATE, 0.541), (10 * RATE + 1, 0.620)):
            found = probabilities_of(mn04, np.zeros(samples))
            assert found.argmax() == SILENCE
            assert found[SILENCE] == pytest.approx(expected, abs=0.002)

    def test_every_block_is_the_twin_s(self, mn04, rng):
        waveform = rng.normal(scale=0.1, size=RATE // 4).astype(np.float32)
        tensors = arrays(mn04.network)
        expected = naive.blocks(naive.log_mel(waveform.astype(np.float64)), tensors)
        for n in mn04.network.known_blocks:
            grid = mn04.network(torch.from_numpy(waveform)[None], (n,)).grid
            error = np.abs(grid[0, 0].numpy() - expected[n].transpose(2, 1, 0)).max()
            assert error < 1e-4 * np.abs(expected[n]).max(), f"block {n}"
        found = probabilities_of(mn04, waveform)
        np.testing.assert_allclose(found, naive.probabilities(expected[-1], tensors), atol=1e-4)


def probabilities_of(encoder, waveform):
    with torch.inference_mode():
        return encoder.network.classify(torch.from_numpy(waveform.astype(np.float32))[None])[0].numpy()
