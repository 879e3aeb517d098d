"""Every fault of the stand-in proxy as a client sees it, over real sockets."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.process import Proxy, run_command, wait_until
from tests.support.reports import event, report

STATUSES = [400, 401, 403, 404, 405, 408, 413, 418, 422, 425, 429, 500, 502, 503, 504, 301, 302, 307, 201, 204, 304]
KEPT = {"reset-after", "slow"}
"""The faults under which documents are stored."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("standin"), "--rate", "unlimited") as proxy:
        yield proxy.start()
        assert len(proxy.text().splitlines()) == 1, proxy.text()  # its greeting, and no complaint about a fault


@pytest.fixture
def standin(started: Proxy) -> Iterator[Proxy]:
    """The stand-in of this module, well again afterwards."""
    yield started
    started.fault("none")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=5) as client:
        yield client


def document(**more: Any) -> bytes:
    return json.dumps(report(event(), **more)).encode()


def post(client: httpx.Client, proxy: Proxy, body: bytes | None = None) -> httpx.Response:
    return client.post(f"{proxy.url}/v2/push/", content=document() if body is None else body)


def raw(proxy: Proxy, timeout_s: float = 5.0) -> socket.socket:
    """A connection over which a good document was sent."""
    body = document()
    host, port = proxy.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=timeout_s)
    connection.sendall(b"POST /v2/push/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return connection


def until_closed(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def clock_of(response: httpx.Response) -> float:
    """How far the other side's clock is ahead, in seconds."""
    return parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()


@pytest.mark.parametrize("status", STATUSES)
def test_a_status(standin: Proxy, client: httpx.Client, status: int) -> None:
    before = standin.summary()["documents"]
    for retry_after in (None, "7", "Wed, 21 Oct 2037 07:28:00 GMT"):
        standin.fault(str(status), retry_after=retry_after, times=1)
        response = post(client, standin)
        assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
        assert abs(clock_of(response)) < 3
        assert ("location" in response.headers) == (status in (301, 302, 307))
        if status in (204, 304):
            assert response.content == b""
        else:
            words = response.json()
            assert (words["code"], words["message"], words["result"]) == (str(status), f"fault {status}", "false")
    assert post(client, standin).status_code == 200  # the connection is still good
    assert standin.summary()["documents"] == before + 1


@pytest.mark.parametrize(
    ("mode", "body"),
    [
        ("html", b"<!DOCTYPE html>"), ("empty", b""), ("garbled", b"\x00\x01\x02"), ("array", b"[]"),
        ("string", b'"ok"'), ("no-result", b'{"code":"200"}'),
        ("false", b'{"code":"200","result":"false","message":"not stored"'),
        ("large", b'{"code":"200"'),
    ],
)  # fmt: skip
def test_a_200_that_is_not_the_proxys_word(standin: Proxy, client: httpx.Client, mode: str, body: bytes) -> None:
    before = standin.summary()["documents"]
    standin.fault(mode)
    response = post(client, standin)
    assert (response.status_code, response.content[: len(body)]) == (200, body)
    match mode:
        case "empty" | "array" | "string" | "no-result":
            assert response.content == body
        case "garbled":
            with pytest.raises(UnicodeDecodeError):
                response.content.decode()
        case "large":
            assert len(response.content) > 65_536
            assert response.json()["result"] == "true"
        case "false":
            assert response.json()["result"] == "false"
    assert standin.summary()["documents"] == before


def test_redirect_has_no_body(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("redirect")
    response = post(client, standin)
    assert (response.status_code, response.content) == (302, b"")
    assert response.headers["location"].startswith("http://127.0.0.1:9/")


def test_busy_is_a_late_429_without_words(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("busy", delay_s=0.4, retry_after="2")
    started_s = time.monotonic()
    response = post(client, standin)
    assert time.monotonic() - started_s >= 0.4
    assert (response.status_code, response.content, response.headers["retry-after"]) == (429, b"", "2")


def test_slow_is_a_late_success(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("slow", delay_s=0.4)
    started_s = time.monotonic()
    assert post(client, standin).json()["result"] == "true"
    assert time.monotonic() - started_s >= 0.4


@pytest.mark.parametrize("mode", ["reset-before", "reset-after"])
def test_a_reset(standin: Proxy, mode: str) -> None:
    before = standin.summary()["documents"]
    standin.fault(mode)
    with raw(standin) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert standin.summary()["documents"] == before + (mode in KEPT)


def test_an_answer_cut_off_in_its_head(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("cut-head")
    with raw(standin) as connection:
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in answer
    with pytest.raises(httpx.RemoteProtocolError):
        post(client, standin)


def test_an_answer_cut_off_in_its_body(standin: Proxy, client: httpx.Client) -> None:
    before = standin.summary()["documents"]
    standin.fault("cut-body")
    with raw(standin) as connection:
        head, _, body = until_closed(connection).partition(b"\r\n\r\n")
    promised = int(head.lower().split(b"content-length: ")[1].split()[0])
    assert b'{"code":"200","result":"true","message":""}'.startswith(body)
    assert len(body) < promised
    assert b"date: " in head
    with pytest.raises(httpx.RemoteProtocolError):
        post(client, standin)
    assert standin.summary()["documents"] == before


def test_no_answer_at_all(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("hang", times=1)
    before = standin.summary()
    with raw(standin, 0.5) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert post(client, standin).status_code == 200  # others are treated meanwhile
    after = standin.summary()
    assert after["requests"] == before["requests"] + 2
    assert after["answers"]["hang"] == before["answers"].get("hang", 0) + 1


def test_what_hangs_ends_when_the_proxy_goes_down(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("hang")
    before = standin.summary()["requests"]
    with raw(standin) as connection:
        wait_until(lambda: standin.summary()["requests"] > before)
        standin.fault("down")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    with pytest.raises(httpx.ConnectError):
        post(client, standin)
    standin.fault("none")
    assert post(client, standin).status_code == 200


def test_garbage_instead_of_http(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("garbage")
    with raw(standin) as connection:
        assert until_closed(connection).startswith(b"SSH-2.0")
    with pytest.raises(httpx.RemoteProtocolError):
        post(client, standin)


def test_a_fault_for_some_pipes(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("503", data_ids=[77, 78], times=2, poison=["POISON"])
    poison = event(event={"content": "POISON"})
    sent = [({}, 200), ({"data_id": 77}, 503), ({"data_id": 79}, 200), ({"data_id": 78}, 503), ({"data_id": 77}, 200)]
    for more, status in sent:
        assert post(client, standin, document(**more)).status_code == status
    assert post(client, standin, json.dumps(report(poison)).encode()).status_code == 200
    assert post(client, standin, json.dumps(report(poison, data_id=77)).encode()).status_code == 400
    assert post(client, standin, b"{}").status_code == 401
    assert standin.summary()["faults"]["mode"] == "none"


def test_poison_may_be_a_422(standin: Proxy, client: httpx.Client) -> None:
    standin.fault("none", poison=["POISON"], poison_status=422)
    poisoned = json.dumps(report(event(), event(event={"content": "a POISON"}))).encode()
    response = post(client, standin, poisoned)
    assert (response.status_code, response.json()["message"]) == (422, "poison event")
    assert post(client, standin).status_code == 200


@pytest.mark.parametrize("skew_s", [-7200, 7200])
def test_a_clock_that_is_off(standin: Proxy, client: httpx.Client, skew_s: int) -> None:
    standin.fault("none", skew_s=skew_s)
    now_ms = int(time.time() * 1000)
    response = post(client, standin, json.dumps(report(event(timestamp=now_ms))).encode())
    assert response.status_code == (400 if skew_s < 0 else 200)
    assert abs(clock_of(response) - skew_s) < 3
    standin.fault("503", skew_s=skew_s)
    assert abs(clock_of(post(client, standin)) - skew_s) < 3


def test_every_answer_has_a_date(standin: Proxy, client: httpx.Client) -> None:
    answers = [
        post(client, standin), post(client, standin, b"{"), post(client, standin, b"x" * 500_001),
        client.get(f"{standin.url}/v2/push/"), client.post(f"{standin.url}/elsewhere"),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 400, 413, 400, 404]  # by any method
    for answer in answers:
        assert abs(clock_of(answer)) < 3
        assert len(answer.headers.get_list("date")) == 1


def test_the_summary_counts_by_data_id_and_probes_apart(standin: Proxy, client: httpx.Client) -> None:
    before = standin.summary()
    post(client, standin, document(data_id=901))
    standin.fault("500", times=1)
    post(client, standin, document(data_id=901))
    post(client, standin, document(data_id=902))
    post(client, standin, b"{}")
    standin.fault("503", times=1)
    post(client, standin, b"{}")
    after = standin.summary()
    assert after["by_data_id"]["901"] == {"requests": 2, "answers": {"200": 1, "500": 1}}
    assert after["by_data_id"]["902"] == {"requests": 1, "answers": {"200": 1}}
    assert after["requests"] == before["requests"] + 3
    assert after["answers"]["200"] == before["answers"]["200"] + 2
    assert after["answers"].get("401") == before["answers"].get("401")
    assert after["probes"]["requests"] == before["probes"]["requests"] + 2
    for status in ("401", "503"):
        assert after["probes"]["answers"][status] == before["probes"]["answers"].get(status, 0) + 1


def test_wrong_faults_change_nothing(standin: Proxy) -> None:
    for wrong in ({"mode": "200"}, {"mode": "503", "typo": 1}, {"mode": "down", "data_ids": [5]}, {"skew_s": 1e300}):
        response = httpx.put(f"{standin.control}/faults", json=wrong, trust_env=False)
        assert response.status_code == 400
        assert "modes: none, down, 500" in response.json()["error"]
    assert standin.summary()["faults"]["mode"] == "none"


def test_options_at_the_start(tmp_path: Path, client: httpx.Client) -> None:
    options = [
        "--rate", "6/min", "--burst", "3", "--fault", "429:1", "--retry-after", "7", "--delay", "0.1",
        "--data-id", "77", "--data-id", "78", "--skew", "-120", "--poison", "POISON", "--poison-status", "422",
    ]  # fmt: skip
    with Proxy(tmp_path, *options) as proxy:
        proxy.start()
        assert proxy.summary()["faults"] == {
            "mode": "429", "times": 1, "retry_after": "7", "delay_s": 0.1, "poison": ["POISON"], "poison_status": 422,
            "data_ids": [77, 78], "skew_s": -120.0,
        }  # fmt: skip
        assert post(client, proxy, document(data_id=77)).headers["retry-after"] == "7"
        answers = [post(client, proxy) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]  # a bucket of three
        assert proxy.summary()["most_requests_in_a_window"] == 5
        assert proxy.stop() == 0


@pytest.mark.parametrize(
    "options",
    [["--burst", "5", "--rate", "unlimited"], ["--fault", "down", "--data-id", "5"], ["--poison-status", "200"]],
)
def test_options_that_cannot_be(options: list[str]) -> None:
    done = run_command("proxy", *options)
    assert done.returncode == 2
    assert options[0] in done.stderr
