"""Memory is flat for ever: all inputs, connections that come and go, reloads and faults, round after round.

A minute of it in every test run; `make soak` goes on for an hour with the same limits. Each round does the same, so
whatever grows with the rounds is kept by mistake: objects show it within a few rounds, resident memory in the long run.
"""

import http.client
import json
import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from sidecar.cli.control import command
from sidecar.core.filters import DeadFilter, Moved
from sidecar.service.control_messages import DeadRound, Reload, Reloaded
from tests.support import agent, census
from tests.support.process import TOKEN, Proxy, Sidecar
from tests.support.reports import DATA_ID, event, report

SOAK_S = float(os.environ.get("SIDECAR_SOAK_S", "0"))
WARM_UP = 4
ROUNDS = 24
LINES = 150
MAX_NEW_OBJECTS = 400
"""Between the first rounds after the warm-up and the last ones: less than one for each line of a single round."""
MAX_NEW_RSS_KIB = 8_192
MAX_NEW_DESCRIPTORS = 1
"""A file that was deleted stays open for 30 s: one at a time, since the log is rotated more seldom."""
ROTATE_EVERY_S = 40.0
MAX_GARBAGE = 40_000
"""Objects in circles that wait for the collector."""


class CountedSidecar(Sidecar):
    """A sidecar that can be asked for a census of its memory."""

    def __init__(self, directory: Path, proxy_url: str, settings: dict[str, Any]) -> None:
        super().__init__(directory, proxy_url, settings)
        self.census_socket = directory / "census.sock"
        self.program = ("tests.support.census", str(self.census_socket))

    def census(self) -> dict[str, Any]:
        return census.ask(self.census_socket, self.pid)


class Load:
    """What one round does to the sidecar."""

    def __init__(self, directory: Path, sidecar: Sidecar, proxy: Proxy) -> None:
        self._directory, self._sidecar, self._proxy = directory, sidecar, proxy
        self._log = directory / "app.log"
        self._kept = sidecar.connect()
        self._rotated_s = float("-inf")

    def round(self, number: int) -> None:
        self._http()
        self._proxy.fault("503" if number % 2 else "reset-before", times=2)
        self._lines()
        self._frames()
        self._datagrams()
        self._files()
        self._proxy.fault("none", poison=["poisoned"])
        self._sidecar.post(report(event(), event(event_name="poisoned"), event()))
        command(self._sidecar.state, "/control/reload", Reload(), Reloaded)
        self._sidecar.wait_empty()
        command(self._sidecar.state, "/control/dead/purge", DeadRound(DeadFilter()), Moved)
        self._proxy.fault("none")

    def close(self) -> None:
        self._kept.close()

    def _http(self) -> None:
        for _ in range(100):
            self._push(self._kept)
        for _ in range(20):
            connection = self._sidecar.connect()
            self._push(connection)
            connection.close()
        for cut in (10, 100, 200):  # clients that go away in the middle
            body = json.dumps(report(event())).encode()
            request = b"POST /v2/push/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            with socket.create_connection(("127.0.0.1", self._sidecar.port)) as client:
                client.sendall(request[:cut])
        self._sidecar.get("/metrics")
        assert self._sidecar.post(b"no report").status_code == 400

    def _push(self, connection: http.client.HTTPConnection) -> None:
        connection.request("POST", "/v2/push/", json.dumps(report(event())))
        assert connection.getresponse().read().endswith(b'"true"}')

    def _lines(self) -> None:
        """A connection for each of three clients; each line is handed over by itself."""
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(str(self._directory / "lines.sock"))
                answers = client.makefile("rb")
                for line in range(1, LINES // 3 + 1):
                    client.sendall(json.dumps(event()).encode() + b"\n")
                    assert json.loads(answers.readline()) == {"acked": line}
                client.sendall(b"no event\n")
                assert "error" in json.loads(answers.readline())

    def _frames(self) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(self._directory / "lines.sock"))
            for _ in range(20):
                client.sendall(agent.beat_report(DATA_ID, event()))
            client.sendall(agent.get_configuration())
            assert client.recv(8)

    def _datagrams(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            for _ in range(50):
                client.sendto(json.dumps(event()).encode(), str(self._directory / "datagrams.sock"))

    def _files(self) -> None:
        with self._log.open("a") as log:
            for _ in range(20):
                log.write("one line and another\nand a third one\n")
                log.flush()
        if time.monotonic() - self._rotated_s > ROTATE_EVERY_S:
            self._rotated_s = time.monotonic()
            self._log.replace(self._log.with_suffix(".log.1"))


def settings_of(directory: Path) -> dict[str, Any]:
    return {
        "sockets": {
            "lines": {"listen": f"unix:{directory / 'lines.sock'}", "stream": "app-events"},
            "datagrams": {"listen": f"unixgram:{directory / 'datagrams.sock'}", "stream": "app-events"},
        },
        "tails": {"app": {"paths": [str(directory / "app.log")], "stream": "app-events"}},
    }


@pytest.mark.timeout(0 if SOAK_S else 300)
def test_memory_objects_descriptors_and_threads_stay_flat(tmp_path: Path) -> None:
    taken: list[dict[str, Any]] = []
    with Proxy(tmp_path, "--rate", "unlimited", "--token", f"{DATA_ID}={TOKEN}") as proxy:
        proxy.start()
        with CountedSidecar(tmp_path, proxy.url, settings_of(tmp_path)) as sidecar, ExitStack() as running:
            sidecar.start()
            load = Load(tmp_path, sidecar, proxy)
            running.callback(load.close)
            end_s = time.monotonic() + SOAK_S
            number = 0
            while number < WARM_UP + ROUNDS or time.monotonic() < end_s:
                load.round(number)
                number += 1
                if number > WARM_UP:
                    taken.append(sidecar.census())
            assert sidecar.status()["books"]["balanced"]
            assert sidecar.stop() == 0
    third = max(3, len(taken) // 4)
    first, last = taken[:third], taken[-third:]
    growth = {
        name: median(each[name] for each in last) - median(each[name] for each in first)
        for name in ("objects", "rss_kib", "descriptors", "threads")
    }
    shown = f"{growth}\nfirst: {taken[0]}\nlast:  {taken[-1]}"
    assert growth["objects"] <= MAX_NEW_OBJECTS, shown
    assert growth["rss_kib"] <= MAX_NEW_RSS_KIB, shown
    assert growth["descriptors"] <= MAX_NEW_DESCRIPTORS, shown
    assert growth["threads"] <= 0, shown
    assert max(each["before"] - each["objects"] for each in taken) <= MAX_GARBAGE, shown
