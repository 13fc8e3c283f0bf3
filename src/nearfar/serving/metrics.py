"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from nearfar.files.extras import MissingPackageError, resolve
from nearfar.logbook import asked, cursors
from nearfar.serving.security import RefusedError
from nearfar.serving.service import ALL, Service

SINK = "nearfar.watching.sinks.prometheus"


class State:
    """The state of a site as sinks ask for it (``watching.sinks.SiteState``), out of the logbook."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.name = service.site.name

    def machines(self) -> list[Mapping[str, Any]]:
        """Each machine, as of ``logbook.asked.machines``."""
        with self._service.database.reading() as c:
            return list(asked.machines(c))

    def sinks(self) -> list[Mapping[str, Any]]:
        """How far each sink is, as of ``logbook.cursors.standing``."""
        with self._service.database.reading() as c:
            return list(cursors.standing(c))


def add_metrics(routes: APIRouter, service: Service) -> None:
    """Add the route."""

    @routes.get("/metrics", summary="Metrics in the text format of Prometheus")
    async def metrics() -> Response:
        try:
            render = resolve(f"{SINK}:render", needed_by="/metrics")
            kind = resolve(f"{SINK}:CONTENT_TYPE", needed_by="/metrics")
        except MissingPackageError as error:
            raise RefusedError(404, "there are no metrics", str(error)) from error
        return Response(
            await service.answer("metrics", lambda _: render(State(service)), windows_of=ALL), media_type=kind
        )
