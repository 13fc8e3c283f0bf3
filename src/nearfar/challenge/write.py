"""Write a package of the challenge from the results of experiments.

Conventions
-----------
A package is a zip archive with at most four systems. Each system is a folder ``task2/LABEL`` with ::

    LABEL.meta.yaml                                 authors, system; results on the development set in percent
    anomaly_score_MACHINE_section_00_test.csv       NAME.wav,SCORE   200 rows, no header
    decision_result_MACHINE_section_00_test.csv     NAME.wav,0|1

for each of the five evaluation machines. Rules: dcase.community/challenge2026 and T. Nishida et al.,
"Description and Discussion on DCASE 2026 Challenge Task 2," arXiv:2606.01578. Earlier years had other machines,
numbers and file names.

Results with several seeds become one system. The score of a clip is the mean over the seeds, and the clip is
flagged if at least half of the seeds flag it. Each metric on the development set is the mean over the seeds.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from nearfar.challenge.check import check
from nearfar.challenge.schema import LABEL, Meta, find_problems
from nearfar.evaluation.metrics import METRICS
from nearfar.evaluation.results import Result
from nearfar.files.atomic import atomic_file

EPOCH = (1980, 1, 1, 0, 0, 0)  # time of every file in the archive, so that equal content gives equal bytes


def _development(result: Result) -> list[str]:
    """The machines with labels."""
    return sorted(result.scores.loc[result.scores["label"].notna(), "machine"].unique())


def _anonymous(result: Result) -> pd.DataFrame:
    """The rows of the machines without labels."""
    return result.scores[~result.scores["machine"].isin(_development(result))]


def _result_problems(result: Result) -> list[str]:
    scores, where = result.scores, result.folder / "scores.csv"
    problems = []
    if (other := scores["split"] != "test").any():
        problems.append(f"{where}: {other.sum()} rows have a split other than 'test'")
    if (bad := ~np.isfinite(scores["score"])).any():
        problems.append(
            f"{where}: {bad.sum()} scores are not finite; the first is that of {scores['key'][bad].iloc[0]}"
        )
    if (twice := scores.duplicated(["seed", "key"])).any():
        problems.append(f"{where}: {scores['key'][twice].iloc[0]} occurs twice with the same seed")
    if len({frozenset(keys) for _, keys in scores.groupby("seed")["key"]}) > 1:
        problems.append(f"{where}: the seeds have scores for different clips")
    hidden = scores.loc[scores["label"].isna(), "machine"].unique()
    for machine in sorted(set(hidden) & set(_development(result))):
        problems.append(f"{where}: some clips of {machine} have a label and some have none")
    if (undecided := ~_anonymous(result)["decision"].isin((0, 1))).any():
        problems.append(
            f"{where}: {undecided.sum()} clips have no decision 0 or 1; the challenge needs one for each clip"
        )
    return problems + _metric_problems(result)


def _metric_problems(result: Result) -> list[str]:
    where = result.folder / "metrics.csv"
    if absent := [c for c in METRICS if c not in result.metrics]:
        return [f"{where}: no column {', '.join(absent)}"] if _development(result) else []
    missing = sorted(set(_development(result)) - set(result.metrics["machine"]))
    return [f"{where}: no metrics of {machine}, though its labels are known" for machine in missing]


def _disagreements(results: Sequence[Result]) -> list[str]:
    """Reasons why these results cannot be from one system."""
    problems = []
    if len(names := {r.run.name for r in results}) > 1:
        problems.append(f"the results are from different systems: {', '.join(sorted(names))}")
    problems += [
        f"{r.folder / 'run.json'}: the scores are from a file, so nobody knows the sampling rate and the size "
        "of the system, which a package must state; give results of a system"
        for r in results
        if r.run.sample_rate is None
    ]
    if len(rates := {r.run.sample_rate for r in results if r.run.sample_rate is not None}) > 1:
        problems.append(f"the results have different sampling rates: {sorted(rates)} Hz")
    machines = Counter(m for r in results for m in r.scores["machine"].unique())
    problems += [
        f"{m} is in {n} of the results; give only one result with each machine"
        for m, n in machines.items()
        if n > 1
    ]
    return problems


def _read_results(folders: Sequence[Path]) -> list[Result]:
    if not folders:
        raise ValueError("an entry needs at least one folder of results")
    results = [Result.load(folder) for folder in folders]
    problems = [p for r in results for p in _result_problems(r)] + _disagreements(results)
    if all(_anonymous(r).empty for r in results):
        problems.append(
            "every machine has labels, so there is nothing to submit; run the system on the evaluation set "
            "without --truth"
        )
    if problems:
        raise ValueError("\n".join(problems))
    return results


@dataclass(frozen=True)
class Entry:
    """One system of a package.

    Attributes
    ----------
    label : str
        ``LASTNAME_INSTITUTE_task2_N`` with N from 1 to 4.
    results : sequence of Path
        Folders of results of one system: one run on the development set and one on the evaluation set, or one
        run on both. Machines with labels give the metrics in the meta information. Machines without labels give
        the files of scores and decisions.
    meta : mapping
        The keys of ``Meta``. You may omit what ``write`` fills in: ``submission.label``, ``submission.name`` (that
        of the system), ``system.description.input_sampling_rate``, ``system.complexity.total_parameters`` (of the
        largest detector) and ``system.source_code`` (null). If you give one of these, yours is used. ``results``
        must be omitted. See ``read_meta``.
    report : Path, optional
        The technical report (PDF).
    """

    label: str
    results: Sequence[Path]
    meta: Mapping[str, Any]
    report: Path | None = None


def write(entries: Sequence[Entry], package: Path) -> None:
    """Write a package of one to four systems that passes ``check``.

    Equal results and equal meta information give equal bytes.

    Parameters
    ----------
    entries : sequence of Entry
        One for each system.
    package : Path
        The zip archive to write.

    Raises
    ------
    FileExistsError
        If ``package`` exists.
    FileNotFoundError
        If a file is missing in a folder of results.
    ValueError
        If results contradict each other, the meta information is incomplete, or the package would break a
        rule of the challenge. The message lists every problem of that kind; nothing is written.
    """
    if package.exists():
        raise FileExistsError(f"{package} exists; remove it, or choose another name")
    repeated = [label for label, n in Counter(e.label for e in entries).items() if n > 1]
    if repeated:
        raise ValueError(f"each label may occur once; repeated: {', '.join(repeated)}")
    files = {name: content for entry in entries for name, content in _files(entry).items()}
    with atomic_file(package) as part:
        _archive(part, files)
        if problems := check(part):
            raise ValueError("\n".join([f"{package} would break the rules:", *(f"  {p}" for p in problems)]))


def _files(entry: Entry) -> dict[str, bytes]:
    """The content of the files of a system, by name in the archive."""
    if not LABEL.fullmatch(entry.label):
        raise ValueError(f"label={entry.label!r}: must be LASTNAME_INSTITUTE_task2_N with N from 1 to 4")
    results = _read_results(entry.results)
    meta = yaml.safe_dump(_complete(entry, results), sort_keys=False, allow_unicode=True, width=110)
    files = {f"{entry.label}.meta.yaml": meta.encode()}
    for result in results:
        files |= _csv_files(_anonymous(result))
    if entry.report is not None:
        files[f"{entry.label}.technical_report.pdf"] = entry.report.read_bytes()
    return {f"task2/{entry.label}/{name}": content for name, content in files.items()}


def _csv_files(scores: pd.DataFrame) -> dict[str, bytes]:
    """Scores and decisions over all seeds: two files for each machine and section."""
    clips = scores.groupby(["machine", "section", "key"])[["score", "decision"]].mean()
    clips["decision"] = (clips["decision"] >= 0.5).astype(int)
    files = {}
    for (machine, section), rows in clips.groupby(["machine", "section"]):
        names = [key.rpartition("/")[2] for key in rows.index.get_level_values("key")]
        for kind, column in (("anomaly_score", "score"), ("decision_result", "decision")):
            text = "".join(f"{n},{v!r}\n" for n, v in zip(names, rows[column].tolist(), strict=True))
            files[f"{kind}_{machine}_section_{section:02d}_test.csv"] = text.encode()
    return files


def _complete(entry: Entry, results: Sequence[Result]) -> dict[str, Any]:
    """The user's meta information, completed from the results and validated."""
    rate = results[0].run.sample_rate
    assert rate is not None  # refused with other disagreements
    problems = ["results: omit them; they are taken from the experiments"] if "results" in entry.meta else []
    filled = {
        "submission": {"label": entry.label, "name": results[0].run.name},
        "system": {
            "description": {"input_sampling_rate": f"{rate / 1000:g}kHz"},
            "complexity": _complexity(results),
            "source_code": None,
        },
        "results": {"development_dataset": _metrics_in_percent(results)},
    }
    content = _merge(filled, entry.meta)
    problems += find_problems(content, extra=True)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ValueError(f"the meta information of {entry.label} has {len(problems)} problems:\n{lines}")
    return Meta.model_validate(content).model_dump()


def _complexity(results: Sequence[Result]) -> dict[str, int]:
    """Size of the largest detector; empty if no result tells one."""
    counts = [n for r in results for n in r.run.parameters.values()]
    return {"total_parameters": max(counts)} if counts else {}


def _metrics_in_percent(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """The metrics of each machine in percent, mean over seeds and sections."""
    found = {}
    for result in results:
        for machine in _development(result):
            rows = result.metrics[result.metrics["machine"] == machine]
            found[machine] = {m: round(100 * float(rows[m].mean(skipna=False)), 2) for m in METRICS}
    return dict(sorted(found.items()))


def _merge(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Both together; where both have a value, theirs is taken."""
    merged = dict(ours)
    for key, value in theirs.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(inner, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged


def _archive(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # deflated bytes vary with zlib's version
        for name in sorted(files):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3  # Unix, wherever it is written
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name])
