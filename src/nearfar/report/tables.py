"""Tables for a terminal, as rich renderables; the caller prints them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from nearfar.evaluation.metrics import omega

if TYPE_CHECKING:
    from nearfar import simulation
    from nearfar.detector import Detector
    from nearfar.evaluation.official import Evaluation
    from nearfar.experiment import Result
    from nearfar.systems import Description

METRICS = ("auc_source", "auc_target", "auc", "pauc", "f1", "f1_always")
HEADINGS = {
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "auc": "AUC",
    "pauc": "pAUC",
    "f1": "F1",
    "f1_always": "F1 if all flagged",
}


def systems(described: Iterable[Description]) -> Table:
    """What there is to fit, and what each needs."""
    known = list(described)
    name = Column("system", no_wrap=True)
    words = [Column(heading, overflow="fold") for heading in ("what it is", "mics", "weights", "training")]
    table = Table(name, *words, "minutes", title="Systems")
    for d in known:
        needs = d.needs
        table.add_row(
            d.name, d.summary, str(needs.channels), needs.weights, needs.training, f"{needs.minutes:g}"
        )
    on = "; ".join(sorted({d.needs.measured_on for d in known}))
    table.caption = f"minutes: to fit one machine of 1,000 clips of 10 s on {on}"
    return table


def simulated(described: Iterable[simulation.Description]) -> Table:
    """The machines that can be simulated."""
    table = Table(
        "machine", "what it is", "speeds", "faults", "shifts", title="Machines that can be simulated"
    )
    for d in described:
        speeds = f"{', '.join(map(str, d.speeds))} {d.speed_unit}"
        table.add_row(d.name, d.summary, speeds, ", ".join(d.faults), ", ".join(d.shift))
    table.caption = "shifts: what differs in the target domain, unless --shift says otherwise"
    return table


def published(modules: Mapping[str, ModuleType]) -> Table:
    """The published data sets, what is in them, and under which licence."""
    table = Table("data set", "machines", "parts to download", "licence", title="Published data sets")
    for name, module in modules.items():
        published = module.PUBLISHED
        machines = dict.fromkeys(m for part in published.machines.values() for m in part)
        subsets = ", ".join(published.remotes) or "by hand"
        table.add_row(name, ", ".join(machines), subsets, published.license.splitlines()[0])
    return table


def detector(fitted: Detector) -> Table:
    """What was fitted, to what, and how it decides."""
    table = Table(show_header=False, title=escape(f"Detector of {fitted.machine!r}"))
    known, limit = fitted.trained_on, fitted.describe_threshold()
    domains = ", ".join(f"{n} {domain}" for domain, n in known["domains"].items())
    table.add_row("system", escape(f"{fitted.system.name}: {fitted.system.summary}"))
    table.add_row(
        "fitted to",
        f"{known['clips']} normal clips ({domains}) of {known['channels']} channels at {known['rate']} Hz",
    )
    if known["microphone_faults"]:
        table.add_row("beware", "; ".join(f"{f} in {n} clips" for f, n in known["microphone_faults"].items()))
    if limit is None:
        table.add_row("decides", "not at all: no threshold was asked for")
        return table
    table.add_row(
        "decides",
        f"anomaly above a score of {limit['value']:.4g}, set on {limit['normal_clips']:g} normal clips that the "
        f"fit had not seen: of more clips like these it flags at most {limit['false_alarm_rate']:.1%} by mistake"
        + (f"; no p-value is below {limit['smallest_p_value']:.2g}" if limit["smallest_p_value"] else ""),
    )
    return table


def problems(found: pd.DataFrame) -> Table | Text:
    """What ``check`` found, one row a problem."""
    if found.empty:
        return Text("no problems")
    table = Table(*found.columns, title="1 problem" if len(found) == 1 else f"{len(found)} problems")
    for row in found.itertuples(index=False):
        table.add_row(*(Text(str(value)) for value in row))
    return table


def result(found: Result) -> Table:
    """What an experiment found: metrics, if labels are known; else how many clips were scored."""
    if found.metrics.empty:
        counts = found.scores.groupby("machine")["key"].nunique()
        table = Table("machine", "clips scored", title=f"{found.run['system']['name']}: no metrics")
        for machine, n in counts.items():
            table.add_row(escape(str(machine)), str(n))
    else:
        table = metrics(found.metrics, found.run["system"]["name"])
        table.caption = f"{table.caption}\nSelected on {found.run['protocol']['selected_on']}."
    table.caption = f"{table.caption or ''}\n{found.folder}/scores.csv, metrics.csv, run.json".strip()
    return table


def metrics(found: pd.DataFrame, title: str) -> Table:
    """The official metrics of each machine in percent, mean over seeds, and Omega of all.

    Parameters
    ----------
    found : DataFrame
        With the columns seed, machine, section and those of ``evaluation.metrics.evaluate``.
    title : str
    """
    names = [c for c in METRICS if c in found]
    seeds, several = found["seed"].nunique(), found.groupby("machine")["section"].nunique().max() > 1
    unit = f"percent, mean of {seeds} seeds" if seeds > 1 else "percent"
    table = Table("machine", *(HEADINGS[c] for c in names), title=f"{title} ({unit})")
    for (machine, section), rows in found.groupby(["machine", "section"]):
        label = f"{machine} {section:02d}" if several else str(machine)
        table.add_row(escape(label), *(f"{100 * rows[c].mean():.2f}" for c in names))
    table.caption = _omega(found, seeds)
    return table


def _omega(found: pd.DataFrame, seeds: int) -> str:
    if {"auc", "auc_source"} <= set(found):
        return "No Omega: it is not defined over machines with and without domains; run them apart"
    omegas = 100 * found.groupby("seed").apply(omega, include_groups=False)
    spread = f" ± {omegas.std():.2f} (sample standard deviation of {seeds} seeds)" if seeds > 1 else ""
    return f"Omega {omegas.mean():.2f}{spread}"


def evaluation(found: Evaluation) -> Table:
    """What the official evaluator would report of a folder of scores."""
    return metrics(_joined(found), "Official metrics")


def evaluation_json(found: Evaluation) -> str:
    """The same in full precision, as fractions."""
    table = _joined(found)
    return json.dumps({"omega": omega(table), "sections": table.drop(columns="seed").to_dict("records")})


def _joined(found: Evaluation) -> pd.DataFrame:
    table = found.metrics if found.decisions is None else found.metrics.join(found.decisions)
    return table.reset_index().assign(seed=0)
