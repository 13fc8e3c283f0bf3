"""Options of everything that a system names, as frozen models.

The signature of a class or function says once which options it has, of which types, with which defaults.
``options_model`` makes a pydantic model of it: keyword-only, frozen, without unknown keys. So a new back end needs
no second description of its options, and everything that is resolved holds the value of every option.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from nearfar.recordings.clips import unknown


class Options(BaseModel):
    """The options of one class or function, each with its value."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True
    )

    def arguments(self) -> dict[str, Any]:
        """The options as keyword arguments."""
        return {name: getattr(self, name) for name in type(self).model_fields}


@cache
def options_model(owner: Callable[..., Any]) -> type[Options]:
    """The model of the options of a class or function: its annotated parameters.

    Examples
    --------
    >>> from nearfar.backends.nearest_neighbour import NearestNeighbour
    >>> from nearfar.systems.options import options_model
    >>> options_model(NearestNeighbour)(k=2)
    NearestNeighbourOptions(k=2, metric='euclidean')
    """
    target = owner.__init__ if inspect.isclass(owner) else owner
    hints = get_type_hints(target)
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is p.empty else p.default)
        for p in inspect.signature(target).parameters.values()
        if p.name in hints
    }
    return create_model(f"{owner.__name__}Options", __base__=Options, **fields)


def validate_options(
    kind: str, given: Mapping[str, Any], owner: Callable[..., Any], *, hidden: Collection[str] = ()
) -> Options:
    """The given options, and the defaults of all others.

    Parameters
    ----------
    kind : str
        What an error calls them, such as ``"backend_options"``.
    given : mapping
    owner : class or function
    hidden : collection of str
        Parameters of the owner that are no options: no message lists them.

    Raises
    ------
    ValueError
        For every option that the owner does not have, or not with such a value.
    """
    model = options_model(owner)
    try:
        return model(**given)
    except ValidationError as error:
        problems = {}
        for fault in error.errors():
            name = str(fault["loc"][0])
            if fault["type"] == "extra_forbidden":
                problems[name] = unknown(f"{kind} key", name, set(model.model_fields).difference(hidden))
            elif fault["type"] == "missing":
                problems[name] = f"{name}: is missing"
            else:
                problems.setdefault(name, f"{name}={given.get(name)!r}: {fault['msg']}")
        raise ValueError("; ".join(problems.values())) from None
