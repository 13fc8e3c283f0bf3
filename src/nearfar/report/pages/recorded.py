"""The page of a data set: what was recorded, to see and to hear, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfar.evidence.recorded import (
    LOOKED_FOR,
    attributes_of,
    drift_of,
    groups_by,
    quantiles_of,
)
from nearfar.evidence.spectrograms import spectrogram
from nearfar.recordings.clips import counted
from nearfar.report.pages import charts, sounds
from nearfar.report.pages.charts import Axis, Band, Chart, Line, Span
from nearfar.report.pages.clips import VIEWS, Card, View, codec
from nearfar.report.pages.drawing import Look
from nearfar.report.pages.page import render
from nearfar.report.pages.pictures import Picture, image_chart, limits_of
from nearfar.report.pages.tables import Cell, Column, Link, Table
from nearfar.report.pages.text import number

if TYPE_CHECKING:
    from nearfar.evidence.recorded import Audible, ClipRecorded, DatasetRecorded, MachineRecorded
    from nearfar.recordings.datasets.validation import Problem

MOST_SOUND = 5_500_000  # bytes of the page, for all clips that can be heard
MOST_PROBLEMS = 1000  # rows of the table of all
MOST_OF_A_KIND = 50  # rows of each of the other tables
MOST_VALUES = 8  # of an attribute that has spectra of its own: there are so many colours
MOST_ATTRIBUTES = 6
BANDED = 3  # groups with their 5 to 95 %: more would hide each other
MOST_SECONDS = 12.0  # of a sound
BANDS, COLUMNS, SHORT = 64, 200, 130  # of a spectrogram; px
SERIES: tuple[Look, ...] = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
MICROPHONES: tuple[tuple[str, Look], ...] = (("near", "s1"), ("far", "far"))
LEVEL, FREQUENCY = Axis("Level", "dBFS"), Axis("Frequency", "Hz", "log")


@dataclass(frozen=True, slots=True)
class Section:
    """What is shown of a machine."""

    id: str
    name: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    levels: Sequence[Chart]
    spectra: Sequence[Chart]
    pair: Sequence[Chart]
    clock_words: Sequence[str]
    suspects: Table | None
    remarks: Sequence[str]
    cards: Sequence[Card]
    kinds: Sequence[Table]


def page(recorded: DatasetRecorded, *, command: str = "", versions: Mapping[str, str] | None = None) -> str:
    """The page of what was recorded: one file that loads nothing.

    Parameters
    ----------
    recorded : DatasetRecorded
    command : str
        The command line that made it, to be shown.
    versions : mapping from str to str, or None
        Of the code and the libraries.

    Returns
    -------
    str
        HTML; see ``pages.page.write``.
    """
    problems = recorded.problems
    errors = sum(problem.severity == "error" for problem in problems)
    room = MOST_SOUND // max(1, len(recorded.machines))
    sections = [_section(machine, i, room) for i, machine in enumerate(recorded.machines, start=1)]
    clips = sum(len(m.clips) + m.unread + m.other_rate for m in recorded.machines)
    return render(
        "recorded.html.j2",
        title=recorded.name,
        command=command or "nearfar check",
        versions=versions or {},
        summary=f"{counted(errors, 'error')} and {counted(len(problems) - errors, 'warning')} in "
        f"{counted(clips, 'clip')} of {counted(len(recorded.machines), 'machine')}.",
        overview=_overview(recorded, sections),
        problems=_problems("All problems", problems),
        machines=sections,
        made=f"Each recording was read once, and those that can be heard a second time. {_about_sounds()}",
    )


def _about_sounds() -> str:
    if codec() == "mp3":
        return (
            "Sounds are MP3, to keep the page small: what is very quiet or very high may be missing in them."
        )
    return "Sounds are FLAC with 16 bits, which takes nothing away."


def _overview(recorded: DatasetRecorded, sections: Sequence[Section]) -> Table | None:
    if len(recorded.machines) < 2:
        return None
    columns = [Column("machine"), Column("clips", "number", 0), Column("errors", "number", 0),
               Column("warnings", "number", 0), Column("unlike the others", "number", 0),
               Column("near", "number", 1, "dBFS"), Column("far", "number", 1, "dBFS")]  # fmt: skip
    rows: list[list[Cell]] = []
    for machine, section in zip(recorded.machines, sections, strict=True):
        errors = sum(p.severity == "error" for p in machine.problems)
        levels = [float(np.median([one.level[c] for one in machine.clips if len(one.level) > c] or [np.nan]))
                  for c in range(2)]  # fmt: skip
        clips = len(machine.clips) + machine.unread + machine.other_rate
        rows.append([Link(machine.name, section.id), clips, errors, len(machine.problems) - errors,
                     len(machine.of_kind("unlike")), *levels])  # fmt: skip
    return Table("Machines", columns, rows)


def _problems(title: str, problems: Sequence[Problem], most: int = MOST_PROBLEMS) -> Table | None:
    """Errors first."""
    ordered = sorted(problems, key=lambda problem: problem.severity != "error")
    rows: list[list[Cell]] = [[one.where, one.severity, one.kind, one.message] for one in ordered[:most]]
    more = len(problems) - len(rows)
    note = f"{more} more are not shown; `nearfar check --json` lists all." if more else ""
    columns = [Column("where"), Column("severity"), Column("kind"), Column("message")]
    return Table(title, columns, rows, note) if rows else None


def _section(machine: MachineRecorded, index: int, room: int) -> Section:
    cards = _cards(machine, index, room)
    played = {card.name: card.id for card in cards}
    tables = [
        _problems(f"{machine.name}: {LOOKED_FOR[kind]}", machine.of_kind(kind), MOST_OF_A_KIND)
        for kind in LOOKED_FOR
        if kind != "unlike"
    ]
    return Section(
        id=f"machine-{index}",
        name=machine.name,
        facts=_facts(machine),
        notes=_notes(machine),
        levels=_level_charts(machine),
        spectra=_spectrum_charts(machine),
        pair=_pair_charts(machine),
        clock_words=_clock_words(machine),
        suspects=_suspects(machine, played),
        remarks=_remarks(machine, len(cards)),
        cards=cards,
        kinds=[table for table in tables if table is not None],
    )


def _facts(machine: MachineRecorded) -> list[tuple[str, str]]:
    clips = machine.clips
    facts = [
        ("Training clips", str(len(machine.train))),
        ("Test clips", str(len(clips) - len(machine.train))),
    ]
    for name, of in groups_by(machine.train, "domain").items():
        facts.append((f"Training clips of the {name} domain", str(len(of))))
    if machine.cutting:
        facts.append(("Cut", machine.cutting))
    if not clips:
        return facts
    seconds = [one.seconds for one in clips]
    facts.append(("Sampling rate", f"{clips[0].rate} Hz"))
    facts.append(("Channels", str(len(clips[0].level)) if len(clips[0].level) < 2 else "near and far"))
    shortest, longest = min(seconds), max(seconds)
    same = longest - shortest < 0.01
    facts.append(("Length", f"{shortest:.4g} s" if same else f"{shortest:.4g} to {longest:.4g} s"))
    if machine.by_time and clips[0].began is not None and clips[-1].began is not None:
        facts.append(("From", f"{clips[0].began:%Y-%m-%d %H:%M:%S} to {clips[-1].began:%Y-%m-%d %H:%M:%S}"))
    return facts


def _notes(machine: MachineRecorded) -> list[str]:
    notes = []
    if machine.unread:
        notes.append(f"Without {counted(machine.unread, 'clip')} that cannot be read.")
    if machine.other_rate:
        number_of = counted(machine.other_rate, "clip")
        notes.append(f"Without {number_of} of another sampling rate or number of channels than most.")
    if not machine.clips:
        notes.append("There is no clip that can be shown.")
    elif not machine.by_time:
        notes.append(
            "When the clips were recorded is not told by all files or names, so they are in order of names."
        )
    return notes


def _places(machine: MachineRecorded) -> tuple[np.ndarray, Axis, list[Span]]:
    """Where the clips stand on the axis of time or order, and which of them are test clips."""
    clips = machine.clips
    first = clips[0].began
    if machine.by_time and first is not None:
        hours = np.array(
            [(one.began - first).total_seconds() / 3600 for one in clips if one.began is not None]
        )
        days = hours[-1] > 72
        axis = Axis(f"Time since {first:%Y-%m-%d %H:%M}", "days" if days else "hours")
        return hours / 24 if days else hours, axis, []
    n_train = sum(one.clip.split == "train" for one in clips)
    spans = [Span("test clips", n_train + 0.5, len(clips) + 0.5)] if 0 < n_train < len(clips) else []
    return np.arange(1, len(clips) + 1, dtype=float), Axis("Clip, in order of names"), spans


def _channels(clips: Sequence[ClipRecorded]) -> list[tuple[int, str, Look]]:
    n = len(clips[0].level) if clips else 0
    return [(channel, name, look) for channel, (name, look) in enumerate(MICROPHONES[:n])]


def _level_charts(machine: MachineRecorded) -> list[Chart]:
    if not machine.clips:
        return []
    clips, (x, axis, spans) = machine.clips, _places(machine)
    channels = _channels(clips)
    lines = [Line(name, x, np.array([one.level[c] for one in clips]), look) for c, name, look in channels]
    bands = [
        Band(f"{name}, 5 to 95 % of 50 ms", x, np.array([one.quiet[c] for one in clips]),
             np.array([one.loud[c] for one in clips]), look)
        for c, name, look in channels
    ]  # fmt: skip
    marked = " The marked stretch is of test clips." if spans else ""
    found = [charts.line_chart(
        f"{machine.name}: level of each clip", lines, x=axis, y=LEVEL, bands=bands, spans=spans,
        description=f"Lines are levels of clips; areas are what 5 to 95 % of their blocks of 50 ms have.{marked}",
    )]  # fmt: skip
    course = quantiles_of(np.stack([one.course for one in clips]))  # (3, C, places)
    seconds = float(np.median([one.seconds for one in clips]))
    places = (np.arange(course.shape[2]) + 0.5) / course.shape[2] * seconds
    found.append(charts.line_chart(
        f"{machine.name}: level within a clip",
        [Line(name, places, course[1, c], look) for c, name, look in channels],
        x=Axis("Time in the clip", "s"), y=LEVEL,
        bands=[Band(f"{name}, 5 to 95 % of the clips", places, course[0, c], course[2, c], look)
               for c, name, look in channels],
        description="Median over all clips, and 5 to 95 % of them.",
    ))  # fmt: skip
    return found


def _centres(machine: MachineRecorded) -> np.ndarray:
    edges = np.maximum(machine.edges, 1.0)
    return np.asarray(np.sqrt(edges[:-1] * edges[1:]))


def _spectrum_charts(machine: MachineRecorded) -> list[Chart]:
    """Near by domain and by attribute, and far by domain."""
    clips = machine.train or machine.clips
    if not clips:
        return []
    found = []
    domains = groups_by(clips, "domain") or {"all clips": list(clips)}
    for channel, name, _ in _channels(clips):
        found.append(
            _spectra_of(machine, domains, channel, f"{name} by domain" if len(domains) > 1 else name)
        )
    names = dict.fromkeys(name for one in clips for name in attributes_of(one.clip))
    told = 0
    for name in names:
        groups = groups_by(clips, name)
        if 2 <= len(groups) <= MOST_VALUES and told < MOST_ATTRIBUTES:
            found.append(_spectra_of(machine, groups, 0, f"near by {name}"))
            told += 1
    return found


def _spectra_of(
    machine: MachineRecorded, groups: Mapping[str, Sequence[ClipRecorded]], channel: int, what: str
) -> Chart:
    looks = ["source" if name == "source" else "target" if name == "target" else "" for name in groups]
    colours: list[Look] = [look or SERIES[i % len(SERIES)] for i, look in enumerate(looks)]  # type: ignore[misc]
    lines, bands = [], []
    for (name, of), look in zip(groups.items(), colours, strict=True):
        low, middle, high = quantiles_of([one.bands[channel] for one in of])
        lines.append(Line(f"{name} ({counted(len(of), 'clip')})", _centres(machine), middle, look))
        if len(groups) <= BANDED and len(of) > 1:
            bands.append(Band(f"{name}, 5 to 95 %", _centres(machine), low, high, look))
    return charts.line_chart(
        f"{machine.name}: spectrum of {what}", lines, x=FREQUENCY, y=Axis("Level of a sixth of an octave", "dBFS"),
        bands=bands, description="Medians of the training clips" + (", and 5 to 95 % of them." if bands else "."),
    )  # fmt: skip


def _pair_charts(machine: MachineRecorded) -> list[Chart]:
    clips = [one for one in machine.clips if len(one.coherence)]
    if not clips:
        return []
    low, middle, high = quantiles_of([one.coherence for one in clips])
    found = [charts.line_chart(
        f"{machine.name}: coherence of near and far", [Line("median", _centres(machine), middle, "s1")],
        x=FREQUENCY, y=Axis("Coherence", low=0.0, high=1.0),
        bands=[Band("5 to 95 % of the clips", _centres(machine), low, high, "normal")],
        description="Share of near that one linear filter of far explains; without what chance gives.",
    )]  # fmt: skip
    x, axis, spans = _places(machine)
    offsets = [one.offset for one in machine.clips]
    delays = np.array([1000 * offset.delay for offset in offsets])
    if np.isfinite(delays).any():
        found.append(charts.line_chart(
            f"{machine.name}: delay of near against far", [Line("delay", x, delays, "s1")],
            x=axis, y=Axis("Delay", "ms"), spans=spans,
            description="At the beginning of each clip, by the phases of the cross-spectrum: of the sound and of "
            "the clocks together. With one clock it changes only if something moves.",
        ))  # fmt: skip
    drifts, errors = (np.array([getattr(offset, name) for offset in offsets]) for name in ("drift", "error"))
    if np.isfinite(drifts).any():
        found.append(charts.line_chart(
            f"{machine.name}: drift of the clocks", [Line("drift", x, drifts, "s1")],
            x=axis, y=Axis("Drift", "ppm"),
            bands=[Band("two standard errors", x, drifts - 2 * errors, drifts + 2 * errors, "normal")], spans=spans,
            description="By how much near falls behind far within each clip; 1 ppm is 3.6 ms in an hour.",
        ))  # fmt: skip
    return found


def _clock_words(machine: MachineRecorded) -> list[str]:
    if not any(len(one.level) > 1 for one in machine.clips):
        return []
    found = drift_of(machine.clips)
    if np.isnan(found.ppm):
        reasons = dict.fromkeys(one.offset.why_not for one in machine.clips if one.offset.why_not)
        why = f": {'; '.join(reasons)}" if reasons else ""
        return [f"Whether the clocks of the channels differ can be told of {found.told} of {found.asked} clips, "
                f"which are too few{why}."]  # fmt: skip
    numbers = (
        f"median {number(found.ppm, 2)} ppm, 95 % interval {number(found.low, 2)} to {number(found.high, 2)} ppm, "
        f"told by {found.told} of {found.asked} clips"
    )
    if found.low <= 0 <= found.high:
        words = [f"No drift between the clocks of the channels can be told ({numbers})."]
    else:
        late = "Near falls behind far" if found.ppm > 0 else "Far falls behind near"
        words = [
            f"{late}: {numbers}. Below 1 ppm it may be sound that changes, such as a room that warms up."
        ]
    if not np.isnan(found.delay_spread):
        words.append(f"Nine tenths of the delays lie within {number(1000 * found.delay_spread, 3)} ms.")
    return words


def _suspects(machine: MachineRecorded, played: Mapping[str, str]) -> Table | None:
    names = {one.clip.key: one.clip.name for one in machine.clips}
    rows: list[list[Cell]] = []
    problems = machine.of_kind("unlike")
    for problem in problems[:MOST_OF_A_KIND]:
        name = names.get(problem.where, problem.where)
        rows.append([Link(name, played[name]) if name in played else name, problem.message])
    columns = [Column("clip"), Column("what differs")]
    more = len(problems) - len(rows)
    note = f"{more} more are in the table of all problems." if more else ""
    title = f"{machine.name}: clips that do not sound like the others"
    return Table(title, columns, rows, note) if rows else None


def _remarks(machine: MachineRecorded, n_cards: int) -> list[str]:
    n = len(machine.of_kind("unlike"))
    if not machine.train:
        return []
    if not n:
        return (
            ["There is none. A typical training clip is here to be heard."] if n_cards else ["There is none."]
        )
    remarks = [
        "Faults of the machine may hide here: listen to them beside the typical clip. They have one gain and one "
        "scale of colours for each microphone. Normal clips are among them, too: a tenth of them if all goes as "
        "intended, and more where the machine has rare conditions."
    ]
    if n_cards - 1 < n:
        remarks.append(
            f"{max(n_cards - 1, 0)} of {counted(n, 'clip')} can be heard, because the page would be too large."
        )
    if any(one.seconds > MOST_SECONDS for one in machine.clips):
        remarks.append(f"Of longer clips, the first {MOST_SECONDS:g} s are here.")
    return remarks


def _cards(machine: MachineRecorded, index: int, room: int) -> list[Card]:
    """As many as there is room for, in bytes."""
    views = {name: [_cut(one, name) for one in machine.audible if name in one.views] for name in VIEWS}
    gains = {name: sounds.gain_for(of) for name, of in views.items() if of}
    levels = {
        name: limits_of(
            [spectrogram(x, machine.audible[0].rate, bands=BANDS, columns=COLUMNS).levels for x in of]
        )
        for name, of in views.items()
        if of
    }
    found: list[Card] = []
    for one in machine.audible:
        own = tuple(_view(one, name, gains[name], levels[name]) for name in one.views)
        card = Card(f"clip-{index}-{len(found) + 1}", one.clip.name, one.about, own)
        room -= card.size
        if room < 0 and found:
            break
        found.append(card)
    return found


def _cut(one: Audible, name: str) -> np.ndarray:
    return one.views[name][: round(MOST_SECONDS * one.rate)]


def _view(one: Audible, name: str, gain_db: float, limits: tuple[float, float]) -> View:
    samples = _cut(one, name)
    shown = spectrogram(samples, one.rate, bands=BANDS, columns=COLUMNS)
    picture = Picture("level", shown.levels, shown.times, shown.frequencies, Axis("Time", "s"), FREQUENCY, *limits,
                      unit="dBFS")  # fmt: skip
    chart = image_chart(
        f"{VIEWS[name]}: {one.clip.name}", picture, carried="nothing", height=SHORT,
        description=f"Levels from {number(limits[0], 0)} to {number(limits[1], 0, 'dBFS')}.",
    )  # fmt: skip
    (player,) = sounds.players([(VIEWS[name], samples, one.rate)], codec=codec(), gain_db=gain_db)
    return View(VIEWS[name], chart, player)
