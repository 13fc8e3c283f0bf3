"""The embedding store against one .npy a clip.

    python benchmarks/bench_store.py

1,200 two-channel clips, of each two microphones and three (block, pooling) of 1,536 numbers, written in batches of
32 clips. The .npy of a clip has its six embeddings. They are written once as NumPy does it, with no promise, and
once so that each is on disk and whole or absent, as all is in the store. Last the lookup of a second run: SHA-256
of all recordings, remembered by their size and time, and the embeddings. All was just written, so nothing is cold.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.storage import Jobs, atomic_file
from nearfar.store import Key, Origin, Store

CLIPS, DIM, BATCH, REPEATS = 1200, 1536, 32, 5
BLOCKS = (("mean", 11), ("mean", 12), ("std", 12))
ORIGINS = [Origin(encoder="eat", microphone=microphone, code="1") for microphone in ("near", "cancelled")]

Array = NDArray[np.float32]


def batches(audio: list[str]) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, len(audio), BATCH))


def keys(audio: list[str]) -> list[Key]:
    return [Key(a, block, pooling) for a in audio for pooling, block in BLOCKS]


def write_store(store: Store, audio: list[str], numbers: Array) -> None:
    for clips in batches(audio):
        for origin, of_microphone in zip(ORIGINS, numbers.swapaxes(0, 1), strict=True):
            rows = of_microphone[clips].reshape(-1, DIM)
            store.put(origin, dict(zip(keys(audio[clips]), rows, strict=True)))


def read_store(store: Store, audio: list[str]) -> list[Array]:
    asked = keys(audio)
    found = [store.get(origin, asked) for origin in ORIGINS]
    return [one[key] for one in found for key in asked]


def write_files(folder: Path, audio: list[str], numbers: Array) -> None:
    for name, of_clip in zip(audio, numbers, strict=True):
        np.save(folder / f"{name}.npy", of_clip)


def write_whole_files(folder: Path, audio: list[str], numbers: Array) -> None:
    for name, of_clip in zip(audio, numbers, strict=True):
        with atomic_file(folder / f"{name}.npy") as part, part.open("wb") as file:
            np.save(file, of_clip)


def read_files(folder: Path, audio: list[str]) -> list[Array]:
    return [np.load(folder / f"{name}.npy") for name in audio]


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def fastest(function: Callable[[], object]) -> float:
    return min(seconds(function) for _ in range(REPEATS))


def main() -> None:
    numbers = np.random.default_rng(0).normal(size=(CLIPS, len(ORIGINS), len(BLOCKS), DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = [folder / f"{number}.wav" for number in range(CLIPS)]
        for number, recording in enumerate(recordings):
            recording.write_text(str(number))
        jobs, store = Jobs(folder / "cache"), Store(folder / "cache")
        audio = jobs.digests_of(recordings)
        (folder / "npy").mkdir()
        (folder / "whole").mkdir()
        written = {
            "store": seconds(lambda: write_store(store, audio, numbers)),
            "a .npy a clip": seconds(lambda: write_files(folder / "npy", audio, numbers)),
            "a .npy a clip, whole or absent": seconds(
                lambda: write_whole_files(folder / "whole", audio, numbers)
            ),
        }
        read = {
            "store": fastest(lambda: read_store(store, audio)),
            "a .npy a clip": fastest(lambda: read_files(folder / "npy", audio)),
        }
        lookup = fastest(lambda: read_store(store, jobs.digests_of(recordings)))
        verified = seconds(store.verify)
        n_files = len([*store.folder.iterdir()])
    size = numbers.nbytes / 1e6
    print(f"{numbers.size // DIM} embeddings of {CLIPS} clips, {size:.0f} MB; the store has {n_files} files")
    print(f"{'':<40}write, s  x store   read, s  x store")
    for row, took in written.items():
        told = f"{read[row]:10.3f}{read[row] / read['store']:9.1f}" if row in read else ""
        print(f"{row:<38}{took:10.3f}{took / written['store']:9.1f}{told}")
    print(f"second run, recordings looked up: {lookup:.3f} s; verify: {verified:.3f} s")


if __name__ == "__main__":
    main()
