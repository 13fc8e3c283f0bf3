"""Clips, machines and data sets, and the grammar of file names that describes them.

Conventions
-----------
``None`` stands for what the organizers do not disclose, never for a default. A clip is known everywhere by
its ``key``, ``machine/split/name``: the one join key of embeddings, scores and submissions.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from nearfar.files import notebooks
from nearfar.recordings.recording import Channel, Recording, Span, part_name

Domain = Literal["source", "target"]
Label = Literal["normal", "anomaly"]
Split = Literal["train", "test"]

MIN_TRAINING_CLIPS = 4  # three to fit to, the fewest that have a covariance, and one to score unseen
USUAL_SUFFIXES = (".wav", ".flac")  # that messages name
ACQUISITION_SUFFIXES = (  # of data acquisition
    ".tdms", ".uff", ".unv", ".uf58", ".mf4", ".mdf", ".mat", ".h5", ".hdf5",
)  # fmt: skip
AUDIO_SUFFIXES = (
    *USUAL_SUFFIXES, ".aif", ".aiff", ".aifc", ".w64", ".rf64", ".caf", ".au", *ACQUISITION_SUFFIXES,
)  # fmt: skip
NO_ATTRIBUTE = "noAttribute"  # of machines without attributes, 2024 on

GRAMMAR = """\
section_SS_DOMAIN_SPLIT_LABEL_NNNN[_ATTRIBUTES].wav   2021 on
section_SS_DOMAIN_test_NNNN.wav                       2021, evaluation
section_SS_[test_]NNNN.wav                            2022 on, evaluation
LABEL_id_SS_NNNNNNNN.wav, id_SS_NNNNNNNN.wav          2020
with DOMAIN source|target, SPLIT train|test, LABEL normal|anomaly, .wav or .flac,
in MACHINE/train, MACHINE/test, MACHINE/source_test or MACHINE/target_test"""

_SUFFIX = r"\.(?i:wav|flac)"
_NAMES = tuple(
    re.compile(pattern + _SUFFIX)
    for pattern in (
        r"section_(?P<section>\d{2})_(?P<domain>source|target)_(?P<split>train|test)"
        r"_(?P<label>normal|anomaly)_\d{4}(_(?P<attributes>.*))?",
        r"section_(?P<section>\d{2})_(?P<domain>source|target)_(?P<split>test)_\d{4}",
        r"section_(?P<section>\d{2})_((?P<split>test)_)?\d{4}",
        r"(?P<label>normal|anomaly)_id_(?P<section>\d{2})_\d{8}",
        r"id_(?P<section>\d{2})_\d{8}",
    )
)
_FOLDERS: dict[str, tuple[Split, Domain | None]] = {
    "train": ("train", None),
    "test": ("test", None),
    "source_test": ("test", "source"),  # 2021
    "target_test": ("test", "target"),
}
SPLIT_FOLDERS = tuple(_FOLDERS)


def counted(number: int, noun: str) -> str:
    """A number of things, such as "1 clip" or "2 clips"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class DatasetError(ValueError):
    """A data set cannot be used; ``problems`` lists everything that is wrong with it, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(
                [f"{counted(len(self.problems), 'problem')} in the data:", *(f"  {p}" for p in self.problems)]
            )
        )

    def __reduce__(self) -> tuple[type[DatasetError], tuple[tuple[str, ...]]]:
        """What it takes to raise it in another process."""
        return type(self), (self.problems,)


@dataclass(frozen=True, slots=True, repr=False)
class Clip:
    """One recording of a machine, by one microphone or by several synchronized ones.

    Attributes
    ----------
    path : Path
    machine : str
        The machine type, or the name of your own machine.
    section : int
        In data since 2021, the section; in 2020, the ``id_NN``.
    split : {"train", "test"}
    name : str
        The path below the split's folder, with ``/``. For the challenge's data it is the file name.
    domain : {"source", "target"} or None
    label : {"normal", "anomaly"} or None
    attributes : str
        Pairs ``key_value``, joined by ``_``. Empty if the machine has none.
    tracks : tuple of Path
        Further mono files of the recording, where ``path`` is the first track.
    channels : tuple of int or str
        Which channels are near, far, and so on: numbers from 1, or names; empty: all, as they are.
    group : str
        What it belongs to, such as "day 2026-03-01": clips of one group are more alike than others, so they are not
        split between a fit and the clips that it scores. Empty: nothing that is known.
    span : Span or None
        The part of the recording that the clip is; ``None``: all of it.

    Examples
    --------
    A file name of the challenge tells everything about its clip.

    >>> from pathlib import Path
    >>> from nearfar.recordings.clips import parse_clip
    >>> clip = parse_clip(Path("dev/fan/test/section_00_target_test_anomaly_0007_speed_6.wav"))
    >>> clip.machine, clip.domain, clip.label, clip.attributes
    ('fan', 'target', 'anomaly', 'speed_6')
    >>> clip.key
    'fan/test/section_00_target_test_anomaly_0007_speed_6.wav'
    """

    path: Path
    machine: str
    section: int
    split: Split
    name: str
    domain: Domain | None = None
    label: Label | None = None
    attributes: str = ""
    tracks: tuple[Path, ...] = ()
    channels: tuple[Channel, ...] = ()
    group: str = ""
    span: Span | None = None

    def __repr__(self) -> str:
        told = (self.domain, self.label, self.attributes)
        return f"Clip({', '.join([repr(self.key), *filter(None, told)])})"

    @property
    def key(self) -> str:
        """``machine/split/name``."""
        return f"{self.machine}/{self.split}/{self.name}"

    @property
    def recording(self) -> Recording:
        """Its files and channels, to be read."""
        return Recording((self.path, *self.tracks), self.channels, self.span)

    def part(self, span: Span) -> Clip:
        """A part of it, as a clip of its own, named after the part."""
        return replace(self, name=part_name(self.name, span), span=span)


@dataclass(frozen=True, repr=False)
class Machine:
    """All clips of one machine type, ordered by key.

    Attributes
    ----------
    name : str
    clips : tuple of Clip

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar import Clip, Machine
    >>> normal = Clip(Path("press/1.wav"), "press", section=0, split="train", name="1.wav", label="normal")
    >>> new = Clip(Path("press/2.wav"), "press", section=0, split="test", name="2.wav")
    >>> press = Machine("press", (new, normal))
    >>> [clip.name for clip in press.train], [clip.name for clip in press.test]
    (['1.wav'], ['2.wav'])
    """

    name: str
    clips: tuple[Clip, ...]

    def __repr__(self) -> str:
        train, test = counted(len(self.train), "training clip"), counted(len(self.test), "test clip")
        return f"Machine({self.name!r}, {train}, {test})"

    @cached_property
    def train(self) -> tuple[Clip, ...]:
        """The training clips. All of them are normal."""
        return tuple(c for c in self.clips if c.split == "train")

    @cached_property
    def test(self) -> tuple[Clip, ...]:
        """The test clips, of known or unknown label."""
        return tuple(c for c in self.clips if c.split == "test")


@dataclass(frozen=True, repr=False)
class Dataset:
    """Machines that are reported together.

    Attributes
    ----------
    name : str
    root : Path
    machines : tuple of Machine

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar import Dataset, Machine
    >>> plant = Dataset("plant", Path("plant"), (Machine("fan", ()), Machine("pump", ())))
    >>> [machine.name for machine in plant]
    ['fan', 'pump']
    >>> plant["pump"].name
    'pump'
    >>> plant["pomp"]
    Traceback (most recent call last):
    KeyError: "no machine 'pomp'; did you mean 'pump'? There are: fan, pump"
    """

    name: str
    root: Path
    machines: tuple[Machine, ...]

    def __repr__(self) -> str:
        names = ", ".join(machine.name for machine in self)
        return f"Dataset({self.name!r}, {counted(len(self.machines), 'machine')}: {names})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = [(m.name, len(m.train), len(m.test)) for m in self]
        return notebooks.table(self.name, rows, head=("machine", "training clips", "test clips"))

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.machines)

    def __getitem__(self, machine: str) -> Machine:
        """The machine of that name.

        Raises
        ------
        KeyError
            If there is none. The message names the nearest one.
        """
        for m in self.machines:
            if m.name == machine:
                return m
        raise KeyError(unknown("machine", machine, [m.name for m in self.machines]))

    def only(self, machines: Iterable[str]) -> Dataset:
        """The same data set with these machines alone, in the data set's order."""
        wanted = {self[name].name for name in machines}
        return Dataset(self.name, self.root, tuple(m for m in self.machines if m.name in wanted))

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All clips of all machines."""
        return tuple(c for m in self.machines for c in m.clips)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist: the nearest one, and all there are."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"no {kind} {name!r}{hint} There are: {', '.join(names) or 'none'}"


def is_audio(path: Path) -> bool:
    """Whether the file name says that this is a recording; hidden files are not."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def is_clip_name(name: str) -> bool:
    """Whether a file name matches the grammar of the challenge's years."""
    return any(pattern.fullmatch(name) for pattern in _NAMES)


def parse_clip(path: Path) -> Clip:
    """Describe the clip at ``.../MACHINE/SPLIT/NAME.wav`` from its path alone.

    Raises
    ------
    ValueError
        If the name does not match the grammar of the challenge's years, or contradicts its folder.
    """
    match = next(filter(None, (pattern.fullmatch(path.name) for pattern in _NAMES)), None)
    if match is None:
        raise ValueError(f"{path}: not the name of a clip; expected one of\n{GRAMMAR}")
    if path.parent.name not in _FOLDERS:
        raise ValueError(f"{path}: a clip must be in {', '.join(_FOLDERS)}, not in {path.parent.name!r}")
    said = match.groupdict()
    split, folder_domain = _FOLDERS[path.parent.name]
    if said.get("split") not in (None, split):
        raise ValueError(f"{path}: the name says {said['split']!r}, but the folder is {path.parent.name!r}")
    if split == "train" and said.get("label") == "anomaly":
        raise ValueError(f"{path}: the name says 'anomaly', but training clips are normal")
    domain = said.get("domain")
    if folder_domain is not None and domain not in (None, folder_domain):
        raise ValueError(f"{path}: the name says {domain!r}, but the folder is {path.parent.name!r}")
    attributes = (said.get("attributes") or "").strip("_")
    return Clip(
        path=path,
        machine=path.parent.parent.name,
        section=int(said["section"]),
        split=split,
        name=path.name,
        domain=domain or folder_domain,  # type: ignore[arg-type]
        label=said.get("label"),  # type: ignore[arg-type]
        attributes="" if attributes == NO_ATTRIBUTE else attributes,
    )
