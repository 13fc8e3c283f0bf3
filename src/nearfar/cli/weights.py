"""The commands of pretrained weights: list, download, add, verify and measure them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearfar.cli.console import out, say, show
from nearfar.cli.flags import Command, Group
from nearfar.cli.options import CORES, AsJson, Cache, MachineNames, Workers
from nearfar.cli.progress import CONTINUE, shown_progress

if TYPE_CHECKING:
    from nearfar.encoders.choosing import Rows
    from nearfar.recordings.clips import Dataset
    from nearfar.research.arithmetics import Comparison
    from nearfar.systems.branches import Progress

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="List, download, add, verify and measure pretrained weights."
)

Weights = Annotated[str, typer.Argument(help="Name from `nearfar weights list`, such as eat.")]
AcceptLicence = Annotated[
    bool, typer.Option("--accept-licence", help="Confirm that you have read the licence and accept it.")
]
Clips = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="With --data: score at most N test clips of each label of a machine, and fit to 2 N training clips "
        "(default: 100).",
    ),
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


@app.command(cls=Command, name="bench")
def weights_bench(
    name: Weights,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the clips.")] = 10.0,
    threads: Annotated[int, typer.Option(min=1, max=CORES, help="Threads that compute a clip.")] = 1,
    batches: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Also give several clips at once, such as 2,4,8 of them."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also measure what is compiled first, which takes a minute or more.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Also compare Omega on recordings: a data set, a machine, or a folder of normal recordings, into "
            "which faults are planted."
        ),
    ] = None,
    machine: MachineNames = None,
    clips: Clips = None,
    as_json: AsJson = False,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Measure in which arithmetic an encoder is fastest on this computer, and what that changes.

    What is found is remembered, and `precision=auto` goes by it.
    """
    from nearfar.encoders import choosing, encoder_class, remembering
    from nearfar.encoders.pretrained import PRETRAINED, refuse_unknown
    from nearfar.report import benched

    sizes = _sizes(batches)
    if name not in PRETRAINED:
        refuse_unknown(name)
        raise typer.BadParameter(
            f"{name}: a file does not tell its encoder; give a name from `nearfar weights list`"
        )
    encoder: Any = encoder_class(PRETRAINED[name].encoder)(weights=name, device="cpu")  # type: ignore[call-arg]
    engines = choosing.UNASKED if not every else tuple(choosing.THOUGHT_TO_TAKE)
    dataset = None if data is None else _dataset(data, machine)  # before all that takes long
    with shown_progress(f"Embeddings of recordings are kept; {CONTINUE}.") as progress:
        rows = choosing.bench(
            encoder,
            seconds=seconds,
            threads=threads,
            batches=sizes,
            engines=engines,
            cache=cache,
            tell=progress,
        )
        comparison = (
            None if dataset is None else _compared(encoder, rows, dataset, clips, workers, cache, progress)
        )
    known, size = remembering.compared(encoder, cache=cache), encoder.path.stat().st_size
    found = benched.Bench(name, threads, seconds, size, rows, comparison, known)
    show(benched.table(found), benched.to_json(found), as_json=as_json)


def _sizes(text: str | None) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(",")) if text else ()
    except ValueError:
        sizes = (0,)
    if any(size < 1 for size in sizes):
        raise typer.BadParameter(f"--batches={text}: give numbers of clips, such as 2,4,8")
    return sizes


def _dataset(data: Path, machines: list[str] | None) -> Dataset:
    """Recordings, long ones cut."""
    from nearfar.recordings import datasets
    from nearfar.windows.long_recordings import cut_dataset

    dataset, _ = cut_dataset(datasets.load_any(data))
    return dataset.only(machines) if machines else dataset


def _compared(
    encoder: Any,
    rows: Rows,
    dataset: Dataset,
    most: int | None,
    workers: int,
    cache: Path | None,
    progress: Progress,
) -> Comparison:
    """Omega in all arithmetics that could be measured, which is remembered."""
    from nearfar.encoders.measuring import Measured
    from nearfar.encoders.remembering import note_omega
    from nearfar.files import steps
    from nearfar.research import arithmetics

    names = [name for name, row in rows.items() if isinstance(row, Measured)]
    comparison = arithmetics.compare(
        encoder.weights, dataset, names, most=most or arithmetics.MOST, workers=workers, jobs=steps.Jobs(cache),
        progress=progress,
    )  # fmt: skip
    note_omega(encoder, comparison.compared, of=comparison.digest, cache=cache)
    return comparison


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
