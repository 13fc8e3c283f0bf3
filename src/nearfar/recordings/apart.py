"""Recordings are decoded in a process of their own, so that a library that crashes or hangs costs one file.

Libraries that decode are written in C, and a damaged or hostile file may crash them. No exception tells that: the
process is gone. So the command line lets other processes decode, forked from it, and takes samples from these. One
that is lost is replaced, and the file that it read is told as unreadable.

So is one that gives nothing for too long (``SECONDS``, and more for large files): it hangs, and is killed. What
counts are the seconds in which this process waits for it and it could work. While it is stopped, or waits for a
disk, none count where the system tells (Linux); while this computer sleeps, or this process is stopped, none do
anywhere.

It is on where ``NEARFAR_DECODING`` is ``apart``, which ``nearfar`` sets for itself and for what it starts. In a
program of one's own, libraries decode where they are called, unless it sets the variable. Without ``os.fork``, as
on Windows, they always do.

A process decodes for one thread at a time; there are as many as threads have ever read at once. It has no open
files but the line to its parent, ignores Ctrl-C, and ends with its parent.
"""

from __future__ import annotations

import atexit
import mmap
import os
import pickle
import select
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeVar

from nearfar.recordings.blocks import Block, Lost, length_of
from nearfar.recordings.sound import AudioError

VARIABLE, APART = "NEARFAR_DECODING", "apart"
SHARED_BYTES = 2**26  # of samples that need no way through a socket; 87 s of two channels at 48 kHz
SECONDS = 60.0  # without an answer; decoders take moments for a clip
# of the files, for which more seconds are given: no disk in use and no decoder is slower
BYTES_PER_SECOND = 2**20
MOST_BYTES = 2**26  # of which a further block can be made; the first may need all that are before it
LOOK_EVERY = 1.0  # s between two looks whether it could work
CANNOT_WORK = "DTt"  # states of a process that waits for a disk, is stopped, or traced: of Linux

CRASHES = tuple(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")
    if hasattr(signal, name)
)

T = TypeVar("T")


class _LostDecoderError(Exception):
    """A process that decoded is gone, or of no more use.

    Parameters
    ----------
    waited : float or None
        In seconds: how long it gave nothing; ``None``: it ended by itself.
    """

    def __init__(self, waited: float | None = None) -> None:
        super().__init__()
        self.waited = waited


class _Decoder:
    """A process that calls functions for this one, one at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._shared = mmap.mmap(-1, SHARED_BYTES)  # takes memory as far as it is written to
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of threads: the child has one, and needs no other
            self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            _serve(theirs, self._shared)
        theirs.close()
        self._line = ours.makefile("rwb")
        self._answers = select.poll()
        self._answers.register(ours.fileno(), select.POLLIN)
        ours.close()  # with the line

    def ask(self, function: Callable[..., T], *given: Any, size: Callable[[], int]) -> T:
        """What the function returns there; raises what it raises.

        Parameters
        ----------
        function, *given
        size : callable
            How many bytes the function may have to read; asked only if it takes long.

        Raises
        ------
        _LostDecoderError
            If the process ends meanwhile, or gives nothing.
        """
        self._send((function, given))
        return self._answer(size)

    def each(self, function: Callable[..., Iterator[T]], *given: Any, size: Callable[[], int]) -> Iterator[T]:
        """What a function yields there, one by one; each is asked for when the one before is taken."""
        self._send((_ITERATE, (function, *given)))
        answer = self._answer(size)
        while answer is not _END:
            self._send(None)
            yield answer
            answer = self._answer(lambda: min(size(), MOST_BYTES))

    def close(self) -> str:
        """End the process, whatever it does; how it ended, if it had before."""
        with suppress(OSError):
            self._line.close()
        self._shared.close()
        try:
            os.kill(self._pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        except (ProcessLookupError, ChildProcessError):  # somebody else has waited for all children
            return "it is gone"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _send(self, asked: Any) -> None:
        try:
            pickle.dump(asked, self._line, protocol=5)
            self._line.flush()
        except OSError as error:
            raise _LostDecoderError from error

    def _wait(self, size: Callable[[], int]) -> None:
        """Until it answers or ends; each look in which it could work and gave nothing counts."""
        looks = 0
        while not self._answers.poll(1000 * LOOK_EVERY):
            if _state(self._pid) in CANNOT_WORK:
                continue
            looks += 1
            waited = looks * LOOK_EVERY
            if waited >= SECONDS and waited >= SECONDS + size() / BYTES_PER_SECOND:
                raise _LostDecoderError(waited)

    def _answer(self, size: Callable[[], int]) -> Any:
        self._wait(size)
        try:
            sizes = pickle.load(self._line)  # of our own process
            ends = list(accumulate(sizes, initial=0))
            buffers = [bytearray(self._shared[start:end]) for start, end in pairwise(ends)]
            is_error, answer = pickle.load(self._line, buffers=buffers)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise _LostDecoderError from error
        if is_error:
            raise answer
        return _END if isinstance(answer, str) and answer == _END_TOLD else answer


_ITERATE, _END, _END_TOLD = "iterate", object(), "the end of what is iterated"
_idle: list[_Decoder] = []
_lock = threading.Lock()
_is_decoder = False  # whether this process is one


def is_on() -> bool:
    """Whether other processes decode for this one."""
    return os.environ.get(VARIABLE) == APART and not _is_decoder and hasattr(os, "fork")


def called(function: Callable[..., T], *given: Any, name: str, size: Callable[[], int]) -> T:
    """``function(*given)``, in another process if that is on.

    Parameters
    ----------
    function : callable
        Of a module's top level; what it takes, returns and raises can be pickled.
    *given
    name : str
        What messages call the recording.
    size : callable
        Called without arguments: how many bytes its files have. It gets more time for more.

    Raises
    ------
    AudioError
        If the process is lost, or gives nothing for too long: of kind "unreadable".
    """
    if not is_on():
        return function(*given)
    decoder = _taken()
    try:
        found = decoder.ask(function, *given, size=size)
    except _LostDecoderError as error:
        raise _unreadable(name, error, decoder.close()) from None
    except Exception:  # that the function raised there: the process is as good as before
        _give_back(decoder)
        raise
    except BaseException:  # such as Ctrl-C: the answer is still to come
        decoder.close()
        raise
    _give_back(decoder)
    return found


def blocks(
    function: Callable[..., Iterator[Block]], *given: Any, name: str, size: Callable[[], int], left: int
) -> Iterator[Block]:
    """The blocks that ``function(*given)`` yields, from another process; what follows a crash or a hang is lost.

    Parameters
    ----------
    function, *given, name, size
        As of ``called``.
    left : int
        How many samples there should be.
    """
    decoder = _taken()
    lost: _LostDecoderError | None = None
    try:
        for block in decoder.each(function, *given, size=size):
            left -= length_of(block)
            yield block
    except _LostDecoderError as error:
        lost = error
    finally:
        how = decoder.close()
    if lost is not None:
        yield Lost(max(left, 1), _unreadable(name, lost, how))


def _unreadable(name: str, lost: _LostDecoderError, how: str) -> AudioError:
    if lost.waited is None:
        what = (
            f"crashed ({how}), and nothing of it is used; the file is damaged: record it again or remove it"
        )
    else:
        what = (
            f"gave nothing for {lost.waited:.0f} s and was ended, and nothing of it is used; the file is damaged: "
            "record it again or remove it; or its disk does not answer: copy it to another one"
        )
    return AudioError(f"{name}: the library that decodes it {what}", fault="unreadable")


def _state(pid: int) -> str:
    """The letter of what a process does, as of ``ps``; "?" where it is not told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "?"


def _taken() -> _Decoder:
    with _lock:
        if _idle:
            return _idle.pop()
    return _Decoder()


def _give_back(decoder: _Decoder) -> None:
    with _lock:
        _idle.append(decoder)


def close() -> None:
    """End the processes that have nothing to do; the next call starts another one."""
    with _lock:
        while _idle:
            _idle.pop().close()


def _forget() -> None:
    """In a forked process: the decoders are those of its parent."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# In a decoder


def _serve(line: socket.socket, shared: mmap.mmap) -> None:
    """Call functions until the parent has ended, or closes the line."""
    global _is_decoder
    _is_decoder = True
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which sends it to both
        for number in (signal.SIGTERM, *CRASHES):  # handlers of the parent, which would run here
            signal.signal(number, signal.SIG_DFL)
        _close_all_but(line.fileno())
        with line.makefile("rwb") as file:
            while True:
                function, given = pickle.load(file)  # of our own parent
                if function == _ITERATE:
                    _iterate(file, shared, *given)
                else:
                    _tell(file, shared, partial(function, *given))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _iterate(file: Any, shared: mmap.mmap, function: Callable[..., Iterator[Any]], *given: Any) -> None:
    found = function(*given)
    while not isinstance(_tell(file, shared, partial(next, found, _END_TOLD)), str | None):
        pickle.load(file)  # the shared memory is free again


def _tell(file: Any, shared: mmap.mmap, call: Callable[[], Any]) -> Any:
    """Answer with what a call returns or raises; the answer, ``None`` of an error."""
    try:
        is_error, answer = False, call()
    except Exception as error:  # whatever it is, the parent raises it
        is_error, answer = True, error
    sizes: list[int] = []

    def is_in_band(buffer: pickle.PickleBuffer) -> bool:
        """Samples go by the memory that both share, as far as it suffices."""
        raw, begin = buffer.raw(), sum(sizes)
        if begin + raw.nbytes > len(shared):
            return True
        shared[begin : begin + raw.nbytes] = raw
        sizes.append(raw.nbytes)
        return False

    try:
        content = pickle.dumps((is_error, answer), protocol=5, buffer_callback=is_in_band)
    except Exception as error:  # pickle raises whatever the class of the answer does
        is_error, sizes = True, []
        content = pickle.dumps((True, RuntimeError(f"{type(answer).__name__} cannot be sent: {error}")))
    file.write(pickle.dumps(sizes) + content)
    file.flush()
    return None if is_error else answer


def _close_all_but(line: int) -> None:
    """What was open in the parent, such as connections, is not held open by a decoder."""
    most = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, line)
    os.closerange(line + 1, most if most > 0 else 65536)
