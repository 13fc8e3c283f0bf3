"""What changed over days: as a table, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nearfar.decisions.drift import DAY, HOUR
from nearfar.decisions.rates import percent
from nearfar.detector.drifting import QUANTITIES
from nearfar.files.names import printable

if TYPE_CHECKING:
    from nearfar.decisions.drift import Change
    from nearfar.detector.drifting import Drift

NAMES = {
    "score": "score",
    "near_dbfs": "near level",
    "far_dbfs": "far level",
    "near_over_far": "near over far",
    "coherence": "coherence",
    "near_tilt": "near tilt",
    "far_tilt": "far tilt",
}
FOUND = {
    "none": ("no change", "green"),
    "drift": ("drift", "bold red"),
    "sudden": ("sudden change", "yellow"),
    "unclear": ("changes", "yellow"),
}
ADVICE = {
    "drift": "Drift: listen to normal recordings of now. If the machine is well, give them to the detector "
    "(nearfar calibrate, or a new fit); if a microphone drifts, look at it first.",
    "sudden": "A sudden change is no drift: it may be a fault, a repair, a moved microphone or another gain. Look "
    "at the events of that hour.",
    "unclear": "A change that may be slow or sudden: more days will tell.",
}
COLUMNS = (
    "quantity", "unit", "found", "per_week", "low", "high", "level", "first", "last", "blocks", "span", "step",
    "at", "p_trend", "p_step", "p_not_sudden", "p_not_slow", "not_tested",
)  # fmt: skip
PLAIN = ("level", "blocks", "span", "step", "p_trend", "p_step", "p_not_sudden", "p_not_slow")
WEEK = 7  # days


def table(found: Drift) -> Table:
    """A row for each quantity, what to do about it, and what was asked for."""
    some = next(iter(found.changes.values()))
    since, until = _moment(found, some.first), _moment(found, some.last)
    days = (some.last - some.first) / DAY
    title = f"Changes of '{found.machine}' from {since} to {until}, {days:.3g} days"
    shown = Table("quantity", "found", "change per week", "what it is", title=escape(printable(title)))
    shown.caption_justify = "left"
    for name in QUANTITIES:
        if name in found.changes:
            change = found.changes[name]
            label, style = FOUND[change.kind]
            shown.add_row(
                NAMES[name], Text(label, style), _per_week(change, QUANTITIES[name]), _told(found, name)
            )
        elif name in found.not_tested:
            shown.add_row(NAMES[name], "not tested", "-", found.not_tested[name])
    shown.caption = "\n".join([*(ADVICE[kind] for kind in ADVICE if kind in found.kinds), _asked(found)])
    return shown


def _per_week(change: Change, unit: str) -> str:
    if change.kind == "sudden":
        return "-"
    slope, low, high = (_signed(WEEK * x) for x in (change.slope, change.low, change.high))
    return f"{slope}{_of(unit)} ({low} to {high})"


def _signed(number: float) -> str:
    return f"{number:+.2g}" if number else "0"


def _of(unit: str) -> str:
    return f" {unit}" if unit else ""


def _told(found: Drift, name: str) -> str:
    change, unit = found.changes[name], QUANTITIES[name]
    if change.kind == "sudden" and change.at is not None:
        return f"a step of {_signed(change.step)}{_of(unit)} at about {_moment(found, change.at)}"
    if name == "score" and change.kind == "drift" and found.p_values is not None:
        told = "p-value of the middle: {:.2g}, now {:.2g}".format(*found.p_values)
        days = found.days_to_threshold()
        return told if math.isinf(days) else f"{told}; at the threshold in {days:.0f} days if it goes on"
    return f"middle {change.level:.4g}{_of(unit)}, {change.blocks} of {change.span} blocks"


def _moment(found: Drift, seconds: float) -> str:
    when = found.when(seconds)
    if not isinstance(when, datetime):
        return f"day {when:.2f}"
    whole = found.block % DAY == 0 and seconds % DAY == 0
    return f"{when:%Y-%m-%d}" if whole else f"{when:%Y-%m-%d %H:%M}"


def _asked(found: Drift) -> str:
    asked = (
        f"Asked: at most {percent(found.false_rate)} false drifts, all quantities together. Blocks of "
        f"{found.block / HOUR:g} h; {found.rows} rows"
    )
    if found.unusable:
        asked += f", {found.unusable} of them unusable: their scores are left out"
    if found.without_time:
        asked += f"; {found.without_time} without a time are left out"
    return f"{asked}."


def _content(found: Drift, name: str) -> dict[str, Any]:
    """The row of a quantity, by ``COLUMNS``; ``None`` where there is nothing."""
    told: dict[str, Any] = dict.fromkeys(COLUMNS)
    told |= {"quantity": name, "unit": QUANTITIES[name], "not_tested": found.not_tested.get(name)}
    if name not in found.changes:
        return told
    change = found.changes[name]
    of_slope = {"per_week": WEEK * change.slope, "low": WEEK * change.low, "high": WEEK * change.high}
    numbers = of_slope | {name: getattr(change, name) for name in PLAIN}
    told |= {key: None if math.isnan(x) else x for key, x in numbers.items()}
    told["found"] = change.kind
    for key, seconds in (("first", change.first), ("last", change.last), ("at", change.at)):
        if seconds is not None:
            when = found.when(seconds)
            told[key] = when.isoformat() if isinstance(when, datetime) else when
    return told


def csv_text(found: Drift) -> str:
    """A header and a row for each quantity: what is not known is empty; times are clock time, or days."""
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(_content(found, name) for name in _names(found))
    return text.getvalue()


def json_text(found: Drift) -> str:
    """One object; what is not known is null."""
    days = found.days_to_threshold()
    return json.dumps(
        {
            "machine": found.machine,
            "false_rate": found.false_rate,
            "block_hours": found.block / HOUR,
            "rows": found.rows,
            "unusable": found.unusable,
            "without_time": found.without_time,
            "threshold": found.threshold,
            "p_values": found.p_values,
            "days_to_threshold": None if math.isinf(days) else days,
            "quantities": [_content(found, name) for name in _names(found)],
        }
    )


def _names(found: Drift) -> list[str]:
    return [name for name in QUANTITIES if name in found.changes or name in found.not_tested]
