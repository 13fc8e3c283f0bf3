"""The commands for people who handle alerts: what waits, acknowledge, comment, shelve, out of service."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearfar.cli.console import say, show
from nearfar.cli.flags import Command, Group
from nearfar.cli.options import AsJson
from nearfar.files.names import one_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nearfar.logbook.life_cycle import Condition
    from nearfar.watching.site import Site

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Handle the alerts of `nearfar watch`: list, acknowledge, comment, shelve.",
)

SiteFile = Annotated[Path, typer.Argument(metavar="SITE.toml", help="The file of the site.")]
LARGEST_ID = 2**63 - 1
Ids = Annotated[list[int], typer.Argument(metavar="ID...", min=1, max=LARGEST_ID, help="Numbers of alerts.")]
MachineName = Annotated[str, typer.Argument(metavar="MACHINE", help="Its name in the site's file.")]
ConditionName = Annotated[str, typer.Argument(metavar="CONDITION", help="anomaly, microphones, or no-sound.")]
By = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who does it (default: the name of the user here).")
]
Comment = Annotated[str, typer.Option(metavar="TEXT", help="What there is to say about it.")]


@app.command(cls=Command, name="list")
def alerts_list(
    site: SiteFile,
    every: Annotated[bool, typer.Option("--all", help="Also those that are acknowledged and over.")] = False,
    active: Annotated[bool, typer.Option("--active", help="Only those that go on.")] = False,
    machine: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this machine.")] = None,
    most: Annotated[int, typer.Option(min=1, max=999, help="At most how many, the newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are active or not acknowledged, the newest first, and what is hidden."""
    from nearfar.logbook import asked
    from nearfar.report import alerts

    if every and active:
        raise typer.BadParameter("give either --all or --active, not both")
    which: asked.State = "all" if every else "active" if active else "retained"
    now = time.time()
    with _logbook(site) as book, book.database.reading() as c:
        machine_id = None if machine is None else _machine_id(c, machine)
        rows = asked.alerts(c, state=which, machine_id=machine_id, most=most + 1)
        found, is_more, conditions = rows[:most], len(rows) > most, asked.conditions(c, machine_id)
    zone = book.site.time_zone
    concealed = [one for one in conditions if alerts.hidden(one, now, zone)]
    json = alerts.json_text(
        {"alerts": found, "before": found[-1]["id"] if is_more else None, "conditions": concealed}
    )
    show(alerts.waiting(found, concealed, now=now, zone=zone, more=is_more), json, as_json=as_json)


@app.command(cls=Command, name="show")
def alerts_show(
    site: SiteFile,
    alert_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=LARGEST_ID, help="Number of an alert.")],
    as_json: AsJson = False,
) -> None:
    """Show an alert: what speaks for it, what happened to it, and who did what."""
    from nearfar.logbook import asked
    from nearfar.report import alerts

    with _logbook(site) as book, book.database.reading() as c:
        found = asked.alert(c, alert_id)
    if found is None:
        raise LookupError(
            f"alert {alert_id}: there is no such alert in the logbook; `nearfar alerts list` lists them"
        )
    show(
        alerts.in_full(found, now=time.time(), zone=book.site.time_zone),
        alerts.json_text(found),
        as_json=as_json,
    )


@app.command(cls=Command, name="acknowledge")
def alerts_acknowledge(site: SiteFile, ids: Ids, by: By = None, comment: Comment = "") -> None:
    """Say that you know of alerts. An alert that is over leaves the list then.

    If one of several is refused, none is acknowledged.
    """
    from nearfar.logbook.conditions import acknowledge

    with _writing(site, by) as book:
        for each in ids:
            acknowledge(book.c, each, now=book.now, by=book.by, comment=comment)
    say(f"Acknowledged by {book.by}: {_numbers(ids)}.")


@app.command(cls=Command, name="comment")
def alerts_comment(
    site: SiteFile,
    ids: Ids,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="What there is to say.", show_default=False)],
    by: By = None,
) -> None:
    """Say something about alerts, in whatever state they are."""
    from nearfar.logbook import conditions

    with _writing(site, by) as book:
        for each in ids:
            conditions.comment(book.c, each, now=book.now, by=book.by, comment=comment)
    say(f"Commented by {book.by}: {_numbers(ids)}.")


@app.command(cls=Command, name="normal")
def alerts_normal(site: SiteFile, ids: Ids, by: By = None, comment: Comment = "") -> None:
    """Say that what was heard was normal. Its sound is kept for `nearfar learn`; the alert stays as it is."""
    from nearfar.logbook.conditions import mark_normal

    with _writing(site, by) as book:
        for each in ids:
            mark_normal(book.c, now=book.now, by=book.by, alert_id=each, comment=comment)
    say(f"Marked as normal by {book.by}: {_numbers(ids)}.")


@app.command(cls=Command, name="shelve")
def alerts_shelve(
    site: SiteFile,
    machine: MachineName,
    condition: ConditionName = "anomaly",
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help='For how long, such as "8 h"; at most "30 days".'),
    ] = None,
    one_shot: Annotated[
        bool, typer.Option("--one-shot", help="Until the condition becomes inactive, or for 30 days.")
    ] = False,
    by: By = None,
    comment: Comment = "",
) -> None:
    """Do not tell people of a condition for a while. It is still heard, and its alerts are in the list."""
    from nearfar.logbook.conditions import shelve
    from nearfar.report.watched import moment
    from nearfar.watching.units import parse_duration

    if one_shot == (duration is not None):
        raise typer.BadParameter('give either --for TIME, such as --for "8 h", or --one-shot')
    try:
        seconds = None if duration is None else parse_duration(duration)
    except ValueError as error:
        raise typer.BadParameter(f"--for: {error}") from error
    kind = _condition(condition)
    with _writing(site, by) as book:
        until = None if seconds is None else book.now + seconds
        machine_id = _machine_id(book.c, machine)
        shelve(book.c, machine_id, kind, now=book.now, until=until, by=book.by, comment=comment)
    end = "it becomes inactive" if until is None else moment(until, book.site.time_zone)
    say(f"Shelved by {book.by}: {machine}, {kind}, until {end}.")


@app.command(cls=Command, name="unshelve")
def alerts_unshelve(
    site: SiteFile,
    machine: MachineName,
    condition: ConditionName = "anomaly",
    by: By = None,
    comment: Comment = "",
) -> None:
    """Tell people of a condition again, before its shelf ends by itself."""
    from nearfar.logbook.conditions import unshelve

    _turn(unshelve, "Unshelved", site, machine, condition, by, comment)


@app.command(cls=Command, name="out-of-service")
def alerts_out_of_service(
    site: SiteFile,
    machine: MachineName,
    condition: ConditionName = "anomaly",
    by: By = None,
    comment: Comment = "",
) -> None:
    """Do not tell people of a condition while somebody works on the machine; `in-service` ends it."""
    from nearfar.logbook.conditions import take_out_of_service

    _turn(take_out_of_service, "Taken out of service", site, machine, condition, by, comment)


@app.command(cls=Command, name="in-service")
def alerts_in_service(
    site: SiteFile,
    machine: MachineName,
    condition: ConditionName = "anomaly",
    by: By = None,
    comment: Comment = "",
) -> None:
    """Tell people of a condition again, after the work is done."""
    from nearfar.logbook.conditions import return_to_service

    _turn(return_to_service, "Returned to service", site, machine, condition, by, comment)


# the logbook of a site


@dataclass(frozen=True, slots=True)
class _Book:
    """A logbook that is open."""

    site: Site
    database: Any


@dataclass(frozen=True, slots=True)
class _Pen:
    """A transaction in which somebody does something."""

    site: Site
    c: Connection
    by: str
    now: float


@contextmanager
def _logbook(path: Path) -> Iterator[_Book]:
    from nearfar.logbook.database import Database
    from nearfar.watching.site import load

    site = load(path)
    database = Database.open(site.state, make=False)
    try:
        yield _Book(site, database)
    finally:
        database.close()


@contextmanager
def _writing(path: Path, by: str | None) -> Iterator[_Pen]:
    """A transaction: all that is done in it, or nothing if something is refused."""
    name = _user() if by is None else by
    with _logbook(path) as book, book.database.writing() as c:
        yield _Pen(book.site, c, name, time.time())


def _turn(
    action: Any, told: str, site: Path, machine: str, condition: str, by: str | None, comment: str
) -> None:
    """Change what hides a condition."""
    kind = _condition(condition)
    with _writing(site, by) as book:
        action(book.c, _machine_id(book.c, machine), kind, now=book.now, by=book.by, comment=comment)
    say(f"{told} by {book.by}: {machine}, {kind}.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError) as error:
        raise typer.BadParameter("this user has no name here; give --by NAME") from error


def _condition(text: str) -> Condition:
    """A condition, also as addresses of the service have it: "no-sound"."""
    from nearfar.logbook.life_cycle import CONDITIONS

    for condition in CONDITIONS:
        if text.replace("-", " ") == condition:
            return condition
    known = ", ".join(each.replace(" ", "-") for each in CONDITIONS)
    raise typer.BadParameter(f"condition {text!r}: must be one of {known}")


def _machine_id(c: Connection, name: str) -> int:
    from nearfar.logbook import asked

    found = asked.machine(c, name)
    if found is not None:
        return int(found["id"])
    names = [row["name"] for row in asked.machines(c, removed=True)]
    near = get_close_matches(name, names, n=1)
    hint = (
        f"did you mean {one_line(near[0])}?"
        if near
        else f"it knows {', '.join(map(one_line, names)) or 'none yet'}"
    )
    raise LookupError(f"{name}: the logbook knows no such machine; {hint}")


def _numbers(ids: list[int]) -> str:
    return f"alert{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
