"""Pretrained weights come to this computer, are checked, and stay what they were.

Conventions
-----------
Weights are stored as safetensors, as published if they are that, else converted. They are stored only if their
encoder loads them, strictly. ``record.json`` beside them has the checksums of both forms.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nearfar.encoders import encoder_class
from nearfar.encoders.pretrained import (
    PRETRAINED,
    RECORD,
    Pretrained,
    WeightsError,
    advice,
    described,
    find,
    stored,
    weights_folder,
)
from nearfar.files.atomic import atomic_folder, write_json
from nearfar.files.digests import digest_file
from nearfar.files.downloads import Client, DownloadError
from nearfar.recordings import audio
from nearfar.recordings.clips import unknown

if TYPE_CHECKING:  # they need torch, which is not always installed
    from nearfar.encoders.frozen import Frozen, Network

logger = logging.getLogger(__name__)

FILE = "model.safetensors"
POINTER = re.compile(
    r"version https://git-lfs\S*\noid sha256:(?P<sha256>[0-9a-f]{64})\nsize (?P<size>\d+)\n?"
)
GOLDEN = {"eat": "eat_golden_test"}  # a recording, and what the authors' program makes of it: .wav, .npy


@dataclass(frozen=True, slots=True)
class Verified:
    """Weights that are what they were when they came.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of the file.
    as_published : bool or None
        Whether this, or what it was converted from, has the published checksum; None if none is known.
    parameters : int
        Of the network.
    """

    path: Path
    sha256: str
    as_published: bool | None
    parameters: int


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far an encoder's tokens are from those of its authors' program, for one recording.

    Attributes
    ----------
    largest : float
        Difference, over all values.
    deviation : float
        Standard deviation of the authors' values.
    correlation : float
        Of both.
    """

    largest: float
    deviation: float
    correlation: float


def get(name: str, *, accepted: str = "", client: Client | None = None) -> Path:
    """Fetch published weights, unless they are here; the file.

    An interrupted download goes on where it stopped.

    Parameters
    ----------
    name : str
        Of ``PRETRAINED``.
    accepted : str
        How the licence was accepted, where it must be.
    client : Client, optional
        Asks the server.

    Raises
    ------
    ValueError
        If there are no such weights, or the licence was not accepted.
    WeightsError
        If they cannot be fetched without a person; says how to get them.
    ConnectionError
        If the server cannot be reached, refuses, or keeps breaking off.
    DownloadError, CheckpointError
        If what came is not what was published, or not of this encoder.
    MissingPackageError
        If torch is not installed, without which weights cannot be checked.
    """
    record = _record(name, accepted)
    if record.url is None:
        raise WeightsError(f"the weights {described(record)} are not fetched by nearfar; {advice(record)}")
    if stored(name) is not None:
        return find(name)
    client = client or Client()
    whole, expected = weights_folder() / f"{name}-{record.file}", _expect(record, client)
    if not (
        whole.is_file() and digest_file(whole) == expected.get("sha256")
    ):  # else it was not stored last time
        _fetch(record.url, whole, expected, client)
    path = _store(record, whole, {"url": record.url}, accepted)
    whole.unlink()
    return path


def add(name: str, file: Path, *, accepted: str = "") -> Path:
    """Store weights from a file that the user has, in place of any that are here; the new file.

    Parameters
    ----------
    name : str
        Of ``PRETRAINED``: which weights they are.
    file : Path
        Safetensors, or what ``torch.save`` wrote if it holds tensors and plain values alone.
    accepted : str
        How the licence was accepted, where it must be.

    Raises
    ------
    ValueError
        If there are no such weights, or the licence was not accepted.
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it cannot be read, or is not of this encoder.
    MissingPackageError
        If torch is not installed, without which weights cannot be checked.
    """
    return _store(_record(name, accepted), file, {}, accepted)


def verify(name: str) -> Verified:
    """Load stored weights strictly, and compare them with the checksum that they came with.

    Raises
    ------
    ValueError
        If there are no such weights, or the file has changed.
    WeightsError
        If they are not here.
    CheckpointError
        If the encoder does not load them.
    MissingPackageError
        If torch is not installed, without which weights cannot be checked.
    """
    path, known = find(name), stored(name)
    if known is None:
        raise ValueError(unknown("weights", name, PRETRAINED))
    _class(PRETRAINED[name])
    if (found := digest_file(path)) != known["sha256"]:
        raise ValueError(
            f"{path}: SHA-256 {found}, but it was {known['sha256']} when it came; remove {path.parent} and run "
            f"`{PRETRAINED[name].command}`"
        )
    published = PRETRAINED[name].sha256
    as_published = None if published is None else published in (found, known["origin"]["sha256"])
    return Verified(path, found, as_published, _load(PRETRAINED[name], path))


def compare(name: str, folder: Path) -> Likeness:
    """Compare the tokens of a recording with those that the authors' program gave.

    Parameters
    ----------
    name : str
        Of ``GOLDEN``.
    folder : Path
        With the recording, NAME.wav, and the tokens of the last block, NAME.npy: (1 + tokens, dim), CLS first.

    Raises
    ------
    ValueError
        If no such tokens are known for these weights, or they have another shape.
    WeightsError, FileNotFoundError
        If the weights or the files are not here.
    """
    if name not in GOLDEN:
        raise ValueError(unknown("weights with tokens to compare with,", name, GOLDEN))
    file = folder / f"{GOLDEN[name]}.npy"
    expected = np.load(file, allow_pickle=False).astype(np.float64)
    found = _last_block(_encoder(PRETRAINED[name], find(name)), file.with_suffix(".wav"))
    if found.shape != expected.shape:
        raise ValueError(f"{file}: has shape {expected.shape}, but {name!r} gives {found.shape}")
    return Likeness(
        largest=float(np.abs(found - expected).max()),
        deviation=float(expected.std()),
        correlation=float(np.corrcoef(found.ravel(), expected.ravel())[0, 1]),
    )


def _last_block(encoder: Frozen, recording: Path) -> NDArray[np.float32]:
    """CLS if there is one, then the tokens as their grid is laid out, (1 + tokens, dim)."""
    encoder.blocks = (cast("Network", encoder.network).known_blocks[-1],)
    tokens = encoder.tokens(audio.load(recording, encoder.sample_rate)[:1])
    rows = [] if tokens.cls is None else [tokens.cls[0].cpu().numpy()]
    return np.concatenate([*rows, tokens.grid[0, 0].flatten(0, 1).cpu().numpy()])


def _record(name: str, accepted: str) -> Pretrained:
    if name not in PRETRAINED:
        raise ValueError(unknown("weights", name, PRETRAINED))
    record = PRETRAINED[name]
    if record.must_accept and not accepted:
        raise ValueError(
            f"the licence of {described(record)} must be read and accepted first: {record.licence.summary} Then "
            "say so with --accept-licence"
        )
    _class(record)
    return record


def _expect(record: Pretrained, client: Client) -> dict[str, Any]:
    """Size and checksum of the file, as known beforehand or as the server names them."""
    known = {"size": record.size, "sha256": record.sha256}
    if record.pointer is None:
        return known
    match = POINTER.fullmatch(client.read(record.pointer).decode(errors="replace"))
    if match is None:
        logger.warning("%s: names no checksum; what comes is only checked to fit its network", record.pointer)
        return known
    if record.sha256 not in (None, match["sha256"]):
        raise DownloadError(
            f"{record.pointer}: names SHA-256 {match['sha256']}, but {record.sha256} was published; if the authors "
            f"have replaced the file, get it yourself and run `nearfar weights add {record.name} FILE`"
        )
    return {"size": int(match["size"]), "sha256": match["sha256"]}


def _fetch(url: str, whole: Path, expected: Mapping[str, Any], client: Client) -> None:
    part = whole.with_name(f"{whole.name}.part")
    client.fetch(url, part, name=whole.name, size=expected["size"])
    found = digest_file(part)
    if expected["sha256"] not in (None, found):
        part.unlink()
        raise DownloadError(
            f"{url}: what came has SHA-256 {found}, but {expected['sha256']} was published; removed: run again"
        )
    part.replace(whole)


def _store(record: Pretrained, file: Path, origin: Mapping[str, Any], accepted: str) -> Path:
    """Check that its encoder loads the file, and put it in its folder with what is known of it."""
    from nearfar.encoders import checkpoints

    parameters = _load(record, file)
    folder = weights_folder() / record.name
    with atomic_folder(folder, replace=True) as staged:
        new = staged / FILE
        if file.suffix in checkpoints.SAFETENSORS:
            shutil.copyfile(file, new)
        else:
            checkpoints.write(new, checkpoints.read(file), configuration=checkpoints.configuration(file))
        known = {"name": record.name, "file": FILE, **_identity(new), "parameters": parameters}
        licence = {"name": record.licence.name, "url": record.licence.url, "accepted": accepted}
        came = {"file": file.name, **_identity(file), **origin}
        write_json(staged / RECORD, {**known, "origin": came, "licence": licence})
    return folder / FILE


def _identity(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": digest_file(file)}


def _load(record: Pretrained, file: Path) -> int:
    """How many parameters the network has that loads this file; raises if there is none, or it is another."""
    from nearfar.encoders.checkpoints import CheckpointError

    found = _encoder(record, file).parameters
    if found != record.parameters:
        like = (r for r in PRETRAINED.values() if (r.encoder, r.parameters) == (record.encoder, found))
        others = ", ".join(repr(other.name) for other in like) or "none that are known"
        raise CheckpointError(
            f"{file}: a network with {found:,} parameters, but the weights {record.name!r} have "
            f"{record.parameters:,}; as many have: {others}"
        )
    return found


def _encoder(record: Pretrained, file: Path) -> Frozen:
    """The encoder of these weights, which loads them from this file."""
    encoder = _class(record)(weights=record.name)  # type: ignore[call-arg]
    encoder.path = file
    return encoder


def _class(record: Pretrained) -> type[Frozen]:
    """The class of the encoder of these weights; an error if torch is not installed, which it needs."""
    return cast("type[Frozen]", encoder_class(record.encoder))
