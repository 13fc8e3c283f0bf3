"""What the back ends cost: fit to 990 + 10 clips of 1,536 dimensions, score 200 clips, score one.

    OMP_NUM_THREADS=1 python benchmarks/bench_backends.py [--memory | --pairs] [NAME...]

Every member of ``BACKENDS`` that takes vectors, with its defaults, and some with options; random data, one
thread, each number the median of three runs, in processor time. ``--memory`` measures instead, each in a process
of its own, how far above its inputs a large bank of references takes it. ``--pairs`` measures the nearest others of
all references beside a comparison of all with all, in turn. It needs no NAME.
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
from nearfar.backends.neighbours import nearest_others

Options = dict[str, Any]

SOURCE, TARGET, QUERIES, DIM = 990, 10, 200, 1536
MANY_DIM = 256
RUNS = 3
OPTIONS: list[tuple[str, Options]] = [
    ("beam", {"bands": 8}),
    ("beam", {"bands": 8, "rescaling": "varmin"}),
    ("domain_local_density", {"metric": "cosine"}),
    ("density_normalized", {"metric": "cosine"}),
    ("density_normalized", {"normalization": "difference"}),
]
MANY: list[tuple[str, Options, int]] = [
    ("nearest_neighbour", {}, 100_000),
    ("nearest_neighbour", {"metric": "cosine"}, 100_000),
    ("beam", {"bands": 8}, 100_000),
    ("density_normalized", {}, 100_000),
    ("domain_local_density", {}, 20_000),
]
PAIRS = ((1_000, 1536), (10_000, 256))  # references, dimensions
STATES, DECAY = 30, 0.65  # of data like embeddings: states of a machine; spreads fall as rank ** -DECAY


def vectors(n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    return 1 + rng.normal(size=(n, dim))


def label(name: str, options: Options) -> str:
    return " ".join([f"`{name}`", *(f"{k}={v}" for k, v in options.items())])


def milliseconds(function: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def measure_time(chosen: list[str]) -> None:
    rng = np.random.default_rng(0)
    X, queries = vectors(SOURCE + TARGET, DIM, rng), vectors(QUERIES, DIM, rng)
    domain = np.array(["source"] * SOURCE + ["target"] * TARGET)
    print(
        f"milliseconds of processor time; {SOURCE} + {TARGET} clips of {DIM} dimensions, one thread, "
        f"median of {RUNS}\n"
    )
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
    before, start = peak_mb(), time.process_time()
    with threadpool_limits(1):
        backend = backend_class(name)(**options).fit(X, domain)
        fitted = time.process_time()
        backend.anomaly_score(queries)
    return peak_mb() - before, fitted - start, time.process_time() - fitted


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


def like_embeddings(n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """States of a machine, and components whose variances fall, none along an axis."""
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    spread = np.arange(1, dim + 1) ** -DECAY
    centres = 2 * spread * rng.normal(size=(STATES, dim))
    X = np.empty((n, dim))
    for start in range(0, n, 1000):
        some = X[start : start + 1000]
        some[:] = (
            centres[rng.integers(STATES, size=len(some))] + spread * rng.normal(size=some.shape)
        ) @ turn
    return X


def all_with_all(X: np.ndarray, k: int) -> np.ndarray:
    """The k nearest others as they are usually found: products in double precision, in blocks of rows."""
    squares, found = (X**2).sum(axis=1), []
    for start in range(0, len(X), 1000):
        rows = X[start : start + 1000]
        squared = squares[start : start + 1000, None] + squares - 2 * rows @ X.T
        squared[np.arange(len(rows)), start + np.arange(len(rows))] = np.inf
        found.append(np.argpartition(squared, k, axis=1)[:, :k])
    return np.concatenate(found)


def measure_pairs(k: int = 4) -> None:
    print(
        f"seconds of processor time; the {k} nearest others of each reference, one thread, median of {RUNS}\n"
    )
    print(
        "| references | dimensions | data | nearest_others | all with all | ratio |\n|---|---|---|---|---|---|"
    )
    for n, dim in PAIRS:
        for kind, make in (("random", vectors), ("like embeddings", like_embeddings)):
            X = make(n, dim, np.random.default_rng(0))
            times = []
            with threadpool_limits(1):
                for _ in range(RUNS):  # in turn
                    laps = [time.process_time()]
                    for find in (nearest_others, all_with_all):
                        find(X, k)
                        laps.append(time.process_time())
                    times.append(np.diff(laps))
            ours, theirs = np.median(times, axis=0)
            ratio = np.median([b / a for a, b in times])
            print(f"| {n:,} | {dim} | {kind} | {ours:.2f} | {theirs:.2f} | {ratio:.1f} |", flush=True)


def main() -> None:
    named = [argument for argument in sys.argv[1:] if argument not in ("--memory", "--pairs")]
    if "--pairs" in sys.argv:
        return measure_pairs()
    takes_vectors = [name for name in BACKENDS if name not in ("mean_squared_error", "selective_mahalanobis")]
    measure = measure_memory if "--memory" in sys.argv else measure_time
    return measure(named or takes_vectors)


if __name__ == "__main__":
    main()
