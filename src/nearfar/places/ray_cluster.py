"""A cluster of Ray. Nodes have `nearfar` installed, of the same version; nothing else needs to be shared.

Every task is sent with what it names (``travelling``, ``shipping``). Where it needs a GPU, a process that stays (an
actor) does it, for Ray ends the process of a task that had a GPU, and encoders would be loaded anew for each.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import platform
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Event, Thread, get_ident, main_thread
from typing import Any, Self, TypeVar

import nearfar
from nearfar.files import steps
from nearfar.files.extras import resolve
from nearfar.files.processes import Tell
from nearfar.files.provenance import code_digest
from nearfar.places.mailbox import Mailbox
from nearfar.places.place import ANY_CLUSTER, OWN_CLUSTER, Needs, Place, PlaceError
from nearfar.places.shipping import Here, There
from nearfar.places.tasks import Answer, Call, perform
from nearfar.places.travelling import pack, unpack

S = TypeVar("S")
T = TypeVar("T")

OBJECTS = 512 * 2**20  # bytes of shared memory of a cluster that we start; more goes to disk
SLOTS_EVERY = 2.0  # s between two looks how many tasks the cluster takes
TELL_EVERY = 0.25  # s between what one worker tells
SECONDS_TO_END = 5.0
SECONDS_TO_REACH = 10.0  # of a head
SECONDS_TO_COME_BACK = 60.0  # of a cluster that has lost all its computers
ROUNDING = 1e-6  # of shares of a GPU
AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
USAGE_STATS = "RAY_USAGE_STATS_ENABLED"
BREAKPOINT = "PYTHONBREAKPOINT"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Context:
    """What every task is told of its driver.

    Attributes
    ----------
    version, code : str
        Of the driver: of another version's worker, steps would have other keys.
    module : str or None
        Whose code it is.
    cache : str or None
        The driver's.
    mark : str
        A file in it, by which a worker sees that its folder of that name is the same one.
    """

    version: str
    code: str
    module: str | None
    cache: str | None
    mark: str


class RayCluster:
    """Tasks in a cluster: an ``Engine``.

    Parameters
    ----------
    place : Place
    cache : Path or None
    tell : callable
        Called with what tasks tell.

    Raises
    ------
    MissingPackageError
        If Ray is not installed.
    PlaceError
        If the cluster cannot be reached, or no computer of it can take a task.
    """

    knows_who_was_lost = True

    def __init__(self, place: Place, cache: Path | None, tell: Tell) -> None:
        self._ray = load(place)
        self._place, self._cache, self._tell = place, None if cache is None else cache.absolute(), tell
        self._there = There(self._cache)
        self._refs: dict[Future[Any], tuple[Any, tuple[str, ...]]] = {}
        self._ended = Event()
        self._looked, self._slots = -SLOTS_EVERY, 0
        self._mark = f".driver-{secrets.token_hex(8)}"
        self._keepers: list[Any] = []
        self._busy: dict[Future[Any], Any] = {}
        self._remote = self._ray.remote(max_retries=0, **_resources(place.needs))(on_worker)

    def __enter__(self) -> Self:
        connect(self._ray, self._place)
        if not self._count_slots():
            raise PlaceError(
                f"no computer of the cluster {self._place.address} has {self._place.needs}, which a task needs"
            )
        self._mailbox = self._ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=1000)(Mailbox).remote()
        self._listener = Thread(target=self._listen, daemon=True)
        if self._cache is not None:
            self._cache.mkdir(parents=True, exist_ok=True)
            (self._cache / self._mark).touch()
        self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._ended.set()
        self._mailbox.tell.remote([])  # the listener waits for a message
        for ref, _names in list(self._refs.values()):
            with contextlib.suppress(
                Exception
            ):  # the cluster may be gone; whatever runs ends with this driver
                self._ray.cancel(ref, force=not self._place.needs.gpus)
        self._listener.join(SECONDS_TO_END if kind is None else 1.0)
        if kind is None:
            with contextlib.suppress(*lost_errors(self._ray)):  # then it held only progress
                self._take(self._mailbox.rest)
        for actor in (*self._keepers, self._mailbox):
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        if self._cache is not None:
            (self._cache / self._mark).unlink(missing_ok=True)

    def room(self) -> int:
        """Two for each that can run at once, so that none waits for the next."""
        if time.monotonic() - self._looked >= SLOTS_EVERY:
            self._count_slots()
        return 2 * max(self._slots, 1)

    def submit(self, call: Call[S, T]) -> Future[Answer[T]]:
        """To whichever node has room."""
        names: list[str] = []
        pickler = self._ray.cloudpickle.CloudPickler
        packed = pack(call, cache=self._cache, pickler=pickler, names=names)
        self._there.name(names)
        context = self._context(call.function.__module__)
        answer: Future[Answer[T]] = Future()
        ref = self._send(answer, packed, context)
        self._refs[answer] = ref, tuple(names)
        ref.future().add_done_callback(partial(self._arrived, answer))
        return answer

    def is_lost(self, error: BaseException) -> bool:
        """Whether the process or the computer of a task is gone, not the task at fault.

        Raises
        ------
        PlaceError
            If no computer of the cluster is left.
        """
        if not isinstance(error, lost_errors(self._ray)):
            return False
        until = time.monotonic() + (0 if self._place.address == OWN_CLUSTER else SECONDS_TO_COME_BACK)
        while not self._has_room():
            if time.monotonic() >= until:
                raise PlaceError(
                    f"the cluster {self._place.address} is lost; run the same command again: finished work is kept"
                ) from error
            time.sleep(1)
        return True

    def _has_room(self) -> bool:
        """Whether any computer of the cluster can take a task now."""
        try:
            return self._count_slots() > 0
        except Exception:  # whatever Ray raises without a cluster
            return False

    def _context(self, module: str) -> Context:
        ours = module.partition(".")[0] == "nearfar"
        cache = None if self._cache is None else str(self._cache)
        return Context(
            nearfar.__version__, _code_of(module) if ours else "", module if ours else None, cache, self._mark
        )

    def _send(self, answer: Future[Any], packed: bytes, context: Context) -> Any:
        needs = self._place.needs
        if not needs.gpus:
            return self._remote.remote(packed, context, self._mailbox)
        while len(self._keepers) < max(self._slots, 1):
            self._keepers.append(self._ray.remote(max_restarts=0, **_resources(needs))(Keeper).remote())
        counts = list(self._busy.values())
        keeper = min(self._keepers, key=counts.count)
        self._busy[answer] = keeper
        return keeper.do.remote(packed, context, self._mailbox)

    def _arrived(self, answer: Future[Any], raw: Future[bytes]) -> None:
        """In a thread of Ray's."""
        _ref, names = self._refs.pop(answer, (None, ()))
        self._there.forget(names)
        keeper = self._busy.pop(answer, None)
        try:
            found, told = unpack(raw.result(), _Home(self._cache))
            for message in told:
                self._tell(*message)
            answer.set_result(found)
        except BaseException as error:  # of whatever happened there; it is told here
            if keeper is not None and keeper in self._keepers and isinstance(error, lost_errors(self._ray)):
                self._keepers.remove(keeper)
            answer.set_exception(self._told(error))

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, lost_errors(self._ray)):
            return error
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, PlaceError):
            return cause
        if isinstance(error, self._ray.exceptions.RayError):
            return PlaceError(f"the cluster {self._place.address}: {type(cause).__name__}: {cause}")
        return error

    def _count_slots(self) -> int:
        self._looked = time.monotonic()
        self._slots = _slots_of_all(self._ray, self._place.needs)
        return self._slots

    def _listen(self) -> None:
        """Pass on what workers tell, and answer what they ask, until the end."""
        while not self._ended.is_set():
            try:
                self._take(self._mailbox.take)
            except lost_errors(self._ray):  # it begins anew elsewhere; whoever asked is lost, and done again
                time.sleep(TELL_EVERY)

    def _take(self, messages: Any) -> None:
        for number, message in self._ray.get(messages.remote()):
            self._hear(number, message)

    def _hear(self, number: int | None, message: Any) -> None:
        if number is None:
            for told in message:
                self._tell(*told)
            return
        try:
            answer = True, self._there.answer(*message)
        except Exception as error:  # the worker raises it
            answer = False, f"{type(error).__name__}: {error}"
        self._mailbox.answer.remote(number, answer)


def count_slots(place: Place) -> int:
    """How many tasks of its needs the cluster of a place takes at once; this process joins it."""
    ray = load(place)
    connect(ray, place)
    return _slots_of_all(ray, place.needs)


def connect(ray: Any, place: Place) -> None:
    """Start or join the cluster of a place; a process is in one at a time.

    Raises
    ------
    PlaceError
        If it cannot be reached, or this process is in another one.
    """
    global _connected
    if ray.is_initialized():
        if place.address in (_connected, ANY_CLUSTER):
            return
        raise PlaceError(
            f"place {place.address!r}: this process is in a cluster already; 'auto' takes that one"
        )
    _refuse_unreachable(place)
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if place.address == OWN_CLUSTER:
        os.environ.setdefault(USAGE_STATS, "0")
        options |= {"num_cpus": place.workers, "include_dashboard": False, "object_store_memory": OBJECTS}
    with _signals_kept(), _breakpoint_kept():
        try:
            ray.init(address="local" if place.address == OWN_CLUSTER else place.address, **options)
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            ray.shutdown()
            told = f"place {place.address!r}: the cluster cannot be reached: {error}{_hint(error)}"
            raise PlaceError(told) from error
    _connected = place.address
    # It prints what its processes report on standard output, which is ours, even with log_to_driver=False
    ray._private.worker._worker_logs_enabled = False


_connected: str | None = None


def _refuse_unreachable(place: Place) -> None:
    """Raise at once where nobody listens: Ray would try for a quarter of an hour."""
    if place.host_and_port is None:
        return
    host, port = place.host_and_port
    try:
        socket.create_connection((host, port), SECONDS_TO_REACH).close()
    except OSError as error:
        raise PlaceError(
            f"place {place.address!r}: nobody answers there ({error.strerror or error}); is the cluster up, and is "
            "this the address of its head?"
        ) from error


def _hint(error: BaseException) -> str:
    if "uthenti" in type(error).__name__ + str(error):
        return (
            f"; every computer of a cluster needs its token, in ~/.ray/auth_token or {AUTH_TOKEN}: "
            "`ray get-auth-token` prints it on the head"
        )
    if "Failed to connect" in str(error):  # Ray says no more, also where it has found the token wrong
        return f"; is it up, and is its token that of this computer, in ~/.ray/auth_token or {AUTH_TOKEN}?"
    return ""


def load(place: Place) -> Any:
    """The package, with authentication by a token.

    Ray reads the mode when it is imported. Whoever has imported it before us has decided, and from 2.59 on a token
    is the default. A cluster that we start has a token of its own where there is none: its processes inherit it.

    Raises
    ------
    MissingPackageError
        If it is not installed.
    """
    if "ray" not in sys.modules:
        os.environ.setdefault(AUTH_MODE, "token")
    ray = resolve("ray", needed_by=f"place {place.address!r}")
    saved = Path.home() / ".ray" / "auth_token"
    if place.address == OWN_CLUSTER and not (
        AUTH_TOKEN in os.environ or AUTH_TOKEN_PATH in os.environ or saved.is_file()
    ):
        os.environ[AUTH_TOKEN] = secrets.token_hex(32)
    return ray


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; ours ends what has been started, and keeps what is done."""
    if get_ident() != main_thread().ident:
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _breakpoint_kept() -> Iterator[None]:
    """Ray takes ``breakpoint()`` for itself, here and, by the environment, in all that is started later."""
    before = os.environ.get(BREAKPOINT)
    try:
        yield
    finally:
        os.environ.pop(BREAKPOINT, None)
        if before is not None:
            os.environ[BREAKPOINT] = before


def lost_errors(ray: Any) -> tuple[type[BaseException], ...]:
    """What Ray raises when a process or a computer is gone."""
    names = (
        "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError", "LocalRayletDiedError",
        "RayActorError", "TaskCancelledError",
    )  # fmt: skip
    return tuple(getattr(ray.exceptions, name) for name in names)


def _resources(needs: Needs) -> dict[str, Any]:
    return {"num_cpus": needs.cores, "num_gpus": needs.gpus} | (
        {"memory": needs.memory} if needs.memory else {}
    )


def _slots_of_all(ray: Any, needs: Needs) -> int:
    return sum(_slots(node["Resources"], needs) for node in ray.nodes() if node["Alive"])


def _slots(node: dict[str, float], needs: Needs) -> int:
    """How many tasks a node takes at once."""
    wanted = {"CPU": needs.cores, "GPU": needs.gpus, "memory": needs.memory}
    return min(int(node.get(name, 0.0) / one + ROUNDING) for name, one in wanted.items() if one)


@cache
def _code_of(module: str) -> str:
    return code_digest(module)


# ---- in a worker ----


class Keeper:
    """An actor, which does one task after the other in one process, and so keeps what it has loaded."""

    def do(self, packed: bytes, context: Context, mailbox: Any) -> bytes:
        """As ``on_worker``."""
        return on_worker(packed, context, mailbox)


def on_worker(packed: bytes, context: Context, mailbox: Any) -> bytes:
    """Do a task that was packed; returns the packed ``Answer``."""
    import ray

    _refuse_other_code(context)

    def ask(request: Any) -> Any:
        is_answer, answer = ray.get(mailbox.ask.remote(request))
        if not is_answer:
            raise OSError(f"the driver: {answer}")
        return answer

    here = Here.of(context.cache, context.mark, ask)
    steps.exchange = None if here.is_shared else here
    told = _Told(mailbox, ray)
    answer: Answer[Any]
    try:
        call = unpack(packed, here)
    except OSError as error:  # a file that it names could not be had: others may go on
        answer = Answer.of_error(error)
    else:
        answer = perform(call, told)
    return pack((answer, told.left()), cache=here.cache, pickler=ray.cloudpickle.CloudPickler)


def _refuse_other_code(context: Context) -> None:
    """Raise if this computer would do something else than the driver: its steps would have other keys."""
    own = "" if context.module is None else _code_of(context.module)
    if (nearfar.__version__, own) != (context.version, context.code):
        raise PlaceError(
            f"{platform.node()} has another nearfar ({nearfar.__version__}) than the computer that sent the task "
            f"({context.version}); install the same on all"
        )


class _Told:
    """What a task tells goes to the driver a few times a second, all of it and in order.

    What a short task tells goes with its answer.
    """

    def __init__(self, mailbox: Any, ray: Any) -> None:
        self._mailbox, self._ray = mailbox, ray
        self._told: list[tuple[Any, ...]] = []
        self._since, self._sent = time.monotonic(), None

    def __call__(self, *message: Any) -> None:
        self._told.append(message)
        if time.monotonic() - self._since >= TELL_EVERY:
            self._send()

    def left(self) -> list[tuple[Any, ...]]:
        """What goes with the answer: nothing, if more was sent before, for it must not overtake that."""
        if self._sent is None:
            return self._told
        self._send()
        self._wait()
        return []

    def _send(self) -> None:
        self._wait()  # calls of an actor that are under way have no order
        told, self._told = self._told, []
        self._since, self._sent = time.monotonic(), self._mailbox.tell.remote(told)

    def _wait(self) -> None:
        if self._sent is not None:
            with contextlib.suppress(Exception):  # the mailbox was lost, and what it held is only progress
                self._ray.get(self._sent)


@dataclass(frozen=True)
class _Home:
    """Where paths of an outcome are found in the driver: a ``travelling.Finder``."""

    cache: Path | None

    def in_cache(self, relative: str) -> Path:
        if self.cache is None:
            raise pickle.UnpicklingError(f"{relative}: a place in a cache, but the driver has none")
        return self.cache / relative

    def file(self, told: str, size: int, changed: int) -> Path:  # noqa: ARG002  # as of others
        return Path(told)
