"""A result: the scores and metrics of one system on the machines of a data set, in memory and in its folder.

A folder holds the four files of ``FILES``: three tables as CSV, in which an empty cell means unknown, and the
record of the run (``evaluation.record``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from nearfar.evaluation.flags import flagged
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.record import ProtocolRecord, RunRecord
from nearfar.files import notebooks
from nearfar.files.atomic import atomic_file, refuse_unwritable
from nearfar.recordings.clips import Dataset

NAMES: Final = "surrogateescape"  # names of recordings that are not UTF-8 stay the bytes that they are
FILES = ("scores.csv", "metrics.csv", "references.csv", "run.json")  # of a result's folder
SCORE_COLUMNS = ["key", "machine", "section", "split", "domain", "label", "seed", "score", "decision"]
METRIC_COLUMNS = ["seed", "machine", "section"]  # and the metrics, which depend on what is known of the clips
REFERENCE_COLUMNS = ["key", "machine", "seed", "score"]
SHOWN = ("auc_source", "auc_target", "auc", "pauc", "f1")  # of the metrics, in a notebook
NAMED = 4  # machines that a repr names

DAMAGED = (
    "The file is damaged, or nearfar did not write it. Take a copy of it if there is one; else remove it with the "
    "other files of this result, and run again: finished steps are kept in the cache"
)

TEXT = ("key", "machine", "split", "domain", "label")
WHOLE = ("section", "seed")


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """What an experiment found, as in its folder.

    Attributes
    ----------
    folder : Path
    scores : DataFrame
        ``SCORE_COLUMNS``; one row for each test clip and seed.
    metrics : DataFrame
        One row for each seed, machine and section with known labels: see ``evaluation.metrics``. Empty if no
        labels are known.
    run : RunRecord
        System, seeds, data, versions and protocol.
    references : DataFrame
        ``REFERENCE_COLUMNS``; the score of each normal training clip by a fit without that clip, for each machine
        and seed. Thresholds are learnt from these scores. Empty for a system that takes no decisions.
    """

    folder: Path
    scores: pd.DataFrame
    metrics: pd.DataFrame
    run: RunRecord
    references: pd.DataFrame

    def save(self) -> None:
        """Write the folder. Each file is replaced as a whole."""
        self.run.save(self.folder / FILES[3])  # first: it says whose the other files are
        for name, table in zip(FILES[:3], (self.scores, self.metrics, self.references), strict=True):
            with atomic_file(self.folder / name) as part:
                table.to_csv(part, index=False, lineterminator="\n", errors=NAMES)

    @classmethod
    def load(cls, folder: str | Path) -> Result:
        """Read the folder of a result.

        Raises
        ------
        FileNotFoundError
            If a file of the result is missing.
        ValueError
            If a file is damaged or holds something else; the message lists every problem.
        """
        folder = Path(folder)
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise FileNotFoundError(
                f"{folder}: not a folder of results ({', '.join(missing)} missing); see `nearfar run`"
            )
        problems: list[str] = []
        run = None
        try:
            run = RunRecord.load(folder / FILES[3])
        except ValueError as error:
            problems.append(str(error))
        tables = []
        for name, columns in zip(FILES[:3], (SCORE_COLUMNS, METRIC_COLUMNS, REFERENCE_COLUMNS), strict=True):
            try:
                tables.append(_table_with(folder / name, columns))
            except ValueError as error:
                problems.append(str(error))
        if problems or run is None:
            raise ValueError("\n".join(problems))
        scores, metrics, references = tables
        return cls(folder, scores, metrics, run, references)

    @property
    def false_alarms(self) -> pd.DataFrame:
        """Of each seed, machine, section and domain: normal and anomalous test clips, and how many were flagged.

        See ``flags.flagged``. Empty if no labels are known, or there are no decisions.
        """
        return flagged(self.scores)

    @property
    def omega(self) -> float | None:
        """Omega as a fraction, the mean over the seeds.

        ``None`` where it is not defined: no labels are known, or only some of the machines have domains.
        """
        if self.metrics.empty or {"auc", "auc_source"} <= set(self.metrics):
            return None
        try:
            of_seeds = [omega(table) for _, table in self.metrics.groupby("seed")]
        except ValueError as error:
            raise ValueError(f"{self.folder / FILES[1]}: {error}") from error
        return sum(of_seeds) / len(of_seeds)

    def __repr__(self) -> str:
        return f"Result({self._summary()}, folder={str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """Metrics of each machine in percent, mean over the seeds; without labels, the number of scored clips."""
        if self.metrics.empty:
            clips = self.scores.groupby("machine")["key"].nunique()
            return notebooks.table(self._summary(), clips.items(), head=("machine", "clips scored"))
        names = [name for name in SHOWN if name in self.metrics]
        rows = [
            (machine, section, *(f"{100 * table[name].mean():.2f}" for name in names))
            for (machine, section), table in self.metrics.groupby(["machine", "section"])
        ]
        return notebooks.table(self._summary(), rows, head=("machine", "section", *names))

    def _summary(self) -> str:
        machines, seeds = self.run.machines, self.run.seeds
        more = f" and {len(machines) - NAMED} more" if len(machines) > NAMED else ""
        found = "no Omega" if self.omega is None else f"Omega {100 * self.omega:.2f} %"
        return (
            f"{self.run.name!r} on {', '.join(machines[:NAMED])}{more}; "
            f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; {found}"
        )


def refuse_other_results(
    out: Path, system: Mapping[str, Any], dataset: Dataset, *, protocol: ProtocolRecord | None = None
) -> None:
    """Raise before long work whose result would replace a different one.

    Parameters
    ----------
    out : Path
        Folder of the new result.
    system : mapping
        As the record of the new result has it.
    dataset : Dataset
    protocol : ProtocolRecord or None
        If the system does not determine it.

    Raises
    ------
    FileExistsError
        If ``out`` holds a result of another system, another protocol or other machines; or files of such names
        that are no result.
    ValueError
        If the record in ``out`` is damaged.
    """
    file = out / FILES[3]
    refuse_unwritable(file)
    if not file.is_file():
        if strange := [name for name in FILES if (out / name).exists()]:
            raise FileExistsError(
                f"{out} has {', '.join(strange)}, but no {file.name}: these are no results of nearfar and would "
                "be replaced; choose another folder with --out"
            )
        return
    there = RunRecord.load(file)
    same_system = there.system == system
    if not same_system or set(there.machines) != {m.name for m in dataset}:
        what = f"{there.name} on {', '.join(there.machines)}"
        with_other = "" if same_system else ", with other settings or another system"
        raise FileExistsError(f"{out} holds results of {what}{with_other}; choose another folder with --out")
    if protocol is not None and there.protocol != protocol:
        raise FileExistsError(
            f"{out} holds results of the protocol {there.protocol.name!r}; the new result has the protocol "
            f"{protocol.name!r}, or another adapter; choose another folder with --out"
        )


def read_table(file: Path) -> pd.DataFrame:
    """Read a table of a result: an empty cell means unknown, and nothing else does.

    Python converts the numbers, not pandas, whose conversion depends on its version: so every number is the one
    that was written, to the last bit.

    Raises
    ------
    ValueError
        If the file is not such a table.
    """
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""], encoding_errors=NAMES)
        if not table.index.equals(
            pd.RangeIndex(len(table))
        ):  # pandas takes what is too much for names of rows
            raise ValueError("its rows have more cells than its header")
        for column in table.columns.difference(list(TEXT)):
            table[column] = [float("nan") if pd.isna(text) else float(text) for text in table[column]]
            if column in WHOLE and len(at := table.index[~(table[column] % 1 == 0)]):
                raise ValueError(f"row {at[0] + 1} has no whole number as {column}")
        whole = [column for column in WHOLE if column in table]
        return table.astype(dict.fromkeys(whole, int))
    except ValueError as error:
        raise ValueError(f"{file}: not a table of a result: {error}. {DAMAGED}") from error


def _table_with(file: Path, columns: list[str]) -> pd.DataFrame:
    table = read_table(file)
    if absent := [name for name in columns if name not in table]:
        raise ValueError(f"{file}: no column {', '.join(absent)}. {DAMAGED}")
    return table
