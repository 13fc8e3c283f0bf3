"""What the back ends cost: fit to 990 + 10 clips of 1,536 dimensions, score 200 clips, score one.

    OMP_NUM_THREADS=1 python benchmarks/bench_backends.py [--memory] [NAME...]

Every member of ``BACKENDS`` that takes vectors, with its defaults, and some with options; random data, one
thread, each number the median of three runs. ``--memory`` measures instead, each in a process of its own, how far
above its inputs a large bank of references takes it; local density gets a smaller one, because its fit compares
all pairs of references.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from nearfar.backends import BACKENDS, backend_class

Options = dict[str, Any]

SOURCE, TARGET, QUERIES, DIM = 990, 10, 200, 1536
MANY_DIM = 256
RUNS = 3
OPTIONS: list[tuple[str, Options]] = [
    ("beam", {"bands": 8}),
    ("beam", {"bands": 8, "rescaling": "varmin"}),
    ("domain_local_density", {"metric": "cosine"}),
]
MANY: list[tuple[str, Options, int]] = [
    ("nearest_neighbour", {}, 100_000),
    ("nearest_neighbour", {"metric": "cosine"}, 100_000),
    ("beam", {"bands": 8}, 100_000),
    ("domain_local_density", {}, 20_000),
]


def vectors(n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    return 1 + rng.normal(size=(n, dim))


def label(name: str, options: Options) -> str:
    return " ".join([f"`{name}`", *(f"{k}={v}" for k, v in options.items())])


def milliseconds(function: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure_time(chosen: list[str]) -> None:
    rng = np.random.default_rng(0)
    X, queries = vectors(SOURCE + TARGET, DIM, rng), vectors(QUERIES, DIM, rng)
    domain = np.array(["source"] * SOURCE + ["target"] * TARGET)
    print(f"milliseconds; {SOURCE} + {TARGET} clips of {DIM} dimensions, one thread, median of {RUNS}\n")
    print(f"| back end | fit | score {QUERIES} | score one |\n|---|---|---|---|")
    for name, options in sorted(
        [(name, {}) for name in chosen] + [o for o in OPTIONS if o[0] in chosen], key=str
    ):
        backend = backend_class(name)(**options).fit(X, domain)
        backend.anomaly_score(queries[:1])
        with threadpool_limits(1):
            fit = milliseconds(lambda b=backend: b.fit(X, domain))
            score = milliseconds(lambda b=backend: b.anomaly_score(queries))
            one = milliseconds(lambda b=backend: [b.anomaly_score(q[None]) for q in queries[:20]]) / 20
        print(f"| {label(name, options)} | {fit:.0f} | {score:.0f} | {one:.1f} |", flush=True)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def large(name: str, options: Options, n: int) -> tuple[float, float, float]:
    """Megabytes above the inputs, seconds of fit and of scoring."""
    rng = np.random.default_rng(0)
    backend_class(name)(**options).fit(
        vectors(40, 16, rng), np.array(["source"] * 40)
    )  # libraries are loaded
    X, queries, domain = np.empty((n, MANY_DIM)), vectors(QUERIES, MANY_DIM, rng), np.array(["source"] * n)
    for row in X:
        row[:] = rng.normal(size=MANY_DIM)
    before, start = peak_mb(), time.perf_counter()
    with threadpool_limits(1):
        backend = backend_class(name)(**options).fit(X, domain)
        fitted = time.perf_counter()
        backend.anomaly_score(queries)
    return peak_mb() - before, fitted - start, time.perf_counter() - fitted


def measure_memory(chosen: list[str]) -> None:
    print(f"{QUERIES} queries of {MANY_DIM} dimensions, one thread\n")
    print(
        "| back end | references | they take, MB | MB above that | fit, s | score, s |\n|---|---|---|---|---|---|"
    )
    for name, options, n in MANY:
        if name in chosen:
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # a peak is of a process's whole life
                mb, fit, score = pool.apply(large, (name, options, n))
            references = f"{n:,} | {n * MANY_DIM * 8 / 1e6:.0f}"
            print(
                f"| {label(name, options)} | {references} | {mb:.0f} | {fit:.1f} | {score:.1f} |", flush=True
            )


def main() -> None:
    named = [argument for argument in sys.argv[1:] if argument != "--memory"]
    takes_vectors = [name for name in BACKENDS if name not in ("mean_squared_error", "selective_mahalanobis")]
    measure = measure_memory if "--memory" in sys.argv else measure_time
    measure(named or takes_vectors)


if __name__ == "__main__":
    main()
