"""Detectors: whatever is wrong with a folder, no score comes of it that the whole one would not give."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from synthetic import RATE, clip, write_machine

from fuzz import damage
from fuzz.surfaces import Surface
from nearfar.detector.fitted import Detector
from nearfar.evidence.explanation import explain
from nearfar.recordings import audio
from nearfar.recordings.clips import Clip
from nearfar.recordings.datasets import load_machine
from nearfar.systems import configuration, fusion

FOLDER = TemporaryDirectory(prefix="nearfar-fuzz-detectors-")
GOLDEN = Path(__file__).parents[1] / "golden" / "detectors"
SMALL: dict[str, Any] = {
    "branch.encoder_options.n_mels": 8,
    "branch.encoder_options.n_fft": 512,
    "branch.pooling": "mean_std",
    "threshold.folds": 4,
    "threshold.false_alarm_rate": 0.1,
}
FUSED = """
name = "near_far"
summary = "two microphones"
seeds = [0]
[fusion]
weights = "equal"
calibration = "own_normals"
[branches.near]
system = "spectral"
[branches.near.settings]
"branch.view" = "near"
"branch.encoder_options.n_mels" = 8
"threshold.folds" = 4
[branches.far]
system = "spectral"
[branches.far.settings]
"branch.view" = "far"
"branch.encoder_options.n_mels" = 8
"threshold.folds" = 4
"""


@cache
def data() -> Path:
    """Recordings of a machine, made once."""
    return write_machine(Path(FOLDER.name), "fan", train=16, target=4, test=1, seconds=0.5)


@cache
def fitted() -> Path:
    """Two detectors that differ in a setting: the second is what files are exchanged with."""
    for name, bands in (("detector", 8), ("other", 16)):
        system = configuration.load("spectral", SMALL | {"branch.encoder_options.n_mels": bands})
        Detector.fit(load_machine(data()), system).save(Path(FOLDER.name) / name)
    return Path(FOLDER.name)


@cache
def fused() -> Path:
    """A detector of a fused system."""
    path = Path(FOLDER.name) / "fused.toml"
    path.write_text(FUSED, encoding="utf-8")
    Detector.fit(load_machine(data()), fusion.load(path)).save(Path(FOLDER.name) / "fused")
    return Path(FOLDER.name) / "fused"


def _sounds(folder: Path) -> None:
    audio.write(folder / "new.wav", clip(77, seconds=0.5), RATE)


def _spectral(folder: Path) -> None:
    for name in ("detector", "other"):
        shutil.copytree(fitted() / name, folder / name)
    _sounds(folder)


def _fused(folder: Path) -> None:
    shutil.copytree(fused(), folder / "detector")
    _sounds(folder)


def _golden(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        shutil.copytree(GOLDEN / name, folder / "detector")
        audio.write(folder / "new.wav", clip(77, seconds=2.0), RATE)

    return make


def scored(case: Path) -> Any:
    """Score, p-value and decision of a recording."""
    verdict = Detector.load(case / "detector").score_file(case / "new.wav")
    return [verdict.score, verdict.p_value, verdict.decision, verdict.error]


def explained(case: Path) -> Any:
    """The same with all that speaks for it; what is damaged of the normal sounds is told."""
    told = explain(Detector.load(case / "detector"), case / "new.wav").content()
    return [told["score"], told["decision"]]


def learnt(case: Path) -> Any:
    """It learns a recording, and is saved."""
    loaded = Detector.load(case / "detector")
    made = loaded.learn(
        [Clip(case / "new.wav", loaded.machine, 0, "train", "new.wav", label="normal")], domain="target"
    )
    made.save(case / "again")
    return Detector.load(case / "again").score_file(case / "new.wav").score


WAYS = {".json": (damage.values,), ".safetensors": (damage.tensors,)}
FILES = ("detector/*.*",)
SOUNDS = ("detector/normal/*",)
COMMANDS = (("score", "detector", "new.wav", "--json"),)

SURFACES = (
    Surface(
        "detector",
        _spectral,
        FILES,
        {"scored": scored, "explained": explained, "learnt": learnt},
        WAYS,
        COMMANDS,
        True,
    ),
    Surface(
        "detector-sounds", _spectral, SOUNDS, {"scored": scored, "explained": explained}, WAYS, COMMANDS, True
    ),
    Surface("detector-fused", _fused, FILES, {"scored": scored}, WAYS, COMMANDS, True),
    *(
        Surface(f"detector-{name}-old", _golden(name), FILES, {"scored": scored}, WAYS, (), True)
        for name in ("spectral", "wrapped")
    ),
)
