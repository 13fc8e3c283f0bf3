"""Commands whose flags have a value also if they are not given.

typer (0.29) loads pydantic to read an option without a value. That would take a third of the time of a command that
only lists something, because of `--help` and the options of shell completion, which are not given.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command in which a flag that is not given is False."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, with `--help`."""
        return _with_values(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands in which a flag that is not given is False."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, with `--help`."""
        return _with_values(super().get_params(ctx))


def _with_values(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.default is None:
            param.default = False
    return params
