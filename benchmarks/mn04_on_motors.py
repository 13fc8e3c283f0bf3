"""EfficientAT mn04 on the two motors: every back end, and every late block.

    OMP_NUM_THREADS=1 python benchmarks/mn04_on_motors.py MOTORS WEIGHTS

Microphone views are made at the rate of the recordings, 16 kHz, and then brought to the encoder's 32 kHz; one
column has it the other way round, so that the frames of the cancellation last half as long. Omega in percent, with
the 95 % bootstrap interval by recording. The labels of the machines that are reported order nothing here, but
whoever takes the best of a table has selected on them: it describes these machines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from nearfar import audio, datasets
from nearfar.backends import BACKENDS, backend_class
from nearfar.branches import attributes, domains
from nearfar.clips import Clip, Dataset, Machine
from nearfar.conditioning import Whitening
from nearfar.detector import SEED
from nearfar.encoders.efficientat import EfficientAt
from nearfar.evaluation import statistics
from nearfar.evaluation.metrics import clip_table
from nearfar.microphones import listen

Array = NDArray[np.floating[Any]]
Embeddings = dict[tuple[str, str, int], Array]  # by machine, waveform and block: means, then deviations

BLOCK = 12
BLOCKS = (6, 10, 11, 12, 13, 14, 15, 16)
VIEWS = {
    "near": ("near",),
    "cancelled": ("cancelled",),
    "near_and_cancelled": ("near", "cancelled"),
    "cancelled at 32 kHz": ("cancelled at 32 kHz",),
}
WAVEFORMS = ("near", "cancelled", "cancelled at 32 kHz")
CONDITIONINGS: dict[str, tuple[Callable[[], Any], ...]] = {
    "raw": (),
    "standardized": (StandardScaler,),
    "whitened": (StandardScaler, Whitening),
    "128 whitened": (StandardScaler, lambda: Whitening(128)),
}
OPTIONS: dict[str, dict[str, Any]] = {"beam": {"bands": 8}}  # the encoder's
WHOLE = 2000  # dimensions; more take minutes a row


def waveform(clip: Clip, name: str, rate: int) -> Array:
    """(samples,) at the encoder's rate."""
    samples, recorded = audio.read(clip.path)
    if name == "cancelled at 32 kHz":
        return listen(audio.resample(samples, recorded, rate), "cancelled")
    return audio.resample(listen(samples, name)[None], recorded, rate)[0]


@torch.inference_mode()
def statistics_of(encoder: EfficientAt, heard: Array) -> Iterator[Array]:
    """Of each block in one pass: means and standard deviations over time, (2, bands * channels)."""
    maps = encoder.network.front_end(torch.from_numpy(np.ascontiguousarray(heard))[None])
    for block in encoder.network.features:
        maps = block(maps)
        bands = maps[0].permute(1, 0, 2).flatten(0, 1).numpy()  # (bands * channels, frames)
        yield np.stack([bands.mean(axis=1), bands.std(axis=1)])


def embedded(motors: Dataset, encoder: EfficientAt) -> Embeddings:
    """Of the training and the test clips of each machine, (clips, 2, bands * channels)."""
    found: Embeddings = {}
    for machine in motors:
        for name in WAVEFORMS:
            clips = [*machine.train, *machine.test]
            rows = [list(statistics_of(encoder, waveform(c, name, encoder.sample_rate))) for c in clips]
            found |= {
                (machine.name, name, b): np.stack([row[b] for row in rows]) for b in range(len(rows[0]))
            }
    return found


def vectors(found: Embeddings, machine: Machine, view: str, block: int, n_statistics: int) -> Array:
    """(clips, dim), as the poolings ``mean`` (1) and ``mean_std`` (2) lay them out."""
    parts = [found[machine.name, name, block][:, :n_statistics] for name in VIEWS[view]]
    return np.hstack([part.reshape(len(part), -1) for part in parts])


def scores(
    found: Embeddings,
    motors: Dataset,
    view: str,
    backend: Any,
    conditioning: str,
    block: int,
    n_statistics: int,
) -> pd.Series:
    """Of every test clip by key."""
    by_machine = []
    for machine in motors:
        X = vectors(found, machine, view, block, n_statistics)
        train, test = X[: len(machine.train)], X[len(machine.train) :]
        for step in CONDITIONINGS[conditioning]:
            fitted = step().fit(train)
            train, test = fitted.transform(train), fitted.transform(test)
        fresh = backend()
        fresh.fit(train, domains(machine.train), attributes(machine.train))
        by_machine.append(pd.Series(fresh.anomaly_score(test), index=[c.key for c in machine.test]))
    return pd.concat(by_machine)


def cells(
    found: Embeddings, motors: Dataset, backend: Any, conditioning: str, block: int, n_statistics: int
) -> str:
    """Omega and its interval for each view."""
    clips = clip_table(c for machine in motors for c in machine.test)
    recording = statistics.recordings(list(clips.index))
    texts = []
    for view in VIEWS:
        of_clips = scores(found, motors, view, backend, conditioning, block, n_statistics)
        omega = statistics.bootstrap(clips, of_clips, recording=recording).omega
        texts.append(f"{100 * omega.value:.1f} ({100 * omega.low:.1f} to {100 * omega.high:.1f})")
    return " | ".join(texts)


def unfitted(name: str) -> Any:
    """A back end with the options it must have and the seed of a run."""
    backend = backend_class(name)(**OPTIONS.get(name, {}))
    return backend.set_params(random_state=SEED) if "random_state" in backend.get_params() else backend


def print_backends(found: Embeddings, motors: Dataset) -> None:
    print(f"| back end | embedding | {' | '.join(VIEWS)} |\n|---|---|{'---|' * len(VIEWS)}")
    for name in BACKENDS:
        for conditioning in CONDITIONINGS:
            try:
                row = cells(found, motors, lambda name=name: unfitted(name), conditioning, BLOCK, 1)
            except ValueError as error:
                row = f"cannot be fitted: {error}"
            print(f"| `{name}` | {conditioning} | {row} |", flush=True)


def print_blocks(found: Embeddings, motors: Dataset) -> None:
    print(f"\n| block | pooling | dimensions | {' | '.join(VIEWS)} |\n|---|---|---|{'---|' * len(VIEWS)}")
    for block in BLOCKS:
        for n_statistics, pooling in ((1, "mean"), (2, "mean_std")):
            dim = vectors(found, motors.machines[0], "near", block, n_statistics).shape[1]
            if dim < WHOLE:
                row = cells(
                    found, motors, lambda: unfitted("mahalanobis"), "standardized", block, n_statistics
                )
                print(f"| {block} | `{pooling}` | {dim} | {row} |", flush=True)


def main() -> None:
    motors = datasets.load(Path(sys.argv[1]))
    found = embedded(motors, EfficientAt(weights=sys.argv[2]))
    print_backends(found, motors)
    print_blocks(found, motors)


if __name__ == "__main__":
    main()
