"""An orderly stop loses nothing that a client could still write, and a client that half-closes gets its answer."""

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sidecar.queue import books_on_disk
from tests.support import agent
from tests.support.process import TOKEN, Proxy, Sidecar, read_answer, wait_until
from tests.support.reports import DATA_ID, dump, event, report


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Proxy, Sidecar]]:
    sockets = {
        "lines": {"listen": f"unix:{tmp_path / 'lines.sock'}", "stream": "app-events"},
        "datagrams": {"listen": f"unixgram:{tmp_path / 'datagrams.sock'}", "stream": "app-events"},
        "tcp": {"listen": "tcp:127.0.0.1:0", "stream": "app-events"},
    }
    with Proxy(tmp_path, "--rate", "unlimited") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, {"sockets": sockets}) as sidecar:
            yield proxy, sidecar.start()


def request(body: bytes, line: str = "POST /v2/push/ HTTP/1.1") -> bytes:
    return b"%b\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (line.encode(), len(body), body)


@pytest.mark.parametrize("frames_first", [0, 50, 150])
def test_an_orderly_stop_loses_no_frame_that_could_be_written(
    pair: tuple[Proxy, Sidecar], tmp_path: Path, frames_first: int
) -> None:
    """These clients get no answer, and repeat nothing; some of them have connected, and were not accepted yet."""
    proxy, sidecar = pair
    written: set[str] = set()
    clients: list[socket.socket] = []
    try:
        for number in range(200):
            if number == frames_first:
                sidecar.signal(signal.SIGTERM)
            item = event()
            try:
                if number % 10 == 0:
                    clients.append(socket.socket(socket.AF_UNIX))
                    clients[-1].connect(str(tmp_path / "lines.sock"))
                clients[-1].sendall(agent.beat_report(DATA_ID, item))
                written.add(item["dimension"]["id"])
            except OSError:  # told at once: such a client knows
                pass
        assert sidecar.wait() == 0
    finally:
        for client in clients:
            client.close()
    sidecar.start()
    wait_until(lambda: written <= proxy.ids().keys(), 20, "all that could be written")
    assert sidecar.books()["balanced"]


def test_whoever_comes_and_goes_on_meanwhile_a_stop_has_an_end_and_loses_no_frame(
    pair: tuple[Proxy, Sidecar], tmp_path: Path
) -> None:
    """Each one that has connected costs a moment, in which the busy ones have their turns and others connect."""
    proxy, sidecar = pair
    written: set[str] = set()
    over = threading.Event()

    @contextlib.contextmanager
    def connected() -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "lines.sock"))
            yield client

    def frames() -> None:
        while True:
            with connected() as client:
                for item in [event() for _ in range(7)]:
                    client.sendall(agent.beat_report(DATA_ID, item))
                    written.add(item["dimension"]["id"])

    def newcomers() -> None:
        while True:
            with contextlib.ExitStack() as held:
                for _ in range(300):
                    held.enter_context(connected())

    def bad_lines() -> None:
        with connected() as client:  # and reads no answer
            client.settimeout(0.2)
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    client.sendall(b'{"bad":1}\n' * 1000)

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(each) for each in (frames, frames, newcomers, bad_lines)]
        wait_until(lambda: len(written) > 300, 20, "clients in full swing")
        sidecar.signal(signal.SIGTERM)
        try:
            assert sidecar.wait() == 0
        finally:
            over.set()
            sidecar.end()
        assert all(isinstance(each.exception(), OSError) for each in running[:3])
    sidecar.start()
    wait_until(lambda: written <= proxy.ids().keys(), 20, "all that could be written")


def test_a_writer_is_told_at_once_and_what_it_wrote_before_is_acknowledged(
    pair: tuple[Proxy, Sidecar], tmp_path: Path
) -> None:
    _, sidecar = pair
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(tmp_path / "lines.sock"))
        client.sendall(b"".join(dump(event()) + b"\n" for _ in range(300)))
        sidecar.signal(signal.SIGTERM)
        heard = b""
        while part := client.recv(65_536):
            heard += part
        assert json.loads(heard.splitlines()[-1]) == {"acked": 300}
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            client.sendall(b"\n")
    assert sidecar.wait() == 0


def test_a_stop_reads_the_datagrams_that_have_arrived(pair: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    proxy, sidecar = pair
    written: set[str] = set()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(str(tmp_path / "datagrams.sock"))
        for number in range(400):
            if number == 200:
                sidecar.signal(signal.SIGTERM)
            item = event()
            try:
                client.send(dump(item))
                written.add(item["dimension"]["id"])
            except OSError:
                pass
    assert sidecar.wait() == 0
    sidecar.start()
    wait_until(lambda: written <= proxy.ids().keys(), 20, "all that could be sent")


@pytest.mark.parametrize("pause_s", [0, 0.002, 0.05])
def test_a_client_that_half_closes_gets_its_answer_over_http(pair: tuple[Proxy, Sidecar], pause_s: float) -> None:
    _, sidecar = pair
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", sidecar.port), timeout=10) as client:
            client.sendall(request(dump(report(event()))))
            time.sleep(pause_s)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            assert client.recv(4096) == b""  # and then the end


def test_all_pipelined_requests_are_answered_after_a_half_close(pair: tuple[Proxy, Sidecar]) -> None:
    _, sidecar = pair
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=10) as client:
        push = request(dump(report(event())))
        client.sendall(push * 3 + request(b"", "GET /healthz HTTP/1.1") + push)
        client.shutdown(socket.SHUT_WR)
        answer = read_answer(client, silence_s=5)
    assert answer.count(b"HTTP/1.1 200") == 5
    assert answer.lower().count(b"connection: close") == 1


HEAD = b"POST /v2/push/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("rest", [HEAD[:20], HEAD, HEAD + b'{"d', b"GET", b"garbage\r\n\r\n"])
@pytest.mark.parametrize("whole", [1, 2])
def test_whole_requests_are_answered_if_what_follows_them_is_not_whole(
    pair: tuple[Proxy, Sidecar], whole: int, rest: bytes
) -> None:
    """They are on disk: a client that is not told sends them again."""
    _, sidecar = pair
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=10) as client:
        client.sendall(request(dump(report(event()))) * whole + rest)
        client.shutdown(socket.SHUT_WR)
        answer = read_answer(client, silence_s=5)
    assert answer.count(b"HTTP/1.1 200") == whole
    assert answer.count(b"HTTP/1.1 400") == rest.startswith(b"garbage")  # the one that is no request is told so
    assert answer.count(b"HTTP/1.1") == whole + rest.startswith(b"garbage")


def test_half_a_request_is_not_waited_for(pair: tuple[Proxy, Sidecar]) -> None:
    _, sidecar = pair
    for cut in (1, 30, 80):
        with socket.create_connection(("127.0.0.1", sidecar.port), timeout=10) as client:
            client.sendall(request(dump(report(event())))[:cut])
            client.shutdown(socket.SHUT_WR)
            assert client.recv(4096) == b""


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_client_that_half_closes_gets_its_answer_on_a_socket(
    pair: tuple[Proxy, Sidecar], tmp_path: Path, kind: str
) -> None:
    _, sidecar = pair
    port = int(sidecar.wait_for(r"on=tcp:127.0.0.1:(\d+)")[1])
    for _ in range(10):
        client: Any = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        with client:
            client.settimeout(10)
            client.connect(str(tmp_path / "lines.sock") if kind == "unix" else ("127.0.0.1", port))
            client.sendall(dump(event()) + b"\nno event\n")
            client.shutdown(socket.SHUT_WR)
            lines = read_answer(client, silence_s=5).splitlines()
        assert {"acked": 1} in map(json.loads, lines)
        assert len(lines) == 2


def test_large_reports_under_way_are_all_answered_at_a_stop(tmp_path: Path, proxy: Proxy) -> None:
    """They are looked at by other threads, which a stop ends; some were still waiting for one."""
    with Sidecar(tmp_path, proxy.url) as sidecar:
        sidecar.start()
        deep = "[" * 900 + "]" * 900
        made = dump(event(x=0)).decode().replace('"x":0', f'"x":{deep}').replace('"x": 0', f'"x": {deep}')
        body = b'{"data_id":1500006,"access_token":"%b","data":[%b]}' % (
            TOKEN.encode(),
            ",".join([made] * 600).encode(),
        )
        with ThreadPoolExecutor(20) as pool:
            answers = [pool.submit(lambda: sidecar.post(body).status_code) for _ in range(20)]
            wait_until(lambda: sidecar.get("/healthz").status_code == 200)
            assert sidecar.stop() == 0
        codes = [answer.result() for answer in answers if answer.exception() is None]
        assert set(codes) <= {200, 503}
        assert "Traceback" not in sidecar.text()
        assert "level=error" not in sidecar.text()
        books, _ = books_on_disk(sidecar.state / "queue.db")
        assert books.accepted == 600 * codes.count(200)
