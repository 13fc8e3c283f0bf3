"""What a watch shows in a terminal: a line for what happens, a table of the machines, a summary at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from nearfar.files.extras import resolve
from nearfar.files.names import one_line
from nearfar.logbook import asked
from nearfar.logbook.schema import summaries, windows
from nearfar.recordings.clips import counted
from nearfar.watching.site import PATHS
from nearfar.watching.sources import SOURCES
from nearfar.windows.cutting import told_time

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector
    from nearfar.watching.site import MachineSite, Site

Row = Mapping[str, Any]

PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^/]*@")
NO_SOUND_SINCE = "No sound since "  # as ``watching.hearing.no_sound`` says it
WIDE = 90  # characters, from which on a terminal has room for all that is known of a machine
MOST_SHOWN = 20  # alerts of a summary, one by one
STYLES = {
    "alert": "bold red", "cleared": "green", "event": "yellow", "quiet": "dim", "unusable": "magenta",
    "anomaly": "red", "no sound": "bold red", "stopped": "dim", "paused": "dim",
}  # fmt: skip
QUIET = ("re-armed", "evidence")  # follow from others
LINE_ENDS_WITH = {"evidence": "what speaks for it is there", "re-armed": "acknowledged and over"}


def moment(at: float, zone: tzinfo) -> str:
    """A time by the clock of the site, to the second."""
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")


def place(state: Path | str) -> str:
    """Where a logbook is, without the password that its URL may hold.

    Examples
    --------
    >>> from nearfar.report.watched import place
    >>> place("postgresql://ada:secret@db.example.org/hall3")
    'postgresql://ada:***@db.example.org/hall3'
    """
    return PASSWORD.sub(r"\1:***@", str(state))


def line(told: Row, zone: tzinfo) -> Text:
    """What a message of the journal says, on one line.

    Parameters
    ----------
    told : mapping
        The content of a message, as ``watching.messages.of_journal`` makes it.
    zone : tzinfo
    """
    words, style = _words(told, zone)
    who = f" by {told['by']}" if told.get("by") else ""
    comment = f': "{told["comment"]}"' if told.get("comment") else ""
    text = f"{moment(told['at_s'], zone)}  {told['machine']}  {words}{who}{comment}"
    return Text(one_line(text), style)


def is_repeated(told: Row) -> bool:
    """Whether a message only says what the alert before it has said: that there is no sound, and since when."""
    content = told.get("content") or {}
    return told["what"] == "mode" and str(content.get("told", "")).startswith(NO_SOUND_SINCE)


def _words(told: Row, zone: tzinfo) -> tuple[str, str]:
    """What happened, and how it is shown."""
    what, condition = told["what"], told.get("condition") or ""
    if what == "activated":
        return _activated(told, condition, zone)
    if what == "cleared":
        return f"cleared: {condition}", STYLES["cleared"]
    if what == "event":
        return _event(told.get("event") or {}, zone), STYLES["event"]
    if what == "mode":
        content = told.get("content") or {}
        mode, words = content.get("mode", "?"), content.get("told", "")
        return f"{mode}{f', {words}' if words else ''}", STYLES.get(mode, "")
    if what == "detector":
        return _detector(told.get("content") or {}), ""
    if what == "heard late":
        late = (told.get("content") or {}).get("seconds")
        return f"heard late{'' if late is None else f', by {told_time(late)}'}", STYLES["unusable"]
    more = f": {LINE_ENDS_WITH[what]}" if what in LINE_ENDS_WITH else ""
    return f"{what}{f' ({condition})' if condition else ''}{more}", STYLES["quiet"] if what in QUIET else ""


def _activated(told: Row, condition: str, zone: tzinfo) -> tuple[str, str]:
    alert = told.get("alert") or {}
    message = alert.get("message") or ""
    words = f"{condition}: {message}" if message else condition
    if (since := alert.get("since")) and condition != "no sound":  # whose message says it
        words += f" (since {moment(datetime.fromisoformat(since).timestamp(), zone)})"
    if told.get("annunciated", True):
        return f"ALERT  {words}", STYLES["alert"]
    return f"alert, held back (shelved, suppressed or out of service)  {words}", STYLES["quiet"]


def _detector(content: Row) -> str:
    """By which detector a machine is heard from now on."""
    by = f"heard by {content.get('system', '?')}, false alerts at most {content.get('false_alerts', '?')}"
    return f"{by}; was heard in another way before, so its rules begin again" if content.get("before") else by


def _event(event: Row, zone: tzinfo) -> str:
    if not event:
        return "event"
    begins, ends = (
        moment(datetime.fromisoformat(event[key]).timestamp(), zone) for key in ("begins", "ends")
    )
    of = counted(event["windows"], "window")
    unusable = f", {event['unusable']} unusable" if event["unusable"] else ""
    score = event["peak_score"]
    peak = "" if score is None else f", peak score {score:.3g}"
    return f"event  {begins} to {ends.split()[1]}: {event['anomalous']} of {of} anomalous{unusable}{peak}"


def hall(
    machines: Sequence[Row], zone: tzinfo, *, most: int, heading: str = "", width: int = WIDE
) -> RenderableType:
    """The machines as they are now: those with alerts first, at most so many.

    Parameters
    ----------
    machines : sequence of mapping
        As of ``logbook.asked.machines``.
    zone : tzinfo
    most : int
        Rows that there is room for.
    heading : str
        Above the table.
    width : int
        Of the terminal, in characters. If it is narrow, only what matters most is shown.
    """
    table, cells = (_whole(), _cells) if width >= WIDE else (_narrow(), _few_cells)
    if heading:
        table.title, table.title_justify = Text(heading), "left"
    rows = sorted(machines, key=lambda one: (not _active(one), not one["alerts"]))
    for row in rows[:most]:
        table.add_row(*cells(row, zone))
    left = rows[most:]
    if not left:
        return table
    modes = sorted({one["mode"] for one in left})
    return Group(table, Text(f"... and {len(left)} more, without an alert: {', '.join(modes)}"))


def _whole() -> Table:
    return Table(
        Column("machine", overflow="fold"), "state", Column("score", justify="right"), "last window",
        Column("evidence", justify="right"), "heard until", "alerts",
    )  # fmt: skip


def _narrow() -> Table:
    return Table(
        Column("machine", overflow="fold"), "state", Column("evidence", justify="right"), "until",
        box=None, pad_edge=False,
    )  # fmt: skip


def _few_cells(row: Row, zone: tzinfo) -> Iterator[RenderableType]:
    """What a narrow terminal has room for."""
    active = [one["condition"] for one in _active(row)]
    until = row["heard_until_at"]
    yield Text(one_line(row["name"]))
    if active:
        yield Text(f"ALERT {', '.join(active)}", STYLES["alert"])
    else:
        yield Text(row["mode"], STYLES.get(row["mode"], ""))
    yield "" if row["evidence"] is None else f"{100 * row['evidence']:.0f} %"
    yield "" if until is None else moment(until, zone).split()[1]


def _active(machine: Row) -> list[Row]:
    return [alert for alert in machine["alerts"] if alert["active"]]


def _cells(row: Row, zone: tzinfo) -> Iterator[RenderableType]:
    decision = row["decision"] or ""
    yield Text(one_line(row["name"]))
    yield Text(row["mode"], STYLES.get(row["mode"], ""))
    yield "" if row["score"] is None else f"{row['score']:.3g}"
    yield Text(decision, STYLES.get(decision, ""))
    yield "" if row["evidence"] is None else f"{100 * row['evidence']:.0f} %"
    yield "" if row["heard_until_at"] is None else moment(row["heard_until_at"], zone)
    active = _active(row)
    waiting = len(row["alerts"]) - len(active)
    alerts = [f"{one['condition']} since {moment(one['since_at'], zone)}" for one in active]
    alerts += [f"{waiting} to acknowledge"] if waiting else []
    yield Text(", ".join(alerts), STYLES["alert"] if active else "")


def plan(site: Site, detectors: Mapping[str, Detector]) -> Table:
    """What a watch would do."""
    table = Table(
        *(Column(name, overflow="fold") for name in ("machine", "detector", "windows", "false alerts")),
        *(Column(name, overflow="fold") for name in ("sound from", "pauses")),
        title=Text(f"{site.name}: logbook {place(site.state)}, sounds in {site.sounds}"), title_justify="left",
    )  # fmt: skip
    for name, machine in site.machines.items():
        detector = detectors[name]
        cut = machine.cut(detector) or detector.cut
        every = "" if cut.hop == cut.seconds else f" every {told_time(cut.hop)}"
        table.add_row(
            Text(name), Text(f"{machine.detector.name} ({detector.system.name})"),
            f"{told_time(cut.seconds)}{every}", machine.false_alerts, Text(_source(machine)),
            Text(str(machine.pauses) or "none"),
        )  # fmt: skip
    sinks = ", ".join(f"{name} ({sink.kind})" for name, sink in site.sinks.items())
    table.caption = Text(f"told to: {sinks or 'nobody but the logbook'}")
    return table


def _source(machine: MachineSite) -> str:
    """The kind, and what its source has beside the defaults."""
    kind, options = machine.source.kind, machine.source.options
    own = {
        name: value
        for name, parameter in signature(
            resolve(SOURCES[kind], needed_by=f"source {kind!r}")
        ).parameters.items()
        if (value := options.get(name)) is not None and value != parameter.default
    }
    shown = (str(value) if name in PATHS else f"{name} {value}" for name, value in own.items())
    return f"{kind} {', '.join(shown)}".strip()


def summary(c: sql.Connection, zone: tzinfo) -> RenderableType:
    """What a logbook holds: how many windows and events, and the alerts with their times.

    Parameters
    ----------
    c : Connection
        That reads.
    zone : tzinfo
    """
    heard, scored = _counts(c)
    events = asked.events(c, most=asked.MOST)
    alerts = asked.alerts(c, state="all", most=asked.MOST)
    lines = [
        f"Heard {counted(heard, 'window')}, {scored} of them with a score.",
        f"Found {_at_most(len(events), 'event')} and {_at_most(len(alerts), 'alert')}.",
    ]
    shown: list[RenderableType] = [Text(" ".join(lines))]
    if alerts:
        shown.append(_alerts(alerts[::-1], zone))
    return Group(*shown)


def _counts(c: sql.Connection) -> tuple[int, int]:
    """How many windows were heard, and how many of them have a score; also of those that became summaries."""
    of_windows = c.execute(sql.select(sql.func.count(), sql.func.count(windows.c.score))).one()
    of_summaries = c.execute(
        sql.select(
            sql.func.coalesce(sql.func.sum(summaries.c.windows), 0),
            sql.func.coalesce(sql.func.sum(summaries.c.scored), 0),
        )
    ).one()
    return of_windows[0] + of_summaries[0], of_windows[1] + of_summaries[1]


def _at_most(count: int, noun: str) -> str:
    return f"{asked.MOST} {noun}s or more" if count >= asked.MOST else counted(count, noun)


def _alerts(alerts: Sequence[Row], zone: tzinfo) -> Text:
    """A line for each, the newest last: a table would have no room for what they say."""
    lines = [f"... the last {MOST_SHOWN} of {len(alerts)}:"] if len(alerts) > MOST_SHOWN else []
    for alert in alerts[-MOST_SHOWN:]:
        ended = "still active" if alert["ended_at"] is None else f"until {moment(alert['ended_at'], zone)}"
        when = f"{moment(alert['began_at'], zone)}  {alert['machine']}  {alert['condition']}, {ended}"
        likely = f"likely since {moment(alert['since_at'], zone)}"
        lines.append(one_line(f"{when}, {likely}: {alert['message']}"))
    return Text("\n".join(lines))


def progress(done: float, total: float, seconds: float) -> str:
    """How far a replay is.

    Parameters
    ----------
    done, total : float
        Seconds of sound.
    seconds : float
        Since it began.

    Examples
    --------
    >>> from nearfar.report.watched import progress
    >>> progress(21600, 86400, 60)
    'playing: 25 % of 24 h, about 3 min left'
    """
    told = f"playing: {100 * done / total if total else 100:.0f} % of {told_time(total)}"
    return told if not done else f"{told}, about {told_time(round(seconds * (total - done) / done))} left"


def tokens(rows: Sequence[Row], zone: tzinfo) -> RenderableType:
    """Who has a token, as ``logbook.tokens.names`` gives it."""
    if not rows:
        return "nobody has a token"
    table = Table("name", "role", "made")
    for row in rows:
        table.add_row(Text(one_line(row["name"])), row["role"], moment(row["made_at"], zone))
    return table
