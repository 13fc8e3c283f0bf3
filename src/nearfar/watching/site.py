"""A site as its file describes it: which machines are heard, by which detector, and whom it is told.

A file is read into frozen models that forbid unknown keys. An error lists every fault with its path. A machine has
the keys of its table, and those of ``[defaults]`` that it does not have itself. Paths that are not absolute count
from the folder of the file.

The options of a source and of a sink are the keyword arguments of its class (``systems.options``), so they are
described in one place. What the class takes beyond them, it is given: see ``MachineSite.make_source``.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, tzinfo
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from nearfar.decisions.alerts import DAY, MINUTE, mean_time
from nearfar.files.extras import MissingPackageError, resolve
from nearfar.files.listing import DETECTOR
from nearfar.recordings.clips import unknown
from nearfar.systems.options import validate_options
from nearfar.watching.pauses import Pauses
from nearfar.watching.sinks import SINKS, Sink
from nearfar.watching.sources import SOURCES, Source
from nearfar.watching.units import local_zone, parse_duration, parse_size, zone_named
from nearfar.windows.clock import require_way
from nearfar.windows.cutting import Cut

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector

FALSE_ALERTS = "1 per 30 days"  # of a machine; our choice: what one can look into
NO_SOUND_AFTER_S = 10 * MINUTE  # our choice: longer than it takes to start a recorder again
KEEP_WINDOWS_S = 14 * DAY  # our choice: two weeks, window by window
KEEP_SOUNDS_BYTES = 5 * 10**9  # our choice: about 130 h of two channels of 16 kHz, as FLAC of 40 MB an hour
STANDARD_STREAM = "-"
PATHS = ("folder", "path")  # options that are paths, also where their type is text
PLACES = {  # what tells one source from another
    "pipe": ("path",), "tcp": ("host", "port"), "udp": ("host", "port"), "soundcard": ("device",)
}  # fmt: skip
OF_DETECTOR = ("rate", "channels")  # of raw samples: what a file need not say
KEEP_REPLAYS_S = 100 * 365 * DAY  # of a replay: what was recorded long ago is not old
HOST, PORT = "127.0.0.1", 8765
FROM_FOLDER = "folder"  # of the file, in the context of validation
GIVEN = ("began", "zone", "time_zone", "selected")  # what a source may take beside its options
DEFAULTS = "defaults"
URL = re.compile(r"[a-z][a-z0-9+]*://", re.IGNORECASE)

_NAME = re.compile(
    r"[^\x00-\x1f\x7f/\\+#.][^\x00-\x1f\x7f/\\+#]*"
)  # a folder, and a level of a topic of MQTT


def _text(what: Callable[[str], Any]) -> BeforeValidator:
    """To read a text by a function; anything else is left to be refused by its type."""

    def read(given: Any) -> Any:
        return what(given) if isinstance(given, str) else given

    return BeforeValidator(read)


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    """A path, counted from the file's folder."""
    return (info.context or {}).get(FROM_FOLDER, Path()) / path.expanduser()


def _above_zero(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < float("inf"):
        raise ValueError(f"{seconds:g}: must be a time above 0, in seconds")
    return seconds


def _where(given: Any, info: ValidationInfo) -> Path | str:
    """A path, counted from the file's folder; or a URL as it is."""
    if not isinstance(given, str | Path):
        raise ValueError("must be a path or a URL, as text")  # noqa: TRY004
    return given if isinstance(given, str) and URL.match(given) else _from_folder(Path(given), info)


def _of_context(name: str) -> BeforeValidator:
    """What is no key of the file: its value comes from the context."""

    def read(given: Any, info: ValidationInfo) -> Any:
        if given is not None:
            raise PydanticCustomError("extra_forbidden", "no key here")
        return (info.context or {}).get(name)

    return BeforeValidator(read)


def _is_name(name: str) -> str:
    if _NAME.fullmatch(name) is None or name != name.strip():
        raise ValueError(
            f"{name!r} is no name here: it is part of file names and of topics of MQTT, so it has none of "
            r"/ \ + #, and neither a dot at its beginning nor a space at an end"
        )
    return name


Duration = Annotated[float, _text(parse_duration), AfterValidator(_above_zero)]
DurationOrNone = Annotated[float | None, _text(parse_duration), AfterValidator(_above_zero)]
Size = Annotated[int, _text(parse_size), Field(ge=0)]
Zone = Annotated[tzinfo, _text(zone_named)]
Where = Annotated[Path, AfterValidator(_from_folder)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class _Chosen(_Frozen):
    """A class of a registry, by its name, with its options."""

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def _read(cls, given: Any, what: str, known: Mapping[str, str], info: ValidationInfo) -> dict[str, Any]:
        """The kind, and all options of its class with their values: one table in the file."""
        if not isinstance(given, Mapping):
            raise ValueError(f'must be a table, such as {{ kind = "{next(iter(known))}", ... }}')  # noqa: TRY004
        options = dict(given)
        kind = options.pop("kind", None)
        if kind is None:
            raise ValueError(f"has no kind; there are: {', '.join(known)}")
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(unknown(f"kind of {what}", str(kind), known))
        try:
            owner = resolve(known[kind], needed_by=f"{what} {kind!r}")
        except MissingPackageError:  # ``make`` says so: whoever only reads the site does without
            return {"kind": kind, "options": options}
        parameters = signature(owner).parameters
        if refused := sorted({*options} & {*GIVEN} & {*parameters}):
            raise ValueError(f"{', '.join(refused)}: a key of the machine, not of its {what}")
        later = {
            name: 1
            for name in OF_DETECTOR
            if name not in options and name in parameters and parameters[name].default is Parameter.empty
        }
        checked = validate_options(what, {**options, **later}, owner, hidden=GIVEN).arguments()
        folder = (info.context or {}).get(FROM_FOLDER, Path())
        kept = {name: value for name, value in checked.items() if name not in GIVEN and name not in later}
        return {
            "kind": kind,
            "options": {name: _absolute(name, value, folder) for name, value in kept.items()},
        }


def _absolute(name: str, value: Any, folder: Path) -> Any:
    """The value; a path is counted from a folder, but for that of standard input or output."""
    if isinstance(value, str) and name in PATHS and value != STANDARD_STREAM:
        return str(folder / Path(value).expanduser())
    return folder / value.expanduser() if isinstance(value, Path) and str(value) != STANDARD_STREAM else value


class SourceSite(_Chosen):
    """Where the sound of a machine comes from.

    Attributes
    ----------
    kind : str
        Of ``sources.SOURCES``.
    options : dict
        Of its class, each with its value; paths do not depend on the working folder.
    """

    @classmethod
    def of(cls, table: Mapping[str, Any], *, folder: Path | None = None) -> Self:
        """A source as its table in a file describes it.

        Raises
        ------
        ValueError
            If there is no such kind, or an option is wrong.
        """
        return cls.model_validate(table, context={FROM_FOLDER: folder or Path.cwd()})

    @property
    def place(self) -> tuple[Any, ...] | None:
        """What only one machine can hear: a pipe, a port, a sound card; ``None`` of a folder."""
        keys = PLACES.get(self.kind)
        return None if keys is None else (self.kind, *(self.options.get(key) for key in keys))

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, given: Any, info: ValidationInfo) -> Any:
        return given if isinstance(given, SourceSite) else cls._read(given, "source", SOURCES, info)

    def make(self, **given: Any) -> Source:
        """The source.

        Parameters
        ----------
        **given
            What the machine and its detector say. The class takes what it has a parameter for; an option that the
            file sets stays as it is.

        Raises
        ------
        MissingPackageError
            If it needs a package that is not installed.
        """
        owner = resolve(SOURCES[self.kind], needed_by=f"source {self.kind!r}")
        parameters = signature(owner).parameters
        more = {
            name: value
            for name, value in given.items()
            if name in parameters and (name in GIVEN or self.options.get(name) is None)
        }
        return owner(**{**self.options, **more})


class SinkSite(_Chosen):
    """Whom it is told.

    Attributes
    ----------
    name : str
    kind : str
        Of ``sinks.SINKS``.
    options : dict
        Of its class, each with its value.
    """

    name: Annotated[str, AfterValidator(_is_name)]

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, Mapping) or "name" not in given:
            return given
        table = dict(given)
        name = table.pop("name")
        return {"name": name, **cls._read(table, "sink", SINKS, info)}

    def make(self) -> Sink:
        """The sink, which is not open yet.

        Raises
        ------
        MissingPackageError
            If it needs a package that is not installed.
        """
        owner = resolve(SINKS[self.kind], needed_by=f"sink {self.name!r} ({self.kind})")
        return owner(**self.options)


class MachineSite(_Frozen):
    """A machine that is heard.

    Attributes
    ----------
    name : str
    detector : Path
        Its folder.
    source : SourceSite
    false_alerts : str
        How often a false alert may come, as of ``decisions.alerts.mean_time``.
    window, hop : float or None
        How recordings are cut, in seconds; ``None``: as the detector does it.
    began : str
        What tells when a recording began, as of ``windows.clock.require_way``.
    pauses : Pauses
    no_sound_after_s : float
        Without sound for so long, there is an alert "no sound".
    zone : tzinfo
        Of recordings that do not tell theirs.
    """

    name: Annotated[str, AfterValidator(_is_name)]
    detector: Where
    source: SourceSite
    false_alerts: str = FALSE_ALERTS
    window: DurationOrNone = None
    hop: DurationOrNone = None
    began: str = "bext"
    pauses: Pauses = Field(default=(), validate_default=True)
    no_sound_after_s: Duration = Field(default=NO_SOUND_AFTER_S, validation_alias="no_sound_after")
    zone: Annotated[tzinfo | None, _of_context("zone")] = Field(None, exclude=True, validate_default=True)

    @field_validator("detector")
    @classmethod
    def _is_detector(cls, folder: Path) -> Path:
        if not (folder / DETECTOR).is_file():
            raise ValueError(
                f"{folder}: no detector here ({DETECTOR} is missing); fit one with `nearfar fit`"
            )
        return folder

    @field_validator("false_alerts")
    @classmethod
    def _is_rate(cls, text: str) -> str:
        mean_time(text)
        return " ".join(text.split())

    @field_validator("began")
    @classmethod
    def _is_way(cls, way: str) -> str:
        return require_way(way)

    @field_validator("pauses", mode="before")
    @classmethod
    def _are_pauses(cls, given: Any, info: ValidationInfo) -> Pauses:
        if isinstance(given, Pauses):
            return given
        if not (isinstance(given, list | tuple) and all(isinstance(text, str) for text in given)):
            raise ValueError('must be a list of texts, such as ["Sat 00:00 - Mon 05:00"]')
        return Pauses.parse(given, (info.context or {}).get("zone", UTC))

    @model_validator(mode="after")
    def _hop_suits_window(self) -> Self:
        if self.window is not None:
            Cut.of(self.window, self.hop)
        return self

    def cut(self, detector: Detector) -> Cut | None:
        """How recordings are cut; ``None``: as the detector does it.

        Raises
        ------
        ValueError
            If the hop is longer than the detector's window.
        """
        if self.window is None and self.hop is None:
            return None
        return Cut.of(self.window or detector.cut.seconds, self.hop)

    def make_source(self, detector: Detector) -> Source:
        """The source, which knows what the machine and its detector say.

        That is ``began``; ``zone``; ``selected``, the channels of recordings that the detector uses; and, of raw
        samples, ``rate`` and ``channels``, where the file does not say it.

        Raises
        ------
        MissingPackageError
            If it needs a package that is not installed.
        """
        rate, channels = detector.pcm_format(None, None)
        return self.source.make(
            began=self.began,
            zone=self.zone,
            selected=detector.selected_channels,
            rate=rate,
            channels=channels,
        )


class ServeSite(_Frozen):
    """Where the logbook is served by HTTP.

    Attributes
    ----------
    host : str
    port : int
        0: any that is free.
    allow_hosts : tuple of str
        Names, in lower case and without a port, by which it may be called beside its address.
    upload_mb : float
        The largest recording that it takes, in 10**6 bytes.
    """

    host: Annotated[str, Field(min_length=1)] = HOST
    port: Annotated[int, Field(ge=0, le=65535)] = PORT
    allow_hosts: tuple[str, ...] = ()
    upload_mb: Annotated[float, Field(gt=0, le=500)] = 50.0


class Site(_Frozen):
    """What is heard, and whom it is told.

    Attributes
    ----------
    name : str
    state : Path or str
        The file of the logbook, or its URL.
    sounds : Path
        The folder of sounds.
    time_zone : tzinfo
    keep_windows_s : float
    keep_sounds_bytes : int
    machines, sinks : mapping from str
        By their names, in the order of the file.
    serve : ServeSite
    path : Path or None
        Of the file; ``None`` if there is none.
    """

    name: Annotated[str, Field(min_length=1)]
    state: Annotated[Path | str, PlainValidator(_where)]
    sounds: Where
    time_zone: Zone
    keep_windows_s: Duration = Field(default=KEEP_WINDOWS_S, validation_alias="keep_windows")
    keep_sounds_bytes: Size = Field(default=KEEP_SOUNDS_BYTES, validation_alias="keep_sounds")
    machines: Annotated[Mapping[str, MachineSite], Field(min_length=1)]
    sinks: Mapping[str, SinkSite] = Field(default_factory=dict)
    serve: ServeSite = ServeSite()
    path: Annotated[Path | None, _of_context("path")] = Field(None, exclude=True, validate_default=True)

    @model_validator(mode="after")
    def _nothing_is_heard_twice(self) -> Self:
        _refuse_heard_twice(self.machines.values(), self.sounds)
        return self


def load(path: Path | str) -> Site:
    """The site that a TOML file describes.

    Raises
    ------
    FileNotFoundError
    ValueError
        If something in it is wrong: everything that is, one line each.
    """
    path = Path(path)
    return _validated(_content_of(path), path.name, path.absolute().parent, path.absolute())


def of_one(detector: Path, source: SourceSite, *, name: str, state: Path | str, **keys: Any) -> Site:
    """A site of one machine, without a file.

    Parameters
    ----------
    detector : Path
    source : SourceSite
    name : str
        Of the machine, and of the site.
    state : Path or str
        The file of the logbook, or its URL.
    **keys
        Of a machine, as a file has them, such as ``false_alerts`` or ``window``; ``None`` is as if left out.

    Raises
    ------
    ValueError
        If something is wrong: everything that is, one line each.
    """
    given = {key: value for key, value in keys.items() if value is not None}
    machine = {"detector": detector, "source": source, **given}
    content = {"name": name, "state": state, "machines": {name: machine}}
    return _validated(content, f"watching {name}", Path.cwd(), None)


def replaying(
    site: Site, folder: Path, *, speed: float | str, state: Path | str, began: str | None = None
) -> Site:
    """The same site, which hears recordings of a folder in place of its machines, and tells no sinks.

    Parameters
    ----------
    site : Site
    folder : Path
        Of one machine, its recordings; of several, a folder with a folder for each, by their names.
    speed : float or str
        How many times faster than they were recorded; "max": as fast as they are heard.
    state : Path or str
        A logbook of its own.
    began : str or None
        As in ``MachineSite``; ``None``: as each machine has it.

    Raises
    ------
    FileNotFoundError
        If a machine has no folder.
    ValueError
        If the speed is none.
    """
    alone = len(site.machines) == 1
    folders = {
        name: folder if alone and not (folder / name).is_dir() else folder / name for name in site.machines
    }
    _refuse_missing(folder, folders)
    sources = {
        name: SourceSite.of({"kind": "replay", "folder": str(of_machine), "speed": speed})
        for name, of_machine in folders.items()
    }
    machines = {
        name: one.model_copy(update={"source": sources[name], **({} if began is None else {"began": began})})
        for name, one in site.machines.items()
    }
    sounds = sounds_beside(state)
    _refuse_heard_twice(machines.values(), sounds)
    changed = {
        "name": f"{site.name} (replay)",
        "machines": machines,
        "sinks": {},
        "state": state,
        "sounds": sounds,
        "path": None,
        "keep_windows_s": KEEP_REPLAYS_S,
    }
    return site.model_copy(update=changed)


def _refuse_missing(folder: Path, folders: Mapping[str, Path]) -> None:
    """Raise unless there is a folder to replay for each machine."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no folder of recordings to replay")
    missing = [name for name, of_machine in folders.items() if not of_machine.is_dir()]
    if missing:
        there = sorted(one.name for one in folder.iterdir() if one.is_dir())
        raise FileNotFoundError(
            f"{folder}: no folder for {', '.join(missing)}; to replay several machines takes a folder for each, by "
            f"its name (there are: {', '.join(there) or 'none'})"
        )


def _refuse_heard_twice(machines: Collection[MachineSite], sounds: Path) -> None:
    """Raise if two machines hear the same, or one would hear what is kept of it."""
    folders: dict[str, Path] = {}
    for machine in machines:
        folder = machine.source.options.get("folder")
        if folder is not None:
            folders[machine.name] = Path(folder).resolve()
    places = [(machine.name, machine.source.place) for machine in machines]
    for (name, place), (second, other) in itertools.combinations(places, 2):
        if place is not None and place == other:
            raise ValueError(f"machines.{name} and machines.{second}: have the same source")
    first: dict[Path, str] = {}
    same = [(first.setdefault(folder, name), name) for name, folder in folders.items()]
    within = [
        (first[outer], name) for name, folder in folders.items() for outer in folder.parents if outer in first
    ]
    for name, second in same + within:
        if name != second:
            where = "the same folder" if (name, second) in same else "folders of which one is in the other"
            raise ValueError(
                f"machines.{name} and machines.{second}: hear {where} ({folders[second]}), so recordings would be "
                "heard twice; give each a folder of its own"
            )
    for name, folder in folders.items():
        if sounds.resolve().is_relative_to(folder):
            raise ValueError(
                f"sounds: {sounds} lies in {folder}, whose recordings machines.{name} hears, so what it keeps "
                "would be heard again; give another folder (or another state: sounds lie beside it)"
            )


def sounds_beside(state: Path | str) -> Path:
    """The folder of sounds, if nothing else is said: beside the file of the logbook, or in the working folder."""
    return state.with_name(f"{state.stem}-sounds") if isinstance(state, Path) else Path("sounds").absolute()


def as_toml(site: Site) -> str:
    """The content of a file that ``load`` reads as the same site."""
    zone = getattr(site.time_zone, "key", None) or (
        "UTC" if site.time_zone is UTC else None
    )  # or this computer's
    own = {
        "name": site.name,
        "state": site.state,
        "sounds": site.sounds,
        "time_zone": zone,
        "keep_windows": site.keep_windows_s,
        "keep_sounds": site.keep_sounds_bytes,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in own.items() if value is not None]
    tables: dict[str, Mapping[str, Any]] = {"serve": site.serve.model_dump()}
    for name, sink in site.sinks.items():
        tables[f"sinks.{_toml(name)}"] = {"kind": sink.kind, **sink.options}
    for name, machine in site.machines.items():
        tables[f"machines.{_toml(name)}"] = {
            "detector": machine.detector,
            "source": {"kind": machine.source.kind, **machine.source.options},
            "false_alerts": machine.false_alerts,
            "window": machine.window,
            "hop": machine.hop,
            "began": machine.began,
            "pauses": machine.pauses.texts,
            "no_sound_after": machine.no_sound_after_s,
        }
    for heading, table in tables.items():
        lines += ["", f"[{heading}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML has it; of texts, the escapes of JSON are among those of TOML."""
    match value:
        case Mapping():
            inner = (f"{key} = {_toml(one)}" for key, one in value.items() if one is not None)
            return f"{{ {', '.join(inner)} }}"
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case bool() | int():
            return str(value).lower()
        case float():
            return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _content_of(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file; docs/watch.md shows what a site's file says"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from error


def _validated(content: dict[str, Any], called: str, folder: Path, path: Path | None) -> Site:
    """The site; ``called`` is what messages call it."""
    prepared = _prepared(content, called, folder, path)
    zone = prepared["time_zone"]
    if isinstance(zone, str):
        with suppress(ValueError):  # which is told with all other faults
            zone = zone_named(zone)
    if not isinstance(zone, tzinfo):
        zone = UTC
    context = {FROM_FOLDER: folder, "zone": zone, "path": path}
    try:
        return Site.model_validate(prepared, context=context)
    except ValidationError as error:
        faults = list(dict.fromkeys(_faults(error, content)))
        heading = f"{called}: {len(faults)} faults" if len(faults) > 1 else f"{called}:"
        raise ValueError("\n".join([heading, *faults])) from None


def _prepared(content: Mapping[str, Any], called: str, folder: Path, path: Path | None) -> dict[str, Any]:
    """The content with what the file leaves out because it follows from the rest."""
    defaults = content.get(DEFAULTS, {})
    if not isinstance(defaults, Mapping):
        raise ValueError(f"{called}:\n  {DEFAULTS}: must be a table")  # noqa: TRY004
    prepared = {key: value for key, value in content.items() if key != DEFAULTS}
    stem = folder / (path.stem if path is not None else "logbook")
    prepared.setdefault("name", stem.name)
    state = prepared.setdefault("state", f"{stem}.db")
    if "sounds" not in prepared:
        is_file = isinstance(state, Path) or (isinstance(state, str) and not URL.match(state))
        prepared["sounds"] = str(sounds_beside(folder / state if is_file else stem))
    if "time_zone" not in prepared:
        prepared["time_zone"] = local_zone()
    for key, more in (("machines", defaults), ("sinks", {})):
        if isinstance(tables := prepared.get(key), Mapping):
            prepared[key] = {
                name: {**more, **table, "name": name} if isinstance(table, Mapping) else table
                for name, table in tables.items()
            }
    return prepared


def _faults(error: ValidationError, content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong, a line each, with its place in the file."""
    defaults = content.get(DEFAULTS, {})
    for fault in error.errors():
        place = [str(part) for part in fault["loc"]]
        table = content
        for part in place[:2]:
            table = table.get(part, {}) if isinstance(table, Mapping) else {}
        own = place[:1] == ["machines"] and isinstance(table, Mapping)
        if own and len(place) > 2 and place[2] in defaults and place[2] not in table:
            place = [DEFAULTS, *place[2:]]
        text = ".".join(place)
        yield f"  {text}: {_message(fault)}" if text else f"  {_message(fault)}"


def _message(fault: ErrorDetails) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return unknown("key", str(fault["loc"][-1]), _keys_at(fault["loc"][:-1]))
        case "missing":
            return "is missing"
        case "dict_type" | "model_type" | "mapping_type" | "model_attributes_type":
            return "must be a table"
        case "path_type":
            return "must be a path, as text"
        case "string_type":
            return "must be text"
        case "is_instance_of" if fault["loc"] == ("time_zone",):
            return 'must be the name of a time zone, as text, such as "Europe/Berlin"'
        case "too_short":
            return "there is none; a site has at least one"
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """The keys of a table of the file."""
    table = str(place[0]) if place else ""
    of_tables: dict[str, type[BaseModel]] = {"machines": MachineSite, "sinks": SinkSite, "serve": ServeSite}
    model = of_tables.get(table, Site)
    keys = [
        str(field.validation_alias or name)
        for name, field in model.model_fields.items()
        if not field.exclude and (model is Site or name != "name")
    ]
    return [*keys, DEFAULTS] if model is Site else keys
