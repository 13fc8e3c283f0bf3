"""Training of DCA: clips a second, memory, share of the matrix-product peak, and what a whole system would take.

    python benchmarks/bench_dca.py [--device cuda] [--small] [--together]

Rows are measured one after the other in processes of their own, so that each tells its own peak of memory; real
steps of ``training.dca`` on noise, the first ones not counted. The peak is what the same device reaches with large
matrices of the same precision in the same process. ``--small`` measures the small preset only. ``--together``
instead trains several networks of different seeds at once, with stacked weights under ``torch.vmap``, beside the
same ones one after the other, and compares their gradients.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from nearfar.encoders.dca import Dca
from nearfar.encoders.devices import chosen
from nearfar.training.dca import DcaRecipe, Training
from nearfar.training.initialization import draw_weights

CLIPS, EPOCHS, MODELS = 990, 30, 100  # of a machine, of a model, and models of dca_1 over five machines
CLASSES = 6
FULL = {"DCA-128": {"n_mels": 128, "n_fft": 1024}, "DCA-256": {"n_mels": 256, "n_fft": 2048}}
SMALL = {"small": {"frames": 128, "channels": 64}}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def seconds(function: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Mean wall time of a call, after one that is not counted."""
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def peak_rate(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of large matrix products."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=PRECISIONS[precision])
    return 2 * size**3 / seconds(lambda: a @ b, device, 20 if device.type == "cuda" else 5)


def recipe(precision: str, batch: int) -> DcaRecipe:
    return DcaRecipe(schedule_epochs=EPOCHS, batch_size=batch, precision=precision)  # type: ignore[arg-type]


def training(options: dict[str, Any], device: str, precision: str, batch: int) -> Training:
    """A training on as much noise as one batch needs."""
    encoder = Dca(device=device, **options)
    levels = torch.randn(batch, 2, encoder.n_mels, encoder.frames, device=encoder.device)
    return Training(encoder, levels, torch.arange(batch) % CLASSES, recipe(precision, batch), seed=42)


def row(name: str, options: dict[str, Any], device: str, precision: str, batch: int, compiled: str) -> str:
    """One line of the table."""
    torch.set_num_threads(1)
    running = training(options, device, precision, batch)
    where = running.levels.device
    generator = torch.Generator(where).manual_seed(1)
    whole = torch.arange(batch, device=where)
    with FlopCounterMode(display=False) as counted:
        running.step(whole, generator)
    if compiled == "compiled":
        running.network.embeddings = torch.compile(running.network.embeddings)  # type: ignore[method-assign]
    repeats = 20 if where.type == "cuda" else 2
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    time_of_step = seconds(lambda: running.step(whole, generator), where, repeats)
    memory = (
        torch.cuda.max_memory_allocated()
        if where.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    share = counted.get_total_flops() / time_of_step / peak_rate(where, precision)
    clips = batch / time_of_step
    hours = MODELS * EPOCHS * CLIPS / clips / 3600
    return (
        f"{name:<8} {precision:<9} {compiled:<9} {batch:>5} {clips:>9.1f} {memory / 2**30:>9.2f} {share:>7.0%} "
        f"{hours:>10.2f}"
    )


def table(device: str, kinds: dict[str, dict[str, Any]]) -> None:
    found = chosen(device)
    on_gpu = found.type == "cuda"
    print(torch.cuda.get_device_name() if on_gpu else "one thread of the processor")
    print("network  precision compiled  batch   clips/s    GiB peak  of peak  100 models, hours")
    for name, options in kinds.items():
        for precision in PRECISIONS if on_gpu else ["float32"]:
            for compiled in ("eager", "compiled") if on_gpu else ("eager",):
                batch = 32 if on_gpu or name == "small" else 8
                with multiprocessing.get_context("spawn").Pool(1) as alone:
                    print(alone.apply(row, (name, options, device, precision, batch, compiled)), flush=True)


def together(device: str, networks: int = 4) -> None:
    """Forward and backward pass of several networks: one by one, and at once."""
    torch.set_num_threads(1)
    where = chosen(device)
    print(f"{networks} networks, seconds for a forward and a backward pass of each; {where}")
    print("frames channels batch   one by one    together   gain   largest difference of a gradient")
    full = [(1024, 256, 32)] if where.type == "cuda" else []
    for frames, channels, batch in [(32, 16, 8), (128, 64, 16), (128, 128, 16), *full]:
        nets = [Dca(frames=frames, channels=channels, device=device).network for _ in range(networks)]
        for seed, net in enumerate(nets):
            draw_weights(net.cpu(), torch.Generator().manual_seed(seed))
            net.to(where)
        levels = torch.randn(networks, batch, 2, 128, frames, device=where)
        target = torch.randn(channels, device=where)
        stacked, buffers = stack_module_state(nets)
        shell = deepcopy(nets[0]).to("meta")

        def loss(
            weights: Any, state: Any, x: torch.Tensor, shell: Any = shell, target: torch.Tensor = target
        ) -> torch.Tensor:
            return (functional_call(shell, (weights, state), (x,)) @ target).mean()

        def apart(nets: Any = nets, levels: torch.Tensor = levels, target: torch.Tensor = target) -> None:
            for net, x in zip(nets, levels, strict=True):
                net.zero_grad()
                (net(x) @ target).mean().backward()

        def at_once(
            stacked: Any = stacked, buffers: Any = buffers, levels: Any = levels, loss: Any = loss
        ) -> None:
            for weights in stacked.values():
                weights.grad = None
            vmap(loss)(stacked, buffers, levels).sum().backward()

        times = [seconds(f, where, 3) for f in (apart, at_once)]
        differences = [
            (torch.stack([dict(net.named_parameters())[name].grad for net in nets]) - weights.grad)
            .abs()
            .max()
            for name, weights in stacked.items()
        ]
        print(
            f"{frames:>6} {channels:>8} {batch:>5} {times[0]:>12.3f} {times[1]:>11.3f} {times[0] / times[1]:>6.2f} "
            f"{max(map(float, differences)):>12.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--together", action="store_true")
    asked = parser.parse_args()
    if asked.together:
        together(asked.device)
    else:
        table(asked.device, SMALL if asked.small else {**FULL, **SMALL})


if __name__ == "__main__":
    main()
