"""The command `score`: clips, and hours of sound."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nearfar.cli.console import ANOMALOUS, FAILED, out
from nearfar.cli.listening import Asked, branches_of, listen, listen_to_stdin
from nearfar.cli.options import CORES, Hop, PcmChannels, PcmRate, Workers, chosen_channels
from nearfar.cli.progress import shown_progress

if TYPE_CHECKING:
    from nearfar.decisions.alarms import AlarmRule
    from nearfar.detector.fitted import Detector, Verdict
    from nearfar.recordings.recording import Channel, Recording
    from nearfar.systems.branches import Progress

DetectorFolder = Annotated[Path, typer.Argument(help="Folder of a detector.")]
ClipsArgument = Annotated[
    list[str],
    typer.Argument(
        help="Files or folders of recordings, or - for a recording on stdin: a sound file, or raw 16-bit PCM."
    ),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV, one line per clip, window or event.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, one line per clip, window or event.")]
OtherRate = Annotated[
    float | None,
    typer.Option(help="Decide with another false-alarm rate than the detector's own, without a new fit."),
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
        help="Also give alerts, and ask for at most so many false ones on average, such as '1 per 30 days'; what "
        "is promised is printed. Give the recordings of one machine, in order of time (see --order).",
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
        "that are new go after the others. If the last one has changed, it is heard again from its start.",
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Replace files of --labels and --cut that are there.")
]


def score(
    detector: DetectorFolder,
    clips: ClipsArgument,
    as_csv: AsCsv = False,
    as_json: AsJsonLines = False,
    window: WindowOption = None,
    hop: Hop = None,
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
    false_alarm_rate: OtherRate = None,
    fail_on_anomaly: FailOnAnomaly = False,
    workers: Workers = CORES,
) -> None:
    """Score new clips: anomaly score, p-value, decision, and faults of the microphones.

    A recording that is longer than the training clips is cut into windows, which are scored one by one.
    The exit code is 1 if a recording could not be used; with --fail-on-anomaly it is 3 if a clip is anomalous.
    """
    from nearfar.detector.fitted import Detector

    form, rule = _form(as_csv, as_json), _alarm_rule(alarm)
    selected, count = _channels(clips, channels, pcm_channels)
    asked = Asked(
        form, window, hop, events, gap, labels, cut, began, false_alerts, rule, order, state, replace
    )
    asked.refuse_without_effect()
    if clips == ["-"]:
        asked.refuse_what_needs_files()
    loaded = Detector.load(detector)
    if false_alarm_rate is not None:
        loaded = loaded.with_false_alarm_rate(false_alarm_rate)
    if clips == ["-"]:
        chosen = selected or (() if pcm_channels is None else loaded.selected_channels)
        decisions = _of_stdin(loaded, asked, rate, count, chosen)
    else:
        recordings = _recordings(clips, selected, "time" if order == "time" else "name")
        if asked.options or _long(loaded, recordings):
            decisions = listen(loaded, recordings, asked)
        else:
            found = loaded.score_files(recordings, workers=workers, rate=rate, channels=count, alarm=rule)
            decisions = _shown(loaded, found, len(recordings), form, rule)
    raise typer.Exit(_exit_code(decisions, asked.failing if fail_on_anomaly else ()))


def _of_stdin(
    detector: Detector, asked: Asked, rate: int | None, channels: int | None, selected: Sequence[Channel]
) -> set[str]:
    """Print what is said of standard input: of one clip, or of its windows if an option is for these."""
    stdin = sys.stdin.buffer
    if asked.options:
        return listen_to_stdin(detector, stdin, asked, rate=rate, channels=channels, selected=selected)
    found = detector.score_stream(stdin, rate=rate, channels=channels, selected=selected)
    return _shown(detector, iter([found]), 1, asked.form)


def _form(as_csv: bool, as_json: bool) -> str:
    if as_csv and as_json:
        raise typer.BadParameter("give either --csv or --json, not both")
    return "csv" if as_csv else "json" if as_json else "table"


def _shown(
    detector: Detector, found: Iterable[Verdict], n_clips: int, form: str, rule: AlarmRule | None = None
) -> set[str]:
    """Print verdicts on clips, and say what occurred."""
    from nearfar.report import verdicts

    if form != "table":
        return verdicts.show(found, form, out, rule, branches_of(detector))
    with shown_progress() as progress:
        listed = list(_counted(found, n_clips, progress))
    decisions = verdicts.show(listed, "table", out, rule)
    if rule is not None and detector.threshold is not None:
        out.print(verdicts.alarm_rates(rule, detector.threshold.false_alarm_rate))
    return decisions


def _long(detector: Detector, recordings: Sequence[Recording]) -> bool:
    """Whether one of the recordings is longer than a window."""
    from nearfar.listening.session import length_of
    from nearfar.recordings.audio import is_stream

    return any(
        (seconds := length_of(one)) is not None and detector.is_long(seconds)
        for one in recordings
        if not is_stream(one.path)
    )


def _alarm_rule(text: str | None) -> AlarmRule | None:
    from nearfar.decisions.alarms import AlarmRule

    try:
        return None if text is None else AlarmRule.parse(text)
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
