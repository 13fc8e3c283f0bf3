"""The commands of data sets: check a data set, list and download published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nearfar.cli.console import FAILED, err, out, say, show
from nearfar.cli.flags import Command, Group
from nearfar.cli.options import CORES, AsJson, Channels, MachineNames, Workers, chosen_channels
from nearfar.cli.progress import CONTINUE, shown_progress

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
    workers: Workers = CORES,
) -> None:
    """Check a data set, or what `nearfar fit` takes, and list all problems.

    Recordings longer than 30 s are looked at window by window, as `nearfar fit` cuts them.
    The exit code is 1 if one of them is an error.
    """
    from nearfar.recordings import datasets
    from nearfar.recordings.datasets import validation
    from nearfar.report import recordings
    from nearfar.windows.long_recordings import cut_dataset

    dataset, cuttings = cut_dataset(datasets.load_any(folder, chosen_channels(channels)))
    for machine, cutting in cuttings.items():
        say(f"{machine}: {cutting}", err)
    with shown_progress() as progress:
        found = validation.validate(
            dataset,
            workers=workers,
            progress=lambda done, total: progress("checking", done, total),
        )
    show(recordings.problems(validation.to_table(found)), validation.to_json(found), as_json=as_json)
    raise typer.Exit(FAILED if any(p.severity == "error" for p in found) else 0)


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
