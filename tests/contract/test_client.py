"""The client over real sockets: whatever comes back is a value, and nothing of a request stays behind."""

import asyncio
import gc
import gzip
import re
import ssl
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from sidecar.forward.client import Client, push_url
from sidecar.forward.outcome import Failure, Reply
from tests.support.pem import Authority
from tests.support.scripted import ACK, Scripted, chunked, cut, http

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def play(
    answer: Answer, body: bytes = b"{}", times: int = 1, timeout_s: float = 2.0, deadline_s: float | None = None
) -> list[Reply | Failure]:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(
                    next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(
                        b":"
                    )[1]
                )
                await reader.readexactly(length)
                await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> list[Reply | Failure]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(timeout_s=timeout_s, tls=ssl.create_default_context, connections=4)
        assert client.deadline_s == 4 * timeout_s
        client.deadline_s = deadline_s or client.deadline_s
        answers = [await client.post(f"http://127.0.0.1:{port}", body) for _ in range(times)]
        await client.close()
        await cut(server, writers)
        return answers

    return asyncio.run(run())


def saying(raw: bytes, *, close: bool = False) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if close:
            writer.close()

    return answer


GOOD = saying(b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 2\r\n\r\n{}")


def test_an_answer_is_a_reply() -> None:
    assert play(GOOD) == [Reply(200, {"x-one": "1", "content-length": "2"}, b"{}")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (saying(b"", close=True), "RemoteProtocolError"),
        (saying(b"nonsense\r\n\r\n", close=True), "RemoteProtocolError"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", close=True), "RemoteProtocolError"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "ReadTimeout"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 99_999), "answer larger than"),
        (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", close=True), "RemoteProtocolError"),
    ],
)  # fmt: skip
def test_whatever_is_no_answer_is_a_failure(answer: Answer, words: str) -> None:
    (failure,) = play(answer, timeout_s=0.3)
    assert isinstance(failure, Failure)
    assert words in failure.error


def test_an_answer_that_comes_byte_by_byte_does_not_hold_a_request_for_ever() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert play(drip, deadline_s=0.2) == [Failure("no complete answer within 0.2 s", hung=True)]


def test_who_waits_for_a_proxy_is_sent_elsewhere_and_nobody_else() -> None:
    async def run() -> None:
        client = Client(timeout_s=2.0, tls=ssl.create_default_context, connections=1)

        async def wait(url: str) -> bool:
            async with client.turn(url, "waiting", 1) as granted:
                return granted

        async with client.turn("http://a", "busy", 1), client.turn("http://b", "busy", 1):
            waits = [asyncio.create_task(wait(url)) for url in ("http://a", "http://b")]
            await asyncio.sleep(0)
            assert client.is_contended("http://a")
            client.dismiss("http://a")
            assert await waits[0] is False
            assert client.is_contended("http://b")
            waits[0] = asyncio.create_task(wait("http://a"))
            await asyncio.sleep(0)
            client.dismiss()
            assert await asyncio.gather(*waits) == [False, False]

    asyncio.run(asyncio.wait_for(run(), 10))


def test_nothing_of_a_request_waits_for_the_garbage_collector() -> None:
    """Bodies of half a megabyte, dozens a second: a circle of references would hold hundreds of megabytes."""
    gc.collect()
    gc.disable()
    try:
        play(GOOD, b"x" * 500_000, times=20)
        left = [each for each in gc.get_objects() if isinstance(each, httpx.Request | httpx.Response)]
    finally:
        gc.enable()
    assert left == []


def test_the_push_endpoint_is_added_where_it_is_not_named() -> None:
    for url in ("http://a:1", "http://a:1/", "http://a:1/v2/push", "http://a:1/v2/push/"):
        assert push_url(url) == "http://a:1/v2/push/"
    assert push_url("http://a:1/prefix") == "http://a:1/prefix/v2/push/"


@pytest.mark.parametrize("planted", [http(ACK), b"x", http(ACK)[:20], b"\r\n"], ids=["answer", "byte", "half", "blank"])
def test_what_follows_an_answer_is_no_answer_to_the_next_request(planted: bytes) -> None:
    server = Scripted(http(ACK) + planted, http(b"busy", status=b"503 Busy"))
    first, second = server.ask(b"one", b"two")
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.status, second.status) == (200, 503)
    assert server.bodies == [b"one", b"two"]
    assert server.connections == 2


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("proxy", "IP:127.0.0.1"))
    return server, ssl.create_default_context(cafile=str(authority.cert))


TLS_RECORD_BYTES = 16_384


@pytest.mark.debian
def test_what_follows_in_another_record_is_no_answer_to_the_next_request(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """It came in the same piece, but TLS has not decrypted it yet: to the socket nothing is left to be read."""
    padding = TLS_RECORD_BYTES - len(http(ACK, b"X: "))
    first = http(ACK, b"X: " + b"x" * padding)
    assert len(first) == TLS_RECORD_BYTES
    server = Scripted(first + http(ACK), http(b"busy", status=b"503 Busy"))
    answers = server.ask(b"one", b"two", pause_s=0.2, tls=tls)
    assert [answer.status for answer in answers if isinstance(answer, Reply)] == [200, 503]
    assert server.connections == 2


@pytest.mark.debian
def test_a_server_that_would_rather_speak_http_2_is_asked_for_the_older_one(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    chosen: list[str | None] = []

    class Choosing(Scripted):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
            await super().serve(reader, writer)

    tls[0].set_alpn_protocols(["h2", "http/1.1"])
    Choosing(http(ACK)).ask(b"one", tls=tls)
    assert chosen == ["http/1.1"]


@pytest.mark.debian
def test_a_connection_with_tls_is_kept_as_well(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server = Scripted(*[http(ACK)] * 6)
    answers = server.ask(*[b"one"] * 6, tls=tls)
    assert [answer.status for answer in answers if isinstance(answer, Reply)] == [200] * 6
    assert server.connections == 1


def test_what_follows_later_is_no_answer_either() -> None:
    class Late(Scripted):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asyncio.get_running_loop().call_later(0.05, writer.write, http(ACK))
            await super().serve(reader, writer)

    server = Late(http(ACK), http(b"busy", status=b"503 Busy"))
    _, second = server.ask(b"one", b"two", pause_s=0.2)
    assert isinstance(second, Reply)
    assert second.status == 503


def test_a_connection_is_kept_after_answers_in_chunks() -> None:
    answers = [chunked(ACK), chunked(ACK[:3], ACK[3:]), chunked(ACK, trailers=b"X: 0\r\nY: 1\r\n"), chunked()]
    server = Scripted(*answers, *answers)
    replies = server.ask(*[b"one"] * 8)
    assert [reply.body for reply in replies if isinstance(reply, Reply)] == [ACK, ACK, ACK, b""] * 2
    assert server.connections == 1


@pytest.mark.parametrize("planted", [http(ACK), chunked(ACK), b"x", b"0\r\n\r\n", b"\r\n"])
@pytest.mark.parametrize(
    "first", [chunked(ACK), chunked(ACK, trailers=b"X: 0\r\n"), chunked(ACK, more=b"Content-Length: 17\r\n")]
)
def test_what_follows_chunks_is_no_answer_to_the_next_request(first: bytes, planted: bytes) -> None:
    server = Scripted(first + planted, http(b"busy", status=b"503 Busy"))
    _, second = server.ask(b"one", b"two")
    assert isinstance(second, Reply)
    assert second.status == 503
    assert server.connections == 2


def test_a_connection_is_kept_as_long_as_all_is_in_order() -> None:
    server = Scripted(*[http(ACK), http(b"HTTP/1.1 100 Continue\r\n\r\n")] * 3)
    answers = server.ask(*[b"one"] * 6)
    assert [answer.status for answer in answers if isinstance(answer, Reply)] == [200] * 6
    assert server.connections == 1


def test_an_acknowledgement_before_the_whole_request_is_none() -> None:
    server = Scripted(http(ACK), before_the_body=True)
    (answer,) = server.ask(b"x" * 8_000_000)
    assert answer == Failure("HTTP 200: answered before the whole request was sent")


@pytest.mark.parametrize("size", [1, 400_000])
def test_an_answer_however_quick_counts_once_the_request_is_whole(size: int) -> None:
    """The server answers the moment the last byte is there, while the client is about to end its request."""
    server = Scripted(*[http(ACK)] * 300)
    answers = server.ask(*[b"x" * size] * 300)
    assert {answer.status for answer in answers if isinstance(answer, Reply)} == {200}
    assert len([answer for answer in answers if isinstance(answer, Reply)]) == 300


def test_a_refusal_before_the_whole_request_counts() -> None:
    server = Scripted(http(b"too large", status=b"413 Too Large"), before_the_body=True)
    (answer,) = server.ask(b"x" * 8_000_000)
    assert isinstance(answer, Reply)
    assert answer.status == 413


def test_informational_answers_are_passed_over_and_bounded() -> None:
    continues = b"HTTP/1.1 100 Continue\r\n\r\n"
    server = Scripted(continues * 3 + http(ACK), continues * 100_000 + http(ACK))
    first, second = server.ask(b"one", b"two")
    assert isinstance(first, Reply)
    assert isinstance(second, Failure)
    assert "more than 131072 bytes in answer to one request" in second.error


def test_nothing_that_the_server_plants_changes_the_next_request() -> None:
    planted = [b"Set-Cookie: a=b", b'Alt-Svc: h2=":443"', b"Strict-Transport-Security: max-age=1", b"Link: </x>"]
    server = Scripted(http(ACK, *planted), http(b"", b"Location: /other", *planted, status=b"302 Found"), http(ACK))
    server.ask(b"one", b"one", b"one")
    assert len(server.heads) == 3
    assert len(set(server.heads)) == 1


@pytest.mark.parametrize(
    ("encoding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"GZIP", gzip.compress)]
)
def test_an_encoding_that_nobody_asked_for_hides_no_acknowledgement(
    encoding: bytes, pack: Callable[[bytes], bytes]
) -> None:
    server = Scripted(http(pack(ACK), b"Content-Encoding: " + encoding))
    (answer,) = server.ask(b"one")
    assert isinstance(answer, Reply)
    assert answer.body == ACK


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"x" * 50_000_000, mtime=0), b"no gzip", gzip.compress(ACK, mtime=0)[:-4]],
    ids=["bomb", "none", "cut"],
)
def test_what_cannot_be_decoded_within_bounds_is_no_acknowledgement(body: bytes) -> None:
    server = Scripted(http(body, b"Content-Encoding: gzip"))
    (answer,) = server.ask(b"one")
    assert isinstance(answer, Reply)
    assert answer.body == body


def test_the_request_is_whole_and_says_how_long_it_is() -> None:
    server = Scripted()
    body = b"x" * 400_000
    server.ask(body)
    assert server.bodies == [body]
    assert b"transfer-encoding" not in server.heads[0]
    assert b"accept-encoding: identity" in server.heads[0]


def ask_via(
    proxy: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    writers: list[asyncio.StreamWriter],
    url: str,
) -> Reply | Failure:
    """Post to `url` with `proxy` as the HTTP proxy on the way, which notes its `writers`."""

    async def run() -> Reply | Failure:
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        via = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = Client(timeout_s=2.0, tls=ssl.create_default_context, connections=4, via=via)
        found = await client.post(url, b"{}")
        await client.close()
        await cut(server, writers)
        return found

    return asyncio.run(run())


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"]
)
def test_an_http_proxy_on_the_way_is_asked_for_the_whole_url(answer: bytes) -> None:
    lines: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        lines.extend(head.split(b"\r\n"))
        await reader.readexactly(2)
        writer.write(answer)

    reply = ask_via(proxy, writers, "http://proxy.invalid:10205")
    assert isinstance(reply, Reply)
    assert reply.status == int(answer[9:12])
    assert lines[0] == b"POST http://proxy.invalid:10205/v2/push/ HTTP/1.1"
    assert b"Host: proxy.invalid:10205" in lines


def test_https_goes_through_an_http_proxy_by_connect_and_what_it_refuses_is_a_failure() -> None:
    lines: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        lines.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    failure = ask_via(proxy, writers, "https://proxy.invalid:10205")
    assert isinstance(failure, Failure)
    assert "403" in failure.error
    assert "on the way through proxy.via, 127.0.0.1:" in failure.error
    assert lines[0] == b"CONNECT proxy.invalid:10205 HTTP/1.1"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("via", "words"),
    [
        ("127.0.0.1:1", "ConnectError: Connection refused; on the way through proxy.via, 127.0.0.1:1"),
        (
            "via.invalid:3128",
            "ConnectError: cannot look up via.invalid: .*; on the way through proxy.via, via.invalid:3128",
        ),
    ],
)
def test_a_failure_names_the_http_proxy_on_the_way_without_its_password(scheme: str, via: str, words: str) -> None:
    async def run() -> Reply | Failure:
        client = Client(timeout_s=2.0, tls=ssl.create_default_context, connections=4, via=f"http://user:secret@{via}")
        try:
            return await client.post(f"{scheme}://proxy.invalid:10205", b"{}")
        finally:
            await client.close()

    failure = asyncio.run(run())
    assert isinstance(failure, Failure)
    assert re.fullmatch(words, failure.error)


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert play(GOOD) == [Reply(200, {"x-one": "1", "content-length": "2"}, b"{}")]
