"""The official autoencoder: its network, its training step by step, and its two scores."""

from __future__ import annotations

import contextlib

import naive
import numpy as np
import pytest
import torch
from torch import nn

from nearfar.backends.mean_squared_error import MeanSquaredError
from nearfar.backends.selective_mahalanobis import SelectiveMahalanobis
from nearfar.encoders.autoencoder import Autoencoder, DifferenceAutoencoder, network, widths
from nearfar.encoders.features import stack_frames
from nearfar.training.autoencoder import AutoencoderRecipe, Step, _vectors

RATE, HOP, BINS = 16_000, 512, 128
N_INPUTS = 640


def clips(seed, count, *, seconds=1.0, tilt=0.5):
    """Noise whose spectrum and level differ a little from clip to clip."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    fall = np.linspace(1.0, 0.1, samples // 2 + 1)
    waveforms = []
    for _ in range(count):
        spectrum = np.fft.rfft(rng.standard_normal(samples)) * fall ** rng.uniform(tilt, tilt + 0.5)
        waveforms.append((rng.uniform(0.05, 0.1) * np.fft.irfft(spectrum)).astype(np.float32))
    return waveforms


def train(encoder, waveforms, *, seed, progress=None, **options):
    AutoencoderRecipe(**options).train(encoder, waveforms, seed=seed, progress=progress)


def trained(waveforms, *, seed=0, epochs=1, batch_size=32, **options):
    encoder = Autoencoder()
    train(encoder, waveforms, seed=seed, epochs=epochs, batch_size=batch_size, **options)
    return encoder


def weights(encoder):
    return {name: array.tobytes() for name, array in encoder.arrays().items()}


# the network


def test_the_layers_have_the_published_widths():
    assert widths(N_INPUTS) == [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    layers = list(network(N_INPUTS))
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 9 + [nn.Linear]
    assert [layer.out_features for layer in layers[::3]] == widths(N_INPUTS)[1:]
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-3)}


def test_the_parameters_are_counted():
    linear = (640 * 128 + 128) + 3 * (128 * 128 + 128) + (128 * 8 + 8)
    linear += (8 * 128 + 128) + 3 * (128 * 128 + 128) + (128 * 640 + 640)
    scale_and_shift = 2 * (8 * 128 + 8)
    running_statistics = 2 * (8 * 128 + 8)
    assert Autoencoder().parameters == linear + scale_and_shift + running_statistics == 269_992


def test_the_residual_is_input_minus_output_row_by_row():
    encoder = trained(clips(0, 3))
    waveform = clips(1, 1)[0]
    rows = encoder(waveform[None])[0, 0, :, 0]
    vectors = naive.stack_frames(encoder.frames(waveform).T.astype(np.float64), 5)
    expected = [np.array(v) - naive.reconstructed(encoder.arrays(), np.array(v)) for v in vectors]
    np.testing.assert_allclose(rows, np.reshape(expected, (-1, BINS)), rtol=1e-4, atol=1e-3)


# the training data


def test_vectors_are_stacked_frames_and_none_crosses_a_clip(rng):
    frames = [rng.standard_normal((n, 4)).astype(np.float32) for n in (5, 9, 6)]
    vectors, starts = _vectors(frames, "cpu")
    expected = np.concatenate([stack_frames(f.T, 5) for f in frames])
    assert len(starts) == 1 + 5 + 2
    np.testing.assert_array_equal(vectors[starts], expected)


def test_nine_tenths_of_the_vectors_are_trained_on_once_an_epoch_in_a_new_order(monkeypatch):
    seen, sizes = [], []
    step = Step.__call__

    def noted(self, batch):
        seen.extend(row.numpy().tobytes() for row in batch)
        sizes.append(len(batch))
        step(self, batch)

    monkeypatch.setattr(Step, "__call__", noted)
    waveforms = clips(0, 4)
    trained(waveforms, epochs=2, batch_size=30)
    frames = [Autoencoder().frames(w) for w in waveforms]
    every = {row.tobytes() for f in frames for row in stack_frames(f.T, 5)}
    assert len(every) == 4 * 28
    assert sizes == 2 * [30, 30, 30, 10]
    first, second = seen[:100], seen[100:]
    assert set(first) == set(second) < every
    assert len(set(first)) == 100
    assert first != second


# a step


INERT = [
    f"{3 * i}.bias" for i in range(9)
]  # before batch normalization, whose gradient is zero but for rounding


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def step_and_twin(seed=3):
    """Ours, and the network for autograd, both with the same initial weights."""
    step = Step(N_INPUTS, 64, 1e-3, torch.Generator().manual_seed(seed), "cpu")
    twin = network(N_INPUTS)
    twin.load_state_dict({name: t.clone() for name, t in step.state().items()})
    return step, twin


def batches(sizes):
    """Vectors of a few directions and some noise, like log-mel frames."""
    generator = torch.Generator().manual_seed(4)
    directions = torch.randn(6, N_INPUTS, generator=generator)
    for n in sizes:
        noise = torch.randn(n, N_INPUTS, generator=generator)
        yield torch.randn(n, 6, generator=generator) @ directions * 5 + noise * 2 - 40


def loss(twin, batch):
    return nn.functional.mse_loss(twin(batch), batch)


@pytest.mark.usefixtures("double_precision")
def test_twenty_steps_are_autograds_and_adams():
    """In double precision: in single precision Adam soon makes rounding errors as large as its steps."""
    step, twin = step_and_twin()
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for batch in batches([64] * 19 + [37]):
        step(step.inputs(len(batch)).copy_(batch))
        adam.zero_grad()
        loss(twin, batch).backward()
        adam.step()
    ours, theirs = step.state(), twin.state_dict()
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert (ours[name] - expected).abs().max() <= 1e-8 * expected.abs().max(), name


def test_gradients_and_running_statistics_are_autograds_in_single_precision():
    step, twin = step_and_twin()
    for batch in batches([64] * 19 + [37]):
        twin.load_state_dict(step.state())
        twin.zero_grad()
        loss(twin, batch).backward()
        step(step.inputs(len(batch)).copy_(batch))
        linear, norms = list(twin)[::3], list(twin)[1::3]
        theirs = [
            [x.weight for x in linear],
            [x.bias for x in linear],
            [x.weight for x in norms],
            [x.bias for x in norms],
        ]
        for ours, parameters in zip(step.gradients, theirs, strict=True):
            for gradient, parameter in zip(ours, parameters, strict=True):
                inert = any(parameter is x.bias for x in linear[:-1])
                size = 1.0 if inert else parameter.grad.norm()
                assert (gradient - parameter.grad).norm() <= 1e-5 * size
        for norm, mean, variance in zip(norms, step.running_mean, step.running_var, strict=True):
            torch.testing.assert_close(mean, norm.running_mean, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(variance, norm.running_var, rtol=1e-5, atol=1e-5)


def test_inert_biases_walk_by_rounding_errors():
    """As the official ones do: Adam makes whole steps, of the learning rate at most, of the smallest gradient."""
    step, twin = step_and_twin()
    for batch in batches([64] * 10):
        step(batch)
    for name in INERT:
        moved = (step.state()[name] - twin.state_dict()[name]).abs()
        assert 1e-4 < moved.max() < 10 * 1.01e-3


def test_initial_weights_are_drawn_as_torch_draws_them():
    step, _ = step_and_twin(seed=7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for i, (weight, bias) in enumerate(zip(step.weights, step.biases, strict=True)):
            layer = nn.Linear(*step.widths[i : i + 2])
            torch.testing.assert_close(weight, layer.weight, rtol=1e-6, atol=0)
            torch.testing.assert_close(bias, layer.bias, rtol=1e-6, atol=0)


# the training


def test_the_loss_falls():
    waveforms = clips(0, 6)
    encoders = [trained(waveforms, epochs=epochs) for epochs in (1, 40)]
    losses = [np.mean(encoder(np.stack(waveforms)) ** 2) for encoder in encoders]
    assert losses[1] < losses[0] / 2


def test_one_seed_gives_equal_bytes_and_another_seed_others():
    waveforms = clips(0, 3)
    torch.manual_seed(1)
    first = weights(trained(waveforms, seed=5, epochs=2))
    torch.manual_seed(2)  # nothing depends on global state
    assert weights(trained(iter(waveforms), seed=5, epochs=2)) == first
    other = weights(trained(waveforms, seed=6, epochs=2))
    assert [name for name in first if first[name] == other[name]] == [n for n in first if "num_batches" in n]


def test_training_does_not_draw_from_the_global_generator():
    encoder = Autoencoder()
    before = torch.get_rng_state()
    train(encoder, clips(0, 2), seed=0, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_is_told_after_every_epoch():
    told = []
    trained(clips(0, 2), epochs=3, progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_last_batch_of_one_is_left_out():
    encoder = trained(clips(0, 2), batch_size=49)  # 50 vectors
    assert encoder.arrays()["1.num_batches_tracked"] == 1


@pytest.mark.parametrize(
    ("waveforms", "match"),
    [
        ([], "no recordings to train on"),
        ([np.zeros(4 * HOP, np.float32)], "0 training vectors are too few .* give more clips"),
        ([np.zeros(5 * HOP, np.float32)], "1 training vectors are too few"),
        ([np.zeros(100, np.float32)], "100 samples give 1 frames, but a vector stacks 5"),
    ],
)
def test_too_little_to_train_on(waveforms, match):
    encoder = Autoencoder()
    with pytest.raises(ValueError, match=match):
        train(encoder, waveforms, seed=0, epochs=1)
    assert not encoder.is_fitted


def test_batches_that_train_nothing_are_refused():
    with pytest.raises(ValueError, match="batch_size=1"):
        trained(clips(0, 2), batch_size=1)


@pytest.mark.parametrize("clip_count", [0, 1])
def test_the_number_of_threads_is_as_before_even_after_an_error(clip_count):
    before, during = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        with contextlib.suppress(ValueError):
            trained(clips(0, clip_count), progress=lambda *_: during.append(torch.get_num_threads()))
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert after == 2
    assert during == [1] * clip_count


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_is_much_like_training_on_a_cpu():
    waveforms = clips(0, 6)
    on_cpu, on_gpu = (trained(waveforms, epochs=2, device=device) for device in ("cpu", "cuda"))
    assert on_gpu.arrays().keys() == on_cpu.arrays().keys()
    for waveform in clips(1, 3):
        losses = [np.mean(encoder(waveform[None]) ** 2) for encoder in (on_cpu, on_gpu)]
        assert losses[1] == pytest.approx(losses[0], rel=0.02)


# the scores

EPOCHS, BATCH, SHARE, SEED = 3, 48, 0.9, 11


class Official:
    """A trained network, what the back ends get of it, and the official scores of four test clips."""

    def __init__(self, n_source, n_target):
        source, target = clips(0, n_source, seconds=2.0), clips(1, n_target, seconds=2.0, tilt=1.5)
        test = clips(2, 2, seconds=2.0) + clips(3, 2, seconds=2.0, tilt=1.5)
        self.encoder = trained(source + target, epochs=EPOCHS)
        self.domain = np.array(["source"] * n_source + ["target"] * n_target)
        self.normal, self.test = self.embedded(source + target), self.embedded(test)
        residuals = [self.residuals(w) for w in source + target]
        of_test = [self.residuals(w) for w in test]
        of_vector = np.repeat(self.domain, [len(r) for r in residuals])
        order = np.random.default_rng(SEED).permutation(len(of_vector))
        order = order[: int(SHARE * len(order))]
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        covariances = naive.official_covariances(np.concatenate(residuals), of_vector, batches)
        self.mse = [naive.official_mse(r) for r in of_test]
        self.mahalanobis = [naive.official_mahalanobis(r, covariances) for r in of_test]
        self.by_domain = {
            domain: [naive.official_mahalanobis(r, {domain: covariance}) for r in of_test]
            for domain, covariance in covariances.items()
        }

    def embedded(self, waveforms):
        """(clips, rows, dim), in single precision."""
        return self.encoder(np.stack(waveforms)).reshape(len(waveforms), -1, BINS)

    def residuals(self, waveform):
        """(vectors, 640), in double precision, from the twins."""
        arrays, frames = self.encoder.arrays(), self.encoder.frames(waveform).T.astype(np.float64)
        return np.stack([x - naive.reconstructed(arrays, x) for x in np.array(naive.stack_frames(frames, 5))])


@pytest.fixture(scope="module")
def official():
    return Official(n_source=6, n_target=4)


@pytest.fixture(scope="module")
def source_only():
    return Official(n_source=5, n_target=0)


def backend(**options):
    official = {"batch_size": BATCH, "rows_per_vector": 5, "sample_share": SHARE, "random_state": SEED}
    return SelectiveMahalanobis(**official | options)


def test_the_closed_form_is_the_official_selective_mahalanobis_score(official):
    scores = backend().fit(official.normal, official.domain).anomaly_score(official.test)
    np.testing.assert_allclose(scores, official.mahalanobis, rtol=1e-5)


def test_the_covariance_of_each_domain_is_the_official_one(official):
    precisions = backend().fit(official.normal, official.domain).precisions_
    mean = official.test.mean(axis=1, dtype=np.float64)
    for precision, domain in zip(precisions, ("source", "target"), strict=True):
        ours = np.einsum("nd,de,ne->n", mean, precision, mean)
        np.testing.assert_allclose(ours, official.by_domain[domain], rtol=1e-5)


@pytest.mark.parametrize("batch_size", [3, 16, 1000])
def test_the_score_is_the_smaller_of_both_domains(rng, batch_size):
    """Of made-up residuals, large in other dimensions for each domain; some batches are of one domain alone."""
    dim, vectors = 6, 8
    spread = {"source": np.r_[9.0, 9, 9, 1, 1, 1], "target": np.r_[1.0, 1, 1, 9, 9, 9]}
    domain = np.array(["source"] * 7 + ["target"] * 3)
    normal, test = (
        np.stack([rng.standard_normal((5 * vectors, dim)) * spread[d] + rng.standard_normal(dim) for d in ds])
        for ds in (domain, ["source", "target"] * 5)
    )
    order = np.random.default_rng(SEED).permutation(len(normal) * vectors)[
        : int(SHARE * len(normal) * vectors)
    ]
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    residuals = normal.reshape(-1, 5 * dim)
    covariances = naive.official_covariances(residuals, np.repeat(domain, vectors), batches, dim)
    by_domain = [[naive.official_mahalanobis(x, {d: c}, dim) for x in test] for d, c in covariances.items()]
    assert set(np.argmin(by_domain, axis=0)) == {0, 1}
    fitted = backend(batch_size=batch_size).fit(normal, domain)
    np.testing.assert_allclose(fitted.anomaly_score(test), np.min(by_domain, axis=0), rtol=1e-9)


def test_without_target_clips_the_source_covariance_decides(source_only):
    scores = backend().fit(source_only.normal, source_only.domain).anomaly_score(source_only.test)
    np.testing.assert_allclose(scores, source_only.mahalanobis, rtol=1e-5)
    assert source_only.by_domain["source"] == source_only.by_domain["target"]


def test_the_mean_of_the_rows_distances_is_another_score(official):
    scores = backend(reduction="per_frame").fit(official.normal, official.domain).anomaly_score(official.test)
    assert (scores > 1.01 * np.array(official.mahalanobis)).all()


def test_the_mean_squared_error_is_the_official_one(official):
    scores = MeanSquaredError().fit(official.normal, official.domain).anomaly_score(official.test)
    np.testing.assert_allclose(scores, official.mse, rtol=1e-5)


def test_the_autoencoder_of_differences_hears_how_much_louder_near_is(rng):
    difference, plain = DifferenceAutoencoder(n_mels=32), Autoencoder(n_mels=32)
    pair = rng.standard_normal((2, 16_000)).astype(np.float32)
    found = difference.frames(pair)
    np.testing.assert_array_equal(found, plain.frames(pair[0]) - plain.frames(pair[1]))
    np.testing.assert_array_equal(difference.frames(pair[::-1]), -found)
    louder = difference.frames(np.stack([10 * pair[0], pair[0]]))
    np.testing.assert_allclose(louder, 20.0, atol=1e-3)  # dB


def test_the_autoencoder_of_differences_is_trained_and_gives_rows_of_both_microphones(rng):
    encoder = DifferenceAutoencoder(n_mels=32)
    clips = rng.standard_normal((3, 2, 16_000)).astype(np.float32)
    train(encoder, list(clips), seed=1, epochs=1)
    rows = encoder(clips)
    assert rows.shape == (3, 1, 5 * (len(encoder.frames(clips[0])) - 4), 1, 32)
    swapped = encoder(clips[:, ::-1].copy())
    assert np.abs(rows - swapped).max() > 1.0
