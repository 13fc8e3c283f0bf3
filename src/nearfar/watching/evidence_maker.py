"""What speaks for an alert, made after it was told: that takes seconds, and nobody is to wait for it.

It is made in a process of its own, of lower priority: in a thread of this one, the next alerts would come late.

The logbook is the queue. An alert with a sound and without evidence has some coming, whoever wrote it and whenever:
so what a kill has left undone is done next time. If it cannot be made, that is tried once more, and then the alert
says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from nearfar.detector.fitted import Detector
from nearfar.evidence.explanation import explain
from nearfar.files.processes import Aside
from nearfar.logbook import conditions, schema
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.recordings.recording import Recording
from nearfar.watching.book import Book, BookError

logger = logging.getLogger(__name__)

TRIES = 2
IDLE_S = 30.0  # after which the process that makes evidence is let go, if there is nothing to do


@dataclass(frozen=True, slots=True)
class _Alert:
    """An alert that has no evidence yet."""

    id: int
    at: float
    sound: str
    machine: str
    detector: str
    window_s: float


class EvidenceMaker:
    """Makes evidence: a thread looks for what is to be made, a process makes it.

    Parameters
    ----------
    database : Database
    book : Book
    sounds : Path
        The folder of sounds.
    """

    def __init__(self, database: Database, book: Book, sounds: Path) -> None:
        self._database, self._book, self._sounds = database, book, sounds
        self._changed = threading.Condition()
        self._asked, self._done = 1, 0  # times that somebody has asked, and of which all is done
        self._is_stopping = False
        self._aside = Aside()
        self._thread = threading.Thread(target=self._run, name="nearfar evidence", daemon=True)

    def start(self) -> None:
        """Begin with what is to be made already."""
        self._thread.start()

    def wake(self) -> None:
        """There may be another alert. This does not wait."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all evidence is made; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._done == self._asked, timeout_s)

    def stop(self) -> None:
        """End after what is being made; what is left is made next time."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._make_all()
        finally:
            self._aside.close()

    def _make_all(self) -> None:
        """Make what there is, again and again, until it is to end."""
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._done < self._asked or self._is_stopping, IDLE_S):
                    self._aside.close()
                    continue
                if self._is_stopping:
                    return
                asked = self._asked
            try:
                while not self._is_stopping and (alert := self._next()) is not None:
                    self._make(alert)
            except BookError:
                asked = self._asked  # there is nothing more to be done
            except Exception:  # whatever it was, listening goes on, and the next alert is tried
                logger.exception("evidence cannot be made now")
            with self._changed:
                self._done = asked
                self._changed.notify_all()

    def _next(self) -> _Alert | None:
        """The first alert that waits."""
        alerts, machines = schema.alerts.c, schema.machines.c
        query = (
            sql.select(
                alerts.id, alerts.began_at, alerts.sound, machines.name, machines.detector, machines.window_s
            )
            .join_from(schema.alerts, schema.machines)
            .where(alerts.sound.is_not(None), alerts.evidence.is_(None), alerts.evidence_error == "")
            .order_by(alerts.id)
            .limit(1)
        )
        with self._database.reading() as c:
            row = c.execute(query).one_or_none()
        return None if row is None else _Alert(*row)

    def _make(self, alert: _Alert) -> None:
        evidence: Mapping[str, Any] | None = None
        error = ""
        for _ in range(TRIES):
            try:
                evidence = self._aside.call(
                    evidence_of, Path(alert.detector), self._sounds / alert.sound, alert.window_s
                )
                error = ""
                break
            except Exception as found:
                logger.warning("%s: no evidence of the alert: %s", alert.machine, found, exc_info=True)
                error = f"{type(found).__name__}: {found}"
            if self._is_stopping:
                return  # next time
        self._book.do(
            lambda c, now: conditions.add_evidence(
                c, alert.id, at=alert.at, now=now, evidence=evidence, error=error
            )
        )


def evidence_of(detector: Path, sound: Path, window_s: float) -> dict[str, Any]:
    """What speaks for the verdict on the peak of a sound, as JSON values.

    Parameters
    ----------
    detector, sound : Path
    window_s : float
        The length of a window: the peak is the end of the sound, unless it is a clip that was heard as it is.

    Raises
    ------
    OSError, AudioError, DetectorError
        If the sound or the detector cannot be read.
    """
    loaded = Detector.load(detector)
    recorded = audio.read_recorded(Recording((sound,), loaded.selected_channels))
    samples, length = recorded.samples, round(window_s * recorded.rate)
    if loaded.is_long(samples.shape[1] / recorded.rate) and samples.shape[1] > length:
        samples = samples[:, -length:]
    return explain(loaded, samples, recorded.rate, name=sound.name).content()
