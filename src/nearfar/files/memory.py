"""Memory that is freed and needed again."""

from __future__ import annotations

import numpy as np

KEPT = 31 * 2**20  # bytes; the GNU C library adapts itself to blocks of up to 32 MiB (mallopt(3))


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays for the next ones, up to some 60 MiB.

    Its default is to give arrays of more than some 100 KB back to the system at once: then each clip or window gets
    its memory page by page anew, which takes longer than to copy it. The library of GNU keeps as much as twice the
    largest block that was freed, so it is enough to free one. Others are left as they are.
    """
    np.empty(KEPT, np.uint8)  # freed at once; its pages are never touched
