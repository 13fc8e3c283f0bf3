"""MQTT with a real broker: what is retained, what is told again, who is gone, and what Home Assistant reads."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import told
from hypothesis import given
from hypothesis import strategies as st
from receivers import liar
from test_sink_webhook import certificates_in
from told import Site, soon

pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt")

from brokers import Broker, broker, retained, subscriber

from nearfar.logbook import conditions, heard
from nearfar.watching.deliveries import Backoff, Deliveries, LogbookState
from nearfar.watching.sinks import SinkDownError, SinkRefusedError
from nearfar.watching.sinks.home_assistant import identifier
from nearfar.watching.sinks.mqtt import Mqtt, safe

BASE = "nearfar/Hall 3"
QUICK = Backoff(first_s=0.05, longest_s=0.2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One for all tests that do not stop it; each has a site of its own."""
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def logbook(tmp_path: Path) -> Iterator[told.Logbook]:
    with told.logbook(tmp_path, "pump-1", "fan 2/3") as made:
        yield made


def state_of(logbook: told.Logbook, site: str) -> LogbookState:
    return LogbookState(site, logbook.database)


def test_availability_states_and_alerts(logbook: told.Logbook, shared: Broker) -> None:
    logbook.hear(3, score=0.75)
    base = "nearfar/site-1"
    with subscriber(shared.port) as all_of_it:
        sink = Mqtt("127.0.0.1", port=shared.port)
        sink.open(state_of(logbook, "site-1"))
        kept = retained(shared.port)
        assert kept[f"{base}/availability"] == b"online"
        state = json.loads(kept[f"{base}/pump-1/state"])
        assert (state["machine"], state["mode"], state["score"]) == ("pump-1", "listening", 0.75)
        assert state["running"] is True
        assert state["conditions"]["anomaly"]["active"] is False
        assert json.loads(kept[f"{base}/fan 2%2F3/state"])["machine"] == "fan 2/3"

        alert = logbook.activate()
        message = logbook.message("activated")
        sink.deliver(message)
        found = soon(lambda: all_of_it.of(f"{base}/pump-1/alert"))
        assert [json.loads(payload) for payload in found] == [json.loads(json.dumps(dict(message.content)))]
        (heard_it,) = [one for one in all_of_it.heard if one[0].endswith("/pump-1/alert")]
        assert heard_it[2:] == (False, 1)
        sink.idle()  # if the states were looked at just before
        kept = retained(shared.port)
        assert f"{base}/pump-1/alert" not in kept
        anomaly = json.loads(kept[f"{base}/pump-1/state"])["conditions"]["anomaly"]
        assert (anomaly["active"], anomaly["problem"], anomaly["alert"]) == (True, True, alert)
        sink.close()
    assert retained(shared.port)[f"{base}/availability"] == b"offline"


def test_a_shelved_condition_is_no_problem(logbook: told.Logbook, shared: Broker) -> None:
    logbook.activate()
    with logbook.database.writing() as c:
        conditions.shelve(
            c, logbook.machines["pump-1"], "anomaly", now=told.BEGAN, by="Ada", until=told.BEGAN + 60
        )
    sink = Mqtt("127.0.0.1", port=shared.port)
    sink.open(state_of(logbook, "site-2"))
    sink.close()
    anomaly = json.loads(retained(shared.port)["nearfar/site-2/pump-1/state"])["conditions"]["anomaly"]
    assert (anomaly["active"], anomaly["annunciated"], anomaly["problem"]) == (True, False, False)


def test_other_messages_have_topics_of_their_own(logbook: told.Logbook, shared: Broker) -> None:
    logbook.note(1)
    logbook.hear(1)
    with subscriber(shared.port) as all_of_it:
        sink = Mqtt("127.0.0.1", port=shared.port, windows=True, prefix="plant/nearfar")
        assert sink.streams == ("journal", "windows")
        sink.open(state_of(logbook, "site-3"))
        sink.deliver(logbook.message("heard late"))
        sink.deliver(logbook.messages("windows")[0])
        sink.close()
        assert soon(lambda: all_of_it.of("plant/nearfar/site-3/pump-1/event"))
        assert soon(lambda: all_of_it.of("plant/nearfar/site-3/pump-1/window"))
        assert not all_of_it.of("plant/nearfar/site-3/pump-1/alert")


# A broker that is stopped and started


def test_nothing_is_lost_while_a_broker_is_away(logbook: told.Logbook, tmp_path: Path) -> None:
    with broker(tmp_path) as running:
        deliveries = Deliveries(
            Site.of(hall=Mqtt("127.0.0.1", port=running.port)), logbook.database, backoff=QUICK
        )
        deliveries.start()
        with subscriber(running.port) as before:
            logbook.activate()
            deliveries.wake()
            soon(lambda: before.of(f"{BASE}/pump-1/alert"))
        running.stop()
        logbook.clear()
        logbook.activate("fan 2/3", "microphones")
        deliveries.wake()
        soon(lambda: logbook.standing("hall")["failing_since_at"] is not None)
        logbook.activate("fan 2/3", "no sound")
        running.start()
        with subscriber(running.port) as after:
            assert deliveries.drain(told.PATIENCE_S) or soon(lambda: logbook.standing("hall")["behind"] == 0)
            soon(lambda: logbook.standing("hall")["failing_since_at"] is None)
            told_it = [json.loads(p)["id"] for _, p, _, _ in [*before.heard, *after.heard] if b'"what"' in p]
        expected = [message.id for message in logbook.messages() if message.content["alert"]]
        missed_by_us = set(expected) - set(told_it)  # between its start and ours, others may have been told
        kept = retained(running.port)
        assert kept[f"{BASE}/availability"] == b"online"
        assert json.loads(kept[f"{BASE}/pump-1/state"])["conditions"]["anomaly"]["active"] is False
        fan = json.loads(kept[f"{BASE}/fan 2%2F3/state"])
        assert [name for name, each in fan["conditions"].items() if each["active"]] == [
            "microphones",
            "no sound",
        ]
        assert fan["alerts"] == 2
        assert not missed_by_us or logbook.standing("hall")["dropped"] == 0
        deliveries.stop()


def test_a_subscriber_with_a_session_gets_each_alert_once(logbook: told.Logbook, tmp_path: Path) -> None:
    """The session is kept by the broker, so it gets what is told while it is not looking."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    ids: list[str] = []
    again: list[
        bool
    ] = []  # whether the broker says that it sends it again, because we did not acknowledge it

    def hear(_client: object, _data: object, message: Any) -> None:
        ids.append(json.loads(message.payload)["id"])
        again.append(message.dup)

    with broker(tmp_path) as running:
        client = Client(CallbackAPIVersion.VERSION2, client_id="pager", clean_session=False)
        client.reconnect_delay_set(1, 1)
        subscribed: list[bool] = []
        client.on_connect = lambda client, *_rest: client.subscribe(f"{BASE}/+/alert", qos=1)
        client.on_subscribe = lambda *_rest: subscribed.append(True)
        client.on_message = hear
        client.connect("127.0.0.1", running.port)
        client.loop_start()
        soon(lambda: subscribed)
        deliveries = Deliveries(
            Site.of(hall=Mqtt("127.0.0.1", port=running.port)), logbook.database, backoff=QUICK
        )
        deliveries.start()
        for number in range(3):
            alert = logbook.activate(at=told.BEGAN + 1000 * number)
            deliveries.wake()
            logbook.comment(alert, "seen")
            running.stop()
            logbook.clear(at=told.BEGAN + 1000 * number + 500)
            running.start()
            soon(lambda: logbook.standing("hall")["behind"] == 0)
        expected = [message.id for message in logbook.messages() if message.content["alert"]]
        soon(lambda: set(expected) <= set(ids), f"{expected} {ids}")
        deliveries.stop()
        client.disconnect()
        client.loop_stop()
    assert list(dict.fromkeys(ids)) == expected
    assert again.count(False) - len(expected) <= 3  # a broker that ends may have taken one without telling us


def test_a_broker_that_hangs_is_down_and_comes_back(logbook: told.Logbook, tmp_path: Path) -> None:
    with broker(tmp_path) as running:
        sink = Mqtt("127.0.0.1", port=running.port, timeout=0.5)
        sink.open(state_of(logbook, "Hall 3"))
        logbook.activate()
        running.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(SinkDownError, match=r"not acknowledged within 0\.5 s"):
                sink.deliver(logbook.message("activated"))
            with pytest.raises(SinkDownError, match=r"it does not answer within 0\.5 s|timed out"):
                sink.deliver(logbook.message("activated"))
            before = time.monotonic()
            sink.close()
            assert time.monotonic() - before < 5
        finally:
            running.process.send_signal(signal.SIGCONT)
        with subscriber(running.port) as all_of_it:
            sink.open(state_of(logbook, "Hall 3"))
            sink.deliver(logbook.message("activated"))
            assert soon(lambda: all_of_it.of(f"{BASE}/pump-1/alert"))
        sink.close()


KILLED = """
import sys, time
from nearfar.logbook.database import Database
from nearfar.watching.deliveries import LogbookState
from nearfar.watching.sinks.mqtt import Mqtt
sink = Mqtt("127.0.0.1", port=int(sys.argv[1]))
sink.open(LogbookState("killed", Database.open(sys.argv[2])))
print("open", flush=True)
time.sleep(60)
"""


def test_the_last_will_of_a_watcher_that_is_killed(logbook: told.Logbook, shared: Broker) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(shared.port), str(logbook.path)]
    topic = "nearfar/killed/availability"
    with (
        subscriber(shared.port) as all_of_it,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        soon(lambda: all_of_it.of(topic) == [b"online"])
        process.kill()
        soon(lambda: all_of_it.of(topic) == [b"online", b"offline"])
    assert retained(shared.port)[topic] == b"offline"


def test_a_second_connection_of_a_site_ends_online(logbook: told.Logbook, shared: Broker) -> None:
    """After a power cut the broker still has the old connection: its will must not come after our "online"."""
    first, second = Mqtt("127.0.0.1", port=shared.port), Mqtt("127.0.0.1", port=shared.port)
    topic = "nearfar/twice/availability"
    with subscriber(shared.port) as all_of_it:
        first.open(state_of(logbook, "twice"))
        second.open(state_of(logbook, "twice"))
        soon(lambda: all_of_it.of(topic) == [b"online", b"offline", b"online"])
        with pytest.raises(SinkDownError, match="mqtt://127"):
            first.idle()
        second.close()


# Home Assistant


def expected_keys(config: dict[str, Any]) -> None:
    """What ``DEVICE_DISCOVERY_SCHEMA`` of Home Assistant asks for: written down here from its source."""
    assert config["dev"].keys() <= {"ids", "cns", "name", "mf", "mdl", "mdl_id", "hw", "sw", "sn", "sa", "cu"}
    assert config["dev"]["ids"]
    assert config["o"].keys() <= {"name", "sw", "url"}
    assert config["o"]["name"]
    assert isinstance(config["cmps"], dict)
    assert config.keys() <= {"dev", "o", "cmps", "state_topic", "availability", "qos", "encoding"}
    for component in config["cmps"].values():
        assert component["p"] in ("binary_sensor", "sensor")
        assert component["unique_id"]
    ids = [component["unique_id"] for component in config["cmps"].values()]
    assert len(set(ids)) == len(ids)


def test_each_machine_is_a_device(logbook: told.Logbook, shared: Broker) -> None:
    logbook.hear(1, score=0.5)
    logbook.activate(condition="no sound")
    sink = Mqtt("127.0.0.1", port=shared.port)
    sink.open(state_of(logbook, "ha-1"))
    sink.close()
    kept = retained(shared.port)
    configs = {
        topic: json.loads(payload)
        for topic, payload in kept.items()
        if re.fullmatch(r"homeassistant/device/nearfar_ha_1_[a-zA-Z0-9_-]+/config", topic)
    }
    assert len(configs) == 2
    assert len({config["dev"]["ids"][0] for config in configs.values()}) == 2
    config = kept_config = json.loads(kept[f"homeassistant/device/{identifier('ha-1', 'pump-1')}/config"])
    expected_keys(kept_config)
    assert config["dev"]["name"] == "pump-1"
    assert config["availability"] == [{"topic": "nearfar/ha-1/availability"}]
    assert config["state_topic"] == "nearfar/ha-1/pump-1/state"
    assert set(config["cmps"]) == {
        "anomaly",
        "microphones",
        "no_sound",
        "score",
        "evidence",
        "running",
        "mode",
    }
    classes = {name: component.get("device_class") for name, component in config["cmps"].items()}
    assert classes["anomaly"] == classes["microphones"] == classes["no_sound"] == "problem"
    assert classes["running"] == "running"
    shown = {
        name: rendered(component, json.loads(kept[config["state_topic"]]))
        for name, component in config["cmps"].items()
    }
    assert shown == {
        "anomaly": "OFF", "microphones": "OFF", "no_sound": "ON", "score": "0.5", "evidence": "0.1",
        "running": "ON", "mode": "listening",
    }  # fmt: skip
    assert shown["mode"] in config["cmps"]["mode"]["options"]


def rendered(component: dict[str, Any], state: dict[str, Any]) -> str:
    """What Home Assistant makes of a state: its templates are Jinja's."""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return environment.from_string(component["value_template"]).render(value_json=state)


def test_what_is_not_known_is_none_in_home_assistant(logbook: told.Logbook, shared: Broker) -> None:
    sink = Mqtt("127.0.0.1", port=shared.port)
    sink.open(state_of(logbook, "ha-2"))
    sink.close()
    kept = retained(shared.port)
    config = json.loads(kept[f"homeassistant/device/{identifier('ha-2', 'pump-1')}/config"])
    state = json.loads(kept[config["state_topic"]])
    for name in ("score", "evidence", "running"):
        assert rendered(config["cmps"][name], state) == "None"


def test_discovery_is_repeated_when_home_assistant_is_born(logbook: told.Logbook, shared: Broker) -> None:
    sink = Mqtt("127.0.0.1", port=shared.port, home_assistant="ha3")
    config = f"ha3/device/{identifier('ha-3', 'pump-1')}/config"
    with subscriber(shared.port) as all_of_it:
        sink.open(state_of(logbook, "ha-3"))
        soon(lambda: len(all_of_it.of(config)) == 1)
        sink.idle()
        all_of_it.publish("ha3/status", "offline")
        all_of_it.publish("elsewhere/status", "online")
        sink.idle()
        all_of_it.publish("ha3/status", "online")
        soon(lambda: sink.idle() or len(all_of_it.of(config)) == 2)
        assert soon(lambda: len(all_of_it.of("nearfar/ha-3/pump-1/state")) == 2)
        sink.close()
        assert len(set(all_of_it.of(config))) == 1


def test_home_assistant_can_be_left_out(logbook: told.Logbook, shared: Broker) -> None:
    sink = Mqtt("127.0.0.1", port=shared.port, home_assistant="")
    sink.open(state_of(logbook, "ha-4"))
    sink.idle()
    sink.close()
    assert not [topic for topic in retained(shared.port) if "ha_4" in topic]


def test_a_machine_that_was_removed_is_removed(logbook: told.Logbook, shared: Broker) -> None:
    sink = Mqtt("127.0.0.1", port=shared.port, every=0.0)
    sink.open(state_of(logbook, "removing"))
    topics = (
        "nearfar/removing/fan 2%2F3/state",
        f"homeassistant/device/{identifier('removing', 'fan 2/3')}/config",
    )
    assert all(topic in retained(shared.port) for topic in topics)
    with logbook.database.writing() as c:
        heard.remove_others(c, ["pump-1"], now=told.BEGAN)
    sink.idle()
    sink.close()
    assert not any(topic in retained(shared.port) for topic in topics)


def test_a_state_is_published_only_if_it_has_changed(logbook: told.Logbook, shared: Broker) -> None:
    sink = Mqtt("127.0.0.1", port=shared.port, every=0.0)
    topic = "nearfar/changing/pump-1/state"
    with subscriber(shared.port) as all_of_it:
        sink.open(state_of(logbook, "changing"))
        for _ in range(5):
            sink.idle()
        logbook.hear(1, score=3.0)
        sink.idle()
        sink.close()
        soon(lambda: all_of_it.of("nearfar/changing/availability") == [b"online", b"offline"])
        assert [json.loads(payload)["score"] for payload in all_of_it.of(topic)] == [None, 3.0]


def test_many_messages_at_once_do_not_publish_a_state_each(logbook: told.Logbook, shared: Broker) -> None:
    """There may be hundreds of machines: the states are looked at a few times a second, and once at the end."""
    looked: list[float] = []

    class Counting(LogbookState):
        def machines(self) -> list[dict[str, Any]]:
            looked.append(time.monotonic())
            return super().machines()

    sink = Mqtt("127.0.0.1", port=shared.port)
    sink.open(Counting("burst", logbook.database))
    before = time.monotonic()
    for number in range(20):
        logbook.activate(at=told.BEGAN + number)
        sink.deliver(logbook.message("activated"))
        logbook.clear(at=told.BEGAN + number + 0.5)
    assert len(looked) <= 2 + 5 * (time.monotonic() - before)
    sink.idle()
    sink.close()
    state = json.loads(retained(shared.port)["nearfar/burst/pump-1/state"])
    assert state["conditions"]["anomaly"]["active"] is False


# Names


@given(st.text(min_size=1, max_size=30))
def test_names_are_one_level_of_a_topic(name: str) -> None:
    made = safe(name)
    assert made
    assert not set(made) & set("+#/\0")
    assert made.isprintable()
    assert made.encode()


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=20, unique=True))
def test_different_names_have_different_topics_and_ids(names: list[str]) -> None:
    assert len({safe(name) for name in names}) == len(names)
    plain = [name for name in names if name.isprintable()]
    ids = {identifier("Hall", name) for name in plain}
    assert len(ids) == len(plain)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", id) for id in ids)


def test_a_topic_that_is_too_long_is_refused(logbook: told.Logbook, shared: Broker) -> None:
    logbook.activate()
    message = logbook.message("activated")
    sink = Mqtt("127.0.0.1", port=shared.port)
    sink.open(state_of(logbook, "long"))
    long = type(message)(message.id, "journal", message.what, "x" * 70_000, message.content)
    with pytest.raises(SinkRefusedError, match="more than 65535 bytes"):
        sink.deliver(long)
    sink.close()


# Connections


def test_nobody_there(logbook: told.Logbook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SinkDownError, match=rf"mqtt://127\.0\.0\.1:{port}: .*refused"):
        Mqtt("127.0.0.1", port=port).open(state_of(logbook, "x"))


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00\x09", b"\xff" * 100]
)
def test_somebody_else_there(logbook: told.Logbook, says: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(says)

    with liar(answer) as url:
        port = int(url.rpartition(":")[2].strip("/"))
        with pytest.raises(SinkDownError, match="mqtt://127"):
            Mqtt("127.0.0.1", port=port, timeout=0.5).open(state_of(logbook, "x"))


def test_a_user_with_a_password(logbook: told.Logbook, tmp_path: Path) -> None:
    if not shutil.which("mosquitto_passwd"):
        pytest.skip("needs the command mosquitto_passwd")
    passwords, ours, wrong = tmp_path / "passwords", tmp_path / "ours", tmp_path / "wrong"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "nearfar", "Größe"], check=True)
    ours.write_text("Größe\n", encoding="utf-8")
    wrong.write_text("guess")
    with broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as running:
        sink = Mqtt("127.0.0.1", port=running.port, user="nearfar", password_file=ours)
        sink.open(state_of(logbook, "x"))
        sink.close()
        for options in ({"user": "nearfar", "password_file": wrong}, {}):
            with pytest.raises(SinkDownError, match="refuses the connection: not authorized"):
                Mqtt("127.0.0.1", port=running.port, **options).open(state_of(logbook, "x"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a socket open
def test_tls_is_verified(logbook: told.Logbook, tmp_path: Path) -> None:
    made = certificates_in(tmp_path)
    tls = (f"cafile {made.ca}", f"certfile {made.cert}", f"keyfile {made.key}", "allow_anonymous true")
    with broker(tmp_path, *tls) as running:
        sink = Mqtt("127.0.0.1", port=running.port, tls=True, ca_file=made.ca)
        sink.open(state_of(logbook, "x"))
        logbook.activate()
        sink.deliver(logbook.message("activated"))
        sink.idle()
        sink.close()
        with pytest.raises(SinkDownError, match=r"mqtts://.* certificate verify failed"):
            Mqtt("127.0.0.1", port=running.port, tls=True).open(state_of(logbook, "x"))
        with pytest.raises(SinkDownError, match=r"mqtts://localhost.*(mismatch|not valid)"):
            Mqtt("localhost", port=running.port, tls=True, ca_file=made.ca).open(state_of(logbook, "x"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"host": ""}, "host='': must be"),
        ({"host": "mqtt://broker"}, "must be the name or the address"),
        ({"host": "x", "prefix": ""}, "prefix: topics must begin"),
        ({"host": "x", "prefix": "a/#"}, "prefix='a/#'"),
        ({"host": "x", "prefix": "a/"}, "prefix='a/'"),
        ({"host": "x", "home_assistant": "+"}, "home_assistant='\\+'"),
        ({"host": "x", "timeout": 0.0}, "timeout=0.0"),
        ({"host": "x", "ca_file": Path("ca")}, "set tls = true"),
        ({"host": "x", "tls": True, "key_file": Path("key")}, "a key needs its certificate"),
        ({"host": "x", "password_file": Path("p")}, "a password needs a user"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Mqtt(**options)


def test_a_password_that_is_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(ValueError, match="it is empty; it must hold the password"):
        Mqtt("x", user="nearfar", password_file=empty)
