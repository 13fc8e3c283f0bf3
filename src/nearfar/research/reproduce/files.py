"""What the file of a published study says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from nearfar.evaluation.protocols import (
    COMPLETE_DEVELOPMENT,
    CROSS_FITTED,
    FIXED,
    FIXED_LEAVE_ONE_MACHINE_OUT,
    NESTED,
    PROTOCOLS,
    Protocol,
)
from nearfar.files.digests import digest
from nearfar.recordings.clips import unknown
from nearfar.recordings.datasets import DATASETS
from nearfar.research.fused import FusionConfig, ProtocolName, Seed
from nearfar.research.fusion import refuse_impossible
from nearfar.research.reproduce.catalogue import STUDIES
from nearfar.systems import configuration, named
from nearfar.systems.configuration import System
from nearfar.systems.fusion import BranchName, SystemBranch
from nearfar.systems.named import SEED

ALONE = (COMPLETE_DEVELOPMENT.name, FIXED_LEAVE_ONE_MACHINE_OUT.name)  # of a branch that is not fused

Metric = Literal["omega", "source", "target", "pauc"]
Percent = Annotated[float, Field(allow_inf_nan=False)]
Settings = dict[str, Any]


class Row(FusionConfig):
    """A published number, and how it is to be found again.

    Attributes
    ----------
    label : str
    published, published_std : float or None
        Percent, or percentage points with ``without``; absent where the report has no number.
    branch : str or None
        A branch alone; or
    branches : tuple of str
        those that are fused, with the weights, step and calibration of ``study.FusionConfig``.
    without : str or None
        One of these: the number is what is found without it, less what is found with all.
    candidates : mapping from name to mapping from branch to settings
        Among which ``strict nested`` chooses; a branch that is not named has its own settings.
    protocol : str
        Of ``evaluation.protocols.PROTOCOLS``.
    seeds : tuple of int
        Of several the number is the mean, and has a sample standard deviation. Empty: those of the study.
    machine : str or None
        None: all machines.
    metric : {"omega", "source", "target", "pauc"}
    """

    label: str
    published: Percent | None = None
    published_std: Percent | None = None
    branch: str | None = None
    branches: tuple[str, ...] = ()
    without: str | None = None
    candidates: dict[BranchName, dict[str, Settings]] = Field(default_factory=dict)
    protocol: ProtocolName
    seeds: tuple[Seed, ...] = ()
    machine: str | None = None
    metric: Metric = "omega"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if faults := list(self._faults()):
            raise ValueError("\n".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        if (self.branch is None) == (not self.branches):
            yield "name either a branch, or branches to be fused"
            return
        if self.branches and (len(self.branches) < 2 or len(set(self.branches)) < len(self.branches)):
            yield f"branches={list(self.branches)}: a fusion has two or more, each once"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds={list(self.seeds)}: each once, or its value would count twice"
        yield from self._faults_of_one_branch() if self.branch is not None else self._faults_of_fusion()

    def _faults_of_one_branch(self) -> Iterator[str]:
        given = {*FusionConfig.model_fields, "without", "candidates"} & self.model_fields_set
        if given:
            yield f"{', '.join(sorted(given))}: of a fusion, but there is one branch alone"
        if self.protocol not in ALONE:
            yield f"protocol={self.protocol!r}: a branch alone chooses nothing; take one of {', '.join(ALONE)}"

    def _faults_of_fusion(self) -> Iterator[str]:
        if self.false_alarm_rate is not None:
            yield f"false_alarm_rate={self.false_alarm_rate}: a row compares scores, and decides nothing"
        nested = self.protocol == NESTED.name
        if nested != bool(self.candidates):
            yield f"protocol={self.protocol!r}: candidates belong to {NESTED.name!r}, and to no other"
        if strange := {b for of in self.candidates.values() for b in of} - set(self.branches):
            yield f"candidates: {', '.join(sorted(strange))} is not among the branches of this row"
        if self.without is not None:
            yield from self._faults_of_without(self.without, nested)
        try:
            protocol = CROSS_FITTED if nested else PROTOCOLS[self.protocol]
            refuse_impossible(self.branches, protocol, weights=self.asked, calibration=self.calibration)
        except ValueError as error:
            yield str(error)

    def _faults_of_without(self, left_out: str, nested: bool) -> Iterator[str]:
        if left_out not in self.branches:
            yield unknown("branch to leave out", left_out, self.branches)
        elif len(self.branches) < 3 or nested or isinstance(self.weights, dict):
            yield f"without={left_out!r}: needs three branches, equal or searched weights, and no candidates"

    @property
    def of(self) -> Protocol:
        return PROTOCOLS[self.protocol]

    @property
    def used(self) -> tuple[str, ...]:
        """The branches that it needs."""
        return self.branches if self.branch is None else (self.branch,)

    @property
    def choices(self) -> tuple[str, ...]:
        """The names of its candidates; a single empty one stands for the branches as they are."""
        return tuple(self.candidates) or ("",)

    @property
    def adapted_on(self) -> Literal["all", "others"]:
        """On which machines' normal clips an encoder that is adapted over machines is trained."""
        return "all" if self.protocol in (COMPLETE_DEVELOPMENT.name, FIXED.name) else "others"


class PublishedStudy(BaseModel):
    """A table or a figure of a report: its numbers, and how they are to be found again.

    Attributes
    ----------
    name, title, source, summary : str
    data : str
        Of ``datasets.DATASETS``: on whose development machines the published values were measured.
    seeds : tuple of int
    branches : mapping from name to SystemBranch
    settings : mapping
        New values by dotted path for all branches, after their own and after those of candidates; with an encoder
        and a colon before it, ``"eat:branch.encoder_options.weights"``, for the branches with that encoder.
    rows : tuple of Row
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: BranchName
    title: str
    source: str
    data: str
    summary: str
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (SEED,)
    branches: Annotated[dict[BranchName, SystemBranch], Field(min_length=1)]
    settings: Settings = Field(default_factory=dict)
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    _systems: dict[str, System] = PrivateAttr(default_factory=dict)  # by what was asked for

    @field_validator("data")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in DATASETS:
            raise ValueError(unknown("data set", name, DATASETS))
        return name

    @model_validator(mode="after")
    def _rows_can_be_found(self) -> Self:
        _, of_encoder = self._divided()
        encoders = {self._loaded(b, b.settings).branch.encoder for b in self.branches.values()}
        if strange := sorted(set(of_encoder) - encoders):
            raise ValueError(f"settings: {unknown('encoder of this study', strange[0], encoders)}")
        faults = [f"rows.{n}: {fault}" for n, row in enumerate(self.rows) for fault in self._faults_of(row)]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _faults_of(self, row: Row) -> Iterator[str]:
        if absent := [name for name in row.used if name not in self.branches]:
            yield unknown("branch", absent[0], self.branches)
            return
        if row.published_std is not None and len(self.seeds_of(row)) < 2:
            yield f"published_std={row.published_std}: needs two seeds or more"
        for candidate in row.choices:
            for name in row.used:
                try:
                    system = self.system(name, row, candidate)
                except ValueError as error:
                    yield f"branches.{name}: {error}"
                    continue
                if row.calibration != "selection_fold" and system.threshold.method == "none":
                    yield (
                        f"branches.{name}: calibration={row.calibration!r} needs scores of unseen normal clips, "
                        "but with threshold.method='none' there are none"
                    )

    def seeds_of(self, row: Row) -> tuple[int, ...]:
        return row.seeds or self.seeds

    def system(self, name: str, row: Row, candidate: str = "") -> System:
        """The system of a branch, as this row, or one of its candidates, has it."""
        branch = self.branches[name]
        own = row.candidates.get(candidate, {}).get(name, {})
        for_all, of_encoder = self._divided()
        for_its = of_encoder.get(self._loaded(branch, branch.settings).branch.encoder, {})
        return self._loaded(branch, {**branch.settings, **own, **for_all, **for_its})

    def _loaded(self, branch: SystemBranch, settings: Settings) -> System:
        """A branch's system with these settings, read once: rows share it."""
        asked = digest([branch.system, branch.preset, settings])
        if asked not in self._systems:
            self._systems[asked] = configuration.load(branch.system, settings, preset=branch.preset)
        return self._systems[asked]

    def _divided(self) -> tuple[Settings, dict[str, Settings]]:
        """The settings for all branches, and those for each encoder."""
        for_all: Settings = {}
        of_encoder: dict[str, Settings] = {}
        for key, value in self.settings.items():
            encoder, colon, path = key.partition(":")
            if colon:
                of_encoder.setdefault(encoder, {})[path] = value
            else:
                for_all[key] = value
        return for_all, of_encoder


def load(name: str, settings: Mapping[str, Any] | None = None) -> PublishedStudy:
    """A named study, or the one in a TOML file, with settings of its branches replaced.

    Parameters
    ----------
    name : str
        Of ``STUDIES``, or the path of a ``.toml`` file.
    settings : mapping
        As ``PublishedStudy.settings``; they come after those of the file.

    Raises
    ------
    ValueError
        If there is no such study, or something in it is wrong: everything that is, one line each.
    FileNotFoundError
        If there is no such file.
    """
    if name not in STUDIES and not name.endswith(".toml"):
        raise ValueError(unknown("study", name, STUDIES))
    path = STUDIES.get(name, Path(name))
    content = named.read_toml(path)
    if settings:
        content["settings"] = {**content.get("settings", {}), **settings}
    return configuration.validate(PublishedStudy, content, path)
