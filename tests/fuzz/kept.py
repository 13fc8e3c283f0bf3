"""What nearfar keeps for itself: finished steps, the store of embeddings, states of listening, the logbook."""

from __future__ import annotations

import shutil
from contextlib import chdir
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import logbooks
import numpy as np
import torch
from synthetic import RATE, clip, write_machine
from torch import nn

from fuzz import damage, detectors
from fuzz.surfaces import Surface
from nearfar.decisions.alarms import AlarmRule
from nearfar.decisions.alerts import CountAlerts
from nearfar.detector.fitted import Detector
from nearfar.embedding.store import Key, Origin, Store
from nearfar.files.steps import Jobs
from nearfar.listening import session
from nearfar.listening.session import Listening
from nearfar.logbook import asked, heard
from nearfar.logbook.database import Database
from nearfar.recordings import audio, datasets
from nearfar.recordings.recording import Recording
from nearfar.research import experiment
from nearfar.systems import configuration
from nearfar.training.journal import Journal

FOLDER = TemporaryDirectory(prefix="nearfar-fuzz-kept-")
WAYS = {
    ".json": (damage.values,),
    ".csv": (damage.cells,),
    ".safetensors": (damage.tensors,),
    ".jsonl": (damage.cells,),
}
SEED = 3


# Finished steps


@cache
def experimented() -> Path:
    """A machine, and the cache of an experiment with it."""
    root = Path(FOLDER.name) / "data"
    write_machine(root, "fan", train=6, target=4, test=1, seconds=0.3)
    _experiment(Path(FOLDER.name))
    return Path(FOLDER.name)


def _experiment(folder: Path) -> Any:
    small = {"branch.encoder_options.n_mels": 8, "threshold.folds": 2, "threshold.false_alarm_rate": 0.3}
    system = configuration.load("spectral", small)
    found = experiment.run(
        system,
        datasets.load(Path(FOLDER.name) / "data"),
        folder / "out",
        seeds=[SEED],
        jobs=Jobs(folder / "cache"),
    )
    return found.scores["score"].tolist()


def _steps(folder: Path) -> None:
    shutil.copytree(experimented() / "cache", folder / "cache")


def repeated(case: Path) -> Any:
    """The experiment with the cache that is there."""
    return _experiment(case)


def listed(case: Path) -> Any:
    """What is in the cache; what cannot be told is told as such."""
    return [len(Jobs(case / "cache").finished()) > 0]


# The store


KEYS = [Key(f"{number:064x}", 1, "mean") for number in range(12)]
ORIGIN = Origin(encoder="eat", microphone="near", code="1", weights="f" * 64)


def _store(folder: Path) -> None:
    generator = np.random.default_rng(0)
    arrays = {key: generator.normal(size=(4, 8)).astype(np.float32) for key in KEYS}
    Store(folder / "cache").put(ORIGIN, arrays)


def stored(case: Path) -> Any:
    """Whether all that is found is what was put there."""
    found = Store(case / "cache").get(ORIGIN, KEYS)
    generator = np.random.default_rng(0)
    expected = {key: generator.normal(size=(4, 8)).astype(np.float32) for key in KEYS}
    return all(np.array_equal(array, expected[key]) for key, array in found.items())


def put_again(case: Path) -> Any:
    """What is damaged is written again."""
    store, key = Store(case / "cache"), Key("f" * 64, 1, "mean")
    store.put(ORIGIN, {key: np.ones((2, 2), np.float32)})
    found = store.get(ORIGIN, [key])
    return [array.tolist() for array in found.values()]


def verified(case: Path) -> Any:
    """What is damaged is listed."""
    Store(case / "cache").verify()
    return True


# States of listening


def _session(folder: Path) -> None:
    shutil.copytree(detectors.fitted() / "detector", folder / "detector")
    parts = [clip(9000 + number, faulty=number in (1, 2), seconds=0.5) for number in range(5)]
    audio.write(folder / "long.wav", np.concatenate(parts, axis=1), RATE)
    with chdir(folder):
        _listen(folder)


def _listen(folder: Path) -> Any:
    detector = Detector.load(folder / "detector")
    assert detector.threshold is not None
    rules = {"2/3": CountAlerts(AlarmRule(2, 3), above=detector.threshold.value)}
    task = Listening(detector, [Recording((Path("long.wav"),))], rules=rules)  # which the working folder has
    return [session.encoded(one) for one in session.run(task, folder=folder / "state")]


# Journals


def _journal(folder: Path) -> None:
    _train(folder / "journal", 3)


def _train(folder: Path, epochs: int) -> Any:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    journal = Journal(folder, 2)
    for epoch in range(journal.take_up(epochs, module, optimizer), epochs):
        loss = module(torch.ones(4, 3) * epoch).pow(3).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        weights = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
        journal.write({"epoch": epoch + 1, "loss": loss.item()}, module, optimizer, weights, last=epochs)
    return module.weight.tolist()


# The logbook


def _logbook(folder: Path) -> None:
    database = Database.open(folder / "hall.db")
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(number) for number in range(20)])
        heard.add_event(c, machine.id, recording.id, logbooks.event(), began_at=0.0, sound=None, now=30.0)
    database.close()


def book_read(case: Path) -> Any:
    """All that a page asks for."""
    database = Database.open(case / "hall.db", make=False)
    with database.reading() as c:
        found = [
            len(asked.machines(c)),
            len(asked.journal(c, after=0)),
            len(asked.alerts(c)),
            len(asked.events(c)),
        ]
    database.close()
    return found


def book_written(case: Path) -> Any:
    """A watcher goes on with it."""
    database = Database.open(case / "hall.db")
    with database.writing() as c:
        machine, recording = logbooks.machine(c)
        heard.add_windows(c, machine.id, recording.id, [logbooks.window(100)])
    database.close()
    return True


SURFACES = (
    Surface(
        "steps",
        _steps,
        ("cache/jobs/*/*/*/*", "cache/jobs/*/*/*/*/*", "cache/*.sqlite"),
        {"repeated": repeated, "listed": listed},
        WAYS,
        is_guarded=True,
    ),
    Surface(
        "store",
        _store,
        ("cache/embeddings/*",),
        {"stored": stored, "put_again": put_again, "verified": verified},
        WAYS,
        is_guarded=True,
    ),
    Surface("session", _session, ("state/*",), {"listened": _listen}, WAYS, is_guarded=True),
    Surface(
        "journal",
        _journal,
        ("journal/*.safetensors",),
        {"trained": lambda case: _train(case / "journal", 4)},
        WAYS,
        is_guarded=True,
    ),
    Surface("logbook", _logbook, ("hall.db*",), {"book_read": book_read, "book_written": book_written}),
)
