"""The HTTP section of the interface, against a real process over real sockets."""

import contextlib
import gzip
import json
import socket
import time
import uuid
import zlib
from typing import Any

import pytest

from tests.support.process import Proxy, Sidecar, read_answer, wait_until
from tests.support.reports import dump, event, report, sample, without

SETTINGS = {"http": {"max_body": "3MB", "allowed_hosts": ["sidecar.local"]}}


@pytest.fixture
def proxy(shared: tuple[Proxy, Sidecar]) -> Proxy:
    return shared[0]


@pytest.fixture
def sidecar(shared: tuple[Proxy, Sidecar]) -> Sidecar:
    return shared[1]


def request(body: bytes, *headers: str, line: str = "POST /v2/push/ HTTP/1.1", host: str | None = "127.0.0.1") -> bytes:
    lines = [line, *([f"Host: {host}"] if host is not None else []), *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def statuses(answer: bytes) -> list[int]:
    return [int(part[1:4]) for part in answer.split(b"HTTP/1.1")[1:]]


def arrives(proxy: Proxy, item: dict[str, Any]) -> Any:
    number = item["dimension"]["id"]
    found = wait_until(lambda: [i for i in proxy.items() if i["dimension"]["id"] == number], what="arrival")
    assert len(found) == 1
    return found[0]


def assert_success(document: Any) -> None:
    assert set(document) == {"code", "message", "request_id", "result"}
    assert (document["code"], document["message"], document["result"]) == ("200", "success", "true")
    uuid.UUID(document["request_id"])


def assert_refused(document: Any, status: int, words: str) -> None:
    assert set(document) == {"code", "message", "request_id", "result"}
    assert (document["code"], document["result"]) == (str(status), "false")
    assert words in document["message"]


@pytest.mark.parametrize("path", ["/v2/push/", "/v2/push", "/v2/push/?source=app"])
@pytest.mark.parametrize("item", [event(), sample()], ids=["event", "time series"])
def test_a_report_is_answered_like_the_proxy_does_and_arrives(
    proxy: Proxy, sidecar: Sidecar, path: str, item: dict[str, Any]
) -> None:
    fresh = json.loads(json.dumps(item)) | {"dimension": item["dimension"] | {"id": str(uuid.uuid4())}}
    answer = sidecar.raw(request(dump(report(fresh, data_id=77)), "Connection: close", line=f"POST {path} HTTP/1.1"))
    assert statuses(answer) == [200]
    assert_success(json.loads(answer.split(b"\r\n\r\n")[1]))
    assert arrives(proxy, fresh) == fresh


def test_the_documentations_example_sent_with_any_content_type(proxy: Proxy, sidecar: Sidecar) -> None:
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "application/json", "", "nonsense"):
        item = event()
        assert_success(sidecar.post(report(item), headers={"content-type": content_type}).json())
        assert arrives(proxy, item) == item


def test_a_stream_may_be_named_and_then_the_application_needs_no_token(proxy: Proxy, sidecar: Sidecar) -> None:
    item = event()
    assert_success(sidecar.post({"stream": "app-events", "data": [item]}).json())
    arrives(proxy, item)
    assert {document["data_id"] for document in proxy.documents()} <= {77, 1500006}


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        (report(event(), event(), event(), event(dimension={"module": []})), 400,
         "data[3].dimension.module: expected a string, got an array"),
        (report(event(timestamp=1587218838)), 400, "ten digits: seconds; expected 13-digit milliseconds"),
        (report(event(), token="wrong"), 401, "access_token: wrong for stream app-events"),
        (report(event(), data_id=78, token=""), 401, "access_token: missing"),
        ({"stream": "app-evnts", "data": []}, 400, "did you mean app-events?"),
        (report(event(event={"content": "x" * 600_000})), 413, "data[0]: "),
        (report(*[event() for _ in range(30_000)]), 413, "body: larger than 3000000 bytes (http.max_body)"),
        (b"", 400, "body: empty"),
        (b"\x00\x01", 400, "body: not valid JSON"),
    ],
)  # fmt: skip
def test_bad_input_is_told_what_would_be_right_and_nothing_of_it_is_queued(
    sidecar: Sidecar, document: Any, status: int, words: str
) -> None:
    before = sidecar.status()
    answer = sidecar.post(document)
    assert answer.status_code == status
    assert_refused(answer.json(), status, words)
    after = sidecar.status()
    assert after["books"]["accepted"] == before["books"]["accepted"]
    assert after["inputs"][0]["rejected"] == before["inputs"][0]["rejected"] + 1


def test_ten_thousand_items_in_one_document(proxy: Proxy, sidecar: Sidecar) -> None:
    items = [event() for _ in range(10_000)]
    assert_success(sidecar.post(report(*items)).json())
    ids = {item["dimension"]["id"] for item in items}
    wait_until(lambda: ids <= proxy.ids().keys(), what="all items")
    arrived = [item for item in proxy.items() if item["dimension"]["id"] in ids]
    assert arrived == items


def test_items_are_normalised_as_the_proxy_would(proxy: Proxy, sidecar: Sidecar) -> None:
    item = without(event(), "timestamp")
    item["dimension"] |= {"n": 1.50, "none": None, "yes": True}
    before_ms = int(time.time() * 1000)
    assert_success(sidecar.post(report(item)).json())
    arrived = arrives(proxy, item)
    assert before_ms - 1000 <= arrived["timestamp"] <= time.time() * 1000 + 1000
    assert arrived["dimension"] == {
        "module": "db", "set": "guangdong", "id": item["dimension"]["id"], "n": "1.5", "yes": "true",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
def test_compressed_bodies_are_understood(proxy: Proxy, sidecar: Sidecar, encoding: str, pack: Any) -> None:
    item = event()
    raw = sidecar.raw(request(pack(dump(report(item))), f"Content-Encoding: {encoding}", "Connection: close"))
    assert statuses(raw) == [200]
    assert arrives(proxy, item) == item


def test_a_compression_bomb_is_refused(sidecar: Sidecar) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    raw = sidecar.raw(request(bomb, "Content-Encoding: gzip", "Connection: close"))
    assert statuses(raw) == [413]
    assert b"when decompressed" in raw


def test_a_body_in_pieces(proxy: Proxy, sidecar: Sidecar) -> None:
    item = event()
    body = dump(report(item))
    with socket.create_connection(("127.0.0.1", sidecar.port), 10) as connection:
        for n, byte in enumerate(request(body)):
            connection.sendall(bytes([byte]))
            if n % 100 == 0:
                time.sleep(0.001)
        assert statuses(read_answer(connection)) == [200]
    arrives(proxy, item)


def test_a_chunked_body(proxy: Proxy, sidecar: Sidecar) -> None:
    item = event()
    body = dump(report(item))
    pieces = [body[i : i + 50] for i in range(0, len(body), 50)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert statuses(sidecar.raw(request(chunked, "Transfer-Encoding: chunked", "Connection: close"))) == [200]
    arrives(proxy, item)


def test_expect_100_continue(proxy: Proxy, sidecar: Sidecar) -> None:
    item = event()
    body = dump(report(item))
    with socket.create_connection(("127.0.0.1", sidecar.port), 10) as connection:
        connection.sendall(request(b"", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert statuses(read_answer(connection)) == [200]
    arrives(proxy, item)


def test_expect_100_continue_for_a_body_that_will_not_be_taken(sidecar: Sidecar) -> None:
    raw = sidecar.raw(request(b"", "Content-Length: 99999999", "Expect: 100-continue"))
    assert statuses(raw) == [413]
    assert b"connection: close" in raw


def test_http_1_0(proxy: Proxy, sidecar: Sidecar) -> None:
    item = event()
    raw = sidecar.raw(request(dump(report(item)), line="POST /v2/push/ HTTP/1.0", host=None))
    assert raw.startswith(b"HTTP/1.1 200 OK")
    arrives(proxy, item)


def test_keep_alive_serves_many_requests_on_one_connection(proxy: Proxy, sidecar: Sidecar) -> None:
    connection = sidecar.connect()
    items = [event() for _ in range(50)]
    for n, item in enumerate(items):
        body = dump(report(item)) if n % 3 else dump(report(item, data_id=77))
        connection.request("POST", "/v2/push/", body)
        assert_success(json.loads(connection.getresponse().read()))
        connection.request("GET", "/healthz")
        assert json.loads(connection.getresponse().read()) == {"ok": True, "reasons": []}
    connection.close()
    for item in items:
        arrives(proxy, item)


def test_pipelined_requests_are_answered_in_order(sidecar: Sidecar) -> None:
    good, bad = request(dump(report(event()))), request(dump(report(event(target=5))))
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    raw = sidecar.raw(good + bad + get + good + good + bad + get)
    assert statuses(raw) == [200, 400, 200, 200, 200, 400, 200]


def test_the_same_head_again_with_another_body(sidecar: Sidecar) -> None:
    """Heads are remembered: what follows them must still be looked at."""
    first = request(dump(report(event(event={"content": "aaaa"}))))
    head = first.split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    length = len(first) - len(head)
    with socket.create_connection(("127.0.0.1", sidecar.port), 10) as connection:
        for body, status in (
            (first[len(head) :], 200),
            (b"x" * length, 400),
            (first[len(head) :], 200),
            (b"[" * length, 400),
        ):
            connection.sendall(head + body)
            assert statuses(read_answer(connection, 0.1)) == [status]
        connection.sendall(head + first[len(head) :] + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert statuses(read_answer(connection, 0.2)) == [200, 200]
        connection.sendall(head + first[len(head) : -5])
        time.sleep(0.05)
        connection.sendall(first[-5:])
        assert statuses(read_answer(connection, 0.2)) == [200]


def test_a_client_that_hangs_up_half_way_leaves_nothing(sidecar: Sidecar) -> None:
    before = sidecar.books()["accepted"]
    with socket.create_connection(("127.0.0.1", sidecar.port), 10) as connection:
        connection.sendall(request(dump(report(event())))[:-10])
    time.sleep(0.1)
    assert sidecar.books()["accepted"] == before


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v2/push/", "/v2/push"])
def test_a_wrong_method(sidecar: Sidecar, method: str, path: str) -> None:
    raw = sidecar.raw(request(b"", "Connection: close", line=f"{method} {path} HTTP/1.1"))
    assert statuses(raw) == [405]
    assert b"allow: POST" in raw


@pytest.mark.parametrize("path", ["/", "/status", "/healthz", "/readyz", "/metrics", "/page.js", "/page.css"])
def test_pages_take_no_post(sidecar: Sidecar, path: str) -> None:
    assert sidecar.raw(request(b"", line=f"POST {path} HTTP/1.1")).startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize("path", ["/nowhere", "/v2/push/more", "/../etc/passwd", "/page/../status", "//"])
def test_an_unknown_path(sidecar: Sidecar, path: str) -> None:
    assert statuses(sidecar.raw(request(b"", "Connection: close", line=f"GET {path} HTTP/1.1"))) == [404]
    assert statuses(sidecar.raw(request(b"{}", "Connection: close", line=f"POST {path} HTTP/1.1"))) == [404]


@pytest.mark.parametrize(
    "headers",
    [["Origin: http://evil.example"], ["Origin: null"], ["Sec-Fetch-Site: cross-site"], ["Origin: http://[::1"]],
)
@pytest.mark.parametrize("line", ["POST /v2/push/ HTTP/1.1", "GET /status HTTP/1.1", "GET / HTTP/1.1"])
def test_a_page_of_a_foreign_site_is_refused(sidecar: Sidecar, headers: list[str], line: str) -> None:
    before = sidecar.books()["accepted"]
    raw = sidecar.raw(request(dump(report(event())), *headers, "Connection: close", line=line))
    assert statuses(raw) == [403]
    assert b"access-control" not in raw.lower()
    assert sidecar.books()["accepted"] == before


def test_dns_rebinding_is_refused_and_an_allowed_host_is_not(sidecar: Sidecar) -> None:
    body = dump(report(event()))
    assert statuses(sidecar.raw(request(body, "Connection: close", host="evil.example:10205"))) == [403]
    assert statuses(sidecar.raw(request(body, "Connection: close", host="sidecar.local:10205"))) == [200]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello\r\n\r\n",
        b"POST /v2/push/ HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/push/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v2/push/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v2/push/ HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"POST /v2/push/ HTTP/1.1\r\nX: " + b"y" * 200_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_harms_nobody(sidecar: Sidecar, nonsense: bytes) -> None:
    raw = sidecar.raw(nonsense)
    assert raw == b"" or raw.startswith(b"HTTP/1.1 4")
    assert sidecar.get("/healthz").status_code == 200


def test_a_body_that_never_ends_is_cut_off(sidecar: Sidecar) -> None:
    with socket.create_connection(("127.0.0.1", sidecar.port), 10) as connection:
        connection.sendall(request(b"", "Transfer-Encoding: chunked"))
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 200_000_000:
                connection.sendall(piece)
                sent += len(piece)
        assert sent < 40_000_000


def test_status_has_the_promised_shape(sidecar: Sidecar) -> None:
    status = sidecar.status()
    assert {
        "version",
        "started_at",
        "state",
        "reasons",
        "books",
        "queue",
        "streams",
        "proxies",
        "inputs",
        "config",
    } <= set(status)
    assert set(status["books"]) == {"accepted", "queued", "delivered", "dead", "dropped", "balanced"}
    assert set(status["queue"]) == {
        "bytes", "max_bytes", "limit", "oldest_age_s", "fill_per_s", "full_in_s", "refused_by",
        "wal_bytes", "went_back", "last_dead", "through_in_s",
    }  # fmt: skip
    assert {
        "name", "data_id", "state", "accepted", "queued", "delivered", "dead", "dropped", "queued_bytes",
        "oldest_age_s", "rate_per_min", "next_attempt_at", "last_error", "last_delivered_at", "lanes",
    } <= set(status["streams"][0])  # fmt: skip
    assert {"url", "state", "last_error", "retry_at", "clock_ahead_s"} <= set(status["proxies"][0])
    assert {"name", "kind", "events", "rejected", "bytes"} <= set(status["inputs"][0])
    assert set(status["config"]) == {"generation", "loaded_at", "error"}
    assert status["books"]["balanced"] is True
    assert abs(status["started_at"] / 1000 - time.time()) < 600


def test_health_readiness_and_metrics(sidecar: Sidecar) -> None:
    for path in ("/healthz", "/readyz"):
        answer = sidecar.get(path)
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "reasons": []})
    text = sidecar.get("/metrics").text
    assert "sidecar_up 1.0" in text
    assert "sidecar_books_balanced 1.0" in text


def test_no_token_in_anything_that_can_be_read(sidecar: Sidecar) -> None:
    sidecar.post(report(event(), token="a-wrong-secret-token"))
    sidecar.post(report(event(), data_id=79, token="a-passed-through-token"))
    shown = (
        "".join(sidecar.get(path).text for path in ("/status", "/metrics", "/", "/healthz", "/readyz")) + sidecar.text()
    )
    for token in ("token-of-the-test-pipe", "a-wrong-secret-token", "a-passed-through-token"):
        assert token not in shown


def test_repaired_reports_are_counted(proxy: Proxy, sidecar: Sidecar) -> None:
    before = sidecar.status()["inputs"][0]
    item = event(event={"content": "XX"})
    assert sidecar.post(dump(report(item)).replace(b"XX", b"\xff")).status_code == 200
    after = sidecar.status()["inputs"][0]
    assert after["repaired"] == before["repaired"] + 1
    assert after["events"] == before["events"] + 1
    assert after["bytes"] > before["bytes"] + 100
    assert arrives(proxy, item)["event"]["content"] == "\ufffd"


def test_security_headers_of_the_page(sidecar: Sidecar) -> None:
    headers = sidecar.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_many_connections_at_once(sidecar: Sidecar) -> None:
    connections = [socket.create_connection(("127.0.0.1", sidecar.port), 10) for _ in range(200)]
    try:
        for connection in connections:
            connection.sendall(request(dump(report(event()))))
        for connection in connections:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    finally:
        for connection in connections:
            connection.close()
