"""Starting, stopping, and what is said about it; a second instance; a service manager; the disk."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sidecar.cli.demo_parts import free_port
from tests.support.process import TOKEN, Proxy, Sidecar, wait_until
from tests.support.reports import event, report

LINE = re.compile(r"ts=\S+ level=(info|warning|error) logger=\S+ event=.+")


def test_the_first_line_names_listener_state_and_proxies(proxy: Proxy, sidecar: Sidecar) -> None:
    line = sidecar.wait_for("event=ready.*")[0]
    assert f"listen=http://127.0.0.1:{sidecar.port}" in line
    assert f"state={sidecar.state}" in line
    assert f"proxies={proxy.url}" in line
    assert f"config={sidecar.config}" in line
    assert all(LINE.fullmatch(line) for line in sidecar.text().splitlines())


def test_json_logs(tmp_path: Path, proxy: Proxy) -> None:
    with Sidecar(tmp_path, proxy.url, None, "--log-format", "json") as sidecar:
        sidecar.start()
        proxy.fault("401")
        sidecar.post(report(event()))
        sidecar.wait_for("delivery failed")
        assert sidecar.stop() == 0
        lines = [json.loads(line) for line in sidecar.text().splitlines()]
        assert {"ts", "level", "logger", "event"} <= set(lines[0])
        assert lines[-1]["event"] == "stopped"
        assert TOKEN not in sidecar.text()


def test_sigterm_commits_what_is_in_hand_and_exits_0(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("down")
    acknowledged: list[str] = []

    def produce() -> None:
        with (
            contextlib.closing(sidecar.connect()) as connection,
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            while True:
                item = event()
                connection.request("POST", "/v2/push/", json.dumps(report(item)))
                if connection.getresponse().read().find(b'"result":"true"') < 0:
                    return
                acknowledged.append(item["dimension"]["id"])

    producers = [threading.Thread(target=produce) for _ in range(8)]
    for producer in producers:
        producer.start()
    wait_until(lambda: len(acknowledged) > 200)
    assert sidecar.stop() == 0
    for producer in producers:
        producer.join()
    assert "event=stopped" in sidecar.text()
    assert not (sidecar.state / "queue.db-wal").exists()  # closed cleanly: nothing left to recover
    proxy.fault("none")
    sidecar.start()
    sidecar.wait_empty()
    assert set(acknowledged) <= set(proxy.ids())


def test_sigterm_lets_the_request_under_way_end(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("slow", delay_s=2.0)
    sidecar.post(report(event()))
    wait_until(lambda: sidecar.stream()["state"] == "sending")
    assert sidecar.stop() == 0
    proxy.fault("none")
    sidecar.start()
    assert sidecar.books() | {"balanced": 1} == {
        "accepted": 1, "queued": 0, "delivered": 1, "dead": 0, "dropped": 0, "balanced": 1,
    }  # fmt: skip
    assert len(proxy.items()) == 1


def test_sigterm_abandons_a_request_that_takes_too_long(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("slow", delay_s=60.0)
    sidecar.post(report(event()))
    wait_until(lambda: sidecar.stream()["state"] == "sending")
    started_s = time.monotonic()
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait(50) == 0
    assert 9 < time.monotonic() - started_s < 50  # the answer comes after 60 s
    proxy.fault("none")
    sidecar.start()
    sidecar.wait_empty()


def test_a_hangup_stops_it_in_order_too(sidecar: Sidecar) -> None:
    sidecar.signal(signal.SIGHUP)
    assert sidecar.wait() == 0
    assert "event=stopped" in sidecar.text()


def test_a_second_signal_forces(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("slow", delay_s=60.0)
    item = event()
    sidecar.post(report(item))
    wait_until(lambda: sidecar.stream()["state"] == "sending")
    sidecar.signal(signal.SIGTERM)
    sidecar.wait_for("event=stopping")
    sidecar.signal(signal.SIGINT)
    assert sidecar.wait() == 1  # a stop in order would end with 0
    assert "second signal" in sidecar.text()
    proxy.fault("none")
    sidecar.start()
    sidecar.wait_empty()
    assert item["dimension"]["id"] in proxy.ids()


def test_while_stopping_reports_are_refused_with_503(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("slow", delay_s=3.0)
    with httpx.Client(trust_env=False) as client, contextlib.closing(sidecar.connect()) as connection:
        client.post(sidecar.push_url, json=report(event()))
        wait_until(lambda: sidecar.stream()["state"] == "sending")
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        body = json.dumps(report(event()))
        connection.putrequest("POST", "/v2/push/")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-1].encode())
        time.sleep(0.1)
        sidecar.signal(signal.SIGTERM)
        sidecar.wait_for("event=stopping")
        connection.send(body[-1:].encode())
        with connection.getresponse() as answer:
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert json.loads(answer.read())["message"] == "the sidecar is stopping"
    assert sidecar.wait() == 0


def test_a_second_instance_says_who_holds_the_state_and_exits_1(tmp_path: Path, proxy: Proxy, sidecar: Sidecar) -> None:
    second = Sidecar(tmp_path, proxy.url)
    second.output = tmp_path / "second.log"
    with second:
        second.spawn()
        assert second.wait() == 1
        assert f"in use by process {sidecar.pid}" in second.text()
    assert sidecar.post(report(event())).status_code == 200


def test_a_port_that_is_taken_is_named_and_exits_1(tmp_path: Path, proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Sidecar(tmp_path, proxy.url, {"http": {"listen": address}}) as sidecar:
            sidecar.spawn()
            assert sidecar.wait() == 1
            assert f"cannot listen on {address} (http.listen): in use by process {os.getpid()} (" in sidecar.text()
    assert not (tmp_path / "state" / "control.sock").exists()


def test_a_newer_schema_is_refused_with_exit_1(proxy: Proxy, sidecar: Sidecar) -> None:
    assert sidecar.stop() == 0
    with sqlite3.connect(sidecar.state / "queue.db") as future:
        future.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('queue', 'm999_better', '2099')"
        )
    sidecar.spawn()
    assert sidecar.wait() == 1
    assert "was written by a newer sidecar" in sidecar.text()
    assert "Traceback" not in sidecar.text()


def test_all_files_of_the_state_are_for_the_owner_only(proxy: Proxy, sidecar: Sidecar) -> None:
    sidecar.post(report(event()))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in sidecar.state.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"queue.db", "queue.db-wal", "lock", "control.sock"} <= set(modes)
    assert stat.S_IMODE(sidecar.state.stat().st_mode) == 0o700


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Any]:
    """A service manager's end of sd_notify."""
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(path))
        bound.settimeout(20)
        yield bound, {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "900000"}


def test_the_service_manager_hears_ready_signs_of_life_and_stopping(tmp_path: Path, proxy: Proxy, manager: Any) -> None:
    bound, env = manager
    with Sidecar(tmp_path, proxy.url, env=env) as sidecar:
        sidecar.start()
        first = bound.recv(4096).decode()
        assert first == f"READY=1\nSTATUS=listening on http://127.0.0.1:{sidecar.port}"
        assert sidecar.post(report(event())).status_code == 200  # ready means: the inputs are open
        assert [bound.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        sidecar.signal(signal.SIGTERM)
        messages = [bound.recv(4096)]
        while messages[-1] != b"STOPPING=1":
            messages.append(bound.recv(4096))
        assert sidecar.wait() == 0


def receive(bound: socket.socket) -> bytes:
    try:
        return bound.recv(4096)
    except TimeoutError:
        return b""


def test_without_progress_the_watchdog_is_not_fed(tmp_path: Path, proxy: Proxy, manager: Any) -> None:
    """The writer's thread cannot get its transaction: another process holds the database."""
    bound, env = manager
    with Sidecar(tmp_path, proxy.url, env=env) as sidecar:
        sidecar.start()
        bound.recv(4096)
        assert bound.recv(4096) == b"WATCHDOG=1"
        with sqlite3.connect(sidecar.state / "queue.db", isolation_level=None) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            bound.settimeout(2)
            assert len(list(iter(lambda: receive(bound), b""))) < 4  # at most those that were on their way
            intruder.execute("ROLLBACK")
        bound.settimeout(20)
        assert bound.recv(4096) == b"WATCHDOG=1"


def test_the_books_are_checked_at_the_start(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("down")
    sidecar.post(report(event(), event()))
    assert sidecar.stop() == 0
    with sqlite3.connect(sidecar.state / "queue.db") as vandal:
        vandal.execute("UPDATE lane SET events = 1")
    sidecar.start()
    sidecar.wait_for("books do not balance.*2 fresh events in the queue, 1 in the books")
    status = sidecar.status()
    assert status["state"] == "failing"
    assert status["books"]["balanced"] is False


def test_a_state_directory_that_cannot_be_made_is_named_and_exits_1(tmp_path: Path, proxy: Proxy) -> None:
    with Sidecar(tmp_path, proxy.url, {"state": "/proc/nowhere"}) as sidecar:
        sidecar.spawn()
        assert sidecar.wait() == 1
        assert "state directory /proc/nowhere: " in sidecar.text()
        assert "Traceback" not in sidecar.text()


@pytest.fixture
def stuck(tmp_path: Path, proxy: Proxy) -> Iterator[Sidecar]:
    """A sidecar with a tail whose file system does not answer."""
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nfrom sidecar.inputs.tail.tracker import Tracker\nTracker.look = lambda *_, **__: time.sleep(60)\n"
    )
    settings: dict[str, Any] = {"tails": {"app": {"paths": ["/var/log/x.log"], "stream": "app-events"}}}
    settings["http"] = {"listen": f"127.0.0.1:{free_port()}"}
    with Sidecar(tmp_path, proxy.url, settings, env={"PYTHONPATH": str(tmp_path)}) as made:
        made.spawn()
        made.port = int(made.settings["http"]["listen"].split(":")[1])
        wait_until(lambda: _answers(made))
        yield made


def _answers(sidecar: Sidecar) -> bool:
    try:
        return sidecar.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_tail_that_hangs_at_the_start_holds_up_no_report_and_readiness_only_for_a_while(stuck: Sidecar) -> None:
    assert stuck.get("/readyz").status_code == 503
    assert stuck.get("/readyz").json()["reasons"] == ["starting: the tails look for their files"]
    assert stuck.post(report(event())).status_code == 200
    stuck.wait_for("initial scan not finished.*\n.*event=ready", 20)
    assert stuck.get("/readyz").status_code == 200
    assert stuck.stop() == 0


def test_a_start_that_takes_long_can_be_stopped(stuck: Sidecar) -> None:
    stuck.signal(signal.SIGTERM)
    assert stuck.wait(8) == 0
    assert "event=ready" not in stuck.text()
    assert "Traceback" not in stuck.text()
