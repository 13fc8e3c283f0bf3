"""Ways of sound through rooms that were computed before: most of what it takes to simulate a short clip."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from nearfar.simulation.rooms import Room, Ways


@pytest.fixture(autouse=True, scope="module")
def known_ways() -> Iterator[None]:
    """In a module that imports it, the ways between the same places of the same room are computed once.

    They are pure functions of these; ``test_rooms`` tests them. Worker processes compute their own.
    """
    computed = Room.ways

    @functools.cache
    def kept(room: Room, sources: Any, microphones: Any, rate: int, decay: float) -> Ways:
        return computed(room, sources, microphones, rate=rate, decay=decay)

    def ways(
        room: Room, sources: Sequence[Any], microphones: Sequence[Any], *, rate: int, decay: float = 1.0
    ) -> Ways:
        places = (tuple(map(tuple, given)) for given in (sources, microphones))
        return kept(room, *places, rate, decay).copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Room, "ways", ways)
        yield
