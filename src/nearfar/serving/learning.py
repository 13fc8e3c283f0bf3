"""A detector learns what operators have marked as normal, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import sqlalchemy as sql
from fastapi import APIRouter, Request

from nearfar.logbook import asked, journal
from nearfar.logbook.schema import normals
from nearfar.serving.actions import who
from nearfar.serving.answers import Learn, Learning
from nearfar.serving.decoding import Worker, WorkerError
from nearfar.serving.reading import Name
from nearfar.serving.security import RefusedError
from nearfar.serving.service import NotFoundError, Service, machine_named

log = logging.getLogger(__name__)

MOST_SECONDS = 6 * 3600.0
IDLE = Learning(state="idle", told="Nothing is being learnt.")


def add_learning(api: APIRouter, learners: Learners) -> None:
    """Add the routes of learning."""
    service = learners.service

    @api.post(
        "/machines/{name}/learn", status_code=202, summary="Let the detector learn what was marked as normal"
    )
    async def learn(name: Name, given: Learn, request: Request) -> Learning:
        by = who(request, given)
        return await learners.begin(await service.read(lambda c: machine_named(c, name)), given, by)

    @api.get("/machines/{name}/learn", summary="How far a detector is with learning")
    async def state(name: Name) -> Learning:
        await service.read(lambda c: machine_named(c, name))
        return learners.states.get(name, IDLE)


class Learners:
    """Detectors that learn, one after the other.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.states: dict[str, Learning] = {}  # by the machine's name
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._worker: Worker | None = None

    async def begin(self, machine: dict[str, Any], given: Learn, by: str) -> Learning:
        """Begin to learn.

        Raises
        ------
        RefusedError
            409, if there is nothing to learn, or it learns already.
        """
        name, service = machine["name"], self.service
        detector = service.detector(machine)
        if self.states.get(name, IDLE).state == "running":
            raise RefusedError(409, f"the detector of {name} learns already", "wait until it is done")
        rows = await service.read(lambda c: asked.normals_to_learn(c, machine["id"]))
        files, gone = [], 0
        for row in rows:
            try:
                files.append((row["id"], service.sound(row["sound"])))
            except NotFoundError:
                gone += 1
        if not files:
            why = (
                f"the sounds of {gone} are no longer there"
                if gone
                else "mark alerts or events as normal first"
            )
            raise RefusedError(409, f"there is nothing that {name} has not learnt yet", why)
        job = {
            "do": "learn", "detector": str(detector.resolve()), "folder": str(files[0][1].parent),
            "files": [path.name for _, path in files], "domain": given.domain,
        }  # fmt: skip
        self.states[name] = Learning(state="running", told=f"It learns {counted(len(files))}.")
        task = asyncio.get_running_loop().create_task(
            self._learn(machine, job, [number for number, _ in files], by, given.comment)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return self.states[name]

    async def _learn(
        self, machine: dict[str, Any], job: dict[str, Any], ids: list[int], by: str, comment: str
    ) -> None:
        name, service = machine["name"], self.service
        try:
            async with self._turn:
                self._worker = Worker(memory_bytes=0, confined=False)
                try:
                    told = await asyncio.to_thread(self._worker.ask, job, seconds=MOST_SECONDS)
                finally:
                    await asyncio.to_thread(self._worker.close)
            await service.write(lambda c: mark_learnt(c, machine["id"], ids, by, comment, now=service.now()))
        except WorkerError as error:
            self.states[name] = Learning(state="failed", told=str(error))
        except Exception:  # whatever it was, the operator who asked is told
            log.exception("learning of %s failed", name)
            self.states[name] = Learning(state="failed", told="It failed; the log of the service says why.")
        else:
            entry = told["learnt"]
            self.states[name] = Learning(state="done", told=said(entry, len(ids)))

    async def stop(self) -> None:
        """Stop learning: the detector stays as it was."""
        if self._worker is not None:
            self._worker.kill()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def mark_learnt(
    c: sql.Connection, machine_id: int, ids: list[int], by: str, comment: str, *, now: float
) -> None:
    """Say in the logbook that these were learnt."""
    c.execute(normals.update().where(normals.c.id.in_(ids)).values(learnt_at=now))
    journal.note(
        c, machine_id=machine_id, what="detector", at=now, now=now, by=by, comment=comment,
        content={"why": f"It has learnt {counted(len(ids))} that were marked as normal."},
    )  # fmt: skip


def counted(n: int) -> str:
    """Such as "1 recording"."""
    return f"{n} recording{'' if n == 1 else 's'}"


def said(entry: dict[str, Any], asked: int) -> str:
    """What an entry of a detector's history says, in sentences."""
    left_out = [f"{one['clip']}: {one['message']}" for one in entry.get("left_out", ())]
    told = f"It has learnt from {counted(asked - len(left_out))} that were marked as normal."
    return told if not left_out else f"{told} Left out: {'; '.join(left_out)}."
