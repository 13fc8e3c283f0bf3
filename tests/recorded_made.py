"""A data set with everything that `nearfar check --page` has a place for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from two_microphones import recording

from nearfar.evidence.recorded import recorded
from nearfar.recordings import audio, datasets
from nearfar.report.pages import page
from nearfar.report.pages import recorded as of_recorded

RATE, N = 16000, 32000
ODD_NAME = "<img src=x onerror=alert(1)>"


def named(what: str) -> str:
    """The name of a training clip of the fan."""
    return {"odd": f"section_00_source_train_normal_0030_{ODD_NAME}_2.wav"}.get(
        what, f"section_00_source_train_normal_{what}_speed_1.wav"
    )


def write_odd_dataset(folder: Path) -> Path:
    """A fan with attributes, a fault, a file that is none and another rate; and a pump with dates in names."""
    train = folder / "fan" / "train"
    for i in range(36):
        domain = "target" if i >= 32 else "source"
        name = f"section_00_{domain}_train_normal_{i:04}_speed_{1 + i % 2}.wav"
        if i != 30:
            audio.write(train / name, recording(np.random.default_rng(i), N), RATE)
    tone = 0.3 * np.sin(2 * np.pi * 3000 * np.arange(N) / RATE) * [[1], [0.2]]
    faulty = np.clip(recording(np.random.default_rng(30), N) + tone, -0.99, 0.99)
    audio.write(train / named("odd"), faulty.astype(np.float32), RATE)
    (train / named("0040")).write_bytes(b"RIFF, and no more")
    audio.write(train / named("0041"), recording(np.random.default_rng(41), N), 48000)
    audio.write(
        folder / "fan" / "test" / "section_00_source_test_normal_0000_speed_1.wav",
        recording(np.random.default_rng(50), N)[::-1], RATE,
    )  # fmt: skip
    for i in range(6):
        name = f"section_00_source_train_normal_{i:04}_on_2026030{1 + i % 2}_10{i:02}00.wav"
        audio.write(folder / "pump" / "train" / name, recording(np.random.default_rng(60 + i), N), RATE)
    return folder


def write_page(folder: Path) -> Path:
    """The page of it."""
    found = recorded(datasets.load_any(write_odd_dataset(folder / "plant <b>")))
    path = folder / "recorded.html"
    page.write(path, of_recorded.page(found, versions={"nearfar": "0"}))
    return path
