"""What holds for every source: described options, a constructor that touches nothing, an end in time."""

from __future__ import annotations

import inspect
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ears import listening
from synthetic import RATE, clip

from nearfar.files.extras import resolve
from nearfar.recordings import audio
from nearfar.systems.options import options_model, validate_options
from nearfar.watching.site import GIVEN
from nearfar.watching.sources import SOURCES

PAGES = Path(__file__).parents[1] / "docs"
EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "folder": lambda folder: {"folder": folder},
    "replay": lambda folder: {"folder": folder},
    "pipe": lambda folder: {"path": str(folder / "pipe"), "rate": RATE, "channels": 2},
    "tcp": lambda _: {"port": 0, "rate": RATE, "channels": 2},
    "udp": lambda _: {"port": 0, "rate": RATE, "channels": 2},
    "soundcard": lambda _: {"device": "of nobody", "rate": RATE, "channels": 2},
}


def source_class(kind: str) -> Any:
    return resolve(SOURCES[kind], needed_by=f"source {kind!r}")


@pytest.mark.parametrize("kind", SOURCES)
def test_its_options_are_its_signature_and_each_is_described(kind: str, tmp_path: Path) -> None:
    owner = source_class(kind)
    options = options_model(owner).model_fields
    assert options.keys() == inspect.signature(owner).parameters.keys()
    for name in options:
        assert re.search(rf"^(\w+, )*{name}(, \w+)* : ", inspect.getdoc(owner), re.MULTILINE), name
    with pytest.raises(ValueError, match="prt"):
        validate_options(f"sources.{kind}", {**EXAMPLES[kind](tmp_path), "prt": 1}, owner)


@pytest.mark.parametrize("kind", SOURCES)
def test_the_pages_name_it_and_its_options(kind: str) -> None:
    page = (PAGES / "sources.md").read_text(encoding="utf-8") + (PAGES / "watch.md").read_text(
        encoding="utf-8"
    )
    assert f"| `{kind}` |" in page
    for name in inspect.signature(source_class(kind)).parameters.keys() - set(GIVEN):
        assert re.search(rf"`{name}`|\b{name} = ", page), name


@pytest.mark.parametrize("kind", SOURCES)
def test_making_it_touches_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "soundcard":
        try:
            pytest.importorskip("sounddevice")
        except OSError as error:  # no PortAudio
            pytest.skip(str(error))

    def refused(*_arguments: object) -> None:
        raise AssertionError("a constructor must not connect")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "bind", refused)
    source = source_class(kind)(**EXAMPLES[kind](tmp_path))
    assert isinstance(source.is_live, bool)
    assert isinstance(source.follows_clock, bool)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "soundcard"])
def test_it_ends_in_time_though_nothing_comes(kind: str, tmp_path: Path) -> None:
    if kind == "replay":
        audio.write(tmp_path / "one.wav", clip(1), RATE)
    if kind == "pipe":
        os.mkfifo(tmp_path / "pipe")
    with listening(source_class(kind)(**EXAMPLES[kind](tmp_path))) as listener:
        assert listener.error is None
