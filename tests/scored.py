"""Test clips and scores of branches, drawn at random: what fusion and statistics work on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nearfar.evaluation.metrics import clip_table
from nearfar.recordings.clips import parse_clip

DOMAINS, LABELS = ("source", "target"), ("normal", "anomaly")


def make_clips(machines: tuple[str, ...] = ("fan", "pump", "valve"), per_cell: int = 6) -> pd.DataFrame:
    """``per_cell`` clips in each cell; three speeds in each, as attributes."""
    names = [
        f"{m}/test/section_00_{domain}_test_{label}_{i:04d}_speed_{i % 3}.wav"
        for m in machines
        for domain in DOMAINS
        for label in LABELS
        for i in range(per_cell)
    ]
    return clip_table(parse_clip(Path(name)) for name in names)


def make_scores(clips: pd.DataFrame, rng: np.random.Generator, effects: dict[str, float]) -> pd.DataFrame:
    """A branch for each effect: normal noise, plus the effect where the clip is anomalous."""
    anomalous = (clips["label"] == "anomaly").to_numpy(float)
    columns = {b: rng.normal(size=len(clips)) + e * anomalous for b, e in effects.items()}
    return pd.DataFrame(columns, index=clips.index)


def lied(clips: pd.DataFrame, machine: str) -> pd.DataFrame:
    """The same with the labels of one machine exchanged."""
    swapped = clips["label"].map({"normal": "anomaly", "anomaly": "normal"})
    return clips.assign(label=clips["label"].where(clips["machine"] != machine, swapped))
