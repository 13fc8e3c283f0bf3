"""Which weight-free system is the default: designs from `spectral_w1` to `spectral`, on any data sets.

    python benchmarks/default_system.py DATA... [--workers 2] [--asked 0.05]

Each design is a system of its own: microphone view, floor, pooling, back end. All are fitted to the normal training
clips of each machine, and evaluated on its test clips. For each data set: Omega in percent; its difference from
`spectral` with a paired bootstrap interval (95 %), by recording where names tell it, else by clip; asked 5 % false
alarms, got, by domain (mean, and the worst machine); and the worst machine against near alone with the same back
end.

At the end, for all data sets together, the design is chosen by leaving one machine out: for each machine, the best
by the other machines' mean Omega, whatever data set they are of. What the choices reach is the honest value of
choosing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nearfar.backends import backend_class
from nearfar.decisions.folds import deal
from nearfar.decisions.thresholds import Conformal, ThresholdConfig
from nearfar.embedding.embeddings import POOLINGS, VIEWS, joined
from nearfar.encoders.spectral import Spectral
from nearfar.evaluation import metrics, statistics
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, Dataset
from nearfar.recordings.microphones import listen

SEED = 13711


@dataclass(frozen=True)
class Design:
    """A weight-free system; the scores of several views are averaged."""

    name: str
    views: tuple[str, ...]
    pooling: str = "shape_mean_std"
    backend: str = "domain_normalized"
    few: int | None = None
    floor_db: float | None = -10.0

    def model(self):
        options = {} if self.few is None else {"few": self.few}
        return backend_class(self.backend)(**options)


NEAR, THREE = ("near",), ("cancelled_3taps",)
DESIGNS = (
    Design(
        "near: mean_std, mahalanobis (spectral_near before)", NEAR, "mean_std", "mahalanobis", floor_db=None
    ),
    Design(
        "W1: mean_std, mahalanobis (spectral_w1)", ("cancelled",), "mean_std", "mahalanobis", floor_db=None
    ),
    Design("W1, level out", ("cancelled",), backend="mahalanobis", floor_db=None),
    Design("3 taps, level out", THREE, backend="mahalanobis", floor_db=None),
    Design("3 taps, level out, normalized (means)", THREE, few=1, floor_db=None),
    Design("3 taps, level out, normalized", THREE, floor_db=None),
    Design("3 taps, level out, normalized, floor (spectral)", THREE),
    Design("3 taps, level kept, normalized, floor", THREE, "mean_std"),
    Design("W1, level out, normalized, floor", ("cancelled",)),
    Design("4,096, level out, normalized, floor", ("cancelled_4096",)),
    Design("5 taps, level out, normalized, floor", ("cancelled_5taps",)),
    Design("3 taps, level out, normalized, floor at -20 dB", THREE, floor_db=-20.0),
    Design("3 taps, level out, normalized, floor at -15 dB", THREE, floor_db=-15.0),
    Design("near, level out, normalized, floor (spectral_near)", NEAR),
    Design("near beside 3 taps, all of it", ("near_and_cancelled_3taps",)),
    Design("mean of the scores of near and 3 taps", ("near", "cancelled_3taps")),
)
CHOSEN = next(design for design in DESIGNS if design.name.endswith("(spectral)"))
ALONE = next(design for design in DESIGNS if design.name.endswith("(spectral_near)"))


def embeddings(clip: Clip) -> dict[tuple[str, str, float | None], np.ndarray]:
    """By microphone view, pooling and floor."""
    encoders = {floor_db: Spectral(floor_db=floor_db) for floor_db in {d.floor_db for d in DESIGNS}}
    samples = audio.load(clip.recording, Spectral().sample_rate)
    needed = {
        (microphone, design.pooling, design.floor_db)
        for design in DESIGNS
        for view in design.views
        for microphone in VIEWS[view].microphones
    }
    found = {}
    for microphone in {m for m, _, _ in needed}:
        waveform = listen(samples, microphone)
        for floor_db in {f for m, _, f in needed if m == microphone}:
            tokens = encoders[floor_db](waveform[None])
            for pooling in {p for m, p, f in needed if (m, f) == (microphone, floor_db)}:
                found[microphone, pooling, floor_db] = POOLINGS[pooling](tokens)[0]
    return found


def scores(design: Design, X: list[np.ndarray], domain: np.ndarray, new: list[np.ndarray]) -> np.ndarray:
    return np.mean(
        [design.model().fit(x, domain).anomaly_score(n) for x, n in zip(X, new, strict=True)], axis=0
    )


def unseen_scores(design: Design, X: list[np.ndarray], domain: np.ndarray) -> np.ndarray:
    found = np.empty(len(domain))
    for rest, held in deal(domain, ThresholdConfig(), seed=SEED).pairs:
        found[held] = scores(design, [x[rest] for x in X], domain[rest], [x[held] for x in X])
    return found


def judged(data: Dataset, asked: float, workers: int) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Of each machine and design: a table of the test clips, with score and flag."""
    for machine in data:
        with ThreadPoolExecutor(workers) as pool:
            train, test = (list(pool.map(embeddings, clips)) for clips in (machine.train, machine.test))
        domain = np.array([clip.domain or "undisclosed" for clip in machine.train])
        for design in DESIGNS:
            X, new = (
                [
                    np.stack(
                        [
                            joined(*(e[m, design.pooling, design.floor_db] for m in VIEWS[v].microphones))
                            for e in s
                        ]
                    )
                    for v in design.views
                ]
                for s in (train, test)
            )
            found = scores(design, X, domain, new)
            limit = Conformal.fit(unseen_scores(design, X, domain), false_alarm_rate=asked).value
            keys = [clip.key for clip in machine.test]
            yield (
                machine.name,
                design.name,
                pd.DataFrame({"score": found, "flagged": found > limit}, index=pd.Index(keys, name="key")),
            )


def summary(data: Dataset, asked: float, workers: int) -> pd.DataFrame:
    """Print the table of a data set; return Omega by machine and design."""
    tables: dict[str, list[pd.DataFrame]] = {design.name: [] for design in DESIGNS}
    for _, design, table in judged(data, asked, workers):
        tables[design].append(table)
    clips = metrics.clip_table(c for machine in data for c in machine.test)
    found = {name: pd.concat(parts).loc[clips.index] for name, parts in tables.items()}
    try:
        recording = statistics.recordings(list(clips.index))
    except ValueError:
        recording = None
    normal = clips["label"] == "normal"
    omegas = pd.DataFrame(
        {
            name: {
                machine: 100 * metrics.omega(metrics.evaluate(of, table.loc[of.index, "score"]))
                for machine, of in clips.groupby("machine")
            }
            for name, table in found.items()
        }
    )
    for name, table in found.items():
        omega = 100 * metrics.omega(metrics.evaluate(clips, table["score"]))
        paired = statistics.compare(
            clips, found[CHOSEN.name][["score"]], table[["score"]], recording=recording
        ).table.loc[statistics.ALL]
        by_cell = table["flagged"][normal].groupby([clips["machine"], clips["domain"]]).mean()
        rates = by_cell.reset_index().pivot_table(index="machine", columns="domain", values="flagged")
        hits = table["flagged"][~normal].mean()
        against_near = (omegas[name] - omegas[ALONE.name]).min()
        print(
            f"| {name} | {omega:.1f} | {100 * paired['difference']:+.1f} ({100 * paired['low']:+.1f} to "
            f"{100 * paired['high']:+.1f}) | "
            + ", ".join(f"{d} {100 * rates[d].mean():.0f} (worst {100 * rates[d].max():.0f})" for d in rates)
            + f" | {100 * hits:.0f} | {against_near:+.1f} |",
            flush=True,
        )
    return omegas


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--asked", type=float, default=0.05)
    args = parser.parse_args()
    found = {}
    for folder in args.data:
        print(f"\n{folder.name}\n\n| design | Omega | against spectral | got at {args.asked:.0%} | faults found "
              "| worst against near |\n|---|---|---|---|---|---|")  # fmt: skip
        found[folder.name] = summary(datasets.load(folder), args.asked, args.workers)
    table = pd.concat(found)
    chosen = {machine: table.drop(machine).mean().idxmax() for machine in table.index}
    reached = np.mean([table.loc[machine, design] for machine, design in chosen.items()])
    print(f"\nMean over the {len(table)} machines of their Omega:")
    for name, value in table.mean().sort_values(ascending=False).items():
        times = sum(design == name for design in chosen.values())
        print(
            f"  {value:5.1f}  {name}" + (f"; the choice of the others for {times} machines" if times else "")
        )
    print(f"  {reached:5.1f}  of the choices, each without the machine that it is for")


if __name__ == "__main__":
    main()
