"""Learning rates over a training."""

from __future__ import annotations

import math


def warm_up_and_cosine(epoch: float, *, warm_up: float, length: float) -> float:
    """The factor of the learning rate after ``epoch`` epochs, which may be a fraction; or so many steps.

    It grows in a straight line to 1 at ``warm_up``, and falls along a half cosine to 0 at ``length``. A training
    may end long before: its length and that of its schedule are two things.

    Raises
    ------
    ValueError
        If it is not true that ``0 <= warm_up < length`` and ``0 <= epoch <= length``.
    """
    if not 0 <= warm_up < length:
        raise ValueError(
            f"warm_up={warm_up:g}, length={length:g}: the warm-up must end before the schedule does, at 0 or later"
        )
    if not 0 <= epoch <= length:
        raise ValueError(f"epoch={epoch:g}: outside of the schedule, which is {length:g} epochs long")
    if epoch < warm_up:
        return epoch / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (epoch - warm_up) / (length - warm_up))
