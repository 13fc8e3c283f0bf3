"""The command line: each command parses, calls one function and prints.

What a command needs is imported in its body, so that ``nearfar --help`` answers at once. ``program`` names all
commands, in the order of the help. There is a module for each group of commands; they share ``options``,
``progress`` and ``console``.
"""

from nearfar.cli.program import app, main

__all__ = ["app", "main"]
