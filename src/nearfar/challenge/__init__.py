<<<<<<< HEAD
"""The files of the challenge. They are YAML, so they need the extra ``challenge``."""

from nearfar.files import extras

extras.resolve("yaml", needed_by="the challenge's package")
=======
"""The package that a team submits to the challenge: its content, writing one, checking one."""
>>>>>>> main
