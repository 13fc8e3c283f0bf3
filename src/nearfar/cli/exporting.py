"""The command that makes one file of a detector, which runs without nearfar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearfar.cli.console import err, say, show
from nearfar.cli.options import AsJson
from nearfar.cli.progress import shown_progress

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector
    from nearfar.export.labelled import Labelled
    from nearfar.recordings.clips import Clip
    from nearfar.systems.branches import Progress

Seconds = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long the recordings are that it takes, such as 10; or any (default: any, if the detector's "
        "networks allow it, else as long as the training clips).",
    ),
]


InIntegers = Annotated[
    bool,
    typer.Option(
        "--int8",
        help="With the matrix products of its networks in 8 bits; prints what that costs and gains on labelled "
        "clips.",
    ),
]
LabelledData = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="With --int8: a data set whose test clips of this machine are labelled (default: clips of a machine "
        "that is simulated, after the same system was fitted to it).",
    ),
]

OTHER_MACHINE = "fan"  # that is simulated for --int8, unless there is --data
TRAINING_CLIPS, TARGET_CLIPS, TEST_CLIPS = 60, 6, 20  # of it; test clips of each domain and label
LONGEST = 10.0  # seconds of a clip of it
FALSE_ALARM_RATE = 0.2  # of what is fitted to it: so few clips attain no lower one with every system


def export(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="New file (.onnx).")],
    seconds: Seconds = None,
    int8: InIntegers = False,
    data: LabelledData = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a detector as one ONNX file: samples in; score, p-value and decision out.

    The file is compared with the detector on its own clips and on noise. It is not written if they differ; with
    --int8 it is, unless its decisions would be useless.
    """
    from nearfar.detector.fitted import Detector
    from nearfar.files import extras
    from nearfar.report import exported

    if data is not None and not int8:
        raise typer.BadParameter("--data is for --int8; leave it out, or give both")
    make = extras.resolve("nearfar.export.exporting:export", needed_by="`nearfar export`")
    length, loaded = _seconds(seconds), Detector.load(detector)
    labelled = _in_both(loaded, file, data, length, replace=replace) if int8 else None
    found = make(loaded, file, seconds=length, arithmetic="int8" if int8 else "float32", replace=replace)
    show(exported.table(found, labelled), exported.to_json(found, labelled), as_json=as_json)
    if labelled is not None and labelled.warning is not None:
        say(f"Warning: {labelled.warning}.", err)
    say(f"Wrote {file}. Next: `python {found.runner} {file} RECORDINGS`", err)


def _in_both(detector: Detector, file: Path, data: Path | None, seconds: Any, *, replace: bool) -> Labelled:
    """What 8 bits cost on labelled clips: of this machine, or of a simulated one.

    Raises
    ------
    ParityError
        If the decisions would be useless.
    """
    from nearfar.export import chain, exporting, labelled
    from nearfar.recordings import datasets

    exporting.refuse(file, replace=replace)
    chain.detector_model(
        detector, samples=exporting.samples_of(detector, seconds), arithmetic="int8"
    )  # or why not
    with shown_progress() as progress, TemporaryDirectory(prefix="nearfar-int8-") as folder:
        if data is None:
            judge, clips = _of_simulated(detector, Path(folder), progress)
        else:
            judge, clips = detector, labelled.test_clips(datasets.load(data), detector.machine)
        found = labelled.compare(
            judge, clips, seconds=seconds, progress=lambda done, total: progress("scoring", done, total)
        )
    found.require()
    return found


def _of_simulated(detector: Detector, folder: Path, progress: Progress) -> tuple[Detector, Sequence[Clip]]:
    """The same system, fitted to a machine that does not exist, and the clips to judge it by."""
    from nearfar.files.steps import Jobs
    from nearfar.recordings import datasets
    from nearfar.simulation import simulate

    say(
        f"Without --data, 8 bits are judged on a simulated {OTHER_MACHINE}, to which the system is fitted.",
        err,
    )
    made = simulate(
        folder / "recordings", machines=[OTHER_MACHINE], source_clips=TRAINING_CLIPS, target_clips=TARGET_CLIPS,
        test_clips=TEST_CLIPS, seconds=min(detector.window_seconds, LONGEST), rate=detector.sample_rate,
        progress=lambda done, total: progress("simulating", done, total),
    )  # fmt: skip
    (machine,) = datasets.load(made).machines
    rate = None if detector.threshold is None else FALSE_ALARM_RATE
    means: dict[str, Any] = {"jobs": Jobs(folder / "cache"), "progress": progress}
    fitted = type(detector).fit(machine, detector.system, false_alarm_rate=rate, keep="nothing", **means)
    return fitted, machine.test


def _seconds(text: str | None) -> float | str | None:
    """A time in seconds, ``"any"``, or nothing that was asked for."""
    from nearfar.windows.cutting import parse_time

    if text is None or text == "any":
        return text
    try:
        return parse_time(text, "seconds")
    except ValueError as error:
        raise typer.BadParameter(f"--{error}; or any") from error
