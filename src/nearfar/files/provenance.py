"""What made an outcome: the source code and the libraries that have a part in it."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line begins without NumPy
    pass

from nearfar.files.digests import digest, digest_file

NO_MAKERS = ("encoders/pretrained.py", "encoders/weights.py")  # they describe and fetch; files have a digest
MAKERS = (  # what stands between recordings and scores: a change in it makes every step anew
    "recordings/audio.py",
    "recordings/microphones.py",
    "encoders/*.py",
    "training/*.py",
    "embedding/embeddings.py",
    "embedding/conditioning.py",
    "backends/*.py",
    "systems/branches.py",
    "decisions/thresholds.py",
    "detector/*.py",
    "research/experiment.py",
    "research/sweep.py",
)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "soundfile", "soxr", "torch")  # that compute scores


@lru_cache
def code_digest(makers: tuple[str, ...] = MAKERS) -> str:
    """Of the source files, and the versions of the libraries, that have a part in the outcome of a step."""
    package = Path(__file__).parents[1]
    files = {file for pattern in makers for file in package.glob(pattern)}
    files -= {package / name for name in NO_MAKERS}
    own = [[str(file.relative_to(package)), digest_file(file)] for file in sorted(files)]
    return digest([own, library_versions()])


def library_versions() -> dict[str, str]:
    """Of the libraries that compute scores."""
    return {name: version(name) for name in LIBRARIES}
