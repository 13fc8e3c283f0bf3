"""What the examples of the pages find in their working folder, under the names that the pages use.

``write_recordings`` is for all pages. A page that needs more has a function in ``PREPARE``. It runs in the folder.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from synthetic import RATE, clip, write_machine
from test_submission import rows_of, write_result
from typer.testing import CliRunner

from nearfar.challenge.schema import CLIP_NAMES, DEVELOPMENT_MACHINES, EVALUATION_MACHINES
from nearfar.cli import app
from nearfar.recordings import audio
from nearfar.simulation import simulate

MACHINES = ("bearing", "fan", "gearbox", "pump")
NORMAL_CLIPS = 24  # enough for a false-alarm rate of 5 %
NAMED_FILE = re.compile(
    r"^```(?:toml|yaml)\n(?P<content># (?P<file>\S+\.(?:toml|yaml))\n.*?)^```$", re.MULTILINE | re.DOTALL
)


def write_recordings(folder: Path) -> None:
    """Write ``plant`` and ``hall``, data sets of four machines; and recordings of a press."""
    for machine in MACHINES:
        write_machine(folder / "plant", machine, target=8)
    shutil.copytree(folder / "plant", folder / "hall")
    for i in range(NORMAL_CLIPS):
        path = folder / "recordings" / "press" / "normal" / f"{i:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, clip(i), RATE)
    audio.write(folder / "new.wav", clip(NORMAL_CLIPS, faulty=True), RATE)
    shutil.copytree(folder / "recordings" / "press", folder / "press")
    (folder / "today").mkdir()
    shutil.copy(folder / "new.wav", folder / "today" / "1000.wav")


def smaller(page: Path) -> str:
    """The text of a page, with as little to compute as shows that its blocks run."""
    text = page.read_text(encoding="utf-8")
    if page.name in SMALLER:
        there, instead = SMALLER[page.name]
        assert there in text, f"{page.name} has no {there!r} any more"
        text = text.replace(there, instead)
    return text


def write_named_files(page: str, folder: Path) -> None:
    """Write the TOML and YAML blocks of a page that begin with a comment ``# FILE``."""
    for block in NAMED_FILE.finditer(page):
        (folder / block["file"]).write_text(block["content"])


def _submitted(folder: Path) -> None:
    """Random results of two systems on the challenge's machines."""
    rng = np.random.default_rng(0)
    development = ["section_00_source_test_normal_0000.wav"]
    for system in ("spectral", "near"):
        rows = [
            rows_of(m, development, 0, rng, domain="source", label="normal") for m in DEVELOPMENT_MACHINES
        ]
        metrics = pd.DataFrame({"seed": 0, "machine": DEVELOPMENT_MACHINES, "section": 0})
        metrics[["auc_source", "auc_target", "pauc"]] = 0.5
        (folder / "results").mkdir(exist_ok=True)
        write_result(folder / "results" / f"{system}-dev", pd.concat(rows), metrics=metrics, name=system)
        rows = [rows_of(m, CLIP_NAMES, 0, rng) for m in EVALUATION_MACHINES]
        write_result(folder / "results" / f"{system}-eval", pd.concat(rows), name=system)
    shutil.copy(folder / "meta.yaml", folder / "meta-near.yaml")


def _fused(folder: Path) -> None:
    """A ``hall`` of as few machines as nested selection takes, and the results of the study on the page."""
    (folder / "hall").unlink()
    for machine in MACHINES[:3]:
        write_machine(folder / "hall", machine, train=12, target=8, test=2)
    done = CliRunner().invoke(app, ["run", "beside_cancelled.toml", "--data", "hall", "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert (folder / "results" / "beside_cancelled").is_dir()


def _simulated(folder: Path) -> None:
    """A simulated ``hall`` with sources, in place of the synthetic one."""
    (folder / "hall").unlink()
    simulate(
        folder / "hall", machines=["gearbox"], source_clips=1, target_clips=1, test_clips=5, seconds=1.0,
        sources=True, seed=1, workers=1,
    )  # fmt: skip


def _pickled(folder: Path) -> None:
    """Weights as other projects publish them."""
    torch.save({"model": {"layer.weight": torch.eye(2)}}, folder / "OLD.pt")


def _later(folder: Path) -> None:
    """Normal recordings of the fan that its training clips do not contain."""
    (folder / "later").mkdir()
    for i in range(NORMAL_CLIPS):
        audio.write(folder / "later" / f"{i:04d}.wav", clip(77_000 + i, speed=1.1), RATE)


def _hours(folder: Path) -> None:
    """Two long recordings of a machine: a minute each stands for hours."""
    (folder / "hours").mkdir()
    for day, first in (("monday", 0), ("tuesday", 1000)):
        samples = np.concatenate([clip(first + second) for second in range(60)], axis=1)
        audio.write(folder / "hours" / f"{day}.wav", samples, RATE)


def _scored(folder: Path) -> None:
    """A table of scores over two weeks."""
    rng = np.random.default_rng(0)
    rows = {
        "recording": "hall.wav", "start": 3600 * np.arange(14 * 24), "score": rng.normal(1, 0.1, 14 * 24),
        "p_value": np.nan, "decision": "normal", "near_dbfs": rng.normal(-40, 1, 14 * 24),
    }  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)


def _new_speed(folder: Path) -> None:
    """Normal recordings of the fan at another speed."""
    (folder / "new-speed").mkdir()
    for i in range(NORMAL_CLIPS):
        audio.write(folder / "new-speed" / f"{i:04d}.wav", clip(78_000 + i, speed=1.3), RATE)


def _result(folder: Path) -> None:
    """A result of two branches."""
    shutil.copytree(Path(__file__).parent / "golden" / "fused_result", folder / "results" / "near_and_far")


# Of a page: what a block computes with, and what takes less time, by the same code
SMALLER = {
    "simulator.md": (
        "source_clips=20, target_clips=5, test_clips=10, seconds=4.0",
        "test_clips=1, seconds=0.5",
    ),
    "studies.md": (
        '"domain_normalized", "nearest_neighbour", "domain_local_density"',
        '"domain_normalized", "nearest_neighbour"',
    ),
}

PREPARE: dict[str, Callable[[Path], None]] = {
    "challenge.md": _submitted,
    "drift.md": _scored,
    "false-alarms.md": _later,
    "figures.md": _result,
    "long-recordings.md": _hours,
    "learning.md": _new_speed,
    "report.md": _result,
    "simulator.md": _simulated,
    "studies.md": _fused,
    "weights.md": _pickled,
}
