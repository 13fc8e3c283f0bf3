"""A site with a logbook as a watcher leaves it: two machines, one detector, windows, an event and two alerts."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import synthetic

from nearfar.detector.fitted import Detector
from nearfar.listening.events import Event
from nearfar.logbook import conditions, heard
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.recordings.datasets import load_machine
from nearfar.serving import run
from nearfar.serving.app import make_app
from nearfar.serving.limits import Limits
from nearfar.systems import configuration
from nearfar.watching import site as sites
from nearfar.watching.site import Site

NOW = 1_800_000_000.0
BEGAN = NOW - 3600.0
SECONDS = 1.0  # of a window
ALERT_SOUND, EVENT_SOUND = "pump_anomaly-1.flac", "pump_event-1.flac"
SMALL: dict[str, Any] = {
    "branch.encoder_options.n_mels": 8,
    "branch.encoder_options.n_fft": 512,
    "branch.view": "near",
    "branch.pooling": "mean_std",
    "threshold.folds": 4,
    "threshold.false_alarm_rate": 0.1,
}
ACT = {"X-Nearfar": "1", "Content-Type": "application/json"}
FILE = {"X-Nearfar": "1", "Content-Type": "audio/wav"}
OPENED: list[Database] = []


def fitted(folder: Path) -> Path:
    """A detector of a few clips of a second."""
    synthetic.write_machine(folder / "data", "pump", train=12, target=4, test=1)
    system = configuration.load("spectral", SMALL)
    made = Detector.fit(load_machine(folder / "data" / "pump"), system)
    made.save(folder / "detector")
    return folder / "detector"


@dataclass
class Served:
    """A site whose logbook is open.

    Attributes
    ----------
    now : list of float
        The clock; tests set it.
    is_watched : bool
        Whether a watcher runs.
    """

    site: Site
    database: Database
    now: list[float] = field(default_factory=lambda: [NOW])
    is_watched: bool = True

    def app(self, **limits: Any) -> Any:
        """The application."""
        given = Limits(**limits) if limits else None
        return make_app(
            self.site,
            self.database,
            limits=given,
            now=lambda: self.now[0],
            is_watched=lambda _: self.is_watched,
        )


def make_site(folder: Path, detector: Path, *, serve: str = "") -> Site:
    """A site with two machines."""
    shutil.copytree(detector, folder / "detector")
    for name in ("pump", "fan"):
        (folder / "recordings" / name).mkdir(parents=True)
    (folder / "SITE.toml").write_text(
        f"""
name = "Hall 3"
state = "hall.db"
sounds = "sounds"
time_zone = "UTC"
[defaults]
detector = "detector"
[machines.pump]
source = {{ kind = "replay", folder = "recordings/pump" }}
[machines."fan 2"]
source = {{ kind = "replay", folder = "recordings/fan" }}
[serve]
port = 0
{serve}
""",
        encoding="utf-8",
    )
    (folder / "sounds").mkdir()
    return sites.load(folder / "SITE.toml")


def filled(folder: Path, detector: Path, *, serve: str = "") -> Served:
    """A site, and what was heard in its last hour."""
    site = make_site(folder, detector, serve=serve)
    audio.write(folder / "sounds" / ALERT_SOUND, synthetic.clip(71, faulty=True, seconds=3.0), synthetic.RATE)
    audio.write(folder / "sounds" / EVENT_SOUND, synthetic.clip(72, faulty=True), synthetic.RATE)
    database = Database.open(folder / "hall.db")
    OPENED.append(database)
    with database.writing() as c:
        for name in ("pump", "fan 2"):
            _hear(c, name, detector)
    return Served(site, database)


def told_of(name: str, detector: Path) -> heard.MachineTold:
    return heard.MachineTold(
        name=name, detector=str(detector), detector_digest="d" * 64, system="spectral", window_s=SECONDS,
        hop_s=SECONDS, threshold=3.0, false_alerts="1 per 30 days",
    )  # fmt: skip


def _hear(c: Any, name: str, detector: Path) -> None:
    machine = heard.open_machine(c, told_of(name, detector), now=BEGAN)
    heard.set_mode(c, machine.id, "listening", at=BEGAN, now=BEGAN)
    recording = heard.begin_recording(
        c,
        machine.id,
        key=f"{name}-1",
        name="1.wav",
        path=None,
        began_at=BEGAN,
        rate=16000,
        channels=2,
        now=BEGAN,
    )
    rows = [window(i, 1.0 + i % 7) for i in range(60)]
    heard.add_windows(c, machine.id, recording.id, rows)
    heard.save_progress(
        c, machine.id, recording.id, next_window=60, steps={}, now=BEGAN + 60,
        latest=heard.Latest(BEGAN + 60, rows[-1].score, "normal", 0.25, True),
    )  # fmt: skip
    if name != "pump":
        return
    heard.add_event(
        c, machine.id, recording.id, an_event(), began_at=BEGAN, sound=EVENT_SOUND, now=BEGAN + 30
    )
    for condition, sound in (("anomaly", ALERT_SOUND), ("no sound", None)):
        conditions.activate(
            c, machine.id, condition, at=BEGAN + 20, since=BEGAN + 12, message=f"{condition} of <b>pump</b>",
            now=BEGAN + 21, score=7.5 if sound else None, sound=sound,
        )  # fmt: skip


def window(number: int, score: float, *, began: float = BEGAN) -> heard.WindowRow:
    """A window that was heard."""
    return heard.WindowRow(
        number=number, begins_at=began + number * SECONDS, seconds=SECONDS, score=score, p_value=0.1,
        decision="normal",
    )  # fmt: skip


def an_event() -> Event:
    return Event(
        recording="1.wav", start=12.0, end=20.0, windows=8, anomalous=7, unusable=0, peak_score=7.5,
        p_value=0.01, peak_start=15.0, peak_end=16.0, microphones={"near": "ok", "far": "ok"}, branches=(),
        levels=None, before="normal", after="normal",
    )  # fmt: skip


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The application served at a free port of 127.0.0.1; gives its address."""
    listening, server = run.listen("127.0.0.1", 0), run.server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield run.address_of(listening)
    finally:
        server.should_exit = True
        thread.join()


def client(address: str, **headers: str) -> httpx.Client:
    """One who asks."""
    return httpx.Client(base_url=address, headers=headers, timeout=60.0)


_made: dict[str, Path] = {}


def the_detector(factory: Any) -> Path:
    """The detector of ``fitted``, made once for all modules of tests that run in this process."""
    if "detector" not in _made:
        _made["detector"] = fitted(factory.mktemp("served"))
    return _made["detector"]


def recording_of(detector: Path, *, label: str = "anomaly") -> Path:
    """A test recording of the machine that the detector was fitted to."""
    return next((detector.parent / "data" / "pump" / "test").glob(f"*_{label}_*"))


def until(true: Any, *, seconds: float = 60.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)
