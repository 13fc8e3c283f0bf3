"""A detector on disk: a folder of ``detector.json`` and ``arrays.safetensors``, and sounds in ``normal``.

There is no pickle in it, so loading one executes nothing. All files carry a digest. Sounds of normal clips came
later than format 7 did; a version that does not know them leaves them aside. Since format 7 it holds its
history, and what it takes to learn more (``detector.keeping``). Format 6 can hold a fused system, with the scores
that are the scale of its parts. Since format 5 it holds domain and group of the clips behind the threshold, and
which clips were kept together. Since format 4 it holds what the training clips have in common
(``recordings.inspection.usual``); format 3 held the level of near over far only. Since format 3 it holds the
resolved system: the value of every option. Format 2 held the system's file, without the defaults; format 1 had one
branch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nearfar import __version__
from nearfar.backends import FORMER_NAMES, part
from nearfar.decisions.calibration import Calibration
from nearfar.detector.normal_sounds import FOLDER as SOUNDS
from nearfar.encoders.pretrained import WeightsError
from nearfar.files.arrays import save_arrays
from nearfar.files.atomic import atomic_folder, refuse_existing, write_json
from nearfar.files.digests import digest, digest_file
from nearfar.files.extras import MissingPackageError
from nearfar.files.provenance import library_versions
from nearfar.systems.configuration import System
from nearfar.systems.resolved import ResolvedSystem, former_defaults, resolve

FORMAT = 7
RESOLVED_FORMAT = 3  # the first with a resolved system
GROUPS_FORMAT = 5  # the first that may keep clips together for the threshold
DESCRIPTION, ARRAYS = "detector.json", "arrays.safetensors"
FILES = {DESCRIPTION, ARRAYS}
SOUND = re.compile(r"[0-9a-f]{16}\.flac")  # of a normal clip


class DetectorError(ValueError):
    """A detector's folder cannot be used; the message says why and what to do."""


def write(
    folder: Path,
    content: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    sounds: Mapping[str, bytes],
    *,
    take_place: bool,
) -> None:
    """Write a detector's folder: whole, or not at all.

    Parameters
    ----------
    folder : Path
    content : mapping
        Of ``detector.json``, JSON-able; format, versions and digests are added.
    arrays : mapping from name to array
    sounds : mapping from name of a file, below the folder, to its content
    take_place : bool
        Of a detector that is there.
    """
    with atomic_folder(folder, replace=take_place) as unfinished:
        save_arrays(unfinished / ARRAYS, arrays)
        for name, sound in sounds.items():
            (unfinished / name).parent.mkdir(exist_ok=True)
            (unfinished / name).write_bytes(sound)
        written = {
            "format": FORMAT,
            **content,
            "versions": {"nearfar": __version__, **library_versions()},
            "arrays": digest_file(unfinished / ARRAYS),
        }
        write_json(unfinished / DESCRIPTION, {**written, "digest": digest(written)})


def refuse_to_replace(folder: Path, *, replace: bool) -> None:
    """Raise before a fit whose detector would have no place, or would take that of something else.

    Raises
    ------
    FileExistsError
        If the folder is there, unless ``replace`` is asked for and it holds a detector and nothing else.
    """
    if folder.exists() and not (folder.is_dir() and all(map(_is_of_detector, folder.iterdir()))):
        raise FileExistsError(
            f"{folder} is there and is not a detector, so it is not replaced; choose another name"
        )
    refuse_existing(folder, replace=replace)


def _is_of_detector(path: Path) -> bool:
    """Whether something in a folder is what a detector has there."""
    if path.name == SOUNDS and path.is_dir():
        return all(SOUND.fullmatch(sound.name) for sound in path.iterdir())
    return path.name in FILES


def read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The content of ``detector.json``, and the arrays under the names of the present format.

    Raises
    ------
    FileNotFoundError
        If there is no detector.
    DetectorError
        If it is damaged, or of a newer format.
    """
    content = _read_description(folder)
    arrays = _read_arrays(folder, content["arrays"])
    if content["format"] == 1:  # a detector had one branch
        arrays = {name.replace("branch.", "branches.0.", 1): array for name, array in arrays.items()}
        arrays["self_check.embeddings.0"] = arrays["self_check.embedding"]
    return content, arrays


def read_system(content: Mapping[str, Any], folder: Path) -> ResolvedSystem:
    """The resolved system of a detector of any format.

    Raises
    ------
    WeightsError
        If pretrained weights are not on this computer; says how to get them.
    MissingPackageError
        If it needs torch, and torch is not installed.
    DetectorError
        If it is made of something that is not known here, or the weights here are other ones.
    """
    try:
        is_old = content["format"] < RESOLVED_FORMAT
        content = {**content, "system": _with_present_names(content["system"])}
        resolved = _read_old_system(content) if is_old else ResolvedSystem.restore(content["system"])
        resolved = resolved.with_former_choices()
        if content["format"] < GROUPS_FORMAT:
            random = resolved.threshold.model_copy(update={"folds_by": "random"})
            resolved = replace(resolved, threshold=random)
    except WeightsError:
        raise
    except MissingPackageError as error:
        raise MissingPackageError(f"{folder}: {error}", name=error.name) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DetectorError(
            f"{folder}: made from a system that nearfar {__version__} does not know ({_describe(error)}); install "
            "the version that made it, or a newer one"
        ) from error
    _refuse_other_weights(resolved, content["trained_on"].get("weights"), folder)
    return resolved


def _with_present_names(system: Any) -> Any:
    """The system of a file, with back ends by the names of today: those of its time are no fault of its user."""
    if isinstance(system, Mapping):
        return {
            key: _named_today(value) if key.rpartition(".")[2] == "backend" else _with_present_names(value)
            for key, value in system.items()
        }
    return [_with_present_names(part) for part in system] if isinstance(system, list) else system


def _named_today(backend: Any) -> Any:
    """A back end, by name or as a table of name and options."""
    if isinstance(backend, Mapping):
        return {**_with_present_names(backend), "name": FORMER_NAMES.get(backend["name"], backend["name"])}
    return FORMER_NAMES.get(backend, backend)


def _read_old_system(content: Mapping[str, Any]) -> ResolvedSystem:
    """Of format 1 or 2, with the defaults of that time."""
    system = System.model_validate(content["system"])
    resolved = resolve(system, seed=content["trained_on"]["seed"], defaults=former_defaults)
    adapters = content["trained_on"].get("adapters") or [None] * len(resolved.branches)
    branches = (
        replace(b, adapter_digest=None if told is None else told["digest"])
        for b, told in zip(resolved.branches, adapters, strict=True)
    )
    return replace(resolved, branches=tuple(branches))


def _describe(error: Exception) -> str:
    """What is wrong with a system, in one line."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"missing {error}" if isinstance(error, KeyError) else str(error)


def _refuse_other_weights(
    system: ResolvedSystem, fitted_with: Sequence[str | None] | None, folder: Path
) -> None:
    """Raise if the files of the encoders are not those of the fit."""
    expected = fitted_with or [None] * len(system.branches)
    for branch, said in zip(system.branches, expected, strict=True):
        path = branch.encoder.make().path
        if path is not None and digest_file(path) != said:
            raise DetectorError(
                f"{folder}: fitted with other weights than those in {path}; bring back the ones with SHA-256 "
                f"{said}, or fit it again"
            )


def trained_on(content: Mapping[str, Any]) -> dict[str, Any]:
    """What it was fitted to. Before format 4 no clip was left out, and faults were those of microphones."""
    told = dict(content["trained_on"])
    faults = told.pop("microphone_faults", {})
    return {"faults": faults, "left_out": [], "unlike": [], "taken": {}, **told}


def history(content: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """What was added when. Before format 7 it was not told: then there is the fit alone."""
    if "history" in content:
        return tuple(content["history"])
    known, version = content["trained_on"], content["versions"].get("nearfar", "")
    told = {name: known.get(name) for name in ("clips", "domains", "digest")}
    return ({"what": "fit", "when": None, "nearfar": version, **told},)


def calibration(content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Calibration | None:
    """The clips behind the threshold; ``None`` without a threshold, and of what was fitted before format 5."""
    if "threshold.domain" not in arrays:
        return None
    of_threshold = part(arrays, "threshold")
    return Calibration.restore(of_threshold["normal_scores"], of_threshold, content["threshold"])


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if folder.is_file():
        raise FileNotFoundError(
            f"{folder}: a file, not the folder of a detector; give the detector first: "
            "`nearfar score DETECTOR CLIPS`"
        )
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: no detector here ({DESCRIPTION} is missing); fit one with `nearfar fit`, and give the "
            "detector before the clips: `nearfar score DETECTOR CLIPS`"
        )
    damaged = f"{file}: damaged; restore the folder from a copy, or fit the detector again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        said, written = content.pop("digest"), content["format"]
        is_whole = said == digest(content)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise DetectorError(damaged) from error
    if isinstance(written, int) and written > FORMAT:
        raise DetectorError(
            f"{folder}: a detector of format {written}; this nearfar {__version__} reads up to format {FORMAT}: "
            "install a newer nearfar"
        )
    if not is_whole:
        raise DetectorError(damaged)
    return content


def _refuse_constant(name: str) -> float:
    """NaN and infinities, which Python reads in JSON, and which nothing writes here."""
    raise ValueError(f"{name} is no number of JSON")


def _read_arrays(folder: Path, said: str) -> dict[str, NDArray[Any]]:
    file = folder / ARRAYS
    try:
        if digest_file(file) == said:
            return load_file(file)
    except (FileNotFoundError, SafetensorError) as error:
        raise DetectorError(f"{file}: missing or unreadable; restore it from a copy, or fit again") from error
    raise DetectorError(f"{file}: damaged (its digest has changed); restore it from a copy, or fit again")
