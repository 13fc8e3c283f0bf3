"""One table, saved in all the ways that spreadsheets and systems have, is read alike; what is wrong is named."""

from __future__ import annotations

import codecs
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfar.files import tables

COLUMNS = ("file_name", "domain")
TEXT = "file_name,domain\r\ntrain/Lüfter 1.wav,source\r\ntrain/b.wav,target\r\n"
CELLS = [(2, ("train/Lüfter 1.wav", "source")), (3, ("train/b.wav", "target"))]

SAVED = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with byte order mark": TEXT.encode("utf-8-sig"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, big-endian": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "UTF-16 without mark": TEXT.encode("utf-16-le"),
    "UTF-16, big-endian without mark": TEXT.encode("utf-16-be"),
    "UTF-32": TEXT.encode("utf-32"),
    "Windows-1252": TEXT.encode("cp1252"),
    "semicolons": TEXT.replace(",", ";").encode(),
    "tabs": TEXT.replace(",", "\t").encode(),
    "Unicode text of a spreadsheet": TEXT.replace(",", "\t").encode("utf-16"),
    "spaces": TEXT.replace(",", " , ").encode(),
    "quotes": "\n".join('"' + line.replace(",", '" , "') + '"' for line in TEXT.splitlines()).encode(),
    "line feeds": TEXT.replace("\r\n", "\n").encode(),
    "carriage returns": TEXT.replace("\r\n", "\r").encode(),
    "no end of the last line": TEXT.strip().encode(),
    "empty rows at the end": (TEXT + ",\r\n,,\r\n\r\n").encode(),
    "more columns": TEXT.replace("source", "source,old,").replace("domain", "Domain,remark").encode(),
    "capitals": TEXT.replace("file_name,domain", "File name,DOMAIN").encode(),
    "end of a file of DOS": TEXT.encode() + b"\x1a",
}


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED)
def test_however_it_is_saved_it_reads_the_same(tmp_path, content):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    table = tables.read(file, COLUMNS)
    places = [table.place(column) for column in COLUMNS]
    assert [(row.number, tuple(map(row.cell, places))) for row in table.rows] == CELLS


def test_a_separator_may_be_named_in_the_first_row():
    table = tables.parse(("sep=;\r\n" + TEXT.replace(",", ";")).encode(), COLUMNS)
    assert [(row.number, row.cells) for row in table.rows] == [(n + 1, cells) for n, cells in CELLS]


def test_columns_may_be_in_another_order():
    table = tables.parse(b"remark,domain,file_name\nx,source,a.wav\n", COLUMNS)
    assert [table.rows[0].cell(table.place(column)) for column in COLUMNS] == ["a.wav", "source"]


def test_empty_rows_count_as_in_a_spreadsheet():
    table = tables.parse(b"a.wav,1\n\n,\nb.wav,2\n\n")
    assert [(row.number, row.cells) for row in table.rows] == [(1, ("a.wav", "1")), (4, ("b.wav", "2"))]
    assert table.empty_rows == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.wav;0,5", "0.5"),
        ("a.wav;-12,345e-3", "-12.345e-3"),
        ("a.wav\t0,5", "0.5"),
        ("a.wav\t1,234", "1,234"),  # may be one thousand and more
        ("a.wav;1.234,5", "1.234,5"),
        ('"a,b.wav";0.5', "0.5"),
        ("a.wav,0.5", "0.5"),
    ],
)
def test_a_decimal_comma_is_a_point_where_it_can_be_nothing_else(text, value):
    (row,) = tables.parse(text.encode()).rows
    assert row.cells[1:] == (value,)


def test_the_encoding_that_is_guessed_is_in_doubt():
    assert "save it as CSV UTF-8" in tables.parse("Lüfter.wav,1".encode("cp1252")).doubt
    assert tables.parse("Lüfter.wav,1".encode()).doubt == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column file_name and domain: the file is empty; the first row must be file_name,domain"),
        (b"name,domain\na,b\n", "no column file_name: the first row is 'name,domain'"),
        (b"file_name,domain,Domain\n", "2 columns are called domain; keep one"),
        (
            b"RIFF\x00\x00\x01\x00WAVEfmt \x10\x00\x00\x00\x01\x02\x00\x00\x00",
            "no column|not text|not readable",
        ),
        (b"\xff\xfe\x00", "not readable as text .*truncated data"),
        (
            b'file_name,domain\n"train/a.wav,source\ntrain/b.wav,source\n',
            "row 2: a quotation mark is not closed",
        ),
        (b"file_name,domain\n" + b"x" * 200_000 + b",source\n", "row 2: field larger than field limit"),
    ],
)
def test_what_is_no_table_is_refused_with_the_row(content, message):
    with pytest.raises(tables.TableError, match=message):
        tables.parse(content, COLUMNS)


def test_no_file_is_read_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_BYTES", 2**20)
    file = tmp_path / "table.csv"
    file.write_bytes(b"a" * (2**20 + 1))
    with pytest.raises(tables.TableError, match="larger than 1 MiB, so this is not a table of recordings"):
        tables.read(file)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(content):
    with suppress(tables.TableError):
        assert all(row.cells for row in tables.parse(content).rows)
