"""The challenge's package: written from the results of experiments, and checked against the rules.

Conventions
-----------
A package is a zip archive of at most four systems, each a folder ``task2/LABEL`` with ::

    LABEL.meta.yaml                                 who and what; results on the development set in percent
    anomaly_score_MACHINE_section_00_test.csv       NAME.wav,SCORE   200 rows, no header
    decision_result_MACHINE_section_00_test.csv     NAME.wav,0|1

for each of the five evaluation machines. Rules: dcase.community/challenge2026 and T. Nishida et al.,
"Description and Discussion on DCASE 2026 Challenge Task 2," arXiv:2606.01578. They are those of 2026; machines,
numbers and names of files were others before.

Of several seeds a package holds one system: a clip's score is the mean over seeds, and it is flagged if at
least half of the seeds flag it. Its results on the development set are the mean over seeds of each metric.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nearfar.evaluation.results import read_table
from nearfar.files.atomic import atomic_file

DEVELOPMENT_MACHINES = ("ToyCar", "ToyCarEmu", "bearingEmu", "fan", "gearboxEmu", "sliderEmu", "valveEmu")
EVALUATION_MACHINES = ("ToyDrone", "ToothBrush", "SewingMachine", "BlowerDustCollector", "Sander")
CLIP_NAMES = tuple(f"section_00_{i:04d}.wav" for i in range(200))  # of an evaluation machine's test set
SYSTEMS = 4  # at most, in one package
ABBREVIATION = 10  # characters at most
LABEL = re.compile(r"[A-Za-z][A-Za-z-]*_[A-Za-z0-9-]+_task2_[1-4]")
SCORES_COLUMNS = ("key", "machine", "section", "split", "label", "seed", "score", "decision")
METRICS = ("auc_source", "auc_target", "pauc")
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the archive, so that equal content is equal bytes

_FILE = re.compile(r"task2/(?P<label>[^/]+)/(?P<file>[^/]+)")
_REPORT = re.compile(r"task2/([^/]+/)?[^/]+\.technical_report\.pdf")


# What a system's meta information says


def _text(value: object) -> object:
    of_texts = isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
    if not (value is None or isinstance(value, str) or of_texts):
        raise ValueError("must be a text, a list of texts, or null")
    return value


Text = Annotated[Any, AfterValidator(_text)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Affiliation(_Record):
    institute: Name
    abbreviation: str | None = None
    department: str | None = None
    location: str | None = None


class Author(_Record):
    lastname: Name
    firstname: Name
    email: Name
    affiliation: Affiliation
    corresponding: bool = False


class Identity(_Record):
    """Under which name the results are printed, and whose they are."""

    label: Annotated[str, Field(pattern=f"^{LABEL.pattern}$")]
    name: Name
    abbreviation: Annotated[str, Field(min_length=1, max_length=ABBREVIATION)]
    authors: Annotated[list[Author], Field(min_length=1)]


class Description(_Record):
    """The system in the organizers' terms; null where something is not used."""

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


class Complexity(_Record):
    total_parameters: Annotated[int, Field(ge=0)]


class ExternalDataset(_Record):
    name: Name
    url: str | None = None
    total_audio_length: float | None = None  # minutes


class System(_Record):
    description: Description
    complexity: Complexity
    external_datasets: list[ExternalDataset] | None
    source_code: str | None


class MachineResult(_Record):
    """In percent, as in every table of the challenge."""

    auc_source: Percent
    auc_target: Percent
    pauc: Percent


class Results(_Record):
    development_dataset: dict[str, MachineResult]


class Meta(_Record):
    """What ``LABEL.meta.yaml`` holds."""

    submission: Identity
    system: System
    results: Results


_RECORDS = (Meta, Identity, Author, Affiliation, System, Description, Complexity, ExternalDataset, Results)
KEYS = sorted({key for record in _RECORDS for key in record.model_fields})


def read_meta(path: Path) -> dict[str, Any]:
    """Meta information from a user's ``.toml``, ``.yaml`` or ``.yml`` file, with the keys of ``Meta``.

    It is not validated yet: ``write`` fills in what the experiments know, and the results.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of another kind, is not well-formed, or is not a table of keys.
    """
    if path.suffix not in (".toml", ".yaml", ".yml"):
        raise ValueError(f"{path}: meta information is read from .toml, .yaml or .yml")
    parse: Callable[[str], Any] = tomllib.loads if path.suffix == ".toml" else yaml.safe_load
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as e:  # TOML's and Unicode's errors are ValueErrors
        raise ValueError(f"{path}: {e}") from e
    match content:
        case dict():
            return content
    raise ValueError(f"{path}: expected the keys submission and system, found {content!r}")


def _faults(content: Any, *, extra: bool) -> list[str]:
    """Everything that keeps ``content`` from being a ``Meta``; unknown keys too, if ``extra``."""
    try:
        Meta.model_validate(content)
    except ValidationError as error:
        every = [_fault(e) for e in error.errors() if extra or e["type"] != "extra_forbidden"]
        return sorted(every)
    return []


def _fault(error: Mapping[str, Any]) -> str:
    path = ".".join(map(str, error["loc"])) or "the file"
    if error["type"] == "missing":
        return f"{path}: missing"
    if error["type"] == "extra_forbidden":
        return f"{path}: no such key{_nearest(str(error['loc'][-1]), KEYS)}"
    return f"{path}: {error['msg']}, not {error['input']!r}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# What experiments found


class _RunSystem(BaseModel):
    name: str


class _Run(BaseModel):
    """What a package needs of an experiment's ``run.json``."""

    system: _RunSystem
    parameters: dict[str, int]
    sample_rate: int


@dataclass(frozen=True)
class _Result:
    """One folder of an experiment's results."""

    folder: Path
    run: _Run
    scores: pd.DataFrame
    metrics: pd.DataFrame

    @property
    def development(self) -> list[str]:
        """The machines with labels."""
        return sorted(self.scores.loc[self.scores["label"].notna(), "machine"].unique())

    @property
    def anonymous(self) -> pd.DataFrame:
        """The rows of the machines without."""
        return self.scores[~self.scores["machine"].isin(self.development)]


def _read_result(folder: Path) -> _Result:
    for name in ("run.json", "scores.csv"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is not there; {folder} is not a folder of results")
    try:
        run = _Run.model_validate_json((folder / "run.json").read_bytes())
    except ValidationError as e:
        raise ValueError("\n".join(f"{folder / 'run.json'}: {_fault(error)}" for error in e.errors())) from e
    scores, metrics = read_table(folder / "scores.csv"), pd.DataFrame({"machine": []})
    if absent := [c for c in SCORES_COLUMNS if c not in scores]:
        raise ValueError(f"{folder / 'scores.csv'}: no column {', '.join(absent)}")
    if (folder / "metrics.csv").is_file():  # there is none where no label is known
        metrics = read_table(folder / "metrics.csv")
    return _Result(folder, run, scores, metrics)


def _result_problems(result: _Result) -> list[str]:
    scores, where = result.scores, result.folder / "scores.csv"
    problems = []
    if (other := scores["split"] != "test").any():
        problems.append(f"{where}: {other.sum()} rows are not of the split 'test'")
    if (bad := ~np.isfinite(scores["score"])).any():
        problems.append(
            f"{where}: {bad.sum()} scores are not finite, the first of {scores['key'][bad].iloc[0]}"
        )
    if (twice := scores.duplicated(["seed", "key"])).any():
        problems.append(f"{where}: {scores['key'][twice].iloc[0]} occurs twice with one seed")
    if len({frozenset(keys) for _, keys in scores.groupby("seed")["key"]}) > 1:
        problems.append(f"{where}: the seeds have scores for different clips")
    hidden = scores.loc[scores["label"].isna(), "machine"].unique()
    for machine in sorted(set(hidden) & set(result.development)):
        problems.append(f"{where}: some clips of {machine} have a label and some have none")
    if (undecided := ~result.anonymous["decision"].isin((0, 1))).any():
        problems.append(
            f"{where}: {undecided.sum()} clips have no decision 0 or 1; the challenge wants one each"
        )
    return problems + _metric_problems(result)


def _metric_problems(result: _Result) -> list[str]:
    where = result.folder / "metrics.csv"
    if absent := [c for c in METRICS if c not in result.metrics]:
        return [f"{where}: no column {', '.join(absent)}"] if result.development else []
    missing = sorted(set(result.development) - set(result.metrics["machine"]))
    return [f"{where}: no metrics of {machine}, though its labels are known" for machine in missing]


def _disagreements(results: Sequence[_Result]) -> list[str]:
    """Why these are not the results of one system."""
    problems = []
    if len(names := {r.run.system.name for r in results}) > 1:
        problems.append(f"the results are of different systems: {', '.join(sorted(names))}")
    if len(rates := {r.run.sample_rate for r in results}) > 1:
        problems.append(f"the results are of different sampling rates: {sorted(rates)} Hz")
    machines = Counter(m for r in results for m in r.scores["machine"].unique())
    problems += [f"{m} is in {n} of the results; which one counts?" for m, n in machines.items() if n > 1]
    return problems


def _read_results(folders: Sequence[Path]) -> list[_Result]:
    if not folders:
        raise ValueError("an entry needs at least one folder of results")
    results = [_read_result(folder) for folder in folders]
    problems = [p for r in results for p in _result_problems(r)] + _disagreements(results)
    if all(r.anonymous.empty for r in results):
        problems.append(
            "every machine has labels, so there is nothing to submit; run the system on the evaluation set, "
            "without --truth"
        )
    if problems:
        raise ValueError("\n".join(problems))
    return results


# Writing


@dataclass(frozen=True)
class Entry:
    """One system of a package.

    Attributes
    ----------
    label : str
        ``LASTNAME_INSTITUTE_task2_N`` with N from 1 to 4.
    results : sequence of Path
        Folders of results (``scores.csv``, ``metrics.csv``, ``run.json``) of one system: a run on the
        development set and one on the evaluation set, or one on both. Machines with labels fill the meta
        information, machines without become the files of scores and decisions.
    meta : mapping
        With the keys of ``Meta``, less what the results fill in: ``submission.label``, ``submission.name`` (the
        system's), ``system.description.input_sampling_rate``, ``system.complexity.total_parameters`` (of the
        largest machine's detector), ``system.source_code`` (null), ``results``. All but the results
        may be given, and then count. See ``read_meta``.
    report : Path, optional
        The technical report (PDF).
    """

    label: str
    results: Sequence[Path]
    meta: Mapping[str, Any]
    report: Path | None = None


def write(entries: Sequence[Entry], package: Path) -> None:
    """Write a package of one to four systems; whatever is written passes ``check``.

    Equal results and meta information give equal bytes.

    Raises
    ------
    FileExistsError
        If ``package`` is there already.
    FileNotFoundError
        If a folder of results lacks a file.
    ValueError
        If results contradict each other, the meta information is incomplete, or the package would break a
        rule of the challenge; lists every problem of that kind, and nothing is written.
    """
    if package.exists():
        raise FileExistsError(f"{package} is there already; remove it, or choose another name")
    repeated = [label for label, n in Counter(e.label for e in entries).items() if n > 1]
    if repeated:
        raise ValueError(f"labels that occur more than once: {', '.join(repeated)}")
    files = {name: content for entry in entries for name, content in _files(entry).items()}
    with atomic_file(package) as part:
        _archive(part, files)
        if problems := check(part):
            raise ValueError("\n".join([f"{package} would break the rules:", *(f"  {p}" for p in problems)]))


def _files(entry: Entry) -> dict[str, bytes]:
    """The content of a system's files, by their names in the archive."""
    if not LABEL.fullmatch(entry.label):
        raise ValueError(f"label={entry.label!r}: expected LASTNAME_INSTITUTE_task2_N with N from 1 to 4")
    results = _read_results(entry.results)
    meta = yaml.safe_dump(_completed(entry, results), sort_keys=False, allow_unicode=True, width=110)
    files = {f"{entry.label}.meta.yaml": meta.encode()}
    for result in results:
        files |= _csv_files(result.anonymous)
    if entry.report is not None:
        files[f"{entry.label}.technical_report.pdf"] = entry.report.read_bytes()
    return {f"task2/{entry.label}/{name}": content for name, content in files.items()}


def _csv_files(scores: pd.DataFrame) -> dict[str, bytes]:
    """Scores and decisions over all seeds, one file each per machine and section."""
    clips = scores.groupby(["machine", "section", "key"])[["score", "decision"]].mean()
    clips["decision"] = (clips["decision"] >= 0.5).astype(int)
    files = {}
    for (machine, section), rows in clips.groupby(["machine", "section"]):
        names = [key.rpartition("/")[2] for key in rows.index.get_level_values("key")]
        for kind, column in (("anomaly_score", "score"), ("decision_result", "decision")):
            text = "".join(f"{n},{v!r}\n" for n, v in zip(names, rows[column].tolist(), strict=True))
            files[f"{kind}_{machine}_section_{section:02d}_test.csv"] = text.encode()
    return files


def _completed(entry: Entry, results: Sequence[_Result]) -> dict[str, Any]:
    """The user's meta information, with what the results know, validated."""
    faults = ["results: filled in from the experiments; leave them out"] if "results" in entry.meta else []
    filled = {
        "submission": {"label": entry.label, "name": results[0].run.system.name},
        "system": {
            "description": {"input_sampling_rate": f"{results[0].run.sample_rate / 1000:g}kHz"},
            "complexity": _complexity(results),
            "source_code": None,
        },
        "results": {"development_dataset": _development(results)},
    }
    content = _merged(filled, entry.meta)
    faults += _faults(content, extra=True)
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise ValueError(f"the meta information of {entry.label} has {len(faults)} faults:\n{lines}")
    return Meta.model_validate(content).model_dump()


def _complexity(results: Sequence[_Result]) -> dict[str, int]:
    """Of the largest machine's detector; nothing where no experiment counted."""
    counts = [n for r in results for n in r.run.parameters.values()]
    return {"total_parameters": max(counts)} if counts else {}


def _development(results: Sequence[_Result]) -> dict[str, dict[str, float]]:
    """Mean over seeds and sections of every machine's metrics, in percent."""
    found = {}
    for result in results:
        for machine in result.development:
            rows = result.metrics[result.metrics["machine"] == machine]
            found[machine] = {m: round(100 * float(rows[m].mean(skipna=False)), 2) for m in METRICS}
    return dict(sorted(found.items()))


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Both; where both say something, theirs."""
    merged = dict(ours)
    for key, value in theirs.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(inner, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged


def _archive(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # deflated bytes vary with zlib's version
        for name in sorted(files):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3  # Unix, wherever it is written
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name])


# Checking


def check(package: Path) -> list[str]:
    """Every way in which a package, whoever wrote it, breaks the rules; empty if it keeps them all.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if not package.is_file():
        raise FileNotFoundError(f"{package}: no such file; expected the zip archive of an entry")
    try:
        with zipfile.ZipFile(package) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
            files = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as e:
        return [f"not a readable zip archive: {e}"]
    problems = [f"{name}: in the archive {n} times" for name, n in Counter(names).items() if n > 1]
    systems: dict[str, dict[str, bytes]] = {}
    for name, content in sorted(files.items()):
        if match := _FILE.fullmatch(name):
            systems.setdefault(match["label"], {})[match["file"]] = content
        elif not _REPORT.fullmatch(name):
            problems.append(f"{name}: unexpected; all files are in task2/LABEL/")
    if not 1 <= len(systems) <= SYSTEMS:
        problems.append(f"{len(systems)} systems (folders task2/LABEL); a package has 1 to {SYSTEMS}")
    return problems + [p for label, files in systems.items() for p in _system_problems(label, files)]


def _system_problems(label: str, files: Mapping[str, bytes]) -> list[str]:
    checks: dict[str, Callable[[bytes], list[str]]] = {
        f"{label}.meta.yaml": lambda content: _meta_problems(content, label),
    }
    for machine in EVALUATION_MACHINES:
        checks[f"anomaly_score_{machine}_section_00_test.csv"] = _score_problems
        checks[f"decision_result_{machine}_section_00_test.csv"] = _decision_problems
    problems = []
    if not LABEL.fullmatch(label):
        problems.append(f"task2/{label}: not a label LASTNAME_INSTITUTE_task2_N with N from 1 to 4")
    for name, find in checks.items():
        found = find(files[name]) if name in files else ["missing"]
        problems += [f"task2/{label}/{name}: {problem}" for problem in found]
    for name in files:
        if name not in checks and not _REPORT.fullmatch(f"task2/{label}/{name}"):
            problems.append(f"task2/{label}/{name}: unexpected{_nearest(name, checks.keys() - files.keys())}")
    return problems


def _meta_problems(content: bytes, label: str) -> list[str]:
    try:
        meta = yaml.safe_load(content)
    except yaml.YAMLError as e:
        return [f"not readable as YAML: {' '.join(str(e).split())}"]
    if not isinstance(meta, dict):
        return [f"expected the keys {', '.join(Meta.model_fields)}, found {type(meta).__name__}"]
    problems = []
    match meta:
        case {"submission": {"label": said}} if said != label:
            problems.append(f"submission.label: {said!r}, but the folder is {label!r}")
    match meta:
        case {"results": {"development_dataset": dict() as machines}}:
            # others, such as means over machines, are welcome in whatever form
            known = {m: machines[m] for m in DEVELOPMENT_MACHINES if m in machines}
            meta = meta | {"results": {"development_dataset": known}}
            absent = [m for m in DEVELOPMENT_MACHINES if m not in machines]
            problems += [f"results.development_dataset.{m}: missing" for m in absent]
    return problems + _faults(meta, extra=False)


def _score_problems(content: bytes) -> list[str]:
    values, problems = _rows(content)
    bad = [f"{n},{v}" for n, v in values if not math.isfinite(_number(v))]
    if bad:
        problems.append(f"{len(bad)} scores are not finite numbers, the first in {bad[0]!r}")
    elif len(values) > 1 and len({_number(v) for _, v in values}) == 1:
        problems.append("all scores are equal: nothing is detected")
    return problems


def _decision_problems(content: bytes) -> list[str]:
    values, problems = _rows(content)
    if bad := [f"{n},{v}" for n, v in values if v not in ("0", "1")]:
        problems.append(f"{len(bad)} decisions are neither 0 nor 1, the first in {bad[0]!r}")
    return problems


def _rows(content: bytes) -> tuple[list[tuple[str, str]], list[str]]:
    """The rows ``name,value`` of a file, and what is wrong with all but the values."""
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return [], ["not UTF-8 text"]
    problems = []
    if lines and not lines[0].startswith("section_") and math.isnan(_number(lines[0].rpartition(",")[2])):
        problems.append(f"the first line is a header, {lines.pop(0)!r}; there must be none")
    cells = [line.split(",") for line in lines]
    if bad := [i for i, row in enumerate(cells) if len(row) != 2]:
        problems.append(f"{len(bad)} lines are not 'name,value', the first is {lines[bad[0]]!r}")
    rows = [(row[0], row[1]) for row in cells if len(row) == 2]
    if len(lines) != len(CLIP_NAMES):
        problems.append(f"{len(lines)} rows; expected {len(CLIP_NAMES)}")
    return rows, problems + _name_problems(Counter(name for name, _ in rows))


def _name_problems(names: Mapping[str, int]) -> list[str]:
    found = {
        "missing": [name for name in CLIP_NAMES if name not in names],
        "repeated": sorted(name for name, n in names.items() if n > 1),
        "of no evaluation clip": sorted(set(names) - set(CLIP_NAMES)),
    }
    return [f"{len(some)} names are {what}, the first is {some[0]!r}" for what, some in found.items() if some]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
