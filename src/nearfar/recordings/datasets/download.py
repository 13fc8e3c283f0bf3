"""Fetching the published sets from Zenodo: resumable, checked, unpacked in one piece.

Conventions
-----------
``ROOT/NAME/dev`` holds the development machines, ``ROOT/NAME/eval`` the evaluation machines, additional training
and test clips together; ``nearfar.recordings.datasets.load`` takes either.
An archive that is on its way is ``ARCHIVE.part``; ``.nearfar-download.json`` lists those that are done.
Nothing is retried but the network: a wrong checksum or a full disk is an error at once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import stat
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from nearfar.files.atomic import atomic_folder, write_json
from nearfar.files.downloads import BLOCK, Client, DownloadError
from nearfar.recordings.clips import SPLIT_FOLDERS, DatasetError, unknown
from nearfar.recordings.datasets import DATASETS
from nearfar.recordings.datasets.layout import is_machine
from nearfar.recordings.datasets.published import PART_OF, Published, Remote, Subset

SERVER = "https://zenodo.org"
ATTRIBUTES = "attributes_*.csv"
RECORD = ".nearfar-download.json"
_NAME = r"{}(?P<machine>[A-Za-z0-9]+){}(?:_r(?P<revision>\d+))?\.zip"  # _rN: the N-th, corrected release
ARCHIVE_NAMES: dict[Subset, re.Pattern[str]] = {
    "dev": re.compile(_NAME.format("dev_(?:data_)?", "")),
    "train": re.compile(_NAME.format("eval_data_", "_train")),
    "eval": re.compile(_NAME.format("eval_data_", "_test")),
}


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive of a Zenodo record: the clips of one machine."""

    name: str
    subset: Subset
    machine: str
    size: int
    md5: str
    url: str


def download(
    name: str,
    *,
    root: Path,
    subset: Subset | None = None,
    machines: Collection[str] | None = None,
    server: str = SERVER,
    keep: bool = False,
    client: Client | None = None,
) -> list[Path]:
    """Fetch a published set; the folders of its machines.

    What is there already is not fetched again, and an interrupted download goes on where it stopped. The
    licence is ``DATASETS[name].LICENSE``.

    Parameters
    ----------
    name : str
        ``dcase2023`` to ``dcase2026``.
    root : Path
        The set comes to ``root/name``.
    subset : {"dev", "train", "eval"}, optional
        Development, additional training or evaluation clips; all by default.
    machines : names, optional
        All by default.
    keep : bool
        Leave the archives in ``root/name`` beside what was unpacked from them.
    client : Client, optional
        Fetches; by default with the system's proxies, and without telling its progress.

    Raises
    ------
    ValueError
        If there is no such set, subset or machine, or the set cannot be downloaded.
    ConnectionError
        If the server cannot be reached, refuses, or keeps breaking off.
    DatasetError
        If what it has is not what was published: another checksum, a machine that is missing, a damaged or
        dangerous archive.
    """
    published = _published(name)
    wanted = _choose(published, subset, machines)
    folder = root / name
    client = client or Client()
    todo = [one for one in wanted if not _is_done(folder, published, *one)]
    try:
        for archive in _archives(published, todo, client, server.rstrip("/")):
            whole = _obtain(archive, folder, client)
            splits = _unpack(whole, archive, folder / PART_OF[archive.subset])
            _note(folder, archive, splits)
            if not keep:
                whole.unlink()
    except DownloadError as error:
        raise DatasetError([str(error)]) from error
    return list(dict.fromkeys(folder / PART_OF[s] / machine for s, machine in wanted))


def parse_archive(name: str, subset: Subset) -> tuple[str, int] | None:
    """Machine and revision of an archive by its name; None for other files of the record."""
    match = ARCHIVE_NAMES[subset].fullmatch(name)
    return (match["machine"], int(match["revision"] or 1)) if match else None


# What is wanted, and what of it is there.


def _published(name: str) -> Published:
    if name not in DATASETS:
        raise ValueError(unknown("data set", name, DATASETS))
    published: Published = DATASETS[name].PUBLISHED
    if not published.remotes:
        names = [known for known, module in DATASETS.items() if module.REMOTES]
        raise ValueError(
            f"name={name!r}: nearfar downloads {names[0]} to {names[-1]}; get {name} from the challenge's page, "
            "unpack it to ROOT/MACHINE/train and ROOT/MACHINE/test, and load ROOT"
        )
    return published


def _choose(
    published: Published, subset: Subset | None, machines: Collection[str] | None
) -> list[tuple[Subset, str]]:
    subsets = _subsets(published, subset)
    offered = [(one, machine) for one in subsets for machine in published.machines[PART_OF[one]]]
    if machines is None:
        return offered
    known = {machine for _, machine in offered}
    if strange := [machine for machine in machines if machine not in known]:
        raise ValueError(unknown(f"machine in {published.name} ({', '.join(subsets)})", strange[0], known))
    return [one for one in offered if one[1] in machines]


def _subsets(published: Published, subset: Subset | None) -> list[Subset]:
    if subset is None:
        return list(published.remotes)
    if subset not in get_args(Subset):
        raise ValueError(unknown("subset", subset, get_args(Subset)))
    return [subset]


def _noted(folder: Path) -> dict[str, Any]:
    record = folder / RECORD
    content: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    return content


def _note(folder: Path, archive: Archive, splits: list[str]) -> None:
    entry = {"subset": archive.subset, "machine": archive.machine, "md5": archive.md5, "splits": splits}
    write_json(folder / RECORD, _noted(folder) | {archive.name: entry})


def _is_done(folder: Path, published: Published, subset: Subset, machine: str) -> bool:
    """Whether an archive of it was unpacked that is not known to have been replaced, and is still there."""
    place = folder / PART_OF[subset] / machine
    return any(
        entry["subset"] == subset
        and entry["machine"] == machine
        and _is_current(name, entry["md5"], subset, published.remotes[subset])
        and all((place / split).is_dir() for split in entry["splits"])
        for name, entry in _noted(folder).items()
    )


def _is_current(name: str, md5: str, subset: Subset, remote: Remote) -> bool:
    machine, revision = _parse(name, subset)
    pinned = [_parse(known, subset) for known in remote.md5]
    newest = max((known for other, known in pinned if other == machine), default=1)
    return revision >= newest and remote.md5.get(name, md5) == md5


def _parse(name: str, subset: Subset) -> tuple[str, int]:
    return parse_archive(name, subset) or (name, 1)


# What Zenodo has.


def _archives(
    published: Published, todo: Sequence[tuple[Subset, str]], client: Client, server: str
) -> list[Archive]:
    archives, problems = [], []
    for subset in dict.fromkeys(subset for subset, _ in todo):
        remote = published.remotes[subset]
        url = f"{server}/api/records/{remote.record}"
        offered = _offered(_json(client, url), subset, url)
        for machine in (machine for one, machine in todo if one == subset):
            if machine not in offered:
                problems.append(f"{url}: {unknown('archive of machine', machine, offered)}")
            elif (archive := offered[machine]).md5 != remote.md5.get(archive.name, archive.md5):
                known = remote.md5[archive.name]
                problems.append(f"{url}: {archive.name} has MD5 {archive.md5}, but {known} was published")
            else:
                archives.append(archive)
    if problems:
        raise DatasetError(problems)
    return archives


def _json(client: Client, url: str) -> Any:
    answer = client.read(url, accept="application/json")
    try:
        return json.loads(answer)
    except ValueError as error:
        raise DatasetError([f"{url}: the answer is not JSON; is this a Zenodo server?"]) from error


def _offered(record: Any, subset: Subset, url: str) -> dict[str, Archive]:
    """The newest archive of each machine."""
    newest: dict[str, tuple[int, Archive]] = {}
    try:
        for file in record["files"]:
            if parsed := parse_archive(file["key"], subset):
                machine, revision = parsed
                md5, where = file["checksum"].removeprefix("md5:"), file["links"]["self"]
                archive = Archive(file["key"], subset, machine, int(file["size"]), md5, where)
                if revision > newest.get(machine, (0, archive))[0]:
                    newest[machine] = revision, archive
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError([f"{url}: not the record of a data set on Zenodo ({error!r})"]) from error
    return {machine: archive for machine, (_, archive) in newest.items()}


def _obtain(archive: Archive, folder: Path, client: Client) -> Path:
    """The whole archive, checked."""
    whole, part = folder / archive.name, folder / f"{archive.name}.part"
    if not (whole.is_file() and _md5(whole) == archive.md5):  # else it was not unpacked last time
        client.fetch(archive.url, part, name=archive.name, size=archive.size)
        if (found := _md5(part)) != archive.md5:
            part.unlink()
            raise DatasetError(
                [
                    f"{part.name}: MD5 {found}, but {archive.md5} was published; the file was removed, so run "
                    "the same command again"
                ]
            )
        part.replace(whole)
    return whole


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


# From the archive to the machine's folder.


def _unpack(whole: Path, archive: Archive, into: Path) -> list[str]:
    """Unpack the archive beside the machine's folder, then move what it holds there; the splits it holds."""
    unpacked = into / f".{archive.name}.unpacked"
    with atomic_folder(unpacked, replace=True) as part:
        _extract(whole, archive.machine, part)
    splits = [split for split in SPLIT_FOLDERS if (unpacked / split).is_dir()]
    _merge(unpacked, into / archive.machine)
    shutil.rmtree(unpacked)
    return splits


def _extract(whole: Path, machine: str, into: Path) -> None:
    try:
        with zipfile.ZipFile(whole) as archive:
            members = [(member, _place(member, machine)) for member in archive.infolist()]
            for member, place in members:
                if place is not None:
                    (into / place).parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, (into / place).open("wb") as target:
                        shutil.copyfileobj(source, target, BLOCK)
    except DatasetError:
        raise
    except Exception as error:  # of a library that raises whatever a damaged archive leads to
        if (
            isinstance(error, OSError) and error.errno != errno.EINVAL
        ):  # of the disk, and not of a place beyond any file
            raise
        raise DatasetError([f"{whole}: damaged, cannot be unpacked ({error})"]) from error
    if not is_machine(into):
        raise DatasetError([f"{whole}: holds no {' or '.join(SPLIT_FOLDERS)} of {machine}"])


def _place(member: zipfile.ZipInfo, machine: str) -> PurePosixPath | None:
    """Where a member belongs below the machine's folder; None for folders and hidden files."""
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or is_link or re.search(r"[\\:]", member.filename):
        raise DatasetError(
            [
                f"{member.filename!r} in the archive of {machine} would be written outside its folder; it was "
                "not unpacked"
            ]
        )
    parts = path.parts
    if machine in parts[:-1]:
        parts = parts[parts.index(machine) + 1 :]
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return None if member.is_dir() or hidden else PurePosixPath(*parts)


def _merge(unpacked: Path, machine: Path) -> None:
    """Move folders and files to the machine's; a folder that is there already is replaced."""
    machine.mkdir(parents=True, exist_ok=True)
    for new in sorted(unpacked.iterdir()):
        old = machine / new.name
        if old.is_dir():
            old.rename(unpacked / f".old-{new.name}")
        elif old.is_file() and new.match(ATTRIBUTES):
            _add_lines(old, new)
        new.replace(old)


def _add_lines(old: Path, new: Path) -> None:
    """Training and test archive both bring attributes: keep the lines of both."""
    lines = dict.fromkeys(old.read_text().splitlines() + new.read_text().splitlines())
    new.write_text("".join(f"{line}\n" for line in lines))
