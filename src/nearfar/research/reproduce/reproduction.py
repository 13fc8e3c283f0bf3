"""A published study is run: each published value beside ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nearfar import __version__
from nearfar.evaluation import metrics
from nearfar.evaluation.protocols import Finding, scope_of
from nearfar.evaluation.results import Result, refuse_other_results
from nearfar.evaluation.statistics import Spread, spread
from nearfar.files.atomic import atomic_file, write_json
from nearfar.files.provenance import library_versions
from nearfar.files.steps import Jobs
from nearfar.places.place import Place
from nearfar.recordings.clips import Dataset, DatasetError
from nearfar.recordings.datasets import DATASETS
from nearfar.research import experiment, fused
from nearfar.research.fusion import evaluate_fusion, evaluate_nested
from nearfar.research.reproduce.files import PublishedStudy, Row
from nearfar.research.reproduce.runs import Run, is_here, run_of, runs_of, runs_of_row, wanted, weights_named
from nearfar.systems.branches import Progress

FILES = ("study.csv", "study.json")
COLUMNS = ["row", "published", "ours", "difference", "std", "scope"]
OF_METRIC = {"source": "auc_source", "target": "auc_target", "pauc": "pauc"}
ADAPTED = {
    "all": "adapters trained on the machines that are reported",
    "others": "adapters trained on the other machines",
}


@dataclass(frozen=True)
class Found:
    """What became of a row.

    Attributes
    ----------
    row : Row
    scope : str
        What was selected on what; or, if it did not run, what it needs.
    of_seeds : tuple of float
        One a seed, in percent; empty if it did not run.
    findings : tuple of dict
        What each fold chose, one a seed; empty for a branch alone.
    """

    row: Row
    scope: str
    of_seeds: tuple[float, ...] = ()
    findings: tuple[dict[str, Any], ...] = ()

    @property
    def ours(self) -> Spread | None:
        """Mean and sample standard deviation over seeds."""
        return spread(self.of_seeds) if self.of_seeds else None

    @property
    def difference(self) -> float | None:
        """Ours less the published value."""
        if self.ours is None or self.row.published is None:
            return None
        return self.ours.mean - self.row.published

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able; in percent, but for the findings."""
        ours = self.ours
        return {
            **self.row.model_dump(mode="json"),
            "ours": None if ours is None else ours.mean,
            "difference": self.difference,
            "std": None if ours is None else ours.deviation,
            "scope": self.scope,
            "of_seeds": list(self.of_seeds),
            "findings": list(self.findings),
        }


@dataclass(frozen=True)
class Reproduction:
    """The rows of a study, and on what data they were measured.

    Attributes
    ----------
    study : PublishedStudy
    rows : tuple of Found
    data : Dataset or None
    folder : Path or None
        Of ``FILES``; None without data.
    """

    study: PublishedStudy
    rows: tuple[Found, ...]
    data: Dataset | None
    folder: Path | None

    @property
    def is_comparable(self) -> bool:
        """Whether ours are of the data of the published values, as far as names and numbers of clips tell."""
        return self.data is not None and is_published(self.data, self.study.data)

    @property
    def published_on(self) -> str:
        return f"Published: {self.study.source}; measured on the development machines of {self.study.data}."

    @property
    def ours_on(self) -> str:
        if self.data is None:
            return "Ours: not measured, for no data were given."
        names = ", ".join(machine.name for machine in self.data)
        clips = f"{len(self.data.clips)} clips of {names}"
        if self.is_comparable:
            return (
                f"Ours: on {self.data.name}, {clips}: machines and numbers of clips as in {self.study.data}."
            )
        return (
            f"Ours: on {self.data.name}, {clips}. These are other data than {self.study.data}: "
            "ours and the published values are NOT comparable."
        )

    @property
    def table(self) -> pd.DataFrame:
        """``COLUMNS``, in percent."""
        described = [{**found.describe(), "row": found.row.label} for found in self.rows]
        return pd.DataFrame(described, columns=COLUMNS)

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        machines = {} if self.data is None else {m.name: len(m.clips) for m in self.data}
        return {
            "study": self.study.model_dump(mode="json"),
            "published_on": self.published_on,
            "ours_on": self.ours_on,
            "comparable": self.is_comparable,
            "data": {"name": None if self.data is None else self.data.name, "clips": machines},
            "rows": [found.describe() for found in self.rows],
            "versions": {"nearfar": __version__, **library_versions()},
        }

    def save(self, folder: Path) -> None:
        """Write the table and everything else; each file is whole or as it was."""
        with atomic_file(folder / FILES[0]) as part:
            self.table.to_csv(part, index=False, lineterminator="\n")
        write_json(folder / FILES[1], self.describe())


def is_published(dataset: Dataset, name: str) -> bool:
    """Whether a data set has the development machines of a published one, and as many clips of each."""
    published = DATASETS[name].PUBLISHED
    if published.counts is None or {m.name for m in dataset} != set(published.machines["dev"]):
        return False
    counts = published.counts
    expected = (counts.source + counts.target, counts.test)
    sections = len(published.sections["dev"])
    return all((len(m.train), len(m.test)) == tuple(n * sections for n in expected) for m in dataset)


def run(
    asked: PublishedStudy,
    dataset: Dataset | None,
    out: Path,
    *,
    workers: Place | int = 1,
    truth: Path | None = None,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Run every row that can be run; each distinct branch once.

    Parameters
    ----------
    asked : PublishedStudy
    dataset : Dataset or None
        With labels; None: no row can be run, and nothing is written.
    out : Path
        Folder of the result: ``FILES``, and a folder a branch in ``branches``.
    workers, truth, jobs, progress
        As for ``fused.run``.

    Raises
    ------
    FileExistsError
        If ``out`` holds results of something else.
    ValueError
        If the labels are not known, a branch cannot be run with its settings, or as ``experiment.run`` and
        ``fusion.evaluate_fusion``.
    """
    if dataset is None:
        rows = [Found(row, "; ".join(_needs(asked, row, None, None))) for row in asked.rows]
        return Reproduction(asked, tuple(rows), None, None)
    clips = experiment.described(dataset, truth)
    metrics.require_described(clips)
    metrics.require_classes(clips)
    needs = {n: "; ".join(_needs(asked, row, dataset, clips)) for n, row in enumerate(asked.rows)}
    runs = runs_of(asked, [row for n, row in enumerate(asked.rows) if not needs[n]])
    places = {key: out / "branches" / each.name for key, each in runs.items()}
    _refuse_other_studies(out, asked, dataset)
    for key, each in runs.items():
        refuse_other_results(places[key], each.system.model_dump(mode="json"), dataset)
    results = {
        key: _run(each, dataset, places[key], workers=workers, truth=truth, jobs=jobs, progress=progress)
        for key, each in runs.items()
    }
    rows = [
        Found(row, needs[n]) if needs[n] else _find(asked, row, results) for n, row in enumerate(asked.rows)
    ]
    reproduction = Reproduction(asked, tuple(rows), dataset, out)
    reproduction.save(out)
    return reproduction


def _refuse_other_studies(out: Path, asked: PublishedStudy, dataset: Dataset) -> None:
    """Raise before long work whose table would take the place of another."""
    file = out / FILES[1]
    if not file.is_file():
        return
    there = json.loads(file.read_text())
    same = there["study"] == json.loads(json.dumps(asked.model_dump(mode="json")))
    if not same or set(there["data"]["clips"]) != {machine.name for machine in dataset}:
        other = "" if same else ", with other settings or another file"
        raise FileExistsError(
            f"{out} holds results of {there['study']['name']} on {', '.join(there['data']['clips'])}{other}; "
            "choose another folder with --out"
        )


def _run(each: Run, dataset: Dataset, folder: Path, **options: Any) -> Result:
    """The one place where branches are run."""
    try:
        return experiment.run(
            each.system, dataset, folder, seeds=each.seeds, adapted_on=each.adapted_on or "others", **options
        )
    except DatasetError:  # it is the same for all branches
        raise
    except ValueError as error:
        raise ValueError(f"branch {each.name!r}: {error}") from error


def _needs(
    asked: PublishedStudy, row: Row, dataset: Dataset | None, clips: pd.DataFrame | None
) -> Iterator[str]:
    """What a row lacks."""
    named = {name for each in runs_of_row(asked, row) for name in weights_named(each.system)}
    yield from (wanted(name) for name in sorted(named) if not is_here(name))
    if dataset is None or clips is None:
        yield f"needs data {asked.data}: nearfar data download {asked.data}"
        return
    yield from _needs_of_data(row, dataset, clips)


def _needs_of_data(row: Row, dataset: Dataset, clips: pd.DataFrame) -> Iterator[str]:
    """What the data lack for a row."""
    machines = [machine.name for machine in dataset]
    if row.machine is not None and row.machine not in machines:
        yield f"needs machine {row.machine}, which {dataset.name} does not have"
    if row.metric in ("source", "target") and not clips["domain"].notna().all():
        yield f"needs the domains of test clips, which {dataset.name} does not tell"
    try:
        row.of.folds(machines)
    except ValueError as error:
        yield f"needs more machines: {error}"


def _find(asked: PublishedStudy, row: Row, results: Mapping[str, Result]) -> Found:
    """The number of a row, from the results of branches by the keys of their runs."""
    adapted = {each.adapted_on for each in runs_of_row(asked, row)} - {None}
    own = "".join(f"; {ADAPTED[on]}" for on in sorted(map(str, adapted)))
    if row.branch is not None:
        result = results[run_of(asked, row, row.branch).key]
        machines = list(result.run.machines)
        tables = [result.metrics[result.metrics["seed"] == seed] for seed in asked.seeds_of(row)]
        scope = f"{row.protocol}: {scope_of((), row.of.folds(machines))}{own}"
        return Found(row, scope, tuple(_value(table, row) for table in tables))
    values, findings = [], []
    for seed in asked.seeds_of(row):
        found = _fuse(asked, row, row.branches, results, seed)
        value = _value(found.metrics.reset_index(), row)
        findings.append(found.describe())
        if row.without is not None:
            rest = _fuse(asked, row, [b for b in row.branches if b != row.without], results, seed)
            value = _value(rest.metrics.reset_index(), row) - value
            findings[-1] = {"all": found.describe(), "rest": rest.describe()}
        values.append(value)
    return Found(row, f"{row.protocol}: {found.scope}{own}", tuple(values), tuple(findings))


def _value(table: pd.DataFrame, row: Row) -> float:
    """The row's number in percent, of metrics with a column machine."""
    own = table if row.machine is None else table[table["machine"] == row.machine]
    if row.metric == "omega":
        return 100 * metrics.omega(own)
    return 100 * metrics.harmonic_mean(own[OF_METRIC[row.metric]].to_numpy(float))


def _fuse(
    asked: PublishedStudy, row: Row, names: Sequence[str], results: Mapping[str, Result], seed: int
) -> Finding:
    """What the fusion of these branches finds, under the row's protocol."""
    of_candidate = {
        candidate: {b: results[run_of(asked, row, b, candidate).key] for b in names}
        for candidate in row.choices
    }
    scores = {candidate: fused.scores_of(branches, seed) for candidate, branches in of_candidate.items()}
    references = {c: fused.references_of(branches, seed) for c, branches in of_candidate.items()}
    first = row.choices[0]
    clips = fused.clips_of(of_candidate[first], seed)
    if row.candidates:
        return evaluate_nested(
            scores, clips,
            weights=row.asked, calibration=row.calibration, references=references, protocol=row.of,
        )  # fmt: skip
    return evaluate_fusion(
        scores[first], clips, row.of,
        weights=row.asked, calibration=row.calibration, references=references[first],
    )  # fmt: skip
