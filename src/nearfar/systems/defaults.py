"""Which system is taken where none is named."""

from __future__ import annotations

from importlib.util import find_spec

from nearfar.encoders import pretrained
from nearfar.systems.named import DEFAULT

BEST = "best"
WEIGHTS = "mn04_as"  # that it needs


def default_system() -> str:
    """The name of the system for a fit that names none.

    It is "best" if torch and the weights that "best" needs are on this computer, else "spectral", which needs
    neither.
    """
    with_weights = find_spec("torch") is not None and pretrained.stored(WEIGHTS) is not None
    return BEST if with_weights else DEFAULT
