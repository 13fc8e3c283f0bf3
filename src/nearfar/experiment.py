"""Experiments: a system, fitted to every machine of a data set with every seed, scored and evaluated.

This is the only orchestration. Every step is a job whose outcome is kept under what made it (``storage.Jobs``):
an interrupted run goes on where it stopped, a repeated one only reads. Every task computes with one thread, so
the number of workers changes nothing but the time, and two runs give equal bytes.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from nearfar import __version__
from nearfar.branches import Progress
from nearfar.clips import Clip, Dataset, DatasetError, Machine
from nearfar.detector import SEED, Detector
from nearfar.evaluation.metrics import clip_table, decision_metrics, evaluate
from nearfar.evaluation.results import read_table
from nearfar.evaluation.truth import read_truth
from nearfar.storage import Jobs, atomic_file, digest, library_versions, refuse_unwritable, write_json
from nearfar.systems import System

PROTOCOL = {  # later protocols choose something on some machines; this one chooses nothing
    "name": "fixed configuration",
    "selected_on": "nothing: each machine is fitted to its own normal training clips, test labels only evaluate",
}
SECONDS_TO_CLEAN_UP = 5.0  # of a worker whose parent was killed
SCORE_COLUMNS = ["key", "machine", "section", "split", "domain", "label", "seed", "score", "decision"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What an experiment found, as in its folder.

    Attributes
    ----------
    folder : Path
    scores : DataFrame
        ``SCORE_COLUMNS``; one row a test clip and seed.
    metrics : DataFrame
        One row a seed, machine and section with known labels: see ``evaluation.metrics``. Empty if there is none.
    run : dict
        The resolved system, seeds, data, versions and protocol.
    """

    folder: Path
    scores: pd.DataFrame
    metrics: pd.DataFrame
    run: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read a folder that ``run`` wrote.

        Raises
        ------
        FileNotFoundError
            If it is not a folder of results.
        """
        for name in ("scores.csv", "metrics.csv", "run.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder}: not a folder of results ({name} is missing); see `nearfar run`"
                )
        scores, metrics = (read_table(folder / name) for name in ("scores.csv", "metrics.csv"))
        return cls(folder, scores, metrics, json.loads((folder / "run.json").read_text()))


@dataclass(frozen=True, slots=True)
class Task:
    """One machine with one seed: what a worker does in one go."""

    machine: Machine
    system: System
    seed: int
    cache: Path

    @property
    def name(self) -> str:
        return f"{self.machine.name}, seed {self.seed}"


def run(
    system: System,
    dataset: Dataset,
    out: Path,
    *,
    seeds: Sequence[int] = (SEED,),
    workers: int = 1,
    truth: Path | None = None,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Result:
    """Fit, score and evaluate a system on every machine of a data set.

    Parameters
    ----------
    system : System
    dataset : Dataset
    out : Path
        Folder of the result: ``scores.csv``, ``metrics.csv``, ``run.json``. Taken over if it holds a result of
        the same system on the same machines.
    seeds : sequence of int
    workers : int
        Processes, each on one machine and seed at a time.
    truth : Path or None
        Ground truth of an evaluation set, in the layout of the official evaluators; read after all scores exist.
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
    ValueError
        If a seed is given twice, or a machine cannot be fitted.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)}: expected one or more, each once")
    if without := [m.name for m in dataset if not m.test]:
        raise DatasetError(f"{name}: no test clips to score; `nearfar fit` only fits" for name in without)
    _refuse_other_results(out, system, dataset)
    if truth is not None and not truth.is_dir():
        raise FileNotFoundError(f"{truth}: no folder of ground truth here")
    jobs = jobs or Jobs()
    tasks = [Task(machine, system, seed, jobs.root) for seed in seeds for machine in dataset]
    outcomes = _all_outcomes(tasks, workers, progress)
    scores = pd.concat([outcome.scores for outcome in outcomes], ignore_index=True)
    described = _described(dataset, truth)
    scores = _with_truth(scores, described)
    metrics = _metrics(scores, described)
    record = _record(system, dataset, seeds, outcomes)
    _write(out, scores, metrics, record)
    return Result(out, scores, metrics, record)


def _refuse_other_results(out: Path, system: System, dataset: Dataset) -> None:
    refuse_unwritable(out / "run.json")
    if not (out / "run.json").is_file():
        return
    there = json.loads((out / "run.json").read_text())
    same_system = there["system"] == system.model_dump(mode="json")
    if not same_system or set(there["data"]["machines"]) != {m.name for m in dataset}:
        what = f"{there['system']['name']} on {', '.join(there['data']['machines'])}"
        with_other = "" if same_system else ", with other settings or another system"
        raise FileExistsError(f"{out} holds results of {what}{with_other}; choose another folder with --out")


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
    """Of a task: scores of the test clips, and what ``run.json`` says of the machine."""

    machine: str
    scores: pd.DataFrame
    description: dict[str, Any]


def _all_outcomes(tasks: Sequence[Task], workers: int, progress: Progress | None) -> list[Outcome]:
    """Of each task, in their order."""
    if workers == 1 or len(tasks) == 1:
        return [_outcome(task, progress) for task in tasks]
    with _pool(min(workers, len(tasks)), progress) as pool:
        futures: list[Future[Outcome]] = [pool.submit(_outcome_in_worker, task) for task in tasks]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()  # the first failure ends the run; what is finished is kept
                if progress is not None:
                    progress("machines and seeds", done, len(tasks))
        except BrokenProcessPool as error:
            raise OSError(
                "a worker process was killed, probably for want of memory; run again with fewer workers: what is "
                "finished is kept"
            ) from error
        return [future.result() for future in futures]


@contextmanager
def _pool(workers: int, progress: Progress | None) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that tell their progress, and that stop at once when the run does."""
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    listener = Thread(target=_listen, args=(messages, progress), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(messages,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown()
        messages.put(None)
        listener.join()
        messages.close()


def _listen(messages: Any, progress: Progress | None) -> None:
    while (message := messages.get()) is not None:
        if progress is not None:
            progress(*message)


_messages: Any = None  # of a worker process: where its progress goes


def _start(messages: Any) -> None:
    """In a new worker: leave Ctrl-C to the parent, whose signal to end then leaves nothing half written."""
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """Of a parent that was killed no signal comes, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_TO_CLEAN_UP)
        os._exit(1)


def _outcome_in_worker(task: Task) -> Outcome:
    return _outcome(task, lambda *message: _messages.put(message))


def _outcome(task: Task, progress: Progress | None) -> Outcome:
    """Scores and decisions of a machine's test clips; of the finished job, if there is one."""

    def told(step: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{task.name}: {step}", done, total)

    def make_detector(folder: Path) -> None:
        detector = Detector.fit(task.machine, task.system, seed=task.seed, jobs=jobs, progress=told)
        detector.save(folder / "detector")

    def make_scores(folder: Path) -> None:
        made = jobs.do("detector", fitted_from, make_detector)
        detector = Detector.load(made / "detector")
        _scored(detector, task, told).to_csv(folder / "scores.csv", index=False)
        write_json(folder / "machine.json", _description(detector, task, tested_on))

    jobs = Jobs(task.cache)
    with threadpool_limits(1):
        fitted_from = _detector_inputs(task, jobs)
        tested_on = _digests(task.machine.test, jobs)
        folder = jobs.do("scores", {"detector": fitted_from, "clips": tested_on}, make_scores)
    scores = read_table(folder / "scores.csv").astype({"decision": "Int64"})
    return Outcome(task.machine.name, scores, json.loads((folder / "machine.json").read_text()))


def _description(detector: Detector, task: Task, tested_on: list[list[Any]]) -> dict[str, Any]:
    return {
        "sample_rate": detector.sample_rate,
        "parameters": detector.branch.encoder.parameters,
        "training_clips": len(task.machine.train),
        "test_clips": len(task.machine.test),
        "training_digest": detector.trained_on["digest"],
        "test_digest": digest(tested_on),
    }


def _detector_inputs(task: Task, jobs: Jobs) -> dict[str, Any]:
    """Everything that a fitted detector depends on."""
    system = task.system.model_dump(mode="json", include={"branch", "threshold"})
    clips = [
        [*row, clip.domain]
        for row, clip in zip(_digests(task.machine.train, jobs), task.machine.train, strict=True)
    ]
    return {"system": system, "machine": task.machine.name, "seed": task.seed, "clips": clips}


def _digests(clips: Sequence[Clip], jobs: Jobs) -> list[list[Any]]:
    return [[c.key, sha] for c, sha in zip(clips, jobs.digests_of(c.path for c in clips), strict=True)]


def _scored(detector: Detector, task: Task, told: Progress) -> pd.DataFrame:
    clips, rows, problems = task.machine.test, [], []
    for clip, verdict in zip(clips, detector.score_files(c.path for c in clips), strict=True):
        if verdict.error:
            problems.append(f"{clip.path}: {verdict.error}")
        decided = pd.NA if detector.threshold is None else int(verdict.score > detector.threshold.value)
        rows.append((clip.key, clip.machine, clip.section, clip.split, task.seed, verdict.score, decided))
        told("scoring", len(rows), len(clips))
    if problems:
        raise DatasetError(problems)
    return pd.DataFrame(rows, columns=[c for c in SCORE_COLUMNS if c not in ("domain", "label")])


def _described(dataset: Dataset, truth: Path | None) -> pd.DataFrame:
    """What is known of every test clip, by key; the ground truth supersedes names."""
    table = clip_table(c for m in dataset for c in m.test)
    if truth is None:
        return table
    known = read_truth(truth, [m.name for m in dataset])
    if missing := sorted(set(known.index) - set(table.index)):
        raise DatasetError(f"{key}: in the ground truth, but not in the data" for key in missing)
    table.loc[known.index, ["domain", "label"]] = known[["domain", "label"]]
    return table


def _with_truth(scores: pd.DataFrame, described: pd.DataFrame) -> pd.DataFrame:
    known = described.loc[scores["key"], ["domain", "label"]].reset_index(drop=True)
    return pd.concat([scores, known], axis=1)[SCORE_COLUMNS]


def _metrics(scores: pd.DataFrame, described: pd.DataFrame) -> pd.DataFrame:
    """The official metrics of every machine whose labels define them."""
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


def _record(
    system: System, dataset: Dataset, seeds: Iterable[int], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """What ``run.json`` says; nothing in it tells the hour or the place."""
    of_machine = {outcome.machine: outcome.description for outcome in outcomes}
    return {
        "system": system.model_dump(mode="json"),
        "seeds": list(seeds),
        "protocol": PROTOCOL,
        "data": {"name": dataset.name, "machines": of_machine},
        "sample_rate": outcomes[0].description["sample_rate"],
        "parameters": {machine: description["parameters"] for machine, description in of_machine.items()},
        "versions": {"nearfar": __version__, **library_versions()},
    }


def _write(out: Path, scores: pd.DataFrame, metrics: pd.DataFrame, record: dict[str, Any]) -> None:
    for name, table in (("scores.csv", scores), ("metrics.csv", metrics)):
        with atomic_file(out / name) as part:
            table.to_csv(part, index=False, lineterminator="\n")
    write_json(out / "run.json", record)
