"""All that a report shows of some results, gathered once: numbers, commands, and what recordings showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from nearfar.evaluation import statistics
from nearfar.evaluation.curves import Curve
from nearfar.evaluation.results import Result
from nearfar.files.steps import Jobs
from nearfar.recordings.clips import Dataset
from nearfar.research import overview
from nearfar.research.commands import Commands, commands_of
from nearfar.research.experiment import recording_of
from nearfar.research.leaving_out import Branches, branches_of
from nearfar.research.listened import Listened, listen_to
from nearfar.research.overview import Limit, Pair, Unit
from nearfar.systems.branches import Progress

WRONG_CLIPS = 5  # of each kind, machine and domain, that a table shows


@dataclass(frozen=True)
class ReportedResult:
    """A result, and all numbers of it that a report shows.

    Attributes
    ----------
    name : str
        Which no other result of the report has.
    result : Result
    metrics, false_alarms, wrong : DataFrame
        As of ``overview.metrics_of``, ``false_alarms``, and ``most_wrong``, or ``highest`` if no labels are known.
    intervals : DataFrame or None
        As of ``overview.intervals``.
    single : tuple of str
        Cells of one recording, which make intervals by recordings too narrow.
    omegas : Series
        As of ``overview.omegas``.
    seed : int
        The first one, of which the next two are.
    limits : mapping from machine to Limit
        As of ``overview.thresholds``.
    curves : mapping from machine and section to curves
        As of ``overview.roc_curves``.
    branches : Branches or None
        As of ``leaving_out.branches_of``.
    commands : Commands
    """

    name: str
    result: Result
    metrics: pd.DataFrame
    intervals: pd.DataFrame | None
    single: tuple[str, ...]
    omegas: pd.Series
    false_alarms: pd.DataFrame
    wrong: pd.DataFrame
    seed: int
    limits: Mapping[str, Limit]
    curves: Mapping[tuple[str, int], tuple[Curve, ...]]
    branches: Branches | None
    commands: Commands


@dataclass(frozen=True)
class Reported:
    """What a report shows.

    Attributes
    ----------
    results : tuple of ReportedResult
    pairs : tuple of Pair
        As of ``overview.comparisons``, by the places of the results.
    unit : {"clip", "recording"}
        What the intervals draw.
    listened : Listened or None
        ``None`` without recordings.
    played : tuple of str
        Keys of the clips that are to be played, the most important first.
    """

    results: tuple[ReportedResult, ...]
    pairs: tuple[Pair, ...]
    unit: Unit
    listened: Listened | None
    played: tuple[str, ...]


def gather(
    results: Sequence[Result],
    data: Dataset | None = None,
    *,
    unit: Unit = "clip",
    clips: int = 0,
    workers: int = 1,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Reported:
    """Gather what a report shows.

    Parameters
    ----------
    results : sequence of Result
        One or more.
    data : Dataset or None
        That the results were made of; each recording of their machines is read once.
    unit : {"clip", "recording"}
        What the intervals draw.
    clips : int
        How many clips are played at most.
    workers : int
        Threads that read.
    jobs : Jobs or None
        Whose cache has embeddings; ``None``: the user's.
    progress : callable or None

    Raises
    ------
    ValueError
        If there is no result, one is given twice, its tables and record do not fit together, or recordings are
        to be drawn and names do not tell them.
    DatasetError
        If the data set has no clip of a result.
    """
    _require_different(results)
    results = [_sound(result) for result in results]
    names = overview.names_of(results)
    wrong = [
        overview.most_wrong(r, WRONG_CLIPS) if not r.metrics.empty else overview.highest(r) for r in results
    ]
    played, listened = tuple(_by_turns(wrong, clips)) if data is not None else (), None
    if data is not None:
        listened = listen_to(
            data, dict(zip(names, results, strict=True)),
            played=played, workers=workers, jobs=jobs, progress=progress,
        )  # fmt: skip
    machines = () if listened is None else listened.machines
    gathered = []
    for number, (name, result, table) in enumerate(zip(names, results, wrong, strict=True)):
        gathered.append(_reported(name, result, table, unit, machines, progress))
        _tell(progress, "results", number + 1, len(results))
    pairs: list[Pair] = []
    for pair in overview.comparisons(results, unit):
        pairs.append(pair)
        _tell(progress, "comparisons", len(pairs), overview.n_pairs(len(results)))
    return Reported(tuple(gathered), tuple(pairs), unit, listened, played)


def _require_different(results: Sequence[Result]) -> None:
    """Raise if there is no result, or one is given twice."""
    if not results:
        raise ValueError("no results to report; give the folders of one or more results of `nearfar run`")
    folders = Counter(result.folder.resolve() for result in results)
    if twice := [str(folder) for folder, count in folders.items() if count > 1]:
        raise ValueError(f"{twice[0]} is given twice; give each result once")


def load_results(folders: Sequence[Path]) -> list[Result]:
    """The results in these folders.

    Raises
    ------
    ValueError
        As ``Result.load``, with every problem of every folder; or if tables and record do not fit together.
    """
    found, problems = [], []
    for folder in folders:
        try:
            found.append(_sound(Result.load(folder)))
        except (FileNotFoundError, ValueError) as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return found


def _sound(result: Result) -> Result:
    """The same, if its tables and its record tell of the same machines, seeds and clips."""
    scores, run = result.scores, result.run
    problems = []
    if scores.empty:
        problems.append("scores.csv: no scores")
    if strange := sorted(set(scores["machine"]) - set(run.machines)):
        problems.append(f"scores.csv: machine {strange[0]!r} is not in run.json")
    if set(scores["seed"]) != set(run.seeds) and not scores.empty:
        problems.append(
            f"scores.csv: seeds {sorted(set(scores['seed']))}, but run.json has {list(run.seeds)}"
        )
    if twice := list(scores.loc[scores.duplicated(["key", "seed"]), "key"]):
        problems.append(f"scores.csv: {twice[0]!r} has two scores with one seed")
    if not np.isfinite(scores["score"]).all():
        problems.append("scores.csv: scores that are missing or not finite")
    problems += _without_labels(result)
    if problems:
        told = "\n".join(f"{result.folder}/{problem}" for problem in problems)
        raise ValueError(f"{told}\nThe folder is damaged, or its files are of different runs; run again.")
    return result


def _without_labels(result: Result) -> list[str]:
    """Of which machines and sections there are metrics that the labels of the scores do not define."""
    found = []
    of_places = dict(list(result.scores.groupby(["machine", "section"])))
    for (machine, section), _ in result.metrics.groupby(["machine", "section"], sort=False):
        table = of_places.get((machine, section))
        place = f"{machine}, section {section:02d}"
        if table is None:
            found.append(f"scores.csv: no scores of {place}, but metrics.csv has its metrics")
        elif table["label"].isna().any():
            found.append(f"scores.csv: labels of {place} are missing, but metrics.csv has its metrics")
        elif absent := sorted({"normal", "anomaly"} - set(table["label"])):
            found.append(
                f"scores.csv: no clip of {place} is labelled {absent[0]!r}, but metrics.csv has its metrics"
            )
    return found


def _reported(
    name: str,
    result: Result,
    wrong: pd.DataFrame,
    unit: Unit,
    machines: Sequence[str],
    progress: Progress | None,
) -> ReportedResult:
    clips, seed = overview.clips_of(result), result.run.seeds[0]
    certain = overview.intervals(result, unit)

    def told(done: int, total: int) -> None:
        _tell(progress, f"{name}: without each branch", done, total)

    return ReportedResult(
        name=name,
        result=result,
        metrics=overview.metrics_of(result, unit, certain=certain),
        intervals=certain,
        single=statistics.single_recordings(clips, recording_of(clips.index, unit)),
        omegas=overview.omegas(result),
        false_alarms=overview.false_alarms(result),
        wrong=wrong,
        seed=seed,
        limits=overview.thresholds(result, seed),
        curves=overview.roc_curves(result, seed),
        branches=branches_of(result, unit, tell=told),
        commands=commands_of(result, machines),
    )


def _by_turns(wrong: Sequence[pd.DataFrame], n: int) -> Iterator[str]:
    """Keys of the most wrong clips, at most n: the worst of each result, machine and kind, then the next."""
    cells = [
        list(of_cell["key"])
        for table in wrong
        for _, of_kind in table.groupby("kind", sort=False)
        for _, of_cell in of_kind.sort_values("rank", ascending=False, kind="stable").groupby(
            ["machine", "section"], sort=False
        )
    ]
    seen = dict.fromkeys(key for turn in zip_longest(*cells) for key in turn if key is not None)
    yield from list(seen)[:n]


def _tell(progress: Progress | None, step: str, done: int, total: int) -> None:
    if progress is not None:
        progress(step, done, total)
