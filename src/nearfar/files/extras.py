"""Optional packages: whatever needs one asks for it by name, and says how to install it.

``pip install nearfar`` leaves out what the default system does without. What needs more is loaded with ``resolve``,
so that a missing package ends in one clear error, before any work.
"""

from __future__ import annotations

import pkgutil
from importlib.util import find_spec
from typing import Any, NamedTuple


class Extra(NamedTuple):
    """The extra of this package that installs an optional package, and what to know before that."""

    name: str
    hint: str


_LIVE = Extra("live", "it hears sound cards; they need PortAudio, too")
_SERVE = Extra("serve", "it answers by HTTP")
_DAQ = Extra("daq", "it reads files of data acquisition: TDMS, UFF 58, MDF, HDF5, MATLAB 7.3")
_EXPORT = Extra("export", "it writes detectors as ONNX files")
EXTRAS = {  # by the name under which the package is imported
    "torch": Extra(
        "networks",
        "without a GPU, install a CPU build of torch first: it saves gigabytes of CUDA libraries",
    ),
    "nptdms": _DAQ,
    "pyuff": _DAQ,
    "asammdf": _DAQ,
    "h5py": _DAQ,
    "sounddevice": _LIVE,
    "paho": Extra("mqtt", "it tells alerts by MQTT"),
    "prometheus_client": Extra("prometheus", "it offers metrics"),
    "pg8000": Extra("postgres", "it keeps the logbook in PostgreSQL"),
    "fastapi": _SERVE,
    "uvicorn": _SERVE,
    "ray": Extra("ray", "it does tasks on a cluster"),
    "onnx": _EXPORT,
    "onnxruntime": _EXPORT,
}


class MissingPackageError(ImportError):
    """An optional package is needed and not installed; the message says by what, and how to install it."""


def is_installed(name: str) -> bool:
    """Whether a package can be imported; it is not loaded.

    Examples
    --------
    >>> from nearfar.files.extras import is_installed
    >>> is_installed("numpy"), is_installed("no_such_package")
    (True, False)
    """
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # one that is hidden, or half there
        return False


def resolve(name: str, *, needed_by: str) -> Any:
    """Load an object by its import path.

    Parameters
    ----------
    name : str
        Such as ``"nearfar.encoders.spectral:Spectral"``.
    needed_by : str
        What the user asked for: the message begins with it, such as ``"encoder 'eat'"``.

    Raises
    ------
    MissingPackageError
        If it needs a package of ``EXTRAS`` that is not installed. A package that is installed and fails to import
        raises its own error.
    """
    try:
        return pkgutil.resolve_name(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = EXTRAS[error.name]
        raise MissingPackageError(
            f"{needed_by} needs {error.name}, which is not installed; install it with: "
            f"pip install 'nearfar[{extra.name}]' ({extra.hint})",
            name=error.name,
        ) from error
