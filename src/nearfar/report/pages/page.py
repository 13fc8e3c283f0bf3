"""One page, one file: the style and the script lie in it, and its security policy forbids it to load anything.

The policy names the digests of the one style sheet and the one script, so that no other one runs, wherever a name
might put it. Hence no element has a ``style`` or an ``on...`` attribute.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfar.files.atomic import atomic_file, refuse_existing
from nearfar.report.pages.text import as_json, file_stem, name_of, number, readable

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
MOST_BYTES = 10_000_000  # of a page: what plans its sounds stays below


def render(template: str, **context: Any) -> str:
    """Fill a template of ``templates``.

    Parameters
    ----------
    template : str
        Such as ``"explained.html.j2"``, which extends ``base.html.j2``.
    **context
        What it names. Text is data: it is escaped, and what cannot be shown in it is made readable. Only figures,
        which escape by themselves, are markup.

    Returns
    -------
    str
        The whole page, which UTF-8 can encode.

    Raises
    ------
    jinja2.UndefinedError
        If the template names what ``context`` does not have.
    """
    return _environment().get_template(template).render(**context)


def write(path: Path, html: str, *, replace: bool | None = None) -> None:
    """Write a page: it is whole or absent.

    Parameters
    ----------
    path : Path
    html : str
    replace : bool or None
        Take the place of a file that is there; None: the caller does not offer that.

    Raises
    ------
    FileExistsError, PermissionError, NotADirectoryError
        As of ``files.atomic.refuse_existing``.
    """
    refuse_existing(path, replace=replace)
    with atomic_file(path) as part:
        part.write_bytes(html.encode())


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    import nearfar

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    made.globals |= {
        "style": Markup(style),
        "script": Markup(script),
        "policy": policy(style, script),
        "nearfar_version": nearfar.__version__,
    }
    # str() of what is not there raises the error that names it
    made.filters |= {
        "json": as_json,
        "number": number,
        "name": lambda text: name_of(str(text)),
        "file_stem": file_stem,
    }
    return made


def finalize(value: Any) -> Any:
    """What an expression of a template becomes before it is escaped: text that can be shown."""
    return readable(value) if type(value) is str else value


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page with this style sheet and this script, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src {_digest(style)}; "
        f"script-src {_digest(script)}; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
