"""What makes a class an estimator of scikit-learn, without loading scikit-learn.

The verdict on one clip takes 15 ms; to import scikit-learn takes a second. So the classes here have what its
``BaseEstimator`` and ``TransformerMixin`` have, and import it only where it is asked for: by itself, and to convert
or refuse what is not an array as it should be. ``sklearn.base.clone``, pipelines and searches take these estimators
as they take any other. Two things differ: they are no instances of ``BaseEstimator``, and they request no metadata.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Estimator:
    """An estimator: ``__init__`` only stores its parameters, and ``fit`` stores what it learns under ``name_``."""

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """The parameters of ``__init__`` and their default values, by name."""
        if cls.__init__ is object.__init__:
            return {}
        return {p.name: p.default for p in list(inspect.signature(cls.__init__).parameters.values())[1:]}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters and their values.

        Parameters
        ----------
        deep : bool
            Also those of parameters that are estimators themselves, as ``parameter__name``.
        """
        params: dict[str, Any] = {}
        for name in sorted(self._defaults()):
            value = params[name] = getattr(self, name)
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                params |= {f"{name}__{inner}": v for inner, v in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; those of a parameter that is an estimator itself as ``parameter__name``.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        known = sorted(self._defaults())
        if unknown := [name for key in params if (name := key.partition("__")[0]) not in known]:
            raise ValueError(
                f"Invalid parameter {unknown[0]!r} for estimator {self}. Valid parameters are: {known}."
            )
        for key in sorted(
            params, key=lambda key: "__" in key
        ):  # what replaces an estimator comes before its own
            name, deeper, inner = key.partition("__")
            if deeper:
                getattr(self, name).set_params(**{inner: params[key]})
            else:
                setattr(self, name, params[key])
        return self

    def __repr__(self) -> str:
        """The class, and the parameters that have another value than the default."""
        values = self.get_params(deep=False)
        changed = (f"{k}={values[k]!r}" for k, v in self._defaults().items() if repr(values[k]) != repr(v))
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: scikit-learn's diagram."""
        from sklearn.utils import estimator_html_repr  # here, because it takes a second to load

        diagram: str = estimator_html_repr(self)
        return diagram

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks an estimator about itself: nothing that is out of the ordinary."""
        from sklearn.base import BaseEstimator  # here, because only scikit-learn asks

        return BaseEstimator().__sklearn_tags__()


class Transformer(Estimator):
    """An estimator that turns embeddings into others."""

    def fit_transform(self, X: Any, y: None = None) -> Float:  # noqa: ARG002  # scikit-learn's signature
        """Fit, then transform the same embeddings."""
        transformed: Float = self.fit(X).transform(X)  # type: ignore[attr-defined]
        return transformed

    def __sklearn_tags__(self) -> Any:
        """As of any estimator, but that it is a transformer."""
        from sklearn.utils import TransformerTags  # here, because only scikit-learn asks

        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags()
        return tags


def learnt_by(estimator: Any) -> dict[str, Any]:
    """What an estimator has learnt: its attributes whose names end in an underscore."""
    return {k: v for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("__")}


def require_fitted(estimator: Any) -> None:
    """Raise scikit-learn's ``NotFittedError`` if an estimator has learnt nothing."""
    if not learnt_by(estimator):
        from sklearn.utils.validation import check_is_fitted  # here, because it takes a second to load

        check_is_fitted(estimator)


def checked_for_fit(estimator: Any, X: Any, *, at_least: int = 1) -> Float:
    """The rows that an estimator is fitted to, (n, dim) in double precision; it keeps ``n_features_in_``.

    Raises
    ------
    ValueError
        If X is not a matrix of so many rows, or a number is not finite.
    """
    if is_matrix(X) and len(X) >= at_least and bool(np.isfinite(X).all()):
        estimator.n_features_in_ = X.shape[1]
        vars(estimator).pop("feature_names_in_", None)
        converted: Float = X.astype(np.float64, copy=False)
        return converted
    from sklearn.utils.validation import validate_data  # here, because it takes a second to load

    checked: Float = validate_data(estimator, X, dtype=np.float64, ensure_min_samples=at_least)
    return checked


def require_equal_lengths(*arrays: Any) -> None:
    """Raise scikit-learn's ``ValueError`` unless all have the same length, but for those that are ``None``."""
    lengths = {len(array) if hasattr(array, "__len__") else -1 for array in arrays if array is not None}
    if len(lengths) == 1 and -1 not in lengths:
        return
    from sklearn.utils.validation import check_consistent_length  # here, because it takes a second to load

    check_consistent_length(*arrays)


def checked_like_fit(estimator: Any, X: Any) -> Float:
    """New rows, (n, dim) in double precision, with as many dimensions as those of the fit.

    Raises
    ------
    ValueError
        If X is not such a matrix, or a number is not finite.
    """
    if is_plain_like_fit(estimator, X):
        converted: Float = X.astype(np.float64, copy=False)
        return converted
    from sklearn.utils.validation import validate_data  # here, because it takes a second to load

    checked: Float = validate_data(estimator, X, dtype=np.float64, reset=False)
    return checked


def is_matrix(X: Any) -> bool:
    """Whether X is a matrix of floats that scikit-learn takes as it is, if they are finite."""
    # not of extended precision: a number may be too large for double precision
    return type(X) is np.ndarray and X.ndim == 2 and X.size > 0 and X.dtype.kind == "f" and X.itemsize <= 8


def is_plain_like_fit(estimator: Any, X: Any) -> bool:
    """Whether X is such a matrix, finite, with as many dimensions as that of the fit, which had no names."""
    learnt = vars(estimator)
    return (
        is_matrix(X)
        and X.shape[1] == learnt.get("n_features_in_")
        and "feature_names_in_" not in learnt
        and bool(np.isfinite(X).all())
    )
