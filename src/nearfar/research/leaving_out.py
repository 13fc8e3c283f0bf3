"""The branches of a fused result: their weights, how each does alone, and what the fusion loses without it.

Conventions
-----------
A fusion without a branch is fused again under the protocol of the result: calibration and weights are chosen anew,
on the machines on which the protocol chooses. So a machine that the protocol leaves out has no part in any choice
behind its own number. Weights that the study gives are not chosen; those of the other branches are scaled to sum 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from nearfar.decisions.fusing import take_weights
from nearfar.evaluation import statistics
from nearfar.evaluation.protocols import PROTOCOLS, Protocol, leave_one_branch_out, scope_of
from nearfar.evaluation.results import FILES, Result
from nearfar.evaluation.statistics import ALL
from nearfar.research.experiment import recording_of, scores_by_seed
from nearfar.research.fused import FusionConfig, clips_of, references_of, scores_of
from nearfar.research.fusion import Search, choices, evaluate_fusion, evaluate_nested
from nearfar.research.overview import Unit, intervals

MOST_WEIGHTS = 1_000_000  # in all: some two minutes on one core for 1,400 clips
FOLDER = "branches"  # of a fused result

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Branches:
    """What is known of the branches of a fused result.

    Attributes
    ----------
    names : tuple of str
    weights : DataFrame
        A row for each seed and machine, with the weights of the fold that reported the machine: seed, machine, then
        a column for each branch. Empty if they are not recorded, because no labels were known.
    table : DataFrame
        By branch, in their order: ``omega``, ``low``, ``high`` of the branch alone; ``without``, Omega of the
        fusion of the others; ``adds``, ``adds_low``, ``adds_high``: what Omega of the whole fusion is more, with
        its paired interval. NaN where it is not known. Empty if nothing of it is.
    chosen : str
        What was chosen for the fusions without a branch, on what.
    why_not : tuple of str
        Why something is not known.
    """

    names: tuple[str, ...]
    weights: pd.DataFrame
    table: pd.DataFrame
    chosen: str
    why_not: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Study:
    """How a result was fused, by its record."""

    config: FusionConfig
    protocol: Protocol
    candidates: Mapping[str, tuple[str, ...]]
    branches: tuple[str, ...]

    @classmethod
    def of(cls, result: Result) -> _Study:
        system = result.run.system
        return cls(
            FusionConfig.model_validate(system.get("fusion", {})),
            PROTOCOLS[system["protocol"]],
            {name: tuple(of) for name, of in system.get("candidates", {}).items()},
            tuple(result.run.branches or {}),
        )


def branches_of(result: Result, unit: Unit = "clip", *, tell: Tell | None = None) -> Branches | None:
    """The branches of a fused result; ``None`` of any other.

    Parameters
    ----------
    result : Result
        Whose folder has the results of the branches.
    unit : {"clip", "recording"}
        What the intervals draw.
    tell : callable or None
        Called with (fusions done, all of them).

    Raises
    ------
    ValueError
        If the result of a branch is damaged.
    """
    if not result.run.branches:
        return None
    study = _Study.of(result)
    branches, why_not = _load(result)
    found = pd.DataFrame()
    if branches and result.metrics.empty:
        why_not.append("No labels are known, so there is no Omega, of branches neither.")
    elif branches:
        found = _alone(branches, unit)
        if trouble := _too_long(study, result):
            why_not.append(trouble)
        else:
            found = found.join(_without_each(study, result, branches, unit, tell))
    return Branches(study.branches, _weights(study, result), found, _chosen(study, result), tuple(why_not))


def _load(result: Result) -> tuple[dict[str, Result], list[str]]:
    """The result of each branch; nothing, with the reasons, unless all are those that were fused."""
    found, why_not = {}, []
    for name, run in (result.run.branches or {}).items():
        folder = result.folder / FOLDER / name
        if not (folder / FILES[3]).is_file():
            why_not.append(
                f"{FOLDER}/{name} is not in the folder of the result; copy it there, or run again."
            )
            continue
        found[name] = Result.load(folder)
        if found[name].run != run:
            why_not.append(f"{FOLDER}/{name} holds another result than the one that was fused; run again.")
    return ({} if why_not else found), why_not


def _weights(study: _Study, result: Result) -> pd.DataFrame:
    """Of the fold that reported each machine; given ones are known without labels, too."""
    rows: list[dict[str, Any]] = []
    for seed, finding in (result.run.findings or {}).items():
        rows += [
            {
                "seed": int(seed),
                "machine": machine,
                **dict.fromkeys(study.branches, 0.0),
                **fold.chosen["weights"],
            }
            for fold in finding.folds
            for machine in fold.report
        ]
    asked = study.config.asked
    if not rows and not isinstance(asked, Search) and not study.candidates:
        given = take_weights(asked, list(study.branches))
        rows = [{"seed": s, "machine": m, **given} for s in result.run.seeds for m in result.run.machines]
    return pd.DataFrame(rows, columns=["seed", "machine", *study.branches])


def _alone(branches: Mapping[str, Result], unit: Unit) -> pd.DataFrame:
    """Omega of each branch with its interval, by branch."""
    rows = {}
    for name, branch in branches.items():
        found = intervals(branch, unit)
        known = found is not None and ALL in found.index
        rows[name] = found.loc[ALL].to_numpy(float) if known and found is not None else np.full(3, np.nan)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["omega", "low", "high"])


def _without_each(
    study: _Study, result: Result, branches: Mapping[str, Result], unit: Unit, tell: Tell | None
) -> pd.DataFrame:
    """Omega of the fusion without each branch, and what the branch adds, by branch."""
    clips = clips_of(branches, result.run.seeds[0])
    whole, rows = scores_by_seed(result), {}
    for number, (out, rest) in enumerate(leave_one_branch_out(study.branches).items()):
        fused = {seed: _fuse(study, branches, rest, seed) for seed in result.run.seeds}
        if all(scores is not None for scores in fused.values()):
            compared = statistics.compare(
                clips, pd.DataFrame(fused), whole, recording=recording_of(clips.index, unit)
            )
            of_all = compared.table.loc[ALL]
            rows[out] = [of_all[name] for name in ("a", "difference", "low", "high")]
        if tell is not None:
            tell(number + 1, len(study.branches))
    columns = ["without", "adds", "adds_low", "adds_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)


def _fuse(
    study: _Study, branches: Mapping[str, Result], rest: tuple[str, ...], seed: int
) -> pd.Series | None:
    """The scores of a fusion of some branches; ``None`` if these have no weight, or are no candidate."""
    of_rest = {name: branches[name] for name in rest}
    scores, clips = scores_of(of_rest, seed), clips_of(of_rest, seed)
    calibration = study.config.calibration
    references = None if calibration == "selection_fold" else references_of(of_rest, seed)
    weights = study.config.asked
    if isinstance(weights, Mapping):
        total = sum(weights[name] for name in rest)
        if total <= 0:
            return None
        weights = {name: weights[name] / total for name in rest}
    if not study.candidates:
        finding = evaluate_fusion(
            scores, clips, study.protocol, weights=weights, calibration=calibration, references=references
        )
        return finding.scores
    left = _candidates(study, rest)
    if not left:
        return None
    finding = evaluate_nested(
        {name: scores[of] for name, of in left.items()}, clips, weights=weights, calibration=calibration,
        references=None if references is None else {name: references[of] for name, of in left.items()},
        protocol=study.protocol,
    )  # fmt: skip
    return finding.scores


def _candidates(study: _Study, rest: tuple[str, ...]) -> dict[str, list[str]]:
    """The candidates without a branch; of equal ones the first, and none that is empty."""
    found: dict[str, list[str]] = {}
    for name, of in study.candidates.items():
        left = [branch for branch in of if branch in rest]
        if left and left not in found.values():
            found[name] = left
    return found


def _too_long(study: _Study, result: Result) -> str:
    """Why fusions without each branch are not computed, if they are too many."""
    asked, n = study.config.asked, len(study.branches) - 1
    if not isinstance(asked, Search):
        return ""
    parts, folds = round(1 / asked.step), study.protocol.folds(sorted(result.run.machines))
    tried = parts * n if asked.method == "greedy" else comb(parts + n - 1, n - 1)
    inner = 1 + len(study.candidates) * len(folds[0].inner)
    total = tried * len(folds) * inner * len(study.branches) * len(result.run.seeds)
    if total <= MOST_WEIGHTS:
        return ""
    return (
        f"What each branch adds is not computed: {total:,} weights would be tried, and at most {MOST_WEIGHTS:,} "
        'are. Take a larger step, or weights = "greedy", in the study.'
    )


def _chosen(study: _Study, result: Result) -> str:
    """What the fusions without a branch chose, on what; in a sentence."""
    asked = study.config.asked
    selected = choices(asked, study.config.calibration)
    scope = scope_of((*selected, "settings") if study.candidates else selected, study.protocol.folds(
        sorted(result.run.machines)
    ))  # fmt: skip
    given = (
        " The weights of the others are those given, scaled to sum 1." if isinstance(asked, Mapping) else ""
    )
    return f"Each fusion without a branch is made anew under {study.protocol.name!r}: {scope}.{given}"
