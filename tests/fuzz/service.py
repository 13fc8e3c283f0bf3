"""The service: recordings that come in, as its worker reads them, and what is asked by HTTP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import served
from synthetic import RATE, clip

from fuzz import damage, detectors
from fuzz.surfaces import Surface
from nearfar.recordings import audio
from nearfar.serving import worker

ASKED = [  # method, path, what is sent
    ["POST", "/api/alerts/1/acknowledge", {"by": "anna", "comment": "seen"}],
    ["POST", "/api/alerts/1/comment", {"by": "anna", "comment": "a bearing"}],
    ["POST", "/api/alerts/1/shelve", {"by": "anna", "hours": 2.5}],
    ["POST", "/api/alerts/1/unshelve", {"by": "anna"}],
    ["POST", "/api/machines/pump/out-of-service", {"by": "anna", "comment": "repair"}],
    ["POST", "/api/machines/pump/in-service", {"by": "anna"}],
    ["GET", "/api/machines/pump/scores?points=20", {}],
    ["GET", "/api/alerts?state=all&most=3", {}],
    ["GET", "/api/events?begin=0", {}],
    ["GET", "/api/journal?after=1", {}],
    ["GET", "/machines/pump", {}],
    ["GET", "/alerts", {}],
]


def _upload(folder: Path) -> None:
    shutil.copytree(detectors.fitted() / "detector", folder / "detector")
    audio.write(folder / worker.UPLOAD, clip(8, seconds=0.5), RATE)


def uploaded(case: Path) -> Any:
    """What the worker answers to a recording; an error of the program is one."""
    job = {
        "do": "explain",
        "detector": str(case / "detector"),
        "folder": str(case),
        "file": worker.UPLOAD,
        "seconds": 600.0,
        "at": None,
        "last": None,
        "page": False,
    }
    told = worker.outcome(job, worker.Detectors())
    json.dumps(told, allow_nan=False)
    if "failed" in told and "an error of the program" in told["failed"]:
        raise RuntimeError(told["failed"])
    if "failed" in told or "refused" in told:
        raise ValueError(told.get("refused", told.get("failed")))
    return told["content"]["decision"]


def _site(folder: Path) -> None:
    database = served.filled(folder, detectors.fitted() / "detector").database
    database.close()
    (folder / "asked.json").write_text(json.dumps(ASKED), encoding="utf-8")


def asked(case: Path) -> Any:
    """The answers to what is asked, by a real server; 500 and above are faults of ours."""
    from nearfar.logbook.database import Database
    from nearfar.watching import site

    database = Database.open(case / "hall.db")
    hall = served.Served(site.load(case / "SITE.toml"), database)
    try:
        requests = json.loads((case / "asked.json").read_bytes())
    except ValueError:
        requests = [
            ["POST", "/api/alerts/1/acknowledge", (case / "asked.json").read_bytes().decode("latin-1")]
        ]
    found = []
    with served.running(hall.app()) as address, served.client(address, **served.ACT) as client:
        for request in requests if isinstance(requests, list) else [requests]:
            found.append(_answer(client, request))
    database.close()
    return found


def _answer(client: Any, request: Any) -> int:
    method, path, body = (
        (*request, None, None, None)[:3]
        if isinstance(request, list)
        else ("POST", "/api/alerts/1/comment", request)
    )
    method = method if method in ("GET", "POST", "PUT", "DELETE", "HEAD") else "POST"
    path = path if isinstance(path, str) and path.isascii() and path.isprintable() else "/api/alerts"
    answer = client.request(method, f"/{path.lstrip('/')}"[:4000], content=json.dumps(body).encode())
    if answer.status_code >= 500:
        raise RuntimeError(
            f"{method} {path}: {answer.status_code} {answer.text[:500]}, of {json.dumps(body)[:500]}"
        )
    return int(answer.status_code)


SURFACES = (
    Surface("upload", _upload, (worker.UPLOAD,), {"uploaded": uploaded}, {".wav": (damage.chunks,)}),
    Surface("http", _site, ("asked.json",), {"asked": asked}, {".json": (damage.values,)}),
)
