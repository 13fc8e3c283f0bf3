"""The package that a team submits to the challenge: its content, writing one, checking one.

Its files are YAML, so all of this needs the extra ``challenge``.
"""

from nearfar.files import extras

extras.resolve("yaml", needed_by="the challenge's package")
