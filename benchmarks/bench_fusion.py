"""Searching fusion weights, and resampling, on tables of the size of the challenge's development set.

    python benchmarks/bench_fusion.py

7 machines of 200 test clips, scores drawn at random (the time does not depend on how good they are). Beside the
array operations stands what is usually written: a loop over weights and machines, three ``roc_auc_score`` of
scikit-learn each; it is measured on a sample of weights and scaled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from nearfar.evaluation.protocols import CROSS_FITTED
from nearfar.evaluation.ranking import all_metrics, harmonic_means, sections
from nearfar.evaluation.statistics import bootstrap, compare, jackknife
from nearfar.research.fusion import Search, evaluate_fusion, simplex

MACHINES, PER_CELL, SAMPLE = 7, 50, 10
BRANCHES = ("ae", "ced", "m2d", "dualmic", "eat")


def draw(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clips and scores of a development set."""
    rows = [
        (f"m{m}/test/{d}_{label}_{i}", f"m{m}", 0, d, label)
        for m in range(MACHINES)
        for d in ("source", "target")
        for label in ("normal", "anomaly")
        for i in range(PER_CELL)
    ]
    clips = pd.DataFrame(rows, columns=["key", "machine", "section", "domain", "label"]).set_index("key")
    anomalous = (clips["label"] == "anomaly").to_numpy(float)
    scores = {b: rng.normal(size=len(clips)) + 0.2 * (1 + k) * anomalous for k, b in enumerate(BRANCHES)}
    return clips, pd.DataFrame(scores, index=clips.index)


def loop(clips: pd.DataFrame, scores: np.ndarray) -> list[float]:
    """Omega of each row of scores, one call of scikit-learn a metric."""
    machine, domain = clips["machine"].to_numpy(), clips["domain"].to_numpy()
    anomalous = (clips["label"] == "anomaly").to_numpy()
    omegas = []
    for score in scores:
        values = []
        for m in np.unique(machine):
            for d in ("source", "target"):
                used = (machine == m) & ((domain == d) | anomalous)
                values.append(roc_auc_score(anomalous[used], score[used]))
            values.append(roc_auc_score(anomalous[machine == m], score[machine == m], max_fpr=0.1))
        omegas.append(len(values) / sum(1 / v for v in values))
    return omegas


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = function()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    clips, scores = draw(np.random.default_rng(0))
    of = sections(clips)
    print(
        f"{MACHINES} machines of {len(clips) // MACHINES} clips{'seconds:':>34} wall      cpu   x loop (cpu)"
    )
    for n, step in ((4, 0.1), (5, 0.05)):
        grid = simplex(BRANCHES[:n], step)
        rows = grid @ scores.to_numpy()[:, :n].T
        omegas, wall, cpu = timed(lambda rows=rows: harmonic_means(all_metrics(of, rows)))
        expected, _, slow = timed(lambda rows=rows: loop(clips, rows[:SAMPLE]))
        np.testing.assert_allclose(omegas[:SAMPLE], expected, atol=1e-12)
        name = f"metrics of {len(grid)} weights, {n} branches"
        print(f"{name:<55}{wall:9.3f}{cpu:9.3f}{slow / SAMPLE * len(grid) / cpu:9.0f}")
        columns = list(BRANCHES[:n])
        search = Search(step)
        _, wall, cpu = timed(
            lambda c=columns, s=search: evaluate_fusion(scores[c], clips, CROSS_FITTED, weights=s)
        )
        slow_total = slow / SAMPLE * len(grid) * (MACHINES - 1)
        print(f"{'  cross-fitted, leave one machine out':<55}{wall:9.3f}{cpu:9.3f}{slow_total / cpu:9.0f}")
    for name, function, n_loops in (
        ("bootstrap, 1,000 resamples", lambda: bootstrap(clips, scores["ae"]), 1000),
        ("paired bootstrap, 1,000 resamples, 3 seeds each",
         lambda: compare(clips, scores[["ae", "ced", "m2d"]], scores[["m2d", "dualmic", "eat"]]), 6000),
        ("jackknife, 1,400 clips", lambda: jackknife(clips, scores["ae"]), 1400),
    ):  # fmt: skip
        _, wall, cpu = timed(function)
        print(f"{name:<55}{wall:9.3f}{cpu:9.3f}{slow / SAMPLE * n_loops / cpu:9.0f}")


if __name__ == "__main__":
    main()
