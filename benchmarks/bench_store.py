"""The embedding store against one .npy a clip.

    python benchmarks/bench_store.py

1,200 two-channel clips, of each two microphones and three (block, pooling) of 1,536 numbers, written in batches of
32 clips. The .npy of a clip has its six embeddings. They are written once as NumPy does it, with no promise, and
once so that each is on disk and whole or absent, as all is in the store. Last the lookup of a second run: SHA-256
of all recordings, remembered by their size and time, and the embeddings. All was just written, so nothing is cold.

Then what a sweep over three blocks and two poolings waits for: EfficientAT's mn04, 32 clips of 2 s, one microphone,
one thread. Each combination by itself, beside all in one pass, each into a store of its own; rounds in turn. The
weights are random, with which it takes as long as with real ones. The last number is the largest difference of an
embedding, relative to the largest number in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nearfar.embedding.store import Key, Origin, Store
from nearfar.encoders.checkpoints import write
from nearfar.encoders.efficientat import Network
from nearfar.files.atomic import atomic_file
from nearfar.files.steps import Jobs
from nearfar.recordings import audio
from nearfar.recordings.clips import Clip, parse_clip
from nearfar.systems.branches import Branch, listen_ahead
from nearfar.systems.configuration import BranchConfig
from nearfar.systems.resolved import ResolvedBranch, resolve_branch

CLIPS, DIM, BATCH, REPEATS = 1200, 1536, 32, 5
SWEPT, SECONDS, RATE, ROUNDS = 32, 2.0, 16000, 3
COMBINATIONS = [(block, pooling) for block in (6, 12, 15) for pooling in ("mean", "mean_std")]
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


def written_clips(folder: Path) -> list[Clip]:
    rng = np.random.default_rng(1)
    (folder / "fan" / "train").mkdir(parents=True)
    paths = [folder / "fan" / "train" / f"section_00_source_train_normal_{n:04d}.wav" for n in range(SWEPT)]
    for path in paths:
        audio.write(path, rng.uniform(-0.5, 0.5, (1, int(SECONDS * RATE))).astype(np.float32), RATE)
    return [parse_clip(path) for path in paths]


def swept(branches: list[ResolvedBranch], clips: list[Clip], jobs: Jobs) -> list[Array]:
    """The embeddings of all combinations, one after the other."""
    return [np.stack(Branch(branch).embed(clips, workers=1, jobs=jobs)) for branch in branches]


def bench_sweep(folder: Path) -> None:
    torch.manual_seed(0)
    write(folder / "mn04.safetensors", Network().state_dict(), configuration={})
    branches = [
        resolve_branch(
            BranchConfig(
                encoder="efficientat",
                encoder_options={
                    "weights": str(folder / "mn04.safetensors"),
                    "blocks": (block,),
                    "device": "cpu",
                },
                pooling=pooling,
                backend="mahalanobis",
            ),
            seed=0,
        )
        for block, pooling in COMBINATIONS
    ]
    clips = written_clips(folder)
    one_by_one, one_pass = [], []
    for number in range(ROUNDS):
        apart, together = Jobs(folder / f"apart{number}"), Jobs(folder / f"together{number}")
        one_by_one.append(seconds(lambda jobs=apart: swept(branches, clips, jobs)))

        def at_once(jobs: Jobs = together) -> None:
            listen_ahead(branches, clips, workers=1, jobs=jobs)
            swept(branches, clips, jobs)

        one_pass.append(seconds(at_once))
    pairs = zip(swept(branches, clips, apart), swept(branches, clips, together), strict=True)
    difference = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    ratios = [a / b for a, b in zip(one_by_one, one_pass, strict=True)]
    print(
        f"a sweep's embeddings: {len(branches)} combinations of block and pooling, {SWEPT} clips of {SECONDS:g} s"
    )
    print(f"one by one {min(one_by_one):.2f} s, in one pass {min(one_pass):.2f} s: ", end="")
    print(f"{min(ratios):.1f} to {max(ratios):.1f} times as fast; largest difference {difference:.1e}")


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
    with tempfile.TemporaryDirectory() as name:
        bench_sweep(Path(name))


if __name__ == "__main__":
    main()
