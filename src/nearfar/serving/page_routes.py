"""The pages for people: ``serving.pages`` writes them, from what the logbook answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import sqlalchemy as sql
from fastapi import APIRouter, Query, Request, Response

from nearfar.logbook import asked, streams
from nearfar.logbook.schema import alerts as alert_table
from nearfar.logbook.tokens import holder_among
from nearfar.serving import pages
from nearfar.serving.pages import Around
from nearfar.serving.reading import MOST_ROWS, Before, Name
from nearfar.serving.security import COOKIE, RefusedError, Sessions, Viewer, headers_of, session_of
from nearfar.serving.service import ALL, Service, machine_named, machine_number

ON_MACHINE = {"alerts": 20, "events": 50}  # rows
ON_ALERTS = 50
MOST_WORDS = 5000  # alerts
TICK = 15.0  # s after which a page is made anew though nothing has changed: it says how long ago things were
NO_CACHE = {"Cache-Control": "no-cache"}  # kept by browsers, and asked for again


def add_pages(routes: APIRouter, service: Service, sessions: Sessions) -> None:
    """Add all pages."""
    shown, words = _Shown(service), _Words()
    _add_machines(routes, service, shown, words)
    _add_alerts(routes, shown, words)
    _add_log_in(routes, service, sessions)

    @routes.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        found = pages.static(name)
        if found is None:
            raise RefusedError(404, "there is no such file")
        return _tagged(request, found.content, found.etag, found.media_type)


class _Words:
    """What the evidence of alerts says, in sentences. Evidence is long, and stays as it is: it is read once."""

    def __init__(self) -> None:
        self._by_alert: dict[int, list[str]] = {}

    def added(self, c: sql.Connection, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of alerts, with the words of their evidence."""
        new = [row["id"] for row in rows if row["has_evidence"] and row["id"] not in self._by_alert]
        for number in new:
            query = sql.select(alert_table.c.evidence).where(alert_table.c.id == number)
            self._by_alert[number] = pages.words_of(c.execute(query).scalar_one())
        while len(self._by_alert) > MOST_WORDS:
            del self._by_alert[next(iter(self._by_alert))]
        return [{**row, "evidence": {"words": self._by_alert.get(row["id"], [])}} for row in rows]


class _Shown:
    """Pages that are made of the logbook for whoever asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(
        self,
        request: Request,
        key: Any,
        make: Callable[[sql.Connection, Around], str],
        *,
        windows_of: str | None,
    ) -> Response:
        viewer: Viewer = request.state.viewer
        service = self._service

        def made(c: sql.Connection) -> bytes:
            waiting = sum(not row["acked"] for row in asked.alerts(c, state="retained", most=MOST_ROWS))
            return make(c, Around(service.site.name, _shown_viewer(viewer), waiting)).encode()

        this = ("page", key, viewer, int(service.now() // TICK))
        content = await service.answer(this, made, windows_of=windows_of)
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return _tagged(request, content, etag, "text/html; charset=utf-8")


def _add_machines(routes: APIRouter, service: Service, shown: _Shown, words: _Words) -> None:
    @routes.get("/")
    async def hall(request: Request) -> Response:
        def make(c: sql.Connection, around: Around) -> str:
            retained = asked.alerts(c, state="retained", most=MOST_ROWS)
            return pages.hall(
                around,
                [service.as_watched(row) for row in asked.machines(c)],
                retained=retained,
                conditions=asked.conditions(c),
                now=service.now(),
            )

        return await shown(request, "hall", make, windows_of=ALL)

    @routes.get("/machines/{name}")
    async def machine(request: Request, name: Name) -> Response:
        def make(c: sql.Connection, around: Around) -> str:
            row = service.as_watched(machine_named(c, name))
            number = row["id"]
            return pages.machine(
                around,
                row,
                conditions=asked.conditions(c, number),
                alerts=words.added(
                    c, asked.alerts(c, state="all", machine_id=number, most=ON_MACHINE["alerts"])
                ),
                events=asked.events(c, machine_id=number, most=ON_MACHINE["events"]),
                normals=len(asked.normals_to_learn(c, number)),
                now=service.now(),
            )

        return await shown(request, ("machine", name), make, windows_of=name)


def _add_alerts(routes: APIRouter, shown: _Shown, words: _Words) -> None:
    @routes.get("/alerts")
    async def alerts(
        request: Request,
        state: Literal["retained", "active", "all"] = "retained",
        machine: Annotated[str, Query(max_length=200)] = "",
        before: Before = None,
    ) -> Response:
        def make(c: sql.Connection, around: Around) -> str:
            number = machine_number(c, machine) if machine else None
            rows = asked.alerts(c, state=state, machine_id=number, most=ON_ALERTS, before_id=before)
            return pages.alerts(
                around,
                words.added(c, rows),
                state=state,
                machine=machine,
                machines=[row["name"] for row in asked.machines(c)],
                conditions=asked.conditions(c),
                journals={row["id"]: streams.of_alert(c, row["id"]) for row in rows},
                older=rows[-1]["id"] if len(rows) == ON_ALERTS else None,
            )

        return await shown(request, ("alerts", state, machine, before), make, windows_of=None)


def _add_log_in(routes: APIRouter, service: Service, sessions: Sessions) -> None:
    def form(message: str, then: str, status: int) -> Response:
        around = Around(service.site.name, pages.Viewer())
        return Response(pages.login(around, message=message, then=then), status, media_type="text/html")

    @routes.get("/login")
    async def login(then: Annotated[str, Query(max_length=2000)] = "/") -> Response:
        return form("", own_path(then), 200)

    @routes.post("/login")
    async def log_in(request: Request) -> Response:
        try:
            given = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        except ValueError:  # not of our page
            return form("This is not what the form below sends.", "/", 422)
        then = own_path(given.get("then", ["/"])[0])
        client = request.client.host if request.client is not None else ""
        try:
            sessions.refuse_too_many(client)
        except RefusedError as refused:
            answer = form(f"Too many log-ins failed; {refused.hint}.", then, refused.status)
            answer.headers.update(refused.headers)
            return answer
        known = await service.known_tokens()
        token = given.get("token", [""])[0].strip()
        holder = holder_among(known, token)
        if holder is None:
            sessions.failed(client)
            return form("This token is not known.", then, 403)
        digest = next(each.digest for each in known if each.holder == holder)
        answer = Response(status_code=303, headers={"Location": then})
        answer.set_cookie(
            COOKIE,
            sessions.begin(digest),
            max_age=int(service.limits.session_seconds),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    @routes.post("/logout", status_code=204)
    async def log_out(request: Request) -> Response:
        sessions.end(session_of(headers_of(request.scope)))
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


def own_path(then: str) -> str:
    """Where to go after a log-in: a path of ours, whatever was asked for.

    Examples
    --------
    >>> from nearfar.serving.page_routes import own_path
    >>> own_path("/machines/pump"), own_path("//elsewhere.example/"), own_path("https://elsewhere.example")
    ('/machines/pump', '/', '/')
    """
    is_ours = then.startswith("/") and not then.startswith("//") and "\\" not in then and then.isprintable()
    return then if is_ours and then.isascii() else "/"


def _shown_viewer(viewer: Viewer) -> pages.Viewer:
    return pages.Viewer(viewer.name, viewer.may_act, viewer.has_session)


def _tagged(request: Request, content: bytes, etag: str, media_type: str) -> Response:
    headers: Mapping[str, str] = {**NO_CACHE, "ETag": etag}
    if etag in [
        each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")
    ]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
