"""Local processes that mean harm, or only sound like it: nobody else must suffer, and memory stays bounded."""

import contextlib
import gzip
import json
import os
import socket
import struct
import time
import zlib
from pathlib import Path

import pytest

from tests.integration.test_http import request, statuses
from tests.support.process import TOKEN, Proxy, Sidecar, read_answer, wait_until
from tests.support.reports import dump, event, report, sample


@pytest.fixture
def proxy(shared: tuple[Proxy, Sidecar]) -> Proxy:
    return shared[0]


@pytest.fixture
def sidecar(shared: tuple[Proxy, Sidecar]) -> Sidecar:
    return shared[1]


def rss_bytes(sidecar: Sidecar) -> int:
    pages = int(Path(f"/proc/{sidecar.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def connect(sidecar: Sidecar) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sidecar.port), 20)


LONG_NAME = b'"' + b"k" * 2_400_000 + b'":[' + b",".join([b"1"] * 1_200_000) + b"]"
EXPENSIVE = {
    "many deflate members": (["Content-Encoding: deflate"], zlib.compress(b"") * 600_000),
    "many gzip members": (["Content-Encoding: gzip"], gzip.compress(b"") * 240_000),
    "a long name over a long list": ([], dump(report(event())).replace(b'"event_name"', LONG_NAME + b',"event_name"')),
    "numbers that grow": ([], dump(report(event(dimension={f"d{n}": 1e308 for n in range(300_000)})))),
    "many levels": ([], b'{"data_id":1,"data":[' + b"[" * 2_000_000),
    "a name nearly configured": ([], b'{"data":[],"stream":"' + b"app-event" * 500_000 + b'"}'),
    "many duplicates": ([], b'{"data_id":1,"access_token":"t","data":[{' + b'"a":1,' * 700_000 + b'"a":1}]}'),
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_no_body_keeps_the_others_waiting_for_long(sidecar: Sidecar, name: str) -> None:
    headers, body = EXPENSIVE[name]
    before_s = cpu_s(sidecar)
    answer = sidecar.raw(request(body, *headers, "Connection: close"), timeout_s=60)
    assert statuses(answer)[0] in (400, 413)
    assert cpu_s(sidecar) - before_s < 3, "for a body of 5 MB"


def cpu_s(sidecar: Sidecar, thread: int | None = None) -> float:
    """Return the processor time of the process, or of one of its threads."""
    where = f"/proc/{sidecar.pid}" if thread is None else f"/proc/{sidecar.pid}/task/{thread}"
    fields = Path(f"{where}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def nested(items: int, value: str) -> bytes:
    """A legal report with a field that nobody looks at, but that has to be looked through."""
    made = dump(event(x=0)).decode().replace('"x": 0', f'"x": {value}').replace('"x":0', f'"x":{value}')
    return b'{"data_id":1500006,"access_token":"%b","data":[%b]}' % (
        TOKEN.encode(), ",".join([made] * items).encode(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        nested(2200, "[" * 900 + "]" * 900),
        nested(9, "[" + ",".join(["[]"] * 150_000) + "]"),
        nested(18_000, "1"),
    ],
    ids=["deep", "wide", "many"],
)
def test_a_legal_report_keeps_no_other_client_waiting(sidecar: Sidecar, body: bytes) -> None:
    """What the event loop's own thread does for it is the lesser part of what all of them do."""
    assert 3_500_000 < len(body) < 5_000_000
    before_s, loop_before_s = cpu_s(sidecar), cpu_s(sidecar, sidecar.pid)
    for _ in range(3):
        assert sidecar.post(body).status_code == 200
    assert cpu_s(sidecar, sidecar.pid) - loop_before_s < 0.4 * (cpu_s(sidecar) - before_s)


def test_requests_that_come_before_their_turn_take_little_memory(sidecar: Sidecar) -> None:
    ahead = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100_000
    before = rss_bytes(sidecar)
    with connect(sidecar) as connection:
        connection.settimeout(3)
        with contextlib.suppress(OSError):
            connection.sendall(ahead)  # and nobody reads the answers
        assert rss_bytes(sidecar) - before < 10_000_000
        assert sidecar.get("/healthz").status_code == 200


def test_refused_reports_leave_nothing_behind(sidecar: Sidecar) -> None:
    before = len(sidecar.status()["streams"])
    for n in range(1100):
        answer = sidecar.raw(
            request(dump(report(event(target=5), data_id=5000 + n, token=f"token-{n}")), "Connection: close")
        )
        assert statuses(answer) == [400]
    assert len(sidecar.status()["streams"]) == before
    assert sidecar.post(report(event(), data_id=4999, token="a-new-one")).status_code == 200


def test_a_token_is_no_place_to_store_things(sidecar: Sidecar) -> None:
    before = rss_bytes(sidecar)
    for n in range(20):
        answer = sidecar.post(report(event(), data_id=3000, token=f"{n}" * 2_000_000))
        assert answer.status_code == 400
        assert "expected at most 512" in answer.json()["message"]
    assert rss_bytes(sidecar) - before < 60_000_000


def test_the_longest_token_still_leaves_room_for_the_largest_event(proxy: Proxy, sidecar: Sidecar) -> None:
    item = event(event={"content": "x" * 495_000})
    assert sidecar.post(report(item, data_id=3001, token="\u0001\\" * 256)).status_code == 200
    wait_until(lambda: item["dimension"]["id"] in proxy.ids(), what="arrival")


def test_events_and_time_series_of_one_pipe_do_not_spoil_one_another(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("down")
    items = [event(), sample(), event(), sample()]
    for item in items:
        assert sidecar.post(report(item, data_id=3002, token="both-kinds")).status_code == 200
    proxy.fault("none")
    wait_until(lambda: {i["dimension"]["id"] for i in items} <= proxy.ids().keys(), what="arrival")
    (stream,) = [stream for stream in sidecar.status()["streams"] if stream["data_id"] == 3002]
    assert (stream["name"], stream["accepted"]) == ("3002", 4)
    assert [(part["kind"], part["accepted"]) for part in stream["tokens"]] == [("event", 2), ("time_series", 2)]


def test_a_client_that_never_reads_its_answers_is_not_heard_for_ever(sidecar: Sidecar) -> None:
    before = rss_bytes(sidecar)
    with connect(sidecar) as connection:
        connection.settimeout(1)
        piece = b"POST /v2/push HTTP/1.1\r\n\r\n" * 5000
        sent = 0
        try:
            while sent < 60_000_000:
                sent += connection.send(piece)
        except TimeoutError:
            pass
        assert sent < 30_000_000
        assert rss_bytes(sidecar) - before < 60_000_000
        assert sidecar.get("/healthz").status_code == 200


def test_trailers_are_bounded(sidecar: Sidecar) -> None:
    before = rss_bytes(sidecar)
    with connect(sidecar) as connection:
        connection.sendall(request(b"", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nX: ")
        try:
            for _ in range(400):
                connection.sendall(b"y" * 65_536)
        except OSError:
            pass
        answer = read_answer(connection)
    assert answer == b"" or statuses(answer) == [431]
    assert rss_bytes(sidecar) - before < 20_000_000


@pytest.mark.parametrize("in_one_piece", [True, False])
def test_an_upgrade_that_is_offered_is_declined_and_the_report_taken(
    proxy: Proxy, sidecar: Sidecar, in_one_piece: bool
) -> None:
    item = event()
    body = dump(report(item))
    whole = request(
        body, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"
    )
    with connect(sidecar) as connection:
        if in_one_piece:
            connection.sendall(whole)
        else:
            connection.sendall(whole[: -len(body)])
            for start in range(0, len(body), 100):
                time.sleep(0.005)
                connection.sendall(body[start : start + 100])
        answer = read_answer(connection)
    assert statuses(answer) == [200]
    assert b"connection: close" in answer
    wait_until(lambda: item["dimension"]["id"] in proxy.ids(), what="arrival")


def test_the_body_of_an_upgrade_is_no_request(sidecar: Sidecar) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(sidecar) as connection:
        connection.sendall(request(b"", f"Content-Length: {len(smuggled)}", "Connection: Upgrade", "Upgrade: h2c"))
        time.sleep(0.05)
        connection.sendall(smuggled + smuggled)
        assert statuses(read_answer(connection)) == [400]


def test_the_body_of_one_request_teaches_nothing_about_heads(sidecar: Sidecar) -> None:
    """Heads are remembered; here a body looks like one, right before another request in the same segment."""
    evil = request(b"", "Content-Length: 0", "Origin: https://evil.example")
    body = dump(report(event()))
    with connect(sidecar) as connection:
        connection.sendall(request(b"", f"Content-Length: {len(evil)}"))
        time.sleep(0.05)
        connection.sendall(evil + request(body))
        assert statuses(read_answer(connection)) == [400, 200]
    with connect(sidecar) as connection:
        connection.sendall(evil)
        assert statuses(read_answer(connection)) == [403]


def test_a_request_target_in_its_absolute_form(sidecar: Sidecar) -> None:
    line = f"POST http://127.0.0.1:{sidecar.port}/v2/push/ HTTP/1.1"
    assert statuses(sidecar.raw(request(dump(report(event())), "Connection: close", line=line))) == [200]


@pytest.mark.parametrize("data", [b"1e999", b'{"a":1e999}', b'"x"', b"true", b"5"])
def test_data_that_is_no_array_is_told_so(sidecar: Sidecar, data: bytes) -> None:
    answer = sidecar.post(b'{"data_id":1,"access_token":"x","data":%b}' % data)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("data: expected an array, got a")


def test_two_tokens_of_one_pipe_are_one_stream_with_two_tokens(sidecar: Sidecar) -> None:
    for token in ("first-token", "second-token"):
        assert sidecar.post(report(event(), data_id=3003, token=token)).status_code == 200
    (stream,) = [stream for stream in sidecar.status()["streams"] if stream["data_id"] == 3003]
    assert [(part["token"], part["configured"], part["accepted"]) for part in stream["tokens"]] == [
        (1, False, 1), (2, False, 1),
    ]  # fmt: skip
    lines = [line for line in sidecar.get("/metrics").text.splitlines() if 'data_id="3003"' in line]
    assert len({line.split("}")[0] for line in lines}) == len(lines) > 0


def test_a_client_cannot_black_out_the_log(sidecar: Sidecar, proxy: Proxy) -> None:
    for n, token in enumerate(("warning", "forward", "2026-", "not delivered")):
        sidecar.post(report(event(), data_id=3100 + n, token=token))
    proxy.fault("401")
    sidecar.post(report(event(), data_id=3110, token="refused-token"))
    sidecar.wait_for(r'ts=20\S+ level=error logger=forward event="delivery failed.*" stream=3110 ')
    proxy.fault("none")


def test_a_client_that_resets_its_connection_in_the_middle_takes_nobody_with_it(proxy: Proxy, sidecar: Sidecar) -> None:
    chunked = request(b"", "Transfer-Encoding: chunked")
    item = event()
    body = dump(report(event()))
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    for _ in range(20):
        with connect(sidecar) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(chunked + chunk + chunked[:40])
    assert sidecar.post(report(item)).status_code == 200
    wait_until(lambda: item["dimension"]["id"] in proxy.ids(), what="delivery goes on")
    assert "Exception" not in sidecar.text()


def test_after_all_that_it_is_well_and_the_books_balance(sidecar: Sidecar) -> None:
    sidecar.wait_empty()
    status = sidecar.status()
    assert (status["state"], status["books"]["balanced"]) == ("ok", True)
    assert rss_bytes(sidecar) < 400_000_000
    assert "Traceback" not in sidecar.text()
    assert TOKEN not in json.dumps(status)
