"""What a published study has to run: branches, shared by its rows; the weights that they need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nearfar.encoders.pretrained import PRETRAINED, WeightsError, find
from nearfar.files.digests import digest
from nearfar.research.reproduce.files import PublishedStudy, Row
from nearfar.systems.components import Component
from nearfar.systems.configuration import System
from nearfar.systems.named import SEED


@dataclass(frozen=True)
class Run:
    """A branch with all the seeds for which some row needs it.

    Attributes
    ----------
    name : str
        Of its folder.
    system : System
    adapted_on : {"all", "others"} or None
        On whose normal clips its adapters are trained; None: it has none.
    seeds : tuple of int
    """

    name: str
    system: System
    adapted_on: Literal["all", "others"] | None
    seeds: tuple[int, ...]

    @property
    def key(self) -> str:
        """Of all that its scores depend on, but for seeds and clips."""
        return digest([self.system.model_dump(mode="json"), self.adapted_on])


def run_of(study: PublishedStudy, row: Row, branch: str, candidate: str = "") -> Run:
    """A branch as one row needs it."""
    system = study.system(branch, row, candidate)
    adapted_on = None if system.branch.adaptation is None else row.adapted_on
    own = candidate if branch in row.candidates.get(candidate, {}) else ""
    name = ".".join(part for part in (branch, own, adapted_on) if part)
    return Run(name, system, adapted_on, study.seeds_of(row))


def runs_of_row(study: PublishedStudy, row: Row) -> list[Run]:
    """All branches that one row needs, of all candidates."""
    return [run_of(study, row, b, candidate) for candidate in row.choices for b in row.used]


def runs_of(study: PublishedStudy, rows: Iterable[Row] | None = None) -> dict[str, Run]:
    """The distinct branches of some rows by their keys; of all rows by default.

    Their names are those that they have among the branches of all rows.
    """
    names: dict[str, str] = {}
    for row in study.rows:
        for run in runs_of_row(study, row):
            if run.key not in names:
                names[run.key] = _free(run.name, set(names.values()))
    found: dict[str, Run] = {}
    for row in study.rows if rows is None else rows:
        for run in runs_of_row(study, row):
            before = found[run.key].seeds if run.key in found else ()
            seeds = tuple(dict.fromkeys((*before, *run.seeds)))
            found[run.key] = Run(names[run.key], run.system, run.adapted_on, seeds)
    return found


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number where two rows call different branches the same."""
    numbered = (name if n == 1 else f"{name}.{n}" for n in range(1, len(taken) + 2))
    return next(free for free in numbered if free not in taken)


def weights_named(system: System) -> set[str]:
    """Names or paths of the pretrained weights that the system's encoders take."""
    encoders = (Component.resolve("encoder", c.encoder, c.encoder_options) for c, _ in system.members(SEED))
    options = [encoder.options.arguments() for encoder in encoders]
    return {str(given["weights"]) for given in options if "weights" in given}


def is_here(weights: str) -> bool:
    """Whether these weights are on this computer."""
    try:
        find(weights)
    except WeightsError:
        return False
    return True


def wanted(weights: str) -> str:
    """What to do about weights that are not here."""
    if weights not in PRETRAINED:
        return f"needs weights {weights}: there is no such file"
    record = PRETRAINED[weights]
    return f"needs weights {weights} ({record.licence.name}, {record.megabytes}): {record.command}"
