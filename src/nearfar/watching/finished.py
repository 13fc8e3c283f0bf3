"""Which recordings were heard to their end, for a source that asks of each file it finds.

At a start it asks of all, and there may be a hundred thousand: so the keys of those that are finished are read at
once, and 16 bytes are kept of each. Later it asks of the few that are new: then so much memory is not worth it, and
the logbook is asked.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable

DIGEST = 16  # bytes: two of 10^9 keys have the same one with a probability of 10^-21
MOST = 1024  # recordings that were finished since: our choice, some hours of them


class Finished:
    """Keys of recordings that were heard to their end.

    Parameters
    ----------
    known : iterable of str
        All that the logbook has now.
    is_known : callable
        Ask it later, of one key.
    """

    def __init__(self, known: Iterable[str], is_known: Callable[[str], bool]) -> None:
        self._digests: bytes | None = b"".join(sorted(map(_digest, known)))
        self._is_known = is_known
        self._added: OrderedDict[str, None] = OrderedDict()  # the logbook may not have the last ones yet

    def add(self, key: str) -> None:
        """Another one was heard to its end."""
        self._added[key] = None
        if len(self._added) > MOST:
            self._added.popitem(last=False)
            self._digests = None  # which do not have the one that is forgotten

    def __contains__(self, key: str) -> bool:
        if key in self._added:
            return True
        if self._digests is None:
            return self._is_known(key)
        digests, wanted = self._digests, _digest(key)
        place = bisect_left(
            range(len(digests) // DIGEST), wanted, key=lambda i: digests[i * DIGEST : (i + 1) * DIGEST]
        )
        return digests[place * DIGEST : (place + 1) * DIGEST] == wanted


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=DIGEST).digest()
