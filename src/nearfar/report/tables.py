"""Tables for a terminal, as rich renderables; the caller prints them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from nearfar.evaluation.metrics import omega
from nearfar.evaluation.statistics import spread

if TYPE_CHECKING:
    from nearfar import simulation
    from nearfar.detector.fitted import Detector
    from nearfar.embedding.store import Content, Removed
    from nearfar.encoders.pretrained import Pretrained
    from nearfar.encoders.weights import Likeness, Verified
    from nearfar.evaluation.official import Evaluation
    from nearfar.evaluation.protocols import Finding
    from nearfar.evaluation.results import Result
    from nearfar.evaluation.statistics import Comparison
    from nearfar.files.steps import Job
    from nearfar.research.fused import StudyResult
    from nearfar.research.reproduce import Description as PublishedStudy
    from nearfar.research.reproduce import Found, Plan, Reproduction
    from nearfar.research.sweep import Sweep
    from nearfar.systems.named import Description
    from nearfar.training.adapters import Adapter

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
    table = Table(Column("system", no_wrap=True), "what it is, and what it needs", title="Systems")
    for d in known:
        table.add_row(d.name, f"{escape(d.summary)}\n[dim]{escape(_needs(d))}[/]", end_section=True)
    on = "; ".join(sorted({d.needs.measured_on for d in known}))
    table.caption = f"time: to fit one machine of 1,000 clips of 10 s on {on}"
    return table


def _needs(d: Description) -> str:
    """As a sentence without a verb."""
    microphones = f"{d.needs.channels} microphone{'s' if d.needs.channels > 1 else ''}"
    minutes = d.needs.minutes
    time = f"{minutes / 60:.0f} hours" if minutes > 120 else f"{minutes:g} minutes"
    hours = d.needs.adapter_minutes / 60
    adapter = [f"{hours:.0f} hours for an adapter over seven such machines"] if hours else []
    presets = [f"--preset {preset}" for preset in d.presets]
    return "; ".join(
        [
            microphones,
            f"weights: {d.needs.weights}",
            f"training: {d.needs.training}",
            time,
            *adapter,
            *presets,
        ]
    )


def adapter(made: Adapter) -> Table:
    """What an adapter was trained on, and how many numbers it holds."""
    machines = made.made_with["machines"]
    table = Table(box=None, show_header=False)
    table.add_row("adapter of", f"{made.made_with['encoder']}, blocks {made.made_with['blocks']}")
    table.add_row("machines", escape(", ".join(machines)))
    table.add_row("normal clips", str(sum(machine["clips"] for machine in machines.values())))
    table.add_row("numbers", f"{sum(array.size for array in made.arrays.values()):,}")
    table.add_row("seed", str(made.made_with["seed"]))
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


def weights(records: Iterable[Pretrained], here: Collection[str], folder: Path) -> Table:
    """Pretrained weights: of which encoder, how large, under which licence, and how to get those not here."""
    names = [Column(heading, no_wrap=True) for heading in ("weights", "encoder", "size")]
    table = Table(*names, "licence", Column("", no_wrap=True), title="Weights")
    for record in records:
        place = "here" if record.name in here else "add" if record.url is None else "get"
        table.add_row(record.name, record.encoder, record.megabytes, record.licence.name, place)
    table.caption = escape(
        f"here: in {folder}. get: `nearfar weights get NAME`. add: `nearfar weights add NAME FILE`, a file of "
        "yours from the authors' page, which `nearfar weights get NAME` names."
    )
    return table


def verified(name: str, found: Verified) -> Text:
    """That weights load and have not changed, and what they are."""
    published = {
        True: "as published",
        False: "not the published file",
        None: "no checksum of the published file is known",
    }
    return Text(
        f"{name}: loads, {found.parameters:,} parameters; unchanged since it came; "
        f"{published[found.as_published]}\n{found.path}\nSHA-256 {found.sha256}"
    )


def likeness(found: Likeness) -> Text:
    """How far tokens are from those of the authors' program."""
    return Text(
        f"largest difference from the authors' tokens {found.largest:.3g}, their standard deviation being "
        f"{found.deviation:.3g}; correlation {found.correlation:.6f}"
    )


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
        table = Table("machine", "clips scored", title=f"{found.run.name}: no metrics")
        for machine, n in counts.items():
            table.add_row(escape(str(machine)), str(n))
    else:
        table = metrics(found.metrics, found.run.name)
        table.caption = f"{table.caption}\nSelected on {found.run.protocol.selected_on}."
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
    return f"Omega {_spread(found)}" + (f" (sample standard deviation of {seeds} seeds)" if seeds > 1 else "")


def _spread(found: pd.DataFrame) -> str:
    """Mean over seeds of Omega in percent, and its sample standard deviation if there are several seeds."""
    if found.empty:
        return "no labels"
    of = spread([100 * omega(table) for _, table in found.groupby("seed")])
    return f"{of.mean:.2f}" + ("" if of.deviation is None else f" ± {of.deviation:.2f}")


def fusion(found: Finding) -> Table:
    """Metrics of each machine in percent, and the weights of the fold that reported it; always with the scope."""
    names = [c for c in METRICS if c in found.metrics]
    weights = {m: s.chosen.get("weights", {}) for s in found.selections for m in s.fold.report}
    branches = list(dict.fromkeys(b for w in weights.values() for b in w))
    settings = {
        m: s.chosen["candidate"] for s in found.selections for m in s.fold.report if "candidate" in s.chosen
    }
    table = Table("machine", *(HEADINGS[c] for c in names), title="Fusion (percent, and weights w)")
    for heading in (*(f"w {b}" for b in branches), *(["settings"] if settings else [])):
        table.add_column(escape(heading))
    for row in found.metrics.reset_index().to_dict("records"):
        machine, section = row["machine"], row["section"]
        label = str(machine) if section == 0 else f"{machine} {section:02d}"
        numbers = [f"{100 * row[c]:.2f}" for c in names] + [
            f"{weights[machine].get(b, 0):.3g}" for b in branches
        ]
        table.add_row(escape(label), *numbers, *([escape(settings[machine])] if settings else []))
    table.caption = escape(
        f"Omega {100 * found.omega:.2f}: {found.scope}.\n"
        f"Protocol: {found.protocol.name}; selected on {found.protocol.selected_on}."
    )
    return table


def study(found: StudyResult) -> Table:
    """Omega of each branch alone and of their fusion, in percent; always with the scope."""
    described = found.result.run
    table = Table("branch", "Omega", "system", title=f"{described.name} (percent)")
    for name, alone in found.branches.items():
        table.add_row(escape(name), _spread(alone.metrics), escape(alone.run.name))
    table.add_row("[bold]fused[/]", f"[bold]{_spread(found.result.metrics)}[/]", "")
    protocol = described.protocol
    table.caption = escape(
        f"Fused: {protocol.scope}.\nProtocol: {protocol.name}; selected on {protocol.selected_on}.\n"
        f"{found.result.folder}/scores.csv, metrics.csv, run.json"
    )
    return table


def studies(described: Iterable[PublishedStudy]) -> Table:
    """The published studies that can be run again."""
    names = [Column(heading, no_wrap=True) for heading in ("study", "rows", "data")]
    table = Table(*names, "what it is, and where it is from", title="Published studies")
    for d in described:
        table.add_row(
            d.name,
            str(len(d.rows)),
            d.data,
            f"{escape(d.title)}. {escape(d.summary)}\n[dim]{escape(d.source)}[/]",
            end_section=True,
        )
    return table


def plan(found: Plan) -> Table:
    """What a published study is going to do, and how long that takes."""
    table = Table(show_header=False, title=escape(f"Plan of {found.study}"))
    table.add_row("data", escape(f"{found.data}; machines: {found.machines}, clips: {found.clips:,}"))
    table.add_row("rows", f"{found.rows}, of which {found.possible} have all their weights here")
    table.add_row("branches", escape(f"{len(found.branches)}: {', '.join(found.branches)}"))
    table.add_row("trainings", f"{found.trainings} for each machine")
    table.add_row("adapters", f"{found.adapters}, trained over machines")
    weights = (f"{name} ({'here' if here else 'not here'})" for name, here in found.weights.items())
    table.add_row("weights", escape(", ".join(weights) or "none"))
    all_rows = "" if found.possible == found.rows else f"; {_hours(found.minutes)} for all rows"
    table.add_row("time", f"{_hours(found.minutes_possible)} of one core{all_rows}")
    table.caption = escape(
        f"The time is a projection, not measured here, from times on: {'; '.join(found.measured_on)}. "
        "These include thresholds; what is in the cache already takes none."
    )
    return table


def _hours(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    return f"{minutes / 60:.0f} hours" if minutes > 120 else f"{minutes:.0f} minutes"


def reproduction(found: Reproduction) -> Table:
    """Each published value beside ours, the difference, and what was selected on what; in percent."""
    numbers = [
        Column(heading, no_wrap=True, justify="right") for heading in ("published", "ours", "difference")
    ]
    table = Table(
        Column("row, and its scope", overflow="fold"),
        *numbers,
        title=escape(f"{found.study.title} (percent)"),
    )
    for row in found.rows:
        label = f"{escape(row.row.label)}\n[dim]{escape(row.scope)}[/]"
        table.add_row(label, *_numbers(row), end_section=True)
    settings = ", ".join(f"{key}={value}" for key, value in found.study.settings.items())
    protocols = {row.row.protocol: row.row.of.selected_on for row in found.rows}
    said = [
        found.published_on,
        found.ours_on,
        *([f"Ours: with {settings}."] if settings else []),
        *(f"{name}: selected on {on}." for name, on in protocols.items()),
        *([f"{found.folder}/study.csv, study.json"] if found.folder else []),
    ]
    table.caption = escape("\n".join(said))
    return table


def _numbers(found: Found) -> tuple[str, str, str]:
    """Published, ours and the difference, with the sample standard deviations of several seeds."""
    row, ours = found.row, found.ours
    sign = "" if row.without is None else "+"
    published = "" if row.published is None else _with_deviation(row.published, row.published_std, sign)
    if ours is None:
        return published, "", ""
    difference = "" if found.difference is None else f"{found.difference:+.2f}"
    return published, _with_deviation(ours.mean, ours.deviation, sign), difference


def _with_deviation(value: float, deviation: float | None, sign: str) -> str:
    return f"{value:{sign}.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def reproduction_json(found: Reproduction) -> str:
    """The same in full precision."""
    return json.dumps(found.describe())


def plan_json(found: Plan) -> str:
    """The same in full precision."""
    return json.dumps(found.describe())


def sweep(found: Sweep) -> Table:
    """The settings that were tried, the best first, in percent; always with the scope."""
    machines = [str(c) for c in found.table if c not in {*found.settings, "omega", "low", "high"}]
    keys = [key.removeprefix("branch.") for key in found.settings]
    table = Table(
        *map(escape, keys), "Omega", "95% interval", *map(escape, machines), title="Sweep (percent)"
    )
    for _, row in found.table.iterrows():
        interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
        numbers = (f"{100 * row[m]:.1f}" for m in machines)
        chosen = (escape(row[key]) for key in found.settings)
        table.add_row(*chosen, f"{100 * row['omega']:.2f}", interval, *numbers)
    beware = (
        f"Too narrow: all clips are of one recording in {'; '.join(found.single)}. " if found.single else ""
    )
    table.caption = escape(f"Intervals by {found.unit}s. {beware}Scope: {found.scope}.")
    return table


def comparison(found: Comparison, a: Result, b: Result) -> Table:
    """Two results side by side in percent, the difference with its interval, and how sure its sign is."""
    a_name, b_name = (Text(r.run.name) for r in (a, b))
    table = Table("machine", title=escape(f"A: {a.folder}, B: {b.folder} (percent)"))
    interval = f"{found.level:.0%} interval"
    for heading in (Text("A: ") + a_name, Text("B: ") + b_name, "B - A", interval, "P(B better)"):
        table.add_column(heading, justify="right")
    for machine, row in found.table.iterrows():
        low_high = f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
        values = f"{100 * row['a']:.2f}", f"{100 * row['b']:.2f}", f"{100 * row['difference']:+.2f}"
        table.add_row(escape(str(machine)), *values, low_high, f"{row['b_better']:.3f}")
    n_a, n_b = (len(r.run.seeds) for r in (a, b))
    selected = (f"{name} selected on {r.run.protocol.selected_on}." for name, r in (("A", a), ("B", b)))
    beware = (
        f"\nToo narrow: all clips are of one recording in {'; '.join(found.single)}." if found.single else ""
    )
    table.caption = escape(
        f"Harmonic mean of each machine's metrics; {found.table.index[-1]}: Omega; mean of {n_a} and {n_b} seeds. "
        f"Paired bootstrap, {found.n_resamples} resamples of {found.unit}s, seed {found.seed}: for these machines, "
        f"not for others.{beware}\n" + "\n".join(selected)
    )
    return table


def comparison_json(found: Comparison, a: Result, b: Result) -> str:
    """The same in full precision, as fractions, with what either result was selected on."""
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
    """What the official evaluator would report of a folder of scores."""
    return metrics(_joined(found), "Official metrics")


def evaluation_json(found: Evaluation) -> str:
    """The same in full precision, as fractions."""
    table = _joined(found)
    return json.dumps({"omega": omega(table), "sections": table.drop(columns="seed").to_dict("records")})


def _joined(found: Evaluation) -> pd.DataFrame:
    table = found.metrics if found.decisions is None else found.metrics.join(found.decisions)
    return table.reset_index().assign(seed=0)


def embeddings(contents: Iterable[Content]) -> Table | Text:
    """What the embedding store has, by what made it, and whether the installed code can use it."""
    known = list(contents)
    if not known:
        return Text("no embeddings")
    words = [Column(h, overflow="fold") for h in ("encoder", "options", "weights", "precision", "microphone")]
    numbers = [Column(heading, justify="right") for heading in ("embeddings", "MB", "days unused")]
    table = Table(*words, *numbers, "code", title="Embeddings")
    for c in known:
        made = c.origin
        named = (made.encoder, json.dumps(dict(made.options)), (made.weights or "none")[:8], made.precision)
        counted = (f"{c.entries:,}", f"{c.size / 1e6:,.1f}", f"{c.unused_days:.0f}")
        table.add_row(*map(escape, named), made.microphone, *counted, _whose(c))
    table.caption = "those of other code cannot be used here; `nearfar cache clean` removes them"
    return table


def steps(jobs: Iterable[Job]) -> Table | Text:
    """The finished steps in a cache, and whether the installed code can use them."""
    known = pd.DataFrame(
        [(job.step, _whose(job), job.size) for job in jobs], columns=["step", "code", "size"]
    )
    if known.empty:
        return Text("no finished steps")
    numbers = [Column(heading, justify="right") for heading in ("finished", "MB")]
    table = Table("step", "code", *numbers, title="Finished steps")
    for (step, whose), sizes in known.groupby(["step", "code"])["size"]:
        table.add_row(escape(str(step)), str(whose), f"{len(sizes):,}", f"{sizes.sum() / 1e6:,.1f}")
    return table


def _whose(made: Content | Job) -> str:
    return "this" if made.is_current else "other"


def removed(found: Iterable[Removed]) -> Table:
    """What was cleaned away."""
    table = Table("removed", Column("number", justify="right"), Column("MB", justify="right"))
    for r in found:
        table.add_row(r.what, f"{r.count:,}", f"{r.size / 1e6:,.1f}")
    return table
