"""The files of the challenge. They are YAML, so they need the extra ``challenge``."""

from nearfar.files import extras

extras.resolve("yaml", needed_by="the challenge's package")
