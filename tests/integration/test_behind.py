"""Nothing is lost behind the 200: what the second decoding and the merged messages would lose arrives all the same."""

import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent
from tests.support.process import TOKEN, Proxy, Sidecar, wait_until
from tests.support.reports import DATA_ID, dump, event, report, sample

ODD: dict[str, Any] = {
    "Timestamp": "x",
    "Target": 5,
    "Event": [],
    "Dimension": {"a": 1},
    "Metrics": 5,
    "EVENT_NAME": {},
}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Proxy, Sidecar]]:
    """A proxy that merges as the real one does, and a sidecar with every input."""
    settings = {
        "streams": {"load": {"data_id": 77, "access_token": TOKEN, "kind": "time_series"}},
        "sockets": {"lines": {"listen": f"unix:{tmp_path / 'lines.sock'}", "stream": "app-events"}},
        "tails": {"app": {"paths": [str(tmp_path / "app.log")], "stream": "app-events", "parse": "json",
                          "event": {"content": "{message}", "dimension": {"id": "{id}", "Target": "{id}"}}}},
        "queue": {"keep_delivered": "1h"},
    }  # fmt: skip
    with Proxy(tmp_path, "--rate", "unlimited", "--merge", "1s") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, settings) as sidecar:
            yield proxy, sidecar.start()


def ids(items: list[Any]) -> set[str]:
    return {item["dimension"]["id"] for item in items}


def wait_for_arrival(proxy: Proxy, items: list[Any]) -> None:
    wait_until(lambda: ids(items) <= proxy.ids().keys(), 20, "arrival behind the proxy")
    assert proxy.summary()["behind"]["lost"] == {}


def test_odd_keys_arrive_from_every_input(pair: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    proxy, sidecar = pair
    odd = [event(**{name: value}) for name, value in ODD.items()]
    assert sidecar.post(report(event(), *odd)).status_code == 200
    load = [sample(**{name: value}) for name, value in ODD.items()]
    assert sidecar.post(report(*load, data_id=77)).status_code == 200
    lines = [event(**{name: value}) for name, value in ODD.items()]
    framed = [event(**{name: value}) for name, value in ODD.items()]
    for data in (b"".join(dump(item) + b"\n" for item in lines), agent.beat_report(DATA_ID, *framed)):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "lines.sock"))
            client.sendall(data)
    (tmp_path / "app.log").write_text('{"message":"from a file","id":"tailed"}\n')
    wait_for_arrival(proxy, [*odd, *load, *lines, *framed, {"dimension": {"id": "tailed"}}])
    assert sidecar.books()["dead"] == 0
    inputs = {entry["name"]: entry for entry in sidecar.status()["inputs"]}
    assert inputs["http"]["repaired"] == 2
    assert inputs["lines"]["repaired"] == len(lines) + 1


def test_a_shell_script_may_send_raw_newlines(pair: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = pair
    item = event(event={"content": "first\nsecond\tthird"})
    assert sidecar.post(dump(report(item)).replace(b"\\n", b"\n").replace(b"\\t", b"\t")).status_code == 200
    wait_for_arrival(proxy, [item])
    assert proxy.items() == [item]


@pytest.mark.parametrize("content_bytes", [200, 4_000, 120_000])
def test_a_catch_up_arrives_whatever_the_size_of_its_events(tmp_path: Path, content_bytes: int) -> None:
    """12 MB after an outage; sent as fast as the requests' rate allows, all of 4 KB and more would vanish."""
    count = 12_000_000 // content_bytes
    with Proxy(tmp_path, "--rate", "unlimited", "--merge", "3s") as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            for start in range(0, count, 2_000_000 // content_bytes):
                batch = range(start, min(count, start + 2_000_000 // content_bytes))
                items = [event(event={"content": "x" * content_bytes}, dimension={"id": str(n)}) for n in batch]
                assert sidecar.post(report(*items)).status_code == 200
            proxy.fault("none")
            wait_until(lambda: proxy.summary()["behind"]["arrived"] == count, 40, "all of them")
            assert proxy.summary()["behind"]["lost"] == {}
            assert sidecar.books()["delivered"] == count


def test_many_tokens_and_kinds_of_one_data_id_are_paced_together(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--rate", "unlimited", "--merge", "3s") as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            for token in ("one-token", "two-token", "three-token", "four-token"):
                items = [event(event={"content": "x" * 20_000}) for _ in range(150)]
                assert sidecar.post(report(*items, data_id=5, token=token)).status_code == 200
            proxy.fault("none")
            waiting = wait_until(lambda: sidecar.stream("5")["waits_for"], 20, "the pace")
            assert waiting == "2.5 MB/s for data_id 5"
            wait_until(lambda: proxy.summary()["behind"]["arrived"] == 600, 30)
            assert proxy.summary()["behind"]["lost"] == {}


def test_kill_9_gives_no_bytes_back(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--rate", "unlimited", "--merge", "3s") as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            for _ in range(4):
                items = [event(event={"content": "x" * 20_000}) for _ in range(240)]
                assert sidecar.post(report(*items)).status_code == 200
            proxy.fault("none")
            for _ in range(3):
                time.sleep(0.4)
                sidecar.kill()
                sidecar.start()
            wait_until(lambda: sidecar.books()["queued"] == 0, 40, "an empty queue")
            wait_until(lambda: proxy.summary()["behind"]["waiting"] == 0, 10)
            behind = proxy.summary()["behind"]
            assert behind["lost"] == {}
            assert behind["arrived"] >= 960


def test_rows_of_an_older_version_are_cleaned_on_the_way_out(pair: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = pair
    proxy.fault("down")
    waiting, due = event(_arget=5), event(_arget=5, timestamp=int(time.time() * 1000) + 3_604_000)
    assert sidecar.post(report(waiting, due)).status_code == 200
    assert sidecar.stop() == 0
    with sqlite3.connect(sidecar.state / "queue.db") as connection:
        for table in ("chunk", "scheduled"):
            changed = connection.execute(
                f"UPDATE {table} SET codec = 0, rules = 0,"
                " body = CAST(substr(replace(CAST(body AS TEXT), '_arget', 'Target'), 1, bytes) AS BLOB)"
            )
            assert changed.rowcount == 1
    connection.close()
    proxy.fault("none")
    sidecar.start()
    wait_for_arrival(proxy, [waiting, due])
    assert all("Target" not in item for item in proxy.items())


def test_without_the_pace_the_stand_in_loses_them_as_the_real_proxy_does(tmp_path: Path) -> None:
    """So that the tests above can fail."""
    with Proxy(tmp_path, "--rate", "unlimited", "--merge", "3s") as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url, {"proxy": {"bytes_per_data_id": "unlimited"}}) as sidecar:
            sidecar.start()
            for _ in range(3):
                items = [event(event={"content": "x" * 20_000}) for _ in range(200)]
                assert sidecar.post(report(*items)).status_code == 200
            proxy.fault("none")
            wait_until(lambda: proxy.summary()["behind"]["lost"], 20)
            assert proxy.summary()["behind"]["lost"] == {"message too large": 600}
            assert sidecar.books()["delivered"] == 600


def test_numbers_with_nineteen_digits_are_the_same_as_without_a_sidecar(pair: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = pair
    item = event(dimension={"id": "n", "order": 1234567890123456789})
    assert sidecar.post(json.dumps(report(item))).status_code == 200
    wait_for_arrival(proxy, [item])
    assert proxy.items()[0]["dimension"]["order"] == "1234567890123456800"
