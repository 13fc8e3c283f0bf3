"""What a fused system gains over its branches, and what its calibration changes.

    python benchmarks/fused_calibrations.py RESULT...

RESULT is a folder of `nearfar run best --data DATA` (or of another fused system). The scores of its branches are
fused again, with its weights, by each calibration of `decisions.fusing`. For each result: Omega in percent of the
branches and of each fusion; on how many machines the fusion is above every branch; and what a threshold for 5 % of
false alarms, from the fused scores of unseen normal clips, finds of the anomalous clips and flags of the normal
ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from nearfar.decisions.fusing import CALIBRATIONS, NormalCalibration, fuse, fuse_left_out, take_weights
from nearfar.decisions.thresholds import Conformal, is_anomaly
from nearfar.evaluation import metrics
from nearfar.evaluation.results import Result
from nearfar.research.fused import clips_of, references_of, scores_of
from nearfar.research.fusion import machine_of

RATE = 0.05


def omega(clips: pd.DataFrame, scores: pd.Series) -> float:
    return 100 * metrics.omega(metrics.evaluate(clips, scores))


def by_machine(clips: pd.DataFrame, scores: pd.Series) -> pd.Series:
    """Omega of each machine alone."""
    return pd.Series({m: omega(of, scores[of.index]) for m, of in clips.groupby("machine")})


def fused(
    scores: pd.DataFrame, normals: pd.DataFrame, weights: dict[str, float], calibration: NormalCalibration
) -> tuple[pd.Series, pd.Series]:
    """Scores of all machines, and which clips are flagged."""
    found, flagged = [], []
    of_clip, of_normal = machine_of(scores.index), machine_of(normals.index)
    for machine in pd.unique(of_clip):
        new, own = scores[of_clip == machine], normals[of_normal == machine].to_numpy()
        one = fuse(new.to_numpy(), own, weights=weights, calibration=calibration)
        unseen = fuse_left_out(own, weights=weights, calibration=calibration)
        threshold = Conformal.fit(unseen, false_alarm_rate=RATE)
        found.append(pd.Series(one, index=new.index))
        flagged.append(pd.Series(is_anomaly(threshold, one), index=new.index))
    return pd.concat(found), pd.concat(flagged)


def show(folder: Path) -> None:
    branches = {path.name: Result.load(path) for path in sorted((folder / "branches").iterdir())}
    seed = next(iter(branches.values())).run.seeds[0]
    scores, clips = scores_of(branches, seed), clips_of(branches, seed)
    normals = references_of(branches, seed)
    asked = Result.load(folder).run.system["fusion"]["weights"]
    weights = take_weights(asked, list(scores.columns))
    alone = pd.DataFrame({name: by_machine(clips, scores[name]) for name in scores})
    print(f"{folder.name}: " + ", ".join(f"{name} {omega(clips, scores[name]):.1f}" for name in scores))
    anomalous = clips["label"] == "anomaly"
    for calibration in CALIBRATIONS:
        found, flagged = fused(scores, normals, weights, calibration)
        own = by_machine(clips, found)
        above = int((own > alone.max(axis=1)).sum())
        print(
            f"  {calibration:16s} {omega(clips, found):.1f}, above every branch on {above} of {len(own)}; found "
            f"{100 * np.mean(flagged[anomalous]):.0f} %, flagged {100 * np.mean(flagged[~anomalous]):.1f} %"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    for result in parser.parse_args().results:
        show(result)
