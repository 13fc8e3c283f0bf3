"""Training of the official autoencoder: ours, a plain loop, and a faithful twin of the official procedure.

    python benchmarks/bench_autoencoder.py [EPOCHS]

One machine of 200 two-second clips (11,800 vectors), batch 256, times scaled to 100 epochs. The floor is the
arithmetic over the rate at which this machine multiplies large matrices; all in one run, interleaved.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise

import numpy as np
import official_autoencoder
import torch
from official_autoencoder import BATCH_SIZE, EPOCHS, SEED
from torch import nn

from nearfar.backends.mean_squared_error import MeanSquaredError
from nearfar.backends.selective_mahalanobis import SelectiveMahalanobis
from nearfar.encoders.autoencoder import N_FRAMES, Autoencoder, network, widths
from nearfar.training.autoencoder import AutoencoderRecipe

CLIPS, SECONDS, TEST_CLIPS = 200, 2, 160
OFFICIAL_EPOCHS = 2  # of the slow twin; scaled


def flops(vectors: int, epochs: int) -> float:
    """Of the matrix products: forward, gradient of weights, gradient of inputs (not of the first layer)."""
    weights = [a * b for a, b in pairwise(widths(N_FRAMES * 128))]
    return vectors * epochs * (6 * sum(weights) - 2 * weights[0])


def matmul_rate(threads: int) -> float:
    """Floating-point operations a second, of 2048 x 2048 matrices, the best of ten."""
    torch.set_num_threads(threads)
    a, b = torch.randn(2, 2048, 2048)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        _ = a @ b
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def plain_loop(log_mels: list[np.ndarray], epochs: int) -> None:
    """Autograd over tensors in memory: what one writes first."""
    data = torch.from_numpy(official_autoencoder.Vectors(log_mels, [""] * len(log_mels)).vectors)
    data = data[torch.randperm(len(data))[: int(0.9 * len(data))]]
    model = network(data.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(data)).split(BATCH_SIZE):
            x = data[batch]
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x).backward()
            optimizer.step()


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ours(
    waveforms: list[np.ndarray], test: list[np.ndarray], epochs: int, threads: int
) -> tuple[float, float]:
    """Seconds of training, and of log-mels, covariances and both scores."""
    encoder = Autoencoder()
    both = timed(
        lambda: AutoencoderRecipe(epochs=epochs + 1, threads=threads).train(encoder, waveforms, seed=SEED)
    )
    one = timed(
        lambda: AutoencoderRecipe(epochs=1, threads=threads).train(Autoencoder(), waveforms, seed=SEED)
    )
    training = both - one
    features = timed(lambda: [encoder.frames(w) for w in waveforms])

    def rest() -> None:
        domain = np.array(["source"] * 190 + ["target"] * 10)
        rows = [encoder(w[None])[0].reshape(-1, 128) for w in waveforms]
        backends = [
            SelectiveMahalanobis(batch_size=256, rows_per_vector=5, sample_share=0.9),
            MeanSquaredError(),
        ]
        for backend in backends:
            backend.fit(np.stack(rows), domain)
            for w in test:
                backend.anomaly_score([encoder(w[None])[0].reshape(-1, 128)])

    return training, features + timed(rest)


def side_by_side(waveforms: list[np.ndarray], epochs: int) -> float:
    """Seconds a training, of two at once in two processes of one thread each, as `nearfar run` has them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(one_training, [waveforms] * 2, [1, 1]))  # starts the processes
        start = time.perf_counter()
        list(pool.map(one_training, [waveforms] * 2, [epochs, epochs]))
        return (time.perf_counter() - start) / 2


def one_training(waveforms: list[np.ndarray], epochs: int) -> None:
    AutoencoderRecipe(epochs=epochs).train(Autoencoder(), waveforms, seed=SEED)


def main() -> None:
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rng = np.random.default_rng(0)
    waveforms = [
        rng.normal(scale=0.1, size=16000 * SECONDS).astype(np.float32) for _ in range(CLIPS + TEST_CLIPS)
    ]
    training, test = waveforms[:CLIPS], waveforms[CLIPS:]
    encoder = Autoencoder()
    log_mels = [encoder.frames(w) for w in training]
    names = [f"{'source' if i < 190 else 'target'}_{i}.wav" for i in range(CLIPS)]
    vectors = int(0.9 * sum(len(m) - N_FRAMES + 1 for m in log_mels))
    rows = []
    for threads in (2, 1):
        floor = flops(vectors, EPOCHS) / matmul_rate(threads)
        rows.append((f"floor, {threads} threads", floor, 1.0))
        fit, rest = ours(training, test, epochs, threads)
        total = fit * EPOCHS / epochs + rest
        rows.append(
            (f"nearfar, {threads} threads (of it {rest:.1f} s beside training)", total, total / floor)
        )
        torch.set_num_threads(threads)
        plain = timed(lambda: plain_loop(log_mels, epochs)) * EPOCHS / epochs
        rows.append((f"plain loop over tensors, {threads} threads", plain, plain / floor))
    both, one = side_by_side(training, epochs + 1), side_by_side(training, 1)
    several = (both - one) * EPOCHS / epochs + rest
    rows.append(
        ("nearfar, two seeds side by side, 1 thread each, one of them", several, several / rows[0][1])
    )
    torch.set_num_threads(2)
    official = timed(lambda: official_autoencoder.train(log_mels, names, epochs=OFFICIAL_EPOCHS))
    official *= EPOCHS / OFFICIAL_EPOCHS
    rows.append(("twin of the official procedure, 2 threads", official, official / rows[0][1]))
    print(f"{EPOCHS} epochs of {vectors} vectors, measured over {epochs}, scaled")
    print(f"{'':62s}seconds   x its floor")
    for name, seconds, ratio in rows:
        print(f"{name:62s}{seconds:7.1f}{ratio:10.2f}")


if __name__ == "__main__":
    main()
