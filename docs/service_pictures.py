"""Draw the pictures of the service, ``docs/images/service``: ``python docs/service_pictures.py``, by hand.

They are photographs of its pages in Chromium. The logbook of a hall of machines that do not exist is written, and
served. It needs the extra ``test``, and Chromium.
"""

from __future__ import annotations

import math
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nearfar.files.listing import DETECTOR
from nearfar.listening.events import Event
from nearfar.logbook import conditions, heard
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.serving import run
from nearfar.serving.app import make_app
from nearfar.watching import site as sites

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images" / "service"
WINDOW_S, THRESHOLD, HOURS = 10.0, 3.0, 26
NAMES = (
    "Compressor 1", "Compressor 2", "Conveyor A", "Conveyor B", "Fan north", "Fan south", "Gearbox 1", "Gearbox 2",
    "Pump 1", "Pump 2", "Pump 3", "Vacuum pump",
)  # fmt: skip
FAULTY, SILENT, DEAF, PAUSED, REPAIRED, KNOWN = (
    "Pump 2",
    "Fan south",
    "Conveyor B",
    "Gearbox 2",
    "Conveyor A",
    "Compressor 2",
)
ONSET_S = 2700.0  # of the fault, before now
WORDS = (
    "Anomaly: between 1.4 and 1.9 kHz the near microphone is 11 dB louder than in any normal recording.",
    "Fewer than 1 of 1,000 normal windows would score as high.",
    "Also its loudness there swells 24.6 times a second.",
)
SHOTS = (  # file, path, width, height, colours
    ("hall.png", "/", 1280, 760, "light"),
    ("machine.png", "/machines/Pump%202", 1280, 1000, "light"),
    ("alerts.png", "/alerts", 1280, 900, "dark"),
    ("phone.png", "/machines/Pump%202", 390, 844, "dark"),
)


def main() -> None:
    """Write a logbook, serve it, photograph it."""
    with tempfile.TemporaryDirectory() as folder:
        site = write_site(Path(folder))
        database = Database.open(site.state)
        write_logbook(database, Path(folder))
        listening = run.listen("127.0.0.1", 0)
        server = run.server_of(make_app(site, database, is_watched=lambda _: True))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            photograph(run.address_of(listening).rstrip("/"))
        finally:
            server.should_exit = True
            thread.join()
            database.close()


def write_site(folder: Path) -> sites.Site:
    """A site whose detector nobody loads."""
    (folder / "detector").mkdir()
    (folder / "detector" / DETECTOR).write_text("{}")
    (folder / "sounds").mkdir()
    told = [
        'name = "Hall 3"',
        'state = "hall.db"',
        'sounds = "sounds"',
        "[defaults]",
        'detector = "detector"',
    ]
    for number, name in enumerate(NAMES):
        told += [f'[machines."{name}"]', f'source = {{ kind = "replay", folder = "recordings/{number}" }}']
    (folder / "SITE.toml").write_text("\n".join(told))
    return sites.load(folder / "SITE.toml")


def write_logbook(database: Database, folder: Path) -> None:
    """A day of all machines; what is wrong is wrong now."""
    now = time.time()
    with database.writing() as c:
        ids = {name: hear(c, name, number, now) for number, name in enumerate(NAMES)}
        write_trouble(c, ids, folder, now)


def hear(c: Any, name: str, seed: int, now: float) -> int:
    """The windows of a machine until now."""
    rng = np.random.default_rng(seed)
    told = heard.MachineTold(
        name=name, detector="detector", detector_digest=f"{seed:02x}" * 32, system="spectral", window_s=WINDOW_S,
        hop_s=WINDOW_S, threshold=THRESHOLD, false_alerts="1 per 30 days",
    )  # fmt: skip
    count = int(HOURS * 3600 / WINDOW_S)
    began = now - count * WINDOW_S
    machine = heard.open_machine(c, told, now=began)
    heard.set_mode(c, machine.id, "listening", at=began, now=began)
    recording = heard.begin_recording(
        c, machine.id, key="1", name="live", path=None, began_at=began, rate=16000, channels=2, now=began
    )
    rows = [window_at(name, number, began, now, seed, rng) for number in range(count)]
    if name == SILENT:
        rows = [row for row in rows if row.begins_at < now - 1500]
    heard.add_windows(c, machine.id, recording.id, rows)
    last = rows[-1]
    latest = heard.Latest(last.begins_at + WINDOW_S, last.score, last.decision, last.evidence or 0.0, True)
    heard.save_progress(c, machine.id, recording.id, next_window=count, steps={}, latest=latest, now=now)
    if name == FAULTY:
        for ago, seconds, score in ((ONSET_S, ONSET_S - 10, 6.9), (41000.0, 20.0, 3.2)):
            event = Event(
                "live", 0.0, seconds, int(seconds / 10), int(seconds / 10), 0, score, 0.001, 0.0, 10.0,
                {"near": "ok", "far": "ok"},
            )  # fmt: skip
            heard.add_event(
                c, machine.id, recording.id, event, began_at=now - ago, sound="alert.flac", now=now
            )
    return machine.id


def window_at(
    name: str, number: int, began: float, now: float, seed: int, rng: np.random.Generator
) -> heard.WindowRow:
    """One window: a slow swing, noise, and the fault."""
    at = began + number * WINDOW_S
    score = (
        1.3
        + 0.3 * math.sin(at / 9000 + seed)
        + 0.12 * math.sin(at / 1700)
        + 0.18 * float(rng.standard_normal())
    )
    grown = min(max((at - now + ONSET_S) / 900, 0.0), 1.0) if name == FAULTY else 0.0
    score += 4.2 * grown
    paused = name in (PAUSED, FAULTY) and 0 <= (at - now + 50000) < 5400
    unusable = name == DEAF and at > now - 900
    decision = (
        "paused" if paused else "unusable" if unusable else "anomaly" if score > THRESHOLD else "normal"
    )
    evidence = min(1.0, 0.04 + 0.02 * abs(math.sin(at / 600)) + 1.6 * grown)
    return heard.WindowRow(
        number, at, WINDOW_S, None if paused or unusable else score, 0.1, decision, evidence=evidence
    )


def write_trouble(c: Any, ids: dict[str, int], folder: Path, now: float) -> None:
    """One of each kind."""
    audio.write(folder / "sounds" / "alert.flac", rattle(), 16000)
    began = now - ONSET_S + 300
    alert = conditions.activate(
        c, ids[FAULTY], "anomaly", at=began, since=now - ONSET_S, score=6.9, sound="alert.flac", now=now,
        message="It sounds unlike its normal recordings.",
    )  # fmt: skip
    assert alert is not None
    conditions.add_evidence(c, alert, at=began, now=now, evidence={"words": list(WORDS), "reasons": []})
    conditions.comment(
        c, alert, now=now - 600, by="Anna Weber", comment="Heard it, too. Looking at the bearing."
    )
    conditions.activate(
        c, ids[SILENT], "no sound", at=now - 900, since=now - 1500, now=now,
        message="No sound for 10 minutes. Does the recorder run?",
    )  # fmt: skip
    heard.set_mode(c, ids[SILENT], "no sound", at=now - 900, now=now)
    deaf = conditions.activate(
        c,
        ids[DEAF],
        "microphones",
        at=now - 840,
        since=now - 900,
        message="The far microphone is silent.",
        now=now,
    )
    assert deaf is not None
    conditions.acknowledge(c, deaf, now=now - 500, by="Ben Klein", comment="Cable.")
    known = conditions.activate(
        c,
        ids[KNOWN],
        "anomaly",
        at=now - 80000,
        since=now - 80300,
        message="It sounds unlike its normal recordings.",
        now=now,
    )
    assert known is not None
    conditions.acknowledge(c, known, now=now - 79000, by="Ben Klein", comment="Spare part is ordered.")
    conditions.shelve(
        c, ids[KNOWN], "anomaly", now=now, by="Ben Klein", until=now + 6 * 3600, comment="Known."
    )
    heard.set_mode(c, ids[PAUSED], "paused", at=now - 5000, now=now)
    conditions.take_out_of_service(
        c, ids[REPAIRED], "anomaly", now=now, by="Anna Weber", comment="Being repaired."
    )


def rattle() -> audio.Samples:
    """Ten seconds of something."""
    rng = np.random.default_rng(1)
    return (0.05 * rng.standard_normal((2, 160000))).astype(np.float32)


def photograph(address: str) -> None:
    """Take all pictures."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browsing import ARGUMENTS, CHROMIUM
    from playwright.sync_api import sync_playwright

    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for file, path, width, height, scheme in SHOTS:
            tab = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme
            ).new_page()
            tab.goto(address + path)
            tab.wait_for_selector("#connection[data-state=live]")
            tab.wait_for_timeout(2500)  # trends are drawn
            tab.screenshot(path=OUT / file)
            Image.open(OUT / file).convert("RGB").save(OUT / file, optimize=True)
            print(f"wrote {OUT / file}, {(OUT / file).stat().st_size / 1024:.0f} KiB")
        browser.close()


if __name__ == "__main__":
    main()
