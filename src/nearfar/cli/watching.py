"""The command that watches machines that run, or plays a day of them."""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from nearfar.cli.console import err, out, say
from nearfar.cli.options import Hop, PcmChannels, PcmRate
from nearfar.cli.progress import CONTINUE
from nearfar.files.listing import DETECTOR
from nearfar.files.names import quoted

if TYPE_CHECKING:
    from nearfar.watching.site import Site

WRITTEN_BY = "# Written by `nearfar watch`; the next watch of this detector writes it again.\n"
SPEED = "60"
SOUNDCARD = "soundcard"
STREAM = re.compile(r"(tcp|udp)://(\[[0-9a-fA-F:.]+\]|[^:/\[\]]+):(\d{1,5})/?")

What = Annotated[
    list[str],
    typer.Argument(
        metavar="SITE.toml | DETECTOR SOURCE",
        help="The file of a site. Or the folder of a detector, and where sound comes from: a folder that a "
        "recorder fills, - (raw 16-bit PCM, or a sound file, on stdin), a named pipe, tcp://HOST:PORT or "
        "udp://HOST:PORT, soundcard or soundcard:NAME.",
        show_default=False,
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The logbook: a file, or a URL such as postgresql+pg8000://... (default: DETECTOR-logbook.db beside "
        "the detector; of a replay, a new temporary one).",
    ),
]
FalseAlerts = Annotated[
    str | None,
    typer.Option(
        metavar="RATE", help="How often a false alert may come, on average (default: 1 per 30 days)."
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Length of a window, such as 10, in seconds (default: the detector's)."
    ),
]
Began = Annotated[
    str | None,
    typer.Option(
        metavar="WAY",
        help="What tells when a recording began: bext, mtime, none, or a pattern for the date in the name, such as "
        "%Y%m%d_%H%M%S (default: bext).",
    ),
]
ReplayFolder = Annotated[
    Path | None,
    typer.Option(
        "--replay",
        metavar="FOLDER",
        help="Play recordings in place of the source: of one machine, its folder; of a site, a folder with a "
        "folder for each machine. Nobody is told, and the logbook is another one.",
    ),
]
Speed = Annotated[
    str | None,
    typer.Option(metavar="TIMES", help=f"How many times faster a replay is, or max (default: {SPEED})."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Read all, open the detectors, say what would be done, and end.")
]
Scoring = Annotated[int, typer.Option(min=1, help="How many windows are scored at a time.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def watch(
    what: What,
    state: State = None,
    false_alerts: FalseAlerts = None,
    window: Window = None,
    hop: Hop = None,
    began: Began = None,
    replay: ReplayFolder = None,
    speed: Speed = None,
    rate: PcmRate = None,
    pcm_channels: PcmChannels = None,
    check: Check = False,
    workers: Scoring = 1,
    as_json: AsJsonLines = False,
) -> None:
    """Watch machines that run: alerts, events and scores go to a logbook, and to whom the site's file names.

    It goes on until Ctrl-C, or until a file on stdin or a replay ends. The same command goes on where it was, also
    after a kill. The logbook is looked at with `nearfar serve`.
    """
    from nearfar.cli.live import run

    if speed is not None and replay is None:
        raise typer.BadParameter("--speed is for --replay; give that, too, or leave it out")
    keys = {"false_alerts": false_alerts, "window": window, "hop": hop, "began": began}
    pcm = {"rate": rate, "channels": pcm_channels}
    where = _where(state)
    if _is_site(what):
        site = _of_file(what, where, {**keys, **pcm}, replay=replay)
    else:
        site = _of_one(what, where, keys, pcm, replay=replay)
    if replay is not None:
        site = _replayed(site, replay, speed or SPEED, where or _temporary(made=not check), began)
    if check:
        _check(site)
        return
    again = (
        CONTINUE
        if replay is None or state is not None
        else f"give --state {quoted(site.state)}, too, to continue"
    )
    raise typer.Exit(
        run(site, workers=workers, as_json=as_json, describe=partial(_file_of, site), again=again)
    )


def _temporary(*, made: bool) -> Path:
    """The logbook of a replay that nobody named."""
    prefix = "nearfar-replay-"
    return (
        Path(tempfile.mkdtemp(prefix=prefix) if made else f"{tempfile.gettempdir()}/{prefix}...")
        / "logbook.db"
    )


def _is_site(what: list[str]) -> bool:
    """Whether the file of a site is given, and not a detector."""
    if len(what) > 2:
        raise typer.BadParameter(f"{len(what)} arguments: give SITE.toml, or DETECTOR SOURCE")
    return len(what) == 1 and (what[0].endswith(".toml") or Path(what[0]).is_file())


def _where(state: str | None) -> Path | str | None:
    from nearfar.watching.site import URL

    if state is not None and state.endswith(".toml"):
        raise typer.BadParameter(
            f"--state {state}: the logbook is a database; choose another ending, such as .db"
        )
    return state if state is None or URL.match(state) else Path(state).absolute()


def _of_file(
    what: list[str], state: Path | str | None, given: Mapping[str, Any], *, replay: Path | None
) -> Site:
    """The site of a file, whose keys say what options say of one machine."""
    from nearfar.watching.site import load

    site = load(what[0])
    played = replay is not None
    in_file = [
        name for name, value in given.items() if value is not None and not (played and name == "began")
    ]
    in_file += ["state"] if state is not None and not played else []
    if in_file:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in in_file)
        raise typer.BadParameter(f"{options}: of one machine; for a site, {what[0]} says it")
    if played and state == site.state:
        raise typer.BadParameter(f"--state {state}: the logbook of the site itself; a replay has another one")
    return site


def _of_one(
    what: list[str],
    state: Path | str | None,
    keys: Mapping[str, Any],
    pcm: Mapping[str, int | None],
    *,
    replay: Path | None,
) -> Site:
    """The site of one machine, which is called as its detector calls it."""
    from nearfar.detector.fitted import Detector
    from nearfar.watching.site import SourceSite, of_one

    folder = Path(what[0]).absolute()
    if (len(what) == 2) is (replay is not None):
        raise typer.BadParameter(
            "give either a source or --replay"
            if replay is not None
            else f"give a source after {what[0]}: a folder that a recorder fills, - for stdin, "
            "tcp://127.0.0.1:9000, soundcard, ...; or recordings to play, with --replay FOLDER"
        )
    table = {"kind": "replay", "folder": str(replay)} if replay is not None else _source(what[1], pcm)
    source = SourceSite.of({key: value for key, value in table.items() if value is not None})
    cut = {key: _time(keys[key], key) for key in ("window", "hop")}
    if not (folder / DETECTOR).is_file():
        raise typer.BadParameter(
            f"{what[0]}: no detector here ({DETECTOR} is missing); make one with `nearfar fit`, and give it "
            "before the source: `nearfar watch DETECTOR SOURCE`"
        )
    name = Detector.load(folder).machine
    return of_one(
        folder,
        source,
        name=name,
        state=state or folder.with_name(f"{folder.name}-logbook.db"),
        **{**keys, **cut},
    )


def _source(text: str, pcm: Mapping[str, int | None]) -> dict[str, Any]:
    """The table of a source, as a site's file would have it."""
    if (match := STREAM.fullmatch(text)) is not None:
        kind, host, port = match.groups()
        return {"kind": kind, "host": host.strip("[]"), "port": int(port), **pcm}
    kind, _, device = text.partition(":")
    if kind == SOUNDCARD:
        return {"kind": kind, "device": device or None, **pcm}
    path = Path(text)
    if path.is_dir():
        if given := [f"--{name}" for name, value in pcm.items() if value is not None]:
            raise typer.BadParameter(f"{', '.join(given)}: of raw PCM; recordings in a folder tell theirs")
        return {"kind": "folder", "folder": text}
    if text == "-" or path.is_fifo():
        live = not (text == "-" and _is_file(sys.stdin))  # a file waits for who reads it
        return {"kind": "pipe", "path": text, "live": None if live else False, **pcm}
    raise typer.BadParameter(_no_source(text, path))


def _is_file(stream: TextIO) -> bool:
    """Whether a stream comes from a file on disk."""
    with suppress(OSError, ValueError):  # it has no number, or is closed
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    return False


def _no_source(text: str, path: Path) -> str:
    """Why this is no source."""
    from nearfar.recordings.clips import is_audio, unknown

    if path.is_file() and not is_audio(path):
        return f"{text}: neither the folder that a recorder fills, nor a pipe"
    if path.is_file():
        return f"{text}: one recording, which `nearfar score` hears; a watch takes the folder that a recorder fills"
    kind, separator, _ = text.partition("://")
    if separator and kind in ("tcp", "udp"):
        return f"{text}: expected {kind}://HOST:PORT, such as {kind}://127.0.0.1:9000"
    if separator:
        return unknown("kind of stream", kind, ("tcp", "udp"))
    return f"{text}: no such folder or pipe; a recorder's folder must be there before it is watched"


def _replayed(site: Site, folder: Path, speed: str, state: Path | str, began: str | None) -> Site:
    from nearfar.watching.site import replaying
    from nearfar.watching.sources.replay import parse_speed

    try:
        parse_speed(speed)
        return replaying(site, folder.absolute(), speed=speed, state=state, began=began)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error


def _check(site: Site) -> None:
    """Open all that a watch opens, and say what it would do."""
    from nearfar.report import watched
    from nearfar.watching.engine import check

    detectors = {name: ready.hearing.detector for name, ready in check(site).items()}
    out.print(watched.plan(site, detectors))
    for name, machine in site.machines.items():
        folder = machine.source.options.get("folder")
        if folder is not None and not Path(folder).is_dir():
            say(f"{name}: {folder} is not there yet; it is heard once it is", err)


def _file_of(site: Site) -> Path | None:
    """The file that describes the site: of one machine or a replay, one beside the logbook, for `serve`."""
    from nearfar.files.atomic import atomic_file
    from nearfar.watching.site import as_toml

    if site.path is not None or not isinstance(site.state, Path):
        return site.path
    file = site.state.with_suffix(".toml")
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(WRITTEN_BY):
        say(f"{file}: left as it is, because `nearfar watch` has not written it", err)
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as part:
        part.write_text(WRITTEN_BY + as_toml(site), encoding="utf-8")
    return file


def _time(text: str | None, name: str) -> float | None:
    from nearfar.windows.cutting import parse_time

    try:
        return None if text is None else parse_time(text, name)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error
