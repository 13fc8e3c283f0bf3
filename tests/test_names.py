"""Names that are not UTF-8, hold control characters or need quotes."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.files.names import ERRORS, encodable, one_line, printable, quoted

BYTE = "L\udcfcfter.wav"  # as Python stands for the byte 0xFC


def test_a_byte_that_is_not_utf8_is_escaped():
    assert [f(BYTE) for f in (encodable, printable, one_line)] == [r"L\xfcfter.wav"] * 3
    assert BYTE.encode(errors=ERRORS) == rb"L\xfcfter.wav"
    assert encodable("\ud83d") == r"\ud83d"


def test_what_can_be_printed_stays():
    for text in ("Lüfter 音 🎧 [old].wav", r"C:\fans\a.wav"):
        assert encodable(text) == printable(text) == one_line(text) == text


def test_control_characters_are_escaped_and_lines_stay_lines():
    assert printable("a\x1b[2J\nb\tc") == "a\\x1b[2J\nb\tc"
    assert one_line("a\x1b\nb\t\u2028c") == r"a\x1b\x0ab\x09\u2028c"
    assert encodable("a\x1b\n") == "a\x1b\n"


@pytest.mark.parametrize(("text", "encoding"), [("音 🎧", "ascii"), ("Lüfter\udcfc", "latin-1")])
def test_a_terminal_without_a_character_gets_its_escape(text, encoding):
    shown = text.encode(encoding, errors=ERRORS)
    assert shown == {"ascii": rb"\u97f3 \U0001f3a7", "latin-1": b"L\xfcfter\\xfc"}[encoding]


def test_what_is_no_error_of_writing_is_not_escaped():
    with pytest.raises(UnicodeDecodeError, match="invalid start byte"):
        b"\xff".decode(errors=ERRORS)


def test_quoted_names_are_arguments_of_a_shell():
    assert quoted("det") == "det"
    assert quoted("det [old]") == "'det [old]'"
    assert quoted("-det") == "./-det"
    assert quoted(BYTE) == r"$'L\xfcfter.wav'"


@settings(max_examples=50)  # each is a process
@given(st.text(st.characters(max_codepoint=0x2FF, exclude_characters="\0"), min_size=1), st.booleans())
def test_a_shell_reads_a_quoted_name_as_it_was(name, has_byte):
    name = f"x{name}\udcfc" if has_byte else f"x{name}"
    told = subprocess.run(
        ["bash", "-c", f"printf %s {quoted(name)}"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert told.stdout == name.encode(errors="surrogateescape")
