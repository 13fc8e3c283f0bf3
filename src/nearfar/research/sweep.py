"""Sweeps: one system with many settings, from embeddings that are computed once.

Embeddings of frozen encoders are in the store before the first setting is tried, those of all settings from one
run of each network. Of other encoders everything up to the embedding is a job whose outcome is kept. Conditioning
and back end are fitted anew for each setting, in moments. A sweep judges its settings by the test labels of the
machines that it shows, so its best row is a description of these machines and no estimate for others: for that
choose by ``fusion.evaluate_nested``.

Beside Omega stands one number that needs no labels: how far apart source and target *normals* score
(``Calibration.between_domains``), as training clips do that a fit has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file
from threadpoolctl import threadpool_limits

from nearfar.detector.fitting import average, unseen_scores
from nearfar.evaluation import statistics
from nearfar.evaluation.metrics import clip_table, evaluate, omega, require_classes, require_described
from nearfar.evaluation.protocols import COMPLETE_DEVELOPMENT
from nearfar.files.arrays import save_arrays
from nearfar.files.steps import Jobs
from nearfar.places.place import Place
from nearfar.places.tasks import each
from nearfar.recordings.clips import Dataset, DatasetError, Machine, counted
from nearfar.recordings.recording import digests
from nearfar.research import adaptation
from nearfar.research.adaptation import AdaptedOn
from nearfar.systems import configuration
from nearfar.systems.branches import Branch, Progress, attributes, domains, listen_ahead
from nearfar.systems.configuration import System
from nearfar.systems.named import SEED
from nearfar.systems.resolved import ResolvedSystem, resolve

SCOPE = f"settings selected on {COMPLETE_DEVELOPMENT.selected_on}"

Array = NDArray[np.floating[Any]]
Settings = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    table : DataFrame
        A row a setting, the best first: the settings' columns, ``omega`` with ``low`` and ``high``, the ends of its
        bootstrap interval; ``ks``, the mean over machines of ``Calibration.between_domains``, NaN if no machine has
        one; and a column a machine. Fractions.
    settings : tuple of str
        The settings' columns.
    unit : {"clip", "recording"}
        What the bootstrap drew.
    single : tuple of str
        Cells of one recording, which make the intervals too narrow: see ``statistics.resample``.
    scope : str
        What was selected on what.
    without_ks : tuple of str
        Why a setting has no ``ks``, or one of fewer machines; each reason once.
    """

    table: pd.DataFrame
    settings: tuple[str, ...]
    unit: Literal["clip", "recording"]
    single: tuple[str, ...]
    scope: str = SCOPE
    without_ks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        best = self.table.iloc[0]
        chosen = ", ".join(f"{key}={best[key]}" for key in self.settings)
        omega = f"best Omega {100 * best['omega']:.2f} % with {chosen}"
        return f"Sweep({counted(len(self.table), 'combination')}, {omega}; {self.scope})"


@dataclass(frozen=True, slots=True)
class MachineSweep:
    """One machine, and all systems to be tried on it."""

    machine: Machine
    tried: tuple[ResolvedSystem, ...]
    cache: Path


@dataclass(frozen=True, slots=True)
class _Scored:
    """Of one machine: scores of its test clips, a column a system; and the ``ks`` of each, or why it has none."""

    scores: pd.DataFrame
    ks: tuple[float | str, ...]


def grid(options: Mapping[str, Sequence[Any]]) -> list[Settings]:
    """Every combination of the values, the last key changing fastest.

    Raises
    ------
    ValueError
        If there is no key, or a key without values.
    """
    if not options:
        raise ValueError(
            "a sweep needs something to vary, as branch.backend=nearest_neighbour,domain_local_density"
        )
    for key, values in options.items():
        if not values:
            raise ValueError(f"{key}: no values to try; give one or more, as {key}=first,second")
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


def sweep(  # noqa: PLR0913  # its keyword-only options are its interface
    system: str,
    dataset: Dataset,
    options: Mapping[str, Sequence[Any]],
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = SEED,
    adapted_on: AdaptedOn = "others",
    unit: Literal["clip", "recording"] = "clip",
    n_resamples: int = statistics.RESAMPLES,
    workers: Place | int = 1,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Try every combination of settings on every machine.

    Parameters
    ----------
    system : str
        Of ``named.SYSTEMS``, or a TOML file.
    dataset : Dataset
        With labels.
    options : mapping from dotted path to values
        Such as ``{"branch.backend_options.k": [1, 2, 4]}``.
    preset : str or None
        As of ``configuration.load``.
    settings : mapping, optional
        That all combinations share.
    unit : {"clip", "recording"}
        What the bootstrap draws.
    n_resamples, seed : int
    adapted_on, workers, jobs, progress
        As for ``experiment.run``.

    Raises
    ------
    DatasetError
        If a machine has no test clips.
    ValueError
        If a combination is no system, cannot be fitted, or the labels are not known.
    """
    clips = _require_judged_clips(dataset)
    recording = statistics.recordings(list(clips.index)) if unit == "recording" else None
    combinations = grid(options)
    tried = tuple(_load(system, settings or {}, c, preset) for c in combinations)
    jobs = jobs or Jobs()
    of_systems = [
        _resolve(t, dataset, seed, adapted_on, jobs=jobs, workers=workers, progress=progress) for t in tried
    ]
    tasks = [MachineSweep(m, tuple(of[m.name] for of in of_systems), jobs.root) for m in dataset]
    scored = each(
        _score, tasks, workers=workers, named=lambda task: task.machine.name, cache=jobs.root, tell=progress
    )
    table = _table(combinations, clips, scored, n_resamples, recording)
    single = statistics.single_recordings(clips, recording)
    without = dict.fromkeys(ks for of_machine in scored for ks in of_machine.ks if isinstance(ks, str))
    return Sweep(table, tuple(options), unit, single, _scope(tried, adapted_on), tuple(without))


def _load(
    system: str, settings: Mapping[str, Any], combination: Mapping[str, Any], preset: str | None
) -> System:
    """The system with a combination of settings; an error names the combination."""
    try:
        return configuration.load(system, {**settings, **combination}, preset=preset)
    except ValueError as error:
        told = ", ".join(f"{key}={value}" for key, value in combination.items())
        raise ValueError(f"combination {told}: {error}") from error


def _require_judged_clips(dataset: Dataset) -> pd.DataFrame:
    """The test clips by which settings are compared; raises if they cannot be."""
    if without := [m.name for m in dataset if not m.test]:
        raise DatasetError(
            f"{name}: no test clips to score; a sweep compares settings by their scores" for name in without
        )
    clips = clip_table(c for m in dataset for c in m.test)
    require_described(clips)
    require_classes(clips)
    return clips


def _table(
    combinations: Sequence[Settings],
    clips: pd.DataFrame,
    scored: Sequence[_Scored],
    n_resamples: int,
    recording: pd.Series | None,
) -> pd.DataFrame:
    """A row for each combination of settings, the best first."""
    scores = pd.concat([of_machine.scores for of_machine in scored])
    rows = [
        _row(c, clips, scores[number], _mean_ks(scored, number), n_resamples, recording)
        for number, c in enumerate(combinations)
    ]
    return pd.DataFrame(rows).sort_values("omega", ascending=False, kind="stable", ignore_index=True)


def _mean_ks(scored: Sequence[_Scored], number: int) -> float:
    """Of one setting, over the machines that have one."""
    known = [ks for ks in (of.ks[number] for of in scored) if not isinstance(ks, str)]
    return sum(known) / len(known) if known else float("nan")


def _resolve(
    system: System, dataset: Dataset, seed: int, adapted_on: AdaptedOn, *, jobs: Jobs, **options: Any
) -> dict[str, ResolvedSystem]:
    """A system for each machine, with its adapters; ``options`` are of the training of these."""
    adapters = adaptation.for_machines(system, dataset, [seed], adapted_on, jobs=jobs, **options)
    most = max((machine.clips for machine in dataset), key=len)  # each task makes its encoder ready
    with threadpool_limits(1):  # as tasks compute
        resolved = {
            (seed, m.name): resolve(system, seed=seed, jobs=jobs, machine=m.name, clips=most) for m in dataset
        }
    return {name: bound for (_, name), bound in adaptation.bind(resolved, adapters).items()}


def _scope(tried: Sequence[System], adapted_on: AdaptedOn) -> str:
    """What was selected on what, and on whose clips adapters were trained, if there are any."""
    if all(system.branch.adaptation is None for system in tried):
        return SCOPE
    return f"{SCOPE}; {adaptation.protocol_of(adapted_on).name}"


def _row(
    chosen: Settings,
    clips: pd.DataFrame,
    scores: pd.Series,
    ks: float,
    n_resamples: int,
    recording: pd.Series | None,
) -> dict[str, Any]:
    """Of the table: what one combination of settings reaches."""
    try:
        found = statistics.bootstrap(clips, scores, n_resamples=n_resamples, recording=recording)
        of_machine = evaluate(clips, scores).groupby("machine").apply(omega)
    except ValueError as error:
        settings = ", ".join(f"{key}={value}" for key, value in chosen.items())
        raise ValueError(f"{settings}: {error}") from error
    interval = {"omega": found.omega.value, "low": found.omega.low, "high": found.omega.high, "ks": ks}
    settings_as_text = {key: str(value) for key, value in chosen.items()}
    return {**settings_as_text, **interval, **{str(m): value for m, value in of_machine.to_dict().items()}}


def _score(task: MachineSweep, tell: Progress) -> _Scored:
    """What every system says of one machine."""
    jobs, clips = Jobs(task.cache), task.machine.train
    columns, ks = {}, []
    with threadpool_limits(1):
        _fill_store(task, jobs, tell)
        for number, system in enumerate(task.tried):
            found, embedded = [], []
            for resolved in system.branches:
                try:
                    branch = Branch(resolved)
                    X, unseen = _embed(task, branch, jobs)
                    branch.fit_backend(X, domains(clips), attributes(clips))
                except ValueError as error:
                    raise ValueError(f"{task.machine.name}, {resolved.backend.name}: {error}") from error
                found.append(branch.anomaly_score(unseen))
                embedded.append(X)
            columns[number] = average(found)
            ks.append(_ks(task, system, embedded, jobs))
            tell(f"{task.machine.name}: settings", number + 1, len(task.tried))
    return _Scored(pd.DataFrame(columns, index=[clip.key for clip in task.machine.test]), tuple(ks))


def _ks(
    task: MachineSweep, system: ResolvedSystem, embedded: Sequence[Sequence[Array]], jobs: Jobs
) -> float | str:
    """How far apart unseen source and target normals score, or why nobody knows."""
    if system.threshold.method == "none":
        return "threshold.method='none' gives no scores of unseen normal clips"
    for resolved in system.branches:
        if resolved.training is not None:
            return (
                f"encoder {resolved.encoder.name!r} is fitted to each machine: scores of unseen normal clips would "
                "take a training for each fold"
            )
    try:
        calibration = unseen_scores(task.machine, system, embedded, jobs=jobs)
    except ValueError as error:
        return f"{task.machine.name}: {error}"
    assert calibration is not None
    found = calibration.between_domains()
    if found is None:
        domains_there = ", ".join(sorted({str(d) for d in domains(task.machine.train).tolist()}))
        return (
            f"{task.machine.name}: it takes normal clips of source and target, and here are {domains_there}"
        )
    return found


def _fill_store(task: MachineSweep, jobs: Jobs, tell: Progress) -> None:
    """Have in the store whatever the systems take from it."""
    branches = (branch for system in task.tried for branch in system.branches)
    name, clips = task.machine.name, [*task.machine.train, *task.machine.test]

    def told(step: str, done: int, total: int) -> None:
        tell(f"{name}: {step}", done, total)

    try:
        listen_ahead(branches, clips, workers=1, jobs=jobs, progress=told)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _embed(task: MachineSweep, branch: Branch, jobs: Jobs) -> tuple[list[Array], list[Array]]:
    """Of the training and the test clips, in their order."""
    machine = task.machine
    if branch.uses_store:
        found = branch.embed([*machine.train, *machine.test], workers=1, jobs=jobs)
    else:
        found = _embed_as_step(task, branch, jobs)
    return found[: len(machine.train)], found[len(machine.train) :]


def _embed_as_step(task: MachineSweep, branch: Branch, jobs: Jobs) -> list[Array]:
    """Embeddings that the store does not keep: of all clips, those for training first."""

    def make(folder: Path) -> None:
        branch.fit_encoder(train, workers=1, jobs=jobs)
        embedded = branch.embed([*train, *test], workers=1, jobs=jobs)
        save_arrays(folder / "arrays.safetensors", {str(n): array for n, array in enumerate(embedded)})

    train, test = task.machine.train, task.machine.test
    inputs = {
        **branch.resolved.embedding,
        "train": [
            [sha, clip.domain, clip.attributes]
            for sha, clip in zip(digests((clip.recording for clip in train), jobs), train, strict=True)
        ],
        "test": digests((clip.recording for clip in test), jobs),
    }
    made_by = (__name__, *branch.resolved.encoder_modules)
    arrays = load_file(jobs.do("embeddings", inputs, make, made_by=made_by) / "arrays.safetensors")
    return [arrays[str(number)] for number in range(len(arrays))]
