"""A queue that is full, a disk that fails: stream sockets wait and lose nothing, datagrams are dropped and counted."""

import json
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import beat_report
from tests.support.lines import LineClient
from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.reports import event


@pytest.fixture
def sidecar(tmp_path: Path, proxy: Proxy) -> Iterator[Sidecar]:
    settings = {
        "queue": {"max_size": "2MB"},
        "sockets": {
            "local": {"listen": f"unix:{tmp_path}/s.sock", "stream": "app-events"},
            "dgram": {"listen": f"unixgram:{tmp_path}/d.sock", "stream": "app-events"},
        },
    }
    with Sidecar(tmp_path, proxy.url, settings) as started:
        yield started.start()


def big() -> dict[str, Any]:
    """Some 20 KB that cannot be compressed."""
    return event(event={"content": os.urandom(10_000).hex()})


class Sender(threading.Thread):
    """Sends until all is taken, as a program does that may block."""

    def __init__(self, client: LineClient, items: list[Any]) -> None:
        super().__init__(name="sender", daemon=True)
        self.client, self.items = client, items

    def run(self) -> None:
        for item in self.items:
            self.client.send(item)


def ids(items: list[Any]) -> list[str]:
    return [item["dimension"]["id"] for item in items]


def test_a_full_queue_holds_the_sockets_up_and_nothing_is_lost(proxy: Proxy, sidecar: Sidecar, tmp_path: Path) -> None:
    proxy.fault("down")
    items, frames, forgotten = [big() for _ in range(300)], [big() for _ in range(100)], [big() for _ in range(20)]
    with LineClient(f"unix:{tmp_path}/s.sock") as client, socket.socket(socket.AF_UNIX) as agent:
        sender = Sender(client, items)
        sender.start()
        wait_until(lambda: "sockets are paused, nothing is lost: the queue is full" in sidecar.status()["reasons"])
        with LineClient(f"unix:{tmp_path}/s.sock") as hasty:  # sends and goes away
            hasty.send(*forgotten)
        agent.connect(f"{tmp_path}/s.sock")
        other = threading.Thread(target=agent.sendall, args=(b"".join(beat_report(1500006, i) for i in frames),))
        other.start()
        time.sleep(1.2)
        assert sender.is_alive()
        assert other.is_alive()
        held = sidecar.books()["accepted"]
        assert 0 < held < 200
        assert sidecar.status()["queue"]["refused_by"] == {}
        assert sidecar.text().count('event="sockets paused, nothing is lost" reason="the queue is full"') == 1

        proxy.fault("none")
        client.wait_settled(len(items))
        assert client.errors == {}
        sender.join(10)
        other.join(10)
        wait_until(lambda: len(proxy.items()) == 420, 60, what="all at the proxy")
    arrived = proxy.ids()
    assert set(arrived) == {*ids(items), *ids(frames), *ids(forgotten)}
    assert set(arrived.values()) == {1}
    mine = set(ids(items))
    assert [number for number in ids(proxy.items()) if number in mine] == ids(items), "in order"
    books = sidecar.books()
    assert books["balanced"]
    assert books["accepted"] == 420


def test_datagrams_that_find_the_queue_full_are_dropped_and_counted(
    proxy: Proxy, sidecar: Sidecar, tmp_path: Path
) -> None:
    proxy.fault("down")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(f"{tmp_path}/d.sock")
        for _ in range(300):
            client.send(json.dumps(big()).encode())

    def entry() -> Any:
        return next(found for found in sidecar.status()["inputs"] if found["name"] == "dgram")

    wait_until(lambda: entry()["events"] + sum(entry()["dropped_by"].values()) == 300)
    dropped = entry()["dropped_by"]
    assert set(dropped) == {"the queue is full"}
    assert sidecar.books()["accepted"] == 300 - dropped["the queue is full"]
    sidecar.wait_for('event="datagrams dropped" socket=dgram reason="the queue is full"')
    labels = 'input="dgram",kind="socket",reason="the queue is full"'
    lost = dropped["the queue is full"]
    assert f"sidecar_input_dropped_total{{{labels}}} {lost}" in sidecar.get("/metrics").text
    proxy.fault("none")
    sidecar.wait_empty()


def test_a_disk_that_fails_holds_the_sockets_up_and_nothing_is_lost_or_repeated(
    proxy: Proxy, sidecar: Sidecar, tmp_path: Path
) -> None:
    def limit_files(size: int) -> None:
        resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    items = [event() for _ in range(5000)]
    with LineClient(f"unix:{tmp_path}/s.sock") as client:
        client.send(*items[:10])
        client.wait_settled(10)
        sidecar.wait_empty()  # nothing may be in flight to the proxy: its delivery could not be written down
        limit_files(20_000)
        sender = Sender(client, items[10:])
        sender.start()
        wait_until(lambda: any("sockets are paused" in reason for reason in sidecar.status()["reasons"]))
        time.sleep(0.5)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect(f"{tmp_path}/d.sock")
            datagrams.send(json.dumps(event()).encode())
        wait_until(lambda: {"storage": 1} in [found["dropped_by"] for found in sidecar.status()["inputs"]])
        assert client.acked == 10
        assert sidecar.books()["accepted"] == 10
        limit_files(resource.RLIM_INFINITY)
        client.wait_settled(5000)
        assert client.errors == {}
        sender.join(10)
    sidecar.wait_empty()
    assert ids(proxy.items()) == ids(items)
    assert sidecar.books()["accepted"] == 5000
    assert sidecar.text().count("sockets paused, nothing is lost") == 1


def test_unfinished_lines_of_one_client_do_not_keep_others_out(sidecar: Sidecar, tmp_path: Path) -> None:
    def resident_mb() -> int:
        return int(Path(f"/proc/{sidecar.pid}/statm").read_text().split()[1]) * resource.getpagesize() // 10**6

    before = resident_mb()
    hoarders = [LineClient(f"unix:{tmp_path}/s.sock") for _ in range(150)]
    for hoarder in hoarders:
        hoarder.send(b"x" * 900_000)
    wait_until(lambda: resident_mb() > before + 30)
    with LineClient(f"unix:{tmp_path}/s.sock") as client:
        client.send(event())
        client.wait_settled(1)
        assert client.errors == {}
    assert resident_mb() < before + 130
    for hoarder in hoarders:
        hoarder.send(b"\n")
        hoarder.wait_settled(1)
    reasons = [hoarder.errors[1] for hoarder in hoarders]
    assert any(reason == "too many unfinished lines at once" for reason in reasons)
    for hoarder in hoarders:
        hoarder.close()
