"""Weights from a file to a network: tensors alone, and every one of them in its place.

Conventions
-----------
A checkpoint is a ``.safetensors`` file, or a file of ``torch.save`` that holds nothing but tensors and plain
values; no code of a file is ever run. Loading is strict: names and shapes are exactly those of the network.
"""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nearfar.files.arrays import errors_of_the_system

T = TypeVar("T")

SAFETENSORS = (".safetensors",)
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
NESTED = ("model", "state_dict")  # where the tensors of a training checkpoint are
CONFIGURED = ("cfg", "args", "config")  # and what the network was made with
CONFIGURATION = "configuration"  # the same, in the metadata of a safetensors file
SHOWN = 6  # names of a group in an error

CONVERT = """\
It may hold more than tensors, and reading that would run code that came with the file. If you trust it, convert it
where the packages that it was saved with are installed, then give the new file:
    import torch
    from safetensors.torch import save_file
    saved = torch.load("OLD.pt", map_location="cpu", weights_only=False)
    tensors = saved.get("model", saved)
    tensors = {name: t.contiguous().clone() for name, t in tensors.items() if torch.is_tensor(t)}
    save_file(tensors, "NEW.safetensors")"""


class CheckpointError(ValueError):
    """A file of weights that cannot be read, or that is not of this network."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; those of a training checkpoint are looked for in it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is no checkpoint, is damaged, or holds more than tensors and plain values.
    """
    if path.suffix in SAFETENSORS:
        return _safe(path, lambda: load_file(path))
    found = _unpickle(path)
    while key := next((k for k in NESTED if isinstance(found.get(k), Mapping)), None):
        found = found[key]
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path}: holds no tensors under {', '.join(map(repr, NESTED))}, but {sorted(map(str, found))[:SHOWN]}"
        )
    return tensors


def configuration(path: Path) -> dict[str, Any]:
    """What a checkpoint says its network was made with; empty if it says nothing.

    Raises
    ------
    FileNotFoundError, CheckpointError
        As ``read``.
    """
    if path.suffix in SAFETENSORS:
        return _safe(path, lambda: dict(json.loads(_metadata(path).get(CONFIGURATION, "{}"))))
    found = _unpickle(path)
    return next((dict(found[k]) for k in CONFIGURED if isinstance(found.get(k), Mapping)), {})


def _unpickle(path: Path) -> Mapping[str, Any]:
    if path.suffix not in PICKLED:
        raise CheckpointError(f"{path}: a file of weights ends in {', '.join(SAFETENSORS + PICKLED)}")
    found = _safe(path, lambda: torch.load(path, map_location="cpu", weights_only=True))
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, not tensors by name")
    return found


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _safe(path: Path, load: Callable[[], T]) -> T:
    """What ``load`` reads, or an error that says what is the matter with the file."""
    try:
        return load()
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: cannot be read as tensors alone. {CONVERT}") from error
    except Exception as error:  # of libraries, which raise whatever a damaged file leads to
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which says what is wrong
            raise
        raise CheckpointError(
            f"{path}: damaged, or not what its name says ({error}); get it again"
        ) from error


def write(path: Path, tensors: Mapping[str, Tensor], *, configuration: Mapping[str, Any]) -> None:
    """A safetensors file that ``read`` and ``configuration`` read again."""
    own = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {CONFIGURATION: json.dumps(configuration, sort_keys=True)} if configuration else {}
    with errors_of_the_system(path):
        save_file(own, path, metadata={"format": "pt", **metadata})


def matched(
    tensors: Mapping[str, Tensor], network: nn.Module, *, where: str, dropped: tuple[str, ...] = ()
) -> None:
    """Load tensors into a network, strictly; they are copied, and become of the network's dtypes.

    Parameters
    ----------
    tensors : name -> tensor
    network : nn.Module
        May be on the ``meta`` device.
    where : str
        What an error begins with: the file.
    dropped : prefixes of names
        Tensors that are not wanted. All others must be there, with the names and shapes of
        ``network.state_dict()``, and no others.

    Raises
    ------
    CheckpointError
        Otherwise; lists what is missing, unexpected, and of another shape.
    """
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith(dropped)}
    wanted = network.state_dict()
    if differences := _differences(given, wanted):
        listed = "; ".join(f"{len(names)} {kind} ({_list(names)})" for kind, names in differences.items())
        raise CheckpointError(f"{where}: not the weights of this network: {listed}")
    copies = {name: given[name].detach().to(wanted[name].dtype, copy=True) for name in wanted}
    network.load_state_dict(copies, strict=True, assign=True)


def _differences(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """What is missing, unexpected or of another shape; empty kinds are left out."""
    both = [name for name in wanted if name in given and _form(given[name]) != _form(wanted[name])]
    found = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "of another shape": [f"{n}: {_form(given[n])} instead of {_form(wanted[n])}" for n in both],
    }
    return {kind: names for kind, names in found.items() if names}


def _form(tensor: Tensor) -> str:
    """Shape, and kind of number where it is not the usual one."""
    shape = str(tuple(tensor.shape))
    return shape if tensor.is_floating_point() else f"{shape} of {tensor.dtype}"


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f", and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
