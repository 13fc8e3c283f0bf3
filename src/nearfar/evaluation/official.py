"""Evaluate score files in the format of the challenge, whoever wrote them.

A folder has two files for every machine and section, with rows ``NAME.wav,VALUE`` and without a header::

    anomaly_score_MACHINE_section_SS_test.csv       a finite number, higher for a more anomalous clip
    decision_result_MACHINE_section_SS_test.csv     0 (normal) or 1 (anomalous)

The official baseline writes ``anomaly_score_DCASE2026T2MACHINE_section_SS_test_seed13711_id(0_)[_Eval].csv``;
in 2020 the names were ``anomaly_score_MACHINE_id_SS.csv``. Both are read too. All other files are ignored.
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
    """The numbers that the official evaluator reports about one system.

    Attributes
    ----------
    metrics : DataFrame
        As ``metrics.evaluate`` returns them.
    decisions : DataFrame or None
        As ``metrics.decision_metrics`` returns them; ``None`` if the folder has no decisions.
    """

    metrics: pd.DataFrame
    decisions: pd.DataFrame | None


def read_scores(folder: Path) -> pd.DataFrame:
    """Read the scores and decisions in a folder of the challenge's files.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    DataFrame
        Sorted by its index, the key of each clip. Columns: ``score``; and ``decision`` if the folder has decisions,
        missing for a clip that has none.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or has no scores.
    DatasetError
        If a file does not have the format of the challenge; the message lists every problem.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one with files {SCORE}_*.csv")
    problems: list[str] = []
    scores = _read(folder, SCORE, problems)
    decisions = _read(folder, DECISION, problems)
    problems += [
        f"{folder}: {key}: has a decision, but no score" for key in sorted(decisions.keys() - scores.keys())
    ]
    if problems:
        raise DatasetError(problems)
    if not scores:
        raise FileNotFoundError(f"{folder}: no scores; expected files {SCORE}_MACHINE_section_SS_test.csv")
    table = pd.DataFrame({"score": pd.Series(scores, dtype=float)}).rename_axis("key").sort_index()
    return table.assign(decision=pd.Series(decisions, dtype=float)) if decisions else table


def evaluate_folder(
    folder: Path, truth: Path | None = None, *, machines: Collection[str] | None = None
) -> Evaluation:
    """Evaluate a folder of score files as the official evaluator does.

    Parameters
    ----------
    folder : Path
        Scores, and decisions if there are any.
    truth : Path, optional
        Folder of the ground truth, in the layout of the official evaluators. Without it, labels and domains are
        taken from the names of the clips, as in a development set.
    machines : collection of str, optional
        Evaluate only these machines.

    Raises
    ------
    FileNotFoundError
        If a folder does not exist, or has no scores.
    ValueError
        If a file is damaged, labels are unknown, scores and ground truth are for different clips, or only some
        clips have a decision.
    """
    scores = read_scores(folder)
    if machines is not None:
        of_clip = [parse_clip(Path(key)).machine for key in scores.index]
        for machine in machines:
            if machine not in of_clip:
                raise ValueError(unknown("machine", machine, set(of_clip)))
        scores = scores[[machine in machines for machine in of_clip]]
    if truth is None:
        clips = _describe(scores.index)
    else:
        clips = read_truth(truth, machines)
        if (truth / ATTRIBUTES).is_dir():
            scores = scores.rename(index=read_released_names(truth, machines))
    try:
        return Evaluation(
            metrics=metrics.evaluate(clips, scores["score"]),
            decisions=metrics.decision_metrics(clips, scores["decision"]) if "decision" in scores else None,
        )
    except ValueError as error:
        raise ValueError(f"{folder}{'' if truth is None else f' against {truth}'}: {error}") from error


def _describe(keys: Iterable[str]) -> pd.DataFrame:
    clips = [parse_clip(Path(key)) for key in keys]
    if hidden := [c.key for c in clips if c.label is None]:
        raise ValueError(
            f"the names of {len(hidden)} clips tell no label, for example {hidden[0]!r}; give the folder of the "
            "ground truth"
        )
    return metrics.clip_table(clips)


def _read(folder: Path, kind: str, problems: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for file in sorted(folder.glob(f"{kind}_*.csv")):
        match = _FILE.fullmatch(file.name)
        if match is None:
            problems.append(f"{file}: the name must be {kind}_MACHINE_section_SS_test.csv")
            continue
        values = _read_file(file, match["machine"], int(match["section"]), problems)
        if twice := sorted(values.keys() & found.keys()):
            problems.append(f"{file}: {len(twice)} clips are in another file too, the first is {twice[0]}")
        found |= values
    return found


def _read_file(file: Path, machine: str, section: int, problems: list[str]) -> dict[str, float]:
    found = {}
    for name, text in read_pairs(file, problems):
        try:
            clip = parse_clip(Path(machine, "test", name))
        except ValueError:
            problems.append(f"{file}: {name!r} is not a name of a test clip")
            continue
        value = _number(text)
        if clip.section != section:
            problems.append(f"{file}: {name} is a clip of section {clip.section:02d}")
        elif file.name.startswith(SCORE) and not math.isfinite(value):
            problems.append(f"{file}: {name} has the score {text!r}; expected a finite number")
        elif file.name.startswith(DECISION) and text not in ("0", "1"):
            problems.append(f"{file}: {name} has the decision {text!r}; expected 0 or 1")
        else:
            found[clip.key] = value
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
