"""Fetching one file; the tests of whole data sets are in test_download.py."""

from __future__ import annotations

import urllib.request

import numpy as np
import pytest
from file_server import serving

from nearfar.files.downloads import RETRIES, Client, DownloadError

CONTENT = np.random.default_rng(0).bytes(50_000)


@pytest.fixture
def server():
    with serving() as started:
        started.files["/a"] = CONTENT
        yield started


class Fetch:
    """A file from the server of this test, without pauses."""

    def __init__(self, server, part):
        self.server, self.part = server, part
        self.pauses: list[float] = []
        self.told: list[tuple[str, int, int]] = []
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.client = Client(opener, 5, self.pauses.append, lambda *told: self.told.append(told))

    def __call__(self, size=None, path="/a"):
        self.client.fetch(self.server.address + path, self.part, name="a", size=size)
        return self.part.read_bytes()

    @property
    def ranges(self):
        return [asked for _, asked in self.server.asked]


@pytest.fixture
def fetch(server, tmp_path):
    return Fetch(server, tmp_path / "new" / "a.part")


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_file_is_fetched(fetch, size):
    assert fetch(size) == CONTENT
    assert fetch.told[-1] == ("a", len(CONTENT), len(CONTENT))
    assert fetch.ranges == [None]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_it_goes_on_where_it_stopped(fetch, server, size):
    server.cut = [10_000, 0, 20_000]
    assert fetch(size) == CONTENT
    assert fetch.ranges == [None, "bytes=10000-", "bytes=10000-", "bytes=30000-"]
    assert fetch.pauses == [1, 2, 1]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_whole_part_is_not_fetched_again(fetch, size):
    fetch.part.parent.mkdir()
    fetch.part.write_bytes(CONTENT)
    assert fetch(size) == CONTENT
    assert fetch.ranges == ([] if size else ["bytes=50000-"])
    assert fetch.told == []


def test_a_part_that_is_no_beginning_starts_over(fetch):
    fetch.part.parent.mkdir()
    fetch.part.write_bytes(CONTENT + b"more")
    assert fetch() == CONTENT
    assert fetch.ranges == ["bytes=50004-", None]


def test_a_server_that_tells_no_length_is_believed_when_it_ends(fetch, server):
    server.tells_length = False
    assert fetch() == CONTENT
    assert fetch.told[-1] == ("a", len(CONTENT), len(CONTENT))


def test_another_size_than_was_published_is_an_error_at_once(fetch):
    with pytest.raises(DownloadError, match=r"/a: has 50000 bytes, but 49999 were published"):
        fetch(49_999)
    assert fetch.pauses == []
    assert fetch.part.read_bytes() == b""


def test_a_short_answer_is_read_and_asked_for_again(fetch, server):
    server.status = [503]
    server.files["/small"] = b"words"
    assert fetch.client.read(f"{server.address}/small") == b"words"
    assert fetch.pauses == [2]


def test_what_is_not_there_is_not_asked_for_again(fetch, server):
    with pytest.raises(ConnectionError, match="/none: the server answers 404 Not Found"):
        fetch(path="/none")
    with pytest.raises(ConnectionError, match="/none: the server answers 404 Not Found"):
        fetch.client.read(f"{server.address}/none")
    assert len(server.asked) == 2


def test_lasting_trouble_is_given_up(fetch, server):
    server.status = [500] * 20
    with pytest.raises(
        ConnectionError,
        match=r"/a: HTTP Error 500.*gave up after 5 retries. What has been downloaded is kept",
    ):
        fetch()
    assert len(server.asked) == RETRIES + 1


def test_other_kinds_of_addresses_are_refused(fetch, tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    with pytest.raises(
        DownloadError, match=r"file:.*not an address to download from; it must be http or https"
    ):
        fetch.client.read((tmp_path / "a").as_uri())
