"""The command for submissions to the challenge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import FAILED, say


def submit(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULT...", help="Folders of results of `nearfar run`.")
    ] = None,
    package: Annotated[Path | None, typer.Option("--out", "-o", help="New zip file for the package.")] = None,
    label: Annotated[str, typer.Option(help="Label of the submission: LASTNAME_INSTITUTE_task2_N.")] = "",
    meta: Annotated[
        Path | None, typer.Option(help="YAML or TOML file that describes authors and system.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Technical report, a PDF file.")] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="PACKAGE", help="Check this package instead of writing one.")
    ] = None,
) -> None:
    """Write a submission package for the challenge, or check one against all rules."""
    from nearfar.challenge import schema, write
    from nearfar.challenge.check import check as problems_of

    if check is not None:
        found = problems_of(check)
        say("\n".join(found) or f"{check}: no problems")
        raise typer.Exit(FAILED if found else 0)
    if not (results and package and meta and label):
        raise typer.BadParameter(
            "give RESULT..., --out, --label and --meta to write a package, or --check PACKAGE to check one"
        )
    entry = write.Entry(label, results, schema.read_meta(meta), report)
    write.write([entry], package)
    say(f"Wrote {package}. It passes all checks of `nearfar submit --check`.")
