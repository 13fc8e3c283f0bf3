"""Training of adapters (DualMic-EAT): clips a second, memory, share of the matrix-product peak, the whole study.

    python benchmarks/bench_adaptation.py [--device cuda]

EAT-base with random weights on two microphones of noise, 10 s; adapters of rank 8 on blocks 6 to 10, statistics of
block 10, the losses of seven machines. Rows are measured one after the other in processes of their own, so that
each tells its own peak of memory; real steps of ``training.adaptation`` of as many clips as are computed at once,
the first one not counted. A batch of 40 is scaled from these; the optimizer's step, of a million numbers, is
counted too often in it. On a processor the time is that of one thread, which others' work does not lengthen. The
peak is what the same device reaches with large matrices of the same precision in the same process. The study is the
report's: seven times an adapter of six machines (6,000 clips, two epochs) with two seeds, and one of all seven
(7,000 clips) with two seeds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nearfar.encoders import checkpoints
from nearfar.encoders.devices import chosen
from nearfar.encoders.eat import Eat, EatNetwork
from nearfar.training.adaptation import Adaptation, AdapterRecipe, classes_of

SECONDS, BATCH = 10, 40
MACHINES, GROUPS = 7, 10  # and combinations of domain and attributes of each machine
LEFT_OUT, ALL, SEEDS, EPOCHS = 6000, 7000, 2, 2  # clips of six machines, of all; of the report
SIZES = {"cpu": (1, 4), "cuda": (8, 20, 40)}  # clips at once
PRECISIONS = {"cpu": ("float32",), "cuda": ("float32", "bfloat16")}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REPEATS = {"cpu": 1, "cuda": 20}


class RandomEat(Eat):
    """EAT-base with random weights that keep the size of what they multiply, whatever its file has."""

    def build(self, tensors: Mapping[str, Tensor], where: str) -> EatNetwork:  # noqa: ARG002
        network = EatNetwork().requires_grad_(False)
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(std=weight[0].numel() ** -0.5)
        return network


def seconds(function: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Mean time of a call: of the wall clock on a GPU, else of the process."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    for _ in range(repeats):
        function()
    if on_gpu:
        torch.cuda.synchronize()
    return (clock() - start) / repeats


def peak_rate(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of large matrix products."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=DTYPES[precision])
    _ = a @ b  # which is not counted
    return 2 * size**3 / seconds(lambda: a @ b, device, 20 if device.type == "cuda" else 5)


def training(device: str, precision: str, clips: int) -> Adaptation:
    """A training whose batches are of so many clips."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, SECONDS * Eat().sample_rate)).astype(np.float32) / 8
    recipe = AdapterRecipe(epochs=EPOCHS, batch_size=clips, micro_batch=clips, precision=precision)  # type: ignore[arg-type]
    numbers = np.arange(ALL)
    classes = classes_of(*((numbers % n).astype(str) for n in (MACHINES, 2, GROUPS // 2)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "none.safetensors"
        checkpoints.write(path, {"none": torch.zeros(1)}, configuration={})
        return Adaptation(
            RandomEat(weights=str(path), device=device), lambda _: noise, classes, recipe, seed=0
        )


def row(device: str, precision: str, clips: int) -> str:
    """One line of the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    running = training(device, precision, clips)
    waveforms = [running.heard(number) for number in running.batch(0)]
    where = running.device
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with FlopCounterMode(display=False) as counted:
        running.step(0, waveforms)
    time_of_step = seconds(lambda: running.step(0, waveforms), where, REPEATS[where.type])
    memory = (
        torch.cuda.max_memory_allocated()
        if where.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    share = counted.get_total_flops() / time_of_step / peak_rate(where, precision)
    a_second = clips / time_of_step
    study = EPOCHS * SEEDS * (MACHINES * LEFT_OUT + ALL) / a_second / 3600
    trained = sum(parameter.numel() for parameter in running.learning.parameters())
    return (
        f"{precision:<9} {clips:>5} {time_of_step:>12.3f} {BATCH / a_second:>13.2f} {a_second:>8.2f} "
        f"{memory / 2**30:>9.2f} {share:>8.0%} {counted.get_total_flops() / clips / 1e9:>13.0f} {study:>12.2f} "
        f"{trained / 1e6:>9.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    device = parser.parse_args().device
    kind = chosen(device).type
    print(torch.cuda.get_device_name() if kind == "cuda" else "one thread of the processor")
    print(
        "precision clips  s: of these  a batch of 40  clips/s  GiB peak  of peak  GFLOP a clip  study, hours  "
        "trained, million"
    )
    for precision in PRECISIONS[kind]:
        for clips in SIZES[kind]:
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                print(alone.apply(row, (device, precision, clips)), flush=True)


if __name__ == "__main__":
    main()
