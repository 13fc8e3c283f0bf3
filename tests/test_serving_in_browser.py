"""The pages of the service as people use them: in a browser, by mouse and keyboard, while the logbook goes on.

Everything is real but the watcher: the service, its logbook, the sounds, the evidence. What a watcher would write,
the tests write.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import synthetic
from browsing import ARGUMENTS, CHROMIUM, CONTRASTS, poor_contrasts

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import served  # noqa: E402

from nearfar.files.listing import DETECTOR  # noqa: E402
from nearfar.logbook import asked, conditions, heard, tokens  # noqa: E402
from nearfar.logbook.database import Database  # noqa: E402
from nearfar.recordings import audio  # noqa: E402
from nearfar.serving import run  # noqa: E402
from nearfar.serving.app import make_app  # noqa: E402
from nearfar.watching import site as sites  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
WIDTHS = (360, 1280, 1920)
HOSTILE = "<img src=x onerror=alert(1)>\"' & co"  # as far as a name of a machine may go
WINDOW_S = 10.0
THRESHOLD = 3.0
HOURS = 3  # of windows of each machine
WORDS = [
    "Anomaly: louder than any normal clip at 1.6 kHz.",
    "Also at 3.2 kHz.",
    "Also at 400 Hz.",
    "The far microphone is fine.",
]
PATIENCE = 20_000  # ms: this computer may have other work
MOST_SHIFT = 0.05  # Cumulative Layout Shift; good is below 0.1 (web.dev/articles/cls)


@dataclass
class Hall:
    """A site that is served, and can be served again at the same address.

    Attributes
    ----------
    ids : dict
        Numbers of machines, by name.
    """

    folder: Path
    names: tuple[str, ...]
    detector: Path
    ids: dict[str, int] = field(default_factory=dict)
    port: int = 0
    is_watched: bool = True
    _running: tuple[Any, threading.Thread, Database] | None = None

    def start(self) -> None:
        """Serve."""
        site = sites.load(self.folder / "SITE.toml")
        database = Database.open(site.state)
        listening = run.listen("127.0.0.1", self.port)
        self.port = listening.getsockname()[1]
        server = run.server_of(make_app(site, database, is_watched=lambda _: self.is_watched))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        self._running = (server, thread, database)

    def stop(self) -> None:
        """End, as at a restart."""
        assert self._running is not None
        server, thread, database = self._running
        server.should_exit = True
        thread.join()
        database.close()
        self._running = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Database:
        assert self._running is not None
        return self._running[2]

    def alert(self, name: str, *, sound: bool = True, message: str = "Sounds unlike normal.") -> int:
        """An anomaly becomes active now."""
        now = time.time()
        file = f"{self.ids[name]}-{now:.6f}.flac"
        if sound:
            samples = synthetic.clip(71, faulty=True, seconds=3.0)
            audio.write(self.folder / "sounds" / file, samples, synthetic.RATE)
        with self.database.writing() as c:
            found = conditions.activate(
                c, self.ids[name], "anomaly", at=now, since=now - 60, message=message, now=now, score=7.5,
                sound=file if sound else None,
            )  # fmt: skip
        assert found is not None
        return found

    def found(self, alert_id: int) -> dict[str, Any]:
        """An alert as the logbook has it."""
        with self.database.reading() as c:
            row = asked.alert(c, alert_id)
        assert row is not None
        return row


def made_hall(folder: Path, detector: Path, names: tuple[str, ...], *, hours: float = HOURS) -> Hall:
    """A site whose machines were heard until now, and are normal."""
    folder.mkdir(exist_ok=True)
    (folder / "sounds").mkdir()
    machines = "".join(
        f'[machines.{_toml(name)}]\nsource = {{ kind = "replay", folder = "recordings/{number}" }}\n'
        for number, name in enumerate(names)
    )
    (folder / "SITE.toml").write_text(
        'name = "Hall 3"\nstate = "hall.db"\nsounds = "sounds"\ntime_zone = "UTC"\n'
        f"[defaults]\ndetector = {_toml(str(detector))}\n{machines}",
        encoding="utf-8",
    )
    made = Hall(folder, names, detector)
    database = Database.open(folder / "hall.db")
    now = time.time()
    with database.writing() as c:
        made.ids = {name: _hear(c, name, detector, now, hours) for name in names}
    database.close()
    return made


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hear(c: Any, name: str, detector: Path, now: float, hours: float) -> int:
    count = int(hours * 3600 / WINDOW_S)
    began = now - count * WINDOW_S
    told = heard.MachineTold(
        name=name, detector=str(detector), detector_digest="3f" * 32, system="spectral", window_s=WINDOW_S,
        hop_s=WINDOW_S, threshold=THRESHOLD, false_alerts="1 per 30 days",
    )  # fmt: skip
    machine = heard.open_machine(c, told, now=began)
    heard.set_mode(c, machine.id, "listening", at=began, now=began)
    recording = heard.begin_recording(
        c, machine.id, key="1", name="1.wav", path=None, began_at=began, rate=16000, channels=2, now=began
    )
    rows = [
        replace(served.window(n, 0.0), begins_at=began + n * WINDOW_S, seconds=WINDOW_S) for n in range(count)
    ]
    for number, row in enumerate(rows):
        unusable = 20 <= number < 30
        told = {"decision": "unusable", "score": None} if unusable else {"score": 1.0 + number % 7 / 10}
        rows[number] = replace(row, evidence=0.1, **told)
    heard.add_windows(c, machine.id, recording.id, rows)
    heard.save_progress(
        c, machine.id, recording.id, next_window=count, steps={}, now=now,
        latest=heard.Latest(now, 1.2, "normal", 0.1, True),
    )  # fmt: skip
    return machine.id


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a detector that nobody loads."""
    folder = tmp_path_factory.mktemp("detector")
    (folder / DETECTOR).write_text("{}")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, detector: Path) -> Iterator[Hall]:
    """A hall where much is going on, which tests only look at."""
    names = ("pump", "fan 2", "valve", "gearbox", HOSTILE)
    made = made_hall(tmp_path_factory.mktemp("busy") / "hall", detector, names)
    made.start()
    now = time.time()
    first, hostile = made.alert("pump"), made.alert(HOSTILE, message=f"Unlike normal: {HOSTILE}")
    with made.database.writing() as c:
        ids = made.ids
        evidence = {"words": WORDS, "reasons": []}
        conditions.add_evidence(c, first, at=now, now=now, evidence=evidence)
        conditions.comment(c, hostile, now=now, by=HOSTILE[:40], comment=f"Seen: {HOSTILE}")
        conditions.activate(
            c, ids["valve"], "no sound", at=now - 900, since=now - 1500, message="No sound.", now=now
        )
        heard.set_mode(c, ids["valve"], "no sound", at=now - 900, now=now)
        conditions.take_out_of_service(
            c, ids["gearbox"], "anomaly", now=now, by="Anna", comment="Being repaired."
        )
        recording = heard.begin_recording(
            c,
            ids["pump"],
            key="2",
            name="2.wav",
            path=None,
            began_at=now - 600,
            rate=16000,
            channels=2,
            now=now,
        )
        (made.folder / "sounds" / "event.flac").write_bytes(
            next((made.folder / "sounds").glob("*.flac")).read_bytes()
        )
        heard.add_event(
            c, ids["pump"], recording.id, served.an_event(), began_at=now - 600, sound="event.flac", now=now
        )
    yield made
    made.stop()


@pytest.fixture(scope="module")
def port() -> int:
    """One for all halls but the busy one, of which there is one at a time."""
    with run.listen("127.0.0.1", 0) as free:
        return free.getsockname()[1]


@pytest.fixture
def serve(tmp_path: Path, port: int) -> Iterator[Callable[..., Hall]]:
    """Serves a hall of one test."""
    made: list[Hall] = []

    def start(detector: Path, names: tuple[str, ...], *, hours: float) -> Hall:
        made.append(made_hall(tmp_path / "hall", detector, names, hours=hours))
        made[-1].port = port
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()


@pytest.fixture
def quiet(serve: Callable[..., Hall], detector: Path) -> Hall:
    """A hall where nothing is wrong yet, of one test."""
    return serve(detector, ("pump", "fan 2", "valve"), hours=1)


@dataclass
class Opened:
    """A page in the tab, and what it did."""

    tab: Any
    hall: Hall
    path: str
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _heard: dict[str, Callable[[Any], None]] = field(default_factory=dict)

    def listen(self) -> None:
        """Note what it says and asks for."""
        self._heard = {
            "console": lambda message: self.messages.append(f"{message.type}: {message.text}"),
            "pageerror": lambda error: self.messages.append(str(error)),
            "dialog": lambda dialog: (self.messages.append(f"dialog: {dialog.message}"), dialog.dismiss()),
            "request": lambda request: self.requests.append(request.url),
        }
        for name, note in self._heard.items():
            self.tab.on(name, note)

    def end(self) -> None:
        """Leave it. Nothing was said on its console, and nobody else was asked."""
        for other in self.tab.context.pages:
            if other != self.tab:
                other.close()
        self.tab.goto(self.hall.address + "/static/icon.svg")
        for name, note in self._heard.items():
            self.tab.remove_listener(name, note)
        assert not self.messages
        assert {urlsplit(url).netloc for url in self.requests if not url.startswith("data:")} == {
            urlsplit(self.hall.address).netloc
        }

    def text(self, selector: str) -> str:
        return self.tab.locator(selector).inner_text()

    def sees(self, selector: str, text: str | re.Pattern[str]) -> None:
        """Wait until it says that."""
        playwright.expect(self.tab.locator(selector)).to_contain_text(text, timeout=PATIENCE)


@dataclass
class Tab:
    """The one tab in which all pages are opened: for a new one a browser computes for a second.

    So it does whenever the address changes: the pages say that they share nothing (Cross-Origin-Opener-Policy).
    """

    tab: Any

    def __post_init__(self) -> None:
        self.tab.set_default_timeout(PATIENCE)
        self.protocol = self.tab.context.new_cdp_session(self.tab)

    @contextmanager
    def opened(
        self, hall: Hall, path: str = "/", *, height: int = 900, scripts: bool = True
    ) -> Iterator[Opened]:
        """A page in it, as if it had seen none before."""
        self.tab.context.clear_cookies()
        self.protocol.send("Network.clearBrowserCache")
        self.protocol.send("Storage.clearDataForOrigin", {"origin": hall.address, "storageTypes": "all"})
        self.protocol.send("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.tab.set_viewport_size({"width": 1280, "height": height})
        self.tab.emulate_media(color_scheme="light")
        found = Opened(self.tab, hall, path)
        found.listen()
        self.tab.goto(hall.address + path)
        yield found
        found.end()


@pytest.fixture(scope="module")
def tab(browser: Any) -> Tab:
    return Tab(browser.new_context(timezone_id="Europe/Berlin").new_page())


@pytest.fixture
def opened(tab: Tab) -> Iterator[Callable[..., Opened]]:
    """Opens one page, and ends it."""
    with ExitStack() as made:
        yield lambda *args, **options: made.enter_context(tab.opened(*args, **options))


VIEWS = ("/", "/alerts?state=all", "/machines/pump", f"/machines/{quote(HOSTILE, safe='')}")


@pytest.fixture(scope="class", params=VIEWS)
def view(request: pytest.FixtureRequest, busy: Hall, tab: Tab) -> Iterator[Opened]:
    """Opened once for all checks of a view that leave it as it is."""
    with tab.opened(busy, request.param) as found:
        found.sees("#connection", "live")
        if request.param == "/":
            found.tab.wait_for_selector(".spark svg")
        if request.param.startswith("/machines"):
            found.tab.wait_for_selector("#trend .mean")
        yield found


class TestEveryView:
    def test_nothing_jumps_while_it_loads(self, view):
        shift = view.tab.evaluate(
            """() => new Promise((done) => {
              let sum = 0;
              const add = (list) => list.getEntries().forEach((one) => { sum += one.value; });
              new PerformanceObserver(add).observe({ type: 'layout-shift', buffered: true });
              requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(sum), 50)));
            })"""
        )
        assert shift < MOST_SHIFT

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_can_be_read(self, view, scheme):
        view.tab.emulate_media(color_scheme=scheme)
        assert len(view.tab.evaluate(CONTRASTS)) > 15
        assert not poor_contrasts(view.tab)

    @pytest.mark.parametrize("width", WIDTHS)
    def test_it_fits_its_window(self, view, width):
        view.tab.set_viewport_size({"width": width, "height": 800})
        assert view.tab.evaluate("document.documentElement.scrollWidth") <= width
        cut = view.tab.evaluate(
            """[...document.querySelectorAll('main button, main a, main audio, main p, main svg')].filter((one) => {
              const box = one.getBoundingClientRect();
              return one.checkVisibility() && box.width > 1 && (box.left < -1 || box.right > innerWidth + 1);
            }).map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert not cut

    def test_screen_readers_find_names_and_landmarks(self, view):
        nameless = view.tab.evaluate(
            """() => {
              const all = document.querySelectorAll(
                'a[href], button, input, select, textarea, audio, dialog, svg[tabindex], [role=group], [role=img]');
              return [...all].filter((e) => {
                const by = document.getElementById(e.getAttribute('aria-labelledby'))?.textContent;
                const name = e.getAttribute('aria-label') || by || e.labels?.[0]?.textContent || e.textContent;
                return !name.trim();
              }).map((e) => e.outerHTML.slice(0, 100));
            }"""
        )
        assert not nameless
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert view.tab.get_by_role(landmark).count() == 1, landmark
        assert view.tab.get_by_role("heading", level=1).count() == 1
        levels = view.tab.evaluate(
            "[...document.querySelectorAll(':is(h1, h2, h3):not(dialog *)')].map((e) => Number(e.localName[1]))"
        )
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert view.tab.locator("table th:not([scope])").count() == 0
        ids = view.tab.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))

    def test_the_keyboard_reaches_all_in_order_and_shows_where_it_is(self, view):
        view.tab.evaluate("document.activeElement.blur()")
        view.tab.keyboard.press("Tab")
        assert view.tab.evaluate("document.activeElement.className") == "skip"
        assert view.tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        view.tab.keyboard.press("Enter")
        assert view.tab.evaluate("document.activeElement.id") == "main"
        stops = view.tab.evaluate(
            """() => {
              const all = document.querySelectorAll(
                'a[href], button, audio, select, input, summary, [tabindex="0"]');
              const seen = [...all].filter((e) => e.checkVisibility() && e.tabIndex >= 0 && !e.closest('.skip'));
              return seen.map((e) => {
                e.focus({ focusVisible: true });
                const styles = [getComputedStyle(e), getComputedStyle(e, '::after')];
                const shown = styles.some((one) => one.outlineStyle !== 'none');
                return [e.outerHTML.slice(0, 80), document.activeElement === e, shown];
              });
            }"""
        )
        assert len(stops) > 6
        assert not [name for name, focused, shown in stops if not (focused and shown)]
        assert not view.tab.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count()

    def test_no_name_becomes_markup(self, view):
        assert view.tab.locator("img").count() == 0
        assert (HOSTILE in view.tab.evaluate("document.body.textContent")) == (view.path != "/machines/pump")


class TestWithoutScripts:
    def test_all_is_there_to_read(self, busy, opened):
        found = opened(busy, scripts=False)
        for path in VIEWS:
            found.tab.goto(busy.address + path)
            text = found.text("main")
            assert "pump" in text or HOSTILE in text, path
            assert "UTC" in text, path
            assert not found.tab.locator("[data-act], [data-needs-script]").filter(visible=True).count(), path
            assert not found.tab.evaluate("document.documentElement.scrollWidth > innerWidth"), path


@pytest.fixture(scope="class")
def hall(busy: Hall, tab: Tab) -> Iterator[Opened]:
    """Opened once for what is only looked at."""
    with tab.opened(busy) as found:
        yield found


class TestHall:
    def test_trouble_comes_first_and_is_told_by_words_and_shapes(self, hall):
        states = hall.tab.locator(".machine .state").all_inner_texts()
        assert [state.split("\n")[0] for state in states] == [
            "Anomaly not acknowledged",
            "Anomaly not acknowledged",
            "No sound not acknowledged",
            "Out of service",
            "Normal",
        ]
        shapes = hall.tab.locator(".machine .sign").evaluate_all("(all) => all.map((svg) => svg.innerHTML)")
        assert len(set(shapes)) == len(set(states))
        assert hall.tab.title() == "(3) Hall · Hall 3"
        assert hall.text("#waiting").startswith("3")

    def test_each_machine_has_its_trend_and_its_threshold(self, hall):
        playwright.expect(hall.tab.locator(".spark svg .line")).to_have_count(5, timeout=PATIENCE)
        label = hall.tab.locator(".machine[data-name='fan%202'] .spark").get_attribute("aria-label")
        assert label == "Trend of 24 hours: never above the threshold"
        asked_for = [url for url in hall.requests if "/scores?" in url]
        assert len(asked_for) == 5

    def test_times_are_of_the_zone_of_the_browser(self, busy, hall):
        with busy.database.reading() as c:
            since = asked.alerts(c, state="retained", machine_id=busy.ids["pump"], most=1)[0]["began_at"]
        shown = hall.tab.evaluate(
            """(at) => new Date(at * 1000).toLocaleTimeString(
              'en-GB', { hour: '2-digit', minute: '2-digit', timeZone: 'Europe/Berlin' })""",
            since,
        )
        hall.sees(".machine[data-name='pump'] .since", f"since {shown}")
        title = hall.tab.locator(".machine[data-name='pump'] time").get_attribute("title")
        assert re.search(r"\d{4}.*\d\d:\d\d:\d\d", title)


class TestFilter:
    def test_it_is_filtered_by_name_and_state_and_the_address_says_so(self, busy, opened):
        found = opened(busy)
        found.tab.get_by_label("Name contains").fill("PU")
        shown = found.tab.locator(".machine h2").filter(visible=True)
        assert shown.all_inner_texts() == ["pump"]
        found.tab.get_by_label("Name contains").fill("")
        found.tab.get_by_role("button", name="Out of service").click()
        assert shown.all_inner_texts() == ["gearbox"]
        assert found.tab.url.endswith("#state=out-of-service")
        found.tab.reload()
        playwright.expect(shown).to_have_count(1)
        found.tab.get_by_label("Name contains").fill("nothing like it")
        found.tab.get_by_role("button", name="Show all").click()
        playwright.expect(shown).to_have_count(5)


@pytest.fixture(scope="class")
def page(busy: Hall, tab: Tab) -> Iterator[Opened]:
    """Opened once for all that has to do with one machine."""
    with tab.opened(busy, "/machines/pump") as found:
        yield found


class TestMachine:
    @pytest.fixture
    def pump(self, page: Opened) -> Opened:
        """The page, with the whole trend."""
        page.tab.get_by_role("button", name="All").click()
        page.tab.wait_for_selector("#trend .mean")
        return page

    def test_the_trend_is_read_and_zoomed_by_the_keyboard(self, pump):
        chart = pump.tab.locator(".trend-plot")
        chart.focus()
        pump.tab.keyboard.press("End")
        pump.tab.keyboard.press("ArrowLeft")  # how many windows the last point has depends on the clock
        told = r"\d\d:\d\d: mean 1\.\d+, from 1(\.\d)? to 1\.\d, \d+ windows; evidence 10 %"
        pump.sees("#trend output", re.compile(told))
        before = chart.get_attribute("aria-label")
        with pump.tab.expect_request(lambda request: "/scores?" in request.url):
            pump.tab.keyboard.press("+")
        assert chart.get_attribute("aria-label") != before
        with pump.tab.expect_request(lambda request: "/scores?" in request.url) as waiting:
            pump.tab.keyboard.press("0")
        assert "begin=" not in waiting.value.url
        pump.sees("#trend [aria-pressed=true]", "All")

    def test_a_span_is_chosen_by_buttons_and_by_drawing_over_it(self, pump):
        with pump.tab.expect_response(lambda answer: "/scores?" in answer.url) as waiting:
            pump.tab.get_by_role("button", name="1 hour").click()
        hour = waiting.value.json()["points"]
        assert {point["windows"] for point in hour} <= {1, 2, 3}
        pump.tab.wait_for_timeout(100)
        box = pump.tab.locator(".trend-plot").bounding_box()
        middle = box["y"] + box["height"] / 2
        pump.tab.mouse.move(box["x"] + box["width"] * 0.5, middle)
        pump.tab.mouse.down()
        pump.tab.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
        with pump.tab.expect_request(lambda request: "/scores?" in request.url) as waiting:
            pump.tab.mouse.up()
        begin, end = (float(re.search(rf"{key}=([\d.]+)", waiting.value.url)[1]) for key in ("begin", "end"))
        width = box["width"] - 54 - 14  # margins of the plot
        assert end - begin == pytest.approx(3600 * 0.1 * box["width"] / width, rel=0.02)

    def test_what_could_not_be_used_is_marked(self, pump):
        assert pump.tab.locator("#trend .unusable").count() >= 1
        assert pump.tab.locator("#trend [data-event]").count() == 1
        assert "unusable" in pump.text("#trend .legend")

    def test_an_event_plays_and_is_marked_normal(self, pump):
        row = pump.tab.locator("table.events tbody tr")
        assert plays(row.locator("audio")) > 0.1
        row.get_by_role("button", name="This was normal").click()
        pump.tab.locator("#ask-by").fill("Anna")
        pump.tab.locator("#ask [data-submit]").click()
        pump.sees("#toasts", "Marked as normal")
        pump.sees(".learn", "1 recording marked normal is not learnt yet")


class TestOtherPages:
    def test_an_unknown_machine_is_said(self, busy, opened):
        found = opened(busy, "/machines/nobody")
        assert "no machine of that name" in found.text("main")
        found.messages.clear()  # that it is not found

    @pytest.mark.slow
    def test_evidence_opens_and_says_nothing_on_the_console(self, tmp_path_factory, serve, opened):
        hall = serve(served.the_detector(tmp_path_factory), ("pump",), hours=0.1)
        hall.alert("pump")
        found = opened(hall, "/machines/pump")
        with found.tab.context.expect_page(timeout=60_000) as waiting:
            found.tab.locator("article.alert").get_by_role("link", name="Evidence").click()
        said: list[str] = []
        waiting.value.on("console", lambda message: said.append(message.text))
        waiting.value.wait_for_selector("svg.chart", timeout=60_000)
        assert waiting.value.locator("h1").count() == 1
        assert not said


def plays(audio: Any) -> float:
    """Play a sound; the seconds of it that were heard."""
    return audio.first.evaluate(
        """async (audio) => {
          audio.muted = true;
          await audio.play();
          await new Promise((done) => { audio.ontimeupdate = () => audio.currentTime > 0.1 && done(); });
          audio.pause();
          return audio.currentTime;
        }"""
    )


class TestOperator:
    def test_an_alert_arrives_is_heard_acknowledged_shelved_and_found_after_a_restart(self, quiet, opened):
        found = opened(quiet)
        found.sees("#connection", "live")
        found.sees(".machine[data-name='pump'] .state", "Normal")
        assert found.tab.title() == "Hall · Hall 3"
        found.tab.evaluate("window.notReloaded = true")
        alert = quiet.alert("pump", message="Sounds unlike normal: louder at 1.6 kHz.")
        found.sees(".machine[data-name='pump'] .state", "Anomaly not acknowledged")
        found.sees("#said", "Alert at pump: Sounds unlike normal: louder at 1.6 kHz.")
        assert found.tab.locator(".machine h2").first.inner_text() == "pump"
        assert found.tab.title() == "(1) Hall · Hall 3"
        assert found.tab.evaluate("window.notReloaded")

        found.tab.get_by_role("navigation").get_by_role("link", name="Alerts").click()
        card = found.tab.locator(f"#alert-{alert}")
        assert plays(card.locator("audio")) > 0.1
        card.get_by_role("button", name="Acknowledge").click()
        found.tab.locator("#ask-by").fill("Anna Weber")
        found.tab.locator("#ask-comment").fill("On my way.")
        found.tab.locator("#ask [data-submit]").click()
        found.sees(f"#alert-{alert} .standing", "Active, acknowledged")
        assert found.tab.title() == "Alerts · Hall 3"
        assert quiet.found(alert)["acked"]

        card.get_by_role("button", name="Shelve").click()
        assert not found.tab.locator("#ask-by").is_visible()  # it is remembered
        found.tab.get_by_label("8 hours").check()
        found.tab.locator("#ask [data-submit]").click()
        found.sees(f"#alert-{alert} .standing", "shelved until")
        found.tab.get_by_role("button", name="Undo").click()
        playwright.expect(card.locator(".standing")).not_to_contain_text("shelved", timeout=PATIENCE)
        card.get_by_role("button", name="Shelve").click()
        found.tab.get_by_label("8 hours").check()
        found.tab.locator("#ask [data-submit]").click()
        found.sees(f"#alert-{alert} .standing", "shelved until")

        assert not found.messages
        quiet.stop()
        found.sees("#connection", "not connected since")
        quiet.start()
        found.sees("#connection", "live")
        assert all("ERR_" in message for message in found.messages)  # the browser says that nobody answered
        found.messages.clear()
        found.tab.reload()
        found.sees(f"#alert-{alert} .standing", re.compile("Active, acknowledged, shelved until"))
        found.tab.locator(f"#alert-{alert} .history summary").click()
        history = found.text(f"#alert-{alert} .history")
        assert re.search(r"acknowledged by Anna Weber\s+.?On my way\.", history)
        told = [row["what"] for row in quiet.found(alert)["journal"]]
        assert told == ["activated", "acknowledged", "shelved", "unshelved", "annunciated", "shelved"]
        row = quiet.found(alert)
        assert row["shelved_until_at"] == pytest.approx(time.time() + 8 * 3600, abs=120)

    def test_what_is_refused_is_said_and_the_button_works_again(self, quiet, opened):
        alert = quiet.alert("pump", sound=False)
        found = opened(quiet, "/alerts")
        found.sees("#connection", "live")
        found.tab.get_by_role("button", name="Acknowledge").click()
        with quiet.database.writing() as c:
            conditions.acknowledge(c, alert, now=time.time(), by="Ben", comment="")
        found.tab.locator("#ask-by").fill("Anna")
        found.tab.locator("#ask [data-submit]").click()
        found.sees("#ask [data-wrong]", "acknowledged")
        assert found.tab.locator("#ask [data-submit]").is_enabled()
        found.tab.keyboard.press("Escape")
        found.sees(f"#alert-{alert} .standing", "Active, acknowledged")
        found.messages.clear()  # that the answer was 409

    def test_what_plays_goes_on_and_the_focus_stays_when_something_else_arrives(self, quiet, opened):
        first = quiet.alert("pump")
        found = opened(quiet, "/alerts")
        found.sees("#connection", "live")
        audio_of_first = found.tab.locator(f"#alert-{first} audio")
        audio_of_first.evaluate("(audio) => { audio.muted = true; audio.loop = true; return audio.play(); }")
        found.tab.locator(f"#alert-{first} .history summary").click()
        found.tab.locator(f"#alert-{first}").get_by_role("button", name="Comment").focus()
        second = quiet.alert("valve")
        found.sees(f"#alert-{second}", "Anomaly at valve")
        assert not audio_of_first.evaluate("(audio) => audio.paused")
        assert found.tab.evaluate("document.activeElement.textContent") == "Comment"
        assert found.tab.locator(f"#alert-{first} .history").get_attribute("open") is not None
        order = found.tab.locator("article.alert").evaluate_all("(all) => all.map((one) => one.id)")
        assert order == [f"alert-{second}", f"alert-{first}"]

    def test_a_condition_is_taken_out_of_service_and_back_by_the_keyboard_alone(self, quiet, opened):
        found = opened(quiet, "/machines/pump")
        found.sees("#connection", "live")
        found.tab.get_by_role("group", name="Actions on Anomaly").get_by_role(
            "button", name="Take out"
        ).focus()
        found.tab.keyboard.press("Enter")
        found.tab.keyboard.type("Anna")
        found.tab.keyboard.press("Enter")
        found.sees("[data-key='condition-anomaly']", "Out of service")
        found.sees(".stand", "Out of service")
        assert found.tab.evaluate("document.activeElement.textContent") == "Return to service"
        found.tab.keyboard.press("Enter")
        found.tab.keyboard.press("Enter")
        found.sees(".stand", "Normal")

    def test_new_sound_is_shown(self, quiet, opened):
        found = opened(quiet, "/machines/fan%202")
        found.tab.wait_for_selector("#trend .mean")
        now = time.time()
        with quiet.database.writing() as c:
            number = quiet.ids["fan 2"]
            recording = heard.begin_recording(
                c, number, key="3", name="3.wav", path=None, began_at=now, rate=16000, channels=2, now=now
            )
            heard.add_windows(c, number, recording.id, [served.window(0, 9.75, began=now - 5)])
            heard.save_progress(
                c, number, recording.id, next_window=1, steps={}, now=now,
                latest=heard.Latest(now + 5, 9.75, "anomaly", 0.4, True),
            )  # fmt: skip
        found.sees("#trend output", "9.75")

    def test_a_watcher_that_was_killed_is_seen_without_a_reload(self, quiet, opened):
        found = opened(quiet, "/machines/pump")
        found.sees("#connection", "live")
        found.sees(".stand", "Normal")
        quiet.is_watched = False
        found.sees(".lost", "Nothing is heard")
        found.sees(".page-head .stand", "Not watched its watcher has ended")


class TestManyMachines:
    @pytest.mark.slow
    def test_a_hall_of_400_is_quick_and_asks_only_for_what_is_seen(self, serve, detector, opened):
        names = tuple(f"{kind} {place}-{i}" for kind in ("pump", "fan") for place in "AB" for i in range(100))
        hall = serve(detector, names, hours=0.05)
        begun = time.perf_counter()
        found = opened(hall, height=700)
        found.sees("#connection", "live")
        assert time.perf_counter() - begun < 30
        assert found.tab.get_by_label("Compact").is_checked()
        assert found.tab.locator(".machine").count() == 400
        found.tab.wait_for_selector(".spark svg")
        asked_for, before = 0, -1
        while before < asked_for < 120:  # until nothing more is asked for
            found.tab.wait_for_timeout(500)
            before, asked_for = asked_for, len([url for url in found.requests if "/scores?" in url])
        assert 5 < asked_for < 120
        found.tab.get_by_label("Name contains").fill("fan b-7")
        playwright.expect(found.tab.locator(".machine").filter(visible=True)).to_have_count(11)
        hall.alert("fan B-99", sound=False)
        found.sees("#waiting", "1")


class TestTokens:
    def test_a_token_opens_the_page_and_names_who_acts(self, quiet, opened):
        with quiet.database.writing() as c:
            operator = tokens.make(c, "Shift 2", "operator", now=time.time())
            reader = tokens.make(c, "Wall", "reader", now=time.time())
        alert = quiet.alert("pump", sound=False)
        found = opened(quiet, "/alerts")
        assert found.tab.title().startswith("Sign in")
        found.tab.get_by_label("Token").fill("not this one")
        found.tab.keyboard.press("Enter")
        found.sees("main", "This token is not known.")
        found.messages.clear()  # 403
        assert not poor_contrasts(found.tab)
        found.tab.get_by_label("Token").fill(operator)
        found.tab.keyboard.press("Enter")
        found.sees("#settings-button", "Shift 2")
        found.tab.get_by_role("button", name="Acknowledge").click()
        assert not found.tab.locator("#ask-by").is_visible()
        found.tab.locator("#ask [data-submit]").click()
        found.sees(f"#alert-{alert} .standing", "Active, acknowledged")
        assert quiet.found(alert)["journal"][1]["by"] == "Shift 2"
        found.tab.get_by_role("button", name="Shift 2").click()
        found.tab.get_by_role("button", name="Sign out").click()
        found.tab.get_by_label("Token").fill(reader)
        found.tab.keyboard.press("Enter")
        found.sees("#settings-button", "Wall")
        found.tab.goto(f"{quiet.address}/alerts")
        found.sees(f"#alert-{alert}", "Anomaly at pump")
        assert found.tab.locator("[data-act]").count() == 0
