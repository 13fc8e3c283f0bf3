"""A small data set in the challenge's layout, quick to write: tones in noise that both microphones hear."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nearfar.recordings import audio

RATE = 16000


def clip(seed: int, *, faulty: bool = False, seconds: float = 1.0, speed: float = 1.0) -> audio.Samples:
    """(2, samples): harmonics at the near microphone, coloured noise at both; a fault adds a rattle."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    orders = np.arange(1, 8)
    machine = np.sin(2 * np.pi * 120 * speed * orders[:, None] * time + rng.uniform(0, 6, (7, 1))).T @ (
        1 / orders
    )
    if faulty:
        machine = machine + 1.5 * rng.normal(size=len(time)) * (np.sin(2 * np.pi * 25 * time) > 0.9)
    noise = np.convolve(rng.normal(size=len(time) + 8), rng.uniform(0.5, 1, 9), "valid")
    near = machine + 0.5 * noise + 0.05 * rng.normal(size=len(time))
    far = 0.1 * machine + noise + 0.05 * rng.normal(size=len(time))
    return (0.5 * np.stack([near, far]) / 12).astype(np.float32)


def write_machine(
    root: Path, name: str, *, train: int = 24, target: int = 4, test: int = 3, seconds: float = 1.0
) -> Path:
    """Write ``root/name`` with source and target training clips, and ``test`` clips in each of the four cells."""
    start = sum(map(ord, name))
    (root / name / "train").mkdir(parents=True)
    (root / name / "test").mkdir()
    cells = [("source", "train", "normal", train), ("target", "train", "normal", target)]
    cells += [(d, "test", label, test) for d in ("source", "target") for label in ("normal", "anomaly")]
    for k, (domain, split, label, count) in enumerate(cells):
        for i in range(count):
            speed = 1.0 if domain == "source" else 1.2
            samples = clip(
                1000 * start + 100 * k + i, faulty=label == "anomaly", seconds=seconds, speed=speed
            )
            file = f"section_00_{domain}_{split}_{label}_{i:04d}_speed_{speed:g}.wav"
            audio.write(root / name / split / file, samples, RATE)
    return root / name


def hide_faults(folder: Path) -> None:
    """Replace every other anomalous clip of a machine by a normal one, so that nothing detects them all."""
    paths = sorted((folder / "test").glob("*_anomaly_*"))
    for i, path in enumerate(paths[::2]):
        speed = 1.0 if "_source_" in path.name else 1.2
        audio.write(path, clip(50 + i, seconds=audio.read_header(path).seconds, speed=speed), RATE)
