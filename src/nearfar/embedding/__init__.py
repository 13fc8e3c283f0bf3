"""Between encoders and back ends: views and pooling, conditioning, and the one cache of embeddings.

A conditioning is a scikit-learn transformer of embeddings, fitted to those of the normal clips. A new one is a
class, derived from ``estimators.Transformer``, and one line in ``CONDITIONING``. The line names the class and does
not import it, so that only what a system uses is loaded.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from nearfar.recordings.clips import unknown

CONDITIONING = {
    "standardize": "nearfar.embedding.conditioning:Standardize",
    "pca": "nearfar.embedding.conditioning:PrincipalComponents",
    "whiten": "nearfar.embedding.conditioning:Whitening",
    "head": "nearfar.embedding.conditioning:Head",
    "near_minus_far": "nearfar.embedding.microphone_pairs:NearMinusFar",
    "residual": "nearfar.embedding.microphone_pairs:Residual",
}
OF_PAIRS = ("near_minus_far", "residual")  # take the embeddings of near and far, side by side
PAIRS_VIEW = "near_and_far"  # which gives them so


def conditioning_class(name: str) -> type[Any]:
    """The class of that name, loaded now.

    Raises
    ------
    ValueError
        If there is none; names the nearest.
    """
    if name not in CONDITIONING:
        raise ValueError(unknown("conditioning", name, CONDITIONING))
    return pkgutil.resolve_name(CONDITIONING[name])
