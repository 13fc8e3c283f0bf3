"""What operators do: each action is a transaction of its own, and a row of the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from fastapi import APIRouter, Request
from fastapi import Path as InPath

from nearfar.logbook import conditions
from nearfar.logbook.life_cycle import Condition, LifeCycleError
from nearfar.serving.answers import Action, Comment, Done, Shelve
from nearfar.serving.reading import Id, Name
from nearfar.serving.security import RefusedError, Viewer
from nearfar.serving.service import Service, machine_number

HOUR = 3600.0
ConditionName = Annotated[Literal["anomaly", "microphones", "no-sound"], InPath(alias="condition")]


def add_actions(api: APIRouter, service: Service) -> None:
    """Add all routes by which operators act."""
    _add_alerts(api, service)
    _add_conditions(api, service)


def who(request: Request, given: Action) -> str:
    """Who acts: the holder of the token; without one, whoever the request says.

    Raises
    ------
    RefusedError
        If neither says it.
    """
    viewer: Viewer = request.state.viewer
    if name := viewer.name or given.by:
        return name
    raise RefusedError(422, "the logbook keeps who does something", "say it as `by`")


async def write(service: Service, act: Callable[[sql.Connection], Any]) -> None:
    """Do something, in a transaction of its own.

    Raises
    ------
    LifeCycleError
        If the life cycle of alerts refuses it.
    RefusedError
        If the logbook does not take it as it is.
    """
    try:
        await service.write(act)
    except LifeCycleError:
        raise
    except ValueError as error:
        raise RefusedError(422, str(error)) from error


def _add_alerts(api: APIRouter, service: Service) -> None:
    @api.post("/alerts/{number}/acknowledge", summary="Acknowledge an alert")
    async def acknowledge(number: Id, given: Action, request: Request) -> Done:
        by = who(request, given)
        await write(
            service,
            lambda c: conditions.acknowledge(c, number, now=service.now(), by=by, comment=given.comment),
        )
        return Done(told=f"Alert {number} is acknowledged.")

    @api.post("/alerts/{number}/comment", summary="Comment on an alert")
    async def comment(number: Id, given: Comment, request: Request) -> Done:
        by = who(request, given)
        await write(
            service, lambda c: conditions.comment(c, number, now=service.now(), by=by, comment=given.comment)
        )
        return Done(told="The comment is in the journal.")

    @api.post("/alerts/{number}/normal", summary="The sound of an alert was normal: it is to be learnt")
    async def alert_was_normal(number: Id, given: Action, request: Request) -> Done:
        return await was_normal(request, given, alert_id=number)

    @api.post("/events/{number}/normal", summary="The sound of an event was normal: it is to be learnt")
    async def event_was_normal(number: Id, given: Action, request: Request) -> Done:
        return await was_normal(request, given, event_id=number)

    async def was_normal(
        request: Request, given: Action, *, alert_id: int | None = None, event_id: int | None = None
    ) -> Done:
        by = who(request, given)
        await write(
            service,
            lambda c: conditions.mark_normal(
                c, now=service.now(), by=by, alert_id=alert_id, event_id=event_id, comment=given.comment
            ),
        )
        return Done(told="Its sound is kept to be learnt.")


def _add_conditions(api: APIRouter, service: Service) -> None:
    place = "/machines/{name}/conditions/{condition}"

    async def act(name: str, kind: str, call: Callable[[sql.Connection, int, Condition], Any]) -> None:
        def change(c: sql.Connection) -> None:
            call(c, machine_number(c, name), condition_of(kind))

        await write(service, change)

    @api.post(f"{place}/shelve", summary="Shelve a condition: its alerts are not announced for a while")
    async def shelve(name: Name, kind: ConditionName, given: Shelve, request: Request) -> Done:
        by, now = who(request, given), service.now()
        until = None if given.hours is None else now + HOUR * given.hours
        await act(
            name, kind,
            lambda c, m, k: conditions.shelve(c, m, k, now=now, by=by, until=until, comment=given.comment),
        )  # fmt: skip
        length = "until it is cleared" if given.hours is None else f"for {given.hours:g} h"
        return Done(told=f"{kind} of {name} is shelved {length}.")

    @api.post(f"{place}/unshelve", summary="End the shelving of a condition")
    async def unshelve(name: Name, kind: ConditionName, given: Action, request: Request) -> Done:
        by, now = who(request, given), service.now()
        await act(
            name, kind, lambda c, m, k: conditions.unshelve(c, m, k, now=now, by=by, comment=given.comment)
        )
        return Done(told=f"{kind} of {name} is no longer shelved.")

    @api.post(f"{place}/out-of-service", summary="Take a condition out of service, for maintenance")
    async def out_of_service(name: Name, kind: ConditionName, given: Action, request: Request) -> Done:
        by, now = who(request, given), service.now()
        await act(
            name, kind,
            lambda c, m, k: conditions.take_out_of_service(c, m, k, now=now, by=by, comment=given.comment),
        )  # fmt: skip
        return Done(told=f"{kind} of {name} is out of service.")

    @api.post(f"{place}/in-service", summary="Return a condition to service")
    async def in_service(name: Name, kind: ConditionName, given: Action, request: Request) -> Done:
        by, now = who(request, given), service.now()
        await act(
            name, kind,
            lambda c, m, k: conditions.return_to_service(c, m, k, now=now, by=by, comment=given.comment),
        )  # fmt: skip
        return Done(told=f"{kind} of {name} is in service.")


def condition_of(name: str) -> Condition:
    """The condition that stands in a path."""
    names: dict[str, Condition] = {"anomaly": "anomaly", "microphones": "microphones", "no-sound": "no sound"}
    return names[name]
