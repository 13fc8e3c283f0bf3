"""The command that makes one file of a detector, which runs without nearfar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import err, say, show
from nearfar.cli.options import AsJson

Seconds = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long the recordings are that it takes, such as 10; or any (default: any, if the detector's "
        "networks allow it, else as long as the training clips).",
    ),
]


def export(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="New file (.onnx).")],
    seconds: Seconds = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a detector as one ONNX file: samples in; score, p-value and decision out.

    The file is compared with the detector on its own clips and on noise. It is not written if they differ.
    """
    from nearfar.detector.fitted import Detector
    from nearfar.files import extras
    from nearfar.report import exported

    chosen = _seconds(seconds)
    make = extras.resolve("nearfar.export.exporting:export", needed_by="`nearfar export`")
    found = make(Detector.load(detector), file, seconds=chosen, replace=replace)
    show(exported.table(found), exported.to_json(found), as_json=as_json)
    say(f"Wrote {file}. Next: `python {found.runner} {file} RECORDINGS`", err)


def _seconds(text: str | None) -> float | str | None:
    """A time in seconds, ``"any"``, or nothing that was asked for."""
    from nearfar.windows.cutting import parse_time

    if text is None or text == "any":
        return text
    try:
        return parse_time(text, "seconds")
    except ValueError as error:
        raise typer.BadParameter(f"--{error}; or any") from error
