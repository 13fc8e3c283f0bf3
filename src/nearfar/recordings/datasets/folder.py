"""One's own machines: a folder each, whose place says what a clip is.

``MACHINE/train/*.wav``
    Normal recordings, at any depth.
``MACHINE/test/{normal,anomaly}/*.wav``, or ``MACHINE/test/*.wav`` where the label is not known
    Optional. The folders may have the names that other data sets use: see ``datasets.labels``.
``MACHINE/domains.csv``
    Optional: columns ``file_name`` (relative to MACHINE) and ``domain`` (source or target), a row for every
    recording. Without it the domain is not known. A column ``group``, ``day``, ``session`` or ``recording``, the
    first of these that is there, says what belongs together; without one, names may (``datasets.groups``).

A plain folder holds normal recordings of one machine, at any depth, and perhaps ``domains.csv``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from nearfar.files import tables
from nearfar.files.names import one_line, quoted
from nearfar.recordings.clips import (
    SPLIT_FOLDERS,
    USUAL_SUFFIXES,
    Clip,
    Dataset,
    DatasetError,
    Domain,
    Label,
    Machine,
    Split,
    unknown,
)
from nearfar.recordings.datasets.groups import COLUMNS, groups_of_names
from nearfar.recordings.datasets.labels import is_normal, label_of, says_anomaly
from nearfar.recordings.datasets.layout import (
    collect,
    few,
    is_machine,
    machine_folders,
    machine_name,
    recordings,
    recordings_below,
    refuse_machines,
    refuse_no_folder,
    what_else,
)
from nearfar.recordings.datasets.listed import ListedNames
from nearfar.recordings.recording import is_track

logger = logging.getLogger(__name__)

DOMAINS_FILE = "domains.csv"
SPREADSHEETS = frozenset((".xlsx", ".xls", ".ods", ".tsv", ".txt"))  # as which a table of domains is no CSV
DOMAINS_HEADER = ("file_name", "domain")
OWN_SPLITS = get_args(Split)
SECTION = 0  # own machines have one
MOVE = (
    "move them out of this folder (in a machine's folder, to test/anomaly), so that only normal ones are left"
)


def load(root: Path) -> Dataset:
    """All machines below ``root``.

    Raises
    ------
    FileNotFoundError
    DatasetError
        With everything that is wrong.
    """
    return collect(root, [_describe(folder, folder.name) for folder in machine_folders(root)])


def machine(path: Path) -> Machine:
    """The one machine whose folder this is, or that all recordings of a plain folder are normal clips of.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    DatasetError
        With everything that is wrong.
    """
    refuse_no_folder(path, "path", "the folder of a machine, or a folder of normal recordings")
    if not is_machine(path):
        refuse_machines(path)
    name = machine_name(path)
    described, problems = _describe(path, name) if is_machine(path) else _plain(path, name)
    if problems:
        raise DatasetError(problems)
    return described


def _plain(folder: Path, name: str) -> tuple[Machine, list[str]]:
    files = recordings_below(folder)
    clips = [_clip(file, folder, name, "train", "normal") for file in files]
    problems = [] if clips else [_nothing(folder)]
    problems += _misplaced(files, folder) or _not_normal(files, folder)
    return _with_domains(folder, name, clips, problems)


def _misplaced(files: Sequence[Path], folder: Path) -> list[str]:
    """Recordings of a plain folder in folders that are called like those of splits."""
    for file in files:
        for place in file.relative_to(folder).parents:
            if place.name.lower() in SPLIT_FOLDERS:
                rename = f", and rename it to {place.name.lower()}" if place.name not in SPLIT_FOLDERS else ""
                split = f"{folder}: the folder {place.as_posix()!r} is called like a split of a machine"
                return [
                    f"{split}; give the folder that contains it, {quoted((folder / place).parent)}{rename}"
                ]
    return []


def _not_normal(files: Sequence[Path], folder: Path) -> list[str]:
    """Why recordings that are to be normal are not, by the names of their folders or their own."""
    places = {file: _anomalous_place(file, folder) for file in files}
    counts = Counter(place for place in places.values() if place is not None)
    problems = [
        f"{folder}: {count} of {len(files)} recordings are not normal, by the name of their folder "
        f"{place.relative_to(folder).as_posix()!r}; {_remedy(files, place)}"
        for place, count in sorted(counts.items())
    ]
    rest = [file for file in files if places[file] is None]
    named = [file for file in rest if says_anomaly(file.stem)]
    if len(named) == len(rest) > 0 or (files and says_anomaly(machine_name(folder))):
        logger.warning("%s: taken for normal recordings, though the name says otherwise", folder)
    if 0 < len(named) < len(rest):
        problems.append(
            f"{folder}: {len(named)} of {len(files)} recordings are not normal, by their own names, such as "
            f"{named[0].relative_to(folder).as_posix()!r}; {MOVE}"
        )
    _warn_beside_normal(files, folder)
    return few(problems)


def _anomalous_place(file: Path, folder: Path) -> Path | None:
    """The outermost folder of a recording, below this one, whose name says that it holds no normal ones."""
    places = [folder / place for place in file.relative_to(folder).parents if place.name]
    return next((place for place in reversed(places) if says_anomaly(place.name)), None)


def _remedy(files: Sequence[Path], anomalous: Path) -> str:
    """What to do about a folder of anomalous recordings: give the one of normal ones beside it, if there is one."""
    beside = {
        file.relative_to(anomalous.parent).parts[0] for file in files if anomalous.parent in file.parents
    }
    normal = sorted(name for name in beside if is_normal(name))
    if normal:
        return f"use the normal ones alone: `nearfar fit {quoted(anomalous.parent / normal[0])}`"
    return MOVE


def _warn_beside_normal(files: Sequence[Path], folder: Path) -> None:
    """Say if a folder is called "normal" and others beside it are not: they may hold something else."""
    names = {file.relative_to(folder).parts[0] for file in files if file.parent != folder}
    others = sorted(name for name in names if label_of(name) is None)
    if others and any(map(is_normal, names)):
        logger.warning(
            "%s: recordings in %s are taken for normal ones, though another folder is called %s",
            folder, ", ".join(few(others)), next(name for name in sorted(names) if is_normal(name)),
        )  # fmt: skip


def _nothing(folder: Path) -> str:
    kinds = " or ".join(USUAL_SUFFIXES)
    return f"{folder}: no {kinds} file to learn from; put normal recordings there{what_else(folder)}"


def _describe(folder: Path, name: str) -> tuple[Machine, list[str]]:
    files = recordings_below(folder / "train")
    train = [_clip(file, folder / "train", name, "train", "normal") for file in files]
    test, problems = _test(folder / "test", name)
    problems += _not_normal(files, folder / "train")
    strays = [file for file in recordings(folder) if file.relative_to(folder).parts[0] not in OWN_SPLITS]
    problems += few(
        f"{file}: recordings must be in train or test; domains.csv gives their domains" for file in strays
    )
    if not train and not test and not problems:
        problems.append(_nothing(folder / "train"))
    return _with_domains(folder, name, train + test, problems)


def _test(folder: Path, name: str) -> tuple[list[Clip], list[str]]:
    clips, problems = [], []
    for file in recordings_below(folder):
        below = file.relative_to(folder).parts[0]
        label = None if file.parent == folder else label_of(below)
        if file.parent == folder or label is not None:
            clips.append(_clip(file, folder, name, "test", label))
        else:
            problems.append(f"{file}: {unknown('label', below, get_args(Label))}")
    return clips, few(problems)


def _clip(file: Path, split_folder: Path, name: str, split: Split, label: Label | None) -> Clip:
    return Clip(
        path=file,
        machine=name,
        section=SECTION,
        split=split,
        name=file.relative_to(split_folder).as_posix(),
        label=label,
    )


def _with_domains(
    folder: Path, name: str, clips: Sequence[Clip], problems: Sequence[str]
) -> tuple[Machine, list[str]]:
    """The machine of these clips, with the domains and groups that its table says; all that is wrong."""
    place = {clip.path: clip.path.relative_to(folder).as_posix() for clip in clips}
    table, wrong = _domains(folder, set(place.values()), {place[path] for path in _first_files(clips)})
    groups = table.groups
    if groups is None:
        groups = {place[path]: group for path, group in _groups_by_name(clips).items()}
    told = [
        replace(clip, domain=table.domains.get(place[clip.path]), group=groups.get(place[clip.path], ""))
        for clip in clips
    ]
    return Machine(name, tuple(sorted(told, key=lambda clip: clip.key))), [*problems, *wrong]


def _groups_by_name(clips: Sequence[Clip]) -> dict[Path, str]:
    """The groups of the training clips, as far as their names tell."""
    train = [clip for clip in clips if clip.split == "train"]
    groups = groups_of_names([clip.name for clip in train])
    return {clip.path: groups[clip.name] for clip in train} if groups else {}


def _first_files(clips: Sequence[Clip]) -> Iterator[Path]:
    """The file of each recording by which it is called: of tracks, the first one."""
    if not any(is_track(clip.path) for clip in clips):
        return (clip.path for clip in clips)
    from nearfar.recordings import tracks  # reads headers: the command line begins without NumPy

    return (files[0] for files in tracks.grouped(clip.path for clip in clips))


@dataclass(frozen=True)
class _Listed:
    """What the table of domains says of recordings, by their paths below the machine; no groups: no such column."""

    domains: Mapping[str, Domain]
    groups: Mapping[str, str] | None = None


def _domains(folder: Path, known: set[str], needed: set[str]) -> tuple[_Listed, list[str]]:
    """What ``domains.csv`` says of the known files, by their paths below the machine, and all that is wrong."""
    file, problems = _domains_file(folder)
    if file is None:
        return _Listed({}), problems
    try:
        table = tables.read(file, DOMAINS_HEADER)
    except tables.TableError as error:
        return _Listed({}), [f"{file}: {error}"]
    names = ListedNames(known, machine_name(folder))
    rows: dict[str, list[int]] = {}
    domains: dict[str, Domain] = {}
    groups: dict[str, str] = {}
    column = next((column for column in COLUMNS if column in table.header), None)
    for row in table.rows:
        said, domain = (row.cell(table.place(needs)) for needs in DOMAINS_HEADER)
        meant = names.meant(said)
        if len(meant) != 1:
            problems.append(f"row {row.number}: {_unmatched(said, meant)}{table.doubt}")
            continue
        rows.setdefault(meant[0], []).append(row.number)
        if column is not None and (group := row.cell(table.place(column))):
            groups[meant[0]] = group if column == COLUMNS[0] else f"{column} {group}"
        if domain.lower() in get_args(Domain):
            domains[meant[0]] = cast(Domain, domain.lower())
        else:
            problems.append(f"row {row.number}: domain={domain!r} of {said!r}; it must be source or target")
    problems += _incomplete(rows, needed)
    listed = _Listed(domains, None if column is None else groups)
    return listed, few(f"{file}: {problem}" for problem in problems)


def _incomplete(rows: Mapping[str, Sequence[int]], needed: set[str]) -> list[str]:
    """Recordings that a table lacks, or lists more than once."""
    missing = [f"'{one_line(name)}' is missing" for name in sorted(needed.difference(rows))]
    return missing + [
        f"'{one_line(name)}' is listed {len(twice)} times, in rows {' and '.join(map(str, twice))}"
        for name, twice in rows.items()
        if len(twice) > 1
    ]


def _domains_file(folder: Path) -> tuple[Path | None, list[str]]:
    """The table of domains, whatever the case of its name; and what is wrong."""
    called = sorted(f for f in folder.iterdir() if f.name.lower().startswith("domains."))
    files = [file for file in called if file.is_file() or file.is_symlink()]
    tables_there = [file for file in files if file.name.lower() == DOMAINS_FILE]
    others = [file.name for file in files if file.suffix.lower() in SPREADSHEETS]
    if len(tables_there) > 1:
        return None, [f"{folder}: {' and '.join(f.name for f in tables_there)} are both there; keep one"]
    if not tables_there and others:
        return None, [f"{folder}: {others[0]} is not read; save it as {DOMAINS_FILE}, or remove it"]
    return (tables_there[0] if tables_there else None), []


def _unmatched(said: str, meant: Sequence[str]) -> str:
    if meant:
        names = " or ".join(f"'{one_line(name)}'" for name in meant)
        return f"{said!r} may mean {names}; write the name as it is"
    return f"no recording {said!r} in train or test"
