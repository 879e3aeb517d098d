"""Clients of the GSE agent on the sidecar's socket: frames become events or dead letters, and hurt nobody else."""

import json
import os
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import (
    COMMON,
    DYNAMIC,
    OPERATIONS,
    beat_report,
    dynamic,
    frame,
    get_configuration,
    gsecmdline_line,
)
from tests.support.lines import LineClient
from tests.support.process import Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, sample, without

EVENTS, LOAD, UNKNOWN = 1500006, 1500101, 1100000
STREAMS: dict[str, Any] = {
    "app-events": {
        "data_id": EVENTS, "access_token": "token-of-the-test-pipe", "kind": "event",
        "raw": {"event_name": "gse_text", "target": "0:10.9.9.9"},
    },
    "app-load": {"data_id": LOAD, "access_token": "another-token", "kind": "time_series"},
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Sidecar, str]]:
    directory = tmp_path_factory.mktemp("a")
    path = f"{directory}/ipc.state.report"
    settings = {
        "streams": STREAMS,
        "defaults": {"cloud_id": 3, "biz_id": 2, "ip": "10.0.0.1"},
        "sockets": {"agent": {"listen": f"unix:{path}", "stream": "app-events", "max_line": "200KB"}},
    }
    with Proxy(directory, "--rate", "unlimited") as proxy:
        proxy.start()
        with Sidecar(directory, proxy.url, settings) as sidecar:
            yield proxy, sidecar.start(), path


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(path)
    return client


def by_content(proxy: Proxy, content: str) -> Any:
    return wait_until(lambda: [i for i in proxy.items() if i.get("event", {}).get("content") == content])[0]


def counts(sidecar: Sidecar) -> Any:
    return next(found for found in sidecar.status()["inputs"] if found["name"] == "agent")


def dead(sidecar: Sidecar) -> list[Any]:
    done = run_command("dead", "list", "--config", str(sidecar.config), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else found["dead"]


def test_the_answer_to_get_configuration_is_read_in_two_reads(pair: tuple[Proxy, Sidecar, str]) -> None:
    _, _, path = pair
    with connect(path) as client:
        for _ in range(2):  # on connecting, and every now and then
            client.sendall(get_configuration())
            kind, length = struct.unpack(">II", client.recv(8))
            said = json.loads(client.recv(length))
            assert kind == 10
            assert (said["ip"], said["cloudid"], said["bizid"]) == ("10.0.0.1", 3, 2)
            assert said["hostname"] == socket.gethostname()


def test_a_beat_report_goes_to_the_stream_with_its_data_id(pair: tuple[Proxy, Sidecar, str]) -> None:
    proxy, _, path = pair
    one, two = event(metrics={}, event={"content": "from a beat"}), sample()
    with connect(path) as client:
        client.sendall(get_configuration() + beat_report(EVENTS, one) + beat_report(LOAD, two))
        assert by_content(proxy, "from a beat") == without(one, "metrics")  # of an event the proxy publishes no metrics
        wait_until(lambda: two in proxy.items())
    tokens = {document["data_id"] for document in proxy.documents()}
    assert {EVENTS, LOAD} <= tokens


@pytest.mark.parametrize("kind", [COMMON, OPERATIONS, DYNAMIC])
def test_text_becomes_an_event_by_the_raw_template(pair: tuple[Proxy, Sidecar, str], kind: int) -> None:
    proxy, _, path = pair
    now_s = int(time.time())
    one, two = f"offline {kind}", f"bytes {kind}"
    with connect(path) as client:
        if kind == DYNAMIC:
            client.sendall(dynamic(gsecmdline_line(one), EVENTS, now_s) + dynamic(two.encode(), EVENTS, now_s))
        else:
            client.sendall(frame(gsecmdline_line(one), EVENTS, kind, now_s) + frame(two.encode(), EVENTS, kind, now_s))
    for content in (one, two):
        found = by_content(proxy, content)
        assert (found["event_name"], found["target"]) == ("gse_text", "0:10.9.9.9")
        assert found["timestamp"] == now_s * 1000


def test_frames_split_at_every_byte(pair: tuple[Proxy, Sidecar, str]) -> None:
    proxy, _, path = pair
    data = beat_report(EVENTS, event(event={"content": "in pieces"}))
    with connect(path) as client:
        for number in range(len(data)):
            client.sendall(data[number : number + 1])
    by_content(proxy, "in pieces")


def test_what_cannot_be_sent_is_a_dead_letter_until_somebody_configures_it(pair: tuple[Proxy, Sidecar, str]) -> None:
    proxy, sidecar, path = pair
    good, bad = event(event={"content": "the good one"}), event(target="")
    with connect(path) as client:
        client.sendall(frame(gsecmdline_line("for nobody"), UNKNOWN) + beat_report(UNKNOWN, sample()))
        client.sendall(beat_report(EVENTS, good, bad) + frame(b"text", LOAD))
    by_content(proxy, "the good one")
    wait_until(lambda: sidecar.books()["dead"] == 4)
    reasons = sorted(letter["reason"] for letter in dead(sidecar))
    assert reasons == [
        "data_id 1100000 is no configured stream",
        "data_id 1100000 is no configured stream",
        "expected a time series, got an event; they go in reports, and streams, of their own",
        "target: empty, expected a string such as 0:192.168.0.1",
    ]
    sidecar.wait_for(rf"dead letters\" socket=agent data_id={UNKNOWN} [^\n]*pid={os.getpid()} uid={os.getuid()}")
    assert sidecar.books()["balanced"]

    sidecar.settings["streams"]["text-events"] = {"data_id": UNKNOWN, "access_token": "found-at-last"}
    sidecar.config.write_text(json.dumps(sidecar.settings))
    assert run_command("reload", "--config", str(sidecar.config)).returncode == 0
    done = run_command("dead", "retry", "--stream", "text-events", "--config", str(sidecar.config))
    assert done.returncode == 0, done.stderr
    assert by_content(proxy, "for nobody")["event_name"] == "raw"
    before = sidecar.stream()["dead"]
    with connect(path) as client:
        client.sendall(beat_report(EVENTS, 0, "x", None, [], {"event": 5}))
    wait_until(lambda: sidecar.stream()["dead"] == before + 5)
    done = run_command("dead", "retry", "--stream", "app-events", "--config", str(sidecar.config))
    assert "0 dead letters" in done.stdout
    assert f"{before + 5} dead letters cannot be sent as they are, and stay" in done.stderr
    assert sidecar.stream()["dead"] == before + 5
    assert sidecar.books()["balanced"]
    assert {d["data_id"] for d in proxy.documents()} >= {UNKNOWN}


def test_frames_with_nothing_in_them_are_counted(pair: tuple[Proxy, Sidecar, str]) -> None:
    _, sidecar, path = pair
    before = counts(sidecar)["rejected"]
    with connect(path) as client:
        client.sendall(frame(b'{"data":[]}', EVENTS) + frame(b"x", 0) + frame(b"x", -5) + frame(b"half", EVENTS)[:-1])
    wait_until(lambda: counts(sidecar)["rejected"] == before + 4)


def test_lies_close_their_own_connection_and_no_other(pair: tuple[Proxy, Sidecar, str]) -> None:
    proxy, sidecar, path = pair
    before = counts(sidecar)["rejected"]
    with connect(path) as other, LineClient(f"unix:{path}") as lines:
        for head in (frame(b"", EVENTS, length=2**31), frame(b"", EVENTS, length=2**32 - 1), frame(b"", 5, kind=2)):
            with connect(path) as client:
                client.sendall(frame(b"before the lie", EVENTS) + head + b"x" * 1000)
                assert client.recv(10) == b""
        other.sendall(beat_report(EVENTS, event(event={"content": "after the lies"})))
        lines.send(event())
        lines.wait_settled(1)
        by_content(proxy, "after the lies")
    assert counts(sidecar)["rejected"] == before + 3
    sidecar.wait_for(r'event="connection closed" socket=agent reason="a frame of type 3073, of 2147483648 bytes')


def test_a_frame_that_is_too_long_is_passed_over_in_bounded_memory(pair: tuple[Proxy, Sidecar, str]) -> None:
    proxy, sidecar, path = pair

    def resident() -> int:
        pages = int(Path(f"/proc/{sidecar.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    before = resident()
    with connect(path) as client:
        client.sendall(frame(b"", EVENTS, length=60_000_000))
        for _ in range(60):
            client.sendall(b"x" * 1_000_000)
            assert resident() < before + 20_000_000
        client.sendall(frame(b"behind the long one", EVENTS))
        by_content(proxy, "behind the long one")
    sidecar.wait_for(r"a frame of 60000000 bytes, longer than 200000")
