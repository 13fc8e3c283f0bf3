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
from nearfar.challenge.schema import LABEL, Meta, find_faults
from nearfar.evaluation.results import Result
from nearfar.files.atomic import atomic_file

METRICS = ("auc_source", "auc_target", "pauc")
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the archive, so that equal content is equal bytes


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
    for machine in sorted(set(hidden) & set(_development(result))):
        problems.append(f"{where}: some clips of {machine} have a label and some have none")
    if (undecided := ~_anonymous(result)["decision"].isin((0, 1))).any():
        problems.append(
            f"{where}: {undecided.sum()} clips have no decision 0 or 1; the challenge wants one each"
        )
    return problems + _metric_problems(result)


def _metric_problems(result: Result) -> list[str]:
    where = result.folder / "metrics.csv"
    if absent := [c for c in METRICS if c not in result.metrics]:
        return [f"{where}: no column {', '.join(absent)}"] if _development(result) else []
    missing = sorted(set(_development(result)) - set(result.metrics["machine"]))
    return [f"{where}: no metrics of {machine}, though its labels are known" for machine in missing]


def _disagreements(results: Sequence[Result]) -> list[str]:
    """Why these are not the results of one system."""
    problems = []
    if len(names := {r.run.name for r in results}) > 1:
        problems.append(f"the results are of different systems: {', '.join(sorted(names))}")
    if len(rates := {r.run.sample_rate for r in results}) > 1:
        problems.append(f"the results are of different sampling rates: {sorted(rates)} Hz")
    machines = Counter(m for r in results for m in r.scores["machine"].unique())
    problems += [f"{m} is in {n} of the results; which one counts?" for m, n in machines.items() if n > 1]
    return problems


def _read_results(folders: Sequence[Path]) -> list[Result]:
    if not folders:
        raise ValueError("an entry needs at least one folder of results")
    results = [Result.load(folder) for folder in folders]
    problems = [p for r in results for p in _result_problems(r)] + _disagreements(results)
    if all(_anonymous(r).empty for r in results):
        problems.append(
            "every machine has labels, so there is nothing to submit; run the system on the evaluation set, "
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
        files |= _csv_files(_anonymous(result))
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


def _completed(entry: Entry, results: Sequence[Result]) -> dict[str, Any]:
    """The user's meta information, with what the results know, validated."""
    faults = ["results: filled in from the experiments; leave them out"] if "results" in entry.meta else []
    filled = {
        "submission": {"label": entry.label, "name": results[0].run.name},
        "system": {
            "description": {"input_sampling_rate": f"{results[0].run.sample_rate / 1000:g}kHz"},
            "complexity": _complexity(results),
            "source_code": None,
        },
        "results": {"development_dataset": _metrics_in_percent(results)},
    }
    content = _merged(filled, entry.meta)
    faults += find_faults(content, extra=True)
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise ValueError(f"the meta information of {entry.label} has {len(faults)} faults:\n{lines}")
    return Meta.model_validate(content).model_dump()


def _complexity(results: Sequence[Result]) -> dict[str, int]:
    """Of the largest machine's detector; nothing where no experiment counted."""
    counts = [n for r in results for n in r.run.parameters.values()]
    return {"total_parameters": max(counts)} if counts else {}


def _metrics_in_percent(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Mean over seeds and sections of every machine's metrics, in percent."""
    found = {}
    for result in results:
        for machine in _development(result):
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
