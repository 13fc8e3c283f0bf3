"""What is read: a ``Surface`` is a kind of file or folder, how it is made, damaged and used.

Conventions
-----------
``make`` fills a folder with valid files, once. A case is a copy of it in which some files are damaged. ``uses`` are
the public functions that read it, and ``commands`` the command lines; ``{}`` stands for the folder of the case.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz import damage

MODULES = ("sounds", "acquired", "tables", "settings", "detectors", "weights", "kept", "service")


@dataclass(frozen=True)
class Surface:
    """A kind of input.

    Attributes
    ----------
    name : str
    make : callable
        Fills a folder with valid files.
    targets : sequence of str
        Patterns of the files, relative to the folder, of which one or two are damaged.
    uses : mapping from name to callable
        Public functions of a folder; each returns something that JSON can say.
    ways : mapping from a suffix to ways of damage that know the format
        Those of files with that suffix; ``any_bytes`` is always among them.
    commands : sequence of sequence of str
        Command lines, without the name of the program.
    is_guarded : bool
        Whether a damage may not change what is returned: then it is told, or without effect.
    """

    name: str
    make: Callable[[Path], None]
    targets: Sequence[str]
    uses: Mapping[str, Callable[[Path], Any]]
    ways: Mapping[str, Sequence[damage.Way]] = field(default_factory=dict)
    commands: Sequence[Sequence[str]] = ()
    is_guarded: bool = False


def all_surfaces() -> dict[str, Surface]:
    """Every one by name; those whose packages are not installed are left out."""
    found: dict[str, Surface] = {}
    for name in MODULES:
        module = importlib.import_module(f"fuzz.{name}")
        found |= {surface.name: surface for surface in module.SURFACES}
    return found


def damaged(surface: Surface, case: Path, chance: Random) -> list[Path]:
    """Damage one or two files of a case; returns which."""
    found = sorted({path for pattern in surface.targets for path in case.glob(pattern) if path.is_file()})
    chosen = chance.sample(found, min(len(found), chance.choice((1, 1, 1, 2))))
    for path in chosen:
        before = path.read_bytes()
        _damage(surface, path, found, chance)
        if path.is_file() and path.read_bytes() == before:
            path.write_bytes(damage.any_bytes(before, chance))
    return chosen


def _damage(surface: Surface, path: Path, found: Sequence[Path], chance: Random) -> None:
    content = path.read_bytes()
    ways = surface.ways.get(path.suffix, ())
    if ways and chance.random() < 0.6:
        path.write_bytes(chance.choice(ways)(content, chance))
    elif path.suffix in (".sqlite", ".db") and chance.random() < 0.5:
        damage.rows(path, chance)
    elif chance.random() < 0.1:
        other = chance.choice(found)
        path.write_bytes(
            other.read_bytes()
            if chance.random() < 0.5
            else damage.spliced(content, other.read_bytes(), chance)
        )
    elif chance.random() < 0.05:
        chance.choice((_emptied, _gone, _folder_instead))(path)
    else:
        path.write_bytes(damage.any_bytes(content, chance))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _gone(path: Path) -> None:
    path.unlink()


def _folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
