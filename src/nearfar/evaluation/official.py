"""Score files and decision files in the challenge's format, from any system.

A folder holds two files for every machine and section. Their rows are ``NAME.wav,VALUE``; there is no header::

    anomaly_score_MACHINE_section_SS_test.csv       a finite number, higher for a more anomalous clip
    decision_result_MACHINE_section_SS_test.csv     0 (normal) or 1 (anomalous)

The names of the official baseline are understood too:
``anomaly_score_DCASE2026T2MACHINE_section_SS_test_seed13711_id(0_)[_Eval].csv``, and
``anomaly_score_MACHINE_id_SS.csv`` of 2020. All other files are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nearfar.evaluation import metrics
from nearfar.evaluation.truth import ATTRIBUTES, read_pairs, read_released_names, read_truth
from nearfar.recordings.clips import DatasetError, parse_clip, unknown

SCORE, DECISION = "anomaly_score", "decision_result"

_FILE = re.compile(
    rf"(?P<kind>{SCORE}|{DECISION})_(DCASE\d{{4}}T2)?(?P<machine>.+?)_(section|id)_(?P<section>\d{{2}})"
    r"(_(source|target))?(_test)?(_seed\d+.*)?\.csv"
)


@dataclass(frozen=True)
class Evaluation:
    """What the challenge's evaluator reports of one system.

    Attributes
    ----------
    metrics : DataFrame
        As returned by ``metrics.evaluate``.
    decisions : DataFrame or None
        As returned by ``metrics.decision_metrics``. None if the folder has no decisions.
    """

    metrics: pd.DataFrame
    decisions: pd.DataFrame | None


def read_scores(folder: Path) -> pd.DataFrame:
    """Read the scores and decisions of a folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    DataFrame
        Indexed by key, sorted: ``score``, and ``decision`` if the folder has decisions (missing for a clip without
        one).

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no score in it.
    DatasetError
        If a file breaks a rule. The message lists every problem.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there; expected a folder of {SCORE}_*.csv")
    problems: list[str] = []
    scores = _read(folder, SCORE, problems)
    decisions = _read(folder, DECISION, problems)
    problems += [f"{key}: a decision, but no score" for key in sorted(decisions.keys() - scores.keys())]
    if problems:
        raise DatasetError(problems)
    if not scores:
        raise FileNotFoundError(f"{folder}: no file {SCORE}_MACHINE_section_SS_test.csv with scores")
    table = pd.DataFrame({"score": pd.Series(scores, dtype=float)}).rename_axis("key").sort_index()
    return table.assign(decision=pd.Series(decisions, dtype=float)) if decisions else table


def evaluate_folder(
    folder: Path, truth: Path | None = None, *, machines: Collection[str] | None = None
) -> Evaluation:
    """Evaluate a folder of score files as the official evaluator does.

    Parameters
    ----------
    folder : Path
        With score files and, optionally, decision files.
    truth : Path, optional
        Ground truth in the layout of the official evaluators. Without it, the names of the clips must tell their
        labels, as in development sets.
    machines : collection of str, optional
        Evaluate only these.

    Raises
    ------
    FileNotFoundError, ValueError
        If a folder, a score or a ground truth is missing or broken (see ``read_scores``, ``read_truth`` and
        ``metrics.evaluate``), or if only some clips have a decision.
    """
    scores = read_scores(folder)
    if machines is not None:
        of_clip = [parse_clip(Path(key)).machine for key in scores.index]
        for machine in machines:
            if machine not in of_clip:
                raise ValueError(unknown("machine", machine, set(of_clip)))
        scores = scores[[machine in machines for machine in of_clip]]
    if truth is None:
        clips = _described(scores.index)
    else:
        clips = read_truth(truth, machines)
        if (truth / ATTRIBUTES).is_dir():
            scores = scores.rename(index=read_released_names(truth, machines))
    return Evaluation(
        metrics=metrics.evaluate(clips, scores["score"]),
        decisions=metrics.decision_metrics(clips, scores["decision"]) if "decision" in scores else None,
    )


def _described(keys: Iterable[str]) -> pd.DataFrame:
    clips = [parse_clip(Path(key)) for key in keys]
    if hidden := [c.key for c in clips if c.label is None]:
        raise ValueError(
            f"{len(hidden)} names carry no label, as {hidden[0]!r}; give the ground truth's folder"
        )
    return metrics.clip_table(clips)


def _read(folder: Path, kind: str, problems: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for file in sorted(folder.glob(f"{kind}_*.csv")):
        match = _FILE.fullmatch(file.name)
        if match is None:
            problems.append(f"{file}: expected a name {kind}_MACHINE_section_SS_test.csv")
            continue
        values = _read_file(file, match["machine"], int(match["section"]), problems)
        if twice := sorted(values.keys() & found.keys()):
            problems.append(f"{file}: {twice[0]} and {len(twice) - 1} others are in another file, too")
        found |= values
    return found


def _read_file(file: Path, machine: str, section: int, problems: list[str]) -> dict[str, float]:
    found = {}
    for name, text in read_pairs(file, problems):
        try:
            clip = parse_clip(Path(machine, "test", name))
        except ValueError:
            problems.append(f"{file}: {name!r} is not the name of a test clip")
            continue
        value = _number(text)
        if clip.section != section:
            problems.append(f"{file}: {name} is of section {clip.section:02d}")
        elif file.name.startswith(SCORE) and not math.isfinite(value):
            problems.append(f"{file}: {name} has {text!r}; expected a finite number")
        elif file.name.startswith(DECISION) and text not in ("0", "1"):
            problems.append(f"{file}: {name} has {text!r}; expected 0 or 1")
        else:
            found[clip.key] = value
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
