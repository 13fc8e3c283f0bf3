"""The file of a site: what it says, what is wrong with it, and that it can be written again."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nearfar.files.extras import MissingPackageError
from nearfar.watching import site as sites
from nearfar.watching import units
from nearfar.watching.pauses import Pauses
from nearfar.watching.site import SourceSite, as_toml, load, of_one, replaying
from nearfar.watching.sources.replay import Replay

BERLIN = ZoneInfo("Europe/Berlin")
WHOLE = """
name = "Hall 3"
state = "hall3.db"
sounds = "kept/sounds"
time_zone = "Europe/Berlin"
keep_windows = "3 weeks"
keep_sounds = "5 GiB"
[defaults]
false_alerts = "1  per 7 days"
window = 10
[machines.pump-1]
detector = "detector"
source = { kind = "replay", folder = "recordings/pump-1", speed = "max" }
hop = "5 s"
pauses = ["Sat 00:00 - Mon 05:00"]
no_sound_after = "20 min"
began = "%Y%m%d_%H%M%S"
[machines."fan 2"]
detector = "detector"
source = { kind = "replay", folder = "recordings/fan" }
false_alerts = "1 per 30 days"
[sinks.file]
kind = "jsonl"
path = "told.jsonl"
[serve]
port = 0
"""


class Sink:
    """Whom it is told, in these tests."""

    streams = ("journal",)

    def __init__(self, *, path: Path, times: int = 3) -> None:
        self.path, self.times = path, times


class Source:
    """Takes all that a site gives."""

    def __init__(
        self,
        *,
        rate: int,
        channels: int | None = None,
        began: str = "",
        zone: object = None,
        selected: object = (),
    ) -> None:
        self.given = (rate, channels, began, zone, selected)


@pytest.fixture(autouse=True)
def _kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sites.SINKS, "jsonl", f"{__name__}:Sink")
    monkeypatch.setitem(sites.SOURCES, "udp", f"{__name__}:Source")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "detector.json").write_text("{}")
    for name in ("pump-1", "fan", "fan 2"):
        (tmp_path / "recordings" / name).mkdir(parents=True)
    (tmp_path / "hall3.toml").write_text(WHOLE)
    return tmp_path


def faults(folder: Path, text: str) -> list[str]:
    """What is wrong with a file, a line each."""
    (folder / "wrong.toml").write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.toml") as error:
        load(folder / "wrong.toml")
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_a_file_says_what_is_heard(folder: Path) -> None:
    site = load(folder / "hall3.toml")
    assert (site.name, site.state, site.sounds) == ("Hall 3", folder / "hall3.db", folder / "kept" / "sounds")
    assert (site.keep_windows_s, site.keep_sounds_bytes) == (21 * 86400, 5 * 2**30)
    assert (site.time_zone, site.path) == (BERLIN, folder / "hall3.toml")
    pump, fan = site.machines.values()
    assert (pump.name, pump.window, pump.hop, pump.false_alerts) == ("pump-1", 10, 5, "1 per 7 days")
    assert (fan.name, fan.window, fan.hop, fan.false_alerts) == ("fan 2", 10, None, "1 per 30 days")
    assert (pump.no_sound_after_s, fan.no_sound_after_s) == (1200, 600)
    assert pump.pauses == Pauses.parse(["Sat 00:00 - Mon 05:00"], BERLIN)
    assert not fan.pauses
    assert pump.source.options == {"folder": folder / "recordings" / "pump-1", "speed": "max"}
    assert site.sinks["file"].options == {"path": folder / "told.jsonl", "times": 3}
    assert isinstance(site.sinks["file"].make(), Sink)
    assert (site.serve.host, site.serve.port) == ("127.0.0.1", 0)


def test_what_is_written_again_is_the_same(folder: Path) -> None:
    site = load(folder / "hall3.toml")
    (folder / "again.toml").write_text(as_toml(site))
    again = load(folder / "again.toml")
    assert again.model_copy(update={"path": site.path}) == site


def test_names_with_quotes_and_signs_are_written_again(folder: Path) -> None:
    source = SourceSite.of({"kind": "replay", "folder": str(folder / "recordings")})
    name = 'pump "1" – ü \U0001f40c'  # noqa: RUF001
    site = of_one(folder / "detector", source, name=name, state=folder / "x.db")
    (folder / "again.toml").write_text(as_toml(site), encoding="utf-8")
    assert [*load(folder / "again.toml").machines] == [name]


def test_little_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    (folder / "small.toml").write_text(
        '[machines.a]\ndetector = "detector"\nsource = { kind = "replay", folder = "recordings" }\n'
    )
    site = load(folder / "small.toml")
    assert (site.name, site.state, site.sounds) == ("small", folder / "small.db", folder / "small-sounds")
    assert site.time_zone == ZoneInfo("Asia/Kolkata")
    assert site.machines["a"].zone == ZoneInfo("Asia/Kolkata")


def test_a_url_is_no_path(folder: Path) -> None:
    url = "postgresql+pg8000://hall:secret@localhost/hall3"
    (folder / "hall3.toml").write_text(WHOLE.replace("hall3.db", url).replace('sounds = "kept/sounds"', ""))
    site = load(folder / "hall3.toml")
    assert site.state == url
    assert site.sounds == folder / "hall3-sounds"


def test_everything_that_is_wrong_is_told_at_once(folder: Path) -> None:
    found = faults(
        folder,
        """
nam = "Hall 3"
path = "x"
time_zone = "Europe/Berlim"
keep_windows = "14 dayz"
keep_sounds = "5 XB"
[defaults]
false_alerts = "1 pro 30 days"
widow = 5
[machines.pump]
detector = "detectors"
source = { kind = "replay", foldr = "recordings", speed = "max" }
pauses = ["Sat - Mon"]
began = "never"
zone = "x"
[machines."a/b"]
detector = "detector"
source = { kind = "foldr" }
no_sound_after = -1
[machines.c]
source = { kind = "replay", folder = "recordings", began = "none" }
[machines.d]
detector = 3
source = "recordings"
[sinks.pager]
kind = "jsonl"
paht = "x"
[serve]
prt = 1
port = 70000
""",
    )
    expected = {
        "nam": "no key 'nam'; did you mean 'name'?",
        "path": "no key 'path'.",
        "time_zone": "no time zone 'Europe/Berlim'; did you mean 'Europe/Berlin'?",
        "keep_windows": "'14 dayz' is no length of time",
        "keep_sounds": "'5 XB' is no size",
        "defaults.false_alerts": "false alerts '1 pro 30 days': expected a rate",
        "defaults.widow": "no key 'widow'; did you mean 'window'?",
        "machines.pump.detector": f"{folder / 'detectors'}: no detector here",
        "machines.pump.source": "folder: is missing; no source key 'foldr'; did you mean 'folder'? There are: "
        "folder, speed",
        "machines.pump.pauses": "pause 'Sat - Mon': cannot be read",
        "machines.pump.began": "began='never': must be bext",
        "machines.pump.zone": "no key 'zone'.",
        "machines.a/b.name": "'a/b' is no name here",
        "machines.a/b.source": "no kind of source 'foldr'; did you mean 'folder'?",
        "machines.a/b.no_sound_after": "-1: must be a time above 0",
        "machines.c.detector": "is missing",
        "machines.c.source": "began: a key of the machine, not of its source",
        "machines.d.detector": "must be a path",
        "machines.d.source": "must be a table",
        "sinks.pager": "path: is missing; no sink key 'paht'; did you mean 'path'?",
        "serve.prt": "no key 'prt'; did you mean 'port'?",
        "serve.port": "must be less than or equal to 65535",
    }  # fmt: skip
    told = dict(line.split(": ", 1) for line in found)
    assert {*told} == {*expected}
    assert len(found) == len(told)
    for place, message in expected.items():
        assert message in told[place], place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "machines: is missing"),
        ("machines = 3", "machines: must be a table"),
        ("machines = {}", "machines: there is none"),
        ("[machines]\na = 1", "machines.a: must be a table"),
    ],
)
def test_a_site_has_machines(folder: Path, text: str, message: str) -> None:
    assert any(line.startswith(message) for line in faults(folder, text))


def test_what_is_no_toml_or_not_there_is_told(folder: Path) -> None:
    assert "wrong.toml: not TOML" in str(_error(folder, "name = "))
    with pytest.raises(FileNotFoundError, match=r"none\.toml: no such file"):
        load(folder / "none.toml")


def _error(folder: Path, text: str) -> ValueError:
    (folder / "wrong.toml").write_text(text)
    with pytest.raises(ValueError, match="wrong") as error:
        load(folder / "wrong.toml")
    return error.value


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("recordings/fan", "recordings/fan"), "machines.pump-1 and machines.fan 2: hear the same folder"),
        (("recordings/fan", "recordings/../recordings/fan"), "hear the same folder"),
        (
            ("recordings", "recordings/fan/1"),
            "machines.pump-1 and machines.fan 2: hear folders of which one is in the other",
        ),
        (
            ("recordings/pump/1", "recordings"),
            "machines.fan 2 and machines.pump-1: hear folders of which one is in the other",
        ),
    ],
)
def test_nothing_is_heard_twice(folder: Path, folders: tuple[str, str], message: str) -> None:
    text = WHOLE
    for old, new in zip(("recordings/pump-1", "recordings/fan"), folders, strict=True):
        text = text.replace(f'"{old}"', f'"{new}"', 1)
    assert message in str(_error(folder, text))


def test_two_machines_have_not_one_stream(folder: Path) -> None:
    text = "\n".join(
        f'[machines.{name}]\ndetector = "detector"\nsource = {{ kind = "udp", rate = 16000 }}'
        for name in "ab"
    )
    assert "machines.a and machines.b: have the same source" in str(_error(folder, text))


def test_two_machines_have_not_one_port(folder: Path) -> None:
    """Whatever else they say of it."""
    text = "\n".join(
        f'[machines.{name}]\ndetector = "detector"\nsource = {{ kind = "tcp", port = 9000, silence = {number} }}'
        for number, name in enumerate("ab", 1)
    )
    assert "machines.a and machines.b: have the same source" in str(_error(folder, text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("state = 3", "state: must be a path or a URL, as text"),
        ("time_zone = 2", "time_zone: must be the name of a time zone"),
        ("defaults = 3", "defaults: must be a table"),
        ("name = 3", "name: must be text"),
    ],
)
def test_what_is_of_another_kind_is_told_in_plain_words(folder: Path, line: str, message: str) -> None:
    machine = '[machines.a]\ndetector = "detector"\nsource = { kind = "folder", folder = "a" }\n'
    heading, *faults = str(_error(folder, f"{line}\n{machine}")).splitlines()
    assert heading == "wrong.toml:"
    assert len(faults) == 1
    assert message in faults[0]


def test_what_is_kept_is_not_heard_again(folder: Path) -> None:
    text = WHOLE.replace("kept/sounds", "recordings/fan/kept")
    assert "what it keeps would be heard again" in str(_error(folder, text))


class Heard:
    """A detector, as far as a source asks it."""

    selected_channels = (3, 1)

    def pcm_format(self, rate: int | None, channels: int | None) -> tuple[int, int]:
        assert rate is channels is None
        return 48000, 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [("", (48000, 4)), (", rate = 16000", (16000, 4)), (", channels = 2", (48000, 2))],
)
def test_a_source_is_given_what_it_does_not_say(
    folder: Path, options: str, expected: tuple[int, int]
) -> None:
    (folder / "udp.toml").write_text(
        f'time_zone = "Europe/Berlin"\n[machines.a]\ndetector = "detector"\nsource = {{ kind = "udp"{options} }}\n'
    )
    detector: Any = Heard()
    source = load(folder / "udp.toml").machines["a"].make_source(detector)
    assert isinstance(source, Source)
    assert source.given == (*expected, "bext", BERLIN, (3, 1))


def test_an_absent_package_is_told_when_it_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_name: str, *, needed_by: str) -> Any:
        raise MissingPackageError(f"{needed_by} needs paho", name="paho")

    monkeypatch.setattr(sites, "resolve", absent)
    site = load(folder / "hall3.toml")  # which `serve` reads without it
    with pytest.raises(MissingPackageError, match="sink 'file'"):
        site.sinks["file"].make()
    with pytest.raises(MissingPackageError, match="source 'replay'"):
        site.machines["pump-1"].source.make()


def test_a_site_is_played_from_a_folder_for_each_machine(folder: Path) -> None:
    site = load(folder / "hall3.toml")
    played = replaying(site, folder / "recordings", speed="60", state=folder / "replay" / "x.db")
    options = [machine.source.options for machine in played.machines.values()]
    assert [one["folder"].name for one in options] == ["pump-1", "fan 2"]
    assert (played.sinks, played.sounds) == ({}, folder / "replay" / "x-sounds")
    source = played.machines["fan 2"].source.make()
    assert isinstance(source, Replay)
    assert source.speed == 60
    (folder / "recordings" / "fan 2").rmdir()
    with pytest.raises(FileNotFoundError, match=r"no folder for fan 2.*there are: fan, pump-1"):
        replaying(site, folder / "recordings", speed=1, state=folder / "x.db")
    with pytest.raises(ValueError, match="speed='fast': must be a number above 0"):
        played.machines["pump-1"].source.model_copy(
            update={"options": {"folder": folder, "speed": "fast"}}
        ).make()


def test_one_machine_is_played_from_its_own_folder(folder: Path) -> None:
    source = SourceSite.of({"kind": "replay", "folder": "x"})
    site = of_one(folder / "detector", source, name="fan", state=folder / "x.db")
    of_its_own = replaying(site, folder / "recordings" / "pump-1", speed=1, state=folder / "y.db")
    assert of_its_own.machines["fan"].source.options["folder"] == folder / "recordings" / "pump-1"
    by_name = replaying(site, folder / "recordings", speed=1, state=folder / "y.db")
    assert by_name.machines["fan"].source.options["folder"] == folder / "recordings" / "fan"


@pytest.mark.parametrize(
    ("text", "seconds"), [("10 min", 600), ("1.5h", 5400), ("2 weeks", 1209600), ("14 Days", 1209600)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "min", "-1 min", "0 s", "10 min 5 s", "1e3 s", "10 GB"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("5 GB", 5 * 10**9), ("1.5kb", 1500), ("2 tib", 2**41), ("0 B", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "GB", "-5 GB", "5 days"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        units.parse_size(text)


def test_the_zone_of_this_computer_changes_its_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TZ", raising=False)
    copied = tmp_path / "localtime"
    monkeypatch.setattr(units, "LOCAL_ZONE", copied)
    assert units.local_zone() is UTC
    for place in map(Path, zoneinfo.TZPATH):
        if (place / "Europe" / "Berlin").is_file():
            copied.write_bytes((place / "Europe" / "Berlin").read_bytes())
    if not copied.is_file():
        pytest.skip("no file of Europe/Berlin here")
    zone = units.local_zone()
    offsets = [datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
    assert offsets == [datetime(2026, month, 1, tzinfo=BERLIN).utcoffset() for month in (1, 7)]
    monkeypatch.setenv("TZ", "Nowhere/City")
    with pytest.raises(ValueError, match="no time zone 'Nowhere/City'"):
        units.local_zone()


@pytest.mark.parametrize("kind", ["[]", "{}", "1"])
def test_a_kind_that_is_no_name_is_told(tmp_path: Path, kind: str) -> None:
    (tmp_path / "site.toml").write_text(f'[machines]\n[sinks.file]\nkind = {kind}\npath = "told.jsonl"\n')
    with pytest.raises(ValueError, match=r"sinks\.file: no kind of sink"):
        load(tmp_path / "site.toml")
