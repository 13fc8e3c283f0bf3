"""Files in which people say what they want: systems, fused systems, studies, sites."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fuzz import damage
from fuzz.surfaces import Surface
from nearfar.research import fused
from nearfar.research.reproduce import files as published
from nearfar.research.reproduce.catalogue import STUDIES
from nearfar.systems import configuration, fusion, named
from nearfar.systems.resolved import resolve
from nearfar.watching import site

SITE = """
name = "Hall 3"
state = "hall3.db"
sounds = "kept/sounds"
time_zone = "Europe/Berlin"
keep_windows = "3 weeks"
keep_sounds = "5 GiB"
[defaults]
false_alerts = "1  per 7 days"
window = 10
[machines.pump-1]
detector = "detector"
source = { kind = "replay", folder = "recordings/pump-1", speed = "max" }
hop = "5 s"
pauses = ["Sat 00:00 - Mon 05:00"]
no_sound_after = "20 min"
began = "%Y%m%d_%H%M%S"
[machines."fan 2"]
detector = "detector"
source = { kind = "folder", folder = "recordings/fan" }
false_alerts = "1 per 30 days"
[sinks.file]
kind = "jsonl"
path = "told.jsonl"
[serve]
port = 0
"""
STUDY = """
name = "near_and_far"
summary = "Does the far microphone add to the near one?"
protocol = "cross-fitted, leave one machine out"
seeds = [1, 2]
[fusion]
weights = { near = 0.5, far = 0.5 }
step = 0.25
calibration = "own_normals"
[branches.near]
system = "spectral"
[branches.near.settings]
"branch.view" = "near"
"threshold.folds" = 2
[branches.far]
system = "spectral"
[branches.far.settings]
"branch.view" = "far"
"""
GOLDEN = Path(__file__).parents[1] / "golden" / "detectors" / "spectral"


def _systems(folder: Path) -> None:
    for name in ("spectral", "baseline_mahalanobis", "dca_1"):
        shutil.copyfile(named.SYSTEMS[name], folder / f"{name}.toml")


def systems(case: Path) -> Any:
    """Each is read; what can be resolved without weights is."""
    found = []
    for path in sorted(case.glob("*.toml")):
        system = fusion.load_any(path)
        found.append(system.name)
        if path.stem == "spectral" and isinstance(system, configuration.System):
            _resolved(system, path)
    return found


def _resolved(system: configuration.System, path: Path) -> None:
    """A system whose values are wrong together is told by what resolves it, which knows no file."""
    try:
        resolve(system, seed=0)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def _studies(folder: Path) -> None:
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    shutil.copyfile(next(iter(STUDIES.values())), folder / "published.toml")


def studies(case: Path) -> Any:
    """A study of one's own, and a published one."""
    return [fused.load(case / "study.toml").name, published.load(str(case / "published.toml")).name]


def fused_system(case: Path) -> Any:
    """The study as a system that can be fitted."""
    return fusion.load(case / "study.toml").name


def _site(folder: Path) -> None:
    (folder / "site.toml").write_text(SITE, encoding="utf-8")
    shutil.copytree(GOLDEN, folder / "detector")
    for name in ("pump-1", "fan"):
        (folder / "recordings" / name).mkdir(parents=True)


def sites(case: Path) -> Any:
    """A site, and its file written again."""
    found = site.load(case / "site.toml")
    return [found.name, len(site.as_toml(found))]


WAYS = {".toml": (damage.settings,)}
SURFACES = (
    Surface("systems", _systems, ("*.toml",), {"systems": systems}, WAYS),
    Surface("studies", _studies, ("*.toml",), {"studies": studies, "fused_system": fused_system}, WAYS),
    Surface("sites", _site, ("site.toml",), {"sites": sites}, WAYS),
)
