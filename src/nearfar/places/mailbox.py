"""What driver and workers say to each other while tasks run: progress, requests, answers."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import count
from typing import Any

AT_ONCE = 1000  # messages in one look
PATIENCE = 1.0  # s of a look in which nothing comes


class Mailbox:
    """An actor, which may be anywhere in the cluster: neither the driver nor a worker needs to be reached."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[tuple[int | None, Any]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count()

    async def tell(self, told: list[tuple[Any, ...]]) -> None:
        """From a worker: progress."""
        self._messages.put_nowait((None, told))

    async def ask(self, request: Any) -> Any:
        """From a worker: a request; returns the driver's answer."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._messages.put_nowait((number, request))
            return await self._answers[number]
        finally:
            del self._answers[number]

    async def take(self) -> list[tuple[int | None, Any]]:
        """For the driver: what has come, or what comes within ``PATIENCE``."""
        found: list[tuple[int | None, Any]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                found.append(await self._messages.get())
        return found + await self.rest(AT_ONCE)

    async def rest(self, most: int | None = None) -> list[tuple[int | None, Any]]:
        """For the driver: what is there."""
        number = self._messages.qsize()
        return [self._messages.get_nowait() for _ in range(number if most is None else min(number, most))]

    async def answer(self, number: int, answer: Any) -> None:
        """From the driver; whoever asked may be gone."""
        waiting = self._answers.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
