"""Protocols: on which machines a choice is made, and on which machines the result is reported.

A number is worth only as much as the way it was selected. A ``Protocol`` divides the machines into folds. A
``Finding`` holds metrics together with their protocol, their scope, and the choice of each fold; it cannot be made
without them.

References
----------
.. [1] J. Lei, "Task-adapted dual-microphone representations with domain-conditioned local-density fusion,"
   DCASE 2026 Challenge technical report, section 3 and Table 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from nearfar.evaluation.metrics import omega

Choice = Literal["calibration", "weights", "settings"]  # of branches


@dataclass(frozen=True, slots=True)
class Fold:
    """Machines to choose on, and machines to report.

    Attributes
    ----------
    select, report : tuple of str
        Names of machines.
    inner : tuple of Fold
        Folds of ``select`` alone, for choices that need an estimate of their own. Empty without nesting.
    """

    select: tuple[str, ...]
    report: tuple[str, ...]
    inner: tuple[Fold, ...] = ()


def complete_development(machines: Sequence[str]) -> tuple[Fold, ...]:
    """Select and report on the same machines. The result is descriptive, no estimate for other machines."""
    every = _distinct(machines, at_least=1)
    return (Fold(every, every),)


def leave_one_machine_out(machines: Sequence[str]) -> tuple[Fold, ...]:
    """One fold for each machine: it is reported with what was selected on the others (LOMO)."""
    every = _distinct(machines, at_least=2)
    return tuple(Fold(tuple(m for m in every if m != out), (out,)) for out in every)


def nested_leave_one_machine_out(machines: Sequence[str]) -> tuple[Fold, ...]:
    """As ``leave_one_machine_out``, with inner folds that leave one selection machine out."""
    _distinct(machines, at_least=3)
    return tuple(
        Fold(fold.select, fold.report, inner=leave_one_machine_out(fold.select))
        for fold in leave_one_machine_out(machines)
    )


def leave_one_branch_out(branches: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each branch, the other branches in their order."""
    if len(branches) < 2 or len(set(branches)) < len(branches):
        raise ValueError(f"branches={tuple(branches)}: leaving one out needs two or more, each once")
    return {out: tuple(b for b in branches if b != out) for out in branches}


def _distinct(machines: Sequence[str], *, at_least: int) -> tuple[str, ...]:
    if len(machines) < at_least or len(set(machines)) < len(machines):
        raise ValueError(f"machines={tuple(machines)}: the protocol needs {at_least} or more, each once")
    return tuple(machines)


@dataclass(frozen=True)
class Protocol:
    """How machines are divided, and what is selected on which of them.

    Attributes
    ----------
    name : str
    selected_on : str
        A sentence for the reader of a report.
    chooses : tuple of Choice
        What each fold may choose on its selection machines.
    folds : callable
        Takes the names of machines, returns the folds.
    """

    name: str
    selected_on: str
    chooses: tuple[Choice, ...]
    folds: Callable[[Sequence[str]], tuple[Fold, ...]]


COMPLETE_DEVELOPMENT = Protocol(
    "complete development",
    "the machines that are reported: descriptive only, no estimate for other machines",
    ("calibration", "weights"),
    complete_development,
)
FIXED = Protocol(
    "fixed configuration",
    "nothing: each machine is fitted to its own normal training clips, test labels only evaluate",
    (),
    complete_development,
)
FIXED_LEAVE_ONE_MACHINE_OUT = Protocol(
    "fixed configuration, leave one machine out",
    "nothing: what is trained over machines is trained on the other machines, with settings fixed beforehand",
    (),
    leave_one_machine_out,
)
CROSS_FITTED = Protocol(
    "cross-fitted, leave one machine out",
    "the other machines: calibration and weights; the settings of the branches were chosen before",
    ("calibration", "weights"),
    leave_one_machine_out,
)
NESTED = Protocol(
    "strict nested, leave one machine out",
    "the other machines: settings of the branches, by leaving one out of these, too; then calibration and weights",
    ("calibration", "weights", "settings"),
    nested_leave_one_machine_out,
)
PROTOCOLS = {
    p.name: p for p in (COMPLETE_DEVELOPMENT, FIXED, FIXED_LEAVE_ONE_MACHINE_OUT, CROSS_FITTED, NESTED)
}


@dataclass(frozen=True)
class Selection:
    """The choice of one fold. ``chosen`` can be written as JSON, such as the weights and medians of a fusion."""

    fold: Fold
    chosen: Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Metrics with their scope.

    Attributes
    ----------
    metrics : DataFrame
        Metrics of every reported machine and section, as returned by ``metrics.evaluate``.
    protocol : Protocol
    scope : str
        What was selected, on how many machines, and how many machines are reported.
    selections : tuple of Selection
        One for each fold of the protocol.
    scores : Series
        The scores behind the metrics, by key.

    Raises
    ------
    ValueError, TypeError
        If one of these is missing, or if the folds are not those of the protocol for the machines in ``metrics``.
    """

    metrics: pd.DataFrame
    protocol: Protocol
    scope: str
    selections: tuple[Selection, ...]
    scores: pd.Series

    def __post_init__(self) -> None:
        if not isinstance(self.protocol, Protocol):
            raise TypeError(f"protocol={self.protocol!r}: a finding needs the Protocol that it was found by")
        if not self.scope.strip():
            raise ValueError(f"scope={self.scope!r}: a finding needs to say what was selected on what")
        machines = list(self.metrics.index.unique("machine"))
        wanted = _as_sets(self.protocol.folds(machines))
        if (found := _as_sets(s.fold for s in self.selections)) != wanted:
            raise ValueError(
                f"the selections are of {len(found)} folds that are not those of {self.protocol.name!r} for the "
                f"machines in the metrics, {', '.join(machines)}"
            )

    @property
    def omega(self) -> float:
        """The official score of all reported machines together."""
        return omega(self.metrics)

    def describe(self) -> dict[str, Any]:
        """Everything, ready to be written as JSON. Metrics are fractions."""
        return {
            "omega": self.omega,
            "protocol": {"name": self.protocol.name, "selected_on": self.protocol.selected_on},
            "scope": self.scope,
            "sections": self.metrics.reset_index().to_dict("records"),
            "folds": [
                {"select": list(s.fold.select), "report": list(s.fold.report), "chosen": dict(s.chosen)}
                for s in self.selections
            ],
        }


def scope_of(chosen: Sequence[Choice], folds: Sequence[Fold]) -> str:
    """A sentence: what was selected on how many machines, and how many are reported. All folds have one size."""
    n_reported, n_selected = sum(len(f.report) for f in folds), len(folds[0].select)
    if not chosen:
        machines = "1 machine" if n_reported == 1 else f"{n_reported} machines"
        return f"nothing was selected; {machines} reported"
    what = " and ".join(chosen)
    if all(set(f.select) == set(f.report) for f in folds):
        same = "machine that is" if n_reported == 1 else f"{n_reported} machines that are"
        return f"{what} selected on the {same} reported"
    others = "1 other machine" if n_selected == 1 else f"{n_selected} other machines"
    return f"{what} selected on {others} for each of {n_reported}"


def _as_sets(folds: Any) -> set[tuple[frozenset[str], frozenset[str]]]:
    return {(frozenset(f.select), frozenset(f.report)) for f in folds}
