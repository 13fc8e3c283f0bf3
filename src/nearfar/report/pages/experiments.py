"""What a page shows of one result, and of several that are compared: tables and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar.report.pages import charts
from nearfar.report.pages.charts import Axis, Band, Bar, Chart, Line, Span, Strip
from nearfar.report.pages.drawing import Look
from nearfar.report.pages.tables import Cell, Column, Link, Table
from nearfar.report.pages.text import number

if TYPE_CHECKING:
    import pandas as pd

    from nearfar.evaluation.curves import Curve
    from nearfar.research.leaving_out import Branches
    from nearfar.research.overview import Limit, Pair, Unit
    from nearfar.research.reported import ReportedResult

HEADINGS = {
    "auc_source": "AUC source", "auc_target": "AUC target", "auc": "AUC", "pauc": "pAUC",
    "f1": "F1", "f1_always": "F1 if all flagged",
}  # fmt: skip
HEAT = ("auc_source", "auc_target", "auc", "pauc")
CHANCE = 0.5  # of AUC and pAUC: what has no colour
MOST_POINTS = 6000  # of all charts of scores; of more, outlines of histograms are drawn
ALL = "all machines"
OMEGA = Axis("Omega", "%")
RATE = Axis("False alarms", "%", low=0.0)
FALSE_POSITIVES = Axis("False-positive rate", low=0.0, high=1.0)
TRUE_POSITIVES = Axis("True-positive rate", low=0.0, high=1.0)
OF_CURVES: Mapping[str, Look] = {"source": "source", "target": "target", "all": "s4"}
OF_LABELS: Mapping[tuple[str, str], Look] = {
    ("source", "normal"): "source", ("target", "normal"): "target",
    ("source", "anomaly"): "anomaly", ("target", "anomaly"): "s7",
}  # fmt: skip

Targets = Mapping[str, str]  # identifier of the element of a clip, by key


@dataclass(frozen=True, slots=True)
class OfMachine:
    """The charts of one machine and section."""

    name: str
    scores: Chart | None
    roc: Chart | None


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return number(None if value is None else 100 * value, digits, "%")


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Such as "61.2 % (57.0 to 65.1 %)"."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return percent(value)
    return f"{percent(value)} ({number(100 * low, 1)} to {percent(high)})"


def interval_of(reported: ReportedResult) -> tuple[float | None, float | None, float | None]:
    """Omega and the ends of its interval; ``None`` where it is not known."""
    omega = reported.result.omega
    if omega is None or reported.intervals is None or ALL not in reported.intervals.index:
        return omega, None, None
    low, high = (float(end) for end in reported.intervals.loc[ALL, ["low", "high"]].to_numpy(float))
    return omega, low, high


def over(unit: Unit, single: Sequence[str] = ()) -> str:
    """What intervals are over, in a sentence or two."""
    from nearfar.evaluation.statistics import LEVEL, RESAMPLES

    drawn = "clips" if unit == "clip" else "recordings, as far as names of clips tell them,"
    said = (
        f"Intervals hold {100 * LEVEL:g} % of {RESAMPLES:,} resamples of the test {drawn} within each machine, "
        "domain and label (bootstrap). They tell how much these numbers would change with other test clips of "
        "these machines: not with other machines, and not with another training."
    )
    if single:
        said += f" They are too narrow where all clips are of one recording: {'; '.join(single)}."
    return said


def omegas_table(results: Sequence[ReportedResult]) -> Table:
    """A row for each result: Omega, and what was selected on what."""
    rows: list[list[Cell]] = []
    for place, one in enumerate(results):
        run, (omega, low, high) = one.result.run, interval_of(one)
        scope = run.protocol.scope or run.protocol.name
        deviation = float(one.omegas.std(ddof=1)) if len(one.omegas) > 1 else None
        rows.append(
            [
                Link(one.name, f"result-{place + 1}"),
                omega, low, high, deviation, str(len(run.seeds)), run.protocol.name, scope,
                run.protocol.selected_on,
            ]
        )  # fmt: skip
    return Table(
        "Omega",
        [
            Column("result"),
            Column("Omega", "number", 2, percent=True),
            Column("from", "number", 1, percent=True),
            Column("to", "number", 1, percent=True),
            Column("deviation of the seeds", "number", 2, percent=True),
            Column("seeds"),
            Column("protocol"),
            Column("scope"),
            Column("selected on"),
        ],
        rows,
    )


def pair_table(pairs: Sequence[Pair], names: Sequence[str]) -> Table | None:
    """Omega of both results of each pair, and how sure it is which is better."""
    rows: list[list[Cell]] = []
    for pair in pairs:
        if pair.comparison is not None:
            names_of = ["a", "b", "difference", "low", "high", "b_better"]
            row = pair.comparison.table.loc[ALL, names_of].to_numpy(float)
            a, b, *of_difference, sure = (float(value) for value in row)
            points = [100 * value for value in of_difference]
            rows.append([names[pair.a], names[pair.b], a, b, *points, sure])
    columns = [Column("A"), Column("B")]
    columns += [Column(name, "number", 2, percent=True) for name in ("Omega of A", "Omega of B")]
    columns += [Column(name, "number", 2) for name in ("B minus A", "from", "to")]
    columns.append(Column("probability that B is better", "number", 3))
    note = "Differences are in percentage points, with 95 % intervals."
    return Table("Paired comparison", columns, rows, note) if rows else None


def pair_chart(pair: Pair, names: Sequence[str]) -> Chart | None:
    """What B has more than A, of each machine."""
    if pair.comparison is None:
        return None
    bars = [
        Bar(str(machine), 100 * row["difference"], 100 * row["low"], 100 * row["high"])
        for machine, row in pair.comparison.table.iterrows()
    ]
    a, b = names[pair.a], names[pair.b]
    return charts.bar_chart(
        f"{b} minus {a}", bars, x=Axis("Difference", "points"), reference=0.0,
        description=f"Harmonic mean of the metrics of each machine, of {b} minus that of {a}; for {ALL}, Omega. "
        "In percentage points, with 95 % intervals of the paired difference.",
    )  # fmt: skip


def heat_table(reported: ReportedResult) -> Table | None:
    """Machines by metrics."""
    table = reported.metrics
    if table.empty:
        return None
    names = [name for name in HEADINGS if name in table]
    several = table.groupby("machine")["section"].nunique().max() > 1
    columns = [Column("machine"), *([Column("section", "number", 0)] if several else [])]
    for name in names:
        kind = "heat" if name in HEAT else "number"
        columns.append(Column(HEADINGS[name], kind, 1, low=CHANCE, percent=True))  # type: ignore[arg-type]
    columns.append(Column("harmonic mean", "heat", 1, low=CHANCE, percent=True))
    columns += [Column("from", "number", 1, percent=True), Column("to", "number", 1, percent=True)]
    keys = [*names, "mean", "low", "high"]
    rows: list[list[Cell]] = [
        [
            str(row["machine"]),
            *([float(row["section"])] if several else []),
            *(float(row[key]) for key in keys),
        ]
        for row in table.to_dict("records")
    ]
    seeds = len(reported.result.run.seeds)
    note = "The harmonic mean is of AUC and pAUC of all sections of the machine, with its interval."
    note += f" All are means of {seeds} seeds." if seeds > 1 else ""
    return Table(f"{reported.name}: metrics", columns, rows, note)


def seeds_chart(reported: ReportedResult) -> Chart | None:
    """Omega of each seed, and the share of each machine in it."""
    if len(reported.omegas) < 2:
        return None
    named = [f"seed {seed}" for seed in reported.omegas.index]
    strips = [Strip(f"Omega, {ALL}", 100 * reported.omegas.to_numpy(float), "s1", named)]
    metrics = reported.result.metrics
    columns = [name for name in HEAT if name in metrics]
    for machine, table in metrics.groupby("machine", sort=False):
        for column in columns:
            of_seeds = 100 * table.groupby("seed")[column].mean()
            look: Look = OF_CURVES.get(column.removeprefix("auc_"), "s4")
            strips.append(Strip(f"{machine}, {HEADINGS[column]}", of_seeds.to_numpy(float), look, named))
    return charts.strip_chart(
        f"{reported.name}: seeds", strips, x=Axis("Value", "%"),
        description=f"Each point is one of {len(named)} trainings, with its own seed, on the same test clips.",
    )  # fmt: skip


def false_alarm_table(reported: ReportedResult) -> Table | None:
    """The rate that was asked for, and what came of it."""
    table = reported.false_alarms
    if table.empty:
        return None
    rows: list[list[Cell]] = []
    for row in table.to_dict("records"):
        normals, anomalies = int(row["normals"]), int(row["anomalies"])
        asked = None if math.isnan(row["asked"]) else float(row["asked"])
        found = row["found"] / anomalies if anomalies else None
        rates = [float(row[name]) for name in ("share", "low", "high")]
        rows.append(
            [_place_of(row), _domain(row["domain"]), asked, float(row["flagged"]), float(normals), *rates,
             float(row["found"]), float(anomalies), found]
        )  # fmt: skip
    counted = 0 if len(reported.result.run.seeds) == 1 else 1  # means of several seeds
    columns = [
        Column("machine"),
        Column("domain"),
        _rate("asked"),
        Column("flagged", "number", counted),
        Column("of normal clips", "number", 0),
    ]
    columns += [_rate("got"), _rate("from"), _rate("to")]
    columns += [Column("found", "number", counted), Column("of anomalies", "number", 0), _rate("share found")]
    note = (
        "Intervals hold the true rate of each machine and domain with 95 %, exactly for independent clips; pieces "
        "of one recording are not independent."
    )
    if (seeds := len(reported.result.run.seeds)) > 1:
        note += f" Counts are means of {seeds} seeds; the intervals are those of the rounded count."
    return Table(f"{reported.name}: false alarms", columns, rows, note)


def _rate(name: str) -> Column:
    return Column(name, "number", 1, percent=True)


def _place_of(row: Mapping[Any, Any]) -> str:
    section = int(row["section"])
    return str(row["machine"]) if section <= 0 else f"{row['machine']} {section:02d}"


def _domain(domain: Any) -> str:
    return domain if isinstance(domain, str) else "not known"


def false_alarm_charts(reported: ReportedResult) -> list[Chart]:
    """For each domain the rates that were got, from the rate that was asked for."""
    table = reported.false_alarms
    if table.empty:
        return []
    found = []
    for domain, rows in table.groupby("domain", dropna=False, sort=False):
        asked = rows["asked"].unique()
        reference = float(100 * asked[0]) if len(asked) == 1 and not math.isnan(asked[0]) else None
        shown = _domain(domain)
        look: Look = {"source": "source", "target": "target"}.get(shown, "s1")  # type: ignore[assignment]
        bars = [
            Bar(_place_of(row), 100 * row["share"], 100 * row["low"], 100 * row["high"], look)
            for row in rows.to_dict("records")
        ]
        asked_for = (
            "" if reference is None else f" The line is the rate that was asked for, {number(reference)} %."
        )
        found.append(
            charts.bar_chart(
                f"{reported.name}: false alarms, domain {shown}",
                bars,
                x=RATE,
                reference=reference,
                begin=0.0,
                description=f"Share of normal test clips that were flagged, with 95 % intervals.{asked_for}",
            )
        )
    return found


def of_machines(reported: ReportedResult, targets: Targets, *, points: bool) -> list[OfMachine]:
    """The charts of each machine and section of a result.

    Parameters
    ----------
    reported : ReportedResult
    targets : mapping from key to identifier
        Clips that are elsewhere on the page.
    points : bool
        Each score is drawn; else outlines of histograms.
    """
    scores = reported.result.scores
    of_seed = scores[scores["seed"] == reported.seed]
    several = of_seed.groupby("machine")["section"].nunique().max() > 1
    found = []
    for (machine, section), table in of_seed.groupby(["machine", "section"], sort=False):
        name = f"{machine} {section:02d}" if several else str(machine)
        curves = reported.curves.get((str(machine), int(str(section))), ())
        chart = _scores_chart(reported, name, str(machine), table, targets, points=points)
        found.append(OfMachine(name, chart, _roc_chart(reported, name, curves)))
    return found


def _scores_chart(
    reported: ReportedResult, name: str, machine: str, table: pd.DataFrame, targets: Targets, *, points: bool
) -> Chart:
    """The scores of a machine by domain and label, with the threshold."""
    strips = []
    for (domain, label), rows in table.groupby(["domain", "label"], dropna=False):
        said = f"{_domain(domain)}, {label if isinstance(label, str) else 'no label'}"
        look = OF_LABELS.get((str(domain), str(label)), "anomaly" if label == "anomaly" else "s1")
        keys = [str(key) for key in rows["key"]]
        strips.append(
            Strip(said, rows["score"].to_numpy(float), look, [_short(key) for key in keys],
                  [targets.get(key, "") for key in keys])
        )  # fmt: skip
    limit = reported.limits.get(machine)
    value, said = (None, "No decisions were taken.") if limit is None else (limit.value, _where(limit))
    spans: tuple[Span, ...] = ()
    if limit is not None and value is None and limit.above < limit.below:
        spans = (Span("the threshold lies here", limit.above, limit.below),)
    title, x = f"{reported.name}: scores of {name}", Axis("Score")
    if points:
        return charts.strip_chart(title, strips, x=x, threshold=value, spans=spans, description=said)
    return charts.histogram(title, strips, x=x, threshold=value, description=said)


def _where(limit: Limit) -> str:
    """Where a threshold lies, in a sentence or two."""
    if limit.value is not None:
        return "A score above the threshold, the dashed line, is flagged."
    unknown = "The value of the threshold is not in the result"
    if math.isnan(limit.above) or math.isnan(limit.below):
        return f"{unknown}; {'all clips were' if math.isnan(limit.above) else 'no clip was'} flagged."
    if limit.above < limit.below:
        return f"{unknown}; it lies between {number(limit.above)} and {number(limit.below)}."
    return f"{unknown}; some clips were flagged that score lower than others that were not."


def _short(key: str) -> str:
    """The name of a clip, without machine and split."""
    return key.split("/", 2)[-1]


def _roc_chart(reported: ReportedResult, name: str, curves: Sequence[Curve]) -> Chart | None:
    """ROC curves, with the part that pAUC counts."""
    if not curves:
        return None
    whole = curves[-1]
    x, y = whole.partial
    lines = [Line(_curve_name(curve), *_corners(curve), OF_CURVES[curve.name]) for curve in curves]
    lines.append(Line("chance", [0.0, 1.0], [0.0, 1.0], "limit"))
    areas = [f"AUC {c.name} {percent(c.auc)}" for c in curves[:-1]] or [f"AUC {percent(whole.auc)}"]
    return charts.line_chart(
        f"{reported.name}: ROC of {name}", lines, x=FALSE_POSITIVES, y=TRUE_POSITIVES,
        bands=[Band("what pAUC counts", x, np.zeros(len(x)), y, "s4")],
        description=f"{', '.join(areas)}, pAUC {percent(whole.pauc)}; {whole.anomalies} anomalies, {whole.normals} "
        "normal clips. pAUC counts the marked area, up to a false-positive rate of 10 %.",
    )  # fmt: skip


def _curve_name(curve: Curve) -> str:
    if curve.name == "all":
        return "all clips"
    return f"normal clips of {curve.name}"


def _corners(curve: Curve) -> tuple[Any, Any]:
    """The points of a curve without those that lie on a straight line between their neighbours."""
    x, y = np.asarray(curve.false_alarms, float), np.asarray(curve.hits, float)
    dx, dy = np.diff(x), np.diff(y)
    turns = np.abs(dx[1:] * dy[:-1] - dx[:-1] * dy[1:]) > 1e-12
    kept = np.concatenate([[True], turns, [True]])
    return x[kept], y[kept]


def weights_table(reported: ReportedResult, found: Branches) -> Table | None:
    """The weight of each branch behind the number of each machine."""
    if found.weights.empty:
        return None
    several = len(reported.result.run.seeds) > 1
    columns = [Column("machine"), *([Column("seed")] if several else [])]
    columns += [Column(name, "heat", 2, low=0.0, high=1.0) for name in found.names]
    rows: list[list[Cell]] = [
        [str(row["machine"]), *([str(row["seed"])] if several else []), *(float(row[n]) for n in found.names)]
        for row in found.weights.to_dict("records")
    ]
    note = "Each row has the weights of the fold that reported the machine."
    return Table(f"{reported.name}: weights of the branches", columns, rows, note)


def branch_charts(reported: ReportedResult, found: Branches) -> list[Chart]:
    """Each branch alone, and what the fusion loses without it."""
    table, charts_ = found.table, []
    if table.empty:
        return []
    omega, low, high = interval_of(reported)
    bars = [Bar(str(n), 100 * r["omega"], 100 * r["low"], 100 * r["high"]) for n, r in table.iterrows()]
    if omega is not None and low is not None and high is not None:
        bars.append(Bar("fused", 100 * omega, 100 * low, 100 * high, "s2"))
    charts_.append(
        charts.bar_chart(
            f"{reported.name}: each branch alone",
            bars,
            x=OMEGA,
            description="Omega of each branch by itself, and of the fusion, with 95 % intervals.",
        )
    )
    if "adds" in table:
        bars = [
            Bar(str(n), 100 * r["adds"], 100 * r["adds_low"], 100 * r["adds_high"])
            for n, r in table.iterrows()
        ]
        charts_.append(
            charts.bar_chart(
                f"{reported.name}: what each branch adds",
                bars,
                x=Axis("Omega", "points"),
                reference=0.0,
                description=f"Omega of the fusion minus that of the fusion without the branch, in percentage "
                "points, with paired 95 % "
                f"intervals. {found.chosen} Who chooses branches by these bars selects on the test labels.",
            )
        )
    return charts_


def wrong_table(reported: ReportedResult, targets: Targets) -> Table | None:
    """The clips that a result is most wrong about; without labels, those with the highest scores."""
    table = reported.wrong
    if table.empty:
        return None
    labelled = not table["rank"].isna().all()
    rows: list[list[Cell]] = []
    for row in table.to_dict("records"):
        key, name = str(row["key"]), _short(str(row["key"]))
        clip: Cell = Link(name, targets[key]) if key in targets else name
        values = [float(row["score"]), *([float(row["rank"])] if labelled else []), float(row["flagged"])]
        rows.append([clip, _place_of(row), _domain(row["domain"]), str(row["kind"]), *values])
    columns = [Column("clip"), Column("machine"), Column("domain"), Column("kind"), Column("score", "number")]
    columns += [Column("on the wrong side", "number", 0, percent=True)] if labelled else []
    columns.append(Column("flagged", "number", 0, percent=True))
    note = "These are the clips with the highest scores; there are no metrics."
    if labelled:
        note = (
            "The share on the wrong side is, of a missed anomaly, that of the normal clips of its machine that "
            "score as high or higher; of a false alarm, that of the anomalies that score as high or lower."
        )
    if len(reported.result.run.seeds) > 1:
        note += f" Shares are means of the seeds; scores are those of seed {reported.seed}."
    title = "the most wrong clips" if labelled else "the highest scores"
    return Table(f"{reported.name}: {title}", columns, rows, note)
