"""Which view and back end `mn04` has: all combinations of four views and nine back ends, on any data sets.

    OMP_NUM_THREADS=1 python benchmarks/mn04_designs.py DATA...

Embeddings of `mn04` (block 12, mean over time, standardized), from the store. For each data set: Omega in percent,
a row for each back end and a column for each view. Then, over the machines of all data sets: the mean Omega; the
design chosen by the mean over the other machines, for each machine, and what these choices reach; and for each
design the difference from the former `mn04` with a paired bootstrap interval (95 %), by data set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nearfar.backends import backend_class
from nearfar.evaluation import metrics, statistics
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Dataset
from nearfar.systems import configuration
from nearfar.systems.branches import Branch, domains, listen_ahead
from nearfar.systems.named import SEED
from nearfar.systems.resolved import resolve

VIEWS = ("near", "cancelled", "cancelled_3taps", "cancelled_5taps")
BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mahalanobis": ("mahalanobis", {}),
    "domain_normalized": ("domain_normalized", {}),
    "nearest_neighbour": ("nearest_neighbour", {}),
    "domain_local_density": ("domain_local_density", {}),
    **{
        f"density_normalized, {normalization}, K = {k}": (
            "density_normalized",
            {"k": k, "normalization": normalization},
        )
        for normalization in ("ratio", "difference")
        for k in (1, 4)
    },
    "per_domain_normalized": ("per_domain_normalized", {}),
}
FORMER = ("cancelled", "mahalanobis")
Designs = dict[tuple[str, str], pd.Series]


def scored(data: Dataset, jobs: Jobs) -> Iterator[Designs]:
    """Of each machine: scores of the test clips by view and back end."""
    of_view = {
        v: resolve(configuration.load("mn04", {"branch.view": v}), seed=SEED, jobs=jobs) for v in VIEWS
    }
    for machine in data:
        clips = [*machine.train, *machine.test]
        listen_ahead((b for s in of_view.values() for b in s.branches), clips, workers=1, jobs=jobs)
        keys = [clip.key for clip in machine.test]
        found: Designs = {}
        for view, system in of_view.items():
            X = np.stack(Branch(system.branches[0]).embed(clips, workers=1, jobs=jobs)).astype(float)
            train = X[: len(machine.train)]
            X = (X - train.mean(axis=0)) / train.std(axis=0)
            train, test = X[: len(machine.train)], X[len(machine.train) :]
            for label, (name, options) in BACKENDS.items():
                model = backend_class(name)(**options).fit(train, domains(machine.train))
                found[view, label] = pd.Series(model.anomaly_score(test), keys)
        yield found


def judged(name: str, data: Dataset, jobs: Jobs) -> pd.DataFrame:
    """Print what the designs reach on a data set; their Omega by machine."""
    parts = list(scored(data, jobs))
    scores = {design: pd.concat([part[design] for part in parts]) for design in parts[0]}
    clips = metrics.clip_table(c for machine in data for c in machine.test)
    scores = {design: of.loc[clips.index] for design, of in scores.items()}
    try:
        recording = statistics.recordings(list(clips.index))
    except ValueError:
        recording = None
    print(f"\n{name}\n\n| back end | {' | '.join(VIEWS)} |\n|---|{'---|' * len(VIEWS)}")
    former = scores[FORMER].to_frame("score")
    for label in BACKENDS:
        cells = []
        for view in VIEWS:
            of = scores[view, label]
            omega = 100 * metrics.omega(metrics.evaluate(clips, of))
            paired = statistics.compare(clips, former, of.to_frame("score"), recording=recording)
            low, high = (100 * paired.table.loc[statistics.ALL, end] for end in ("low", "high"))
            cells.append(f"{omega:.1f} ({low:+.1f} to {high:+.1f})")
        print(f"| `{label}` | {' | '.join(cells)} |", flush=True)
    return pd.DataFrame(
        {
            design: {
                f"{name} {machine}": 100 * metrics.omega(metrics.evaluate(part, of.loc[part.index]))
                for machine, part in clips.groupby("machine")
            }
            for design, of in scores.items()
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+")
    jobs = Jobs()
    print("Omega; in brackets, the interval of its difference from the former mn04")
    of_sets = {
        folder.name: judged(folder.name, datasets.load(folder), jobs) for folder in parser.parse_args().data
    }
    table = pd.concat(list(of_sets.values()))
    means = pd.DataFrame({name: of.mean() for name, of in of_sets.items()})
    means["machines"] = table.mean()
    print("\nMean over machines, by data set, and over all:")
    print(means.sort_values("machines", ascending=False).round(1).to_string())
    chosen = {machine: table.drop(machine).mean().idxmax() for machine in table.index}
    reached = np.mean([table.loc[machine, design] for machine, design in chosen.items()])
    print(
        f"\nChosen by the other machines: {pd.Series(chosen).value_counts().to_dict()}; they reach {reached:.1f}"
    )


if __name__ == "__main__":
    main()
