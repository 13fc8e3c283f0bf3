"""Maps of embeddings: what the branches of a result heard of a machine's clips, in two dimensions.

Conventions
-----------
A *recipe* says what is shown: the embeddings of a branch before conditioning, or the levels of the near microphone
in frequency bands. The levels need no encoder, so each machine has that map. They also stand for branches whose
encoder is not here: a result does not keep the networks that were trained for it.

The two dimensions are the first two principal components of the clips that are shown, test clips among them. No
label has a part in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding import embeddings
from nearfar.embedding.store import Store
from nearfar.evaluation.record import RunRecord
from nearfar.evaluation.results import Result
from nearfar.files.digests import digest
from nearfar.files.extras import MissingPackageError
from nearfar.files.steps import Jobs
from nearfar.recordings.clips import Clip, Machine
from nearfar.recordings.recording import known_digests
from nearfar.systems.branches import Branch
from nearfar.systems.configuration import System
from nearfar.systems.resolved import ResolvedBranch, resolve

LEVELS = "levels of the near microphone in frequency bands"
MOST_RECIPES = 6  # of a machine
MOST_POINTS = 8000  # of all maps together: each takes some 300 bytes of a page
POINTS = (60, 300)  # the fewest and the most of one map

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Recipe:
    """What is shown of a clip.

    Attributes
    ----------
    name : str
    branch : Branch or None
        Whose encoder embeds it; ``None``: ``LEVELS``.
    used_by : list of str
        Results, and branches of results, that it belongs to.
    """

    name: str
    branch: Branch | None = None
    used_by: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EmbeddingMap:
    """The clips of a machine in two dimensions.

    Attributes
    ----------
    machine, what : str
    used_by : tuple of str
    note : str
        What to know of it.
    clips : tuple of Clip
        Those that are shown.
    places : (n_clips, 2) array
    shares : (2,) array
        Of the variance.
    """

    machine: str
    what: str
    used_by: tuple[str, ...]
    note: str
    clips: tuple[Clip, ...]
    places: Array
    shares: Array


def recipes_of(
    results: Mapping[str, Result], machine: str, jobs: Jobs, clips: Sequence[Clip] = ()
) -> tuple[list[Recipe], list[str]]:
    """What can be shown of a machine's clips, and why other embeddings of the results cannot.

    Parameters
    ----------
    results : mapping from name to Result
    machine : str
    jobs : Jobs
        Which remembers digests of weights.
    clips : sequence of Clip
        Of all machines, as of ``systems.resolved.resolve``.
    """
    found: dict[str, Recipe] = {"": Recipe(LEVELS)}
    why_not: dict[str, None] = {}
    for name, run in _runs(results):
        if machine not in run.machines or "branch" not in run.system:
            continue
        try:
            resolved = resolve(
                System.model_validate(run.system), seed=run.seeds[0], jobs=jobs, machine=machine, clips=clips
            )
            for branch in resolved.branches:
                if reason := _why_not_shown(branch):
                    why_not[f"{name}: {reason}"] = None
                elif (key := digest(branch.embedding)) in found:
                    found[key].used_by.append(name)
                elif len(found) < MOST_RECIPES:
                    found[key] = Recipe(_named(branch), Branch(branch), [name])
                else:
                    why_not[f"{name}: a machine has at most {MOST_RECIPES} maps"] = None
        except (ValueError, OSError, LookupError, MissingPackageError) as error:
            why_not[f"{name}: its encoder cannot be made here: {error}"] = None
    return list(found.values()), list(why_not)


def _runs(results: Mapping[str, Result]) -> list[tuple[str, RunRecord]]:
    """The records of all results, and in place of a fused one those of its branches."""
    return [
        (f"{name}, branch {branch}" if branch else name, run)
        for name, result in results.items()
        for branch, run in (result.run.branches or {"": result.run}).items()
    ]


def _why_not_shown(branch: ResolvedBranch) -> str:
    """Why a branch's embeddings are not shown; empty if they are."""
    if branch.training is not None:
        return f"the network of {branch.encoder.name!r} is trained for each machine, and a result does not keep it"
    if branch.adaptation is not None:
        return f"the adapter of {branch.encoder.name!r} is not in a result"
    return ""


def _named(branch: ResolvedBranch) -> str:
    return f"{branch.encoder.name}, view {branch.view}, pooling {branch.pooling}"


def chosen(
    machine: Machine, n: int, scored: Iterable[str] = (), played: Collection[str] = ()
) -> tuple[Clip, ...]:
    """About so many clips of a machine for a map: test clips first, then training clips of the target domain.

    Parameters
    ----------
    machine : Machine
    n : int
    scored : iterable of str
        Keys of the test clips that are looked at; empty: all.
    played : collection of str
        Keys of clips that are shown in any case.
    """
    wanted = set(scored)
    kept = [clip for clip in machine.clips if clip.key in played]
    test = [clip for clip in machine.test if (not wanted or clip.key in wanted) and clip.key not in played]
    target = [clip for clip in machine.train if clip.domain == "target"]
    others = [clip for clip in machine.train if clip.domain != "target"]
    kept += _evenly(test, (n // 2 if machine.train else n) - len(kept))
    kept += _evenly(target, (n - len(kept)) // 2)
    kept += _evenly(others, n - len(kept))
    return tuple(kept)


def _evenly(clips: Sequence[Clip], n: int) -> list[Clip]:
    """At most n of them, evenly from the first to the last."""
    if len(clips) <= n:
        return list(clips)
    return [clips[round(i)] for i in np.linspace(0, len(clips) - 1, max(n, 0))]


def points_of_each(n_maps: int) -> int:
    """How many clips a map shows, if there are so many maps."""
    fewest, most = POINTS
    return min(most, max(fewest, MOST_POINTS // max(n_maps, 1)))


def stored(recipe: Recipe, clips: Sequence[Clip], jobs: Jobs) -> dict[str, Array]:
    """The embeddings of clips, by key, as far as the store has them and no recording must be read for it."""
    branch = recipe.branch
    if branch is None or not branch.uses_store:
        return {}
    shas = known_digests((clip.recording for clip in clips), jobs)
    known = {clip.key: sha for clip, sha in zip(clips, shas, strict=True) if sha is not None}
    resolved = branch.resolved
    found = embeddings.stored(
        dict.fromkeys(known.values()), branch.encoder, branch.origins(), Store(jobs.root),
        view=resolved.view, pooling=resolved.pooling,
    )  # fmt: skip
    return {key: found[sha] for key, sha in known.items() if sha in found}


def principal_components(X: Array) -> tuple[Array, Array]:
    """The first two principal components of rows.

    Parameters
    ----------
    X : (n, dim) array

    Returns
    -------
    (n, 2) array, (2,) array
        Places, and the shares of the variance. The sign of each component is such that its largest loading is above
        zero. Zeros where there is no second component.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.research.embedded import principal_components
    >>> places, shares = principal_components(np.array([[0.0, 0.0], [3.0, 4.0]]))
    >>> places.round(6).tolist(), shares.round(6).tolist()
    ([[-2.5, 0.0], [2.5, 0.0]], [1.0, 0.0])
    """
    centred = np.asarray(X, dtype=np.float64) - np.mean(X, axis=0, dtype=np.float64)
    left, sizes, loadings = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(np.take_along_axis(loadings, np.abs(loadings).argmax(axis=1)[:, None], axis=1)[:, 0])
    total = float((sizes**2).sum())
    places, shares = np.zeros((len(centred), 2)), np.zeros(2)
    n = min(2, int((sizes > 1e-12 * max(float(sizes.max(initial=0.0)), 1e-300)).sum()))
    places[:, :n] = left[:, :n] * sizes[:n] * sign[:n]
    shares[:n] = sizes[:n] ** 2 / total if total > 0 else 0.0
    return places, shares


def mapped(
    machine: str, recipe: Recipe, clips: Sequence[Clip], found: Mapping[str, Array]
) -> EmbeddingMap | None:
    """The map of those clips that have an embedding; ``None`` of fewer than three."""
    known = [clip for clip in clips if clip.key in found and np.isfinite(found[clip.key]).all()]
    sizes = {found[clip.key].shape for clip in known}
    if len(known) < 3 or len(sizes) != 1:
        return None
    places, shares = principal_components(np.stack([found[clip.key].ravel() for clip in known]))
    missing = len(clips) - len(known)
    note = (
        f"{missing} of {len(clips)} clips are not shown, because they could not be embedded."
        if missing
        else ""
    )
    return EmbeddingMap(machine, recipe.name, tuple(recipe.used_by), note, tuple(known), places, shares)
