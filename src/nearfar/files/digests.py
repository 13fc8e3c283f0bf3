"""Digests: the SHA-256 of content, in hexadecimal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line begins without NumPy
    from numpy.typing import NDArray


def digest(content: Any) -> str:
    """SHA-256 of anything that JSON can say, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of arrays by name: names, kinds of number, shapes and bytes."""
    told = {
        name: [array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        for name, array in arrays.items()
    }
    return digest(told)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest_bytes(content: bytes) -> str:
    """SHA-256 of bytes, as ``digest_file`` of a file that holds them."""
    return hashlib.sha256(content).hexdigest()
