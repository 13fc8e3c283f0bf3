"""Worker processes of this computer."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self, TypeVar

from nearfar.files.processes import Tell, Workers
from nearfar.places.place import PlaceError
from nearfar.places.tasks import Answer, Call, perform

S = TypeVar("S")
T = TypeVar("T")


class LocalProcesses:
    """So many of them, which tell what they do."""

    knows_who_was_lost = False

    def __init__(self, number: int, tell: Tell) -> None:
        self._number, self._workers = number, Workers(number, tell)

    def __enter__(self) -> Self:
        self._workers.__enter__()
        return self

    def __exit__(self, *told: Any) -> None:
        self._workers.__exit__(*told)

    def room(self) -> int:
        """One for each process, and one that waits."""
        return self._number + 1

    def submit(self, call: Call[S, T]) -> Future[Answer[T]]:
        """To the next process that is free."""
        try:
            return self._workers.submit(perform, call)
        except BrokenProcessPool:  # one was killed since the last answer; those in hand will say so, too
            self._workers.renew()
            return self._workers.submit(perform, call)

    def is_lost(self, error: BaseException) -> bool:
        """A process that is killed takes all others with it.

        Raises
        ------
        PlaceError
            If none has begun to work: it would be the same again.
        """
        is_lost = isinstance(error, BrokenProcessPool | CancelledError)
        if is_lost and not self._workers.have_started:
            raise PlaceError(
                "worker processes end before they begin to work; a script that starts them must begin what it does "
                "with: if __name__ == '__main__':"
            ) from error
        return is_lost
