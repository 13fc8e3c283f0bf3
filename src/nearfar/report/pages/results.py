"""The page of one or several results: how good, how sure, where wrong, and clips to see and to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfar.report.pages import clips, experiments
from nearfar.report.pages.drawing import Chart
from nearfar.report.pages.experiments import MOST_POINTS, OfMachine, percent, with_interval
from nearfar.report.pages.page import MOST_BYTES, render
from nearfar.report.pages.tables import Table

if TYPE_CHECKING:
    from nearfar.research.reported import Reported, ReportedResult

TEMPLATE = "results.html.j2"
SPARE = 150_000  # bytes that are left free: sizes of clips are estimates
MOST_PAIR_CHARTS = 6
NO_LABELS = "No labels are known, so there are no metrics: only scores are shown."
ONE_CLASS = (
    "No machine has labels of all clips, of normal ones and of anomalous ones, so there are no metrics: only "
    "scores are shown."
)
NO_OMEGA = "Some machines have domains and some have none, so there is no Omega of all of them."


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says of one result.

    Attributes
    ----------
    id, name, headline : str
    facts : sequence of (str, str)
    notes : sequence of str
    tables : mapping from str to Table or None
    charts : mapping from str to sequence of Chart
    machines : sequence of OfMachine
    """

    id: str
    name: str
    headline: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    tables: Mapping[str, Table | None]
    charts: Mapping[str, Sequence[Chart]]
    machines: Sequence[OfMachine]


def page(reported: Reported, *, options: Sequence[str] = (), file: str = "report.html") -> str:
    """The page of results: one file that loads nothing.

    Parameters
    ----------
    reported : Reported
    options : sequence of str
        Of `nearfar report`, beside results and data: the page says the command that made it.
    file : str
        Name of the file.

    Returns
    -------
    str
        Below ``page.MOST_BYTES`` in UTF-8, as long as numbers alone are: if there is no room, fewer clips are
        played.
    """
    from nearfar import __version__
    from nearfar.files.provenance import library_versions
    from nearfar.research.commands import report_command

    results = [one.result for one in reported.results]
    command = report_command(results, data=reported.listened is not None, options=options, file=file)
    versions = {"nearfar": __version__, **library_versions()}
    without = _render(reported, (), (), command, versions)
    room = MOST_BYTES - SPARE - len(without.encode())
    cards, remarks = clips.cards(reported, room)
    if not cards and not remarks:
        return without
    return _render(reported, cards, remarks, command, versions)


def _render(
    reported: Reported,
    cards: Sequence[clips.Card],
    remarks: Sequence[str],
    command: str,
    versions: Mapping[str, str],
) -> str:
    names, keys = [one.name for one in reported.results], _keys(reported)
    targets = {keys[number]: card.id for number, card in enumerate(cards)}
    points = (
        sum(len(one.result.scores) // len(one.result.run.seeds) for one in reported.results) <= MOST_POINTS
    )
    first, listened = reported.results[0], reported.listened
    of_first = first.result.scores[first.result.scores["seed"] == first.seed]
    scores = dict(zip(of_first["key"], of_first["score"], strict=True))
    single = tuple(dict.fromkeys(cell for one in reported.results for cell in one.single))
    any_intervals = any(one.intervals is not None for one in reported.results)
    return render(
        TEMPLATE,
        title=names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more",
        omegas=experiments.omegas_table(reported.results),
        over=experiments.over(reported.unit, single) if any_intervals else "",
        pairs=experiments.pair_table(reported.pairs, names),
        pair_charts=[
            chart
            for pair in reported.pairs[:MOST_PAIR_CHARTS]
            if (chart := experiments.pair_chart(pair, names))
        ],
        not_compared=[f"{names[p.a]} and {names[p.b]}: {p.why_not}" for p in reported.pairs if p.why_not],
        sections=[_section(place, one, targets, points) for place, one in enumerate(reported.results)],
        cards=cards,
        remarks=remarks,
        listened=listened,
        maps=[] if listened is None else clips.map_charts(listened, scores, targets),
        problems=None if listened is None else clips.problems_table(listened.problems),
        made=[_made(one) for one in reported.results],
        command=command,
        versions=versions,
    )


def _keys(reported: Reported) -> list[str]:
    """Of the clips that have been heard, in the order of their cards."""
    heard = {} if reported.listened is None else reported.listened.heard
    return [key for key in reported.played if key in heard]


def _section(place: int, one: ReportedResult, targets: Mapping[str, str], points: bool) -> Section:
    branches = one.branches
    seeds_chart = experiments.seeds_chart(one)
    return Section(
        id=f"result-{place + 1}",
        name=one.name,
        headline=_headline(one),
        facts=_facts(one),
        notes=_notes(one),
        tables={
            "metrics": experiments.heat_table(one),
            "false_alarms": experiments.false_alarm_table(one),
            "weights": None if branches is None else experiments.weights_table(one, branches),
            "wrong": experiments.wrong_table(one, targets),
        },
        charts={
            "seeds": [] if seeds_chart is None else [seeds_chart],
            "false_alarms": experiments.false_alarm_charts(one),
            "branches": [] if branches is None else experiments.branch_charts(one, branches),
        },
        machines=experiments.of_machines(one, targets, points=points),
    )


def _headline(one: ReportedResult) -> str:
    """Omega with its interval, and what it is worth, in a sentence."""
    omega, low, high = experiments.interval_of(one)
    if one.result.metrics.empty:
        labels = one.result.scores["label"]
        return ONE_CLASS if labels.notna().any() else NO_LABELS
    if omega is None:
        return NO_OMEGA
    protocol = one.result.run.protocol
    seeds = len(one.omegas)
    mean = f", the mean of {seeds} seeds" if seeds > 1 else ""
    return f"Omega is {with_interval(omega, low, high)}{mean}. Selected on {protocol.selected_on}."


def _facts(one: ReportedResult) -> list[tuple[str, str]]:
    run = one.result.run
    facts = [("protocol", run.protocol.name), ("selected on", run.protocol.selected_on)]
    facts += [("scope", run.protocol.scope)] if run.protocol.scope else []
    clips_tested = sum(of.test_clips for of in run.data.machines.values())
    facts += [
        ("data", f"{run.data.name}: {_counted(len(run.machines), 'machine')}, {clips_tested} test clips")
    ]
    facts += [("seeds", ", ".join(map(str, run.seeds)))]
    facts += [("sampling rate", f"{run.sample_rate} Hz")] if run.sample_rate is not None else []
    if len(run.seeds) > 1:
        deviation = float(one.omegas.std(ddof=1)) if len(one.omegas) > 1 else None
        facts += [("deviation of the seeds", percent(deviation, 2))]
        facts += [("figures of scores and ROC", f"seed {one.seed}")]
    return facts


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _notes(one: ReportedResult) -> list[str]:
    """What is not there, and why."""
    run, notes = one.result.run, []
    known = set(one.result.metrics["machine"])
    if known and (without := [name for name in run.machines if name not in known]):
        labels = one.result.scores.groupby("machine")["label"].count()
        partly = [name for name in without if labels.get(name, 0)]
        if never := [name for name in without if name not in partly]:
            notes.append(
                f"No labels are known of {', '.join(never)}: these have no metrics and no part in Omega."
            )
        if partly:
            notes.append(
                f"Of {', '.join(partly)}, labels are missing or all clips are of one class: these have no metrics "
                "and no part in Omega."
            )
    if known and one.false_alarms.empty:
        notes.append("No decisions were taken, so there are no false alarms and no thresholds.")
    if run.branches is not None and len(run.branches) > 1 and one.branches is not None:
        notes += one.branches.why_not
    return notes


def _made(one: ReportedResult) -> dict[str, object]:
    """How a result is made again."""
    commands = one.commands
    digests = [
        f"{machine}: {_counted(of.training_clips, 'training clip')} {of.training_digest}, "
        f"{_counted(of.test_clips, 'test clip')} {of.test_digest}"
        for machine, of in one.result.run.data.machines.items()
    ]
    return {
        "name": one.name,
        "lines": commands.lines,
        "file": commands.file,
        "settings": commands.settings,
        "unknown": commands.unknown,
        "versions": ", ".join(f"{name} {version}" for name, version in commands.versions.items()),
        "clips": "\n".join(digests),
    }
