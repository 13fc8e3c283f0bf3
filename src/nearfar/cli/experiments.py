"""The commands of experiments: run a system or a study, sweep settings, evaluate and compare results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nearfar.cli.console import err, out, say, show
from nearfar.cli.options import (
    CORES,
    AdapterFile,
    AsJson,
    Cache,
    Channels,
    FalseAlarmRate,
    Gpus,
    MachineNames,
    On,
    Preset,
    Seed,
    Settings,
    TaskMemory,
    Truth,
    Workers,
    chosen_data,
    chosen_place,
    chosen_system,
)
from nearfar.cli.progress import CONTINUE, shown_progress

if TYPE_CHECKING:
    from rich.table import Table

    from nearfar.evaluation.results import Result
    from nearfar.recordings.clips import Dataset
    from nearfar.research.adaptation import AdaptedOn
    from nearfar.research.fused import Study
    from nearfar.systems.configuration import System

KEPT = f"Finished steps are kept; {CONTINUE}."  # what is printed after Ctrl-C


def run(
    system: Annotated[
        str, typer.Argument(help="Name from `nearfar systems`, or a TOML file of a system or a study.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a data set, with one folder per machine. Only a study whose branches are all files of "
            "scores needs none."
        ),
    ] = None,
    preset: Preset = None,
    machine: MachineNames = None,
    channels: Channels = None,
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N,...", help="Random seeds, separated by commas (default: 13711). May be repeated."
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results (default: results/SYSTEM).")
    ] = None,
    truth: Truth = None,
    false_alarm_rate: FalseAlarmRate = None,
    settings: Settings = None,
    adapted_on: Annotated[
        Literal["others", "all"] | None,
        typer.Option(
            help="For a system that needs an adapter: train it on normal clips of the other machines, or of all "
            "machines (default: others, or what the protocol of a study says)."
        ),
    ] = None,
    adapter: AdapterFile = None,
    workers: Workers = CORES,
    on: On = "local",
    gpus: Gpus = 0.0,
    task_memory: TaskMemory = 0.0,
    cache: Cache = None,
) -> None:
    """Fit a system to each machine of a data set, score the test clips, evaluate the scores.

    A study runs several systems, or reads files of scores, and fuses them; its file sets their settings.
    """
    from nearfar.files import steps
    from nearfar.systems.fusion import is_fused

    on_whom = _adapted_on(adapter, adapted_on)
    place = chosen_place(on, workers, gpus, task_memory)
    work = {"workers": place, "truth": truth, "jobs": steps.Jobs(cache)}
    if is_fused(system):
        chosen = _study(system, preset, seeds, settings, false_alarm_rate).only(machine or ())
        _run_study(chosen, _clips_of_study(chosen, data, machine, channels), folder, on_whom, work)
    else:
        plain = chosen_system(system, preset, settings, false_alarm_rate)
        if adapted_on is not None and plain.branch.adaptation is None:
            raise typer.BadParameter(f"{plain.name} is not adapted; omit --adapted-on")
        _run_system(plain, _clips(data, machine, channels), folder, on_whom, seeds, work)


def _adapted_on(adapter: Path | None, protocol: Literal["others", "all"] | None) -> AdaptedOn | None:
    """Whose clips adapters are trained on, or the file of one; ``None``: neither is said."""
    if adapter is not None and protocol is not None:
        raise typer.BadParameter("give either --adapter, which is already trained, or --adapted-on, not both")
    return adapter or protocol


def _clips(folder: Path | None, machines: list[str] | None, channels: str | None) -> Callable[[], Dataset]:
    """What loads the data set; raises at once if there is none."""
    if folder is None:
        raise typer.BadParameter(
            "missing option --data: the folder of a data set, with one folder per machine"
        )
    return partial(chosen_data, folder, machines, channels)


def _clips_of_study(
    chosen: Study, folder: Path | None, machines: list[str] | None, channels: str | None
) -> Callable[[], Dataset | None]:
    """The same; of a study whose scores are all in files, nothing if there is no data set."""
    if folder is not None or chosen.systems:
        return _clips(folder, machines, channels)
    if channels is not None:
        raise typer.BadParameter("--channels has no effect: all branches are files of scores")
    return lambda: None


def _run_study(
    chosen: Study,
    data: Callable[[], Dataset | None],
    folder: Path | None,
    adapted_on: AdaptedOn | None,
    work: dict[str, Any],
) -> None:
    from nearfar.report import results
    from nearfar.research import fused

    into = folder or Path("results") / chosen.name
    with shown_progress(KEPT) as progress:
        found = fused.run(chosen, data(), into, adapted_on=adapted_on, progress=progress, **work)
    out.print(results.study(found))
    _print_with_false_alarms(results.study_by_machine(found), found.result)


def _run_system(
    chosen: System,
    data: Callable[[], Dataset],
    folder: Path | None,
    adapted_on: AdaptedOn | None,
    seeds: list[str] | None,
    work: dict[str, Any],
) -> None:
    from nearfar.report import results
    from nearfar.research import experiment

    into = folder or Path("results") / chosen.name
    with shown_progress(KEPT) as progress:
        found = experiment.run(
            chosen, data(), into, seeds=experiment.parse_seeds(",".join(seeds or ["13711"])),
            adapted_on=adapted_on or "others", progress=progress, **work,
        )  # fmt: skip
    _print_with_false_alarms(results.result(found), found)


def _print_with_false_alarms(table: Table | None, found: Result) -> None:
    from nearfar.report import results

    if table is not None:
        out.print(table)
    if (flagged := results.false_alarms(found)) is not None:
        out.print(flagged)


def _study(
    path: str,
    preset: str | None,
    seeds: list[str] | None,
    settings: list[str] | None,
    false_alarm_rate: float | None,
) -> Study:
    from nearfar.research import experiment, fused

    if preset or settings:
        raise typer.BadParameter(f"{path} is a study; set presets and settings in its file")
    chosen = fused.load(path)
    if seeds:
        chosen = chosen.with_seeds(experiment.parse_seeds(",".join(seeds)))
    return chosen if false_alarm_rate is None else chosen.with_false_alarm_rate(false_alarm_rate)


def study(
    name: Annotated[str | None, typer.Argument(help="Name from `nearfar study`, or a TOML file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of a data set with labels.")] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Only print what would be done, what of it is in the cache, and how long the rest takes.",
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[ENCODER:]KEY=VALUE",
            help="Change a setting in all branches, or in those with this encoder, such as eat:branch.view=near. "
            "May be repeated.",
        ),
    ] = None,
    machine: MachineNames = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results (default: results/NAME).")
    ] = None,
    truth: Truth = None,
    as_json: AsJson = False,
    workers: Workers = CORES,
    on: On = "local",
    gpus: Gpus = 0.0,
    task_memory: TaskMemory = 0.0,
    cache: Cache = None,
) -> None:
    """Reproduce the numbers of a published report. Without NAME: list the studies.

    Prints published values beside new ones. A row whose weights or data are missing says so; the others run.
    """
    from nearfar.report import catalogues, reproductions
    from nearfar.research import reproduce

    if name is None:
        out.print(catalogues.studies(reproduce.describe()))
        return
    place = chosen_place(on, workers, gpus, task_memory)
    from nearfar.files import steps
    from nearfar.places.tasks import cores_of
    from nearfar.systems.settings import parse_settings

    chosen = reproduce.load(name, parse_settings(settings or ()))
    found = None if data is None else chosen_data(data, machine)
    jobs = steps.Jobs(cache)
    planned = reproduce.plan(chosen, found, jobs=jobs, cores=cores_of(place))
    if plan:
        show(reproductions.plan(planned), reproductions.plan_json(planned), as_json=as_json)
        return
    (err if as_json else out).print(reproductions.plan(planned))
    with shown_progress(KEPT) as progress:
        again = reproduce.run(
            chosen, found, folder or Path("results") / chosen.name, workers=place, truth=truth,
            jobs=jobs, progress=progress,
        )  # fmt: skip
    show(reproductions.reproduction(again), reproductions.reproduction_json(again), as_json=as_json)


def sweep(
    system: Annotated[str, typer.Argument(help="Name from `nearfar systems`, or a TOML file.")],
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=A;B;...",
            help="Setting and its values, such as 'branch.view=near;far'. Repeat it to try all combinations.",
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder of a data set with labels.")],
    preset: Preset = None,
    machine: MachineNames = None,
    settings: Settings = None,
    adapter: AdapterFile = None,
    by_recording: Annotated[
        bool,
        typer.Option("--by-recording", help="Resample whole recordings instead of clips for the intervals."),
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    seed: Seed = 13711,
    workers: Workers = CORES,
    on: On = "local",
    gpus: Gpus = 0.0,
    task_memory: TaskMemory = 0.0,
    cache: Cache = None,
) -> None:
    """Compare settings of a system. Embeddings are computed once for all of them.

    Do not report the best row as a result: the labels of the test clips chose it.

    KS needs no labels: it is the Kolmogorov-Smirnov distance between the scores of unseen source normals and those
    of unseen target normals, the mean over the machines. Small: the domains score alike. A third party reports that
    it predicted the order of systems on an evaluation set where scores on the development set did not. It says
    nothing of faults.
    """
    from nearfar.files import steps
    from nearfar.report import results
    from nearfar.research.sweep import sweep
    from nearfar.systems.settings import parse_options, parse_settings

    if as_csv and as_json:
        raise typer.BadParameter("give either --csv or --json, not both")
    place = chosen_place(on, workers, gpus, task_memory)
    chosen_system(system, preset, settings)  # raises for --set, before --vary is looked at
    with shown_progress(f"Finished embeddings are kept; {CONTINUE}.") as progress:
        swept = sweep(
            system, chosen_data(data, machine), parse_options(vary),
            preset=preset, settings=parse_settings(settings or ()), seed=seed,
            adapted_on=adapter or "others", unit="recording" if by_recording else "clip", workers=place,
            jobs=steps.Jobs(cache), progress=progress,
        )  # fmt: skip
    if as_csv:
        typer.echo(swept.table.to_csv(index=False), nl=False)
        for told in (*(f"No KS: {why}" for why in swept.without_ks), f"Scope: {swept.scope}"):
            say(told, err)
    else:
        show(results.sweep(swept), results.sweep_json(swept), as_json=as_json)


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="SCORES", help="Folder of files anomaly_score_*.csv.")],
    truth: Truth = None,
    machine: MachineNames = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate score files in the format of the challenge with its official metrics.

    Without --truth, the names of the clips must contain domain and label, as in development sets.
    """
    from nearfar.evaluation.official import evaluate_folder
    from nearfar.report import results

    found = evaluate_folder(folder, truth, machines=machine)
    show(results.evaluation(found), results.evaluation_json(found), as_json=as_json)


def compare(
    a: Annotated[Path, typer.Argument(metavar="RESULT_A", help="Folder of a result of `nearfar run`.")],
    b: Annotated[
        Path, typer.Argument(metavar="RESULT_B", help="Folder of another result for the same clips.")
    ],
    by_recording: Annotated[
        bool,
        typer.Option("--by-recording", help="Resample whole recordings instead of clips for the intervals."),
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=1, help="Number of bootstrap resamples of the test clips.")
    ] = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two results: the difference B - A with its confidence interval.

    For --by-recording, clips of a machine with equal attributes in their names count as one recording.
    """
    from nearfar.report import results
    from nearfar.research import experiment

    pair = experiment.Result.load(a), experiment.Result.load(b)
    unit: Literal["clip", "recording"] = "recording" if by_recording else "clip"
    with shown_progress():
        found = experiment.compare(*pair, unit=unit, n_resamples=resamples, seed=seed)
    show(results.comparison(found, *pair), results.comparison_json(found, *pair), as_json=as_json)


def systems() -> None:
    """List the systems that can be fitted, and what each of them needs."""
    from nearfar.report import catalogues
    from nearfar.systems import named

    out.print(catalogues.systems(named.describe()))
