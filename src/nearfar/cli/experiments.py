"""The commands of experiments: one system, a published study, many settings; and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nearfar.cli.console import err, out, show
from nearfar.cli.options import (
    CORES,
    AdapterFile,
    AsJson,
    Cache,
    MachineNames,
    Preset,
    Seed,
    Settings,
    Truth,
    Workers,
    chosen_data,
    chosen_system,
)
from nearfar.cli.progress import CONTINUE, shown_progress

if TYPE_CHECKING:
    from nearfar.research.fused import Study


def run(
    system: Annotated[
        str, typer.Argument(help="Of `nearfar systems`, or a TOML file of a system or of a study.")
    ],
    data: Annotated[Path, typer.Option(help="Folder of a data set, with a folder a machine.")],
    preset: Preset = None,
    machine: MachineNames = None,
    seeds: Annotated[str | None, typer.Option(help="Joined by commas (default: 13711).")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Default: results/SYSTEM.")] = None,
    truth: Truth = None,
    settings: Settings = None,
    adapted_on: Annotated[
        Literal["others", "all"] | None,
        typer.Option(
            help="On whose normal clips the adapter of each machine is trained, if there is one (default: others, "
            "or as a study's protocol has it)."
        ),
    ] = None,
    adapter: AdapterFile = None,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Fit a system to every machine of a data set, score its test clips, evaluate.

    A study has several systems as branches, and fuses their scores; its file names seeds and settings.
    """
    from nearfar.files import steps
    from nearfar.report import results
    from nearfar.research import experiment, fused

    is_study = fused.is_study(system)
    chosen = _study(system, preset, seeds, settings) if is_study else chosen_system(system, preset, settings)
    if adapter is not None and adapted_on is not None:
        raise typer.BadParameter("--adapter is trained already: give it, or --adapted-on, not both")
    if adapted_on is not None and not isinstance(chosen, fused.Study) and chosen.branch.adaptation is None:
        raise typer.BadParameter(f"{chosen.name} is not adapted: leave --adapted-on away")
    into = folder or Path("results") / chosen.name
    with shown_progress(f"Finished steps are kept; {CONTINUE}") as progress:
        found = chosen_data(data, machine)
        if isinstance(chosen, fused.Study):
            of_study = fused.run(
                chosen, found, into, adapted_on=adapter or adapted_on, workers=workers, truth=truth,
                jobs=steps.Jobs(cache), progress=progress,
            )  # fmt: skip
        else:
            result = experiment.run(
                chosen, found, into, seeds=experiment.parse_seeds(seeds or "13711"),
                adapted_on=adapter or adapted_on or "others", workers=workers, truth=truth,
                jobs=steps.Jobs(cache), progress=progress,
            )  # fmt: skip
    out.print(results.study(of_study) if isinstance(chosen, fused.Study) else results.result(result))


def _study(path: str, preset: str | None, seeds: str | None, settings: list[str] | None) -> Study:
    from nearfar.research import fused

    if preset or seeds or settings:
        raise typer.BadParameter(
            "a study names its presets, seeds and settings in its file: change them there"
        )
    return fused.load(path)


def study(
    name: Annotated[str | None, typer.Argument(help="Of `nearfar study`, or a TOML file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of a data set with labels.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what would be done, and the time.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[ENCODER:]KEY=VALUE",
            help="Replace a setting in all branches, or in those with this encoder, as eat:branch.view=near.",
        ),
    ] = None,
    machine: MachineNames = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Default: results/NAME.")] = None,
    truth: Truth = None,
    as_json: AsJson = False,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Find the numbers of a published report again: its values beside ours. Without a name: list the studies.

    What a row needs and is not here, weights or data, is told in its place; the other rows run.
    """
    from nearfar.report import catalogues, reproductions
    from nearfar.research import reproduce

    if name is None:
        out.print(catalogues.studies(reproduce.describe()))
        return
    from nearfar.files import steps
    from nearfar.systems.settings import parse_settings

    chosen = reproduce.load(name, parse_settings(settings or ()))
    found = None if data is None else chosen_data(data, machine)
    planned = reproduce.plan(chosen, found)
    if plan:
        show(reproductions.plan(planned), reproductions.plan_json(planned), as_json=as_json)
        return
    (err if as_json else out).print(reproductions.plan(planned))
    with shown_progress(f"Finished steps are kept; {CONTINUE}") as progress:
        again = reproduce.run(
            chosen, found, folder or Path("results") / chosen.name, workers=workers, truth=truth,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    show(reproductions.reproduction(again), reproductions.reproduction_json(again), as_json=as_json)


def sweep(
    system: Annotated[str, typer.Argument(help="Of `nearfar systems`, or a TOML file.")],
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=A;B;...",
            help="As 'branch.backend_options.k=1;2;4'; repeat it for every combination with further settings.",
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder of a data set with labels.")],
    preset: Preset = None,
    machine: MachineNames = None,
    settings: Settings = None,
    adapter: AdapterFile = None,
    by_recording: Annotated[
        bool, typer.Option("--by-recording", help="Intervals: clips of one recording come and go together.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    cache: Cache = None,
) -> None:
    """Try settings of a system, from embeddings that are computed once. Its best row is no honest result."""
    from nearfar.files import steps
    from nearfar.report import results
    from nearfar.research.sweep import sweep
    from nearfar.systems.settings import parse_options, parse_settings

    with shown_progress(f"Finished embeddings are kept; {CONTINUE}") as progress:
        swept = sweep(
            system, chosen_data(data, machine), parse_options(vary),
            preset=preset, settings=parse_settings(settings or ()), seed=seed,
            adapted_on=adapter or "others", unit="recording" if by_recording else "clip", workers=workers,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    if as_csv:
        typer.echo(swept.table.to_csv(index=False), nl=False)
        err.print(f"scope: {swept.scope}", soft_wrap=True)
    else:
        out.print(results.sweep(swept))


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="SCORES", help="Folder of anomaly_score_*.csv.")],
    truth: Truth = None,
    machine: MachineNames = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate anyone's score files by the official metric.

    Without --truth the names of the clips must tell domain and label, as those of development sets do.
    """
    from nearfar.evaluation.official import evaluate_folder
    from nearfar.report import results

    found = evaluate_folder(folder, truth, machines=machine)
    show(results.evaluation(found), results.evaluation_json(found), as_json=as_json)


def compare(
    a: Annotated[Path, typer.Argument(metavar="RESULT_A", help="Folder of `nearfar run`.")],
    b: Annotated[Path, typer.Argument(metavar="RESULT_B", help="Another, of the same clips.")],
    by_recording: Annotated[
        bool, typer.Option("--by-recording", help="Clips of one recording come and go together.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=1, help="Of the test clips.")] = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Is B better than A? The difference of two results, with its interval.

    Clips of a machine with the same attributes in their names count as one recording.
    """
    from nearfar.report import results
    from nearfar.research import experiment

    pair = experiment.Result.load(a), experiment.Result.load(b)
    unit: Literal["clip", "recording"] = "recording" if by_recording else "clip"
    with shown_progress():
        found = experiment.compare(*pair, unit=unit, n_resamples=resamples, seed=seed)
    show(results.comparison(found, *pair), results.comparison_json(found, *pair), as_json=as_json)


def systems() -> None:
    """The systems that can be fitted, and what each needs."""
    from nearfar.report import catalogues
    from nearfar.systems import named

    out.print(catalogues.systems(named.describe()))
