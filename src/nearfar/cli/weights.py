"""The commands of pretrained weights: list them, get them, check them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import out
from nearfar.cli.progress import CONTINUE, shown_progress

app = typer.Typer(no_args_is_help=True, help="Pretrained weights: list them, get them, check them.")

Weights = Annotated[str, typer.Argument(help="Of `nearfar weights list`, as eat.")]
AcceptLicence = Annotated[
    bool, typer.Option("--accept-licence", help="You have read the licence, and accept it.")
]


@app.command("list")
def weights_list() -> None:
    """The pretrained weights that nearfar knows, and which of them are here."""
    from nearfar.encoders.pretrained import PRETRAINED, stored, weights_folder
    from nearfar.report import catalogues

    here = {name for name in PRETRAINED if stored(name) is not None}
    out.print(catalogues.weights(PRETRAINED.values(), here, weights_folder()))


@app.command("get")
def weights_get(name: Weights, accept_licence: AcceptLicence = False) -> None:
    """Fetch weights, and check them; an interrupted download goes on where it stopped."""
    from nearfar.encoders import weights
    from nearfar.files.downloads import Client

    accepted = _accepted(name, accept_licence)
    with shown_progress(f"What has been downloaded is kept; {CONTINUE}") as progress:
        path = weights.get(name, accepted=accepted, client=Client(progress=progress))
    out.print(f"{path}", soft_wrap=True)


@app.command("add")
def weights_add(
    name: Weights,
    file: Annotated[Path, typer.Argument(help="A .safetensors, or a .pt that holds tensors alone.")],
    accept_licence: AcceptLicence = False,
) -> None:
    """Take weights from a file of yours, if their network loads it; in place of any that are here."""
    from nearfar.encoders import weights

    path = weights.add(name, file, accepted=_accepted(name, accept_licence))
    out.print(f"{path}", soft_wrap=True)


@app.command("verify")
def weights_verify(
    name: Weights,
    golden: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With a recording, and the authors' tokens of it.")
    ] = None,
) -> None:
    """Load weights strictly and check that they have not changed; compare their tokens with the authors'."""
    from nearfar.encoders import weights
    from nearfar.report import fitted

    out.print(fitted.verified(name, weights.verify(name)), soft_wrap=True)
    if golden is not None:
        out.print(fitted.likeness(weights.compare(name, golden)), soft_wrap=True)


def _accepted(name: str, accept: bool) -> str:
    """Show the licence of these weights; how it was accepted, if it must be."""
    from nearfar.encoders.pretrained import PRETRAINED

    if name not in PRETRAINED:
        return ""
    record = PRETRAINED[name]
    out.print(
        f"licence: {record.licence.name}, {record.licence.url}\n{record.licence.summary}", soft_wrap=True
    )
    if not record.must_accept:
        return ""
    if accept:
        return "--accept-licence"
    typer.confirm("Have you read this licence, and do you accept it?", abort=True)
    return "asked"
