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
    "branch.backend" = "local_density"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from nearfar import experiment, systems
from nearfar.branches import Progress
from nearfar.clips import Dataset, unknown
from nearfar.detector import SEED
from nearfar.evaluation import metrics
from nearfar.evaluation.protocols import PROTOCOLS, Finding
from nearfar.experiment import Result
from nearfar.fusion import STEP, Calibration, Search, Weights, evaluate_fusion, refuse_impossible
from nearfar.storage import Jobs

# What ``run.json`` says of a machine's clips, the same for all branches
ABOUT_CLIPS = ("training_clips", "test_clips", "training_digest", "test_digest")


def _kind(value: Any) -> str:
    return "name" if isinstance(value, str) else "table"


# told apart before they are read, so that an error is about the one that was meant
NameOrTable = Annotated[
    Annotated[Literal["equal", "search"], Tag("name")] | Annotated[dict[str, float], Tag("table")],
    Discriminator(_kind),
]
BranchName = Annotated[str, Field(pattern=r"^[\w-]+$")]  # it names a folder, too
Seed = Annotated[int, Field(ge=0)]


class FusionConfig(BaseModel):
    """How the scores of the branches become one.

    Attributes
    ----------
    weights : {"equal", "search"} or mapping from branch to weight
        ``"search"``: over all multiples of ``step`` with sum 1, by the labels of the selection machines.
    step : float
    calibration : str
        Of ``fusion.CALIBRATIONS``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: NameOrTable = "equal"
    step: float = STEP
    calibration: Calibration = "selection_fold"

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

    def load(self) -> systems.System:
        return systems.load(self.system, self.settings, preset=self.preset)


class Study(BaseModel):
    """What a file of a study says.

    Attributes
    ----------
    name, summary : str
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
    protocol: str
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (SEED,)
    branches: Annotated[dict[BranchName, StudyBranch], Field(min_length=2)]
    fusion: FusionConfig = FusionConfig()

    @field_validator("protocol")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(unknown("protocol", name, PROTOCOLS))
        return name

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
    """Whether this is the file of a study: TOML with branches, not a branch."""
    return name.endswith(".toml") and "branches" in systems.read_toml(Path(name))


def load(path: Path) -> Study:
    """A study from its file; the systems that it names are looked up, too.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If something in it is wrong: everything that is, one line each.
    """
    return systems.validated(Study, systems.read_toml(path), path)


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
    """

    result: Result
    branches: Mapping[str, Result]
    findings: Mapping[int, Finding]


def run(
    study: Study,
    dataset: Dataset,
    out: Path,
    *,
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
        With labels: by its names, or by ``truth``.
    out : Path
        Folder of the result, with a folder a branch in ``branches``.
    truth : Path or None
        As for ``experiment.run``, but also read before the work, to see that it tells the labels.
    workers, jobs, progress
        As for ``experiment.run``.

    Raises
    ------
    FileExistsError
        If ``out`` holds results of something else.
    ValueError
        If the labels are not known, the machines are too few for the protocol, or as ``experiment.run`` and
        ``fusion.evaluate_fusion``.
    """
    systems_of = {name: branch.load() for name, branch in study.branches.items()}
    _refuse_early(study, systems_of, dataset, out, truth)
    branches = {
        name: experiment.run(
            system,
            dataset,
            out / "branches" / name,
            seeds=study.seeds,
            workers=workers,
            truth=truth,
            jobs=jobs,
            progress=progress,
        )
        for name, system in systems_of.items()
    }
    findings = {seed: _fused(study, branches, seed) for seed in study.seeds}
    result = _result(out, study, branches, findings)
    result.save()
    return StudyResult(result, branches, findings)


def _refuse_early(
    study: Study, systems_of: Mapping[str, systems.System], dataset: Dataset, out: Path, truth: Path | None
) -> None:
    """Raise before long work, of which nothing could be fused or saved."""
    PROTOCOLS[study.protocol].folds([machine.name for machine in dataset])
    clips = experiment.described(dataset, truth)
    metrics.require_described(clips)
    metrics.require_classes(clips)
    experiment.refuse_other_results(out, study.model_dump(mode="json"), dataset)
    for name, system in systems_of.items():
        folder = out / "branches" / name
        experiment.refuse_other_results(folder, system.model_dump(mode="json"), dataset)


def _of(seed: int, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one seed, by key."""
    return table[table["seed"] == seed].set_index("key")


def _fused(study: Study, branches: Mapping[str, Result], seed: int) -> Finding:
    """What the fusion of one seed's scores finds."""
    scores = pd.DataFrame({name: _of(seed, result.scores)["score"] for name, result in branches.items()})
    clips = _of(seed, next(iter(branches.values())).scores)[["machine", "section", "domain", "label"]]
    return evaluate_fusion(
        scores,
        clips,
        PROTOCOLS[study.protocol],
        weights=study.fusion.asked,
        calibration=study.fusion.calibration,
        references=None if study.fusion.calibration == "selection_fold" else _references(branches, seed),
    )


def _references(branches: Mapping[str, Result], seed: int) -> pd.DataFrame:
    """Scores of normal training clips by each branch, of the clips that all branches left out of a fit."""
    columns = {name: _of(seed, result.references)["score"] for name, result in branches.items()}
    return pd.concat(columns, axis=1, join="inner")


def _result(
    out: Path, study: Study, branches: Mapping[str, Result], findings: Mapping[int, Finding]
) -> Result:
    """The fused scores, as of any experiment."""
    first = next(iter(branches.values()))
    tables, found = [], []
    for seed, finding in findings.items():
        table = _of(seed, first.scores).assign(score=finding.scores, decision=pd.NA).reset_index()
        tables.append(table[experiment.SCORE_COLUMNS])
        found.append(pd.concat({seed: finding.metrics}, names=["seed"]))
    scores, none = pd.concat(tables, ignore_index=True), first.references.iloc[:0]
    return Result(
        out, scores, pd.concat(found).reset_index(), _record(study, branches, findings), references=none
    )


def _record(study: Study, branches: Mapping[str, Result], findings: Mapping[int, Finding]) -> dict[str, Any]:
    """What ``run.json`` says: as of any experiment, and what every fold chose."""
    runs = {name: result.run for name, result in branches.items()}
    first, one = next(iter(runs.values())), next(iter(findings.values()))
    machines = {
        machine: {key: said[key] for key in ABOUT_CLIPS}
        for machine, said in first["data"]["machines"].items()
    }
    return {
        "seeds": first["seeds"],
        "data": {**first["data"], "machines": machines},
        "versions": first["versions"],
        "system": study.model_dump(mode="json"),
        "protocol": {"name": one.protocol.name, "selected_on": one.protocol.selected_on, "scope": one.scope},
        "sample_rate": max(run["sample_rate"] for run in runs.values()),
        "parameters": {
            machine: sum(run["parameters"][machine] for run in runs.values()) for machine in machines
        },
        "findings": {str(seed): finding.describe() for seed, finding in findings.items()},
        "branches": runs,
    }
