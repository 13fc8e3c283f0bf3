"""The command that shows what speaks for a verdict."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfar.cli.console import ANOMALOUS, FAILED, err, out, say
from nearfar.cli.options import PcmChannels, PcmRate, chosen_channels

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector
    from nearfar.evidence.explanation import Explanation

STDIN = (Path("-"),)

Recordings = Annotated[
    list[str],
    typer.Argument(
        help="One recording (all files of its mono tracks), or - for one on stdin: a sound file, or raw 16-bit PCM."
    ),
]
PageFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Write a page (.html) with maps, spectra and sounds, also of the nearest normal clips. It is one file "
        "that loads nothing.",
    ),
]
PngFile = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a picture of it (.png).")]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Explain the window of a long recording that begins there, such as 90, 1:30 or 2h (default: the most "
        "anomalous one).",
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NEAR,FAR",
        help="Which channels of the recording are near and far, such as 3,1: numbers from 1, or names where the "
        "file has them (default: as chosen for `nearfar fit`).",
    ),
]


def explain(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    recording: Recordings,
    output: PageFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all numbers.")] = False,
    png: PngFile = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace files that are there.")] = False,
    at: Time = None,
    channels: ChannelsOption = None,
    rate: PcmRate = None,
    pcm_channels: PcmChannels = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with code 3 if it is anomalous.")
    ] = False,
) -> None:
    """Show what speaks for the verdict on one recording: which band, how much, since when, and where it is heard.

    Of a recording that is longer than the training clips, one window is explained.

    The exit code is 1 if the recording could not be used.
    """
    from nearfar.report import explanations

    files = _one_of(recording)
    explanations.refuse(output, png, replace=replace)
    found = _explained(detector, files, at, channels, (rate, pcm_channels))
    if as_json:
        out.file.write(found.to_json())
    else:
        out.print(explanations.terminal(found))
    explanations.write(found, output, png, replace=replace, command=shlex.join(["nearfar", *sys.argv[1:]]))
    for file in (output, png):
        if file is not None:
            say(f"{file} ({file.stat().st_size / 1e6:.1f} MB)", err)
    decision = found.verdict.decision
    raise typer.Exit(
        FAILED if decision == "unusable" else ANOMALOUS if fail_on_anomaly and decision == "anomaly" else 0
    )


def _explained(
    detector: Path,
    files: tuple[Path, ...],
    at: str | None,
    channels: str | None,
    pcm: tuple[int | None, int | None],
) -> Explanation:
    from nearfar.detector.fitted import Detector
    from nearfar.evidence.explanation import explain
    from nearfar.recordings.recording import Recording

    time, chosen = _time(at), chosen_channels(channels)
    loaded = Detector.load(detector)
    if files != STDIN:
        if pcm != (None, None):
            raise typer.BadParameter(
                "--rate and --pcm-channels are for raw PCM on stdin; a file tells its own"
            )
        return explain(loaded, Recording(files, chosen), at=time)
    return _of_stdin(loaded, time, chosen, pcm)


def _of_stdin(
    detector: Detector,
    at: float | None,
    chosen: tuple[int | str, ...],
    pcm: tuple[int | None, int | None],
) -> Explanation:
    from nearfar.evidence.excerpts import of_stream
    from nearfar.evidence.explanation import explain_heard

    rate, count = pcm
    selected = chosen or (() if count is None else detector.selected_channels)
    stdin = sys.stdin.buffer
    return explain_heard(
        detector, of_stream(detector, stdin, at, rate=rate, channels=count, selected=selected)
    )


def _one_of(names: list[str]) -> tuple[Path, ...]:
    """The file of one recording, or the mono files of its tracks."""
    from nearfar.recordings import tracks

    paths = tuple(map(Path, names))
    if len(paths) == 1 and not paths[0].is_dir():
        return paths
    together = tracks.grouped(paths) if STDIN[0] not in paths else []
    if len(together) == 1 and not paths[0].is_dir():
        return tuple(together[0])
    what = f"{names[0]} is a folder" if len(names) == 1 else f"{len(names)} recordings"
    raise typer.BadParameter(
        f"{what}: one recording is explained at a time; find the anomalous ones with `nearfar score DETECTOR "
        "RECORDINGS`, and give one of them"
    )


def _time(text: str | None) -> float | None:
    from nearfar.windows.cutting import parse_time

    try:
        return None if text is None else parse_time(text, "at")
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error
