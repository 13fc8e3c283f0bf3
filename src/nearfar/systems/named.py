"""The named systems, one TOML file each: what the reports submitted, the official baselines, our own.

Reading what they need loads neither NumPy nor pydantic, so that a list of them appears at once.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

DEFAULT = "spectral"
SEED = 13711  # of the official baseline


def _files(folder: str) -> dict[str, Path]:
    """The TOML files of a folder of this room, by name."""
    found = sorted((resources.files(__package__) / folder).iterdir(), key=str)
    return {Path(str(file)).stem: Path(str(file)) for file in found if str(file).endswith(".toml")}


SYSTEMS = _files("")
FUSED = _files("fused")  # systems of several branches, which ``research.fused`` runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a system costs.

    Attributes
    ----------
    channels : int
    weights, training : str
    minutes : float
        To fit a machine of 1,000 clips of 10 s.
    adapter_minutes : float
        To train an adapter before that, over 7,000 clips of 10 s; 0 if there is none.
    measured_on : str
    """

    channels: int
    weights: str
    training: str
    minutes: float
    adapter_minutes: float = 0.0
    measured_on: str


@dataclass(frozen=True, slots=True)
class SystemDescription:
    """What a list of systems shows of one: its name, what it is, what it needs, the names of its presets."""

    name: str
    summary: str
    needs: Needs
    presets: tuple[str, ...] = ()


def describe() -> list[SystemDescription]:
    """All named systems, read without loading what they are made of."""
    contents = [read_toml(path) for path in (*SYSTEMS.values(), *FUSED.values())]
    return [
        SystemDescription(c["name"], c["summary"], Needs(**c["needs"]), tuple(c.get("presets", ())))
        for c in contents
    ]


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises
    ------
    FileNotFoundError
    ValueError
        If it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file; give a name that `nearfar systems` lists, or the path of a TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from error
