"""What learning on does to false alarms and to AUC: the table of ``docs/learning.md``.

    OMP_NUM_THREADS=1 python benchmarks/learning.py FOLDER [SYSTEM] [SEED]

FOLDER gets simulated machines, unless they are there: of each, 200 source clips and 60 target clips for training,
and 60 clips of each domain and label for testing. A detector is fitted to the source clips alone. It then learns
ten target clips, and then the other 50. After each step, the table says how many fresh normal clips are flagged
when 5 % are asked, how many anomalous ones are found, and the AUC, by domain. Beside it stands another threshold:
from the scores of the new clips by the old detector, and the scores that the old clips had before. The last line
of a machine compares the detector with one that is fitted to all clips at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from nearfar.decisions.thresholds import Conformal
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Clip, Machine
from nearfar.simulation import MACHINES, simulate

CLIPS = {"source_clips": 200, "target_clips": 60, "test_clips": 60, "seconds": 6.0}
FIRST = 10  # target clips that are learnt first
RATE = 0.05
LABELS = ("normal", "anomaly")

Float = NDArray[np.float64]
Counts = dict[tuple[str, str, str, str], list[tuple[int, int]]]  # by step, threshold, domain and label


def main(folder: Path, system: str = "spectral", seed: int = 20260) -> None:
    """Print the table."""
    if not folder.exists():
        simulate(folder, machines=list(MACHINES), seed=seed, workers=2, **CLIPS)  # type: ignore[arg-type]
    counts: Counts = {}
    aucs: dict[tuple[str, str], list[float]] = {}
    print(
        f"{'machine':9} {'step':9} {'domain':7} {'AUC':>6}   {'normal':<18} {'anomalous':<18} by old scores"
    )
    for machine in datasets.load(folder):
        of_machine(machine, system, counts, aucs)
    for (step, domain), values in aucs.items():
        shown = "  ".join(
            share(counts[step, how, domain, label]) for how in ("new", "old") for label in LABELS
        )
        print(f"{'all':9} {step:9} {domain:7} {np.mean(values):6.3f}   {shown}")


def of_machine(
    machine: Machine, system: str, counts: Counts, aucs: dict[tuple[str, str], list[float]]
) -> None:
    """Fit, learn twice, and print what each step does."""
    source, target = ([c for c in machine.train if c.domain == d] for d in ("source", "target"))
    jobs = Jobs()
    detector = Detector.fit(Machine(machine.name, tuple(source)), system, jobs=jobs, false_alarm_rate=RATE)
    assert detector.threshold is not None
    old = detector.threshold.normal_scores
    tell(machine, "fit", detector, detector.threshold.value, counts, aucs)
    for step, new in (("10 target", target[:FIRST]), ("60 target", target[FIRST:])):
        old = np.append(old, detector.score_clips(new, jobs=jobs))
        begun = time.process_time()
        detector = detector.learn(new, jobs=jobs)
        seconds = time.process_time() - begun
        by_old = Conformal.fit(old, false_alarm_rate=RATE).value
        tell(machine, step, detector, by_old, counts, aucs)
    whole = Machine(machine.name, tuple(c for c in machine.train))
    fitted = Detector.fit(whole, system, jobs=jobs, false_alarm_rate=RATE)
    scores, expected = (d.score_clips(machine.test, jobs=jobs) for d in (detector, fitted))
    assert fitted.threshold is not None
    assert detector.threshold is not None
    of_scores = np.abs(scores / expected - 1).max()
    of_threshold = abs(detector.threshold.value / fitted.threshold.value - 1)
    print(
        f"{machine.name:9} from a fit to all, scores differ by up to {of_scores:.1e}, the threshold by "
        f"{of_threshold:.1e}, relatively; clips {detector.trained_on['clips']} and {fitted.trained_on['clips']}; "
        f"{seconds:.2f} s of processor time to learn 50",
        flush=True,
    )


def tell(
    machine: Machine,
    step: str,
    detector: Detector,
    by_old: float,
    counts: Counts,
    aucs: dict[tuple[str, str], list[float]],
) -> None:
    """Print a line for each domain, and count it."""
    assert detector.threshold is not None
    scores = detector.score_clips(machine.test, jobs=Jobs())
    for domain in ("source", "target"):
        normal, anomalous = (of_cell(machine.test, scores, domain, label) for label in ("normal", "anomaly"))
        truth = np.repeat([0, 1], [len(normal), len(anomalous)])
        auc = float(roc_auc_score(truth, np.concatenate([normal, anomalous])))
        aucs.setdefault((step, domain), []).append(auc)
        shown = []
        for how, value in (("new", detector.threshold.value), ("old", by_old)):
            for label, cell in (("normal", normal), ("anomaly", anomalous)):
                found = (int((cell > value).sum()), len(cell))
                counts.setdefault((step, how, domain, label), []).append(found)
                shown.append(share([found]))
        print(f"{machine.name:9} {step:9} {domain:7} {auc:6.3f}   {'  '.join(shown)}", flush=True)


def of_cell(clips: Sequence[Clip], scores: Float, domain: str, label: str) -> Float:
    return scores[[c.domain == domain and c.label == label for c in clips]]


def share(counts: Sequence[tuple[int, int]]) -> str:
    flagged, clips = (sum(each) for each in zip(*counts, strict=True))
    return f"{flagged:4d} of {clips:4d} {flagged / clips:5.1%}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3], *map(int, sys.argv[3:4]))
