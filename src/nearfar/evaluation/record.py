"""The record of a result: what was run, on which data, with which versions, and what was selected on what.

A result's folder keeps it in ``run.json``. These models are the only code that writes or reads that file. A record
holds neither a path nor a time, so two equal runs write equal bytes. Keys that this version does not know, from a
later one, are kept as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticKnownError

from nearfar.files.atomic import write_json

Count = Annotated[int, Field(ge=0, strict=True)]
Text = Annotated[str, Field(min_length=1)]


class Record(BaseModel):
    """A part of a record, or all of it: frozen, written as JSON and read back from it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able; fields that are None are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def save(self, file: Path) -> None:
        """Write the record as JSON with sorted keys."""
        write_json(file, self.describe())

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a record from a file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or holds something else; the message lists every problem.
        """
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            problems = [_problem(p) for p in error.errors(include_url=False)]
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise ValueError(
                "\n".join(
                    [
                        f"{file}: {count}; the file is damaged, or nearfar did not write it:",
                        *(f"  {p}" for p in problems),
                        "Take a copy of it if there is one; else remove it with the other files of this result, "
                        "and run again: finished steps are kept in the cache.",
                    ]
                )
            ) from None


def _problem(error: Any) -> str:
    """One line for one error of pydantic."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{place}: missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place or isinstance(error["input"], (dict, list)):  # the whole file, or a part too long to show
        return f"{place}: {message}" if place else message
    return f"{place}: {message}, not {error['input']!r}"


class MachineRecord(Record):
    """What a result says about one machine.

    Attributes
    ----------
    training_clips, test_clips : int
        Numbers of clips.
    training_digest, test_digest : str
        SHA-256 of names and contents of the clips. Of scores from a file, nobody knows what they were trained on:
        no training clips, and the names of the test clips.
    sample_rate : int or None
        In Hz. ``None`` for a fusion, whose branches may differ.
    parameters : int or None
        How many numbers the networks of the machine's detector hold. ``None`` for a fusion.
    false_alarm_rate : float or None
        That decisions were asked for. ``None`` without decisions, and in results of earlier versions.
    """

    training_clips: Count
    test_clips: Count
    training_digest: Text
    test_digest: Text
    sample_rate: Count | None = None
    parameters: Count | None = None
    false_alarm_rate: float | None = None

    def without_network(self) -> MachineRecord:
        """The same without sampling rate, number of parameters and rate: what all branches have in common."""
        return MachineRecord(
            training_clips=self.training_clips,
            test_clips=self.test_clips,
            training_digest=self.training_digest,
            test_digest=self.test_digest,
        )


class DataRecord(Record):
    """The name of the data set, and its machines by name."""

    name: str
    machines: Annotated[dict[str, MachineRecord], Field(min_length=1)]


class ProtocolRecord(Record):
    """Which labels or machines were used for which choice.

    Attributes
    ----------
    name, selected_on : str
        As those of ``protocols.Protocol``.
    scope : str or None
        For a fusion: what was selected, on how many machines, and how many are reported.
    adapter : str or None
        Digest of the adapter's file, if one was given.
    """

    name: Text
    selected_on: Text
    scope: str | None = None
    adapter: str | None = None


class AdapterRecord(Record):
    """An adapter: the machines on whose normal clips it was trained, and its digest."""

    machines: tuple[str, ...]
    digest: Text


class FoldRecord(Record):
    """One fold of a protocol: machines for selection, reported machines, and what was chosen."""

    select: tuple[str, ...]
    report: tuple[str, ...]
    chosen: dict[str, Any]


class FindingRecord(Record):
    """A ``protocols.Finding``, as its ``describe`` gives it; metrics are fractions."""

    omega: float
    protocol: ProtocolRecord
    scope: Text
    sections: list[dict[str, Any]]
    folds: tuple[FoldRecord, ...]


def _has_a_name(system: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(name := system.get("name"), str) or not name:
        raise ValueError(f"a system needs a name that is a text, not {name!r}")
    return system


def _of_score_files(system: Any) -> bool:
    """Whether this is a branch whose scores are from a file, or a study of such branches alone."""
    branches = system.get("branches") if isinstance(system, dict) else None
    if not isinstance(branches, dict) or not branches:
        return isinstance(system, dict) and "scores" in system
    return all("scores" in branch for branch in branches.values())


class RunRecord(Record):
    """Everything that a result says about itself.

    Attributes
    ----------
    system : dict
        The system, or the study, with all its settings. Only its ``name`` is read here.
    seeds : tuple of int
    data : DataRecord
    sample_rate : int or None
        In Hz; the highest, if machines or branches differ. ``None`` for scores from files.
    parameters : dict from machine to int
        How many numbers the networks of its detector hold; for a fusion the sum over its branches. Empty if scores
        are from a file.
    versions : dict from library to version
    protocol : ProtocolRecord
    adapters : dict or None
        By seed and machine, an adapter for each branch of the ensemble. ``None`` for a system without adapters.
    findings : dict from seed to FindingRecord, or None
        Of a fusion; empty where no labels are known.
    branches : dict from name to RunRecord, or None
        Of a fusion: the record of each branch.
    """

    system: Annotated[dict[str, Any], AfterValidator(_has_a_name)]
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)]
    data: DataRecord
    sample_rate: Annotated[Count | None, Field(validate_default=True)] = None
    parameters: dict[str, Count]
    versions: dict[str, str]
    protocol: ProtocolRecord
    adapters: dict[str, dict[str, tuple[AdapterRecord, ...]]] | None = None
    findings: dict[str, FindingRecord] | None = None
    branches: dict[str, RunRecord] | None = None

    @field_validator("sample_rate")
    @classmethod
    def _is_known_of_systems(cls, rate: int | None, info: ValidationInfo) -> int | None:
        if rate is None and not _of_score_files(info.data.get("system")):
            raise PydanticKnownError("missing")
        return rate

    @property
    def name(self) -> str:
        """Name of the system or study."""
        return str(self.system["name"])

    @property
    def machines(self) -> tuple[str, ...]:
        """Names of the machines."""
        return tuple(self.data.machines)
