"""What one core takes for the steps of a study: as measured on this computer, or on the one of a table.

Conventions
-----------
Times are seconds of one core, for a clip of ``SECONDS``. What was measured on this computer counts first: that is
what ``encoders.remembering`` has of frozen encoders. Then comes a table in the package, which
`benchmarks/plan_constants.py` makes, and which names its processor. On any other processor, times of networks in it
are multiplied by how much longer that one takes for a large matrix product, for that is most of what networks do;
all others stay as they are. What is not in the table is taken from the file of the system.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from nearfar.encoders import encoder_class
from nearfar.encoders.arithmetic import ARITHMETICS
from nearfar.encoders.choosing import Work, choice
from nearfar.encoders.pretrained import WeightsError
from nearfar.encoders.processors import processor
from nearfar.encoders.remembering import Remembered, compared
from nearfar.systems.components import Component
from nearfar.systems.configuration import BranchConfig, System, recipe_and_options

SECONDS = 10.0  # of a clip
SYSTEM_CLIPS, ADAPTER_CLIPS = (
    1000,
    7000,
)  # of ``systems.Needs``; the second are the normal clips of seven machines
TABLE = Path(__file__).with_name("constants.json")
SIZE, ROUNDS = 1024, 7  # of the matrix product
MINUTE = 60.0
HERE = "this computer"


class Constant(NamedTuple):
    """A time, and where it is from.

    Attributes
    ----------
    seconds : float
    source : str
        ``HERE``, or on what it was measured.
    """

    seconds: float
    source: str


class Constants:
    """Of one computer.

    Parameters
    ----------
    cache : Path or None
        Where it is remembered what was measured on this computer; ``None``: that does not count.
    """

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._table = json.loads(TABLE.read_text(encoding="utf-8"))
        same = self._table["processor"] == processor().name
        self._slower = 1.0 if same else _matrix_product_here() / self._table["matrix_product"]
        scaled = "" if same else f", times {self._slower:.2f} for networks, as of a matrix product here"
        self._of_table = f"{self._table['processor']} (the table of the package{scaled})"

    def hearing(self, microphone: str) -> Constant:
        """Of a clip that is read and listened to."""
        return Constant(self._table["hearing"].get(microphone, 0.0), self._of_table)

    def encoding(self, system: System, config: BranchConfig, clips: int, seconds: float) -> Constant:
        """Of what a frozen encoder makes of a clip, for one microphone.

        Parameters
        ----------
        system : System
        config : BranchConfig
            Of its branch.
        clips, seconds : int, float
            How many there are of a machine, and how long one is: by which an arithmetic is chosen.
        """
        if (here := self._remembered(config, clips, seconds)) is not None:
            return Constant(here, HERE)
        if config.encoder in self._table["encoding"]:
            is_network = config.encoder != "spectral"
            found = self._table["encoding"][config.encoder]
            return Constant(found * (self._slower if is_network else 1.0), self._of_table)
        return Constant(system.needs.minutes * MINUTE / SYSTEM_CLIPS, system.needs.measured_on)

    def training(self, system: System, config: BranchConfig, trainings: int) -> Constant:
        """Of one training of an encoder that is trained for each machine, for each of its clips.

        Parameters
        ----------
        system : System
        config : BranchConfig
        trainings : int
            Of the system for one machine: it names the time of all.
        """
        encoder = Component.resolve("encoder", config.encoder, config.encoder_options).options.arguments()
        epochs = (
            Component.resolve("training", config.encoder, config.training).options.arguments().get("epochs")
        )
        for row in self._table["training"]:
            if row["encoder"] == config.encoder and row["options"].items() <= encoder.items() and epochs:
                return Constant(epochs * row["seconds"] * self._slower, self._of_table)
        return Constant(system.needs.minutes * MINUTE / SYSTEM_CLIPS / trainings, system.needs.measured_on)

    def adapting(self, system: System) -> Constant:
        """Of one adapter that is trained over machines, for each of its clips."""
        config = system.branch
        recipe, options = recipe_and_options(config.adaptation or {})
        row = self._table["adapting"].get(f"{config.encoder} {recipe}")
        epochs = Component.resolve("adaptation", recipe, options).options.arguments().get("epochs")
        if row is not None and epochs:
            return Constant(epochs * row * self._slower, self._of_table)
        return Constant(system.needs.adapter_minutes * MINUTE / ADAPTER_CLIPS, system.needs.measured_on)

    def fitting(self, config: BranchConfig) -> Constant:
        """Of one fit of conditioning and back end, for each of its clips."""
        return Constant(self._table["fitting"].get(config.backend, 0.0), self._of_table)

    def inspecting(self, what: Literal["fit", "score"]) -> Constant:
        """Of a clip, what a fit or a score takes beyond all else: inspection, and keeping what is finished."""
        return Constant(self._table["inspecting"][what], self._of_table)

    def _remembered(self, config: BranchConfig, clips: int, seconds: float) -> float | None:
        """In the arithmetic that it will compute in, if it was measured here."""
        if self._cache is None or not hasattr(encoder_class(config.encoder), "precision_on"):
            return None
        try:
            encoder = Component.resolve("encoder", config.encoder, config.encoder_options).make()
            work = Work(clips, seconds)
            rows = Remembered(encoder, work.length, threads=1, cache=self._cache).rows
            name: Any = encoder.precision
            if name == "auto" and rows:
                size = encoder.path.stat().st_size
                name = choice(rows, work, size, compared(encoder, cache=self._cache))
        except (WeightsError, OSError):  # its weights are not here, so nothing was measured
            return None
        row = rows.get(name) if name in ARITHMETICS else None
        found: Mapping[int, float] = getattr(row, "seconds", {})
        length: float = getattr(row, "clip_seconds", SECONDS)
        return found[1] * SECONDS / length if 1 in found else None


@cache
def _matrix_product_here() -> float:
    return matrix_product()


def matrix_product() -> float:
    """Seconds of one core for a product of two float32 matrices of ``SIZE``: the least of several."""
    a, b = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), dtype=np.float32)
    found = []
    with threadpool_limits(1):
        for _ in range(ROUNDS):
            begun = time.process_time()
            a @ b
            found.append(time.process_time() - begun)
    return min(found)
