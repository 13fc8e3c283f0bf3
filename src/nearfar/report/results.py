"""Results of experiments: metrics, sweeps, comparisons, fusions, each with its scope."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nearfar.decisions.rates import percent
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.statistics import ALL, spread
from nearfar.files.names import printable

if TYPE_CHECKING:
    from nearfar.evaluation.official import Evaluation
    from nearfar.evaluation.protocols import Finding
    from nearfar.evaluation.results import Result
    from nearfar.evaluation.statistics import Comparison
    from nearfar.research.fused import StudyResult
    from nearfar.research.sweep import Sweep

METRICS = ("auc_source", "auc_target", "auc", "pauc", "f1", "f1_always")
HEADINGS = {
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "auc": "AUC",
    "pauc": "pAUC",
    "f1": "F1",
    "f1_always": "F1 if all flagged",
}


def result(found: Result) -> Table:
    """A result: metrics if labels are known, else how many clips were scored."""
    if found.metrics.empty:
        counts = found.scores.groupby("machine")["key"].nunique()
        table = Table("machine", "clips scored", title=escape(f"{found.run.name}: no metrics"))
        for machine, n in counts.items():
            table.add_row(escape(printable(str(machine))), str(n))
    else:
        table = metrics(found.metrics, found.run.name)
        table.caption = f"{table.caption}\nSelected on {found.run.protocol.selected_on}."
    files = escape(printable(f"{found.folder}/scores.csv, metrics.csv, references.csv, run.json"))
    table.caption = f"{table.caption or ''}\n{files}".strip()
    return table


def false_alarms(found: Result) -> Table | None:
    """Of each machine and domain: how many normal clips were flagged, and how many anomalous; and of all machines.

    ``None`` if no labels are known, or there are no decisions. Of several seeds it shows the means. The intervals
    are those of the rounded mean count: seeds share their clips, so more seeds do not make them narrower.
    """
    from nearfar.research import overview  # here, because it loads what fits detectors

    rows = overview.false_alarms(found)
    if rows.empty:
        return None
    several = rows[rows["machine"] != ALL].groupby("machine")["section"].nunique().max() > 1
    table = Table("machine", "domain", title=f"False alarms ({_asked(found)})")
    for heading in ("normals flagged", "interval", "anomalies found"):
        table.add_column(heading, justify="right")
    last = None
    for row in rows.to_dict("index").values():
        of_all = row["machine"] == ALL
        name = f"{row['machine']} {row['section']:02d}" if several and not of_all else str(row["machine"])
        if of_all and name != last:
            table.add_section()
        shown = "" if name == last else escape(printable(name))
        last = name
        table.add_row(shown, "-" if pd.isna(row["domain"]) else str(row["domain"]), *_shares(row))
    seeds = found.scores["seed"].nunique()
    table.caption = (f"Means of {seeds} seeds. " if seeds > 1 else "") + (
        "95 % intervals, exact for independent clips; pieces of one recording are not independent."
    )
    return table


def _asked(found: Result) -> str:
    """The false-alarm rates that the machines' decisions were asked for."""
    of_machines = (of.false_alarm_rate for of in found.run.data.machines.values())
    rates = sorted({rate for rate in of_machines if rate is not None})
    if not rates:
        return "the rate that was asked for is not recorded"
    return f"{' to '.join(percent(rate) for rate in dict.fromkeys((rates[0], rates[-1])))} asked"


def _shares(row: Mapping[Hashable, Any]) -> tuple[str, str, str]:
    """Flagged normals, their interval, flagged anomalies."""
    normals, anomalies = int(row["normals"]), int(row["anomalies"])
    interval = f"{_rounded(row['low'])} to {_rounded(row['high'])} %" if normals else "-"
    return _share(row["flagged"], normals), interval, _share(row["found"], anomalies)


def _share(flagged: float, clips: int) -> str:
    return f"{flagged:.4g} of {clips}, {_rounded(flagged / clips)} %" if clips else "-"


def _rounded(share: float) -> str:
    """In percent: one decimal below 10."""
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}"


def metrics(found: pd.DataFrame, title: str) -> Table:
    """The official metrics of each machine in percent, averaged over seeds, and Omega of all machines.

    Parameters
    ----------
    found : DataFrame
        With the columns seed, machine, section and those of ``evaluation.metrics.evaluate``.
    title : str
    """
    names = [c for c in METRICS if c in found]
    seeds, several = found["seed"].nunique(), found.groupby("machine")["section"].nunique().max() > 1
    unit = f"percent, mean of {seeds} seeds" if seeds > 1 else "percent"
    table = Table("machine", *(HEADINGS[c] for c in names), title=escape(f"{title} ({unit})"))
    for (machine, section), rows in found.groupby(["machine", "section"]):
        label = f"{machine} {section:02d}" if several else str(machine)
        table.add_row(escape(label), *(f"{100 * rows[c].mean():.2f}" for c in names))
    table.caption = _omega(found, seeds)
    return table


def _omega(found: pd.DataFrame, seeds: int) -> str:
    if {"auc", "auc_source"} <= set(found):
        return "No Omega: some machines have domains and some have none; run these separately."
    return f"Omega {_show_spread(found)}" + (
        f" (sample standard deviation of {seeds} seeds)" if seeds > 1 else ""
    )


def _show_spread(found: pd.DataFrame) -> str:
    """Mean over seeds of Omega in percent, and its sample standard deviation if there are several seeds."""
    if found.empty:
        return "no labels"
    of = spread([100 * omega(table) for _, table in found.groupby("seed")])
    return f"{of.mean:.2f}" + ("" if of.deviation is None else f" ± {of.deviation:.2f}")


def fusion(found: Finding) -> Table:
    """Metrics of each machine in percent, and the weights of the fold that reported it; always with the scope."""
    names = [c for c in METRICS if c in found.metrics]
    chosen = {machine: s.chosen for s in found.selections for machine in s.fold.report}
    branches = _union(of.get("weights", {}) for of in chosen.values())
    has_candidates = "candidate" in _union(chosen.values())
    table = Table("machine", *(HEADINGS[c] for c in names), title="Fusion (percent, and weights w)")
    for heading in [f"w {b}" for b in branches] + ["settings"] * has_candidates:
        table.add_column(escape(heading))
    for row in found.metrics.reset_index().to_dict("records"):
        of_machine = chosen[row["machine"]]
        cells = [_section(row["machine"], row["section"]), *(f"{100 * row[c]:.2f}" for c in names)]
        cells += _show_choice(of_machine, branches, has_candidates)
        table.add_row(*map(escape, cells))
    table.caption = escape(
        f"Omega {100 * found.omega:.2f}: {found.scope}.\n"
        f"Protocol: {found.protocol.name}; selected on {found.protocol.selected_on}."
    )
    return table


def _show_choice(of_machine: Mapping[str, Any], branches: Iterable[str], has_candidates: bool) -> list[str]:
    """What a fold chose: the weight of each branch, and the candidate if there are some."""
    weights = [f"{of_machine.get('weights', {}).get(b, 0):.3g}" for b in branches]
    return [*weights, of_machine["candidate"]] if has_candidates else weights


def _union(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    """The keys of all mappings, each once, in order of appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _section(machine: object, section: int) -> str:
    """Name of the machine, with the number of the section unless that is 0."""
    return str(machine) if section == 0 else f"{machine} {section:02d}"


def study(found: StudyResult) -> Table:
    """Omega of each branch alone and of their fusion, in percent; always with the scope."""
    described = found.result.run
    table = Table("branch", "Omega", title=escape(f"{described.name} (percent)"))
    if found.intervals:
        table.add_column("95% interval", no_wrap=True)
    table.add_column("system")
    for name, alone in found.branches.items():
        interval = _interval_of(found.intervals.get(name), ALL)
        table.add_row(escape(name), _show_spread(alone.metrics), *interval, escape(alone.run.name))
    row = ("fused", _show_spread(found.result.metrics), *_interval_of(found.interval, ALL), "")
    table.add_row(*(f"[bold]{cell}[/]" if cell else "" for cell in row))
    protocol = described.protocol
    intervals = "Intervals by clips, for these machines, not for others.\n" if found.intervals else ""
    table.caption = escape(
        f"{intervals}Fused: {protocol.scope}.\nProtocol: {protocol.name}; selected on {protocol.selected_on}.\n"
        f"{found.result.folder}/scores.csv, metrics.csv, references.csv, run.json"
    )
    return table


def study_by_machine(found: StudyResult) -> Table | None:
    """Of each machine: the fused value in percent, and what the fold that reported it chose.

    ``None`` if no labels are known. Of several seeds it shows the mean, and the choices of the first.
    """
    if found.interval is None:
        return None
    first = next(iter(found.findings.values()))
    chosen = {machine: s.chosen for s in first.selections for machine in s.fold.report}
    table = Table("machine", "fused", title="By machine (percent)")
    table.add_column("95% interval", no_wrap=True)
    table.add_column("weights")
    for machine in found.result.run.machines:
        value = f"{100 * found.interval.loc[[machine], 'value'].iloc[0]:.2f}"
        interval = _interval_of(found.interval, machine)
        table.add_row(
            escape(printable(machine)), value, *interval, escape(_weights_in_words(chosen[machine]))
        )
    table.caption = "Harmonic mean of the metrics of each machine."
    return table


def _weights_in_words(chosen: Mapping[str, Any]) -> str:
    """The branches that count, the heaviest first; and the candidate, if there were some."""
    weights = {branch: w for branch, w in chosen["weights"].items() if w > 0}
    if len(weights) > 2 and len(set(weights.values())) == 1:
        words = f"{len(weights)} branches alike"
    else:
        heaviest = sorted(weights, key=lambda branch: -weights[branch])
        words = ", ".join(f"{weights[branch]:.2g} {branch}" for branch in heaviest)
    return f"{chosen['candidate']}: {words}" if "candidate" in chosen else words


def _interval_of(found: pd.DataFrame | None, row: str) -> list[str]:
    """In percent; nothing if it is not known."""
    if found is None:
        return []
    low, high = (found.loc[[row], end].iloc[0] for end in ("low", "high"))
    return [f"{100 * low:.1f} to {100 * high:.1f}"]


def sweep(found: Sweep) -> Table:
    """All settings, best first, in percent; always with the scope."""
    machines = [str(c) for c in found.table if c not in {*found.settings, "omega", "low", "high", "ks"}]
    keys = [key.removeprefix("branch.") for key in found.settings]
    table = Table(
        *map(escape, keys), "Omega", "95% interval", "KS", *map(escape, machines), title="Sweep (percent)"
    )
    for _, row in found.table.iterrows():
        interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
        numbers = (f"{100 * row[m]:.1f}" for m in machines)
        chosen = (escape(row[key]) for key in found.settings)
        ks = "-" if pd.isna(row["ks"]) else f"{100 * row['ks']:.1f}"
        table.add_row(*chosen, f"{100 * row['omega']:.2f}", interval, ks, *numbers)
    without = f"No KS, or of fewer machines: {'; '.join(found.without_ks)}.\n" if found.without_ks else ""
    warning = (
        f"The intervals are too narrow: all clips are from one recording in {'; '.join(found.single)}. "
        if found.single
        else ""
    )
    table.caption = escape(f"{without}Intervals by {found.unit}s. {warning}Scope: {found.scope}.")
    return table


def sweep_json(found: Sweep) -> str:
    """The same in full precision, as fractions; what is not known is null."""
    settings = json.loads(found.table.to_json(orient="records", double_precision=15))
    return json.dumps(
        {"scope": found.scope, "unit": found.unit, "cells_of_one_recording": found.single,
         "without_ks": found.without_ks, "settings": settings}
    )  # fmt: skip


def comparison(found: Comparison, a: Result, b: Result) -> Table:
    """Two results side by side in percent, their difference with its interval, and how certain its sign is."""
    a_name, b_name = (Text(r.run.name) for r in (a, b))
    table = Table("machine", title=escape(f"A: {a.folder}, B: {b.folder} (percent)"))
    interval = f"{found.level:.0%} interval"
    for heading in (Text("A: ") + a_name, Text("B: ") + b_name, "B - A", interval, "P(B better)"):
        table.add_column(heading, justify="right")
    for machine, row in found.table.iterrows():
        low_high = f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
        values = f"{100 * row['a']:.2f}", f"{100 * row['b']:.2f}", f"{100 * row['difference']:+.2f}"
        table.add_row(escape(printable(str(machine))), *values, low_high, f"{row['b_better']:.3f}")
    n_a, n_b = (len(r.run.seeds) for r in (a, b))
    selected = (f"{name} selected on {r.run.protocol.selected_on}." for name, r in (("A", a), ("B", b)))
    warning = (
        f"\nThe intervals are too narrow: all clips are from one recording in {'; '.join(found.single)}."
        if found.single
        else ""
    )
    table.caption = escape(
        f"Harmonic mean of the metrics of each machine; {found.table.index[-1]}: Omega. Means of {n_a} (A) and "
        f"{n_b} (B) seeds. Paired bootstrap, {found.n_resamples} resamples of {found.unit}s, seed {found.seed}. "
        f"The intervals hold for these machines, not for others.{warning}\n" + "\n".join(selected)
    )
    return table


def comparison_json(found: Comparison, a: Result, b: Result) -> str:
    """The same in full precision, as fractions, with the protocols of both results."""
    results = {
        name: {"folder": str(r.folder), "system": r.run.name, "protocol": r.run.protocol.describe()}
        for name, r in (("a", a), ("b", b))
    }
    settings = {
        "n_resamples": found.n_resamples, "seed": found.seed, "level": found.level, "unit": found.unit,
        "cells_of_one_recording": found.single,
    }  # fmt: skip
    return json.dumps({**results, **settings, "machines": found.table.reset_index().to_dict("records")})


def evaluation(found: Evaluation) -> Table:
    """The official metrics of a folder of scores."""
    return metrics(_join(found), "Official metrics")


def evaluation_json(found: Evaluation) -> str:
    """The same in full precision, as fractions."""
    table = _join(found)
    return json.dumps({"omega": omega(table), "sections": table.drop(columns="seed").to_dict("records")})


def _join(found: Evaluation) -> pd.DataFrame:
    table = found.metrics if found.decisions is None else found.metrics.join(found.decisions)
    return table.reset_index().assign(seed=0)
