"""The runner is written beside an export, and known again.

Its last line holds the digest of all lines above. So a newer nearfar replaces a runner that nobody has changed, and
leaves one that somebody has.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import nearfar
from nearfar.files.atomic import atomic_file

NAME = "nearfar_edge.py"
SEAL = b"\n# Written by nearfar %s. SHA-256 of all above: "

logger = logging.getLogger(__name__)


def write_runner(folder: Path) -> Path:
    """Write the runner into a folder; one that somebody has changed stays as it is, and a warning says so.

    Parameters
    ----------
    folder : Path
        Of the exported file.

    Returns
    -------
    Path
        Of the runner.

    Raises
    ------
    IsADirectoryError
        If a folder has its name.
    """
    path = folder / NAME
    if path.exists() and not is_unchanged(path.read_bytes()):
        logger.warning(
            "%s: somebody has changed it, so it stays as it is; remove it to get that of nearfar %s",
            path,
            nearfar.__version__,
        )
        return path
    with atomic_file(path) as part:
        part.write_bytes(sealed(Path(__file__).with_name(NAME).read_bytes()))
    return path


def sealed(source: bytes) -> bytes:
    """The source with the line that tells a change."""
    digest = hashlib.sha256(source).hexdigest()
    return source + SEAL % nearfar.__version__.encode() + digest.encode() + b"\n"


def is_unchanged(written: bytes) -> bool:
    """Whether a file is as some version of nearfar has written it."""
    begin, _, end = SEAL.partition(b"%s")
    source, seal, last = written.rpartition(begin)
    _, middle, digest = last.partition(end)
    return bool(seal and middle) and digest == hashlib.sha256(source).hexdigest().encode() + b"\n"
