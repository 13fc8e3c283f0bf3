"""Figures of results: each takes a ``Result``, or the folder of one.

A figure of one machine takes its name, and its section where the machine has several. Of several seeds, a figure of
scores shows one, the first unless another is asked for; all others show means over the seeds.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from nearfar.evaluation.metrics import is_anomalous
from nearfar.evaluation.results import Result
from nearfar.evaluation.statistics import ALL
from nearfar.recordings.clips import unknown
from nearfar.report.figures import experiments, scores
from nearfar.report.results import HEADINGS
from nearfar.research import experiment, overview
from nearfar.research.leaving_out import branches_of

ResultOrFolder = Result | Path | str

SHOWN = ("auc_source", "auc_target", "auc", "pauc")  # of the metrics, as columns of a heat map
OMEGA = "Omega"


def score_distributions(
    result: ResultOrFolder,
    machine: str,
    *,
    section: int | None = None,
    seed: int | None = None,
    logarithmic: bool = False,
) -> Figure:
    """The scores of a machine's test clips and of its unseen training clips, with the threshold.

    Parameters
    ----------
    result : Result, or its folder
    machine : str
    section : int or None
        ``None``: all sections of the machine.
    seed : int or None
        ``None``: the first.
    logarithmic : bool
        For scores that spread over powers of ten.

    Raises
    ------
    ValueError
        If there is no such machine, section or seed; or a score is not positive on a logarithmic axis.
    """
    found = _load(result)
    clips, of_seed = _clips(found, machine, section, seed)
    limit = overview.thresholds(found, of_seed).get(machine)
    references = found.references
    unseen = references[(references["machine"] == machine) & (references["seed"] == of_seed)]["score"]
    return scores.score_distributions(
        clips["score"].to_numpy(float),
        _known(clips["label"]),
        _known(clips["domain"]),
        references=unseen.to_numpy(float),
        threshold=None if limit is None else _threshold(limit),
        logarithmic=logarithmic,
        title=_title(found, machine, section, of_seed),
    )


def roc(
    result: ResultOrFolder, machine: str, *, section: int | None = None, seed: int | None = None
) -> Figure:
    """The ROC curves of a machine, as the official metrics count them.

    Parameters
    ----------
    result : Result, or its folder
    machine : str
    section : int or None
        May be ``None`` where the machine has one section.
    seed : int or None
        ``None``: the first.

    Raises
    ------
    ValueError
        If there is no such machine, section or seed, the machine has several sections, or its labels are not known.
    """
    found = _load(result)
    clips, of_seed = _clips(found, machine, section, seed)
    if len(sections := sorted(clips["section"].unique())) > 1:
        raise ValueError(
            f"section=None: {machine} has the sections {', '.join(map(str, sections))}; choose one"
        )
    if (hidden := int(clips["label"].isna().sum())) > 0:
        raise ValueError(
            f"{found.folder}: the labels of {hidden} of {len(clips)} clips of {machine} are not known"
        )
    domain = None if clips["domain"].isna().all() else _known(clips["domain"])
    title = _title(found, machine, section, of_seed)
    return scores.roc(is_anomalous(clips), clips["score"].to_numpy(float), domain, title=title)


def heat_map(result: ResultOrFolder) -> Figure:
    """The metrics of each machine and section, with Omega in the title; means over the seeds.

    Raises
    ------
    ValueError
        If no labels are known.
    """
    found = _with_metrics(result)
    names = [name for name in SHOWN if name in found.metrics]
    several = found.metrics.groupby("machine")["section"].nunique().max() > 1
    table = found.metrics.groupby(["machine", "section"], sort=False)[names].mean()
    rows = [f"{machine} {section:02d}" if several else str(machine) for machine, section in table.index]
    omega = "no Omega" if found.omega is None else f"{OMEGA} {100 * found.omega:.2f} %"
    return experiments.heat_map(
        table.to_numpy(float), rows, [HEADINGS[name] for name in names], title=f"{found.run.name}: {omega}"
    )


def false_alarm_rates(result: ResultOrFolder) -> Figure:
    """The false-alarm rates that were asked for and got, of each machine and domain, and of all.

    Raises
    ------
    ValueError
        If no labels are known, or there are no decisions.
    """
    found = _load(result)
    table = overview.false_alarms(found)
    table = table[table["normals"] > 0]
    if table.empty:
        raise ValueError(
            f"{found.folder}: no normal clip has a label and a decision; there are no false alarms to show"
        )
    several = table[table["section"] >= 0].groupby("machine")["section"].nunique().max() > 1
    names = [
        f"{machine} {section:02d}" if several and section >= 0 else str(machine)
        for machine, section in zip(table["machine"], table["section"], strict=True)
    ]
    domains = None if table["domain"].isna().all() else [domain or "" for domain in _known(table["domain"])]
    return experiments.false_alarm_rates(
        names, table["asked"], table["flagged"], table["normals"], domain=domains, title=found.run.name
    )


def branch_weights(result: ResultOrFolder, *, seed: int | None = None) -> Figure:
    """The weights of a fused result's branches, for each machine: those of the fold that reported it.

    Parameters
    ----------
    result : Result, or its folder
    seed : int or None
        ``None``: the first.

    Raises
    ------
    ValueError
        If the result is not fused, or has no such seed.
    """
    found = _load(result)
    findings = found.run.findings or {}
    of_seed = _seed(found, seed)
    if str(of_seed) not in findings:
        raise ValueError(
            f"{found.folder}: no weights of branches; {found.run.name} is no fused result with labels"
        )
    chosen = {machine: f.chosen["weights"] for f in findings[str(of_seed)].folds for machine in f.report}
    machines = [machine for machine in found.run.machines if machine in chosen]
    branches = list(found.run.branches or {})
    weights = [[chosen[machine].get(branch, 0.0) for branch in branches] for machine in machines]
    return experiments.branch_weights(weights, machines, branches, title=f"{found.run.name}: weights")


def left_out(result: ResultOrFolder) -> Figure:
    """What each branch adds to a fused result: Omega of the others, fused anew under the protocol of the result.

    This takes as long as fusing the result once for each branch.

    Parameters
    ----------
    result : Result, or its folder
        With the results of the branches in its folder ``branches``.

    Raises
    ------
    ValueError
        If the result is not fused, or it is not known what a branch adds; the message says why.
    """
    found = _load(result)
    known = branches_of(found)
    if known is None:
        raise ValueError(f"{found.folder}: {found.run.name} is no fused result")
    if "without" not in known.table or known.table["without"].isna().all() or found.omega is None:
        why = " ".join(known.why_not) or "No other branches are left to fuse."
        raise ValueError(f"{found.folder}: it is not known what each branch adds. {why}")
    rows = known.table.dropna(subset=["adds_low", "adds_high"])
    adds = {
        str(name): (float(low), float(high))
        for name, low, high in rows[["adds_low", "adds_high"]].itertuples()
    }
    without = {str(name): float(value) for name, value in known.table["without"].items()}
    return experiments.left_out(
        found.omega, without, adds=adds, title=f"{found.run.name}: what each branch adds"
    )


def seeds(*results: ResultOrFolder) -> Figure:
    """Omega of each seed of one result or several.

    Raises
    ------
    ValueError
        If Omega is not defined for one of them, or none is given.
    """
    loaded = [_with_omega(result) for result in results]
    values = {
        name: overview.omegas(found) for name, found in zip(overview.names_of(loaded), loaded, strict=True)
    }
    return experiments.seeds(values, title="Omega of each seed")


def omegas(*results: ResultOrFolder) -> Figure:
    """Omega of several results, each with its 95 % interval over resamples of the test clips.

    Raises
    ------
    ValueError
        If Omega is not defined for one of them, or none is given.
    """
    loaded = [_with_omega(result) for result in results]
    found = {}
    for name, one in zip(overview.names_of(loaded), loaded, strict=True):
        table = overview.intervals(one)
        assert table is not None  # it has metrics
        value, low, high = map(float, table.loc[ALL, ["value", "low", "high"]].to_numpy(float))
        found[name] = (value, low, high)
    return experiments.omegas(found, title="Omega")


def comparison(a: ResultOrFolder, b: ResultOrFolder) -> Figure:
    """Two results on the same test clips: B - A of each machine and of all, by the paired bootstrap.

    Raises
    ------
    ValueError
        If the results are of different clips, or their labels are not known or not the same.
    """
    loaded = [_with_omega(a), _with_omega(b)]
    table = experiment.compare(*loaded).table
    first, second = overview.names_of(loaded)
    return experiments.comparison(
        [str(machine) for machine in table.index],
        table["difference"], table["low"], table["high"],
        better=table["b_better"], names=(first, second), title=f"{second} against {first}",
    )  # fmt: skip


def _threshold(limit: overview.Limit) -> float | tuple[float, float] | None:
    """Its value, else between which scores it lies; ``None`` if all clips were flagged, or none."""
    if limit.value is not None:
        return limit.value
    return (limit.above, limit.below) if limit.above < limit.below else None


def _load(result: ResultOrFolder) -> Result:
    return result if isinstance(result, Result) else Result.load(result)


def _with_metrics(result: ResultOrFolder) -> Result:
    found = _load(result)
    if found.metrics.empty:
        raise ValueError(
            f"{found.folder}: no metrics, because no labels are known; give them with `nearfar run --truth`"
        )
    return found


def _with_omega(result: ResultOrFolder) -> Result:
    found = _with_metrics(result)
    if found.omega is None:
        raise ValueError(f"{found.folder}: no Omega, because some machines have domains and some have none")
    return found


def _seed(found: Result, seed: int | None) -> int:
    if seed is None:
        return found.run.seeds[0]
    if seed not in found.run.seeds:
        raise ValueError(f"seed={seed}: {found.folder} has {', '.join(map(str, found.run.seeds))}")
    return seed


def _clips(found: Result, machine: str, section: int | None, seed: int | None) -> tuple[pd.DataFrame, int]:
    """The scored clips of a machine with one seed, and the seed."""
    of_seed, table = _seed(found, seed), found.scores
    if machine not in found.run.machines:
        raise ValueError(f"{found.folder}: {unknown('machine', machine, found.run.machines)}")
    clips = table[(table["machine"] == machine) & (table["seed"] == of_seed)]
    if section is None:
        return clips, of_seed
    of_section = clips[clips["section"] == section]
    if of_section.empty:
        there = ", ".join(map(str, sorted(clips["section"].unique())))
        raise ValueError(f"section={section}: {machine} has {there}")
    return of_section, of_seed


def _known(column: pd.Series) -> list[str | None]:
    return [value if isinstance(value, str) else None for value in column]


def _title(found: Result, machine: str, section: int | None, seed: int) -> str:
    of_section = "" if section is None else f" {section:02d}"
    of_seed = f", seed {seed}" if len(found.run.seeds) > 1 else ""
    return f"{machine}{of_section}: {found.run.name}{of_seed}"
