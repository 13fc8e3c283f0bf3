"""The rules of the challenge's package: machines, labels of systems, and the meta information of a system."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

DEVELOPMENT_MACHINES = ("ToyCar", "ToyCarEmu", "bearingEmu", "fan", "gearboxEmu", "sliderEmu", "valveEmu")
EVALUATION_MACHINES = ("ToyDrone", "ToothBrush", "SewingMachine", "BlowerDustCollector", "Sander")
CLIP_NAMES = tuple(f"section_00_{i:04d}.wav" for i in range(200))  # of an evaluation machine's test set
SYSTEMS = 4  # at most, in one package
ABBREVIATION = 10  # characters at most
LABEL = re.compile(r"[A-Za-z][A-Za-z-]*_[A-Za-z0-9-]+_task2_[1-4]")


def _text(value: object) -> object:
    of_texts = isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
    if not (value is None or isinstance(value, str) or of_texts):
        raise ValueError("must be a string, a list of strings, or null")
    return value


Text = Annotated[Any, AfterValidator(_text)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Affiliation(_Part):
    institute: Name
    abbreviation: str | None = None
    department: str | None = None
    location: str | None = None


class Author(_Part):
    lastname: Name
    firstname: Name
    email: Name
    affiliation: Affiliation
    corresponding: bool = False


class Identity(_Part):
    """The names of the system, and its authors."""

    label: Annotated[str, Field(pattern=f"^{LABEL.pattern}$")]
    name: Name
    abbreviation: Annotated[str, Field(min_length=1, max_length=ABBREVIATION)]
    authors: Annotated[list[Author], Field(min_length=1)]


class SystemDescription(_Part):
    """The system in the organizers' terms; null for what it does not use."""

    input_sampling_rate: Text
    data_augmentation: Text
    front_end: Text
    acoustic_features: Text
    embeddings: Text
    machine_learning_method: Text
    aggregation_method: Text
    domain_adaptation_method: Text
    domain_generalization_method: Text
    ensemble_method_subsystem_count: Annotated[int, Field(ge=1)] | None
    decision_making: Text
    attribute_usage: Text
    external_data_usage: Text
    development_data_usage: Text


class Complexity(_Part):
    total_parameters: Annotated[int, Field(ge=0)]


class ExternalDataset(_Part):
    name: Name
    url: str | None = None
    total_audio_length: float | None = None  # minutes


class SystemMeta(_Part):
    description: SystemDescription
    complexity: Complexity
    external_datasets: list[ExternalDataset] | None
    source_code: str | None


class MachineResult(_Part):
    """Metrics of one machine in percent, as in every table of the challenge."""

    auc_source: Percent
    auc_target: Percent
    pauc: Percent


class Results(_Part):
    development_dataset: dict[str, MachineResult]


class Meta(_Part):
    """The content of ``LABEL.meta.yaml``."""

    submission: Identity
    system: SystemMeta
    results: Results


_PARTS = (
    Meta,
    Identity,
    Author,
    Affiliation,
    SystemMeta,
    SystemDescription,
    Complexity,
    ExternalDataset,
    Results,
)
KEYS = sorted({key for part in _PARTS for key in part.model_fields})


def read_meta(path: Path) -> dict[str, Any]:
    """Read meta information from a ``.toml``, ``.yaml`` or ``.yml`` file with the keys of ``Meta``.

    The content is not validated here: ``write`` first adds what it finds in the results.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file has another suffix, cannot be parsed, or is not a table with keys.
    """
    if path.suffix not in (".toml", ".yaml", ".yml"):
        raise ValueError(f"{path}: meta information must be a .toml, .yaml or .yml file")
    parse: Callable[[str], Any] = tomllib.loads if path.suffix == ".toml" else yaml.safe_load
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as e:  # TOML's and Unicode's errors are ValueErrors
        raise ValueError(f"{path}: {e}") from e
    match content:
        case dict():
            return content
    raise ValueError(f"{path}: expected the keys submission and system, found {content!r}")


def find_problems(content: Any, *, extra: bool) -> list[str]:
    """List everything that is wrong with the content of a ``Meta``; unknown keys count only with ``extra``."""
    try:
        Meta.model_validate(content)
    except ValidationError as error:
        every = [_explain(e) for e in error.errors() if extra or e["type"] != "extra_forbidden"]
        return sorted(every)
    return []


def _explain(error: Mapping[str, Any]) -> str:
    path = ".".join(map(str, error["loc"])) or "the file"
    if error["type"] == "missing":
        return f"{path}: missing"
    if error["type"] == "extra_forbidden":
        return f"{path}: no such key{nearest(str(error['loc'][-1]), KEYS)}"
    return f"{path}: {error['msg']}, not {error['input']!r}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar known one, if any is similar."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
