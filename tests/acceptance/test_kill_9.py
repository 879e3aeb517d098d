"""Promise 1, broken on purpose: hundreds of kill -9 at random moments under load."""

import json
import os
import random
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import Proxy, Sidecar
from tests.support.reports import event, report

ROUNDS = int(os.environ.get("SIDECAR_TEST_ROUNDS", "200"))
CLIENTS = 4


class HttpClient(threading.Thread):
    """Posts numbered events and writes down those whose report was answered with success, until told to end."""

    def __init__(self, number: int, port: int) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.acknowledged: list[str] = []
        self.ended = threading.Event()
        self.number, self._port = number, port
        self._random = random.Random(number)
        self._sent = 0

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                    while not self.ended.is_set():
                        self._post(connection)
            except OSError:
                time.sleep(0.005)

    def _post(self, connection: socket.socket) -> None:
        ids = [f"{self.number}-{self._sent + n}" for n in range(self._random.choice([1, 1, 1, 7, 300]))]
        self._sent += len(ids)
        body = json.dumps(report(*[event(dimension={"id": number}) for number in ids])).encode()
        connection.sendall(
            b"POST /v2/push/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        answer = connection.recv(4096)
        if not answer:
            raise ConnectionResetError
        if answer.startswith(b"HTTP/1.1 200") and b'"result":"true"' in answer:
            self.acknowledged += ids


class SocketClient(threading.Thread):
    """Sends numbered lines over a socket and writes down those that were acknowledged, until told to end."""

    def __init__(self, number: int, path: str) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.acknowledged: list[str] = []
        self.ended = threading.Event()
        self.number, self._path = number, path
        self._random = random.Random(number)
        self._sent = 0

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(5)
                    connection.connect(self._path)
                    self._send(connection)
            except OSError:
                time.sleep(0.005)

    def _send(self, connection: socket.socket) -> None:
        """One connection after the other: what was not acknowledged on one is never sent again here."""
        sent: list[str] = []
        acked, heard = 0, b""
        while not self.ended.is_set():
            ids = [f"{self.number}-{self._sent + n}" for n in range(self._random.choice([1, 1, 7, 300]))]
            self._sent += len(ids)
            lines = [json.dumps(event(dimension={"id": number})).encode() + b"\n" for number in ids]
            sent += ids
            connection.sendall(b"".join(lines))
            while len(sent) - acked > 1000 or heard:
                heard += connection.recv(4096) or b"end"
                if heard.endswith(b"end"):
                    return
                *answers, heard = heard.split(b"\n")
                for answer in answers:
                    total = json.loads(answer)["acked"]
                    self.acknowledged += sent[acked:total]
                    acked = total


def check_integrity(state: Path, scratch: Path) -> None:
    """Of a copy, as the crash left it: the sidecar itself must do the recovery."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name in ("queue.db", "queue.db-wal"):
        if (state / name).exists():
            shutil.copy(state / name, scratch / name)
    with sqlite3.connect(scratch / "queue.db") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        queued = "(SELECT coalesce(sum(events), 0) FROM lane WHERE lane.id >> 3 = stream.id)"
        unbalanced = f"SELECT count(*) FROM stream WHERE accepted != {queued} + delivered + dead + dropped"
        assert copy.execute(unbalanced).fetchone() == (0,)
        counted = "(SELECT coalesce(sum(chunk.events), 0) FROM chunk WHERE chunk.id >> 40 = lane.id)"
        assert copy.execute(f"SELECT count(*) FROM lane WHERE events != {counted}").fetchone() == (0,)
    copy.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Proxy, Sidecar]]:
    with Proxy(tmp_path, "--rate", "unlimited") as proxy:
        proxy.start()
        sockets = {"local": {"listen": f"unix:{tmp_path}/s.sock", "stream": "app-events"}}
        with Sidecar(tmp_path, proxy.url, {"sockets": sockets}) as sidecar:
            yield proxy, sidecar.start()


@pytest.mark.timeout(600)
def test_acknowledged_events_survive_kill_9(pair: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    proxy, sidecar = pair
    clients: list[HttpClient | SocketClient] = [HttpClient(number, sidecar.port) for number in range(CLIENTS // 2)]
    clients += [SocketClient(number, f"{tmp_path}/s.sock") for number in range(CLIENTS // 2, CLIENTS)]
    for client in clients:
        client.start()
    moments = random.Random(20261123)
    for round_number in range(ROUNDS):
        if round_number % 10 == 9:  # now and then in the middle of the start itself
            time.sleep(moments.uniform(0, 0.5))
        else:
            sidecar.wait_for("event=ready")
            time.sleep(moments.uniform(0, 0.15))
        sidecar.kill()
        check_integrity(sidecar.state, tmp_path / "copy")
        sidecar.spawn()
    sidecar.wait_for("event=ready")
    for client in clients:
        client.ended.set()
        client.join()
    sidecar.wait_empty(60)
    assert "do not balance" not in sidecar.output.read_text()

    arrived = [item["dimension"]["id"] for item in proxy.items()]
    acknowledged = {number for client in clients for number in client.acknowledged}
    assert len(acknowledged) > 10 * ROUNDS, "too little load to prove anything"
    assert acknowledged - set(arrived) == set(), "acknowledged, and lost"
    books = sidecar.books()
    assert books["balanced"]
    assert books["accepted"] == books["delivered"] == len(set(arrived))

    assert all(len(client.acknowledged) > ROUNDS for client in clients)
    # Order within the stream: of each client, whose requests followed one another, the first arrivals are in order.
    for client in clients:
        prefix = f"{client.number}-"
        mine = [int(number.removeprefix(prefix)) for number in dict.fromkeys(arrived) if number.startswith(prefix)]
        assert mine == sorted(mine)

    # Duplicates only of what was in flight when it was killed: at most one document for each kill.
    seen: set[str] = set()
    repeated = 0
    for document in proxy.documents():
        ids = {item["dimension"]["id"] for item in document["data"]}
        repeated += bool(ids & seen)
        seen |= ids
    assert repeated <= ROUNDS
