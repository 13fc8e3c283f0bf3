"""What `score` does with long recordings: options, what is heard, what is written beside it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import typer

from nearfar.cli.console import err, out, say
from nearfar.cli.options import chosen_cut
from nearfar.cli.progress import CONTINUE, shown_progress, streamed_progress
from nearfar.files.names import one_line
from nearfar.recordings.clips import counted

if TYPE_CHECKING:
    from nearfar.decisions.alarms import AlarmRule
    from nearfar.decisions.thresholds import Threshold
    from nearfar.detector.fitted import Detector
    from nearfar.listening.events import Event
    from nearfar.listening.session import Listening
    from nearfar.listening.steps import Heard, Tracker
    from nearfar.recordings.recording import Channel, Recording
    from nearfar.report.listening import Shown
    from nearfar.systems.branches import Progress
    from nearfar.windows.clock import Clock

BEGAN = "bext"  # what tells when a recording began, if nothing else is said
STDIN = "standard input"  # what it is called
MOST_NAMED = 3  # long recordings that are named one by one


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of long recordings."""

    form: str
    window: str | None
    hop: str | None
    events: bool
    gap: str | None
    labels: Path | None
    cut: Path | None
    began: str
    false_alerts: str | None
    alarm: AlarmRule | None
    order: Literal["name", "time", "clock"]
    state: Path | None
    replace: bool

    @property
    def options(self) -> list[str]:
        """Those that are for windows only."""
        return _given(
            {
                "--window": self.window,
                "--hop": self.hop,
                "--events": self.events,
                "--gap": self.gap,
                "--labels": self.labels,
                "--false-alerts": self.false_alerts,
                **self._for_files,
            }
        )

    @property
    def _for_files(self) -> dict[str, object]:
        return {
            "--cut": self.cut,
            "--state": self.state,
            "--began": self.began != BEGAN,
            "--order": self.order != "name",
        }

    def refuse_without_effect(self) -> None:
        """Raise if something is asked that changes nothing."""
        if self.replace and self.cut is None and self.labels is None:
            raise typer.BadParameter(
                "--replace is for files of --labels and --cut, and neither is given; leave it out"
            )

    def refuse_what_needs_files(self) -> None:
        """Raise if something is asked that a recording on stdin cannot have."""
        refused = _given(self._for_files)
        if refused:
            raise typer.BadParameter(
                f"{refused[0]} needs files, and - is standard input; save it to a file first"
            )
        if self.alarm is not None and not self.options:
            raise typer.BadParameter(
                "--alarm counts several clips, and - is one; give files or folders, or cut it into windows with "
                "--window"
            )

    @property
    def needs_events(self) -> bool:
        return self.events or self.labels is not None or self.cut is not None

    @property
    def failing(self) -> tuple[str, ...]:
        """What --fail-on-anomaly fails on."""
        alarm = [] if self.alarm is None else ["alarm"]
        alert = [] if self.false_alerts is None else ["alert"]
        return (*alarm, *alert) or ("anomaly",)


def _given(options: Mapping[str, object]) -> list[str]:
    return [name for name, value in options.items() if value not in (None, False)]


def listen(detector: Detector, recordings: list[Recording], asked: Asked) -> set[str]:
    """Print what is heard in recordings, one after the other, and say what occurred."""
    from nearfar.listening import session

    recordings = _each_once(recordings)
    task = _task(detector, recordings, asked)
    seconds = {str(one): session.length_of(one) for one in recordings}
    clocks = _clocks(recordings, seconds, asked)
    if asked.order == "clock":
        recordings = _by_clock(recordings, seconds, clocks)
        task = replace(task, recordings=recordings)
    files = _label_files(recordings, asked)
    _say_how(task)
    shown = _what_is_shown(task, clocks, asked)
    kept = "Nothing was kept; with --state FOLDER, the same command would go on where it was."
    if asked.state is not None:
        kept = f"What was heard is kept in {asked.state}; {CONTINUE}."

    def heard(progress: Progress) -> Generator[Heard, None, None]:
        return session.run(task, folder=asked.state, progress=progress)

    occurred, events = _printed(task, heard, shown, kept, asked)
    if asked.cut is not None:
        _cut_out(events, recordings, shown, asked.cut, replace=asked.replace)
    _write_labels(events, files)  # last: what is there already would stop a command that is repeated
    return occurred


def listen_to_stdin(
    detector: Detector,
    stdin: BinaryIO,
    asked: Asked,
    *,
    rate: int | None,
    channels: int | None,
    selected: Sequence[Channel],
) -> set[str]:
    """The same of standard input, window by window as it comes."""
    from nearfar.files.atomic import refuse_existing
    from nearfar.listening import scoring, session

    task = _task(detector, [], asked)
    files = {} if asked.labels is None else {STDIN: asked.labels}
    for file in files.values():
        refuse_existing(file, replace=asked.replace)
    with scoring.piped(
        detector, stdin, rate=rate, channels=channels, selected=selected, name=STDIN
    ) as stream:

        def heard(_: Progress) -> Generator[Heard, None, None]:
            return session.run_stream(task, stream)

        shown = _what_is_shown(task, {}, asked)
        occurred, events = _printed(task, heard, shown, "Nothing was kept.", asked)
    _write_labels(events, files)
    return occurred


def _each_once(recordings: Sequence[Recording]) -> list[Recording]:
    """The same without those that were given before: heard twice, an event would be two."""
    kept: dict[tuple[str, ...], Recording] = {}
    for one in recordings:
        first = kept.setdefault(tuple(os.path.realpath(path) for path in one.paths), one)
        if first is not one:
            also = "" if str(first) == str(one) else f" as {first}"
            say(f"{one}: given before{also}; it is heard once", err)
    return list(kept.values())


def _task(detector: Detector, recordings: Sequence[Recording], asked: Asked) -> Listening:
    """What is listened to, and how."""
    from nearfar.decisions.alerts import CountAlerts
    from nearfar.listening.session import Listening

    if asked.needs_events:
        _require_threshold(detector, "events")
    _require_readable(asked)
    cut = chosen_cut(asked.window, asked.hop, detector.cut.seconds)
    rules: dict[str, Tracker] = {}
    if asked.alarm is not None:
        rules[str(asked.alarm)] = CountAlerts(asked.alarm, above=_require_threshold(detector, "alarms").value)
    if asked.false_alerts is not None:
        rules[" ".join(asked.false_alerts.split())] = detector.alerts(
            asked.false_alerts, cut=cut or detector.cut
        )
    gap = _time(asked.gap, "gap")
    try:
        return Listening(detector, recordings, cut, gap, rules)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error


def _require_readable(asked: Asked) -> None:
    """Raise if options are not of the form that they must have."""
    from nearfar.decisions.alerts import mean_time
    from nearfar.windows.clock import require_way

    try:
        require_way(asked.began)
        if asked.false_alerts is not None:
            mean_time(asked.false_alerts)
    except ValueError as error:
        text = str(error)
        given = text if text.startswith("began=") else f"false-alerts: {text}"
        raise typer.BadParameter(f"--{given}") from error


def _what_is_shown(task: Listening, clocks: Mapping[str, Clock], asked: Asked) -> Shown:
    from nearfar.report.listening import Shown

    kinds = ["alarm"] * (asked.alarm is not None) + ["alert"] * (asked.false_alerts is not None)
    return Shown(asked.events, clocks, dict(zip(kinds, task.rules, strict=True)), branches_of(task.detector))


def _printed(
    task: Listening,
    heard: Callable[[Progress], Generator[Heard, None, None]],
    shown: Shown,
    kept: str,
    asked: Asked,
) -> tuple[set[str], list[Event]]:
    """Print what is heard; what occurred, and all events."""
    from nearfar.report import listening as report

    events: list[Event] = []
    unusable = Unusable()
    progressing = shown_progress if asked.form == "table" else streamed_progress
    with progressing(kept) as progress, closing(heard(progress)) as found:
        occurred, tables = report.show(unusable.of(_with_events(found, events)), asked.form, out, shown)
    for table in tables:
        out.print(table)
    if asked.events:  # events do not show them
        unusable.say()
    if asked.form == "table":
        for rule in task.rules.values():
            for sentence in getattr(rule, "describe", list)():
                say(sentence)
    return occurred, events


class Unusable:
    """Windows that cannot be used, by recording: how many, and why the first one cannot."""

    def __init__(self) -> None:
        self._windows: Counter[str] = Counter()
        self._unusable: dict[str, tuple[int, str]] = {}

    def of(self, heard: Iterable[Heard]) -> Iterator[Heard]:
        """The same; those windows are counted."""
        from nearfar.listening.steps import HeardWindow

        for one in heard:
            if isinstance(one, HeardWindow):
                name, verdict = one.window.recording, one.verdict
                self._windows[name] += 1
                if verdict.decision == "unusable":
                    number, why = self._unusable.get(
                        name, (0, verdict.error or "; ".join(f.message for f in verdict.faults))
                    )
                    self._unusable[name] = number + 1, why
            yield one

    def say(self) -> None:
        """Say it; of the first recordings, one by one."""
        for name, (number, why) in islice(self._unusable.items(), MOST_NAMED):
            of = counted(self._windows[name], "window")
            say(f"{name}: {number} of {of} cannot be used, so no event is found there: {one_line(why)}", err)
        rest = list(self._unusable.items())[MOST_NAMED:]
        if rest:
            windows = counted(sum(number for _, (number, _) in rest), "window")
            say(f"... and {windows} of {len(rest)} more; without --events, each window is shown", err)


def _with_events(heard: Iterable[Heard], found: list[Event]) -> Iterator[Heard]:
    """The same; its events are kept."""
    from nearfar.listening.events import Event

    for one in heard:
        if isinstance(one, Event):
            found.append(one)
        yield one


def _time(text: str | None, name: str) -> float | None:
    """A time in seconds, if one is given."""
    from nearfar.windows.cutting import parse_time

    if text is None:
        return None
    try:
        return parse_time(text, name)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error


def _require_threshold(detector: Detector, what: str) -> Threshold:
    if detector.threshold is None:
        raise ValueError(
            f"the detector of {detector.machine!r} has no threshold, so there are no {what}; set one with `nearfar "
            "calibrate`"
        )
    return detector.threshold


def _clocks(
    recordings: Sequence[Recording], seconds: Mapping[str, float | None], asked: Asked
) -> dict[str, Clock]:
    """When recordings began, of those that say so."""
    from nearfar.windows import clock

    found = {}
    for one in recordings:
        length = seconds[str(one)]
        if length is not None:
            known = clock.clock_of(one, asked.began, seconds=length)
            if known is not None:
                found[str(one)] = known
    return found


def _by_clock(
    recordings: Sequence[Recording], seconds: Mapping[str, float | None], clocks: Mapping[str, Clock]
) -> list[Recording]:
    """The recordings in the order in which they began; those that cannot be read come last."""
    from nearfar.windows import clock

    readable = [one for one in recordings if seconds[str(one)] is not None]
    for one in readable:
        if str(one) not in clocks:
            raise ValueError(
                f"{one}: does not say when it began, so --order clock has no place for it; give --began mtime, "
                "or a pattern for the date in its name"
            )
    clock.require_zones({str(one): clocks[str(one)] for one in readable})
    readable.sort(key=lambda one: clocks[str(one)].began)
    clock.require_order([(str(one), clocks[str(one)], seconds[str(one)] or 0.0) for one in readable])
    return readable + [one for one in recordings if seconds[str(one)] is None]


def _label_files(recordings: Sequence[Recording], asked: Asked) -> dict[str, Path]:
    """Where label tracks go, if there are to be any; nothing that is there already is in the way."""
    from nearfar.files.atomic import refuse_existing, refuse_unwritable
    from nearfar.listening import labels

    if asked.cut is not None:
        if asked.cut.exists() and not asked.cut.is_dir():
            raise NotADirectoryError(f"{asked.cut}: a file; --cut needs a folder, choose another name")
        refuse_unwritable(asked.cut / "event", asked.cut)
    files = {} if asked.labels is None else labels.label_files(asked.labels, recordings)
    for file in files.values():
        refuse_existing(file, replace=asked.replace)
    return files


def _write_labels(events: Sequence[Event], files: Mapping[str, Path]) -> None:
    """Write the label track of each recording."""
    from nearfar.files.atomic import atomic_file
    from nearfar.listening.labels import label_track

    for name, file in files.items():
        with atomic_file(file) as part:
            track = label_track(one for one in events if one.recording == name)
            part.write_text(track, encoding="utf-8", newline="\n")
        say(f"Wrote {file}", err)


def _cut_out(
    events: Sequence[Event], recordings: Sequence[Recording], shown: Shown, folder: Path, *, replace: bool
) -> None:
    """Write each event as a file of its own."""
    from nearfar.listening import excerpts, labels

    below = labels.own_names(recordings)
    of_name = {str(one): one for one in recordings}
    for event in events:
        name = excerpts.name_of(event, shown.clock(event.recording, event.start))
        file = folder / below[event.recording].parent / name
        made = excerpts.cut_out(event, of_name[event.recording], file, replace=replace)
        if made.silent:
            say(f"{made.file}: {counted(made.silent, 'sample')} silent, because they cannot be read", err)
    say(f"Wrote {counted(len(events), 'event')} to {folder}", err)


def _say_how(task: Listening) -> None:
    """Say which recordings are cut into how many windows."""
    from nearfar.windows.cutting import told_time

    cut = task.own_cut
    how = told_time(cut.seconds) + ("" if cut.hop == cut.seconds else f" every {told_time(cut.hop)}")
    if task.cut is None:
        how += ", the length of the training clips"
    long = [(one, *of) for one in task.recordings if (of := task.size_of(one)) is not None and of[1] > 1]
    for recording, seconds, windows in long[:MOST_NAMED] if len(long) <= MOST_NAMED else []:
        say(f"{recording}: {told_time(seconds)}, cut into {windows} windows of {how}", err)
    if len(long) > MOST_NAMED:
        total, windows = sum(one[1] for one in long), sum(one[2] for one in long)
        say(f"{len(long)} recordings, {told_time(total)}: cut into {windows} windows of {how}", err)


def branches_of(detector: Detector) -> list[str]:
    """Of a fused system, what its branches are called."""
    return [] if detector.system.fusion is None else list(detector.system.fusion.weights)
