"""A fused system: several systems as branches, whose scores become one by normal scores alone.

A file of it names its branches, each a system, and how their scores are fused::

    name = "near_beside_cancelled"
    summary = "The near microphone alone, beside the cancelled one."
    protocol = "fixed configuration"

    [fusion]
    weights = {cancelled = 0.7, near = 0.3}
    calibration = "own_normals_log"
    false_alarm_rate = 0.05

    [branches.cancelled]
    system = "spectral"

    [branches.near]
    system = "spectral_near"

It is fitted to a machine like any system. ``research.fused`` reads the same file as a study, which may also choose
weights and scales by the scores and labels of test clips. A file that does cannot be fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from nearfar.decisions.fusing import CALIBRATIONS, NormalCalibration, require_weights, take_weights
from nearfar.decisions.thresholds import ThresholdConfig
from nearfar.systems import configuration, named

OF_A_STUDY = ("protocol", "seeds")  # what a fit does not need of the file
OF_A_SEARCH = ("step",)  # nor of its table [fusion]
TABLES = {"branches", "fusion"}  # that no other system has

BranchName = Annotated[str, Field(pattern=r"^[\w-]+$")]  # it names a folder, too


# told apart before they are read, so that an error is about the one that was meant
EqualOrTable = Annotated[
    Annotated[Literal["equal"], Tag("name")] | Annotated[dict[str, float], Tag("table")],
    Discriminator(configuration.name_or_table),
]


class SystemBranch(BaseModel):
    """A system, named or in a TOML file, with one of its presets if any, and ``settings`` by dotted path.

    The path of a file is one from the working folder, as on the command line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    system: str
    preset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_a_system(self) -> Self:
        self.load()
        return self

    def load(self) -> configuration.System:
        return configuration.load(self.system, self.settings, preset=self.preset)


class FixedFusion(BaseModel):
    """How the scores of the branches become one; nothing of it is chosen by test clips.

    Attributes
    ----------
    weights : "equal" or mapping from branch to float
        Not negative, of sum 1.
    calibration : str
        Of ``fusing.CALIBRATIONS``.
    false_alarm_rate : float or None
        ``None``: no decisions. 0.05 if the file names none, as for any fit; a study then decides nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    weights: EqualOrTable = "equal"
    calibration: NormalCalibration
    false_alarm_rate: Annotated[float | None, Field(gt=0, lt=1)] = 0.05


class FusedSystem(BaseModel):
    """What is fitted to each machine, of several systems.

    Attributes
    ----------
    name, summary, source : str
    needs : named.Needs or None
        Of a named one.
    branches : mapping from name to SystemBranch
        Two or more.
    fusion : FixedFusion
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    summary: str = ""
    source: str = ""
    needs: named.Needs | None = None
    branches: Annotated[dict[BranchName, SystemBranch], Field(min_length=2)]
    fusion: FixedFusion

    @model_validator(mode="after")
    def _can_be_fused(self) -> Self:
        require_weights(self.weights)
        for name, branch in self.branches.items():
            if branch.load().threshold.method == "none":
                raise ValueError(
                    f"branches.{name}: a fusion needs scores of unseen normal clips, but with "
                    "threshold.method='none' there are none; give the system a threshold"
                )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Of each branch, in their order."""
        return take_weights(self.fusion.weights, list(self.branches))

    def threshold(self, unseen: ThresholdConfig) -> ThresholdConfig:
        """How fused scores are decided; ``unseen``: where a branch's unseen scores come from."""
        rate = self.fusion.false_alarm_rate
        if rate is None:
            return unseen.model_copy(update={"method": "none"})
        return unseen.model_copy(update={"method": "conformal", "false_alarm_rate": rate})

    def with_false_alarm_rate(self, rate: float) -> Self:
        """The system with another false-alarm rate to be asked for."""
        fusion = FixedFusion.model_validate({**self.fusion.model_dump(), "false_alarm_rate": rate})
        return self.model_copy(update={"fusion": fusion})


def is_fused(name: Path | str) -> bool:
    """Whether this is a fused system, or the file of one: TOML with branches or a fusion, not a branch."""
    name = str(name)
    return name in named.FUSED or (
        name.endswith(".toml") and not TABLES.isdisjoint(named.read_toml(Path(name)))
    )


def load(
    name: Path | str, settings: Mapping[str, Any] | None = None, *, preset: str | None = None
) -> FusedSystem:
    """A fused system by its name, or from its file; the systems that it names are looked up, too.

    It takes neither settings nor a preset: its file has those of each branch.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If something in it is wrong: everything that is, one line each. Or if it is a study that chooses by test
        clips; or settings or a preset are given.
    """
    if settings or preset:
        raise ValueError(
            f"{name} has several branches; write presets and settings into a copy of its file, or take one branch "
            "alone"
        )
    path = named.FUSED.get(str(name), Path(name))
    content = {key: value for key, value in named.read_toml(path).items() if key not in OF_A_STUDY}
    _refuse_scores(content.get("branches"), path)
    if content.get("candidates"):
        raise ValueError(
            f"{path.name}: candidates are chosen by labels of test clips, and a fit has none. `nearfar run` takes "
            "the file; for a fit, keep the branches of one candidate, and omit the table"
        )
    if isinstance(fusion := content.get("fusion", {}), dict):
        _refuse_choices(fusion, path)
        content["fusion"] = {key: value for key, value in fusion.items() if key not in OF_A_SEARCH}
    return configuration.validate(FusedSystem, content, path)


def load_any(
    name: Path | str, settings: Mapping[str, Any] | None = None, *, preset: str | None = None
) -> configuration.System | FusedSystem:
    """A system, or a fused one, by its name or from its file.

    Parameters
    ----------
    name, settings, preset
        As of ``configuration.load``, or of ``load``.

    Raises
    ------
    FileNotFoundError, ValueError, MissingPackageError
        As ``configuration.load`` and ``load``.
    """
    if not is_fused(name):
        return configuration.load(name, settings, preset=preset)
    return load(name, settings, preset=preset)


def _refuse_choices(fusion: Mapping[str, Any], path: Path) -> None:
    """Raise if a study chooses what a fit to one machine has no test clips to choose by."""
    if (weights := fusion.get("weights")) in ("search", "greedy"):
        raise ValueError(
            f"{path.name}: fusion.weights={weights!r} chooses weights by labels of test clips, and a fit has none. "
            "`nearfar run` takes the file; for a fit, write the weights that it found: weights = {NAME = 0.5, ...}"
        )
    if fusion.get("calibration", "selection_fold") == "selection_fold":
        raise ValueError(
            f"{path.name}: fusion.calibration='selection_fold', the default of a study, takes its scale from test "
            f"clips, and a fit has none; choose one of {', '.join(CALIBRATIONS)}"
        )


def _refuse_scores(branches: Any, path: Path) -> None:
    """Raise if a branch of a study is a file of scores: it says nothing of a new clip."""
    for name, branch in branches.items() if isinstance(branches, dict) else ():
        if isinstance(branch, dict) and "scores" in branch:
            raise ValueError(
                f"{path.name}: branches.{name}: a file of scores cannot score new clips, so there is nothing to "
                "fit; `nearfar run` takes the file"
            )
