"""A published study: the plan before it runs, then its values beside ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from nearfar.research.reproduce import Found, Plan, Reproduction


def plan(found: Plan) -> Table:
    """What running a published study will do, and how long it takes."""
    table = Table(show_header=False, title=escape(f"Plan of {found.study}"))
    table.add_row("data", escape(f"{found.data}; machines: {found.machines}, clips: {found.clips:,}"))
    table.add_row("rows", f"{found.rows}; for {found.possible} of them all weights are on this computer")
    table.add_row("branches", escape(f"{len(found.branches)}: {', '.join(found.branches)}"))
    table.add_row("trainings", f"{found.trainings} for each machine")
    table.add_row("adapters", f"{found.adapters}, each trained on several machines")
    weights = (f"{name} ({'here' if here else 'missing'})" for name, here in found.weights.items())
    table.add_row("weights", escape(", ".join(weights) or "none"))
    all_rows = "" if found.possible == found.rows else f"; {_hours(found.minutes)} for all rows"
    table.add_row("time", f"{_hours(found.minutes_possible)} on one core{all_rows}")
    table.add_row("in the cache", _in_cache(found))
    table.add_row("left", _left(found))
    table.caption = escape(
        f"The time is an estimate. It includes thresholds. Measured on:\n{_sources(found)}"
    )
    return table


def _in_cache(found: Plan) -> str:
    """How much is done, step by step."""
    kinds = [f"{kind} {of.finished:,} of {of.total:,}" for kind, of in found.steps.items() if of.total]
    return f"{found.share_done:.0%} of the time" + (f" ({', '.join(kinds)})" if kinds else "")


def _left(found: Plan) -> str:
    if not found.minutes_left:
        return "nothing"
    told = f"{_hours(found.minutes_left)} on one core"
    return told if found.cores == 1 else f"{told}; {_hours(found.minutes_on_cores)} on {found.cores} cores"


def _sources(found: Plan) -> str:
    """Each source, and what was measured there."""
    of_source: dict[str, list[str]] = {}
    for what, sources in found.constants.items():
        for source in sources:
            of_source.setdefault(source, []).append(what)
    return "\n".join(f"{source}: {', '.join(what)}" for source, what in of_source.items())


def plan_json(found: Plan) -> str:
    """The same in full precision."""
    return json.dumps(found.describe())


def _hours(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    return f"{minutes / 60:.0f} hours" if minutes > 120 else f"{minutes:.0f} minutes"


def reproduction(found: Reproduction) -> Table:
    """Each published value beside ours with the difference, in percent; and what was selected on which data."""
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


def reproduction_json(found: Reproduction) -> str:
    """The same in full precision."""
    return json.dumps(found.describe())


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
