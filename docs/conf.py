"""Sphinx settings. The reference and the command line's help are made from the code at every build."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import commands  # noqa: E402  # beside this file

import nearfar  # noqa: E402

project = "nearfar"
author = "The nearfar authors"
copyright = "The nearfar authors"
release = version = nearfar.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say shapes, which types cannot
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the module's page has them
suppress_warnings = ["ref.citation"]  # a module may list references that its text does not number

html_theme = "furo"
html_title = f"nearfar {release}"
html_static_path: list[str] = []

commands.write(HERE / "api" / "commands.txt")
