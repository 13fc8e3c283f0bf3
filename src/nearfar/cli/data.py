"""The commands of data sets: check a data set, list and download published ones."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nearfar.cli.console import FAILED, err, out, say, show
from nearfar.cli.flags import Command, Group
from nearfar.cli.options import CORES, AsJson, Channels, MachineNames, Workers, chosen_channels
from nearfar.cli.progress import CONTINUE, shown_progress

if TYPE_CHECKING:
    from nearfar.recordings.clips import Dataset
    from nearfar.recordings.datasets.validation import Problem
    from nearfar.windows.long_recordings import Cutting

app = typer.Typer(cls=Group, no_args_is_help=True, help="List and download published data sets.")


def check(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder of a data set, of one machine, or of normal recordings of a machine."
        ),
    ],
    channels: Channels = None,
    as_json: AsJson = False,
    page: Annotated[
        Path | None,
        typer.Option(help="HTML file to write: levels, spectra, clocks, odd clips to hear, all problems."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a page that is there.")] = False,
    workers: Workers = CORES,
) -> None:
    """Check a data set, or what `nearfar fit` takes, and list all problems.

    Recordings longer than 30 s are looked at window by window, as `nearfar fit` cuts them.

    With --page, a page shows what was recorded: one HTML file below 10 MB that loads nothing from a network.

    The exit code is 1 if one of the problems is an error; the page is written all the same.
    """
    if page is None and replace:
        raise typer.BadParameter("--replace has no effect without --page, the file that it replaces")
    from nearfar.files.atomic import refuse_file
    from nearfar.recordings import datasets
    from nearfar.recordings.datasets import validation
    from nearfar.report import recordings
    from nearfar.windows.long_recordings import cut_dataset

    if page is not None:
        refuse_file(page, ".html", "a page", replace=replace)
    dataset, cuttings = cut_dataset(datasets.load_any(folder, chosen_channels(channels)))
    for machine, cutting in cuttings.items():
        say(f"{machine}: {cutting}", err)
    with shown_progress() as progress:

        def tell(done: int, total: int) -> None:
            progress("checking", done, total)

        if page is None:
            found = validation.validate(dataset, workers=workers, progress=tell)
        else:
            found = _with_page(page, dataset, cuttings, folder, channels, workers, tell, replace=replace)
    show(recordings.problems(validation.to_table(found)), validation.to_json(found), as_json=as_json)
    raise typer.Exit(FAILED if any(p.severity == "error" for p in found) else 0)


def _with_page(
    page: Path,
    dataset: Dataset,
    cuttings: Mapping[str, Cutting],
    folder: Path,
    channels: str | None,
    workers: int,
    progress: Callable[[int, int], None],
    *,
    replace: bool,
) -> list[Problem]:
    """Write the page; all problems."""
    from nearfar import __version__
    from nearfar.evidence.recorded import recorded
    from nearfar.files.provenance import library_versions
    from nearfar.report.pages import page as pages
    from nearfar.report.pages import recorded as of_recorded

    found = recorded(dataset, cuttings, workers=workers, progress=progress)
    words = ["nearfar", "check", str(folder), *([] if channels is None else ["--channels", channels])]
    versions = {"nearfar": __version__, **library_versions()}
    html = of_recorded.page(found, command=shlex.join([*words, "--page", page.name]), versions=versions)
    pages.write(page, html, replace=replace)
    say(f"{page} ({len(html.encode()) / 1e6:.1f} MB)", err)
    return list(found.problems)


@app.command(cls=Command, name="list")
def data_list() -> None:
    """List the published data sets that nearfar knows."""
    from nearfar.recordings.datasets import DATASETS
    from nearfar.report import catalogues

    out.print(catalogues.published(DATASETS))


@app.command(cls=Command, name="download")
def data_download(
    name: Annotated[str, typer.Argument(help="Name from `nearfar data list`, such as dcase2026.")],
    subset: Annotated[
        Literal["dev", "train", "eval"] | None, typer.Option("--set", help="Download only this part.")
    ] = None,
    machine: MachineNames = None,
    root: Annotated[Path, typer.Option(help="Folder in which to put the data set.")] = Path("data"),
) -> None:
    """Download a data set and verify checksums. Run it again to continue an interrupted download."""
    from nearfar.files.downloads import Client
    from nearfar.recordings.datasets import DATASETS
    from nearfar.recordings.datasets.download import download

    with shown_progress(f"What has been downloaded is kept; {CONTINUE}.") as progress:
        folders = download(name, root=root, subset=subset, machines=machine, client=Client(progress=progress))
    say(f"Licence: {DATASETS[name].LICENSE}")
    for folder in folders:
        say(f"{folder}")
