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

A branch can also be a file of scores (``research.score_files``). If all are, no recordings are needed::

    [branches.theirs]
    scores = "scores.csv"         # relative to this file
    column = "anomaly_score"

Strict nested selection chooses among subsets of the branches::

    [candidates]
    both = ["near", "cancelled"]
    cancelled = ["cancelled"]
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from nearfar.decisions.fusing import CALIBRATIONS, fuse_left_out
from nearfar.decisions.thresholds import Conformal, ThresholdConfig, is_anomaly, refuse_unattainable
from nearfar.evaluation import metrics
from nearfar.evaluation.protocols import (
    CROSS_FITTED,
    NESTED,
    PROTOCOLS,
    Choice,
    Finding,
    Fold,
    Protocol,
    Selection,
    scope_of,
)
from nearfar.evaluation.record import DataRecord, FindingRecord, ProtocolRecord, RunRecord
from nearfar.evaluation.results import FILES, REFERENCE_COLUMNS, SCORE_COLUMNS, Result, refuse_other_results
from nearfar.files.steps import Jobs
from nearfar.places.place import Place
from nearfar.recordings.clips import Dataset, unknown
from nearfar.research import experiment, score_files
from nearfar.research.adaptation import AdaptedOn
from nearfar.research.fusion import (
    STEP,
    Calibration,
    Search,
    Weights,
    choices,
    crossfit,
    evaluate_fusion,
    evaluate_nested,
    machine_of,
    refuse_impossible,
)
from nearfar.research.overview import intervals
from nearfar.research.score_files import ScoreFile
from nearfar.systems import configuration, named
from nearfar.systems.branches import Progress
from nearfar.systems.fusion import BranchName, SystemBranch
from nearfar.systems.named import SEED
from nearfar.systems.resolved import resolve
from nearfar.training.adapters import Adapter

logger = logging.getLogger(__name__)


# told apart before they are read, so that an error is about the one that was meant
NameOrTable = Annotated[
    Annotated[Literal["equal", "search", "greedy"], Tag("name")] | Annotated[dict[str, float], Tag("table")],
    Discriminator(configuration.name_or_table),
]
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
    weights : {"equal", "search", "greedy"} or mapping from branch to weight
        ``"search"``: over all multiples of ``step`` with sum 1, by the labels of the selection machines;
        ``"greedy"``: by forward selection in 1 / ``step`` rounds, by the same labels. See ``fusion.Search``.
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
                f"false_alarm_rate={self.false_alarm_rate}: decisions want normal scores of each machine, "
                f"which only these calibrations have: {', '.join(CALIBRATIONS)}"
            )
        return self

    @property
    def asked(self) -> Weights:
        """As ``fusion.Fusion.fit`` takes it."""
        if isinstance(self.weights, str) and self.weights != "equal":
            return Search(self.step, "grid" if self.weights == "search" else "greedy")
        return self.weights


def _read_branch(content: Any, info: ValidationInfo) -> SystemBranch | ScoreFile:
    """A file of scores if it names one, else a system; so errors are about the one that was meant."""
    if isinstance(content, SystemBranch | ScoreFile):
        return content
    kind = ScoreFile if isinstance(content, Mapping) and "scores" in content else SystemBranch
    return kind.model_validate(content, context=info.context)


AnyBranch = Annotated[SystemBranch | ScoreFile, BeforeValidator(_read_branch)]


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
    branches : mapping from name to SystemBranch or ScoreFile
        Two or more.
    fusion : FusionConfig
    candidates : mapping from name to tuple of str
        Subsets of the branches, of which strict nested selection chooses one in each fold. Empty with every other
        protocol.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    source: str = ""
    needs: named.Needs | None = None
    protocol: ProtocolName
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (SEED,)
    branches: Annotated[dict[BranchName, AnyBranch], Field(min_length=2)]
    fusion: FusionConfig = FusionConfig()
    candidates: dict[BranchName, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _can_be_fused(self) -> Self:
        weights, calibration = self.fusion.asked, self.fusion.calibration
        protocol = PROTOCOLS[self.protocol]
        if "settings" in protocol.chooses and not self.candidates:
            raise ValueError(
                f"protocol={self.protocol!r} chooses among candidates; name subsets of the branches in "
                "[candidates], or give them to evaluate_nested"
            )
        if self.candidates:
            _refuse_candidates(self.candidates, self.branches, protocol, self.fusion)
        else:
            refuse_impossible(list(self.branches), protocol, weights=weights, calibration=calibration)
        if not self.systems and len(self.seeds) > 1:
            raise ValueError(
                f"seeds={list(self.seeds)}: all branches are files, whose scores no seed changes; omit it"
            )
        for name in self.files:
            if calibration != "selection_fold":
                raise ValueError(
                    f"branches.{name}: calibration={calibration!r} needs scores of unseen normal clips, and a file "
                    "of scores has test clips only; calibrate on the selection fold"
                )
        for name, branch in self.systems.items():
            if calibration != "selection_fold" and branch.load().threshold.method == "none":
                raise ValueError(
                    f"branches.{name}: calibration={calibration!r} needs scores of unseen normal clips, but with "
                    "threshold.method='none' there are none; give the system a threshold, or calibrate on the "
                    "selection fold"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_empty_candidates(self, serialize: Any) -> dict[str, Any]:
        """As results of earlier versions recorded it."""
        content: dict[str, Any] = serialize(self)
        return content if self.candidates else {k: v for k, v in content.items() if k != "candidates"}

    @property
    def systems(self) -> dict[str, SystemBranch]:
        """The branches that are systems."""
        return {name: branch for name, branch in self.branches.items() if isinstance(branch, SystemBranch)}

    @property
    def files(self) -> dict[str, ScoreFile]:
        """The branches whose scores are in a file."""
        return {name: branch for name, branch in self.branches.items() if isinstance(branch, ScoreFile)}

    def only(self, machines: Sequence[str]) -> Self:
        """The same study, with these machines alone of its files; with all if none are named.

        Raises
        ------
        ValueError
            If a file does not have one of them.
        """
        files = {name: file.only(machines) if machines else file for name, file in self.files.items()}
        return self.model_copy(update={"branches": {**self.branches, **files}})

    def with_seeds(self, seeds: Sequence[int]) -> Self:
        """The same study with other seeds.

        Raises
        ------
        ValueError
            If nothing of it takes a seed.
        """
        if not self.systems:
            raise ValueError(
                f"seeds={list(seeds)}: all branches of {self.name} are files of scores; omit them"
            )
        return self.model_copy(update={"seeds": tuple(seeds)})

    def with_false_alarm_rate(self, rate: float) -> Self:
        """The same study, which decides with this false-alarm rate.

        Raises
        ------
        ValueError
            If it is not between 0 and 1, or the calibration has no normal scores of each machine.
        """
        if not 0 < rate < 1:
            raise ValueError(f"false_alarm_rate={rate:g}: must be above 0 and below 1, such as 0.05")
        if self.fusion.calibration == "selection_fold":
            raise ValueError(
                f"false_alarm_rate={rate:g}: {self.name} decides nothing, because calibration='selection_fold' has "
                "no normal scores of each machine; choose another calibration in its file"
            )
        return self.model_copy(update={"fusion": self.fusion.model_copy(update={"false_alarm_rate": rate})})


def _refuse_candidates(
    candidates: Mapping[str, tuple[str, ...]],
    branches: Mapping[str, Any],
    protocol: Protocol,
    fusion: FusionConfig,
) -> None:
    """Raise for candidates that nested selection cannot choose among."""
    if "settings" not in protocol.chooses:
        raise ValueError(
            f"candidates: protocol={protocol.name!r} chooses none; take {NESTED.name!r}, or omit them"
        )
    if isinstance(fusion.weights, dict):
        raise ValueError(  # noqa: TRY004  # of what a file says
            "candidates: they differ in their branches, so no weights suit all; take 'equal', 'search' or 'greedy'"
        )
    for name, of in candidates.items():
        if len(set(of)) < len(of):
            raise ValueError(f"candidates.{name}: {list(of)} names a branch twice")
        for branch in of:
            if branch not in branches:
                raise ValueError(f"candidates.{name}: {unknown('branch', branch, branches)}")
        try:
            refuse_impossible(of, CROSS_FITTED, weights=fusion.asked, calibration=fusion.calibration)
        except ValueError as error:
            raise ValueError(f"candidates.{name}: {error}") from error


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
    intervals : mapping from name to DataFrame
        Of each branch, as of ``statistics.intervals``; empty where the labels are not known.
    interval : DataFrame or None
        Of the fusion.
    """

    result: Result
    branches: Mapping[str, Result]
    findings: Mapping[int, Finding]
    intervals: Mapping[str, pd.DataFrame]
    interval: pd.DataFrame | None


def run(
    study: Study,
    dataset: Dataset | None,
    out: Path,
    *,
    adapted_on: AdaptedOn | None = None,
    workers: Place | int = 1,
    truth: Path | None = None,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> StudyResult:
    """Run every branch, fuse their scores under the protocol, evaluate.

    Parameters
    ----------
    study : Study
    dataset : Dataset or None
        With labels, by its names or by ``truth``, if weights are searched; without them there are no metrics.
        ``None`` if all branches are files of scores: the names of the clips say what it would.
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
    DatasetError
        If files of scores are not of the clips of the data set, or of each other.
    FileExistsError
        If ``out`` holds results of something else; or of a file of scores that has changed.
    ValueError
        If a system has no data set, labels are wanted and not known, the machines are too few for the protocol,
        adapters are or would be trained on machines that the protocol leaves out, no branch takes one, or as
        ``experiment.run`` and ``fusion.evaluate_fusion``.
    """
    jobs = jobs or Jobs()
    dataset = _dataset(study, dataset)
    systems_of = {name: branch.load() for name, branch in study.systems.items()}
    adapted_on = _choose_adapted_on(study, systems_of, dataset, adapted_on)
    labelled = _refuse_early(study, systems_of, dataset, out, truth, jobs)
    work = {"workers": workers, "truth": truth, "jobs": jobs, "progress": progress}
    branches = {
        name: score_files.run(branch, dataset, out / "branches" / name, seeds=study.seeds, truth=truth)
        if isinstance(branch, ScoreFile)
        else _run(study, systems_of[name], dataset, out / "branches" / name, adapted_on, **work)
        for name, branch in study.branches.items()
    }
    fused = {seed: _fuse(study, branches, seed, labelled) for seed in study.seeds}
    result = _result(out, study, branches, fused)
    result.save()
    found = {seed: of_seed.finding for seed, of_seed in fused.items() if of_seed.finding is not None}
    if not labelled:
        return StudyResult(result, branches, found, {}, None)
    return StudyResult(result, branches, found, _intervals(branches), intervals(result))


def _intervals(branches: Mapping[str, Result]) -> dict[str, pd.DataFrame]:
    """How certain the numbers of each branch are; of those whose labels are known."""
    tables = {name: intervals(branch) for name, branch in branches.items()}
    return {name: table for name, table in tables.items() if table is not None}


def _dataset(study: Study, dataset: Dataset | None) -> Dataset:
    """The clips that every branch scores."""
    if dataset is None and study.systems:
        raise ValueError(
            f"branches.{next(iter(study.systems))}: a system, which needs recordings; give a data set"
        )
    if not study.files:
        assert dataset is not None
        return dataset
    return score_files.dataset_of(study.files, dataset)


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
    _refuse_changed_files(study, out)
    refuse_other_results(out, study.model_dump(mode="json"), dataset)
    for name, file in study.files.items():
        refuse_other_results(out / "branches" / name, file.describe(), dataset)
    for name, system in systems_of.items():
        folder = out / "branches" / name
        refuse_other_results(folder, system.model_dump(mode="json"), dataset)
        resolve(system, seed=study.seeds[0], jobs=jobs)  # raises if weights are missing
    clips = experiment.described(dataset, truth)
    try:
        metrics.require_described(clips)
        metrics.require_classes(clips)
    except ValueError as reason:
        if _choices(study):
            raise
        logger.warning("no metrics: %s", reason)
        return False
    return True


def _refuse_changed_files(study: Study, out: Path) -> None:
    """Raise if ``out`` holds a result of this study from another content of its files."""
    if not (out / FILES[3]).is_file():
        return
    there = RunRecord.load(out / FILES[3]).system.get("branches", {})
    for name, file in study.files.items():
        before, now = there.get(name, {}), file.model_dump(mode="json")
        if before != now and before == {**now, "sha256": before.get("sha256")}:
            raise FileExistsError(
                f"{out} holds results of {file.scores} with another content: the file has changed; choose another "
                "folder with --out, or remove this one"
            )


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
    finding = None
    if study.candidates:
        finding = _fuse_nested(study, scores, clips, references)
    elif labelled:
        finding = evaluate_fusion(scores, clips, protocol, **options)
    if finding is None:
        fused, selections = crossfit(scores, clips, protocol.folds(sorted(set(clips["machine"]))), **options)
    else:
        fused, selections = finding.scores, finding.selections
    unseen = pd.Series(dtype=float)
    if references is not None:
        unseen = pd.concat([_score_unseen(s, references) for s in selections])
    return _Fused(fused, _decide(config, fused, unseen), unseen, selections, finding)


def _fuse_nested(
    study: Study, scores: pd.DataFrame, clips: pd.DataFrame, references: pd.DataFrame | None
) -> Finding:
    """With a candidate chosen in each fold."""
    of = {name: list(branches) for name, branches in study.candidates.items()}
    return evaluate_nested(
        {name: scores[branches] for name, branches in of.items()},
        clips,
        weights=study.fusion.asked,
        calibration=study.fusion.calibration,
        references=None
        if references is None
        else {name: references[branches] for name, branches in of.items()},
        protocol=PROTOCOLS[study.protocol],
    )


def _choices(study: Study) -> tuple[Choice, ...]:
    """What is selected by the scores or labels of a fold."""
    chosen = choices(study.fusion.asked, study.fusion.calibration)
    return (*chosen, "settings") if study.candidates else chosen


def _score_unseen(selection: Selection, references: pd.DataFrame) -> pd.Series:
    """Fused scores of the normal clips of a fold's machines, each on a scale made without it."""
    weights, calibration = selection.chosen["weights"], selection.chosen["calibration"]
    machines, parts = machine_of(references.index), []
    for machine in selection.fold.report:
        own = references.loc[machines == machine, list(weights)]
        whose = f"machine {machine!r}"
        fused = fuse_left_out(own.to_numpy(float), weights=weights, calibration=calibration, whose=whose)
        parts.append(pd.Series(fused, index=own.index))
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
    protocol = PROTOCOLS[study.protocol]
    first = runs[next(iter(study.systems or runs))]  # a system knows the clips, a file only their names
    scope = scope_of(_choices(study), protocol.folds(list(first.machines)))
    rates = [run.sample_rate for run in runs.values() if run.sample_rate is not None]
    adapted = (f"; {name}: {run.protocol.name}" for name, run in runs.items() if run.adapters is not None)
    asked = {"false_alarm_rate": study.fusion.false_alarm_rate}
    machines = {m: of.without_network().model_copy(update=asked) for m, of in first.data.machines.items()}
    found = {s: f.finding.describe() for s, f in fused.items() if f.finding is not None}
    return RunRecord(
        system=study.model_dump(mode="json"),
        seeds=first.seeds,
        data=DataRecord(name=first.data.name, machines=machines),
        sample_rate=max(rates, default=None),
        parameters={}
        if study.files
        else {machine: sum(run.parameters[machine] for run in runs.values()) for machine in machines},
        versions=first.versions,
        protocol=ProtocolRecord(
            name=protocol.name, selected_on=protocol.selected_on, scope=scope + "".join(adapted)
        ),
        findings={str(seed): FindingRecord.model_validate(described) for seed, described in found.items()},
        branches=runs,
    )
