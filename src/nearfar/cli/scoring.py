"""The command `score`: clips, and hours of sound."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nearfar.cli.console import ANOMALOUS, FAILED, err, out, say
from nearfar.cli.options import CORES, Workers, chosen_channels
from nearfar.cli.progress import CONTINUE, shown_progress, streamed_progress

if TYPE_CHECKING:
    from nearfar.decisions.alarms import AlarmRule
    from nearfar.decisions.thresholds import Threshold
    from nearfar.detector.fitted import Detector, Verdict
    from nearfar.listening.events import Event
    from nearfar.listening.session import Heard, Listening, Tracker
    from nearfar.recordings.recording import Channel, Recording
    from nearfar.report.listening import Shown
    from nearfar.systems.branches import Progress
    from nearfar.windows.clock import Clock
    from nearfar.windows.cutting import Cut

MOST_NAMED = 3  # long recordings that are named one by one

PcmRate = Annotated[
    int | None,
    typer.Option(
        min=1, help="Sampling rate of raw PCM on stdin, in Hz (default: that of the training clips)."
    ),
]
PcmChannels = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of channels of raw PCM on stdin (default: those that the detector uses)."
    ),
]
ScoredChannels = Annotated[
    str | None,
    typer.Option(
        metavar="NEAR,FAR",
        help="Which channels of the recordings are near and far, such as 3,1: numbers from 1, or names where the "
        "files have them (default: as chosen for `nearfar fit`). For raw PCM on stdin without --pcm-channels, one "
        "number is its number of channels.",
    ),
]
AlarmOption = Annotated[
    str | None,
    typer.Option(
        metavar="K/N",
        help="Also say after each clip whether at least K of the last N clips are anomalous, such as 3/5. The "
        "clips of each folder are counted on their own; windows of long recordings are counted over all of "
        "them. An unusable one is passed over.",
    ),
]
FalseAlerts = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        help="Also give alerts, with at most so many false ones on average, such as '1 per 30 days'. The "
        "windows of all recordings are one row in time.",
    ),
]
Order = Annotated[
    Literal["name", "time", "clock"],
    typer.Option(
        help="Order of the recordings: by the names in each folder (2.wav before 10.wav), or of all of them by "
        "the time when the files were last changed, or by the clock time when they began (see --began)."
    ),
]
FailOnAnomaly = Annotated[
    bool,
    typer.Option(
        "--fail-on-anomaly",
        help="Exit with code 3 if a clip or window is anomalous; with --alarm or --false-alerts, if there is an "
        "alarm.",
    ),
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="TIME",
        help="Cut all recordings into windows of this length, such as 10, in seconds, or 1min (default: recordings "
        "that are longer than the training clips, into windows of their length).",
    ),
]
HopOption = Annotated[
    str | None,
    typer.Option(
        "--hop",
        metavar="TIME",
        help="From the beginning of a window to that of the next (default: the length of a window).",
    ),
]
EventsOption = Annotated[
    bool,
    typer.Option("--events", help="Show events in place of windows: anomalous windows that belong together."),
]
GapOption = Annotated[
    str | None,
    typer.Option(
        "--gap",
        metavar="TIME",
        help="Time between two anomalous windows up to which they are one event (default: the length of a window).",
    ),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Write the events as a label track for Audacity; of several recordings, a folder with a file for "
        "each.",
    ),
]
CutOption = Annotated[
    Path | None,
    typer.Option(
        "--cut",
        metavar="DIR",
        help="Write each event, with 5 s before and after it and with all channels, as a FLAC file into this "
        "folder.",
    ),
]
BeganOption = Annotated[
    str,
    typer.Option(
        metavar="WAY",
        help="What tells when a recording began: bext (the chunk that recorders write into WAV files), mtime (the "
        "file's last change, which is taken for the end), none, or a pattern for the date in the name, such as "
        "%Y%m%d_%H%M%S.",
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="FOLDER",
        help="Keep in this folder what was heard. The same command goes on there after an interruption; recordings "
        "that are new go after the others.",
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Replace files of --labels and --cut that are there.")
]


def score(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    clips: Annotated[
        list[str],
        typer.Argument(
            help="Files or folders of recordings, or - for a recording on stdin: a sound file, or raw 16-bit PCM."
        ),
    ],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV, one line per clip, window or event.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one line per clip, window or event.")
    ] = False,
    window: WindowOption = None,
    hop: HopOption = None,
    events: EventsOption = False,
    gap: GapOption = None,
    labels: LabelsOption = None,
    cut: CutOption = None,
    began: BeganOption = "bext",
    false_alerts: FalseAlerts = None,
    alarm: AlarmOption = None,
    order: Order = "name",
    state: StateOption = None,
    replace: ReplaceOption = False,
    rate: PcmRate = None,
    channels: ScoredChannels = None,
    pcm_channels: PcmChannels = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Decide with another false-alarm rate than the detector's own, without a new fit."),
    ] = None,
    fail_on_anomaly: FailOnAnomaly = False,
    workers: Workers = CORES,
) -> None:
    """Score new clips: anomaly score, p-value, decision, and faults of the microphones.

    A recording that is longer than the training clips is cut into windows, which are scored one by one.
    The exit code is 1 if a recording could not be used; with --fail-on-anomaly it is 3 if a clip is anomalous.
    """
    from nearfar.detector.fitted import Detector

    form = _form(as_csv, as_json)
    rule = _alarm_rule(alarm, clips)
    selected, count = _channels(clips, channels, pcm_channels)
    asked = _Asked(window, hop, events, gap, labels, cut, began, false_alerts, rule, order, state, replace)
    if clips == ["-"]:
        asked.refuse_stdin()
    loaded = Detector.load(detector)
    if false_alarm_rate is not None:
        loaded = loaded.with_false_alarm_rate(false_alarm_rate)
    if clips == ["-"]:
        chosen = selected or (() if pcm_channels is None else loaded.selected_channels)
        stdin = sys.stdin.buffer
        found = iter([loaded.score_stream(stdin, rate=rate, channels=count, selected=chosen)])
        decisions = _shown(loaded, found, 1, form)
    else:
        recordings = _recordings(clips, selected, "time" if order == "time" else "name")
        if asked.hears_windows or _long(loaded, recordings):
            decisions = _listen(loaded, recordings, asked, form)
        else:
            found = loaded.score_files(recordings, workers=workers, rate=rate, channels=count, alarm=rule)
            decisions = _shown(loaded, found, len(recordings), form, rule)
    raise typer.Exit(_exit_code(decisions, asked.failing if fail_on_anomaly else ()))


def _form(as_csv: bool, as_json: bool) -> Literal["table", "csv", "json"]:
    if as_csv and as_json:
        raise typer.BadParameter("give either --csv or --json, not both")
    return "csv" if as_csv else "json" if as_json else "table"


def _shown(
    detector: Detector, found: Iterable[Verdict], n_clips: int, form: str, rule: AlarmRule | None = None
) -> set[str]:
    """Print verdicts on clips, and say what occurred."""
    from nearfar.report import verdicts

    if form != "table":
        return verdicts.show(found, form, out, rule, _branches(detector))
    with shown_progress() as progress:
        listed = list(_counted(found, n_clips, progress))
    decisions = verdicts.show(listed, "table", out, rule)
    if rule is not None and detector.threshold is not None:
        out.print(verdicts.alarm_rates(rule, detector.threshold.false_alarm_rate))
    return decisions


def _branches(detector: Detector) -> list[str]:
    """Of a fused system, what its branches are called."""
    return [] if detector.system.fusion is None else list(detector.system.fusion.weights)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says of long recordings."""

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
        given = {
            "--window": self.window, "--hop": self.hop, "--events": self.events, "--gap": self.gap,
            "--labels": self.labels, "--cut": self.cut, "--false-alerts": self.false_alerts, "--state": self.state,
            "--began": self.began != "bext", "--order clock": self.order == "clock",
        }  # fmt: skip
        return [name for name, value in given.items() if value not in (None, False)]

    @property
    def needs_events(self) -> bool:
        return self.events or self.labels is not None or self.cut is not None

    @property
    def hears_windows(self) -> bool:
        return bool(self.options)

    @property
    def failing(self) -> tuple[str, ...]:
        """What --fail-on-anomaly fails on."""
        rules = (("alarm",) if self.alarm is not None else ()) + (
            ("alert",) if self.false_alerts is not None else ()
        )
        return rules or ("anomaly",)

    def refuse_stdin(self) -> None:
        """Raise if something is asked that a recording on stdin cannot have."""
        if self.options:
            raise typer.BadParameter(
                f"{self.options[0]} is for files, and - is a recording on stdin, which is one clip; save it to "
                "a file first"
            )


def _long(detector: Detector, recordings: Sequence[Recording]) -> bool:
    """Whether one of the recordings is longer than a window."""
    from nearfar.listening.session import length_of
    from nearfar.recordings.audio import is_stream

    return any(
        (seconds := length_of(one)) is not None and detector.is_long(seconds)
        for one in recordings
        if not is_stream(one.path)
    )


def _listen(detector: Detector, recordings: list[Recording], asked: _Asked, form: str) -> set[str]:
    """Print what is heard in recordings, one after the other, and say what occurred."""
    from nearfar.listening import session
    from nearfar.report import listening as report

    if asked.needs_events:
        _require_threshold(detector, "events")
    seconds = {str(one): session.length_of(one) for one in recordings}
    clocks = _clocks(recordings, seconds, asked)
    if asked.order == "clock":
        recordings = _by_clock(recordings, seconds, clocks)
    files = _label_files(recordings, asked)
    cut = _cut(detector, asked)
    rules = _rules(detector, cut or detector.cut, asked)
    task = session.Listening(detector, recordings, cut, _time(asked.gap, "gap"), dict(rules.values()))
    _say_how(task)
    names = {kind: text for kind, (text, _) in rules.items()}
    shown = report.Shown(asked.events, clocks, names, _branches(detector))
    kept = "Nothing was kept; with --state FOLDER, the same command would go on where it was."
    if asked.state is not None:
        kept = f"What was heard is kept in {asked.state}; {CONTINUE}."
    found: list[Event] = []
    with (
        (shown_progress if form == "table" else streamed_progress)(kept) as progress,
        closing(session.run(task, folder=asked.state, progress=progress)) as heard,
    ):
        occurred, tables = report.show(_kept(heard, found), form, out, shown)
        _write_events(found, recordings, shown, files, asked)
    for table in tables:
        out.print(table)
    _say_promises(rules, form)
    return occurred


def _kept(heard: Iterable[Heard], found: list[Event]) -> Iterator[Heard]:
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


def _cut(detector: Detector, asked: _Asked) -> Cut | None:
    """How all recordings are cut, if the command line says so."""
    from nearfar.windows.cutting import Cut

    window, hop = _time(asked.window, "window"), _time(asked.hop, "hop")
    if window is None and hop is None:
        return None
    try:
        return Cut.of(detector.cut.seconds if window is None else window, hop)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error


def _rules(detector: Detector, cut: Cut, asked: _Asked) -> dict[str, tuple[str, Tracker]]:
    """Rules for alerts, by kind, each with what it is called."""
    from nearfar.decisions.alerts import CountAlerts

    rules: dict[str, tuple[str, Tracker]] = {}
    if asked.alarm is not None:
        threshold = _require_threshold(detector, "alarms")
        rules["alarm"] = str(asked.alarm), CountAlerts(asked.alarm, above=threshold.value)
    if asked.false_alerts is not None:
        _require_threshold(detector, "alerts")
        rules["alert"] = asked.false_alerts.strip(), detector.alerts(asked.false_alerts, cut=cut)
    return rules


def _require_threshold(detector: Detector, what: str) -> Threshold:
    if detector.threshold is None:
        raise ValueError(
            f"the detector of {detector.machine!r} has no threshold, so there are no {what}; set one with `nearfar "
            "calibrate`"
        )
    return detector.threshold


def _clocks(
    recordings: Sequence[Recording], seconds: Mapping[str, float | None], asked: _Asked
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


def _label_files(recordings: Sequence[Recording], asked: _Asked) -> dict[str, Path]:
    """Where label tracks go, if there are to be any; nothing that is there already is in the way."""
    from nearfar.files.atomic import refuse_existing, refuse_unwritable
    from nearfar.listening import labels

    if asked.cut is not None:
        if asked.cut.exists() and not asked.cut.is_dir():
            raise NotADirectoryError(f"{asked.cut}: a file; --cut needs a folder, choose another name")
        refuse_unwritable(asked.cut / "event")
    files = {} if asked.labels is None else labels.label_files(asked.labels, recordings)
    for file in files.values():
        refuse_existing(file, replace=asked.replace)
    return files


def _write_events(
    events: Sequence[Event],
    recordings: Sequence[Recording],
    shown: Shown,
    files: Mapping[str, Path],
    asked: _Asked,
) -> None:
    """Write label tracks and excerpts."""
    from nearfar.files.atomic import atomic_file
    from nearfar.listening import excerpts, labels
    from nearfar.recordings.clips import counted

    for name, file in files.items():
        with atomic_file(file) as part:
            track = labels.label_track(one for one in events if one.recording == name)
            part.write_text(track, encoding="utf-8", newline="\n")
    if asked.cut is None:
        return
    folders = {name: asked.cut / below.parent for name, below in labels.own_names(recordings).items()}
    of_name = {str(one): one for one in recordings}
    for event in events:
        name = excerpts.name_of(event, shown.clock(event.recording, event.start))
        file = folders[event.recording] / name
        made = excerpts.cut_out(event, of_name[event.recording], file, replace=asked.replace)
        if made.silent:
            say(f"{made.file}: {counted(made.silent, 'sample')} silent, because they cannot be read", err)
    say(f"Wrote {counted(len(events), 'event')} to {asked.cut}", err)


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


def _say_promises(rules: Mapping[str, tuple[str, Tracker]], form: str) -> None:
    """What the rules for alerts promise, under a table."""
    if form != "table":
        return
    for _, rule in rules.values():
        for line in getattr(rule, "describe", list)():
            say(line)


def _alarm_rule(text: str | None, clips: list[str]) -> AlarmRule | None:
    from nearfar.decisions.alarms import AlarmRule

    if text is None:
        return None
    if clips == ["-"]:
        raise typer.BadParameter("--alarm counts several clips, and - is one; give files or folders")
    try:
        return AlarmRule.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error


def _counted(verdicts: Iterable[Verdict], n_clips: int, progress: Progress) -> Iterator[Verdict]:
    """The same verdicts; each is reported as progress."""
    for number, verdict in enumerate(verdicts, start=1):
        yield verdict
        progress("scoring", number, n_clips)


def _channels(
    clips: list[str], text: str | None, count: int | None
) -> tuple[tuple[Channel, ...], int | None]:
    """Which channels are to be used, and how many raw PCM has; one number without a count is the count of PCM."""
    chosen = chosen_channels(text)
    if clips == ["-"] and count is None and len(chosen) == 1 and isinstance(chosen[0], int):
        return (), chosen[0]
    return chosen, count


def _recordings(
    names: list[str], channels: tuple[Channel, ...], order: Literal["name", "time"] = "name"
) -> list[Recording]:
    """These files, and all audio files in these folders, in order; tracks of one recording together."""
    from nearfar.files.listing import list_below
    from nearfar.files.names import by_numbers
    from nearfar.recordings import tracks
    from nearfar.recordings.clips import USUAL_SUFFIXES, is_audio
    from nearfar.recordings.datasets.layout import what_else
    from nearfar.recordings.recording import Recording

    if "-" in names:
        raise typer.BadParameter("- reads one recording from stdin, so it must be the only argument")
    found = []
    for path in map(Path, names):
        if not path.is_dir():
            found.append(path)
            continue
        below = list_below(path, is_audio)
        if not below.files and not below.unreadable:
            kinds = ", ".join(USUAL_SUFFIXES)
            raise FileNotFoundError(f"{path}: no recordings ({kinds}) in this folder{what_else(path)}")
        found += sorted(below.files, key=by_numbers)
        found += below.unreadable  # a folder that cannot be read gets a verdict that says so
    if order == "time":
        found.sort(key=_last_changed)
    return [Recording(files, channels) for files in tracks.grouped(found)]


def _last_changed(path: Path) -> float:
    """When a file was last changed; what cannot be looked at comes last."""
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _exit_code(decisions: set[str], failing: Sequence[str]) -> int:
    """Of what occurred, and what of it is a failure of its own."""
    if decisions.intersection(failing):
        return ANOMALOUS
    return FAILED if "unusable" in decisions else 0
