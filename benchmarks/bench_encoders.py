"""Frozen encoders: what each arithmetic costs, what it changes, and what that does to a detector.

    OMP_NUM_THREADS=1 python benchmarks/bench_encoders.py [--all | --parts] [--motors FOLDER --weights MN04]
    python benchmarks/bench_encoders.py --device cuda

On the processor: EAT-base on one clip of 10 s, one thread, all arithmetics that are installed, each in turns with
float32, as `nearfar weights bench` measures them; with --all also what is compiled first, which takes minutes.
Weights are random, with which tokens take as long as with real ones; the parity that is printed is of the
arithmetic, in a network without outliers. What real weights make of it is told by mn04 on recordings: AUC in
percent, and the difference to float32.

With --parts: what the parts of a block of EAT-base take in float32 and in bfloat16, in turns. It tells what bounds
the whole: products of matrices gain what the processor offers, all else much less.

On a GPU: clips a second of EAT-base in bfloat16 by batch, peak of memory, and share of what large matrices reach.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import scaled_dot_product_attention as attention

from nearfar.backends.mahalanobis import Mahalanobis
from nearfar.embedding.embeddings import mean
from nearfar.encoders import checkpoints, choosing
from nearfar.encoders.arithmetic import ARITHMETICS, EngineName
from nearfar.encoders.devices import chosen
from nearfar.encoders.eat import BASE, TARGET_FRAMES, Eat, EatNetwork
from nearfar.encoders.efficientat import EfficientAt
from nearfar.encoders.engines import prepare, with_weights_for
from nearfar.encoders.engines.bfloat16 import PackedBlock
from nearfar.encoders.vit import Block
from nearfar.evaluation.metrics import clip_table, evaluate, harmonic_mean
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, Dataset, Machine
from nearfar.recordings.microphones import listen
from nearfar.report import benched
from nearfar.systems.branches import attributes, domains

SECONDS, RATE = 10, 16000
BLOCK = BASE.depth
ROUNDS = 5
ROUNDS_OF_PARTS = 50
SIZE = {"cpu": 1536, "cuda": 8192}  # of the matrices whose rate is the peak
BATCHES = (1, 8, 32, 128, 256)
N_TOKENS = TARGET_FRAMES // BASE.patch[0] * (BASE.bands // BASE.patch[1]) + BASE.has_cls
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
    tokens, dim = N_TOKENS, BASE.dim
    patches = tokens - BASE.has_cls
    a_block = 2 * tokens * (4 + 2 * BASE.mlp_ratio) * dim**2 + 4 * tokens**2 * dim
    return BASE.depth * a_block + 2 * patches * dim * BASE.patch[0] * BASE.patch[1]


def peaks() -> str:
    """The rates at which this thread multiplies large matrices, in words."""
    told = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, SIZE["cpu"], SIZE["cpu"]).to(dtype)
        least = min(_spent(lambda a=a, b=b: a @ b) for _ in range(ROUNDS))
        told.append(
            f"{2 * SIZE['cpu'] ** 3 / least / 1e9:.0f} GFLOP/s in {str(dtype).removeprefix('torch.')}"
        )
    return ", ".join(told)


def _spent(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def on_processor(engines: tuple[EngineName, ...]) -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "eat.safetensors"
        checkpoints.write(file, eat().state_dict(), configuration={})
        encoder = Eat(weights=str(file), blocks=(BLOCK,), device="cpu")
        rows = choosing.bench(encoder, seconds=SECONDS, threads=1, engines=engines, cache=Path(folder))
        size = file.stat().st_size
    print(f"{operations() / 1e9:.1f} GFLOP a clip; large matrices: {peaks()}")
    Console(width=116).print(benched.table(benched.Bench("EAT-base", 1, SECONDS, size, rows, None, {})))


def parts() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """What a block of EAT-base is made of, in float32 and in bfloat16; the last is the whole block."""
    network = eat()
    halved = cast(EatNetwork, with_weights_for(eat(), ARITHMETICS["bfloat16"], torch.device("cpu")))
    block, half = cast(Block, network.blocks[0]), cast(PackedBlock, halved.blocks[0])
    exact = torch.randn(1, N_TOKENS, BASE.dim)
    hidden = torch.randn(1, N_TOKENS, BASE.mlp_ratio * BASE.dim)
    tokens, wide = exact.bfloat16(), hidden.bfloat16()
    heads = torch.randn(3, 1, BASE.heads, N_TOKENS, BASE.dim // BASE.heads)
    half_heads = heads.bfloat16()
    return {
        "qkv": (lambda: block.attn.qkv(exact), lambda: half.qkv(tokens)),
        "attention": (lambda: attention(*heads), lambda: attention(*half_heads)),
        "proj": (lambda: block.attn.proj(exact), lambda: half.proj(tokens)),
        "fc1, GELU": (lambda: block.mlp.act(block.mlp.fc1(exact)), lambda: half.fc1(tokens)),
        "fc2": (lambda: block.mlp.fc2(hidden), lambda: half.fc2(wide)),
        "two norms": (lambda: block.norm2(block.norm1(exact)), lambda: half.norm2(half.norm1(tokens))),
        "two sums": (lambda: exact + exact + exact, lambda: (tokens + tokens).add_(tokens)),
        "a block": (lambda: block(exact), lambda: half(tokens)),
    }


@torch.inference_mode()
def by_part() -> None:
    torch.set_num_threads(1)
    timed = parts()
    least = {name: [np.inf, np.inf] for name in timed}
    for _ in range(ROUNDS_OF_PARTS):
        for name, functions in timed.items():
            for place, function in enumerate(functions):
                function()  # what it reads is in the cache of the processor
                least[name][place] = min(least[name][place], _spent(function))
    print("a block of EAT-base, 10 s, one thread      float32   bfloat16   ratio")
    for name, (single, half) in least.items():
        print(f"{name:<38} {single * MILLI:>8.2f} ms {half * MILLI:>7.2f} ms {single / half:>7.2f}")


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
    print(
        "view       arithmetic           ms a clip  source  target   pAUC  Omega   relative rms   differences"
    )
    for view in VIEWS:
        exact: list[dict[str, NDArray[Any]]] = []
        for precision in choosing.candidates(choosing.UNASKED):
            encoder = EfficientAt(weights=weights, precision=precision, device="cpu")
            encoder(np.zeros((1, RATE), np.float32))  # reads the weights
            start = time.process_time()
            found = [embedded(machine, encoder, view) for machine in motors]
            spent = (time.process_time() - start) / sum(map(len, found))
            exact = exact or found
            numbers, before = row(motors, found), row(motors, exact)
            print(
                f"{view:<10} {precision:<20} {spent * MILLI:>10.1f} "
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


@torch.inference_mode()
def on_gpu(device: torch.device, batches: tuple[int, ...]) -> None:
    arithmetic = ARITHMETICS["bfloat16"]
    network = cast(EatNetwork, with_weights_for(eat(), arithmetic, device))
    half = prepare(network, arithmetic, device)
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
        rate = batch * per_second(lambda w=waveforms: half.hear(network.spectrogram(w), (BLOCK,)), device)
        memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else np.nan
        print(f"{batch:>5} {rate:>9.1f} {rate * operations() / peak:>9.0%} {memory:>10.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--motors", type=Path)
    parser.add_argument("--weights", default="mn04_as")
    asked = parser.parse_args()
    device = chosen(asked.device)
    if device.type == "cuda":
        on_gpu(device, BATCHES)
        return
    if asked.parts:
        by_part()
        return
    on_processor(tuple(choosing.THOUGHT_TO_TAKE) if asked.all else choosing.UNASKED)
    if asked.motors is not None:
        on_recordings(asked.motors, asked.weights)


if __name__ == "__main__":
    main()
