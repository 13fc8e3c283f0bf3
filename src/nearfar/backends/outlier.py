"""Any outlier detector of scikit-learn or PyOD."""

from __future__ import annotations

import inspect
import pkgutil
from typing import Any, Literal, get_args

import numpy as np

from nearfar.backends.normal_model import Array, Float, NormalClips, NormalModel

FitOn = Literal["all", "each_domain"]

PACKAGES = ("sklearn", "pyod")  # a system's file names a class, and loading a detector must not run just any


class Outlier(NormalModel):
    """Score of an outlier detector from another library, turned so that higher is more anomalous.

    The libraries disagree on the direction. In scikit-learn (every ``sklearn.base.OutlierMixin``),
    ``decision_function`` is higher for *normal* points; in PyOD it is higher for *anomalous* ones. The direction of
    any other class is unknown, so it is refused.

    Such a detector could only be saved with pickle, which we avoid. This back end saves the normal clips instead.
    After loading, it fits the detector to them again when it is first needed. The scores are the same if the
    library is the same version and ``random_state`` is the only source of randomness. The self-check of a saved
    detector tells if they are not.

    Parameters
    ----------
    detector : str
        Import path, ``"package.module:Class"``, of scikit-learn or PyOD.
    options : dict or None
        Arguments of its constructor.
    fit_on : {"all", "each_domain"}
        One detector for all normal clips, or one for each domain; then the smallest score counts.
    random_state : int
        Random seed of the detector, if it takes one and ``options`` do not set it.

    Attributes
    ----------
    references_ : (n_clips, dim) array
        The normal clips.
    bank_ : (n_clips,) array of int
        Number of the detector that each of them belongs to.
    random_state_ : int

    Raises
    ------
    ValueError
        By ``fit``, if there is no such detector, if it cannot score new clips, or if its direction is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.backends.outlier import Outlier
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> options = {"novelty": True}  # without it, LocalOutlierFactor cannot score new points
    >>> model = Outlier("sklearn.neighbors:LocalOutlierFactor", options).fit(X, domain=np.array(["source"] * 50))
    >>> model.anomaly_score([[0, 0], [6, 6]]).round(1)
    array([-0.6,  3.7])
    """

    def __init__(
        self,
        detector: str = "sklearn.ensemble:IsolationForest",
        options: dict[str, Any] | None = None,
        *,
        fit_on: FitOn = "all",
        random_state: int = 0,
    ) -> None:
        self.detector = detector
        self.options = options
        self.fit_on = fit_on
        self.random_state = random_state

    def _tells_apart(self) -> tuple[str, ...]:
        return () if self.fit_on == "all" else ("domain",)

    def _check_options(self) -> None:
        if self.fit_on not in get_args(FitOn):
            raise ValueError(f"fit_on={self.fit_on!r}: must be 'all' or 'each_domain'")

    def _learn(self, clips: NormalClips) -> None:
        if len(clips) < 2:
            raise ValueError(
                "the normal clips do not differ, so no detector can tell what is unlike them; are they copies of "
                "one recording?"
            )
        number = clips.domain_number
        self.references_ = np.ascontiguousarray(clips.X)  # as a file has it: a second fit rounds alike
        self.bank_ = number if self.fit_on == "each_domain" else np.zeros_like(number)
        self.random_state_ = int(self.random_state)
        self._detectors()

    def _score(self, X: Array) -> Float:
        return np.min([_score(detector, X) for detector in self._detectors()], axis=0)

    def _detectors(self) -> list[Any]:
        """The detectors, fitted to the references. They are kept while the references are the same array."""
        fitted_to, detectors = vars(self).get("_remembered", (None, []))
        if fitted_to is not self.references_:
            detectors = [self._fitted(self.references_[self.bank_ == i]) for i in np.unique(self.bank_)]
            self._remembered = (self.references_, detectors)
        return detectors

    def _fitted(self, references: Array) -> Any:
        cls, options = _detector_class(self.detector), dict(self.options or {})
        if "random_state" in inspect.signature(cls).parameters:
            options.setdefault("random_state", self.random_state_)
        try:
            detector = cls(**options)
        except TypeError as error:
            raise ValueError(f"options={self.options}: not of detector {self.detector!r}: {error}") from error
        if not hasattr(detector, "decision_function"):  # scikit-learn hides it where it does not hold
            raise ValueError(
                f"detector={self.detector!r} with options={self.options or {}} only scores what it was fitted to; "
                "LocalOutlierFactor scores new clips with options = {novelty = true}"
            )
        return detector.fit(references)


def _detector_class(path: str) -> type[Any]:
    """The class at an import path, if it is of a kind whose direction is known.

    The path is checked before anything is called: a system's file must not make us call anything else.
    """
    if path.partition(":")[0].partition(".")[0] not in PACKAGES:
        raise ValueError(
            f"detector={path!r}: must be of scikit-learn or PyOD, such as 'sklearn.ensemble:IsolationForest'; "
            "for any other, write a back end"
        )
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"detector={path!r}: cannot be imported: {error}; is the library installed?"
        ) from error
    if not (inspect.isclass(found) and (_is_of_scikit_learn(found) or _is_of_pyod(found))):
        raise ValueError(
            f"detector={path!r}: neither an outlier detector of scikit-learn (sklearn.base.OutlierMixin) nor one "
            "of PyOD, so whether its higher scores are anomalous is unknown"
        )
    if not hasattr(found, "decision_function"):
        raise ValueError(f"detector={path!r}: has no decision_function, so it cannot score new clips")
    return found


def _is_of_scikit_learn(cls: type[Any]) -> bool:
    from sklearn.base import OutlierMixin  # here, because it takes a second to load

    return issubclass(cls, OutlierMixin)


def _is_of_pyod(cls: type[Any]) -> bool:
    return any(c.__module__.partition(".")[0] == "pyod" for c in cls.__mro__)


def _score(detector: Any, X: Array) -> Float:
    scores = np.asarray(detector.decision_function(X), dtype=np.float64)
    return -scores if _is_of_scikit_learn(type(detector)) else scores
