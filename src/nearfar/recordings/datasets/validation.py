"""Everything that is wrong with a data set, found before anything is computed on it.

Conventions
-----------
An *error* makes a result wrong or impossible; a *warning* is worth a look. Every clip is read once and let go:
what is kept of it is a digest and a few numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import pandas as pd

from nearfar.files import tables
from nearfar.files.names import printable
from nearfar.recordings import audio
from nearfar.recordings.clips import (
    MIN_TRAINING_CLIPS,
    NO_ATTRIBUTE,
    Clip,
    Dataset,
    Domain,
    Label,
    Machine,
    Split,
)
from nearfar.recordings.datasets import DATASETS
from nearfar.recordings.datasets.listed import ListedNames
from nearfar.recordings.datasets.published import RATE, Counts, Part, Published
from nearfar.recordings.inspection import copies
from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.faults import RecordingFault, each_once, of_notes
from nearfar.recordings.inspection.training import NO_TARGET, Look, Seen, judge, listen
from nearfar.recordings.inspection.usual import faults_against
from nearfar.recordings.microphones import MICROPHONES

NO_CLIPS = Counts(source=0, target=0, cell=0)  # of a section that was not published
SHOWN = 3  # examples in one message

Severity = Literal["error", "warning"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    severity : {"error", "warning"}
    kind : str
        A word for it that does not change: ``truncated``, ``duplicate``, ...
    where : str
        The key of a clip, the name of a machine, or a path below the root.
    message : str
    """

    severity: Severity
    kind: str
    where: str
    message: str


@dataclass(frozen=True)
class _Recognized:
    """A published part that has exactly these machines."""

    published: Published
    part: Part


def validate(
    dataset: Dataset,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    listen: Callable[[Clip], Seen] = listen,
) -> list[Problem]:
    """All problems of a data set, in the order of its clips; none is an empty list.

    Counts, rate and channels are compared with a published set's where the data set has exactly its machines.

    Parameters
    ----------
    workers : int
        Threads that read.
    progress : callable(clips read, clips in all)
    listen : callable
        Reads a clip and measures it. Another one than the default may look at the samples for more, so that they
        are read once for all (``training.read``, ``training.seen``).
    """
    recognized = _recognize(dataset)
    problems: list[Problem] = []
    done, total = 0, len(dataset.clips)
    for machine in dataset:
        seen: list[Seen] = []
        for one in audio.each(machine.clips, listen, workers=workers):
            seen.append(one)
            done += 1
            if progress:
                progress(done, total)
        problems += _of_machine(machine, seen, dataset.root, recognized)
    return problems + _count_problems(dataset, recognized)


def to_table(problems: Iterable[Problem]) -> pd.DataFrame:
    """One row for each problem; columns severity, kind, where and message."""
    columns = [field.name for field in fields(Problem)]
    return pd.DataFrame([_as_text(problem) for problem in problems], columns=columns)


def to_json(problems: Iterable[Problem]) -> str:
    """A JSON array of objects with severity, kind, where and message."""
    return json.dumps([_as_text(problem) for problem in problems], indent=2)


def _as_text(problem: Problem) -> dict[str, str]:
    """Its attributes, in which names that cannot be printed are escaped."""
    return {name: printable(text) for name, text in asdict(problem).items()}


def _recognize(dataset: Dataset) -> list[_Recognized]:
    names = {machine.name for machine in dataset}
    return [
        _Recognized(module.PUBLISHED, part)
        for module in DATASETS.values()
        for part, machines in module.PUBLISHED.machines.items()
        if names == set(machines)
    ]


def _of_machine(
    machine: Machine, seen: Sequence[Seen], root: Path, recognized: Sequence[_Recognized]
) -> Iterator[Problem]:
    """Everything about one machine: its training clips, its test clips compared with them, its tables."""
    train = [one for one in seen if one.clip.split == "train"]
    found = judge(machine.name, train, tuple(MICROPHONES.values()))
    told = list(_of_training(machine, found))
    told += [problem for one in seen if one.clip.split == "test" for problem in _of_test_clip(one, found)]
    readable = [one for one in seen if one.measured is not None]
    if recognized:
        known = {(problem.kind, problem.where) for problem in told}
        unpublished = _unpublished(machine, readable, recognized[0].published.channels)
        told += [problem for problem in unpublished if (problem.kind, problem.where) not in known]
    yield from told
    yield from _duplicates(readable)
    for table in sorted((root / machine.name).glob("attributes_*.csv")):
        yield from _attribute_problems(machine, table, table.relative_to(root).as_posix())
    yield from _composition(machine)


def _of_training(machine: Machine, found: Look) -> Iterator[Problem]:
    """What ``nearfar fit`` would leave out or refuse, in the same words."""
    for message in found.problems:
        yield Problem("error", "training", machine.name, message.removeprefix(f"{machine.name}: "))
    for suspect in found.left_out:
        if suspect.kind != "copy":  # ``_duplicates`` tells of test clips, too
            yield _unusable(suspect.clip, suspect.kind, suspect.message)
    for clip, fault in found.noticed:
        yield _of_fault(clip, fault)
    for suspect in found.unlike:
        yield Problem("warning", suspect.kind, suspect.clip.key, suspect.message)
    for message in found.warnings:
        kind = "target_domain" if NO_TARGET in message else "training"
        yield Problem("warning", kind, machine.name, message.removeprefix(f"{machine.name}: "))


def _unusable(clip: Clip, kind: str, message: str) -> Problem:
    """Of a clip that cannot be used; what reads it names it, which is not said twice if the key is its place."""
    if clip.path.as_posix().endswith(f"/{clip.key}"):
        message = message.removeprefix(f"{clip.recording}: ")
    return Problem("error", kind, clip.key, message)


def _of_test_clip(one: Seen, found: Look) -> Iterator[Problem]:
    """What ``nearfar score`` would say of a clip beside its score."""
    if one.error is not None:
        yield _unusable(one.clip, *one.error)
        return
    faults = of_notes(one.notes, found.fault_counts, clips=len(found.kept)) + faults_alone(one.known)
    if found.usual is not None:
        faults += faults_against(found.usual, one.known, one.again)
    if found.header is not None and one.header is not None and one.header.channels != found.header.channels:
        message = f"{one.header.channels} channels, but the training clips have {found.header.channels}"
        yield Problem("error", "channels", one.clip.key, message)
    for fault in each_once(faults):
        yield _of_fault(one.clip, fault)


def _of_fault(clip: Clip, fault: RecordingFault) -> Problem:
    severity: Severity = "error" if fault.spoils(MICROPHONES.values()) else "warning"
    return Problem(severity, fault.kind, clip.key, fault.message)


def _unpublished(machine: Machine, seen: Sequence[Seen], channels: int) -> Iterator[Problem]:
    """Clips whose rate or channels are not the published ones."""
    for kind, unit, published in (("rate", "Hz", RATE), ("channels", "channels", channels)):
        values = [one.known.rate if kind == "rate" else one.n_channels for one in seen]
        others = [(one, value) for one, value in zip(seen, values, strict=True) if value != published]
        if others and len(others) == len(seen):
            shown = " and ".join(map(str, sorted(set(values))))
            message = f"all clips have {shown} {unit}, not {published} {unit} as published"
            yield Problem("error", kind, machine.name, message)
            continue
        for one, value in others:
            yield Problem("error", kind, one.clip.key, f"{value} {unit}, not {published} {unit} as published")


def _duplicates(seen: Sequence[Seen]) -> Iterator[Problem]:
    """Copies, also in other containers or with another gain; of a training clip's as ``nearfar fit`` tells them."""
    seen = sorted(seen, key=lambda one: (one.clip.split, *copies.originals_first(one.clip.name)))
    found = copies.find_copies(
        [one.digest for one in seen],
        [one.known for one in seen],
        lambda number: seen[number].again(),
        recordings=[one.recording for one in seen],
    )
    for copy, first in sorted(found.items()):
        clip, other = seen[copy].clip, seen[first].clip
        leaks = clip.split != other.split
        message = f"a copy of {other.key}" + (": a test clip is also a training clip" if leaks else "")
        yield Problem("error" if leaks else "warning", "copy", clip.key, message)


def _composition(machine: Machine) -> Iterator[Problem]:
    train, test = machine.train, machine.test
    if len(train) < MIN_TRAINING_CLIPS:
        message = (
            f"training clips: {len(train)}; at least {MIN_TRAINING_CLIPS} are needed to learn what is normal"
        )
        yield Problem("error", "training", machine.name, message)
    labels = {clip.label for clip in test}
    if len(labels) == 1 and None not in labels:
        message = f"all {len(test)} test clips are labelled {labels.pop()!r}: no AUC can be computed"
        yield Problem("warning", "one_class", machine.name, message)


def _attribute_problems(machine: Machine, table: Path, where: str) -> Iterator[Problem]:
    """What the attribute file says against the clips; a split that it does not mention is not its business."""
    places = {_place(clip): clip for clip in machine.clips}
    try:
        said = _read_attributes(table, ListedNames(places))
    except tables.TableError as error:
        yield Problem("warning", "attributes_unreadable", where, str(error))
        return
    yield from _find_unmatched(said, places, table, where)
    yield from _contradictions(said, places, where)


def _find_unmatched(
    said: Mapping[str, Sequence[str]], places: Mapping[str, Clip], table: Path, where: str
) -> Iterator[Problem]:
    """Files that are listed but not on disk, and clips that are not listed."""
    folders = {PurePosixPath(name).parent for name in said}
    covered = [p for p, c in places.items() if PurePosixPath(p).parent in folders and _covers(table, c)]
    absent = [name for name in said if name not in places]
    unlisted = [places[place].key for place in covered if place not in said]
    if absent:
        message = f"{len(absent)} listed files are not on disk, {_examples(absent)}"
        yield Problem("warning", "attributes_extra", where, message)
    if unlisted:
        message = f"{len(unlisted)} clips are not listed, {_examples(unlisted)}"
        yield Problem("warning", "attributes_missing", where, message)


def _contradictions(
    said: Mapping[str, Sequence[str]], places: Mapping[str, Clip], where: str
) -> Iterator[Problem]:
    """Clips whose names have other attributes than the table."""
    for place, clip in places.items():
        pairs = "_".join(said.get(place, []))
        if pairs and clip.attributes and sorted(pairs.split("_")) != sorted(clip.attributes.split("_")):
            message = f"the name says {clip.attributes}, but {where} says {pairs}"
            yield Problem("warning", "attributes_contradict", clip.key, message)


def _place(clip: Clip) -> str:
    """Where an attribute file says that a clip is: ``MACHINE/train/NAME.wav``."""
    return f"{clip.machine}/{clip.path.parent.name}/{clip.path.name}"


def _covers(table: Path, clip: Clip) -> bool:
    return table.stem == f"attributes_{clip.section:02}"


def _read_attributes(file: Path, clips: ListedNames) -> dict[str, list[str]]:
    """Of each listed file the keys and values in turn, without empty ones and ``noAttribute``."""
    table = tables.read(file, ("file_name",))
    place = table.place("file_name")
    found = {}
    for row in table.rows:
        said = row.cell(place)
        meant = clips.meant(said)
        name = meant[0] if len(meant) == 1 else said.replace("\\", "/") or f"row {row.number}"
        cells = row.cells[:place] + row.cells[place + 1 :]
        found[name] = [cell for cell in cells if cell not in ("", NO_ATTRIBUTE)]
    return found


def _count_problems(dataset: Dataset, recognized: Sequence[_Recognized]) -> list[Problem]:
    """Against the published set that fits best: several years have the same machines."""
    found = [_miscounts(dataset, one.published, one.part) for one in recognized]
    return min(found, key=len, default=[])


def _miscounts(dataset: Dataset, published: Published, part: Part) -> list[Problem]:
    if published.counts is None:
        return []
    problems = []
    splits = {clip.split for clip in dataset.clips}  # the evaluation clips may not have been fetched yet
    for machine in dataset:
        for section in sorted({clip.section for clip in machine.clips}.union(published.sections[part])):
            clips = [clip for clip in machine.clips if clip.section == section]
            counts = published.counts if section in published.sections[part] else NO_CLIPS
            for what, found, expected in _counts(clips, counts, splits):
                if found != expected:
                    message = f"section {section:02}: {found} {what}, not {expected} as in {published.name}"
                    problems.append(Problem("error", "count", machine.name, message))
    return problems


def _counts(clips: Sequence[Clip], counts: Counts, splits: set[Split]) -> Iterator[tuple[str, int, int]]:
    """What is counted in one section, how many there are, how many were published."""
    train = Counter(clip.domain for clip in clips if clip.split == "train")
    test = Counter((clip.domain, clip.label) for clip in clips if clip.split == "test")
    if "train" in splits:
        yield "source training clips", train["source"], counts.source
        yield "target training clips", train["target"], counts.target
    if "test" in splits and any(None in cell for cell in test):
        yield "test clips", test.total(), counts.test
    elif "test" in splits:
        for domain, label in product(get_args(Domain), get_args(Label)):
            yield f"{domain} {label} test clips", test[domain, label], counts.cell


def _examples(keys: Sequence[str]) -> str:
    more = ", ..." if len(keys) > SHOWN else ""
    return f"e.g. {', '.join(keys[:SHOWN])}{more}"
