"""The base class of the back ends: it checks what goes in, once for all of them.

A back end derives from ``NormalModel`` and says what it learns (``_learn``) and how it scores (``_score``).
``fit`` and ``anomaly_score`` are the same for all back ends. They check the arrays and call these two methods.

A clip with copies counts once. A copy is no further evidence, and it makes each scale that is learnt from
neighbours or from clips that are left out too small: the nearest other clip of a copied clip is at distance 0.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearfar.backends import learnt
from nearfar.backends.terms import Terms
from nearfar.embedding.estimators import (
    Estimator,
    checked_for_fit,
    checked_like_fit,
    is_matrix,
    require_equal_lengths,
    require_fitted,
)

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]
Index = NDArray[np.intp]
Bool = NDArray[np.bool_]
Text = NDArray[np.str_]

LARGEST = 1e150  # whose squares, and sums of thousands of them, stay finite

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NormalClips:
    """The normal clips that a back end is fitted to.

    Attributes
    ----------
    X : array, or list of arrays
        One entry for each clip, as the back end's ``_check_normal`` returned them.
    domain : (n_clips,) array of str
    attributes : (n_clips,) array of str, or None
    """

    X: Any
    domain: Text
    attributes: Text | None = None

    def __len__(self) -> int:
        return len(self.domain)

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of clips of each domain, in the order of the names."""
        names, counts = np.unique(self.domain, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @cached_property
    def domain_number(self) -> Index:
        """Which entry of ``counts`` each clip belongs to: (n_clips,)."""
        return np.unique(self.domain, return_inverse=True)[1]

    def select(self, which: Index | Bool) -> NormalClips:
        """Some of the clips: ``which`` is an array of positions, or of True and False."""
        if isinstance(self.X, np.ndarray):
            X: Any = self.X[which]
        else:
            X = [self.X[i] for i in np.arange(len(self))[which]]
        attributes = None if self.attributes is None else self.attributes[which]
        return NormalClips(X, self.domain[which], attributes)

    def of_domain(self, name: str) -> NormalClips:
        """The clips of one domain."""
        return self.select(self.domain == name)


class NormalModel(Estimator, ABC):
    """A model of a machine's normal clips: the base class of the back ends.

    It is a scikit-learn estimator: ``__init__`` only stores the options, and ``fit`` stores what it learns under
    names that end in ``_``. This class checks vectors, (n_clips, dim). A back end that takes something else
    overrides ``_check_normal`` and ``_check_new``.
    """

    MIN_CLIPS: ClassVar[int] = 1  # that a fit needs
    LEARNS_NOTHING: ClassVar[bool] = (
        False  # of normal clips, but their dimensions: more of them change no score
    )

    def fit(self, X: Array, domain: Text, attributes: Text | None = None) -> Self:
        """Learn from normal clips of one machine.

        Parameters
        ----------
        X : (n_clips, dim) array
            Embeddings. Some back ends also take rows; see their class.
        domain : (n_clips,) array of str
        attributes : (n_clips,) array of str, or None
            Most back ends ignore them.

        Returns
        -------
        NormalModel
            The back end itself.

        Raises
        ------
        ValueError
            If an option is out of its range, the arrays do not fit together, a number is not finite, or the clips
            do not suffice; see the class. Copies of a clip count once.
        """
        self._check_options()
        X = _of_bearable_size(self._check_normal(X))
        require_equal_lengths(X, domain, attributes)
        attributes = None if attributes is None else np.asarray(attributes)
        given = NormalClips(X, np.asarray(domain), attributes)
        clips = _without_copies(given, self._tells_apart())
        try:
            with np.errstate(all="ignore"):  # what is not finite in the end is an error
                self._learn(clips)
            _require_finite_learnt(self)
        except FloatingPointError as error:
            raise ValueError(f"{error}; {_tell_size(X)}") from error
        except ValueError as error:
            copies = len(given) - len(clips)
            if not copies:
                raise
            raise ValueError(
                f"{error} ({copies} of the {len(given)} are copies of another clip, and count once)"
            ) from error
        return self

    def anomaly_score(self, X: Array) -> Float:
        """Score clips, higher for more anomalous ones: X as for ``fit``, to (n_clips,).

        Raises
        ------
        NotFittedError
            If the back end is not fitted.
        ValueError
            If X has other dimensions than in ``fit``, or a number is not finite, of X or of the scores.
        """
        require_fitted(self)
        X = _of_bearable_size(self._check_new(X))
        with np.errstate(all="ignore"):
            scores = self._score(X)
        if len(bad := np.flatnonzero(~np.isfinite(scores))):
            raise ValueError(
                f"the score of X[{bad[0]}] is {scores[bad[0]]:g} ({len(bad)} of {len(scores)} are not finite), "
                f"by back end {type(self).__name__}; {_tell_size(X)}"
            )
        return scores

    def terms(self, x: Any) -> Terms | None:
        """How the score of one clip is made, as quadratic forms of its embedding.

        Parameters
        ----------
        x : (dim,) array, or (rows, dim) array
            One clip.

        Returns
        -------
        Terms or None
            ``None`` if the back end cannot say it. ``terms(x).total(x)`` is the score of x.

        Raises
        ------
        NotFittedError, ValueError
            As ``anomaly_score``.
        """
        require_fitted(self)
        return self._terms(_of_bearable_size(self._check_new(np.asarray(x)[None])))

    @abstractmethod
    def _learn(self, clips: NormalClips) -> None:
        """Set the attributes that end in ``_``."""

    @abstractmethod
    def _score(self, X: Any) -> Float:
        """Score clips that ``_check_new`` has returned: (n_clips,)."""

    def _terms(self, X: Any) -> Terms | None:  # noqa: ARG002  # most back ends need it
        """The terms of one clip, which is all that ``_check_new`` has returned; ``None``: there are none."""
        return None

    def _tells_apart(self) -> tuple[str, ...]:
        """Which of domain and attributes make two clips two, even if their numbers are equal."""
        return ("domain",)

    def _check_options(self) -> None:
        """Raise a ``ValueError`` for an option that is out of its range."""
        return

    def _check_normal(self, X: Any) -> Any:
        """The clips of a fit, or a ``ValueError``."""
        return checked_for_fit(self, X, at_least=self.MIN_CLIPS)

    def _check_new(self, X: Any) -> Any:
        """The clips to score, or a ``ValueError`` if they are not like those of the fit."""
        return checked_like_fit(self, X)


class RowModel(NormalModel):
    """A back end whose clips are matrices of rows.

    It takes an (n_clips, rows, dim) array, or a list of (rows, dim) arrays if the clips have different numbers of
    rows, or an (n_clips, dim) array, where each clip is one row.
    """

    @property
    @abstractmethod
    def _dim(self) -> int:
        """The dimensions it was fitted with."""

    def _check_normal(self, X: Sequence[Array]) -> list[Array]:
        clips = [_rows(x) for x in X]
        if not clips:
            raise ValueError("X has no clips; a fit needs at least one")
        return clips

    def _check_new(self, X: Sequence[Array]) -> list[Array]:
        clips = [_rows(x) for x in X]
        for clip in clips:
            if clip.shape[-1] != self._dim:
                raise ValueError(f"X has {clip.shape[-1]} dimensions; it was fitted with {self._dim}")
        return clips


def _rows(x: ArrayLike) -> Array:
    """One clip, (rows, dim), checked; single precision stays single, because rows can take gigabytes."""
    rows = np.atleast_2d(np.asarray(x))
    if is_matrix(rows) and rows.dtype in (np.float64, np.float32) and np.isfinite(rows).all():
        return rows
    from sklearn.utils.validation import check_array  # here, because it takes a second to load

    return check_array(rows, dtype=(np.float64, np.float32))


def _without_copies(clips: NormalClips, tells_apart: Sequence[str]) -> NormalClips:
    """Each clip once, in the order of the first ones; the clips themselves if there are no copies."""
    first: dict[tuple[Any, ...], int] = {}
    for i, x in enumerate(clips.X):
        row = np.asarray(x)
        told = tuple(str(names[i]) for name in tells_apart if (names := getattr(clips, name)) is not None)
        content = np.ascontiguousarray(row + 0.0)  # -0.0 is 0.0
        first.setdefault((*told, row.shape, hashlib.blake2b(content.data, digest_size=16).digest()), i)
    if len(first) == len(clips):
        return clips
    logger.info(
        "%d of %d normal clips are copies of another, and count once", len(clips) - len(first), len(clips)
    )
    return clips.select(np.array(list(first.values())))


def _require_finite_learnt(model: NormalModel) -> None:
    for name, array in learnt(model).items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FloatingPointError(f"{name} of back end {type(model).__name__} is not finite")


def _of_bearable_size(X: Any) -> Any:
    if LARGEST < (largest := _largest(X)) < np.inf:
        raise ValueError(f"X has numbers up to {largest:.3g}, whose squares overflow; scale it down")
    return X


def _tell_size(X: Any) -> str:
    """What the numbers of clips are like, and what to do if they are too large or too small to compute with."""
    return f"X has numbers up to {_largest(X):.3g}: scale it, with conditioning 'standardize' for example"


def _largest(X: Any) -> float:
    """The largest absolute value of clips; NaN or 0 if there is none."""
    return max((float(np.abs(np.asarray(x)).max(initial=0.0)) for x in X), default=0.0)
