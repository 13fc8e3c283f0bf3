"""The command that makes a page of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import say
from nearfar.cli.options import CORES, Cache, Channels, Workers, chosen_data
from nearfar.cli.progress import shown_progress

CLIPS = 20


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="Folders of results of `nearfar run`.")
    ],
    page: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data set that the results were made of: for sounds and spectrograms, maps of "
            "embeddings and problems of the data set."
        ),
    ] = None,
    channels: Channels = None,
    clips: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"How many clips can be heard, with --data (default: as many as fit, at most {CLIPS}).",
        ),
    ] = None,
    by_recording: Annotated[
        bool,
        typer.Option("--by-recording", help="Resample whole recordings instead of clips for the intervals."),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a file that is there.")] = False,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Make a page of one or several results: one HTML file below 10 MB that loads nothing from a network.

    It shows how good each result is, how sure that is, and about which clips it is most wrong.

    With --data, these clips can be seen and heard. Each recording is read once.
    """
    if data is None and (clips is not None or channels is not None):
        raise typer.BadParameter("--clips and --channels have no effect without --data, the recordings")
    from nearfar.files.atomic import refuse_file
    from nearfar.files.steps import Jobs
    from nearfar.report.pages import page as pages
    from nearfar.report.pages import results as of_results
    from nearfar.research import reported

    refuse_file(page, ".html", "a page", replace=replace)
    found = reported.load_results(results)
    dataset = None if data is None else chosen_data(data, None, channels)
    options = _options(clips, channels, by_recording=by_recording)
    with shown_progress() as progress:
        gathered = reported.gather(
            found, dataset, unit="recording" if by_recording else "clip", clips=CLIPS if clips is None else clips,
            workers=workers, jobs=Jobs(cache), progress=progress,
        )  # fmt: skip
        html = of_results.page(gathered, options=options, file=page.name)
        pages.write(page, html, replace=replace)
    say(f"{page} ({len(html.encode()) / 1e6:.1f} MB)")


def _options(clips: int | None, channels: str | None, *, by_recording: bool) -> list[str]:
    """What was given beside results and data, as it stands on the page."""
    words = [] if channels is None else ["--channels", channels]
    words += [] if clips is None else ["--clips", str(clips)]
    return words + ["--by-recording"] * by_recording
