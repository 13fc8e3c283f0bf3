"""Worker processes that tell their progress, and that end when their work or their parent does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Event, Thread
from typing import Any, Self, TypeVar

S = TypeVar("S")
T = TypeVar("T")
Tell = Callable[..., None]

SECONDS_TO_CLEAN_UP = 5.0  # of a worker that was told to end
NICE = 10  # of a process that others go before
BEGUN = "begun"  # the first message of a worker; any other is a tuple
SECONDS_TO_LISTEN = 1.0  # to what workers said before they were killed


def nobody(*_: Any) -> None:
    """Listens to what is told if nobody else does."""


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Ctrl-C waits until the end of the body, also in processes that are started in it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers:
    """Worker processes that call functions; a context. They stop at once when its body raises.

    Parameters
    ----------
    number : int
        How many.
    tell : callable
        Called here, in a thread, with what functions tell in any worker.
    """

    def __init__(self, number: int, tell: Tell) -> None:
        self._number, self._tell = number, tell
        self._before: set[BaseProcess] = set()
        self._started = Event()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def submit(self, function: Callable[[S, Tell], T], item: S) -> Future[T]:
        """Call ``function(item, tell)`` in a worker; both must be of a module's top level, to be sent there."""
        with _ctrl_c_later():  # a worker that it reaches before ``_start`` dies with a traceback
            return self._pool.submit(_in_worker, function, item)

    @property
    def have_started(self) -> bool:
        """Whether any worker has come so far that it could call a function."""
        return self._started.wait(SECONDS_TO_LISTEN)

    def renew(self) -> None:
        """New workers, after one was killed and the others ended with it."""
        self._stop()
        self._begin()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop()
            return
        self._pool.shutdown()
        _end_listening(self._messages, self._listener, None)

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._before = {*multiprocessing.active_children()}
        self._messages = context.Queue()
        self._listener = Thread(target=_listen, args=(self._messages, self._tell, self._started), daemon=True)
        self._listener.start()
        self._pool = ProcessPoolExecutor(
            self._number, mp_context=context, initializer=_start, initargs=(self._messages,)
        )

    def _stop(self) -> None:
        with _ctrl_c_later():  # a second one would leave workers behind, and this process waiting
            self._pool.shutdown(wait=False, cancel_futures=True)
            _end([worker for worker in multiprocessing.active_children() if worker not in self._before])
            self._messages.cancel_join_thread()  # one that was killed may have taken its turn to write with it
            _end_listening(self._messages, self._listener, SECONDS_TO_LISTEN)


def _end_listening(messages: Any, listener: Thread, seconds: float | None) -> None:
    messages.put(None)
    listener.join(seconds)
    if not listener.is_alive():
        messages.close()


def _end(workers: Sequence[BaseProcess]) -> None:
    """Tell workers to end; kill those that do not: what they write is whole or absent anyway."""
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + SECONDS_TO_CLEAN_UP
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
        if worker.is_alive():
            worker.kill()


def _listen(messages: Any, tell: Tell, started: Event) -> None:
    while (message := messages.get()) is not None:
        started.set()
        if message != BEGUN:
            tell(*message)


_messages: Any = None  # of a worker process: where its progress goes
_told: Any = None  # of a worker process: wakes the thread that ends it in time
_stopped = False  # of a worker process: it was told to end
_busy = False  # of a worker process: it is working on an item


def _start(messages: Any) -> None:
    """In a new worker: leave Ctrl-C to the parent, whose signal to end then leaves nothing half written."""
    global _messages, _told
    _messages = messages
    wakes, _told = multiprocessing.Pipe(duplex=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    messages.put(BEGUN)  # starts the thread that hands them on, in which no signal must come between
    Thread(target=_end_in_time, args=(wakes,), daemon=True).start()


def _stop(*_: Any) -> None:
    """End the item in hand, and begin no other one.

    Between items nothing is to be ended: the pool tells an idle worker to go, and one that goes must not be
    disturbed, for an exception while it hands its last messages on would make it wait for ever. So only the first
    of several signals raises, too. But a pool that is broken only waits: ``_end_in_time`` ends the worker then.
    """
    global _stopped, _busy
    is_first, _stopped = not _stopped, True
    if is_first and _told is not None:
        _told.send_bytes(b"end")
    if _busy:
        _busy = False
        sys.exit("stopped")


def _end_in_time(told: Connection) -> None:
    """End this worker some seconds after it was told to end, or its parent was killed, in whatever state it is.

    A parent that was killed sends no signal. And when another worker was killed, the pool signals all the others
    and waits for them; from Python 3.12 on it keeps its lock meanwhile, so that the parent waits, too.
    """
    parent = multiprocessing.parent_process()
    if told not in wait([told] if parent is None else [told, parent.sentinel]):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_CLEAN_UP)
    os._exit(1)


def _in_worker(function: Callable[[S, Tell], T], item: S) -> T:
    global _busy
    _busy = True
    try:
        if _stopped:  # the pool takes the end of one item for its outcome, and goes on to the next
            sys.exit("stopped")
        return function(item, lambda *message: _messages.put(message))
    finally:
        _busy = False


class Aside:
    """A process beside this one that calls functions, one at a time, when others have nothing to do.

    It is started when it is first needed, has a lower priority, and ends with this process, however that ends. So
    what takes seconds holds up no thread here.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def call(self, function: Callable[..., T], *given: Any) -> T:
        """What the function returns.

        Parameters
        ----------
        function : callable
            Of a module's top level; so must be what it takes and returns.
        *given
            What it is called with.

        Raises
        ------
        OSError
            If the process was killed; the next call starts another one.
        Exception
            What the function raises.
        """
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_start_aside)
        try:
            return self._pool.submit(function, *given).result()
        except BrokenProcessPool as error:
            self.close()
            raise OSError("its process was killed, probably because memory ran out") from error

    def close(self) -> None:
        """End the process, after what it is doing."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _start_aside() -> None:
    """In a new process: leave signals to the parent, let others go first, and end when the parent has."""
    for number in (signal.SIGINT, signal.SIGTERM):  # which a terminal or a service manager sends to both
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICE)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
