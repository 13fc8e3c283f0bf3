"""Which system is taken where none is named."""

from __future__ import annotations

from nearfar.encoders import pretrained
from nearfar.files.extras import is_installed
from nearfar.systems.named import DEFAULT

BEST = "best"
WEIGHTS = "mn04_as"  # that it needs


def default_system() -> str:
    """The name of the system for a fit that names none.

    It is "best" if torch and the weights that "best" needs are on this computer, else "spectral", which needs
    neither.
    """
    with_weights = pretrained.stored(WEIGHTS) is not None and is_installed("torch")
    return BEST if with_weights else DEFAULT
