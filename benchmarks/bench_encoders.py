"""Frozen encoders: what each precision costs, what it changes, and what that does to a detector.

    OMP_NUM_THREADS=1 python benchmarks/bench_encoders.py [--motors FOLDER --weights MN04]
    python benchmarks/bench_encoders.py --device cuda

On the processor: EAT-base on one clip of 10 s, one thread, each precision in turn and the least of several rounds,
beside the rate at which the same thread multiplies large matrices in float32. Weights are random, with which tokens
take as long as with real ones; the parity that is printed is of the arithmetic, in a network without outliers.
What real weights make of it is told by mn04 on recordings: AUC in percent, and the difference to float32. Integers
are left out, and it is said, where the extra ``int8`` is not installed.

On a GPU: clips a second of EAT-base in bfloat16 by batch, peak of memory, and share of what large matrices reach.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from nearfar.backends.mahalanobis import Mahalanobis
from nearfar.embedding.embeddings import mean
from nearfar.encoders import int8
from nearfar.encoders.devices import chosen, has_bfloat16
from nearfar.encoders.eat import BASE, TARGET_FRAMES, EatNetwork
from nearfar.encoders.efficientat import EfficientAt
from nearfar.encoders.frozen import Precision
from nearfar.evaluation.metrics import clip_table, evaluate, harmonic_mean
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, Dataset, Machine
from nearfar.recordings.microphones import listen
from nearfar.systems.branches import attributes, domains

SECONDS, RATE = 10, 16000
HAS_INT8 = all(find_spec(package) for package in ("onnx", "onnxruntime"))
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8") if HAS_INT8 else ("float32", "bfloat16")
BLOCK = BASE.depth
ROUNDS = 5
SIZE = {"cpu": 1536, "cuda": 8192}  # of the matrices whose rate is the peak
BATCHES = (1, 8, 32, 128, 256)
VIEWS = ("near", "cancelled")
MILLI = 1e3


def eat() -> EatNetwork:
    """EAT-base with random weights that keep the size of what they multiply."""
    torch.manual_seed(0)
    network = EatNetwork().eval().requires_grad_(False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
    return network


def operations() -> int:
    """Floating-point ones of a clip's matrix products, the front end's left out."""
    patches = TARGET_FRAMES // BASE.patch[0] * (BASE.bands // BASE.patch[1])
    tokens, dim = patches + BASE.has_cls, BASE.dim
    a_block = 2 * tokens * (4 + 2 * BASE.mlp_ratio) * dim**2 + 4 * tokens**2 * dim
    return BASE.depth * a_block + 2 * patches * dim * BASE.patch[0] * BASE.patch[1]


def tokens_in(network: nn.Module, waveforms: Tensor, precision: Precision) -> Tensor:
    with (
        torch.inference_mode(),
        torch.autocast(waveforms.device.type, torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        return network(waveforms, (BLOCK,)).grid.float()


def least(functions: dict[str, Callable[[], Any]]) -> dict[str, tuple[float, float]]:
    """Processor and wall seconds of each, the least of rounds in which all take turns."""
    found = dict.fromkeys(functions, (np.inf, np.inf))
    for _ in range(ROUNDS):
        for name, function in functions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            spent = (time.process_time() - cpu, time.perf_counter() - wall)
            found[name] = (min(found[name][0], spent[0]), min(found[name][1], spent[1]))
    return found


def on_processor() -> None:
    torch.set_num_threads(1)
    network, waveforms = eat(), 0.1 * torch.randn(1, SECONDS * RATE)
    networks: dict[Precision, nn.Module] = {"float32": network, "bfloat16": network}
    start = time.process_time()
    if HAS_INT8:
        networks["int8"] = int8.with_integers(deepcopy(network))
    made = f"integers made in {time.process_time() - start:.1f} s" if HAS_INT8 else "no extra int8"
    a, b = torch.randn(2, SIZE["cpu"], SIZE["cpu"])
    timed = {name: lambda n=name: tokens_in(networks[n], waveforms, n) for name in PRECISIONS}
    spent = least({"peak": lambda: a @ b, **timed})
    peak = 2 * SIZE["cpu"] ** 3 / spent["peak"][0]
    expected = tokens_in(network, waveforms, "float32").flatten(0, -2)
    print(
        f"EAT-base, {operations() / 1e9:.1f} GFLOP a clip of {SECONDS} s; peak {peak / 1e9:.0f} GFLOP/s (float32); "
        f"bfloat16 in hardware: {has_bfloat16(waveforms.device)}; {made}"
    )
    print("          ms: cpu    wall   of float32   of peak   relative rms      cosine: mean, least")
    for name in PRECISIONS:
        cpu, wall = spent[name]
        found = tokens_in(networks[name], waveforms, name).flatten(0, -2)
        cosine = nn.functional.cosine_similarity(found, expected, dim=-1)
        print(
            f"{name:<9} {cpu * MILLI:>7.0f} {wall * MILLI:>7.0f} {cpu / spent['float32'][0]:>12.2f} "
            f"{operations() / cpu / peak:>9.0%} {(found - expected).norm() / expected.norm():>14.1e} "
            f"{cosine.mean():>15.5f} {cosine.min():>10.5f}"
        )


def embedded(machine: Machine, encoder: EfficientAt, view: str) -> dict[str, NDArray[Any]]:
    """Of each clip, by key: (dim,)."""

    def one(clip: Clip) -> NDArray[Any]:
        samples, _ = audio.read(clip.path)
        return mean(encoder(listen(samples, view)[None]))[0]

    return {clip.key: one(clip) for clip in (*machine.train, *machine.test)}


def scored(machine: Machine, found: dict[str, NDArray[Any]]) -> pd.Series:
    """Of the test clips."""
    train, test = (np.stack([found[c.key] for c in clips]) for clips in (machine.train, machine.test))
    scale = StandardScaler().fit(train)
    backend = Mahalanobis().fit(scale.transform(train), domains(machine.train), attributes(machine.train))
    return pd.Series(backend.anomaly_score(scale.transform(test)), index=[clip.key for clip in machine.test])


def row(motors: Dataset, embeddings: list[dict[str, NDArray[Any]]]) -> NDArray[np.float64]:
    """AUC of source and target, pAUC and Omega, in percent; the first three are harmonic means of the machines."""
    clips = clip_table(clip for machine in motors for clip in machine.test)
    scores = pd.concat([scored(machine, found) for machine, found in zip(motors, embeddings, strict=True)])
    table = evaluate(clips, scores)[["auc_source", "auc_target", "pauc"]].to_numpy()
    return 100 * np.array([*(harmonic_mean(column) for column in table.T), harmonic_mean(table)])


def on_recordings(folder: Path, weights: str) -> None:
    torch.set_num_threads(1)
    motors = datasets.load(folder)
    print("\nmn04, mean over time of block 12, standardized, mahalanobis; percent, and points above float32")
    print("view       precision  ms a clip  source  target   pAUC  Omega   relative rms   differences")
    for view in VIEWS:
        exact: list[dict[str, NDArray[Any]]] = []
        for precision in PRECISIONS:
            encoder = EfficientAt(weights=weights, precision=precision, device="cpu")
            encoder(np.zeros((1, RATE), np.float32))  # reads the weights
            start = time.process_time()
            found = [embedded(machine, encoder, view) for machine in motors]
            spent = (time.process_time() - start) / sum(map(len, found))
            exact = exact or found
            numbers, before = row(motors, found), row(motors, exact)
            print(
                f"{view:<10} {precision:<9} {spent * MILLI:>10.1f} "
                + " ".join(f"{number:>7.2f}" for number in numbers)
                + f" {difference(found, exact):>13.1e}   "
                + " ".join(f"{number:>+6.2f}" for number in numbers - before),
                flush=True,
            )


def difference(found: list[dict[str, NDArray[Any]]], exact: list[dict[str, NDArray[Any]]]) -> float:
    """Root mean square of the difference of embeddings, over that of the exact ones."""
    ours, theirs = (np.concatenate([np.stack(list(m.values())) for m in x]) for x in (found, exact))
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def per_second(function: Callable[[], Any], device: torch.device) -> float:
    """Calls a second, after two that are not counted."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):
        function()
    wait()
    start = time.perf_counter()
    for _ in range(ROUNDS):
        function()
    wait()
    return ROUNDS / (time.perf_counter() - start)


def on_gpu(device: torch.device, batches: tuple[int, ...]) -> None:
    network = eat().to(device)
    a, b = torch.randn(2, SIZE[device.type], SIZE[device.type], device=device, dtype=torch.bfloat16)
    peak = 2 * SIZE[device.type] ** 3 * per_second(lambda: a @ b, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    print(
        f"{name}: EAT-base in bfloat16, clips of {SECONDS} s, front end included; peak {peak / 1e12:.2f} TFLOP/s"
    )
    print("batch   clips/s   of peak   GiB peak")
    for batch in batches:
        waveforms = 0.1 * torch.randn(batch, SECONDS * RATE, device=device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        rate = batch * per_second(lambda w=waveforms: tokens_in(network, w, "bfloat16"), device)
        memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else np.nan
        print(f"{batch:>5} {rate:>9.1f} {rate * operations() / peak:>9.0%} {memory:>10.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--motors", type=Path)
    parser.add_argument("--weights", default="mn04_as")
    asked = parser.parse_args()
    device = chosen(asked.device)
    if device.type == "cuda":
        on_gpu(device, BATCHES)
        return
    on_processor()
    if asked.motors is not None:
        on_recordings(asked.motors, asked.weights)


if __name__ == "__main__":
    main()
