"""What one core takes, for plans: seconds of a clip by encoder, of a training by clip and epoch, of a fit by clip.

    OMP_NUM_THREADS=1 python benchmarks/plan_constants.py [--write] [--only PART]

``--write`` puts the table where `nearfar study --plan` finds it, with the name of this processor. All times are
processor time of one thread, the least of several rounds; clips are noise of 10 s at 16 kHz with two channels.
Networks have their full size and random weights, with which they take as long as with others. Of trainings, steps
are measured and told by clip and epoch; the first one is not counted. A fit is of conditioning and back end, to
1,000 embeddings of 768 numbers, and scores as many; back ends that take rows are fitted to 40 clips. Of a fit and a
score, what is beside these: inspection, and keeping what is finished. Of the store,
bytes and files are counted after so many embeddings of ViT-B. ``--only`` measures one part, and keeps the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from bench_adaptation import training as adaptation
from bench_dca import training as dca_training
from numpy.typing import NDArray
from torch import nn

from nearfar import load_system
from nearfar.backends import BACKENDS, backend_class
from nearfar.backends.normal_model import RowModel
from nearfar.detector.fitted import Detector
from nearfar.embedding.store import Key, Origin, Store
from nearfar.encoders import beats, ced, checkpoints, eat, efficientat, encoder_class, m2d
from nearfar.encoders.autoencoder import Autoencoder
from nearfar.encoders.processors import processor
from nearfar.files.atomic import write_json
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.microphones import MICROPHONES, listen
from nearfar.research.reproduce import constants
from nearfar.systems.components import Component
from nearfar.training.autoencoder import AutoencoderRecipe

RATE, ROUNDS = 16000, 5
EMBEDDINGS, DIM = 1000, 768
ROWS = (40, 309, 640)  # clips, rows, numbers: of the autoencoder's embeddings
NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {  # and what its file says of it
    "beats": (lambda: beats.BeatsNetwork(beats.ITERATION_3), asdict(beats.ITERATION_3)),
    "ced": (ced.CedNetwork, {}),
    "eat": (eat.EatNetwork, {}),
    "efficientat": (efficientat.Network, {}),
    "m2d": (m2d.M2dNetwork, {}),
}
DCA = {
    "dca_128": {"n_mels": 128, "n_fft": 1024, "frames": 1024, "channels": 256},
    "dca_256": {"n_mels": 256, "n_fft": 2048, "frames": 1024, "channels": 256},
}
PARTS = ("hearing", "encoding", "fitting", "training", "adapting", "inspecting", "store")
STORED, STORED_AT_ONCE, INSPECTED = 20_000, 2000, 100
DCA_BATCH, ADAPTED_AT_ONCE, EPOCHS = 4, 4, 3


def least(function: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Seconds of processor time: the least of several calls, after one that is not counted."""
    found = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        function()
        found.append(time.process_time() - begun)
    return min(found[1:])


def hearing(folder: Path) -> dict[str, float]:
    """Of a clip, by microphone: read and listened to."""
    path = folder / "noise.wav"
    noise = np.random.default_rng(0).standard_normal((2, RATE * int(constants.SECONDS)))
    audio.write(path, (noise / 8).astype(np.float32), RATE)
    return {name: least(lambda name=name: listen(audio.load(path, RATE), name)) for name in MICROPHONES}


def encoding(folder: Path) -> dict[str, float]:
    """Of a clip, by encoder, in float32."""
    found = {"spectral": encoding_spectral()}
    waveform = noise_of_a_clip()
    for name, (build, configuration) in NETWORKS.items():
        path = folder / f"{name}.safetensors"
        torch.manual_seed(0)
        checkpoints.write(path, build().state_dict(), configuration=configuration)
        encoder = encoder_class(name)(weights=str(path), device="cpu")
        found[name] = least(lambda encoder=encoder: encoder(waveform))
        path.unlink()
    return found


def encoding_spectral() -> float:
    spectral, waveform = encoder_class("spectral")(), noise_of_a_clip()
    return least(lambda: spectral(waveform))


def noise_of_a_clip() -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((1, RATE * int(constants.SECONDS))) / 8
    return noise.astype(np.float32)


def training() -> list[dict[str, Any]]:
    """Of a clip in an epoch, by encoder and those of its options that count."""
    found = [{"encoder": "autoencoder", "options": {"n_mels": 128}, "seconds": of_autoencoder()}]
    for options in DCA.values():
        running = dca_training(options, "cpu", "float32", DCA_BATCH)
        generator, batch = torch.Generator().manual_seed(1), torch.arange(DCA_BATCH)
        seconds = least(lambda r=running, b=batch, g=generator: r.step(b, g), rounds=1)  # type: ignore[misc]
        found.append({"encoder": "dca", "options": options, "seconds": seconds / DCA_BATCH})
    return found


def of_autoencoder(clips: int = 50) -> float:
    """The difference of trainings of some epochs and of one: without what is done once."""
    waveforms = list((np.random.default_rng(0).standard_normal((clips, 160000)) / 8).astype("f"))

    def trained(epochs: int) -> float:
        return least(
            lambda: AutoencoderRecipe(epochs=epochs, threads=1).train(Autoencoder(), waveforms, seed=0),
            rounds=2,
        )

    return (trained(1 + EPOCHS) - trained(1)) / EPOCHS / clips


def adapting() -> dict[str, float]:
    """Of a clip, with two microphones, in an epoch, by encoder."""
    running = adaptation("cpu", "float32", ADAPTED_AT_ONCE)
    waveforms = [running.heard(number) for number in running.batch(0)]
    return {"eat arcface": least(lambda: running.step(0, waveforms), rounds=1) / ADAPTED_AT_ONCE}


def fitting() -> dict[str, float]:
    """Of a clip, by back end."""
    rng = np.random.default_rng(0)
    X, rows = rng.standard_normal((EMBEDDINGS, DIM)), rng.standard_normal(ROWS).astype(np.float32)
    return {name: of_fit(name, rows if issubclass(backend_class(name), RowModel) else X) for name in BACKENDS}


def of_fit(name: str, X: Any) -> float:
    domain = np.where(np.arange(len(X)) < 0.9 * len(X), "source", "target")

    def fit() -> None:
        conditioned = X
        if X.ndim == 2:
            for step in ("standardize", "whiten"):
                conditioned = Component.resolve("conditioning", step, {}).make().fit_transform(conditioned)
        backend = Component.resolve("backend", name, {}).make()
        backend.fit(conditioned, domain)
        backend.anomaly_score(conditioned)

    return least(fit, rounds=2) / len(X)


def inspecting(folder: Path) -> dict[str, float]:
    """Of a clip, what a fit and a score of `spectral_near` take beyond listening and the encoder."""
    rng = np.random.default_rng(0)
    for number in range(INSPECTED):
        noise = rng.standard_normal((2, RATE * int(constants.SECONDS))) / 8
        name = f"section_00_source_train_normal_{number:04}_noAttribute.wav"
        (folder / "fan" / "train").mkdir(parents=True, exist_ok=True)
        audio.write(folder / "fan" / "train" / name, noise.astype(np.float32), RATE)
    machine = datasets.load(folder)["fan"]
    system = load_system("spectral_near", {"threshold.method": "none"})

    def fitted() -> Detector:
        with TemporaryDirectory() as cache:  # where no embedding is known
            return Detector.fit(
                machine, system, cut=None, odd_clips="keep", keep="nothing", jobs=Jobs(Path(cache))
            )

    def scored() -> None:
        with TemporaryDirectory() as cache:
            detector.score_clips(machine.train, jobs=Jobs(Path(cache)))

    detector = fitted()
    known = hearing(folder)["near"] + encoding_spectral()
    fit, score = (least(of, rounds=2) / INSPECTED for of in (fitted, scored))
    return {"fit": max(fit - known, 0.0), "score": max(score - known, 0.0)}


def store(folder: Path) -> dict[str, Any]:
    """Bytes of an embedding on disk, by file; and how many files there are."""
    kept, origin = Store(folder / "cache"), Origin("eat", "near", "code", "weights")
    x = np.zeros(2 * DIM, np.float32)  # mean and deviation
    for start in range(0, STORED, STORED_AT_ONCE):
        names = (
            hashlib.sha256(bytes(str(i), "ascii")).hexdigest() for i in range(start, start + STORED_AT_ONCE)
        )
        kept.put(origin, {Key(name, 10, "global_mean_std"): x for name in names})
    sizes = {path.suffix: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    index = sizes.pop(".sqlite")
    return {
        "embeddings": STORED,
        "floats": x.size,
        "bytes": sum(sizes.values()) / STORED,
        "index_bytes": index / STORED,
        "files": 1 + len(sizes),
    }


def measured(parts: Sequence[str], before: Mapping[str, Any]) -> dict[str, Any]:
    """The whole table, as ``research.reproduce.constants`` reads it."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        **before,
        "processor": processor().name,
        "command": "OMP_NUM_THREADS=1 python benchmarks/plan_constants.py --write",
        "matrix_product": constants.matrix_product(),
    }
    with TemporaryDirectory() as name:
        ways: dict[str, Callable[[], Any]] = {
            "hearing": lambda: hearing(Path(name)), "encoding": lambda: encoding(Path(name)),
            "training": training, "adapting": adapting, "fitting": fitting, "store": lambda: store(Path(name)),
            "inspecting": lambda: inspecting(Path(name)),
        }  # fmt: skip
        for part in parts:
            found[part] = ways[part]()
            print(part, json.dumps(found[part], indent=1), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    before = json.loads(constants.TABLE.read_text()) if given.only else {}
    found = measured([given.only] if given.only else PARTS, before)
    print(json.dumps(found, indent=1))
    if given.write:
        write_json(constants.TABLE, found)


if __name__ == "__main__":
    main()
