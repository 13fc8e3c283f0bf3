"""Many tasks, one after the other or side by side, wherever they run.

A task is a function of a module's top level and one item. It keeps what it has done as finished steps
(``files.steps``), so a task that is done again finds them.

A task that fails does not end the others. A worker that was killed, or a computer that is gone, is no failure of
its task, which runs again elsewhere.
"""

from __future__ import annotations

import errno
import logging
import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from nearfar.files.processes import Tell, nobody
from nearfar.places.place import LOCAL, OWN_CLUSTER, Place, PlaceError
from nearfar.places.task_logs import Said, log_of, logged

S = TypeVar("S")
T = TypeVar("T")

MOST_KILLED = (
    6  # workers of one task that no other task has lost, meanwhile: then it is the task that kills them
)
MOST_BY_CHANCE = 40  # while others lose some, too
SUSPECT_AFTER = 2  # lost workers
MOST_TOLD = 20  # errors in one message
MOST_LINES = 6  # of an error
KILLED = (
    "its worker process was killed {} times, probably because memory ran out; run again with fewer workers; "
    "finished work is kept"
)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of which no other task has more

logger = logging.getLogger(__name__)


class TasksError(ExceptionGroup[Exception], ValueError):
    """Several tasks failed; ``exceptions`` are theirs. The message names each task and says what failed.

    It is a ``ValueError``, as most of what a single task raises.
    """

    def __str__(self) -> str:
        names: dict[str, list[str]] = {}
        for error in self.exceptions:
            names.setdefault(str(error), []).append(error.__notes__[-1])
        told = [f"{'; '.join(of)}: {text}" for text, of in names.items()]
        if len(told) > MOST_TOLD:
            told[MOST_TOLD:] = [f"and {len(told) - MOST_TOLD} more, each told in its log"]
        return "\n".join([self.message, *(f"  {line}" for text in told for line in _shortened(text))])


def _shortened(text: str) -> list[str]:
    """The lines of an error; of a long list its first ones."""
    lines = text.splitlines()
    if len(lines) > MOST_LINES + 1:
        lines[MOST_LINES:] = [f"  and {len(lines) - MOST_LINES} more lines, which its log has"]
    return lines


class _RemoteTraceback(Exception):  # noqa: N818  # shown as the cause of an error of another process
    """Where an error was raised, in another process."""


@dataclass(frozen=True, slots=True)
class Call(Generic[S, T]):
    """What a worker does.

    Attributes
    ----------
    function : callable
        ``function(item, tell)``.
    item
    name : str
        By which people know it.
    log : Path or None
    """

    function: Callable[[S, Tell], T]
    item: S
    name: str
    log: Path | None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a worker says: the outcome, or the error with its traceback as text."""

    value: T | None = None
    error: Exception | None = None
    traceback: str = ""

    @classmethod
    def of_error(cls, error: Exception) -> Self:
        """That of a task that has raised it; to be called while it is handled."""
        text = traceback.format_exc()  # of the error as it is
        return cls(error=_sendable(error), traceback=text)

    def outcome(self) -> T:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error from _RemoteTraceback(f"\n{self.traceback}")
        return self.value  # type: ignore[return-value]  # None may be what the function returned


def perform(call: Call[S, T], tell: Tell) -> Answer[T]:
    """Do a task in a worker; whatever it raises is an answer, too, so that it can be sent."""
    try:
        with logged(call.log, call.name, say=tell):
            return Answer(call.function(call.item, tell))
    except Exception as error:  # of whatever the task does
        return Answer.of_error(error)


def _sendable(error: Exception) -> Exception:
    """An error without what it holds; one of a plain kind in its place if it cannot be sent."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # of this process
            return error
    except Exception:  # pickle raises whatever the class of the error does
        pass
    kind = next(
        (kind for kind in (ValueError, OSError, LookupError) if isinstance(error, kind)), RuntimeError
    )
    return kind(str(error) if kind is not RuntimeError else f"{type(error).__name__}: {error}")


class Engine(Protocol):
    """What runs calls somewhere; a context.

    Attributes
    ----------
    knows_who_was_lost : bool
        Whether a worker that is killed leaves all other calls alone.
    """

    knows_who_was_lost: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: Any) -> None: ...

    def room(self) -> int:
        """How many calls it takes at once, so that no worker waits for the next one."""

    def submit(self, call: Call[S, T]) -> Future[Answer[T]]:
        """Begin a call as soon as a worker is free."""

    def is_lost(self, error: BaseException) -> bool:
        """Whether a call ended like this because its worker did; then the engine is ready for more."""


@dataclass
class _Task(Generic[S]):
    number: int
    item: S
    name: str
    lost: int = 0  # workers, its own or others that went with it
    killed: int = 0  # workers that nothing else ran in
    first_lost: int = 0  # which of all workers that were lost was its first


class _Queue(Generic[S]):
    """Which task is next.

    One that has lost its worker comes again at once. Where a worker that is killed takes the others with it, nobody
    knows which task was to blame: one that was lost twice comes after all others, and alone.
    """

    def __init__(self, tasks: Iterator[_Task[S]], *, is_known: bool) -> None:
        self._tasks, self._is_known = tasks, is_known
        self._again: deque[_Task[S]] = deque()
        self._suspects: deque[_Task[S]] = deque()
        self._is_alone = False
        self._lost = 0  # workers, of all tasks

    def next(self, running: int) -> _Task[S] | None:
        """The next to run, beside so many others; ``None`` if there is none now."""
        if running == 0:
            self._is_alone = False
        if self._is_alone:
            return None
        task = self._again.popleft() if self._again else next(self._tasks, None)
        if task is None and self._suspects and running == 0:
            self._is_alone, task = True, self._suspects.popleft()
        return task

    def take_back(self, task: _Task[S]) -> bool:
        """One that has lost its worker; false if it has killed too many.

        Where others lose workers, too, it may be chance, such as a computer that is switched off: it gets more.
        """
        self._lost += 1
        task.first_lost = task.first_lost or self._lost
        task.lost += 1
        task.killed += self._is_known or self._is_alone
        is_only_one = self._is_alone or task.lost == self._lost - task.first_lost + 1
        if task.killed >= (MOST_KILLED if is_only_one else MOST_BY_CHANCE):
            return False
        is_suspect = not self._is_known and task.lost >= SUSPECT_AFTER
        (self._suspects if is_suspect else self._again).append(task)
        return True


def each(
    function: Callable[[S, Tell], T],
    items: Iterable[S],
    *,
    workers: Place | int = 1,
    named: Callable[[S], str] | None = None,
    cache: Path | None = None,
    tell: Tell | None = None,
    finished: Callable[[int, int], None] | None = None,
) -> list[T]:
    """``function(item, tell)`` of every item, in their order. Parameters and errors: see ``as_done``."""
    options = {"workers": workers, "named": named, "cache": cache, "tell": tell, "finished": finished}
    found = dict(as_done(function, items, **options))  # type: ignore[arg-type]
    return [found[number] for number in sorted(found)]


def as_done(
    function: Callable[[S, Tell], T],
    items: Iterable[S],
    *,
    workers: Place | int = 1,
    named: Callable[[S], str] | None = None,
    cache: Path | None = None,
    tell: Tell | None = None,
    finished: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, T]]:
    """``function(item, tell)`` of every item, as they are done: (number of the item, outcome).

    Parameters
    ----------
    function : callable
        Of a module's top level if it does not run here; so must be what it takes and returns.
    items : iterable
        Taken as workers become free, so that there may be very many of them.
    workers : Place or int
        Where tasks run; a number: in so many processes of this computer. With one, or for one item, all happens in
        this one.
    named : callable or None
        The name of an item, for people; ``None``: its number.
    cache : Path or None
        Where each task has its log, and finished steps are; ``None``: there are no logs.
    tell : callable or None
        Called here with whatever the function tells, from any worker.
    finished : callable or None
        Called after every item with how many are done, and how many there are, if they do not run here.

    Raises
    ------
    Exception
        What the task has raised, if one has failed, after all others are done; its note is the task's name.
    TasksError
        If several have failed.
    OSError
        If a task has killed its workers (``MOST_KILLED``, or far more where others lose some, too), or the disk is
        full, which ends everything at once.
    """
    place = Place.of(workers)
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)  # what cannot be a cache is told once
    name_of = named or (lambda _: "")
    tasks = (_Task(number, item, name_of(item) or f"item {number + 1}") for number, item in enumerate(items))
    first = list(islice(tasks, 2))
    waiting = (task for some in (first, tasks) for task in some)
    total = len(items) if isinstance(items, Sized) else None
    run = _Run(function, cache, finished, total)
    if not place.is_cluster and (place.workers == 1 or len(first) < 2):
        yield from run.here(waiting, tell or nobody)
    elif first:
        with _engine(place, total, cache, tell or nobody) as engine:
            yield from run.elsewhere(waiting, engine)
    run.raise_failures()


def cores_of(place: Place) -> int:
    """How many tasks a place does at once; a cluster is asked, if it has to be joined.

    Raises
    ------
    MissingPackageError, PlaceError
        If it cannot be.
    """
    if place.address in (LOCAL, OWN_CLUSTER):
        return place.workers
    from nearfar.places import ray_cluster

    return ray_cluster.count_slots(place)


def _engine(place: Place, total: int | None, cache: Path | None, tell: Tell) -> Engine:
    def heard(*message: Any) -> None:
        if len(message) == 1 and isinstance(message[0], Said):
            message[0].again()
        else:
            tell(*message)

    if place.is_cluster:
        from nearfar.places.ray_cluster import RayCluster

        return RayCluster(place, cache, heard)
    from nearfar.places.local import LocalProcesses

    return LocalProcesses(place.workers if total is None else min(place.workers, total), heard)


@dataclass
class _Run(Generic[S, T]):
    """All tasks of one call of ``as_done``, and what became of them."""

    function: Callable[[S, Tell], T]
    cache: Path | None
    finished: Callable[[int, int], None] | None
    total: int | None
    failures: list[tuple[_Task[S], Exception]] = field(default_factory=list)
    done: int = 0

    def here(self, tasks: Iterable[_Task[S]], tell: Tell) -> Iterator[tuple[int, T]]:
        for task in tasks:
            try:
                with logged(self.log(task), task.name):
                    value = self.function(task.item, tell)
            except Exception as error:  # of whatever the task does
                self.failed(task, error)
            else:
                yield task.number, value

    def elsewhere(self, tasks: Iterator[_Task[S]], engine: Engine) -> Iterator[tuple[int, T]]:
        queue = _Queue(tasks, is_known=engine.knows_who_was_lost)
        running: dict[Future[Answer[T]], _Task[S]] = {}
        while True:
            while len(running) < engine.room() and (task := queue.next(len(running))) is not None:
                running[engine.submit(Call(self.function, task.item, task.name, self.log(task)))] = task
            if not running:
                return
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                task = running.pop(future)
                try:
                    value = future.result().outcome()
                except Exception as error:  # of whatever the task does
                    if not engine.is_lost(error):
                        self.failed(task, error)
                    else:
                        logger.info("%s: its worker is gone (%s)", task.name, error)
                        if queue.take_back(task):
                            continue
                        self.failed(task, OSError(KILLED.format(task.killed)))
                else:
                    yield task.number, value
                self.count()

    def count(self) -> None:
        self.done += 1
        if self.finished is not None:
            self.finished(self.done, self.done if self.total is None else self.total)

    def failed(self, task: _Task[S], error: Exception) -> None:
        """Keep the error for the end; raises what no other task would escape."""
        if isinstance(error, PlaceError) or (isinstance(error, OSError) and error.errno in NO_SPACE):
            raise error
        error.add_note(task.name)
        self.failures.append((task, error))
        if self.total is None or self.done + 1 < self.total:
            log = self.log(task)
            logger.warning(
                "%s failed; the others go on%s", task.name, "" if log is None else f" (its log: {log})"
            )

    def log(self, task: _Task[S]) -> Path | None:
        return None if self.cache is None else log_of(self.cache, self.function.__module__, task.name)

    def raise_failures(self) -> None:
        if len(self.failures) == 1:
            raise self.failures[0][1]
        if self.failures:
            number = len(self.failures)
            of = "" if self.total is None else f" of {self.total}"
            in_order = [error for _, error in sorted(self.failures, key=lambda found: found[0].number)]
            raise TasksError(f"{number}{of} tasks failed", in_order)
