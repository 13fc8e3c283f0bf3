"""The pages of ``nearfar serve``: what the logbook knows, for people.

Three views: the hall, a machine, the alerts. Each is a function of rows of the logbook (``logbook.asked``) that
gives HTML. It knows neither the database nor HTTP.

There is one renderer. A script in the page (``static/live.js``) hears that something changed, fetches the same
address again, and takes over what differs. So it is decided here, and nowhere else, what a state is called and how
it looks. All that can be read is there without scripts, too.

The security policy of the service allows scripts and styles of ``/static`` only: no element has a ``style`` or an
``on...`` attribute. Colours and the look of what is common are those of ``report.pages``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from nearfar.files.times import iso
from nearfar.report.pages import page
from nearfar.report.pages.text import name_of

if TYPE_CHECKING:
    from jinja2 import Environment

Row = Mapping[str, Any]
Tone = Literal["bad", "doubt", "good", "quiet"]

HERE = Path(__file__).parent
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
STYLE = "style.css"  # the style sheet of reports, then our own
DAY_S = 86400.0
_NUMBER = re.compile("([0-9]+)")
LAST = 100  # a rank behind all of ``State.rank``
SHOWN_EVENTS = 8  # on the page of a machine; older ones are folded; our choice
COMPACT_FROM = 60  # machines, from which on the hall begins with small tiles; our choice
# The gravest first
CONDITIONS = {"anomaly": "Anomaly", "no sound": "No sound", "microphones": "Microphone fault"}
SLUGS = {"anomaly": "anomaly", "microphones": "microphones", "no sound": "no-sound"}  # in addresses


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page.

    Attributes
    ----------
    name : str or None
        The name of the token; ``None``: nobody has to sign in, and the browser asks for a name before the first
        action.
    may_act : bool
        Whether actions are offered.
    signs_out : bool
        Whether there is a session that can be ended.
    """

    name: str | None = None
    may_act: bool = True
    signs_out: bool = False


@dataclass(frozen=True, slots=True)
class Around:
    """What every page shows around its content.

    Attributes
    ----------
    site : str
        Its name.
    viewer : Viewer
    waiting : int
        How many alerts nobody has acknowledged.
    """

    site: str
    viewer: Viewer
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of ``/static``.

    Attributes
    ----------
    content : bytes
    media_type, etag : str
        For the headers ``Content-Type`` and ``ETag``.
    """

    content: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class State:
    """How a machine, a condition or an alert stands: in words, as a sign, and among the others.

    Attributes
    ----------
    kind : str
        One of ``KINDS``: what the hall is filtered by.
    sign : str
        The name of a sign in ``templates/macros.html.j2``: each has its own shape.
    tone : {"bad", "doubt", "good", "quiet"}
        Its colours. They say nothing that the words do not say.
    words : str
    detail : str
        More words, or none.
    since : float or None
        In seconds since 1970 (UTC).
    rank : int
        The smaller, the more it needs somebody.
    """

    kind: str
    sign: str
    tone: Tone
    words: str
    detail: str
    since: float | None
    rank: int


KINDS = {
    "alert": "Alert",
    "no-sound": "No sound",
    "microphones": "Microphone fault",
    "shelved": "Shelved",
    "out-of-service": "Out of service",
    "not-watched": "Not watched",
    "stopped": "Standing still",
    "paused": "Paused",
    "waiting": "No sound yet",
    "normal": "Normal",
}
_KIND_OF = {"anomaly": "alert", "microphones": "microphones", "no sound": "no-sound"}
_MODES: dict[str, tuple[str, str, Tone, str, int]] = {  # of the schema: kind, sign, tone, words, rank
    "no sound": ("no-sound", "no-sound", "doubt", "No sound", 30),
    "lost": ("not-watched", "not-watched", "doubt", "Not watched", 35),  # of serving.service.LOST
    "removed": ("not-watched", "not-watched", "quiet", "Not watched any more", 75),
    "stopped": ("not-watched", "not-watched", "doubt", "Not watched", 70),
    "paused": ("paused", "paused", "quiet", "Paused", 80),
}


def state_of(machine: Row, *, retained: Iterable[Row] = (), conditions: Iterable[Row] = ()) -> State:
    """How a machine stands: the worst that can be said of it.

    Parameters
    ----------
    machine : mapping
        Its row.
    retained : iterable of mapping
        Its alerts that are active or not acknowledged.
    conditions : iterable of mapping
        What people and sensors say of its conditions.
    """
    said = {row["condition"]: row for row in conditions}
    found = [alert_state(row, said.get(row["condition"])) for row in retained]
    found.append(_state_without_alerts(machine, said))
    return min(found, key=lambda state: (state.rank, state.since or 0.0))


def _state_without_alerts(machine: Row, said: Mapping[str, Row]) -> State:
    mode, since = machine["mode"], machine["mode_since_at"]
    if "anomaly" in said and said["anomaly"]["out_of_service"]:
        return State("out-of-service", "out-of-service", "quiet", "Out of service", "", None, 60)
    if mode in _MODES:
        kind, sign, tone, words, rank = _MODES[mode]
        if mode == "lost":
            return State(kind, sign, tone, words, "its watcher has ended", machine["heard_until_at"], rank)
        return State(kind, sign, tone, words, "", since, rank)
    if machine["heard_until_at"] is None:
        return State("waiting", "waiting", "quiet", "No sound yet", "", since, 76)
    if machine["running"] is False:
        return State("stopped", "stopped", "quiet", "Standing still", "", None, 78)
    if machine["decision"] == "anomaly":  # not yet an alert: the rule still gathers evidence
        return State("normal", "watchful", "good", "Normal", "last window anomalous", since, 89)
    if machine["decision"] == "unusable":
        return State("normal", "watchful", "good", "Normal", "last window unusable", since, 89)
    return State("normal", "normal", "good", "Normal", "", since, 90)


def alert_state(alert: Row, condition: Row | None = None) -> State:
    """How an alert stands, with what people and sensors say of its condition."""
    name = str(alert["condition"])
    kind, words = _KIND_OF.get(name, "alert"), CONDITIONS.get(name, name)
    order = list(CONDITIONS).index(name) if name in CONDITIONS else 0
    since = alert["began_at"]
    quiet = _not_told(condition)
    if alert["active"] and quiet is not None:
        return State(
            "out-of-service" if quiet == "out of service" else "shelved",
            "shelved", "quiet", words, quiet, since, 50 + order,
        )  # fmt: skip
    if not alert["active"]:
        return State(kind, "over", "doubt", words, "over, not acknowledged", since, 20 + order)
    sign = "alert" if kind == "alert" else kind
    tone: Tone = "bad" if kind == "alert" else "doubt"
    if alert["acked"]:
        return State(kind, f"{sign}-acked", tone, words, "acknowledged", since, 40 + order)
    return State(kind, sign, tone, words, "not acknowledged", since, order)


def _not_told(condition: Row | None) -> str | None:
    """Why a condition is not told although it is active, or None."""
    if condition is None:
        return None
    if condition["out_of_service"]:
        return "out of service"
    if condition["suppressed"]:
        return "suppressed by a microphone fault"
    return None if condition["shelving"] == "unshelved" else "shelved"


def hall(
    around: Around, machines: Sequence[Row], *, retained: Sequence[Row], conditions: Sequence[Row], now: float
) -> str:
    """The page of all machines, trouble first.

    Parameters
    ----------
    around : Around
    machines : sequence of mapping
        Rows of all machines.
    retained : sequence of mapping
        Alerts of all machines that are active or not acknowledged.
    conditions : sequence of mapping
        What people and sensors say of the conditions of all machines.
    now : float
        In seconds since 1970 (UTC).

    Returns
    -------
    str
        HTML.
    """
    alerts_of, said_of = _by_machine(retained), _by_machine(conditions)
    cards: list[dict[str, Any]] = []
    for row in machines:
        mine = alerts_of.get(row["id"], [])
        state = state_of(row, retained=mine, conditions=said_of.get(row["id"], []))
        cards.append({"row": row, "state": state, "retained": len(mine), "until": _end_of_trend(row, now)})
    cards.sort(key=lambda card: (card["state"].rank, _natural(card["row"]["name"])))
    counts = {kind: sum(card["state"].kind == kind for card in cards) for kind in KINDS}
    return _render(
        "hall.html.j2",
        around,
        here="hall",
        cards=cards,
        counts={kind: count for kind, count in counts.items() if count},
        compact=len(cards) >= COMPACT_FROM,
        is_lost=any(row["mode"] == "lost" for row in machines),
    )


def machine(
    around: Around,
    row: Row,
    *,
    conditions: Sequence[Row],
    alerts: Sequence[Row],
    events: Sequence[Row],
    normals: int,
    now: float,
) -> str:
    """The page of one machine.

    Parameters
    ----------
    around : Around
    row : mapping
        Its row.
    conditions : sequence of mapping
        What people and sensors say of its conditions.
    alerts, events : sequence of mapping
        Of it, the newest first.
    normals : int
        How many of its recordings are marked normal, and not yet learnt.
    now : float

    Returns
    -------
    str
        HTML.
    """
    said = {each["condition"]: each for each in conditions}
    retained = [each for each in alerts if each["retained"]]
    state = state_of(row, retained=retained, conditions=conditions)
    return _render(
        "machine.html.j2",
        around,
        here="machine",
        row=row,
        state=state,
        conditions=[_condition_card(name, said.get(name), alerts) for name in CONDITIONS],
        alerts=[_alert_card(each, said.get(each["condition"]), None) for each in alerts],
        events=events,
        shown_events=SHOWN_EVENTS,
        normals=normals,
        until=_end_of_trend(row, now),
    )


def alerts(
    around: Around,
    rows: Sequence[Row],
    *,
    state: str,
    machine: str,
    machines: Sequence[str],
    conditions: Sequence[Row],
    journals: Mapping[int, Sequence[Row]],
    older: int | None,
) -> str:
    """The page of alerts: those that need somebody first.

    Parameters
    ----------
    around : Around
    rows : sequence of mapping
        The newest first.
    state : {"retained", "active", "all"}
        Which are asked for.
    machine : str
        Whose; "" of all.
    machines : sequence of str
        The names of all.
    conditions : sequence of mapping
        Of all machines.
    journals : mapping from int to sequence of mapping
        What happened to each alert, by its id.
    older : int or None
        The id before which more alerts are found; ``None``: there are no more.

    Returns
    -------
    str
        HTML.
    """
    said = {(each["machine_id"], each["condition"]): each for each in conditions}
    cards = [
        _alert_card(row, said.get((row["machine_id"], row["condition"])), journals.get(row["id"], ()))
        for row in rows
    ]
    # what nobody needs any more comes last; those of one rank stay as they came, the newest first
    cards.sort(key=lambda card: card["state"].rank if card["row"]["retained"] else LAST)
    return _render(
        "alerts.html.j2",
        around,
        here="alerts",
        cards=cards,
        asked=state,
        machine=machine,
        machines=sorted(machines, key=_natural),
        older=older,
    )


def login(around: Around, *, message: str = "", then: str = "/") -> str:
    """The page that asks for a token.

    Parameters
    ----------
    around : Around
    message : str
        What was wrong with the one before.
    then : str
        The path that was asked for.
    """
    return _render("login.html.j2", around, here="login", message=message, then=then)


def problem(around: Around, title: str, text: str) -> str:
    """A page that says what is wrong, such as that there is no such machine."""
    return _render("problem.html.j2", around, here="problem", title=title, text=text)


def static(name: str) -> StaticFile | None:
    """A file of ``/static``, of a fixed list: no name that is asked for becomes a path."""
    return _static_files().get(name)


@cache
def _static_files() -> dict[str, StaticFile]:
    made = {}
    for path in sorted((HERE / "static").iterdir()):
        if path.suffix in MEDIA_TYPES:
            made[path.name] = _static_file(path.read_bytes(), MEDIA_TYPES[path.suffix])
    common = (page.HERE / "style.css").read_bytes()
    made[STYLE] = _static_file(common + b"\n" + made.pop("service.css").content, MEDIA_TYPES[".css"])
    return made


def _static_file(content: bytes, media_type: str) -> StaticFile:
    return StaticFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _by_machine(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["machine_id"], []).append(row)
    return found


def _end_of_trend(row: Row, now: float) -> float | None:
    """Where the trend ends that is shown first: now (None), or, of what was recorded long ago, when it ends."""
    until = row["heard_until_at"]
    return None if until is None or now - until < DAY_S / 2 else float(until)


def _alert_card(row: Row, condition: Row | None, journal: Sequence[Row] | None) -> dict[str, Any]:
    return {
        "row": row,
        "state": alert_state(row, condition),
        "condition": condition,
        "title": CONDITIONS.get(row["condition"], row["condition"]),
        "slug": SLUGS.get(row["condition"], row["condition"]),
        "words": _words_of_alert(row, journal or ()),
        "journal": journal,
        "sound": row["sound"] is not None,
        "has_evidence": bool(row.get("has_evidence", row.get("evidence"))),
    }


def _condition_card(name: str, said: Row | None, alerts: Sequence[Row]) -> dict[str, Any]:
    active = next((row for row in alerts if row["condition"] == name and row["active"]), None)
    return {"title": CONDITIONS[name], "slug": SLUGS[name], "said": said, "active": active}


def _words_of_alert(row: Row, journal: Sequence[Row]) -> list[str]:
    """What speaks for an alert, in sentences: of its evidence if that is here, else as the journal told it."""
    told = [words_of(row.get("evidence"))]
    told += [words_of(entry.get("content")) for entry in journal if entry["what"] == "evidence"]
    return next((words for words in told if words), [])


def words_of(evidence: Any) -> list[str]:
    """The sentences of an explanation's content (``evidence.contents``), as JSON or read."""
    if isinstance(evidence, str):
        evidence = json.loads(evidence)
    if not isinstance(evidence, Mapping):
        return []
    return [str(word) for word in evidence.get("words", ())]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """A key by which pump-2 comes before pump-10."""
    parts, digits = [""], False
    for character in name.casefold():
        is_digit = character.isascii() and character.isdigit()
        if is_digit != digits:
            parts.append("")
            digits = is_digit
        parts[-1] += character
    return [
        (not part.isdigit(), int(part) if part.isascii() and part.isdigit() else 0, part) for part in parts
    ]


def utc(at: float) -> str:
    """The same for people; scripts put the time of the browser's zone in its place.

    Examples
    --------
    >>> from nearfar.serving.pages import utc
    >>> utc(0)
    '1 Jan 1970, 00:00 UTC'
    """
    when = datetime.fromtimestamp(at, UTC)
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def seconds(value: float) -> str:
    """A length of time in at most two units.

    Examples
    --------
    >>> from nearfar.serving.pages import seconds
    >>> seconds(9.96), seconds(75), seconds(3600), seconds(200000)
    ('10 s', '1 min 15 s', '1 h', '2 d 7 h')
    """
    if value < 9.95:
        return f"{value:.3g} s"
    left = round(value)
    told: list[tuple[int, str]] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or told:
            told.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in told[:2] if count)


def figure(value: float | None) -> str:
    """A score or another number to three or four digits, with a real minus; a dash if there is none."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _render(template: str, around: Around, **context: Any) -> str:
    found = _environment().get_template(template)
    return found.render(around=around, viewer=around.viewer, **context)


def _is_plain(value: Any) -> bool:
    """Whether it is text that can be shown as it is, which is quick to see: a hall has thousands of texts."""
    return type(value) is str and value.isascii() and value.isprintable()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    import nearfar

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if _is_plain(value) else page.finalize(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"nearfar_version": nearfar.__version__, "KINDS": KINDS, "CONDITIONS": CONDITIONS}
    made.filters |= {
        "name": lambda text: text if _is_plain(text) else name_of(str(text)),
        "quoted": lambda text: quote(str(text), safe="", errors="surrogateescape"),
        "iso": iso,
        "utc": utc,
        "seconds": seconds,
        "figure": figure,
    }
    return made
