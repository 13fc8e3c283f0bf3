"""Networks that a process keeps, so that the next task in it finds them loaded.

On a GPU only, where loading is most of the time of a short task. On a processor a network is read from its file in
a moment, and its memory is worth more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")

MOST = 4  # networks, as many as the branches of DualMic-EAT; our choice
DEVICES = frozenset({"cuda", "mps", "xpu"})

_networks: OrderedDict[Hashable, object] = OrderedDict()
_lock = threading.Lock()


def kept(key: Hashable, make: Callable[[], T]) -> T:
    """What was made under this key, or is made now; the one that was not asked for longest goes first."""
    with _lock:
        if key not in _networks:
            _networks[key] = make()
        _networks.move_to_end(key)
        while len(_networks) > MOST:
            _networks.popitem(last=False)
        return _networks[key]  # type: ignore[return-value]  # one type for each key
