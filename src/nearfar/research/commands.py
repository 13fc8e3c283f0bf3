"""Commands that make a result again, from its record; and what the record does not say.

A record holds no path, so a command has words in capitals in their place. A command is given only if the settings
that it leads to are those of the record. Where no options do that, the settings are written as a TOML file.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfar.evaluation.record import RunRecord
from nearfar.evaluation.results import Result
from nearfar.files.extras import MissingPackageError
from nearfar.recordings.clips import parse_clip
from nearfar.research import fused
from nearfar.research.adaptation import ON_ALL
from nearfar.systems import configuration
from nearfar.systems.configuration import System
from nearfar.systems.named import FUSED, SEED, SYSTEMS, read_toml
from nearfar.systems.settings import parse_settings

OF_THE_READER = ("summary", "source", "needs")  # keys of a system that change no score
RATE = "threshold.false_alarm_rate"
BARE = re.compile(r"[A-Za-z0-9_-]+")
FAILED = (ValueError, OSError, LookupError, MissingPackageError)  # what loading a system may raise

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Commands:
    """How a result is made again.

    Attributes
    ----------
    lines : tuple of str
        Commands of a shell, in their order; none if nobody can know them.
    file : str
        Name of the TOML file that they need; empty: none.
    settings : str
        All settings as TOML: the content of that file.
    unknown : tuple of str
        What the record does not say, a sentence each.
    versions : mapping from library to version
        That the result was made with.
    """

    lines: tuple[str, ...]
    file: str
    settings: str
    unknown: tuple[str, ...]
    versions: Mapping[str, str]


def commands_of(result: Result, machines: Iterable[str] = ()) -> Commands:
    """How a result is made again, as far as its record says.

    Parameters
    ----------
    result : Result
    machines : iterable of str
        All of the data set, if it is known: the command then names those of the result, unless it has all.
    """
    run, system = result.run, result.run.system
    settings = toml(system)
    if "branch" not in system and "fusion" not in system:
        whose = system.get("scores", run.name)
        told = (
            f"The scores come from the file {whose}, with the SHA-256 {system.get('sha256', 'unknown')}.",
        )
        return Commands((), "", settings, told, run.versions)
    arguments, file, unknown = _named(run) or _of_file(run, settings)
    arguments += ["--data", "DATA"] if _needs_data(system) else []
    every = set(machines)
    if every and every != set(run.machines):
        arguments += [word for name in run.machines for word in ("--machine", name)]
    arguments += _seeds(run, of_file=bool(file)) + _adapter(run)
    if result.folder.name not in ("", run.name):
        arguments += ["--out", f"results/{result.folder.name}"]
    line = shlex.join(["nearfar", "run", *arguments])
    more = _unknown(result, told_machines=bool(every))
    return Commands((line,), file, settings, (*unknown, *more), run.versions)


def report_command(
    results: Iterable[Result], *, data: bool, options: Iterable[str] = (), file: str = "report.html"
) -> str:
    """The command that makes a report of results, by the names of their folders."""
    words = ["nearfar", "report", *(f"results/{result.folder.name}" for result in results)]
    words += ["--data", "DATA"] if data else []
    return shlex.join([*words, *options, "-o", Path(file).name])


def toml(content: Content) -> str:
    """A table as TOML, without keys that have no value."""
    return "\n".join(_tables(content, ())).strip() + "\n"


def _named(run: RunRecord) -> tuple[list[str], str, tuple[str, ...]] | None:
    """Arguments with the name of a system that nearfar has, and options; ``None`` if these make another one."""
    try:
        arguments = _of_fused(run) if "fusion" in run.system else _of_system(run.system)
    except FAILED:
        return None
    return None if arguments is None else (arguments, "", ())


def _of_file(run: RunRecord, settings: str) -> tuple[list[str], str, tuple[str, ...]]:
    """Arguments with a file of the settings."""
    file = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', run.name)}.toml"
    try:
        is_the_same = _is_of(run.system, settings)
    except FAILED as error:
        return [file], file, (f"Whether {file} leads to these settings could not be tried here: {error}",)
    unknown = (
        () if is_the_same else (f"{file} does not lead to all settings of the record with this version.",)
    )
    return [file], file, unknown


def _is_of(system: Content, settings: str) -> bool:
    """Whether a file of these settings is read as what the record says."""
    content = tomllib.loads(settings)
    if "fusion" in system:
        if any("scores" in branch for branch in system["branches"].values()):
            return True  # the files are not here; their digests are among the settings
        return _same(fused.Study.model_validate(content).model_dump(mode="json"), system)
    return _same(System.model_validate(content).model_dump(mode="json"), system)


def _of_system(system: Content) -> list[str] | None:
    """Name, preset and options that lead to these settings."""
    for name, preset in _bases(system["name"]):
        base = configuration.load(name, preset=preset).model_dump(mode="json")
        changed = dict(_differences(base, system, ""))
        rate = changed.pop(RATE, None)
        given = [f"{key}={_value(value)}" for key, value in changed.items()]
        settings = parse_settings(given) | ({} if rate is None else {RATE: rate})
        if _same(configuration.load(name, settings, preset=preset).model_dump(mode="json"), system):
            words = [name, *(["--preset", preset] if preset else [])]
            words += [word for text in given for word in ("--set", text)]
            return words + ([] if rate is None else ["--false-alarm-rate", f"{rate:g}"])
    return None


def _bases(name: str) -> Iterator[tuple[str, str | None]]:
    """Named systems, with a preset perhaps, that are called so."""
    if name in SYSTEMS:
        yield name, None
    for base, path in SYSTEMS.items():
        if name.startswith(f"{base}_"):
            preset = name.removeprefix(f"{base}_")
            if preset in read_toml(path).get("presets", {}):
                yield base, preset


def _of_fused(run: RunRecord) -> list[str] | None:
    """Name and options of a fused system or study that nearfar has."""
    if run.name not in FUSED:
        return None
    study = fused.load(run.name)
    if tuple(study.seeds) != run.seeds:
        study = study.with_seeds(run.seeds)
    rate = run.system["fusion"].get("false_alarm_rate")
    asked = rate is not None and study.fusion.false_alarm_rate != rate
    if asked:
        study = study.with_false_alarm_rate(rate)
    if not _same(study.model_dump(mode="json"), run.system):
        return None
    return [run.name, *(["--false-alarm-rate", f"{rate:g}"] if asked else [])]


def _same(one: Content, other: Content) -> bool:
    """Whether two systems are the same, but for what they tell the reader, and files that are named elsewhere."""
    return _scored(one) == _scored(other)


def _scored(system: Content) -> dict[str, Any]:
    return {key: value for key, value in system.items() if key not in OF_THE_READER}


def _differences(base: Content, other: Content, path: str) -> Iterator[tuple[str, Any]]:
    """Values by dotted path in which one table differs from another."""
    for key, value in other.items():
        if not path and key in (*OF_THE_READER, "name"):
            continue
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) and set(base[key]) <= set(value):
            yield from _differences(base[key], value, f"{path}{key}.")
        elif key not in base or base[key] != value:
            yield f"{path}{key}", value


def _needs_data(system: Content) -> bool:
    branches = system.get("branches", {})
    return not branches or any("scores" not in branch for branch in branches.values())


def _seeds(run: RunRecord, *, of_file: bool) -> list[str]:
    """Unless they are those of the file, or the default."""
    if "fusion" in run.system:
        usual = tuple(run.system["seeds"]) if of_file else fused.load(run.name).seeds
    else:
        usual = (SEED,)
    return [] if run.seeds == usual else ["--seeds", ",".join(map(str, run.seeds))]


def _adapter(run: RunRecord) -> list[str]:
    if run.protocol.adapter is not None:
        return ["--adapter", "ADAPTER"]
    return ["--adapted-on", "all"] if run.protocol == ON_ALL else []


def _unknown(result: Result, *, told_machines: bool) -> Iterator[str]:
    """What the record does not say, in sentences."""
    run = result.run
    if _needs_data(run.system):
        digests = "; the digests of the clips are below" if run.data.machines else ""
        yield f"DATA: where the data set {run.data.name} was{digests}."
        yield "Which channels were near and far: give --channels unless these were the first and the second."
    if not told_machines:
        yield f"Whether DATA has other machines than {', '.join(run.machines)}: if so, name these with --machine."
    if run.protocol.adapter is not None:
        yield f"ADAPTER: where the file of the adapter was; its digest is {run.protocol.adapter}."
    if _labels_are_from_elsewhere(result):
        yield "Where labels came from that no file name tells: give --truth if it was a folder of ground truth."


def _labels_are_from_elsewhere(result: Result) -> bool:
    """Whether a label is known that the name of the clip does not tell."""
    known = result.scores[result.scores["label"].notna()]
    return any(_told_by_name(str(key)) is None for key in known["key"].unique())


def _told_by_name(key: str) -> str | None:
    machine, split, name = (*key.split("/", 2), "", "")[:3]
    try:
        return parse_clip(Path(machine, split, name)).label
    except ValueError:
        return None


def _tables(content: Content, path: tuple[str, ...]) -> Iterator[str]:
    """The lines of a table, then those of the tables in it."""
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in content.items() if k not in tables and v is not None]
    if path and (lines or not tables):
        yield f"\n[{'.'.join(map(_key, path))}]"
    yield from lines
    for key, table in tables.items():
        yield from _tables(table, (*path, key))


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    """As TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _text(value)
        case Mapping():
            inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
            return f"{{{inner}}}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _text(text: str) -> str:
    """A basic string of TOML: JSON writes it alike, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
