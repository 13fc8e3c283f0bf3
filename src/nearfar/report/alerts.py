"""Alerts of a logbook in a terminal: those that wait, what happened to one of them, and what is hidden."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from nearfar.evidence.contents import plain
from nearfar.files.names import one_line
from nearfar.report.watched import moment

Row = Mapping[str, Any]

ACTIVE, OVER = "bold red", "dim"


def state(alert: Row) -> str:
    """The state of an alert, in words."""
    if not alert["retained"]:
        return "re-armed"
    return f"{'active' if alert['active'] else 'cleared'}, {'acknowledged' if alert['acked'] else 'unacknowledged'}"


def hidden(standing: Row, now: float, zone: tzinfo) -> str:
    """What hides a condition, in words; empty if it is annunciated.

    Parameters
    ----------
    standing : mapping
        Of a condition, or of an alert, as ``logbook.asked`` gives it.
    now : float
        Seconds since 1970 UTC. A shelf whose time is over hides nothing.
    zone : tzinfo
        Of the site.
    """
    told, until = [], standing["shelved_until_at"]
    if until is not None and until > now:
        one_shot = standing["shelving"] == "one shot"
        told.append("shelved for one shot" if one_shot else f"shelved until {moment(until, zone)}")
    told += ["suppressed"] if standing["suppressed"] else []
    told += ["out of service"] if standing["out_of_service"] else []
    return ", ".join(told)


def waiting(
    alerts: Sequence[Row], conditions: Iterable[Row], *, now: float, zone: tzinfo, more: bool = False
) -> RenderableType:
    """The list of alerts, and below it what is hidden.

    Parameters
    ----------
    alerts, conditions : sequences of mappings
        As of ``logbook.asked``.
    now : float
    zone : tzinfo
    more : bool
        Whether there are older alerts than these.
    """
    table = Table(
        Column("id", justify="right"), Column("machine", overflow="fold"), "alert", "state", "since",
        Column("what", overflow="fold"),
    )  # fmt: skip
    for alert in alerts:
        unseen = ACTIVE if alert["active"] and not alert["acked"] else ""
        table.add_row(
            str(alert["id"]), Text(one_line(alert["machine"])), alert["condition"],
            Text(state(alert), unseen if alert["retained"] else OVER), moment(alert["began_at"], zone),
            Text(one_line(alert["message"])),
        )  # fmt: skip
    shown: list[RenderableType] = [table if alerts else Text("No alert.")]
    shown += [Text("There are older ones; --most shows more.")] if more else []
    shown += [Text(f"Nobody is told of {line}", OVER) for line in _hidden_lines(conditions, now, zone)]
    return Group(*shown)


def _hidden_lines(conditions: Iterable[Row], now: float, zone: tzinfo) -> list[str]:
    told = ((one, hidden(one, now, zone)) for one in conditions)
    return [f"{one_line(one['machine'])}, {one['condition']}: {words}" for one, words in told if words]


def in_full(alert: Row, *, now: float, zone: tzinfo) -> RenderableType:
    """An alert, what speaks for it, and what happened to it.

    Parameters
    ----------
    alert : mapping
        As of ``logbook.asked.alert``.
    now : float
    zone : tzinfo
    """
    heading = f"Alert {alert['id']}: {alert['machine']}, {alert['condition']}, {state(alert)}"
    lines = [
        one_line(alert["message"]),
        f"active since {moment(alert['began_at'], zone)}, likely wrong since {moment(alert['since_at'], zone)}",
    ]
    if words := hidden(alert, now, zone):
        lines.append(f"nobody is told: {words}")
    if alert["evidence"] is not None:
        lines += [f"* {one_line(reason['words'])}" for reason in alert["evidence"].get("reasons", ())]
    elif alert["evidence_error"]:
        lines.append(f"no evidence: {one_line(alert['evidence_error'])}")
    table = Table("when", "what", "who", Column("comment", overflow="fold"))
    for row in alert["journal"]:
        table.add_row(moment(row["at"], zone), row["what"], Text(row["by"]), Text(row["comment"]))
    return Group(Text(one_line(heading), "bold"), *map(Text, lines), table)


def json_text(content: Mapping[str, Any]) -> str:
    """JSON on one line; rows have the names of the columns, and times are seconds since 1970 UTC."""
    return json.dumps(plain(content), ensure_ascii=False, allow_nan=False) + "\n"
