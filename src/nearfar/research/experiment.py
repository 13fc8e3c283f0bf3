"""Experiments: a system, fitted to every machine of a data set with every seed, scored and evaluated.

This is the only orchestration. Every step is a job whose outcome is kept under what made it (``files.steps.Jobs``):
an interrupted run goes on where it stopped, a repeated one only reads. Every task computes with one thread, so
the number of workers changes nothing but the time, and two runs give equal bytes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from threadpoolctl import threadpool_limits

from nearfar import __version__
from nearfar.decisions.thresholds import is_anomaly
from nearfar.detector import fitting
from nearfar.detector.fitted import Detector
from nearfar.evaluation import statistics
from nearfar.evaluation.metrics import clip_table, decision_metrics, evaluate, named
from nearfar.evaluation.protocols import FIXED
from nearfar.evaluation.record import DataRecord, MachineRecord, ProtocolRecord, RunRecord
from nearfar.evaluation.results import (
    NAMES,
    REFERENCE_COLUMNS,
    SCORE_COLUMNS,
    read_table,
    refuse_other_results,
)
from nearfar.evaluation.results import Result as Result
from nearfar.evaluation.truth import read_truth
from nearfar.files.digests import digest
from nearfar.files.provenance import library_versions
from nearfar.files.steps import Jobs
from nearfar.places.place import Place
from nearfar.places.tasks import each
from nearfar.recordings import datasets
from nearfar.recordings.clips import Clip, Dataset, DatasetError, Machine
from nearfar.recordings.recording import digests, known_digests
from nearfar.research import adaptation
from nearfar.research.adaptation import AdaptedOn
from nearfar.systems import configuration
from nearfar.systems.branches import Progress
from nearfar.systems.configuration import System
from nearfar.systems.named import SEED
from nearfar.systems.resolved import ResolvedSystem, resolve

PROTOCOL = ProtocolRecord(name=FIXED.name, selected_on=FIXED.selected_on)  # of systems that are not adapted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MachineRun:
    """One machine with one seed: what a worker does in one go."""

    machine: Machine
    system: ResolvedSystem
    cache: Path

    @property
    def seed(self) -> int:
        return self.system.seed

    @property
    def name(self) -> str:
        return f"{self.machine.name}, seed {self.seed}"


def run(  # noqa: PLR0913  # its keyword-only options are its interface
    system: System | Path | str,
    data: Dataset | Path | str,
    out: Path | str | None = None,
    *,
    seeds: Sequence[int] = (SEED,),
    adapted_on: AdaptedOn | str = "others",
    workers: Place | int = 1,
    truth: Path | str | None = None,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Result:
    """Fit, score and evaluate a system on every machine of a data set.

    Parameters
    ----------
    system : System, Path or str
        Or the name of a system, see ``nearfar systems``; or the path of a TOML file.
    data : Dataset, Path or str
        Or its folder, with a folder for each machine.
    out : Path, str or None
        Folder of the result: ``FILES``. It may hold a result of the same system on the same machines, which is
        written again. ``None``: ``results/NAME``.
    seeds : sequence of int
    adapted_on : {"others", "all"}, Path or str
        For systems that are adapted: on whose normal clips the adapter of each machine is trained, those of all
        other machines or of all; or the file of an adapter. See ``adaptation``.
    workers : Place or int
        Where machines and seeds are done, each by one process; a number: so many processes of this computer.
    truth : Path, str or None
        Ground truth of an evaluation set, in the layout of the official evaluators. It is read before the work, to
        see that it is whole, and used after all scores exist.
    jobs : Jobs or None
        Where finished steps are kept; ``None``: the user's cache.
    progress : callable or None
        Called with (what is being done, done, total).

    Raises
    ------
    DatasetError
        If clips cannot be used; everything that is wrong with a machine.
    FileExistsError
        If ``out`` holds results of another system or other machines.
    WeightsError
        If the system needs pretrained weights that are not here; says how to get them.
    AdapterError
        If an adapter was trained on another network.
    ValueError
        If a seed is given twice, a machine cannot be fitted, or there is nothing to train its adapter on.
    """
    asked = _prepare(system, data, out, seeds, adapted_on, truth)
    jobs = jobs or Jobs()
    tasks, adapters = _tasks(asked, jobs, workers, progress)
    result = _result(asked, _do_all(tasks, workers, jobs, progress), adapters)
    result.save()
    return result


@dataclass(frozen=True)
class _Asked:
    """What ``run`` is asked for, once all that can be refused before the work has been looked at."""

    system: System
    dataset: Dataset
    out: Path
    seeds: tuple[int, ...]
    adapted_on: AdaptedOn
    truth: Path | None
    protocol: ProtocolRecord


def _prepare(
    system: System | Path | str,
    data: Dataset | Path | str,
    out: Path | str | None,
    seeds: Sequence[int],
    adapted_on: AdaptedOn | str,
    truth: Path | str | None,
) -> _Asked:
    """The arguments of ``run``, names and paths loaded; raises what can be refused before the work."""
    system = configuration.load(str(system)) if isinstance(system, Path | str) else system
    dataset = data if isinstance(data, Dataset) else datasets.load(data)
    adapted_on = adaptation.read_adapted_on(adapted_on)
    truth = None if truth is None else Path(truth)
    place = Path("results") / system.name if out is None else Path(out)
    _refuse_seeds(system, seeds)
    if without := [m.name for m in dataset if not m.test]:
        raise DatasetError(f"{name}: no test clips to score; `nearfar fit` only fits" for name in without)
    protocol = PROTOCOL if system.branch.adaptation is None else adaptation.protocol_of(adapted_on)
    refuse_other_results(place, system.model_dump(mode="json"), dataset, protocol=protocol)
    if truth is not None:
        if not truth.is_dir():
            raise FileNotFoundError(f"{truth}: no folder of ground truth here")
        described(dataset, truth)  # raises what would else be raised after the work
    return _Asked(system, dataset, place, tuple(seeds), adapted_on, truth, protocol)


def _refuse_seeds(system: System, seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)}: expected one or more, each once")
    if len(seeds) > 1 and system.ensemble.seeds:
        raise ValueError(
            f"seeds={list(seeds)}: {system.name} names the seeds of its ensemble itself; omit yours, or empty its "
            "own (--set 'ensemble.seeds=[]') for a result of each seed"
        )


def _tasks(
    asked: _Asked, jobs: Jobs, workers: Place | int, progress: Progress | None
) -> tuple[list[MachineRun], adaptation.Adapters]:
    """One task for each seed and machine, and the adapters that their systems have; these are trained here."""
    pairs = [(seed, machine) for seed in asked.seeds for machine in asked.dataset]
    most = max((machine.clips for machine in asked.dataset), key=len)  # each task makes its encoder ready
    with threadpool_limits(1):  # as tasks compute
        resolved = {
            (seed, machine.name): resolve(
                asked.system, seed=seed, jobs=jobs, machine=machine.name, clips=most
            )
            for seed, machine in pairs
        }
    adapters = adaptation.for_machines(
        asked.system, asked.dataset, asked.seeds, asked.adapted_on,
        jobs=jobs, workers=workers, progress=progress,
    )  # fmt: skip
    bound = adaptation.bind(resolved, adapters)
    return [MachineRun(machine, bound[seed, machine.name], jobs.root) for seed, machine in pairs], adapters


def _result(asked: _Asked, outcomes: Sequence[Outcome], adapters: adaptation.Adapters) -> Result:
    """All outcomes in one result; labels and ground truth are read here, after all scores exist."""
    clips = described(asked.dataset, asked.truth)
    scores = _add_truth(pd.concat([outcome.scores for outcome in outcomes], ignore_index=True), clips)
    references = pd.concat([outcome.references for outcome in outcomes], ignore_index=True)
    record = _record(asked, outcomes, adapters)
    return Result(asked.out, scores, metrics_of(scores, clips), record, references)


def compare(
    a: Result,
    b: Result,
    *,
    unit: Literal["clip", "recording"] = "clip",
    n_resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> statistics.Comparison:
    """Paired bootstrap of two results on the same test clips: see ``statistics.compare``.

    Parameters
    ----------
    a, b : Result
    unit : {"clip", "recording"}
        What is drawn. A recording is what ``statistics.recordings`` takes for one.
    n_resamples, seed : int

    Raises
    ------
    ValueError
        If the results are of different clips, or their labels are not known or not the same.
    """
    clips = _same_clips(a, b)
    try:
        return statistics.compare(
            clips,
            scores_by_seed(a),
            scores_by_seed(b),
            n_resamples=n_resamples,
            seed=seed,
            recording=recording_of(clips.index, unit),
        )
    except ValueError as error:
        raise ValueError(f"{a.folder} and {b.folder}: {error}") from error


def recording_of(keys: pd.Index, unit: Literal["clip", "recording"]) -> pd.Series | None:
    """The recording of each clip, as ``statistics`` takes it; ``None``, if clips are drawn.

    Raises
    ------
    ValueError
        If recordings are asked for, and a name does not tell its own.
    """
    return statistics.recordings(list(keys)) if unit == "recording" else None


def scores_by_seed(result: Result) -> pd.DataFrame:
    """The scores of a result by key, a column a seed."""
    return pd.DataFrame({s: t.set_index("key")["score"] for s, t in result.scores.groupby("seed")})


def _same_clips(a: Result, b: Result) -> pd.DataFrame:
    """The table of clips that two results have in common: all of them, or an error."""
    of_a, of_b = (
        r.scores.drop_duplicates("key").set_index("key")[["machine", "section", "domain", "label"]]
        for r in (a, b)
    )
    for one, other, place in ((of_a, of_b, b.folder), (of_b, of_a, a.folder)):
        if missing := one.index.difference(other.index).to_list():
            raise ValueError(f"different clips cannot be compared: {place} has no {named(missing)}")
    of_b = of_b.loc[of_a.index]
    same = (of_a == of_b) | (of_a.isna() & of_b.isna())
    if differing := of_a.index[~same.all(axis=1)].to_list():
        raise ValueError(f"{a.folder} and {b.folder} know different domains or labels of {named(differing)}")
    return of_a


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``"1,2,3"``.

    Raises
    ------
    ValueError
        If one is not a whole number from 0 on.
    """
    parts = [part.strip() for part in text.split(",")]
    if bad := [part for part in parts if not part.isdecimal()]:
        raise ValueError(
            f"seeds={text!r}: {bad[0]!r} is not a whole number; expected some joined by commas, as 1,2,3"
        )
    return [int(part) for part in parts]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a task: scores of test clips, of unseen normal clips, and the record of the machine."""

    machine: str
    scores: pd.DataFrame
    references: pd.DataFrame
    record: MachineRecord


def _do_all(
    tasks: Sequence[MachineRun], workers: Place | int, jobs: Jobs, progress: Progress | None
) -> list[Outcome]:
    """Of each task, in their order."""

    def finished(done: int, total: int) -> None:
        if progress is not None:
            progress("machines and seeds", done, total)

    return each(
        _do,
        tasks,
        workers=workers,
        named=lambda task: task.name,
        cache=jobs.root,
        tell=progress,
        finished=finished,
    )


def _do(task: MachineRun, progress: Progress) -> Outcome:
    """Scores and decisions of a machine's test clips; of the finished job, if there is one."""

    def told(step: str, done: int, total: int) -> None:
        progress(f"{task.name}: {step}", done, total)

    def make_detector(folder: Path) -> None:
        detector = Detector.fit(
            task.machine, task.system, cut=None, odd_clips="keep", keep="nothing", jobs=jobs, progress=told
        )
        detector.save(folder / "detector")
        unseen = [(key, task.machine.name, task.seed, score) for key, score in detector.unseen.items()]
        pd.DataFrame(unseen, columns=REFERENCE_COLUMNS).to_csv(
            folder / "references.csv", index=False, errors=NAMES
        )

    def make_scores(folder: Path) -> None:
        made = jobs.do("detector", fitted_from, make_detector, made_by=fitted_by)
        detector = Detector.load(made / "detector")
        shutil.copyfile(made / "references.csv", folder / "references.csv")
        _score(detector, task, jobs, told).to_csv(folder / "scores.csv", index=False, errors=NAMES)
        _machine_record(detector, task, tested_on).save(folder / "machine.json")

    jobs = Jobs(task.cache)
    with threadpool_limits(1):
        fitted_from, fitted_by = _detector_inputs(task, jobs), _made_by(task)
        tested_on = _digests(task.machine.test, jobs)
        inputs = {"detector": fitted_from, "clips": tested_on}
        folder = jobs.do("scores", inputs, make_scores, made_by=fitted_by)
    scores = _describe_clips(task, read_table(folder / "scores.csv").astype({"decision": "Int64"}))
    references = read_table(folder / "references.csv")
    return Outcome(task.machine.name, scores, references, MachineRecord.load(folder / "machine.json"))


def finished(task: MachineRun) -> tuple[bool, bool]:
    """Whether the detector of a task is in its cache, and whether its scores are; no recording is read."""
    jobs = Jobs(task.cache)
    if None in known_digests((clip.recording for clip in task.machine.clips), jobs):
        return False, False
    fitted_from, fitted_by = _detector_inputs(task, jobs), _made_by(task)
    inputs = {"detector": fitted_from, "clips": _digests(task.machine.test, jobs)}
    return (
        jobs.has("detector", fitted_from, made_by=fitted_by),
        jobs.has("scores", inputs, made_by=fitted_by),
    )


def _made_by(task: MachineRun) -> tuple[str, ...]:
    return __name__, fitting.__name__, *task.system.modules


def _machine_record(detector: Detector, task: MachineRun, tested_on: list[list[Any]]) -> MachineRecord:
    return MachineRecord(
        sample_rate=detector.sample_rate,
        parameters=detector.parameters,
        false_alarm_rate=None if detector.threshold is None else detector.threshold.false_alarm_rate,
        training_clips=len(task.machine.train),
        test_clips=len(task.machine.test),
        training_digest=detector.trained_on["digest"],
        test_digest=digest(tested_on),
    )


def _detector_inputs(task: MachineRun, jobs: Jobs) -> dict[str, Any]:
    """Everything that a fitted detector depends on."""
    clips = [
        [*row, clip.domain, clip.attributes, clip.group]
        for row, clip in zip(_digests(task.machine.train, jobs), task.machine.train, strict=True)
    ]
    return {"system": task.system.identity, "machine": task.machine.name, "clips": clips}


def _digests(clips: Sequence[Clip], jobs: Jobs) -> list[list[Any]]:
    return [[c.key, sha] for c, sha in zip(clips, digests((c.recording for c in clips), jobs), strict=True)]


def _score(detector: Detector, task: MachineRun, jobs: Jobs, told: Progress) -> pd.DataFrame:
    """Scores and decisions of the test clips, in their order: what the step depends on, and no more."""
    clips = task.machine.test
    scores = detector.score_clips(clips, jobs=jobs, progress=told)
    decided = pd.Series(pd.NA, index=range(len(clips)), dtype="Int64")
    if detector.threshold is not None:
        decided[:] = is_anomaly(detector.threshold, scores).astype(int)
    return pd.DataFrame({"key": [c.key for c in clips], "score": scores, "decision": decided})


def _describe_clips(task: MachineRun, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores, with what the data set says of the clips now: a finished step does not depend on that."""
    clip_of = {clip.key: clip for clip in task.machine.test}
    clips = [clip_of[key] for key in scores["key"]]
    return scores.assign(
        machine=[c.machine for c in clips],
        section=[c.section for c in clips],
        split=[c.split for c in clips],
        seed=task.seed,
    )


def described(dataset: Dataset, truth: Path | None) -> pd.DataFrame:
    """What is known of every test clip, by key; the ground truth supersedes names.

    Parameters
    ----------
    dataset : Dataset
    truth : Path or None
        As for ``run``.

    Returns
    -------
    DataFrame
        Indexed by key: machine, section, domain, label.

    Raises
    ------
    FileNotFoundError, DatasetError
        As ``read_truth``; or if the truth knows clips that the data have not.
    """
    table = clip_table(c for m in dataset for c in m.test)
    if truth is None:
        return table
    known = read_truth(truth, [m.name for m in dataset])
    if missing := sorted(set(known.index) - set(table.index)):
        raise DatasetError(f"{key}: in the ground truth, but not in the data" for key in missing)
    table.loc[known.index, ["domain", "label"]] = known[["domain", "label"]]
    return table


def _add_truth(scores: pd.DataFrame, described: pd.DataFrame) -> pd.DataFrame:
    known = described.loc[scores["key"], ["domain", "label"]].reset_index(drop=True)
    return pd.concat([scores, known], axis=1)[SCORE_COLUMNS]


def metrics_of(scores: pd.DataFrame, described: pd.DataFrame) -> pd.DataFrame:
    """The official metrics of every seed, machine and section whose labels define them.

    Parameters
    ----------
    scores : DataFrame
        As of a ``Result``.
    described : DataFrame
        As of ``described``.
    """
    rows = []
    for (seed, machine), table in scores.groupby(["seed", "machine"], sort=False):
        by_key, clips = table.set_index("key"), described.loc[table["key"]]
        try:
            found = evaluate(clips, by_key["score"])
        except ValueError as reason:  # labels are unknown, or of one class; the scores are worth keeping
            logger.warning("%s: no metrics: %s", machine, reason)
            continue
        if by_key["decision"].notna().all():
            found = found.join(decision_metrics(clips, by_key["decision"].astype(float)))
        rows.append(pd.concat({seed: found}, names=["seed"]))
    return pd.concat(rows).reset_index() if rows else pd.DataFrame(columns=["seed", "machine", "section"])


def _record(asked: _Asked, outcomes: Sequence[Outcome], adapters: adaptation.Adapters) -> RunRecord:
    """The record of the run; it tells neither the time nor the place."""
    machines = {outcome.machine: outcome.record for outcome in outcomes}
    return RunRecord(
        system=asked.system.model_dump(mode="json"),
        seeds=asked.seeds,
        data=DataRecord(name=asked.dataset.name, machines=machines),
        sample_rate=max(of.sample_rate for of in machines.values() if of.sample_rate is not None),
        parameters={name: of.parameters for name, of in machines.items() if of.parameters is not None},
        versions={"nearfar": __version__, **library_versions()},
        protocol=asked.protocol,
        adapters=adaptation.describe(adapters) or None,
    )
