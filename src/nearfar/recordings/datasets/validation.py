"""Everything that is wrong with a data set, found before anything is computed on it.

Conventions
-----------
An *error* makes a result wrong or impossible; a *warning* is worth a look. Every clip is read once and let go:
what is kept of it is a digest and a few numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
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

# Our own limits, no one's standard. They hold for microphones; a synthetic square wave is "clipped".
FULL_SCALE = 1 - audio.INT16_SCALE  # the largest positive 16-bit sample
CLIPPED_SHARE = (
    1e-3  # of a channel's samples at full scale: 160 in a clip of 10 s at 16 kHz; one peak is none
)
SILENT_RANGE = 2 * audio.INT16_SCALE  # from the smallest to the largest sample: dither alone
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


@dataclass(frozen=True, slots=True)
class _Heard:
    """What remains of a clip that was read."""

    clip: Clip
    rate: int
    channels: int
    samples: int
    digest: bytes
    silent: tuple[int, ...]  # channels
    full_scale: float  # share of the worst channel's samples

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


@dataclass(frozen=True)
class _Recognized:
    """A published part that has exactly these machines."""

    published: Published
    part: Part


def validate(dataset: Dataset, *, workers: int = 1, progress: Progress | None = None) -> list[Problem]:
    """All problems of a data set, in the order of its clips; none is an empty list.

    Counts, rate and channels are compared with a published set's where the data set has exactly its machines.

    Parameters
    ----------
    workers : int
        Threads that read.
    progress : callable(clips read, clips in all)
    """
    recognized = _recognize(dataset)
    problems: list[Problem] = []
    done, total = 0, len(dataset.clips)
    for machine in dataset:
        heard: list[_Heard] = []
        for outcome in audio.each(machine.clips, _listen, workers=workers):
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                heard.append(outcome)
                problems += _of_clip(outcome)
            done += 1
            if progress:
                progress(done, total)
        problems += _of_machine(machine, heard, dataset.root, recognized)
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


def _listen(clip: Clip) -> _Heard | Problem:
    try:
        samples, rate = audio.read(clip.recording)
    except FileNotFoundError as error:
        return Problem("error", "missing", clip.key, str(error))
    except audio.AudioError as error:
        return Problem("error", error.fault, clip.key, str(error))
    span = samples.max(axis=1) - samples.min(axis=1)
    return _Heard(
        clip=clip,
        rate=rate,
        channels=samples.shape[0],
        samples=samples.shape[1],
        digest=hashlib.sha256(samples.tobytes()).digest(),
        silent=tuple(int(channel) for channel in np.flatnonzero(span <= SILENT_RANGE)),
        full_scale=float((np.abs(samples) >= FULL_SCALE).mean(axis=1).max()),
    )


def _of_clip(heard: _Heard) -> Iterator[Problem]:
    key = heard.clip.key
    if heard.silent:
        channels = " and ".join(map(str, heard.silent))
        yield Problem(
            "error", "silent", key, f"channel {channels} of {heard.channels} is dead: check its microphone"
        )
    if heard.full_scale > CLIPPED_SHARE:
        message = f"{heard.full_scale:.2%} of a channel's samples are at full scale: the gain was too high"
        yield Problem("warning", "clipped", key, message)


def _of_machine(
    machine: Machine, heard: Sequence[_Heard], root: Path, recognized: Sequence[_Recognized]
) -> Iterator[Problem]:
    channels = {one.published.channels for one in recognized}
    yield from _differing(machine, heard, "rate", "Hz", RATE if recognized else None)
    yield from _differing(machine, heard, "channels", "channels", channels.pop() if channels else None)
    yield from _lengths(machine, heard)
    yield from _duplicates(heard)
    for table in sorted((root / machine.name).glob("attributes_*.csv")):
        yield from _attribute_problems(machine, table, table.relative_to(root).as_posix())
    yield from _composition(machine)


def _differing(
    machine: Machine, heard: Sequence[_Heard], kind: str, unit: str, published: int | None
) -> Iterator[Problem]:
    """Clips whose rate (channels) is not the published one, or else not the usual one of the machine."""
    values: Counter[int] = Counter(getattr(one, kind) for one in heard)
    if not values:
        return
    usual = published or values.most_common(1)[0][0]
    rule = f"{usual} {unit} as published" if published else f"{usual} as most clips of {machine.name}"
    others = [one for one in heard if getattr(one, kind) != usual]
    if len(others) == len(heard):
        found = " and ".join(map(str, sorted(values)))
        yield Problem("error", kind, machine.name, f"all clips have {found} {unit}, not {rule}")
    else:
        for one in others:
            yield Problem("error", kind, one.clip.key, f"{getattr(one, kind)} {unit}, not {rule}")


def _lengths(machine: Machine, heard: Sequence[_Heard]) -> Iterator[Problem]:
    lengths = Counter(one.seconds for one in heard)
    if len(lengths) > 1:
        usual = lengths.most_common(1)[0][0]
        keys = [one.clip.key for one in heard if one.seconds != usual]
        message = (
            f"lengths differ, from {min(lengths):g} s to {max(lengths):g} s: {len(keys)} of {len(heard)} clips are "
            f"not {usual:g} s long, {_examples(keys)}"
        )
        yield Problem("warning", "length", machine.name, message)


def _duplicates(heard: Sequence[_Heard]) -> Iterator[Problem]:
    first: dict[bytes, Clip] = {}
    for one in heard:
        clip = first.setdefault(one.digest, one.clip)
        if clip is not one.clip:
            leaks = clip.split != one.clip.split
            message = f"the same samples as {clip.key}" + (
                ": a test clip is also a training clip" if leaks else ""
            )
            yield Problem("error" if leaks else "warning", "duplicate", one.clip.key, message)


def _composition(machine: Machine) -> Iterator[Problem]:
    train, test = machine.train, machine.test
    if len(train) < MIN_TRAINING_CLIPS:
        message = (
            f"training clips: {len(train)}; at least {MIN_TRAINING_CLIPS} are needed to learn what is normal"
        )
        yield Problem("error", "training", machine.name, message)
    domains = {clip.domain for clip in train}
    if "source" in domains and "target" not in domains:
        message = "no training clip is from the target domain, so domains cannot be treated separately"
        yield Problem("warning", "target_domain", machine.name, message)
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
