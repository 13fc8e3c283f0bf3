"""Scores from files: what another program found, as a branch of a study.

A branch of a study is then a file instead of a system::

    [branches.theirs]
    scores = "scores.csv"             # relative to the study's file
    column = "anomaly_score"

The file is a table with a column ``key``, ``MACHINE/test/NAME``, and a column of scores, higher for a more
anomalous clip; or ``scores`` is a folder of the challenge's score files (``evaluation.official``), which has no
columns. Such a branch has a result like any other, but for what nobody knows of it: training clips, sampling rate,
parameters and decisions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationInfo, field_serializer, model_validator

from nearfar import __version__
from nearfar.evaluation import official
from nearfar.evaluation.metrics import named
from nearfar.evaluation.record import DataRecord, MachineRecord, ProtocolRecord, RunRecord
from nearfar.evaluation.results import REFERENCE_COLUMNS, SCORE_COLUMNS, Result
from nearfar.files import tables
from nearfar.files.digests import digest, digest_file
from nearfar.files.provenance import library_versions
from nearfar.recordings.clips import Clip, Dataset, DatasetError, Machine, parse_clip, unknown
from nearfar.recordings.datasets.layout import few
from nearfar.research import experiment

KEY = "key"  # the column that says which clip a score is of
SPLIT = "test"  # the only one whose clips are scored
PROTOCOL = ProtocolRecord(
    name="scores from a file", selected_on="data that are not known here: the scores come from a file"
)


class ScoreFile(BaseModel):
    """A branch of a study whose scores are in a file.

    Attributes
    ----------
    scores : str
        A table, or a folder of the challenge's score files: an absolute path, or relative to the study's file
        (without a file, to the working folder).
    column : str or None
        Of the table, in any case.
    sha256 : str
        Of the table's content, or of the names and contents of the folder's score files. If the study's file says
        it, the content must have it.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If it is no table of scores, or its content is not the one that ``sha256`` says.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from nearfar.research.score_files import ScoreFile
    >>> with TemporaryDirectory() as folder:
    ...     table = Path(folder, "scores.csv")
    ...     _ = table.write_text("key,ours,theirs\\nfan/test/0001.wav,1,0.5\\n")
    ...     print(ScoreFile(scores=str(table), column="theirs").load().to_dict())
    {'fan/test/0001.wav': 0.5}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scores: str
    column: str | None = None
    sha256: str = ""
    _path: Path = PrivateAttr()
    _machines: tuple[str, ...] = PrivateAttr(default=())  # of which scores are taken; empty: all

    @model_validator(mode="before")
    @classmethod
    def _knows_its_keys(cls, content: Any) -> Any:
        for key in content if isinstance(content, Mapping) else ():
            if key not in cls.model_fields:
                raise ValueError(unknown("key", str(key), cls.model_fields))
        return content

    @model_validator(mode="after")
    def _is_there(self, info: ValidationInfo) -> Self:
        self._path = Path((info.context or {}).get("folder", "")) / self.scores
        if not self._path.exists():
            raise FileNotFoundError(f"scores={self.scores!r}: there is no file {self._path}")
        found = _digest(self._path)
        if self.sha256 not in ("", found):
            raise ValueError(
                f"sha256={self.sha256!r}: {self.scores} has the SHA-256 {found!r}; it is a different file"
            )
        object.__setattr__(self, "sha256", found)  # frozen for everybody else
        self.load()
        return self

    @field_serializer("scores", when_used="json")
    def _name(self, scores: str) -> str:
        """A record holds no place; the digest says which file it is."""
        return Path(scores).name

    def load(self) -> pd.Series:
        """The score of each clip, by key, in the order of the file.

        Raises
        ------
        ValueError
            If the content has changed since the study was read, or as ``ScoreFile``; a ``DatasetError`` lists
            every row that is wrong.
        """
        if _digest(self._path) != self.sha256:
            raise ValueError(f"{self.scores}: changed after the study was read; run it again")
        found = self._of_folder() if self._path.is_dir() else self._of_table()
        if not self._machines:
            return found
        return found[[key.partition("/")[0] in self._machines for key in found.index]]

    def only(self, machines: Sequence[str]) -> Self:
        """The scores of these machines alone.

        Raises
        ------
        ValueError
            If the file does not have one of them.
        """
        there = {key.partition("/")[0] for key in self.load().index}
        if strange := [machine for machine in machines if machine not in there]:
            raise ValueError(f"{self.scores}: {unknown('machine', strange[0], there)}")
        fewer = self.model_copy()
        fewer._machines = tuple(machines)
        return fewer

    def _of_table(self) -> pd.Series:
        try:
            table = _parsed(self._path.read_bytes())
        except tables.TableError as error:
            raise ValueError(f"{self.scores}: {error}") from error
        return _read(table, self.scores, _place(table, self.scores, self.column))

    def _of_folder(self) -> pd.Series:
        if self.column is not None:
            raise ValueError(
                f"column={self.column!r}: {self.scores} is a folder of score files, which have no columns; omit it"
            )
        if (self._path / "run.json").is_file():
            raise ValueError(
                f"scores={self.scores!r}: is the folder of a result; give its file {self.scores}/scores.csv, with "
                'column = "score"'
            )
        return official.read_scores(self._path)["score"]

    def describe(self) -> dict[str, Any]:
        """What a record says of it."""
        name = self.column or Path(self.scores).name
        return {"name": name, **self.model_dump(mode="json", exclude_none=True)}


def _digest(path: Path) -> str:
    if path.is_dir():
        files = sorted(path.glob(f"{official.SCORE}_*.csv"))
        return digest([[file.name, digest_file(file)] for file in files])
    return digest_file(path)


@lru_cache(maxsize=4)
def _parsed(content: bytes) -> tables.Table:
    """The table; of a file with a column for each branch it is read once."""
    return tables.parse(content, (KEY,))


def _place(table: tables.Table, file: str, column: str | None) -> int:
    """Where the scores are."""
    others = [name for name in table.header if name != KEY]
    if column is None:
        raise ValueError(f"{file}: column is missing; say which of {', '.join(others)} has the scores")
    name = tables.column_name(column)
    if name == KEY or name not in table.header:
        raise ValueError(f"{file}: {unknown('column of scores', name, others)}{table.doubt}")
    if (times := table.header.count(name)) > 1:
        raise ValueError(f"{file}: {times} columns are called {name}; keep one")
    return table.place(name)


def _read(table: tables.Table, file: str, place: int) -> pd.Series:
    problems, found = [], {}
    first: dict[str, int] = {}
    for row in table.rows:
        key, text = row.cell(table.place(KEY)), row.cell(place)
        where, parts = f"{file}, row {row.number}", key.split("/")
        value = _number(text)
        if len(parts) < 3 or parts[1] != SPLIT:
            problems.append(f"{where}: {key!r} is not the key of a test clip, MACHINE/{SPLIT}/NAME")
        elif key in first:
            problems.append(
                f"{where}: {key} occurs twice, first in row {first[key]}; keep one score of each clip"
            )
        elif not math.isfinite(value):
            problems.append(f"{where}: {key} has the score {text!r}; expected a finite number")
        first.setdefault(key, row.number)
        found[key] = value
    if not table.rows:
        problems.append(f"{file}: a header without rows; there is nothing to fuse")
    if problems:
        raise DatasetError(few(problems))
    return pd.Series(found, name="score", dtype=float).rename_axis("key")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def dataset_of(files: Mapping[str, ScoreFile], dataset: Dataset | None = None) -> Dataset:
    """The test clips that all files score.

    Parameters
    ----------
    files : mapping from a branch's name to ScoreFile
    dataset : Dataset or None
        What they must score. ``None``: the names of the clips describe these.

    Returns
    -------
    Dataset
        ``dataset``, if there is one. Else one without training clips, whose recordings nobody has.

    Raises
    ------
    DatasetError
        If the files differ in their clips, from each other or from those of the data set, or a name does not tell
        what the clip is; everything that is wrong.
    """
    scored = {name: file.load() for name, file in files.items()}
    if dataset is None:
        first = Path(next(iter(files.values())).scores).name
        dataset = _from_names(first, sorted({key for of in scored.values() for key in of.index}))
        other = "another branch has one"
    else:
        other = f"the data set {dataset.name!r} has this clip"
    if problems := [line for name, of in scored.items() for line in _unlike(name, of.index, dataset, other)]:
        raise DatasetError(problems)
    return dataset


def _from_names(name: str, keys: Iterable[str]) -> Dataset:
    """A data set of clips that are known by their names."""
    problems: list[str] = []
    of_machine: dict[str, list[Clip]] = {}
    for key in keys:
        try:
            clip = parse_clip(Path(key))
        except ValueError as error:
            problems.append(str(error).partition("\n")[0].removesuffix("; expected one of"))
            continue
        if clip.key != key:
            problems.append(f"{key}: not a key MACHINE/{SPLIT}/NAME")
        of_machine.setdefault(clip.machine, []).append(clip)
    if problems:
        raise DatasetError(
            [
                *few(problems),
                "only names of the challenge tell what a clip is; else give the data set (--data)",
            ]
        )
    return Dataset(name, Path(), tuple(Machine(m, tuple(clips)) for m, clips in of_machine.items()))


def _unlike(name: str, keys: pd.Index, dataset: Dataset, other: str) -> Iterable[str]:
    """How the clips of a branch differ from those of the data set."""
    clips = pd.Index([clip.key for machine in dataset for clip in machine.test])
    machines = [machine.name for machine in dataset]
    strange = keys.difference(clips, sort=False)
    for machine in dict.fromkeys(key.partition("/")[0] for key in strange):
        if machine not in machines:
            yield f"branches.{name}: {unknown('machine', machine, machines)}"
            strange = strange[~strange.str.startswith(f"{machine}/")]
    if len(strange):
        yield f"branches.{name}: a score, but no clip in the data, for {named(strange)}"
    if len(absent := clips.difference(keys, sort=False)):
        yield f"branches.{name}: no score for {named(absent)}, though {other}"


def run(
    file: ScoreFile, dataset: Dataset, out: Path, *, seeds: Sequence[int], truth: Path | None = None
) -> Result:
    """The result of a branch whose scores are in a file, saved in its folder.

    Parameters
    ----------
    file : ScoreFile
    dataset : Dataset
        As of ``dataset_of``.
    out : Path
    seeds : sequence of int
        Of the study; the scores are the same with each.
    truth : Path or None
        As for ``experiment.run``.
    """
    clips = [clip for machine in dataset for clip in machine.test]
    described = experiment.described(dataset, truth)
    score = file.load()
    table = pd.DataFrame(
        {
            "key": [c.key for c in clips],
            "machine": [c.machine for c in clips],
            "section": [c.section for c in clips],
            "split": SPLIT,
            "domain": described.loc[[c.key for c in clips], "domain"].to_numpy(),
            "label": described.loc[[c.key for c in clips], "label"].to_numpy(),
            "score": score.loc[[c.key for c in clips]].to_numpy(),
        }
    )
    table["decision"] = pd.Series(pd.NA, index=table.index, dtype="Int64")
    scores = pd.concat([table.assign(seed=seed) for seed in seeds], ignore_index=True)[SCORE_COLUMNS]
    record = RunRecord(
        system=file.describe(),
        seeds=tuple(seeds),
        data=DataRecord(name=dataset.name, machines={m.name: _record(m) for m in dataset}),
        parameters={},
        versions={"nearfar": __version__, **library_versions()},
        protocol=PROTOCOL,
    )
    metrics = experiment.metrics_of(scores, described)
    result = Result(out, scores, metrics, record, pd.DataFrame(columns=REFERENCE_COLUMNS))
    result.save()
    return result


def _record(machine: Machine) -> MachineRecord:
    """Of the names of its test clips: their contents, and what was trained on, are not known."""
    return MachineRecord(
        training_clips=0,
        test_clips=len(machine.test),
        training_digest=digest([]),
        test_digest=digest([clip.key for clip in machine.test]),
    )
