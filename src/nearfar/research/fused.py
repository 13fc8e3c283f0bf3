"""Studies: several branches, fused under a protocol, all named in one TOML file.

A study says what is fitted to each machine (branches: each a system, some of its settings replaced), how their
scores are fused, what may be selected on what (a protocol), and with which seeds::

    name = "near_beside_cancelled"
    summary = "Does the near microphone alone add to the cancelled one?"
    protocol = "cross-fitted, leave one machine out"
    seeds = [13711, 2026]

    [fusion]
    weights = "search"            # or "equal", or a table: {near = 0.3, cancelled = 0.7}
    step = 0.1
    calibration = "selection_fold"

    [branches.cancelled]
    system = "spectral"

    [branches.near]
    system = "spectral"
    [branches.near.settings]
    "branch.view" = "near"
    "branch.conditioning" = ["standardize"]
    "branch.backend" = "domain_local_density"
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from nearfar.decisions.folds import deal
from nearfar.decisions.thresholds import Conformal, ThresholdConfig, is_anomaly, refuse_unattainable
from nearfar.evaluation import metrics
from nearfar.evaluation.protocols import PROTOCOLS, Finding, Fold, Selection, scope_of
from nearfar.evaluation.record import DataRecord, FindingRecord, ProtocolRecord, RunRecord
from nearfar.evaluation.results import REFERENCE_COLUMNS, SCORE_COLUMNS, Result, refuse_other_results
from nearfar.files.steps import Jobs
from nearfar.recordings.clips import Dataset, unknown
from nearfar.research import experiment
from nearfar.research.adaptation import AdaptedOn
from nearfar.research.fusion import (
    STEP,
    Calibration,
    Fusion,
    Search,
    Weights,
    choices,
    crossfit,
    evaluate_fusion,
    machine_of,
    refuse_impossible,
)
from nearfar.systems import configuration, named
from nearfar.systems.branches import Progress
from nearfar.systems.named import SEED
from nearfar.systems.resolved import resolve
from nearfar.training.adapters import Adapter

logger = logging.getLogger(__name__)


def _kind(value: Any) -> str:
    return "name" if isinstance(value, str) else "table"


# told apart before they are read, so that an error is about the one that was meant
NameOrTable = Annotated[
    Annotated[Literal["equal", "search"], Tag("name")] | Annotated[dict[str, float], Tag("table")],
    Discriminator(_kind),
]
BranchName = Annotated[str, Field(pattern=r"^[\w-]+$")]  # it names a folder, too
Seed = Annotated[int, Field(ge=0)]


def _require_protocol(protocol: str) -> str:
    if protocol not in PROTOCOLS:
        raise ValueError(unknown("protocol", protocol, PROTOCOLS))
    return protocol


ProtocolName = Annotated[str, AfterValidator(_require_protocol)]


class FusionConfig(BaseModel):
    """How the scores of the branches become one.

    Attributes
    ----------
    weights : {"equal", "search"} or mapping from branch to weight
        ``"search"``: over all multiples of ``step`` with sum 1, by the labels of the selection machines.
    step : float
    calibration : str
        Of ``fusion.CALIBRATIONS``.
    false_alarm_rate : float or None
        Of decisions, from the fused scores of each machine's own normal clips; ``None``: no decisions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: NameOrTable = "equal"
    step: float = STEP
    calibration: Calibration = "selection_fold"
    false_alarm_rate: Annotated[float | None, Field(gt=0, lt=1)] = None

    @model_validator(mode="after")
    def _decisions_have_normal_scores(self) -> Self:
        if self.false_alarm_rate is not None and self.calibration == "selection_fold":
            raise ValueError(
                f"false_alarm_rate={self.false_alarm_rate}: decisions want normal scores of each machine, which "
                "only calibration='own_normals' or 'reference_rank' has"
            )
        return self

    @property
    def asked(self) -> Weights:
        """As ``fusion.Fusion.fit`` takes it."""
        return Search(self.step) if self.weights == "search" else self.weights


class StudyBranch(BaseModel):
    """A system, named or in a TOML file, with one of its presets if any, and ``settings`` by dotted path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    preset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_a_system(self) -> Self:
        self.load()
        return self

    def load(self) -> configuration.System:
        return configuration.load(self.system, self.settings, preset=self.preset)


class Study(BaseModel):
    """What a file of a study says.

    Attributes
    ----------
    name, summary, source : str
        ``source`` says where a published one is from.
    needs : named.Needs or None
        Of a named one.
    protocol : str
        Of ``evaluation.protocols.PROTOCOLS``.
    seeds : tuple of int
    branches : mapping from name to StudyBranch
        Two or more.
    fusion : FusionConfig
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    source: str = ""
    needs: named.Needs | None = None
    protocol: ProtocolName
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (SEED,)
    branches: Annotated[dict[BranchName, StudyBranch], Field(min_length=2)]
    fusion: FusionConfig = FusionConfig()

    @model_validator(mode="after")
    def _can_be_fused(self) -> Self:
        weights, calibration = self.fusion.asked, self.fusion.calibration
        refuse_impossible(
            list(self.branches), PROTOCOLS[self.protocol], weights=weights, calibration=calibration
        )
        for name, branch in self.branches.items():
            if calibration != "selection_fold" and branch.load().threshold.method == "none":
                raise ValueError(
                    f"branches.{name}: calibration={calibration!r} needs scores of unseen normal clips, but with "
                    "threshold.method='none' there are none; give the system a threshold, or calibrate on the "
                    "selection fold"
                )
        return self


def is_study(name: str) -> bool:
    """Whether this is a fused system, or the file of a study: TOML with branches, not a branch."""
    return name in named.FUSED or (name.endswith(".toml") and "branches" in named.read_toml(Path(name)))


def load(name: Path | str) -> Study:
    """A fused system by its name, or a study from its file; the systems that it names are looked up, too.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If something in it is wrong: everything that is, one line each.
    """
    path = named.FUSED.get(str(name), Path(name))
    return configuration.validate(Study, named.read_toml(path), path)


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes
    ----------
    result : Result
        Fused scores and their metrics, in the form of any experiment.
    branches : mapping from name to Result
        Of each branch alone.
    findings : mapping from seed to Finding
        Empty where the labels are not known.
    """

    result: Result
    branches: Mapping[str, Result]
    findings: Mapping[int, Finding]


def run(
    study: Study,
    dataset: Dataset,
    out: Path,
    *,
    adapted_on: AdaptedOn | None = None,
    workers: int = 1,
    truth: Path | None = None,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> StudyResult:
    """Run every branch, fuse their scores under the protocol, evaluate.

    Parameters
    ----------
    study : Study
    dataset : Dataset
        With labels, by its names or by ``truth``, if weights are searched; without them there are no metrics.
    out : Path
        Folder of the result, with a folder a branch in ``branches``.
    adapted_on : {"others", "all"}, Path or None
        For branches that are adapted, as for ``experiment.run``; ``None``: as the protocol has it, on the other
        machines if it leaves one out, else on all.
    truth : Path or None
        As for ``experiment.run``, but also read before the work, to see that it tells the labels.
    workers, jobs, progress
        As for ``experiment.run``.

    Raises
    ------
    FileExistsError
        If ``out`` holds results of something else.
    ValueError
        If labels are wanted and not known, the machines are too few for the protocol, adapters are or would be
        trained on machines that the protocol leaves out, no branch takes one, or as ``experiment.run`` and
        ``fusion.evaluate_fusion``.
    """
    jobs = jobs or Jobs()
    systems_of = {name: branch.load() for name, branch in study.branches.items()}
    adapted_on = _choose_adapted_on(study, systems_of, dataset, adapted_on)
    labelled = _refuse_early(study, systems_of, dataset, out, truth, jobs)
    work = {"workers": workers, "truth": truth, "jobs": jobs, "progress": progress}
    branches = {
        name: _run(study, system, dataset, out / "branches" / name, adapted_on, **work)
        for name, system in systems_of.items()
    }
    fused = {seed: _fuse(study, branches, seed, labelled) for seed in study.seeds}
    result = _result(out, study, branches, fused)
    result.save()
    found = {seed: of_seed.finding for seed, of_seed in fused.items() if of_seed.finding is not None}
    return StudyResult(result, branches, found)


def _run(
    study: Study,
    system: configuration.System,
    dataset: Dataset,
    folder: Path,
    adapted_on: AdaptedOn,
    **work: Any,
) -> Result:
    """One branch, with the seeds of the study."""
    on = "others" if system.branch.adaptation is None else adapted_on
    return experiment.run(system, dataset, folder, seeds=study.seeds, adapted_on=on, **work)


def _choose_adapted_on(
    study: Study, systems_of: Mapping[str, configuration.System], dataset: Dataset, asked: AdaptedOn | None
) -> AdaptedOn:
    """On what adapters are trained: what was asked for, if there are some and the protocol allows it."""
    if asked is not None and all(system.branch.adaptation is None for system in systems_of.values()):
        raise ValueError(f"{study.name} has no branch that is adapted, so it takes no adapter; omit it")
    left_out = {machine for f in _folds(study, dataset) for machine in set(f.report) - set(f.select)}
    if asked == "all" and left_out:
        raise ValueError(
            f"adapted_on='all', but protocol={study.protocol!r} leaves the machine out that is reported; take "
            "'others', or an adapter that was trained before"
        )
    if isinstance(asked, Path) and (met := sorted(left_out.intersection(Adapter.load(asked).machines))):
        raise ValueError(
            f"{asked}: trained on normal clips of {', '.join(met)}, but protocol={study.protocol!r} leaves the "
            "machine out that is reported; take 'others', or an adapter of machines that are not reported"
        )
    return asked or ("others" if left_out else "all")


def _folds(study: Study, dataset: Dataset) -> tuple[Fold, ...]:
    return PROTOCOLS[study.protocol].folds([machine.name for machine in dataset])


def _refuse_early(
    study: Study,
    systems_of: Mapping[str, configuration.System],
    dataset: Dataset,
    out: Path,
    truth: Path | None,
    jobs: Jobs,
) -> bool:
    """Raise before long work whose outcome could not be fused or saved; whether the labels are known."""
    refuse_other_results(out, study.model_dump(mode="json"), dataset)
    for name, system in systems_of.items():
        folder = out / "branches" / name
        refuse_other_results(folder, system.model_dump(mode="json"), dataset)
        resolve(system, seed=study.seeds[0], jobs=jobs)  # raises if weights are missing
    clips = experiment.described(dataset, truth)
    try:
        metrics.require_described(clips)
        metrics.require_classes(clips)
    except ValueError as reason:
        if choices(study.fusion.asked, study.fusion.calibration):
            raise
        logger.warning("no metrics: %s", reason)
        return False
    return True


def _of(seed: int, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one seed, by key."""
    return table[table["seed"] == seed].set_index("key")


@dataclass(frozen=True)
class _Fused:
    """Of one seed: scores and decisions by key, what each fold chose, unseen normal scores, and metrics if any."""

    scores: pd.Series
    decisions: pd.Series
    references: pd.Series
    selections: tuple[Selection, ...]
    finding: Finding | None


def _fuse(study: Study, branches: Mapping[str, Result], seed: int, labelled: bool) -> _Fused:
    """What the fusion of one seed's scores finds."""
    scores, clips = scores_of(branches, seed), clips_of(branches, seed)
    config, protocol = study.fusion, PROTOCOLS[study.protocol]
    references = None if config.calibration == "selection_fold" else references_of(branches, seed)
    options: dict[str, Any] = {
        "weights": config.asked, "calibration": config.calibration, "references": references,
    }  # fmt: skip
    finding = evaluate_fusion(scores, clips, protocol, **options) if labelled else None
    if finding is None:
        fused, selections = crossfit(scores, clips, protocol.folds(sorted(set(clips["machine"]))), **options)
    else:
        fused, selections = finding.scores, finding.selections
    unseen = pd.Series(dtype=float)
    if references is not None:
        unseen = pd.concat([_score_unseen(s, references, seed) for s in selections])
    return _Fused(fused, _decide(config, fused, unseen), unseen, selections, finding)


def _score_unseen(selection: Selection, references: pd.DataFrame, seed: int) -> pd.Series:
    """Fused scores of the normal clips of a fold's machines, each on a scale made without it."""
    fusion, machines, parts = Fusion.restore(selection.chosen), machine_of(references.index), []
    for machine in selection.fold.report:
        own = references[machines == machine]
        alike = np.full(len(own), "")  # the domains of these are not told
        for known, left_out in deal(alike, ThresholdConfig(), seed=seed).pairs:
            parts.append(fusion.transform(own.iloc[left_out], own.iloc[known]))
    return pd.concat(parts)


def _decide(config: FusionConfig, fused: pd.Series, unseen: pd.Series) -> pd.Series:
    """0 or 1 for each clip, from the unseen normal scores of its machine; none if no rate is asked for."""
    if config.false_alarm_rate is None:
        return pd.Series(pd.NA, index=fused.index, dtype="Int64")
    decided = pd.Series(0, index=fused.index, dtype="Int64")
    of_clip, of_reference = machine_of(fused.index), machine_of(unseen.index)
    for machine in pd.unique(of_clip):
        normal = unseen[of_reference == machine].to_numpy()
        refuse_unattainable(ThresholdConfig(false_alarm_rate=config.false_alarm_rate), len(normal))
        threshold = Conformal.fit(normal, false_alarm_rate=config.false_alarm_rate)
        decided[of_clip == machine] = is_anomaly(threshold, fused[of_clip == machine].to_numpy()).astype(int)
    return decided


def scores_of(branches: Mapping[str, Result], seed: int) -> pd.DataFrame:
    """Scores of the test clips by each branch, as ``fusion`` takes them."""
    return pd.DataFrame({name: _of(seed, result.scores)["score"] for name, result in branches.items()})


def clips_of(branches: Mapping[str, Result], seed: int) -> pd.DataFrame:
    """Machine, section, domain and label of these clips, by key."""
    return _of(seed, next(iter(branches.values())).scores)[["machine", "section", "domain", "label"]]


def references_of(branches: Mapping[str, Result], seed: int) -> pd.DataFrame:
    """Scores of normal training clips by each branch, of the clips that all branches left out of a fit."""
    columns = {name: _of(seed, result.references)["score"] for name, result in branches.items()}
    return pd.concat(columns, axis=1, join="inner")


def _result(out: Path, study: Study, branches: Mapping[str, Result], fused: Mapping[int, _Fused]) -> Result:
    """The fused scores, as of any experiment."""
    first = next(iter(branches.values()))
    tables, references, found = [], [], [pd.DataFrame(columns=["seed", "machine", "section"])]
    for seed, of_seed in fused.items():
        table = _of(seed, first.scores).assign(score=of_seed.scores, decision=of_seed.decisions).reset_index()
        tables.append(table[SCORE_COLUMNS])
        unseen = of_seed.references.rename("score").rename_axis("key").reset_index()
        unseen = unseen.assign(machine=machine_of(pd.Index(unseen["key"])), seed=seed)
        references.append(unseen[REFERENCE_COLUMNS])
        if of_seed.finding is not None:
            of_machines = _metrics(of_seed.finding, clips_of(branches, seed), of_seed.decisions)
            found.append(pd.concat({seed: of_machines}, names=["seed"]).reset_index())
    return Result(
        out,
        pd.concat(tables, ignore_index=True),
        pd.concat(found[1:] or found, ignore_index=True),
        _record(study, branches, fused),
        pd.concat(references, ignore_index=True),
    )


def _metrics(finding: Finding, clips: pd.DataFrame, decisions: pd.Series) -> pd.DataFrame:
    """Of one seed, with those of the decisions if there are any."""
    if decisions.isna().any():
        return finding.metrics
    return finding.metrics.join(metrics.decision_metrics(clips, decisions.astype(float)))


def _record(study: Study, branches: Mapping[str, Result], fused: Mapping[int, _Fused]) -> RunRecord:
    """As of any experiment, and what every fold chose."""
    runs = {name: result.run for name, result in branches.items()}
    first, protocol = next(iter(runs.values())), PROTOCOLS[study.protocol]
    chosen = choices(study.fusion.asked, study.fusion.calibration)
    scope = scope_of(chosen, protocol.folds(list(first.machines)))
    adapted = (f"; {name}: {run.protocol.name}" for name, run in runs.items() if run.adapters is not None)
    asked = {"false_alarm_rate": study.fusion.false_alarm_rate}
    machines = {m: of.without_network().model_copy(update=asked) for m, of in first.data.machines.items()}
    found = {s: f.finding.describe() for s, f in fused.items() if f.finding is not None}
    return RunRecord(
        system=study.model_dump(mode="json"),
        seeds=first.seeds,
        data=DataRecord(name=first.data.name, machines=machines),
        sample_rate=max(run.sample_rate for run in runs.values()),
        parameters={machine: sum(run.parameters[machine] for run in runs.values()) for machine in machines},
        versions=first.versions,
        protocol=ProtocolRecord(
            name=protocol.name, selected_on=protocol.selected_on, scope=scope + "".join(adapted)
        ),
        findings={str(seed): FindingRecord.model_validate(described) for seed, described in found.items()},
        branches=runs,
    )
