"""The client over real sockets: whatever comes back is a value, and nothing of a request stays behind."""

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable

import httpx
import pytest

from sidecar.forward.client import Client, push_url
from sidecar.forward.outcome import Failure, Reply

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def play(answer: Answer, body: bytes = b"{}", times: int = 1, timeout_s: float = 2.0) -> list[Reply | Failure]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        answers = [await client.post(f"http://127.0.0.1:{port}", body) for _ in range(times)]
        await client.close()
        server.close()
        await asyncio.sleep(0.01)
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
