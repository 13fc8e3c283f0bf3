"""The base class of the back ends: it checks what goes in, once for all of them.

A back end derives from ``NormalModel`` and says what it learns (``_learn``) and how it scores (``_score``).
``fit`` and ``anomaly_score`` are the same for all back ends. They check the arrays and call these two methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

Array = NDArray[np.floating[Any]]
Float = NDArray[np.float64]
Index = NDArray[np.intp]
Bool = NDArray[np.bool_]
Text = NDArray[np.str_]


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


class NormalModel(BaseEstimator, ABC):
    """A model of a machine's normal clips: the base class of the back ends.

    It is a scikit-learn estimator: ``__init__`` only stores the options, and ``fit`` stores what it learns under
    names that end in ``_``. This class checks vectors, (n_clips, dim). A back end that takes something else
    overrides ``_check_normal`` and ``_check_new``.
    """

    MIN_CLIPS: ClassVar[int] = 1  # that a fit needs

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
            do not suffice; see the class.
        """
        self._check_options()
        X = self._check_normal(X)
        check_consistent_length(X, domain, attributes)
        self._learn(
            NormalClips(X, np.asarray(domain), None if attributes is None else np.asarray(attributes))
        )
        return self

    def anomaly_score(self, X: Array) -> Float:
        """Score clips, higher for more anomalous ones: X as for ``fit``, to (n_clips,).

        Raises
        ------
        NotFittedError
            If the back end is not fitted.
        ValueError
            If X has other dimensions than in ``fit``, or a number is not finite.
        """
        check_is_fitted(self)
        return self._score(self._check_new(X))

    @abstractmethod
    def _learn(self, clips: NormalClips) -> None:
        """Set the attributes that end in ``_``."""

    @abstractmethod
    def _score(self, X: Any) -> Float:
        """Score clips that ``_check_new`` has returned: (n_clips,)."""

    def _check_options(self) -> None:
        """Raise a ``ValueError`` for an option that is out of its range."""
        return

    def _check_normal(self, X: Any) -> Any:
        """The clips of a fit, or a ``ValueError``."""
        return validate_data(self, X, dtype=np.float64, ensure_min_samples=self.MIN_CLIPS)

    def _check_new(self, X: Any) -> Any:
        """The clips to score, or a ``ValueError`` if they are not like those of the fit."""
        return validate_data(self, X, dtype=np.float64, reset=False)


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
    return check_array(np.atleast_2d(np.asarray(x)), dtype=(np.float64, np.float32))
