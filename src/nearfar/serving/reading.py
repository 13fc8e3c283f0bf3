"""What is asked of the logbook: machines, scores, events, alerts, the journal, and what changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from nearfar.logbook import asked
from nearfar.serving.answers import (
    LARGEST_ID,
    AlertInFull,
    Alerts,
    Answer,
    EventInFull,
    Events,
    Journal,
    MachineInFull,
    Machines,
    Number,
    Scores,
)
from nearfar.serving.changes import Changes, last_event_id
from nearfar.serving.service import ALL, Service, alert_of, event_of, machine_named, machine_number

MOST_POINTS, MOST_ROWS = 5000, 500
MEDIA_TYPES = {".flac": "audio/flac", ".wav": "audio/wav"}
SOUND: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}},
    206: {"description": "The part that `Range` asks for."},
    416: {"description": "There is no such part."},
}  # fmt: skip

Name = Annotated[str, InPath(max_length=200, description="Of a machine, URL-quoted.")]
Id = Annotated[int, InPath(ge=1, le=LARGEST_ID)]
Time = Annotated[
    float | None,
    Query(allow_inf_nan=False, description="Seconds since 1970-01-01 in UTC; left out: no limit."),
]
Points = Annotated[
    int, Query(ge=1, le=MOST_POINTS, description="At most so many; the peaks of all windows stay.")
]
Most = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Before = Annotated[Number | None, Query(description="Older ones than this one.")]
After = Annotated[int, Query(ge=0, le=LARGEST_ID, description="Later ones than this one.")]


def made(model: BaseModel) -> bytes:
    """An answer as JSON."""
    return model.model_dump_json(warnings=False).encode()


def json_response(body: bytes) -> Response:
    """An answer that is JSON already: it is made once for all who ask the same."""
    return Response(body, media_type="application/json")


def add_reading(api: APIRouter, service: Service, changes: Changes) -> None:
    """Add all routes that only read."""
    _add_machines(api, service)
    _add_events(api, service)
    _add_alerts(api, service)
    _add_journal(api, service, changes)


def _add_machines(api: APIRouter, service: Service) -> None:
    @api.get("/machines", response_model=Machines, summary="All machines")
    async def machines() -> Response:
        return json_response(
            await service.answer(
                "machines",
                lambda c: of_rows(Machines, "machines", map(service.as_watched, asked.machines(c))),
                windows_of=ALL,
            )
        )

    @api.get("/machines/{name}", response_model=MachineInFull, summary="A machine, its conditions and alerts")
    async def machine(name: Name) -> Response:
        return json_response(
            await service.answer(("machine", name), lambda c: _machine(c, name, service), windows_of=name)
        )

    @api.get("/machines/{name}/scores", response_model=Scores, summary="Scores of a machine")
    async def scores(name: Name, begin: Time = None, end: Time = None, points: Points = 500) -> Response:
        def ask(c: sql.Connection) -> bytes:
            number = machine_number(c, name)
            return of_rows(Scores, "points", asked.scores(c, number, begin=begin, end=end, points=points))

        return json_response(await service.answer(("scores", name, begin, end, points), ask, windows_of=name))


def _add_events(api: APIRouter, service: Service) -> None:
    @api.get(
        "/machines/{name}/events", response_model=Events, summary="Events of a machine, the newest first"
    )
    async def events(
        name: Name, begin: Time = None, end: Time = None, most: Most = 50, before: Before = None
    ) -> Response:
        def ask(c: sql.Connection) -> bytes:
            number = machine_number(c, name)
            rows = asked.events(c, machine_id=number, begin=begin, end=end, most=most, before_id=before)
            return of_page(Events, "events", rows, most)

        return json_response(await service.answer(("events", name, begin, end, most, before), ask))

    @api.get("/events/{number}", response_model=EventInFull, summary="An event")
    async def event(number: Id) -> Response:
        return json_response(
            await service.answer(
                ("event", number), lambda c: made(EventInFull.model_validate(event_of(c, number)))
            )
        )

    @api.get(
        "/events/{number}/sound",
        response_class=FileResponse,
        responses=SOUND,
        summary="The sound of an event",
    )
    async def event_sound(number: Id) -> FileResponse:
        return await _sound(service, lambda c: event_of(c, number))


def _add_alerts(api: APIRouter, service: Service) -> None:
    @api.get("/alerts", response_model=Alerts, summary="Alerts, the newest first")
    async def alerts(
        state: Literal["retained", "active", "all"] = "retained",
        machine: Annotated[str | None, Query(max_length=200)] = None,
        most: Most = 50,
        before: Before = None,
    ) -> Response:
        def ask(c: sql.Connection) -> bytes:
            number = None if machine is None else machine_number(c, machine)
            rows = asked.alerts(c, state=state, machine_id=number, most=most, before_id=before)
            return of_page(Alerts, "alerts", rows, most)

        return json_response(await service.answer(("alerts", state, machine, most, before), ask))

    @api.get("/alerts/{number}", response_model=AlertInFull, summary="An alert, its journal and its evidence")
    async def alert(number: Id) -> Response:
        return json_response(
            await service.answer(
                ("alert", number), lambda c: made(AlertInFull.model_validate(alert_of(c, number)))
            )
        )

    @api.get(
        "/alerts/{number}/sound",
        response_class=FileResponse,
        responses=SOUND,
        summary="The sound of an alert",
    )
    async def alert_sound(number: Id) -> FileResponse:
        return await _sound(service, lambda c: alert_of(c, number))


def _add_journal(api: APIRouter, service: Service, changes: Changes) -> None:
    @api.get(
        "/journal", response_model=Journal, summary="What happened, in the order in which it was written"
    )
    async def journal(after: After = 0, most: Most = 100) -> Response:
        def ask(c: sql.Connection) -> bytes:
            return of_rows(Journal, "entries", asked.journal(c, after=after, most=most))

        return json_response(await service.answer(("journal", after, most), ask))

    @api.get(
        "/changes",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        summary="What happens, as server-sent events",
        description="Events are named `alert`, `event` and `machine`; their data is a row of the journal, without "
        "its content, and their id its number. `machine` without an id says that windows were heard. `lost` says "
        "that too much was missed.",
    )
    async def follow(
        after: Annotated[int | None, Query(ge=0, le=LARGEST_ID, description="As Last-Event-ID.")] = None,
        last_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)] = None,
    ) -> StreamingResponse:
        known = last_event_id(last_id)
        follower = await changes.follow(after if known is None else known)

        async def texts() -> AsyncIterator[str]:
            try:
                async for text in follower.texts():
                    yield text
            finally:
                changes.leave(follower)

        headers = {"X-Accel-Buffering": "no"}  # nginx hands on at once
        return StreamingResponse(texts(), media_type="text/event-stream", headers=headers)


def of_rows(model: type[Answer], key: str, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """An answer that lists rows."""
    return made(model.model_validate({key: list(rows)}))


def of_page(model: type[Answer], key: str, rows: Iterable[Mapping[str, Any]], most: int) -> bytes:
    """An answer that lists rows, the newest first, and says whether there may be older ones."""
    listed = list(rows)
    before = listed[-1]["id"] if len(listed) == most else None
    return made(model.model_validate({key: listed, "before": before}))


def _machine(c: sql.Connection, name: str, service: Service) -> bytes:
    row = service.as_watched(machine_named(c, name))
    return made(
        MachineInFull.model_validate({**row, "normals_to_learn": len(asked.normals_to_learn(c, row["id"]))})
    )


async def _sound(service: Service, row: Callable[[sql.Connection], Mapping[str, Any]]) -> FileResponse:
    path: Path = service.sound((await service.read(row))["sound"])
    return FileResponse(path, media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"))
