"""The service: an application of ASGI, made of a site and its logbook."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from nearfar import __version__
from nearfar.logbook import watcher
from nearfar.logbook.life_cycle import LifeCycleError
from nearfar.serving import pages
from nearfar.serving.actions import add_actions
from nearfar.serving.answers import Problem
from nearfar.serving.changes import Changes
from nearfar.serving.decoding import BusyError, Decoder, WorkerError
from nearfar.serving.evidence import add_evidence
from nearfar.serving.learning import Learners, add_learning
from nearfar.serving.limits import Limits
from nearfar.serving.metrics import add_metrics
from nearfar.serving.page_routes import add_pages
from nearfar.serving.reading import add_reading
from nearfar.serving.security import Guard, RefusedError, Sessions
from nearfar.serving.service import Service
from nearfar.serving.uploads import add_uploads

if TYPE_CHECKING:
    from nearfar.logbook.database import Database
    from nearfar.watching.site import Site

DESCRIPTION = (
    "What detectors hear of machines, and what people do about it. Times are seconds since 1970-01-01 in UTC. "
    "Whatever changes something needs the header `X-Nearfar: 1` and, but for recordings, a body of JSON."
)
WHY_NOT = {
    400: "The request is not understood.",
    401: "No token, or one that is not known.",
    403: "Not for this token, or from a page of another site.",
    404: "There is no such thing.",
    408: "The body took too long.",
    409: "Not now: the state of what is asked for does not allow it.",
    413: "Too large, or too much work.",
    415: "Not the type of body that is needed.",
    421: "The name in `Host` is not known here.",
    422: "Something in the request is not allowed; of a recording, it cannot be used.",
    429: "Too many at once.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why} for status, why in WHY_NOT.items()
}


def make_app(
    site: Site,
    database: Database,
    *,
    limits: Limits | None = None,
    now: Callable[[], float] = time.time,
    is_watched: Callable[[Database], bool] = watcher.is_watched,
) -> FastAPI:
    """The application, which ``serving.run`` serves.

    Parameters
    ----------
    site : Site
    database : Database
        Its logbook; it stays open.
    limits : Limits or None
        ``None``: those of ``Limits``, and the size of recordings that the site says.
    now, is_watched : callable
        Seconds since 1970 (UTC); whether a program watches with the logbook.

    Returns
    -------
    FastAPI
        ``app.state.changes`` tells what happens; ``cut_all`` of it ends all its streams, before the service ends.
    """
    service = Service(site, database, limits or Limits(upload_bytes=int(site.serve.upload_mb * 1e6)), now)
    changes, decoder, learners = Changes(service, is_watched), Decoder(service.limits), Learners(service)
    sessions = Sessions(now, seconds=service.limits.session_seconds, log_ins=service.limits.log_ins)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        changes.start()
        try:
            yield
        finally:
            await changes.stop()
            await learners.stop()
            decoder.close()
            service.close()

    app = FastAPI(
        title=f"nearfar: {site.name}", version=__version__, description=DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # they load scripts from elsewhere
        redirect_slashes=False,
    )  # fmt: skip
    app.state.changes = changes
    api, others = APIRouter(prefix="/api", responses=PROBLEMS), APIRouter(include_in_schema=False)
    add_reading(api, service, changes)
    add_evidence(api, service, decoder)
    add_actions(api, service)
    add_uploads(api, service, decoder)
    add_learning(api, learners)
    add_metrics(others, service)
    add_pages(others, service, sessions)
    app.include_router(api)
    app.include_router(others)
    _add_errors(app, site.name)
    app.add_middleware(Guard, service=service, sessions=sessions)
    return app


def _add_errors(app: FastAPI, site_name: str) -> None:
    """Say what went wrong, in the same form everywhere."""

    def told(request: Request, answer: Response, text: str, title: str = "Not found") -> Response:
        """The answer, to a program; a page that says the same, to somebody who looks for a page."""
        if request.method not in ("GET", "HEAD") or not is_of_page(request.url.path):
            return answer
        around = pages.Around(site_name, pages.Viewer(may_act=False))
        page = pages.problem(around, title, f"{text[:1].upper()}{text[1:]}.")
        return HTMLResponse(page, answer.status_code)

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return problem(error.status, error.error, error.hint, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        answer = problem(error.status_code, str(error.detail).lower(), headers=dict(error.headers or {}))
        return told(request, answer, "there is no such page") if error.status_code == 404 else answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        answer = problem(422, "; ".join(wrong[:5]), "see /openapi.json")
        return told(request, answer, "something in the address is not allowed", "There is no such page")

    @app.exception_handler(LifeCycleError)
    async def not_now(_: Request, error: LifeCycleError) -> JSONResponse:
        return problem(409, str(error), code=error.code)

    @app.exception_handler(LookupError)
    async def unknown(request: Request, error: LookupError) -> Response:
        if isinstance(error, KeyError | IndexError):  # those of a program that is wrong
            raise error
        return told(request, problem(404, str(error)), str(error))

    @app.exception_handler(WorkerError)
    async def lost(_: Request, error: WorkerError) -> JSONResponse:
        hint = (
            "send a shorter recording" if error.is_too_large else "send a recording as the machine's others"
        )
        return problem(413 if error.is_too_large else 422, str(error), hint)

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> JSONResponse:
        return problem(429, str(error), headers={"Retry-After": "5"})


def is_of_page(path: str) -> bool:
    """Whether people look for a page at this path, not programs.

    Examples
    --------
    >>> from nearfar.serving.app import is_of_page
    >>> is_of_page("/machines/nobody"), is_of_page("/api/machines/nobody"), is_of_page("/static/nothing.js")
    (True, False, False)
    """
    return not f"{path}/".startswith(("/api/", "/static/", "/metrics/", "/openapi.json/"))


def problem(
    status: int, error: str, hint: str = "", *, code: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An answer that says what is wrong."""
    told = Problem(error=error, hint=hint, code=code).model_dump(exclude_none=True)
    clean = {key: text.encode("utf-8", "backslashreplace").decode() for key, text in told.items()}
    return JSONResponse(clean, status, headers)
