"""A system as its file describes it.

Files are read into frozen models that forbid unknown keys. An error lists every fault with its path.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from nearfar.backends import BACKENDS, present_name
from nearfar.decisions.thresholds import ThresholdConfig
from nearfar.embedding import CONDITIONING, OF_PAIRS, PAIRS_VIEW
from nearfar.embedding.embeddings import POOLINGS, VIEWS, joined
from nearfar.encoders import ENCODERS, encoder_class
from nearfar.files.extras import MissingPackageError
from nearfar.recordings.clips import unknown
from nearfar.systems.components import OWNERS, Component
from nearfar.systems.named import FUSED, SYSTEMS, Needs, read_toml
from nearfar.systems.options import options_model
from nearfar.systems.settings import apply, places_of
from nearfar.training import DEFAULT_ADAPTATION, adapter_trainer
from nearfar.training.adapters import HEAD, TRAINS_HEAD

RECIPE = "recipe"  # the key of an adaptation that is no option of its recipe

M = TypeVar("M", bound=BaseModel)


# ``defer_build``: a model is built when the first file is read. A verdict reads none, and building takes 20 ms.
class ConditioningStep(BaseModel):
    """A conditioning with options, which are the other keys of its table."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def name_or_table(value: Any) -> str:
    """Which of the two a file gives, as a tag."""
    return "name" if isinstance(value, str) else "table"


# told apart before they are read, so that an error is about the one that was meant
NameOrStep = Annotated[
    Annotated[str, Tag("name")] | Annotated[ConditioningStep, Tag("table")], Discriminator(name_or_table)
]


class BranchConfig(BaseModel):
    """What a branch is made of.

    Attributes
    ----------
    encoder : str
        Of ``encoders.ENCODERS``, made with ``encoder_options``, fitted with ``training`` if it needs that.
    adaptation : mapping or None
        Options of a recipe of ``training.ADAPTATIONS``, which ``recipe`` names: the encoder is frozen but for an
        adapter, which is trained over machines before any of them is fitted. ``None``: there is no adapter.
    view, pooling : str
        Of ``embeddings.VIEWS`` and ``embeddings.POOLINGS``.
    conditioning : tuple of str or ConditioningStep
        Of ``CONDITIONING``, applied in order to embeddings before the back end; by name, or as a table of name
        and options. In TOML ``conditioning = ["standardize", {name = "whiten", components = 512}]``, on the
        command line ``--set 'branch.conditioning=["standardize", {name = "whiten", components = 512}]'``.
    backend : str
        Of ``backends.BACKENDS``, made with ``backend_options``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    encoder: str
    encoder_options: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    adaptation: dict[str, Any] | None = None
    view: str = "near"
    pooling: str
    conditioning: tuple[NameOrStep, ...] = ()
    backend: str
    backend_options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("encoder", "view", "pooling", "backend")
    @classmethod
    def _is_known(cls, value: str, info: Any) -> str:
        registries: dict[str, Mapping[str, Any]] = {
            "encoder": ENCODERS,
            "view": VIEWS,
            "pooling": POOLINGS,
            "backend": BACKENDS,
        }
        known = registries[info.field_name]
        value = present_name(value) if info.field_name == "backend" else value
        if value not in known:
            raise ValueError(unknown(info.field_name, value, known))
        return value

    @field_validator("conditioning")
    @classmethod
    def _steps_are_known(
        cls, steps: tuple[str | ConditioningStep, ...]
    ) -> tuple[str | ConditioningStep, ...]:
        for name, options in map(name_and_options, steps):
            if name not in CONDITIONING:
                raise ValueError(unknown("conditioning", name, CONDITIONING))
            if options:
                Component.resolve("conditioning", name, options)
        return steps

    @field_validator("encoder_options", "training", "backend_options")
    @classmethod
    def _options_are_known(cls, options: dict[str, Any], info: Any) -> dict[str, Any]:
        """Checked even where other fields are wrong, so that an error tells everything."""
        owner = info.data.get("backend" if info.field_name == "backend_options" else "encoder")
        if options and owner is not None:
            Component.resolve(_KINDS[info.field_name], owner, options, label=info.field_name)
        return options

    @model_validator(mode="after")
    def _view_suits_the_encoder(self) -> Self:
        chosen, encoder = VIEWS[self.view], encoder_class(self.encoder)
        needed = encoder.microphones
        if needed == 1 and encoder.fitted_per_machine and len(chosen.microphones) > 1:
            raise ValueError(
                f"view={self.view!r}: encoder {self.encoder!r} is fitted to one waveform a clip; take the view "
                "'near', 'far' or 'cancelled'"
            )
        if needed > 1 and (len(chosen.microphones) != needed or chosen.combine is not joined):
            suitable = [n for n, v in VIEWS.items() if len(v.microphones) == needed and v.combine is joined]
            raise ValueError(
                f"view={self.view!r}: encoder {self.encoder!r} hears {needed} microphones at once; take one of "
                f"{', '.join(suitable)}"
            )
        return self

    @field_validator("adaptation")
    @classmethod
    def _encoder_can_be_adapted(cls, options: dict[str, Any] | None, info: Any) -> dict[str, Any] | None:
        encoder = info.data.get("encoder")
        if options is None or encoder is None:
            return options
        if not hasattr(encoder_class(encoder), "ENCODER"):
            raise ValueError(f"encoder {encoder!r} is not a pretrained network, so there is nothing to adapt")
        Component.resolve("adaptation", *recipe_and_options(options), label="adaptation")
        return options

    @model_validator(mode="after")
    def _head_has_what_it_was_trained_on(self) -> Self:
        steps = [name for name, _ in map(name_and_options, self.conditioning)]
        if HEAD not in steps:
            return self
        if self.adaptation is None:
            raise ValueError("conditioning 'head' comes from an adapter, but there is no [branch.adaptation]")
        recipe, _ = recipe_and_options(self.adaptation)
        if not adapter_trainer(recipe).TRAINS_HEAD:
            raise ValueError(
                f"conditioning 'head' comes from an adapter, but the recipe {recipe!r} keeps none"
            )
        found = {"view": self.view, "pooling": self.pooling}
        if found != TRAINS_HEAD or steps.index(HEAD) > 0:
            raise ValueError(
                f"conditioning={steps}, view={self.view!r}, pooling={self.pooling!r}: 'head' was trained on "
                "view='near_and_far' and pooling='global_mean_std'; take these, and the head before other steps"
            )
        return self

    @model_validator(mode="after")
    def _pairs_are_those_of_the_microphones(self) -> Self:
        steps = [name for name, _ in map(name_and_options, self.conditioning)]
        places = [place for place, name in enumerate(steps) if name in OF_PAIRS]
        if not places:
            return self
        before = {*steps[: places[0]]} - {"standardize"}
        alone = encoder_class(self.encoder).microphones == 1
        if self.view != PAIRS_VIEW or before or len(places) > 1 or not alone:
            raise ValueError(
                f"conditioning={steps}, view={self.view!r}, encoder {self.encoder!r}: {steps[places[0]]!r} takes "
                f"the embeddings of near and far side by side; take view={PAIRS_VIEW!r}, an encoder that hears one "
                "microphone at a time, and one such step, with nothing before it but 'standardize'"
            )
        return self

    @model_validator(mode="after")
    def _conditioning_has_vectors(self) -> Self:
        if self.conditioning and self.pooling == "rows":
            raise ValueError("conditioning takes one vector a clip, but pooling 'rows' gives many")
        return self


def name_and_options(step: str | ConditioningStep) -> tuple[str, dict[str, Any]]:
    return (step, {}) if isinstance(step, str) else (step.name, step.options)


def recipe_and_options(adaptation: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Of an adaptation, the name of its recipe, and all other keys."""
    options = dict(adaptation)
    return str(options.pop(RECIPE, DEFAULT_ADAPTATION)), options


_KINDS = {"encoder_options": "encoder", "training": "training", "backend_options": "backend"}


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

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

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

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

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
            if self.branch.adaptation is not None and what_is_adapted(branch) != what_is_adapted(self.branch):
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
        apply(content, content.pop("machines").get(name, {}))
        return type(self).model_validate(content)

    def members(self, seed: int) -> list[tuple[BranchConfig, int]]:
        """The branches of the ensemble, each with its seed; ``seed`` is that of the run."""
        branches = []
        for settings in self.ensemble.members:
            content = self.branch.model_dump(mode="json")
            apply(content, settings)
            branches.append(BranchConfig.model_validate(content))
        return [(branch, each) for branch in branches for each in self.ensemble.seeds or (seed,)]


def what_is_adapted(branch: BranchConfig) -> dict[str, Any]:
    """What an adapter is trained for; of a branch that is adapted."""
    recipe, _ = recipe_and_options(branch.adaptation or {})
    made_of = {"encoder", "encoder_options", "adaptation"}
    hears_the_view = adapter_trainer(recipe).MICROPHONES is None
    return branch.model_dump(include=made_of | ({"view"} if hears_the_view else set()))


def load(name: Path | str, settings: Mapping[str, Any] | None = None, *, preset: str | None = None) -> System:
    """A named system, or the one in a TOML file, with some of its settings replaced.

    Parameters
    ----------
    name : Path or str
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
    MissingPackageError
        If it needs torch, and torch is not installed.
    """
    name = str(name)
    if name in FUSED:
        raise ValueError(
            f"{name} has several branches, which are fused; only `nearfar fit` and `nearfar run` take it, in "
            "Python nearfar.fit and nearfar.research.fused.run"
        )
    if name not in SYSTEMS and not name.endswith(".toml"):
        raise ValueError(unknown("system", name, [*SYSTEMS, *FUSED]))
    path = SYSTEMS.get(name, Path(name))
    content = read_toml(path)
    apply(content, _preset(content, preset, path))
    apply(content, settings or {})
    _tell_changes(content, settings or {})
    return validate(System, content, path)


def _tell_changes(content: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Say in the summary which settings of branches differ from those that it describes."""
    changed = ", ".join(f"{key}={value}" for key, value in settings.items() if key.startswith("branch."))
    if changed and "summary" not in settings and isinstance(content.get("summary"), str):
        content["summary"] += f" Changed: {changed}."


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


def validate(model: type[M], content: Mapping[str, Any], path: Path) -> M:
    """The content of a file as a model, which is told the file's folder.

    Raises
    ------
    ValueError
        If something in it is wrong: everything that is, one line each.
    MissingPackageError
        If it needs torch, and torch is not installed.
    """
    try:
        return model.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        tables = _tables(content) if model is System else {}
        raise ValueError(_explain(error, model, tables, path)) from None
    except MissingPackageError as error:
        raise MissingPackageError(f"{path.stem}: {error}", name=error.name) from error


def _tables(content: Mapping[str, Any]) -> dict[str, Collection[str]]:
    """The keys of each table of a system by its dotted path, as far as the content says what it is made of."""
    tables: dict[str, Collection[str]] = {
        "": System.model_fields,
        "branch": BranchConfig.model_fields,
        "ensemble": Ensemble.model_fields,
        "threshold": ThresholdConfig.model_fields,
    }
    branch = content.get("branch")
    if not isinstance(branch, Mapping):
        return tables
    for table, kind in _KINDS.items():
        name = branch.get("backend" if table == "backend_options" else "encoder")
        with suppress(ValueError, MissingPackageError):  # no such name, or nothing to train
            tables[f"branch.{table}"] = options_model(OWNERS[kind](str(name))).model_fields
    if isinstance(adaptation := branch.get("adaptation"), Mapping):
        recipe, _ = recipe_and_options(adaptation)
        with suppress(ValueError):
            fields_of = options_model(OWNERS["adaptation"](recipe)).model_fields
            tables["branch.adaptation"] = [RECIPE, *fields_of]
    return tables


def _explain(
    error: ValidationError, model: type[BaseModel], tables: Mapping[str, Collection[str]], path: Path
) -> str:
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = _message(fault, place, model, tables)
        within = message.replace("\n", "\n  ")  # of a file that this one names
        faults.append(f"  {place}: {within}" if place else f"  {within}")
    return "\n".join([f"{path.name}: {len(faults)} faults" if len(faults) > 1 else f"{path.name}:", *faults])


def _message(
    fault: ErrorDetails, place: str, model: type[BaseModel], tables: Mapping[str, Collection[str]]
) -> str:
    """What is wrong at a place; of a key that belongs elsewhere, where."""
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        key = str(fault["loc"][-1])
        if places := places_of(key, fault["input"], tables):
            return f"no key {key!r} here; did you mean {' or '.join(places)}?"
        return unknown("key", key, _fields_at(model, fault["loc"][:-1]))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if place in tables and isinstance(fault["input"], Mapping):  # options, of which some may be unknown
        for key, value in fault["input"].items():
            if key not in tables[place] and (places := places_of(key, value, tables)):
                message += f"\nFor {key}, did you mean {' or '.join(places)}?"
    return message


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    at: Any = model
    for part in place:
        within = [a for a in get_args(at) if a is not ...]
        at = at.model_fields[part].annotation if hasattr(at, "model_fields") else within[-1]
        while get_origin(at) in (
            Annotated,
            Union,
            UnionType,
        ):  # of several, the first: others name their keys
            at = get_args(at)[0]
    return list(at.model_fields) if hasattr(at, "model_fields") else [f.name for f in fields(at)]
