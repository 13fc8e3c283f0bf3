"""What a training has reached, on disk: so that an interrupted one goes on, and a longer one begins where it ended.

Conventions
-----------
A training goes in rounds: epochs, or parts of them. A journal's folder belongs to trainings that differ in their
number of rounds only. It holds the state after the last round, the weights after some rounds (checkpoints), and a
table with a row a round. Every file is whole or as it was; two processes that write the same write the same bytes.
A file that was damaged since counts as absent, with a warning in the log: then the training begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim

from nearfar.files.arrays import load_if_whole, save_with_digest
from nearfar.files.atomic import atomic_file

Arrays = dict[str, NDArray[Any]]

STATE = "state.safetensors"
HISTORY = "history."  # in front of number and name of a column of the table, within the state


class Journal:
    """The journal in a folder; without a folder nothing is kept.

    Parameters
    ----------
    folder : Path or None
    every : int
        Checkpoints are kept after every so many rounds, and after the last one.
    kind : str
        What a round is called in the names of files.
    """

    def __init__(self, folder: Path | None, every: int, *, kind: str = "epoch") -> None:
        self.folder = folder
        self.every = every
        self.kind = kind
        self.rows: list[dict[str, float]] = []

    def checkpoint(self, number: int) -> Arrays | None:
        """The weights after that round, if they are kept."""
        return None if self.folder is None else load_if_whole(self._checkpoint(self.folder, number))

    def take_up(self, last: int, module: nn.Module, optimizer: optim.Optimizer) -> int:
        """Load the latest state into module and optimizer if it is not later than ``last``; how far it is.

        A later state is of no use to a shorter training, which begins anew.
        """
        state = None if self.folder is None else load_if_whole(self.folder / STATE)
        if state is None:
            return 0
        reached = int(state.pop(self.kind))
        if reached > last:
            return 0
        columns = {name: state.pop(name) for name in sorted(state) if name.startswith(HISTORY)}
        named = {name.split(".", 2)[2]: column for name, column in columns.items()}
        rows = pd.DataFrame(named).to_dict("records")
        self.rows = [{str(name): value for name, value in row.items()} for row in rows]
        _restore(state, module, optimizer)
        return reached

    def write(
        self,
        row: Mapping[str, float],
        module: nn.Module,
        optimizer: optim.Optimizer,
        weights: Mapping[str, NDArray[Any]] | None,
        *,
        last: int,
    ) -> None:
        """Keep what one more round has brought; ``weights`` is for a checkpoint, if one is due and to be kept."""
        self.rows.append(dict(row))
        if self.folder is None:
            return
        number = len(self.rows)
        if weights is not None and (number == last or number % self.every == 0):
            self.keep(number, weights)
        if number > self._reached(
            self.folder
        ):  # a shorter training in a longer one's folder leaves its state alone
            table = pd.DataFrame(self.rows)
            columns = {f"{HISTORY}{i}.{name}": table[name].to_numpy() for i, name in enumerate(table)}
            state = {self.kind: np.array(number), **columns, **_state(module, optimizer)}
            _save(self.folder / STATE, state)
            with atomic_file(self.folder / "history.csv") as part:  # to be read by people
                table.to_csv(part, index=False)

    def keep(self, number: int, weights: Mapping[str, NDArray[Any]]) -> None:
        """Keep the weights after that round as a checkpoint."""
        if self.folder is not None:
            _save(self._checkpoint(self.folder, number), weights)

    def _checkpoint(self, folder: Path, number: int) -> Path:
        return folder / f"{self.kind}_{number:03d}.safetensors"

    def _reached(self, folder: Path) -> int:
        """How far the state on disk is."""
        state = load_if_whole(folder / STATE)
        return 0 if state is None else int(state[self.kind])


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with atomic_file(path) as part:
        save_with_digest(part, arrays)


def _state(module: nn.Module, optimizer: optim.Optimizer) -> Arrays:
    """Everything that the next round depends on, by dotted name."""
    tensors: dict[str, Tensor] = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for number, of_parameter in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(v) for name, v in of_parameter.items()}
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _restore(state: Arrays, module: nn.Module, optimizer: optim.Optimizer) -> None:
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, array in state.items():
        owner, _, rest = name.partition(".")
        if owner == "module":
            weights[rest] = torch.tensor(array)
        else:
            number, _, moment = rest.partition(".")
            moments.setdefault(int(number), {})[moment] = torch.tensor(array)
    module.load_state_dict(weights)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
