"""The named systems, one TOML file each: what the reports submitted, the official baselines, our own.

A system says what to fit to a machine (a branch, or an ensemble of them), how to decide (a threshold), and what it
needs. Files are read into frozen models that forbid unknown keys; an error lists every fault with its path.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from nearfar.decisions.thresholds import ThresholdConfig
from nearfar.recordings.clips import unknown
from nearfar.systems.branches import BranchConfig

M = TypeVar("M", bound=BaseModel)

DEFAULT = "spectral"
SYSTEMS: dict[str, Path] = {
    Path(str(file)).stem: Path(str(file))
    for file in sorted(resources.files(__name__).iterdir(), key=str)
    if str(file).endswith(".toml")
}
# systems of several branches, which ``study`` runs
FUSED: dict[str, Path] = {
    Path(str(file)).stem: Path(str(file))
    for file in sorted((resources.files(__name__) / "fused").iterdir(), key=str)
}


class Needs(BaseModel):
    """What a system costs.

    Attributes
    ----------
    channels : int
    weights, training : str
    minutes : float
        To fit a machine of 1,000 clips of 10 s.
    adapter_minutes : float
        To train an adapter before that, over 7,000 clips of 10 s; 0 if there is none.
    measured_on : str
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int
    weights: str
    training: str
    minutes: float
    adapter_minutes: float = 0.0
    measured_on: str


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{list(seeds)}: each seed once, or its score would count twice")
    return seeds


class Ensemble(BaseModel):
    """Which branches are fitted side by side; the score of a clip is the mean of theirs.

    Attributes
    ----------
    seeds : tuple of int
        One branch each; empty: the seed of the run.
    members : tuple of mappings
        With each seed a branch for each of these: what differs from the system's branch, by dotted path, as
        ``{"training.schedule_epochs": 100}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_each_once)] = ()
    members: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = ({},)


class System(BaseModel):
    """What is fitted to each machine.

    Attributes
    ----------
    name, summary, source : str
        ``source`` says where the system is from, and on what its settings were chosen.
    needs : Needs
    branch : BranchConfig
    ensemble : Ensemble
        By default of the one branch alone.
    threshold : ThresholdConfig
    machines : mapping from a machine's name to settings by dotted path
        Where a machine is to be treated otherwise, which must be decided before its test clips are looked at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str
    source: str
    needs: Needs
    branch: BranchConfig
    ensemble: Ensemble = Ensemble()
    threshold: ThresholdConfig = ThresholdConfig()
    machines: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _all_parts_are_valid(self) -> Self:
        for name in self.machines:
            branch = self.of_machine(name).branch
            if self.branch.adaptation is not None and _adapted(branch) != _adapted(self.branch):
                raise ValueError(
                    f"machines.{name}: adaptation and encoder are of all machines together, so none has its own"
                )
        branches = [branch for branch, _ in self.members(0)]
        if len({(branch.encoder, branch.view) for branch in branches}) > 1:
            raise ValueError("ensemble.members: all branches of an ensemble have one encoder and one view")
        return self

    def of_machine(self, name: str) -> Self:
        """The system as it is fitted to that machine."""
        content = self.model_dump(mode="json")
        for key, value in content.pop("machines").get(name, {}).items():
            _replace(content, key, value)
        return type(self).model_validate(content)

    def members(self, seed: int) -> list[tuple[BranchConfig, int]]:
        """The branches of the ensemble, each with its seed; ``seed`` is that of the run."""
        branches = []
        for settings in self.ensemble.members:
            content = self.branch.model_dump(mode="json")
            for key, value in settings.items():
                _replace(content, key, value)
            branches.append(BranchConfig.model_validate(content))
        return [(branch, each) for branch in branches for each in self.ensemble.seeds or (seed,)]


def _adapted(branch: BranchConfig) -> dict[str, Any]:
    """What an adapter is trained for."""
    return branch.model_dump(include={"encoder", "encoder_options", "adaptation"})


class Description(BaseModel):
    """What a list of systems shows of one."""

    model_config = ConfigDict(extra="ignore")

    name: str
    summary: str
    needs: Needs
    presets: dict[str, Any] = Field(default_factory=dict)


def describe() -> list[Description]:
    """All named systems, read without loading what they are made of."""
    return [
        Description.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        for path in (*SYSTEMS.values(), *FUSED.values())
    ]


def load(name: str, settings: Mapping[str, Any] | None = None, *, preset: str | None = None) -> System:
    """A named system, or the one in a TOML file, with some of its settings replaced.

    Parameters
    ----------
    name : str
        Of ``SYSTEMS``, or the path of a ``.toml`` file.
    settings : mapping
        New values by dotted path, ``{"branch.view": "near"}``.
    preset : str or None
        Of those settings in the file that have a name, table ``presets``; the system is then called by both names.
        ``settings`` come after it.

    Raises
    ------
    ValueError
        If there is no such system, or something in it is wrong: everything that is, one line each.
    FileNotFoundError
        If there is no such file.
    """
    if name in FUSED:
        raise ValueError(
            f"{name} has several branches, which are fused; only `nearfar run {name} --data ...` takes it"
        )
    if name not in SYSTEMS and not name.endswith(".toml"):
        raise ValueError(unknown("system", name, [*SYSTEMS, *FUSED]))
    path = SYSTEMS.get(name, Path(name))
    content = read_toml(path)
    for key, value in {**_preset(content, preset, path), **(settings or {})}.items():
        _replace(content, key, value)
    return validated(System, content, path)


def _preset(content: dict[str, Any], preset: str | None, path: Path) -> dict[str, Any]:
    """Take the presets out of a file's content; the settings of the one that is asked for."""
    presets = content.pop("presets", {})
    if preset is None:
        return {}
    if preset not in presets:
        raise ValueError(
            unknown("preset", preset, presets) if presets else f"{path.name}: this system has no presets"
        )
    return {"name": f"{content['name']}_{preset}", **presets[preset]}


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises
    ------
    FileNotFoundError
    ValueError
        If it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from error


def validated(model: type[M], content: Mapping[str, Any], path: Path) -> M:
    """The content of a file as a model.

    Raises
    ------
    ValueError
        If something in it is wrong: everything that is, one line each.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ValueError(_explain(error, model, path)) from None


def _replace(content: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise ValueError(  # noqa: TRY004  # of the user's setting, not of an argument's type
                f"{key!r}: {table!r} is a value, not a table"
            )
    content[last] = value


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings from ``key=value`` strings; a value is TOML, and a bare word is a string.

    Raises
    ------
    ValueError
        If there is no ``=``.
    """
    return {key: _value(text) for key, text in map(_assigned, assignments)}


def parse_options(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Settings to be varied, from ``key=value;value;...`` strings; values are as of ``parse_settings``.

    Raises
    ------
    ValueError
        If there is no ``=``, a key is given twice, or a value is empty.
    """
    options: dict[str, list[Any]] = {}
    for key, text in map(_assigned, assignments):
        if key in options:
            raise ValueError(f"{key}: given twice; join its values by semicolons")
        parts = text.split(";")
        if not all(part.strip() for part in parts):
            raise ValueError(
                f"'{key}={text}': a value is empty; expected some joined by semicolons, as 1;2;4"
            )
        options[key] = [_value(part) for part in parts]
    return options


def _assigned(assignment: str) -> tuple[str, str]:
    key, equals, value = assignment.partition("=")
    if not (equals and key):
        raise ValueError(f"{assignment!r}: expected key=value, such as branch.view=near")
    return key.strip(), value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _explain(error: ValidationError, model: type[BaseModel], path: Path) -> str:
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            message = unknown("key", str(fault["loc"][-1]), _fields_at(model, fault["loc"][:-1]))
        else:
            message = str(fault["msg"]).removeprefix("Value error, ")
        within = message.replace("\n", "\n  ")  # of a file that this one names
        faults.append(f"  {place}: {within}" if place else f"  {within}")
    return "\n".join([f"{path.name}: {len(faults)} faults" if len(faults) > 1 else f"{path.name}:", *faults])


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    at: Any = model
    for part in place:
        within = [a for a in get_args(at) if a is not ...]
        at = at.model_fields[part].annotation if hasattr(at, "model_fields") else within[-1]
    return list(at.model_fields)
