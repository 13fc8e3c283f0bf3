"""The commands of pretrained weights: list, download, add and verify them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import out, say
from nearfar.cli.flags import Command, Group
from nearfar.cli.progress import CONTINUE, shown_progress

app = typer.Typer(cls=Group, no_args_is_help=True, help="List, download, add and verify pretrained weights.")

Weights = Annotated[str, typer.Argument(help="Name from `nearfar weights list`, such as eat.")]
AcceptLicence = Annotated[
    bool, typer.Option("--accept-licence", help="Confirm that you have read the licence and accept it.")
]


@app.command(cls=Command, name="list")
def weights_list() -> None:
    """List the pretrained weights that nearfar knows, and which of them are on this computer."""
    from nearfar.encoders.pretrained import PRETRAINED, stored, weights_folder
    from nearfar.report import catalogues

    here = {name for name in PRETRAINED if stored(name) is not None}
    out.print(catalogues.weights(PRETRAINED.values(), here, weights_folder()))


@app.command(cls=Command, name="get")
def weights_get(name: Weights, accept_licence: AcceptLicence = False) -> None:
    """Download weights and verify them. Run it again to continue an interrupted download."""
    from nearfar.encoders import weights
    from nearfar.files.downloads import Client

    accepted = _accepted(name, accept_licence)
    with shown_progress(f"What has been downloaded is kept; {CONTINUE}.") as progress:
        path = weights.get(name, accepted=accepted, client=Client(progress=progress))
    say(f"{path}")


@app.command(cls=Command, name="add")
def weights_add(
    name: Weights,
    file: Annotated[Path, typer.Argument(help="A .safetensors file, or a .pt file that holds only tensors.")],
    accept_licence: AcceptLicence = False,
) -> None:
    """Add weights from your own file, if their network can load it. They replace weights of the same name."""
    from nearfar.encoders import weights

    path = weights.add(name, file, accepted=_accepted(name, accept_licence))
    say(f"{path}")


@app.command(cls=Command, name="verify")
def weights_verify(
    name: Weights,
    golden: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with a recording and the authors' tokens of it; compares the tokens.",
        ),
    ] = None,
) -> None:
    """Check that weights fit their network and have not changed since they were added."""
    from nearfar.encoders import weights
    from nearfar.report import fitted

    out.print(fitted.verified(name, weights.verify(name)), soft_wrap=True)
    if golden is not None:
        out.print(fitted.likeness(weights.compare(name, golden)), soft_wrap=True)


def _accepted(name: str, accept: bool) -> str:
    """Show the licence of these weights; returns how it was accepted, if it must be."""
    from nearfar.encoders.pretrained import PRETRAINED

    if name not in PRETRAINED:
        return ""
    record = PRETRAINED[name]
    say(f"Licence: {record.licence.name}, {record.licence.url}\n{record.licence.summary}")
    if not record.must_accept:
        return ""
    if accept:
        return "--accept-licence"
    typer.confirm("Have you read this licence, and do you accept it?", abort=True)
    return "asked"
