"""What a branch is made of: encoder, trainer, back end, conditioning, each with the value of every option."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from nearfar.backends import backend_class, present_name
from nearfar.embedding import conditioning_class
from nearfar.encoders import encoder_class
from nearfar.files.provenance import IMPORT_PATH, library_version
from nearfar.systems.options import Options, options_model, validate_options
from nearfar.training import adapter_trainer, trainer

Content = dict[str, Any]  # JSON-able
Defaults = Callable[[str, str], Content]  # by kind and name

OWNERS: dict[str, Callable[[str], Callable[..., Any]]] = {
    "encoder": encoder_class,
    "training": trainer,
    "adaptation": adapter_trainer,
    "conditioning": conditioning_class,
    "backend": backend_class,
}


@dataclass(frozen=True, slots=True)
class Component:
    """Something that a branch is made of, with the value of every option.

    Attributes
    ----------
    kind : str
        Of ``OWNERS``.
    name : str
        In the registry of its kind.
    options : Options
    """

    kind: str
    name: str
    options: Options

    @classmethod
    def resolve(
        cls,
        kind: str,
        name: str,
        given: Mapping[str, Any],
        *,
        seed: int | None = None,
        defaults: Defaults | None = None,
        label: str | None = None,
    ) -> Self:
        """Give every option a value: the given one, or its default.

        Parameters
        ----------
        kind, name : str
        given : mapping
        seed : int or None
            The ``random_state`` of a back end that has one, unless it is given.
        defaults : callable or None
            Defaults that take the place of those of the class, ``defaults(kind, name)``.
        label : str or None
            What an error calls the options.

        Raises
        ------
        ValueError
            If there is no such component, or not with these options.
        """
        name = present_name(name) if kind == "backend" else name
        owner = OWNERS[kind](name)
        options = {**(defaults(kind, name) if defaults else {}), **given}
        if seed is not None and "random_state" in options_model(owner).model_fields:
            options["random_state"] = given.get("random_state", seed)
        resolved = validate_options(label or f"{kind} {name!r}", options, owner)
        values = resolved.arguments()
        if "backend_options" in values:  # of a back end that wraps another one
            of_inner = values["backend_options"] or {}
            inner = cls.resolve("backend", values["backend"], of_inner, defaults=defaults)
            wrapped = inner.options.arguments()
            if "random_state" not in of_inner:
                wrapped.pop("random_state", None)  # the wrapper gives its own
            resolved = resolved.model_copy(update={"backend": inner.name, "backend_options": wrapped})
        return cls(kind, name, resolved)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """For another process: the class of the options is made anew there."""
        return Component.resolve, (self.kind, self.name, self.options.arguments())

    @property
    def owner(self) -> Callable[..., Any]:
        """The class or function."""
        return OWNERS[self.kind](self.name)

    @property
    def module(self) -> str:
        """The module of the owner."""
        return self.owner.__module__

    def make(self) -> Any:
        """An instance of the class."""
        return self.owner(**self.options.arguments())

    def describe(self) -> Content:
        """Name and options."""
        return {"name": self.name, "options": self.options.model_dump(mode="json")}

    @property
    def identity(self) -> Content:
        """What it is, whatever its name: class, options, what it wraps, and versions of libraries that it names."""
        inner = self.wrapped
        return {
            "class": f"{self.module}:{self.owner.__qualname__}",
            "options": self.options.model_dump(mode="json"),
            "wraps": None if inner is None else inner.identity,
            "libraries": self._libraries,
        }

    @property
    def wrapped(self) -> Component | None:
        """The back end that this one wraps, if it is of that kind."""
        given = self.options.arguments()
        if "backend_options" not in given:
            return None
        return Component.resolve("backend", given["backend"], given["backend_options"])

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of its class, and of what it wraps."""
        inner = self.wrapped
        return (self.module,) if inner is None else (self.module, *inner.modules)

    @property
    def _libraries(self) -> dict[str, str]:
        """Versions of the libraries whose classes its options name, as ``"sklearn.ensemble:IsolationForest"``."""
        named = (
            v for v in self.options.arguments().values() if isinstance(v, str) and IMPORT_PATH.fullmatch(v)
        )
        packages = {path.partition(":")[0].partition(".")[0] for path in named}
        return {package: library_version(package) for package in sorted(packages)}
