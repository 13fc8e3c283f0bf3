"""Downloads from a server on this machine that behaves as Zenodo, and as badly as a network can."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import shutil
import threading
import urllib.request
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nearfar.files.downloads import RETRIES, Client
from nearfar.recordings import datasets
from nearfar.recordings.clips import DatasetError
from nearfar.recordings.datasets import DATASETS, dcase2026
from nearfar.recordings.datasets.download import download, parse_archive
from nearfar.recordings.datasets.published import Remote

MACHINES = {"dev": ("ToyCar", "fan"), "eval": ("Sander",)}
TRAIN = "train/section_00_source_train_normal_0000_spd_1.wav"
TEST = "test/section_00_source_test_normal_0000_spd_1.wav"
ANONYMOUS = "test/section_00_0000.wav"
ATTRIBUTES = "attributes_00.csv"


def zipped(members, *, top=""):
    """A ZIP archive of names and contents; noise as recordings, so that it does not get small."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(top + name, content)
    return buffer.getvalue()


def noise(seed, size=40_000):
    return np.random.default_rng(seed).bytes(size)


class Zenodo(ThreadingHTTPServer):
    """Records of files, what was asked for, and what goes wrong.

    Attributes
    ----------
    records : number -> name -> bytes
    asked : list of (path, Range header or None)
    ignore_range : whether a resumed download is sent from its beginning
    cut : after how many bytes the connection breaks, for each of the next file requests
    status, file_status : what to answer instead, for each of the next requests (of a file)
    silent : how many of the next file requests are not answered at all
    sums : name -> the MD5 that the record claims, where it is not the true one
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.records: dict[int, dict[str, bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ignore_range = False
        self.cut: list[int] = []
        self.status: list[int] = []
        self.file_status: list[int] = []
        self.silent = 0
        self.ends = threading.Event()
        self.sums: dict[str, str] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"

    @property
    def files_asked(self):
        return [asked for asked in self.asked if "/files/" in asked[0]]

    def describe(self, record):
        return {
            "files": [
                {
                    "key": name,
                    "size": len(content),
                    "checksum": "md5:" + self.sums.get(name, hashlib.md5(content).hexdigest()),
                    "links": {"self": f"{self.address}/api/records/{record}/files/{name}/content"},
                }
                for name, content in self.records[record].items()
            ]
        }


class Handler(BaseHTTPRequestHandler):
    server: Zenodo

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        match = re.fullmatch(r"/api/records/(\d+)(?:/files/(.+)/content)?", self.path)
        if self.server.status:
            self.answer(self.server.status.pop(0), b"trouble")
        elif match is None or int(match[1]) not in self.server.records:
            self.answer(404, b"nothing here")
        elif match[2] is None:
            self.answer(200, json.dumps(self.server.describe(int(match[1]))).encode())
        elif self.server.file_status:
            self.answer(self.server.file_status.pop(0), b"")
        elif self.server.silent:
            self.server.silent -= 1
            self.server.ends.wait(5)
        else:
            self.send_file(self.server.records[int(match[1])][match[2]])

    def send_file(self, content):
        start = 0
        if (asked := self.headers.get("Range")) and not self.server.ignore_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.answer(416, b"")
                return
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], {"Content-Range": where})
        else:
            self.answer(200, content)

    def answer(self, status, content, headers=None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        if status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()
        cut = self.server.cut.pop(0) if "/files/" in self.path and self.server.cut and status < 300 else None
        self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def zenodo(monkeypatch):
    server = Zenodo()
    small = replace(
        dcase2026.PUBLISHED,
        machines=MACHINES,
        remotes={"dev": Remote(1), "train": Remote(2), "eval": Remote(3)},
    )
    monkeypatch.setattr(dcase2026, "PUBLISHED", small)
    listed = "file_name,d1p,d1v\n"
    server.records = {
        1: {
            "dev_fan.zip": zipped({TRAIN: noise(1), TEST: noise(2), ATTRIBUTES: listed}, top="fan/"),
            "dev_ToyCar.zip": zipped({TRAIN: b"replaced"}),
            "dev_ToyCar_r2.zip": zipped({TRAIN: noise(3), TEST: noise(4)}),
            "readme.txt": b"nothing to unpack",
        },
        2: {
            "eval_data_Sander_train.zip": zipped(
                {TRAIN: noise(5), ATTRIBUTES: f"{listed}Sander/{TRAIN},spd,1\n"}
            )
        },
        3: {
            "eval_data_Sander_test.zip": zipped(
                {ANONYMOUS: noise(6), ATTRIBUTES: listed}, top="eval_data/Sander/"
            )
        },
    }
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.ends.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Fetch:
    """``download`` from the server of this test, without pauses."""

    def __init__(self, zenodo, root):
        self.zenodo, self.root = zenodo, root
        self.pauses: list[float] = []
        self.told: list[tuple[str, int, int]] = []

    def __call__(self, name="dcase2026", **how):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        timeout, sleep = how.pop("timeout", 5), how.pop("sleep", self.pauses.append)
        client = Client(opener, timeout, sleep, lambda *told: self.told.append(told))
        return download(name, root=self.root, client=client, **{"server": self.zenodo.address, **how})

    @property
    def folder(self):
        return self.root / "dcase2026"

    def files(self):
        """All files on disk, but for the record of what is done."""
        below = (file for file in self.folder.rglob("*") if file.is_file())
        names = {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in below}
        names.pop(".nearfar-download.json", None)
        return names


@pytest.fixture
def fetch(zenodo, tmp_path):
    return Fetch(zenodo, tmp_path)


ALL = {
    f"dev/fan/{TRAIN}",
    f"dev/fan/{TEST}",
    f"dev/fan/{ATTRIBUTES}",
    f"dev/ToyCar/{TRAIN}",
    f"dev/ToyCar/{TEST}",
} | {f"eval/Sander/{name}" for name in (TRAIN, ANONYMOUS, ATTRIBUTES)}


def test_everything_is_fetched_and_unpacked(fetch):
    folders = fetch()
    assert folders == [fetch.folder / "dev/ToyCar", fetch.folder / "dev/fan", fetch.folder / "eval/Sander"]
    files = fetch.files()
    assert set(files) == ALL
    assert files[f"dev/fan/{TRAIN}"] == noise(1)
    assert files[f"dev/ToyCar/{TRAIN}"] == noise(3)
    assert files[f"eval/Sander/{ATTRIBUTES}"].decode() == f"file_name,d1p,d1v\nSander/{TRAIN},spd,1\n"
    assert [machine.name for machine in datasets.load(fetch.folder / "dev")] == ["ToyCar", "fan"]
    assert len(datasets.load(fetch.folder / "eval")["Sander"].clips) == 2


def test_progress_is_told_by_archive(fetch, zenodo):
    fetch(subset="dev", machines=["fan"])
    size = len(zenodo.records[1]["dev_fan.zip"])
    assert fetch.told[-1] == ("dev_fan.zip", size, size)


def test_a_second_run_asks_for_nothing(fetch, zenodo):
    first = fetch()
    zenodo.asked.clear()
    assert fetch() == first
    assert zenodo.asked == []


def test_subsets_and_machines_are_chosen(fetch, zenodo):
    assert fetch(subset="dev", machines=["fan"]) == [fetch.folder / "dev/fan"]
    assert fetch(machines=["Sander"], subset="train") == [fetch.folder / "eval/Sander"]
    assert set(fetch.files()) == {name for name in ALL if "fan" in name} | {
        f"eval/Sander/{name}" for name in (TRAIN, ATTRIBUTES)
    }
    zenodo.asked.clear()
    fetch()
    assert [path.split("/")[-2] for path, _ in zenodo.files_asked] == [
        "dev_ToyCar_r2.zip",
        "eval_data_Sander_test.zip",
    ]


def test_the_archives_stay_where_that_is_asked_for(fetch, zenodo):
    fetch(subset="dev", machines=["fan"], keep=True)
    assert fetch.files()["dev_fan.zip"] == zenodo.records[1]["dev_fan.zip"]


def test_what_was_deleted_is_fetched_again(fetch):
    fetch()
    shutil.rmtree(fetch.folder / "dev/fan/test")
    fetch()
    assert set(fetch.files()) == ALL


# The network breaks


def test_an_interrupted_download_goes_on_where_it_stopped(fetch, zenodo):
    zenodo.cut = [10_000]

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(subset="dev", machines=["fan"], sleep=interrupt)
    part = fetch.folder / "dev_fan.zip.part"
    assert part.read_bytes() == zenodo.records[1]["dev_fan.zip"][:10_000]
    assert set(fetch.files()) == {"dev_fan.zip.part"}
    zenodo.asked.clear()
    fetch(subset="dev", machines=["fan"])
    assert [asked for _, asked in zenodo.files_asked] == ["bytes=10000-"]
    assert set(fetch.files()) == {name for name in ALL if "fan" in name}


def test_ctrl_c_in_the_middle_leaves_the_part(fetch, zenodo, monkeypatch):
    monkeypatch.setattr("nearfar.files.downloads.BLOCK", 4096)

    def interrupt(_, done, __):
        if done >= 20_000:
            raise KeyboardInterrupt

    client = Client(urllib.request.build_opener(urllib.request.ProxyHandler({})), progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        download("dcase2026", root=fetch.root, server=zenodo.address, client=client)
    (part,) = fetch.files().items()
    assert part == ("dev_ToyCar_r2.zip.part", zenodo.records[1]["dev_ToyCar_r2.zip"][: 5 * 4096])
    fetch()
    assert set(fetch.files()) == ALL


def test_a_connection_that_breaks_is_taken_up_again_at_once(fetch, zenodo):
    zenodo.cut = [10_000, 20_000, 0, 5_000]
    fetch(subset="dev", machines=["fan"])
    asked = [asked for _, asked in zenodo.files_asked]
    assert asked == [None, "bytes=10000-", "bytes=30000-", "bytes=30000-", "bytes=35000-"]
    assert fetch.pauses == [1, 1, 2, 1]


def test_a_server_that_cannot_resume_starts_over(fetch, zenodo):
    zenodo.ignore_range, zenodo.cut = True, [10_000]
    fetch(subset="dev", machines=["fan"])
    assert [asked for _, asked in zenodo.files_asked] == [None, "bytes=10000-"]
    assert fetch.files()[f"dev/fan/{TRAIN}"] == noise(1)


def test_a_part_that_is_complete_is_not_asked_for(fetch, zenodo):
    fetch.folder.mkdir()
    (fetch.folder / "dev_fan.zip.part").write_bytes(zenodo.records[1]["dev_fan.zip"])
    fetch(subset="dev", machines=["fan"])
    assert zenodo.files_asked == []
    assert set(fetch.files()) == {name for name in ALL if "fan" in name}


def test_a_part_that_is_too_long_starts_over(fetch, zenodo):
    fetch.folder.mkdir()
    (fetch.folder / "dev_fan.zip.part").write_bytes(zenodo.records[1]["dev_fan.zip"] + b"more")
    fetch(subset="dev", machines=["fan"])
    assert [asked for _, asked in zenodo.files_asked] == [None]


def test_a_range_that_the_server_has_not_starts_over(fetch, zenodo):
    fetch.folder.mkdir()
    (fetch.folder / "dev_fan.zip.part").write_bytes(b"beginning")
    zenodo.file_status = [416]
    fetch(subset="dev", machines=["fan"])
    assert [asked for _, asked in zenodo.files_asked] == ["bytes=9-", None]


def test_a_server_that_says_nothing_is_not_waited_for_long(fetch, zenodo):
    zenodo.silent = 1
    fetch(subset="dev", machines=["fan"], timeout=0.2)
    assert len(zenodo.files_asked) == 2
    assert set(fetch.files()) == {name for name in ALL if "fan" in name}


def test_other_bytes_than_those_asked_for_are_not_taken(fetch, zenodo, monkeypatch):
    send = Handler.answer

    def shifted(self, status, content, headers=None):
        send(self, status, content, {"Content-Range": "bytes 3-9/10"} if headers else None)

    monkeypatch.setattr(Handler, "answer", shifted)
    zenodo.cut = [10_000]
    with pytest.raises(
        ConnectionError, match="bytes from 10000 were asked for, others were sent; gave up after 5"
    ):
        fetch(subset="dev", machines=["fan"])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_passing_trouble_is_asked_again(fetch, zenodo, status):
    zenodo.status = [status, status]
    fetch(subset="dev", machines=["fan"])
    assert fetch.pauses == ([7, 7] if status == 429 else [2, 4])


def test_a_server_in_lasting_trouble_is_given_up(fetch, zenodo):
    zenodo.status = [503] * 20
    with pytest.raises(ConnectionError, match=r"api/records/1: HTTP Error 503.*gave up after 5 retries"):
        fetch()
    assert len(zenodo.asked) == RETRIES + 1
    assert fetch.pauses == [2, 4, 8, 16, 32]


def test_a_server_that_brings_nothing_new_is_given_up(fetch, zenodo):
    zenodo.cut = [10_000, *[0] * 20]
    with pytest.raises(ConnectionError, match="closed early; gave up after 5 retries"):
        fetch(subset="dev", machines=["fan"])
    assert (fetch.folder / "dev_fan.zip.part").stat().st_size == 10_000


def test_a_record_that_is_not_there_is_not_asked_for_again(fetch, zenodo):
    del zenodo.records[1]
    with pytest.raises(ConnectionError, match="api/records/1: the server answers 404 Not Found"):
        fetch()
    assert len(zenodo.asked) == 1


def test_no_server_at_all(fetch, zenodo):
    zenodo.shutdown()
    zenodo.server_close()
    with pytest.raises(ConnectionError, match="refused"):
        fetch()


# What comes is wrong


def test_an_archive_with_another_checksum_is_not_unpacked(fetch, zenodo):
    zenodo.sums["dev_fan.zip"] = "0" * 32
    with pytest.raises(
        DatasetError, match=r"dev_fan\.zip\.part: MD5 [0-9a-f]{32}, but 0{32} was published; removed"
    ):
        fetch(subset="dev", machines=["fan"])
    assert fetch.files() == {}


def pin(monkeypatch, name, md5):
    remotes = {**dcase2026.PUBLISHED.remotes, "dev": Remote(1, {name: md5})}
    monkeypatch.setattr(dcase2026, "PUBLISHED", replace(dcase2026.PUBLISHED, remotes=remotes))


def test_a_record_that_disagrees_with_the_known_checksum_is_refused(fetch, zenodo, monkeypatch):
    pin(monkeypatch, "dev_fan.zip", "1" * 32)
    with pytest.raises(DatasetError, match=r"dev_fan\.zip has MD5 [0-9a-f]{32}, but 1{32} was published"):
        fetch(subset="dev")
    assert zenodo.files_asked == []


def test_what_has_been_replaced_since_is_fetched_again(fetch, zenodo, monkeypatch):
    replaced = zenodo.records[1].pop("dev_ToyCar_r2.zip")
    fetch(subset="dev", machines=["ToyCar"])
    assert fetch.files() == {f"dev/ToyCar/{TRAIN}": b"replaced"}
    zenodo.records[1]["dev_ToyCar_r2.zip"] = replaced
    pin(monkeypatch, "dev_ToyCar_r2.zip", hashlib.md5(replaced).hexdigest())
    fetch(subset="dev", machines=["ToyCar"])
    assert fetch.files() == {f"dev/ToyCar/{TRAIN}": noise(3), f"dev/ToyCar/{TEST}": noise(4)}
    zenodo.asked.clear()
    fetch(subset="dev", machines=["ToyCar"])
    assert zenodo.asked == []


def test_every_machine_that_the_record_lacks_is_named(fetch, zenodo):
    zenodo.records[1] = {"dev_Fan.zip": b""}
    del zenodo.records[3]["eval_data_Sander_test.zip"]
    with pytest.raises(DatasetError, match="no archive of machine 'fan'") as caught:
        fetch()
    assert len(caught.value.problems) == 3
    assert "no archive of machine 'fan'; did you mean 'Fan'? There are: Fan" in caught.value.problems[1]
    assert zenodo.files_asked == []


@pytest.mark.parametrize("record", [[], {}, {"files": [{"key": "dev_fan.zip"}]}, {"files": [3]}])
def test_what_is_no_record_is_refused(fetch, zenodo, record):
    zenodo.describe = lambda _: record
    with pytest.raises(DatasetError, match="not the record of a data set on Zenodo"):
        fetch()


def test_a_page_in_place_of_the_record_is_refused(fetch, monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda *_, **__: "<html>Please log in</html>")
    with pytest.raises(DatasetError, match="the answer is not JSON; is this a Zenodo server"):
        fetch()


def test_addresses_of_other_kinds_are_refused(fetch, zenodo, tmp_path):
    with pytest.raises(DatasetError, match="must be http or https"):
        fetch(server=tmp_path.as_uri())
    zenodo.address, server = tmp_path.as_uri(), zenodo.address
    with pytest.raises(DatasetError, match=r"file:.*not an address to download from"):
        fetch(server=server)


def poison(zenodo, members):
    zenodo.records[1]["dev_fan.zip"] = zipped(members)


@pytest.mark.parametrize(
    "name", ["../../evil.wav", "/evil.wav", "fan/../../evil.wav", "..\\evil.wav", "C:evil.wav"]
)
def test_an_archive_that_leads_out_of_its_folder_is_not_unpacked(fetch, zenodo, name):
    poison(zenodo, {TRAIN: b"1", name: b"2"})
    with pytest.raises(DatasetError, match="in the archive of fan leads out of its folder; not unpacked"):
        fetch(subset="dev", machines=["fan"])
    assert set(fetch.files()) == {"dev_fan.zip"}
    assert not list(fetch.root.rglob("evil*"))


def test_links_in_an_archive_are_not_unpacked(fetch, zenodo):
    link = zipfile.ZipInfo("train")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc")
    zenodo.records[1]["dev_fan.zip"] = buffer.getvalue()
    with pytest.raises(DatasetError, match="'train' in the archive of fan leads out of its folder"):
        fetch(subset="dev", machines=["fan"])


def test_an_archive_that_is_damaged_is_said_to_be(fetch, zenodo):
    whole = bytearray(zenodo.records[1]["dev_fan.zip"])
    whole[1000:1100] = bytes(100)
    zenodo.records[1]["dev_fan.zip"] = bytes(whole)
    with pytest.raises(DatasetError, match=r"dev_fan\.zip: damaged, cannot be unpacked"):
        fetch(subset="dev", machines=["fan"])
    assert set(fetch.files()) == {"dev_fan.zip"}


def test_an_archive_without_clips_is_refused(fetch, zenodo):
    poison(zenodo, {"readme.txt": b"", "other/train/x.wav": b""})
    with pytest.raises(DatasetError, match=r"dev_fan\.zip: holds no train or test"):
        fetch(subset="dev", machines=["fan"])


def test_hidden_files_are_not_unpacked(fetch, zenodo):
    poison(zenodo, {TRAIN: b"1", "__MACOSX/train/._x.wav": b"", "train/.DS_Store": b"", "train/": b""})
    fetch(subset="dev", machines=["fan"])
    assert set(fetch.files()) == {f"dev/fan/{TRAIN}"}


def test_a_full_disk_leaves_the_archive_and_no_half_machine(fetch, zenodo, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        with pytest.raises(OSError, match="No space left"):
            fetch(subset="dev", machines=["fan"])
    assert set(fetch.files()) == {"dev_fan.zip"}
    assert not list((fetch.folder / "dev").iterdir())
    zenodo.asked.clear()
    fetch(subset="dev", machines=["fan"])
    assert zenodo.files_asked == []
    assert set(fetch.files()) == {name for name in ALL if "fan" in name}


# What is asked for is wrong


def test_an_unknown_set_is_named_with_the_nearest(fetch):
    with pytest.raises(ValueError, match=r"no data set 'dcase2062'; did you mean 'dcase20\d\d'"):
        fetch("dcase2062")


@pytest.mark.parametrize("name", ["dcase2020", "dcase2021", "dcase2022"])
def test_early_sets_are_not_downloaded(fetch, name):
    with pytest.raises(
        ValueError, match=f"downloads dcase2023 to dcase2026; get {name} from the challenge's page"
    ):
        fetch(name)


def test_an_unknown_machine_is_named_with_the_nearest(fetch, zenodo):
    with pytest.raises(
        ValueError, match=r"no machine in dcase2026 \(dev, train, eval\) 'Fan'; did you mean 'fan'"
    ):
        fetch(machines=["Sander", "Fan"])
    with pytest.raises(ValueError, match=r"no machine in dcase2026 \(train\) 'fan'. There are: Sander"):
        fetch(machines=["fan"], subset="train")
    assert zenodo.asked == []


def test_an_unknown_subset_is_refused(fetch):
    with pytest.raises(ValueError, match=r"no subset 'test'\. There are: dev, eval, train"):
        fetch(subset="test")


@pytest.mark.parametrize(
    ("name", "subset", "expected"),
    [
        ("dev_ToyCar.zip", "dev", ("ToyCar", 1)),
        ("dev_ToyCar_r2.zip", "dev", ("ToyCar", 2)),
        ("dev_data_fan.zip", "dev", ("fan", 1)),
        ("eval_data_3DPrinter_train_r2.zip", "train", ("3DPrinter", 2)),
        ("eval_data_Sander_test.zip", "eval", ("Sander", 1)),
        ("eval_data_Sander_test.zip", "train", None),
        ("eval_data_Sander_train.zip", "dev", None),
        ("dev_../x.zip", "dev", None),
        ("readme.txt", "dev", None),
    ],
)
def test_archives_are_told_by_their_names(name, subset, expected):
    assert parse_archive(name, subset) == expected


@pytest.mark.parametrize("name", [name for name, module in DATASETS.items() if module.REMOTES])
def test_known_checksums_are_of_archives_of_published_machines(name):
    module = DATASETS[name]
    for subset, remote in module.REMOTES.items():
        for archive in remote.md5:
            machine, _ = parse_archive(archive, subset)
            assert machine in module.MACHINES["dev" if subset == "dev" else "eval"]
