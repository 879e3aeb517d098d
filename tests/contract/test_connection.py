"""A connection to a proxy over real sockets: what counts as one answer, what times out, and what is kept."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.forward import transport
from sidecar.forward.client import Client
from sidecar.forward.outcome import Failure, Reply
from tests.support.pem import Authority
from tests.support.scripted import ACK, Scripted, cut, http

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def post(serve: Serve, body: bytes = b"{}", timeout_s: float = 0.4) -> Reply | Failure:
    """Post once to a server whose connections are served by `serve`."""
    writers: list[asyncio.StreamWriter] = []

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    async def run() -> Reply | Failure:
        server = await asyncio.start_server(noted, "127.0.0.1", 0, limit=4096)
        client = Client(timeout_s=timeout_s, tls=ssl.create_default_context, connections=4)
        answer = await client.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", body)
        await client.close()
        await cut(server, writers)
        return answer

    return asyncio.run(run())


async def request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


@pytest.mark.parametrize(
    ("raw", "status", "body", "connections"),
    [
        (b"HTTP/1.1 200 OK\nContent-Length: 17\n\n" + ACK, 200, ACK, 2),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 17\r\n\r\n" + ACK, 200, ACK, 2),
        (b"HTTP/1.1 200\r\nContent-Length: 17\r\n\r\n" + ACK, 200, ACK, 1),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 17\r\n\r\n" + ACK, 200, ACK, 1),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 17\r\n\r\n" + ACK, 200, ACK, 2),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 101, b"", 2),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, b"", 2),
    ],
)
def test_an_answer_of_an_old_or_careless_server_counts(raw: bytes, status: int, body: bytes, connections: int) -> None:
    """Its connection is kept only if it is certain where the answer ended."""
    server = Scripted(raw, raw)
    for answer in server.ask(b"one", b"two"):
        assert isinstance(answer, Reply)
        assert (answer.status, answer.body) == (status, body)
    assert server.connections == connections


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + ACK[:5])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(ACK[5:])
        writer.close()

    answer = post(serve)
    assert isinstance(answer, Reply)
    assert answer.body == ACK


def test_an_answer_without_a_body_leaves_its_connection_for_the_next() -> None:
    server = Scripted(*[b"HTTP/1.1 204 No Content\r\n\r\n"] * 3)
    answers = server.ask(b"one", b"two", b"three")
    assert [answer.status for answer in answers if isinstance(answer, Reply)] == [204] * 3
    assert server.connections == 1


def test_a_server_that_does_not_read_is_given_up() -> None:
    async def serve(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    assert post(serve, b"x" * 20_000_000) == Failure("WriteTimeout: not within 0.4 s", hung=True)


def test_a_request_and_an_answer_may_take_long_while_bytes_move() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while left:
            left -= len(await reader.read(1_000_000))
            if left % 7 == 0:
                await asyncio.sleep(0.01)
        for byte in http(ACK):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    answer = post(serve, b"x" * 20_000_000)
    assert isinstance(answer, Reply)
    assert (answer.status, answer.body) == (200, ACK)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_connection_that_is_reset_is_a_failure(begun: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(begun)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: end with a reset
        writer.transport.abort()

    assert post(serve) == Failure("ReadError: Connection reset by peer")


def test_a_request_that_is_cancelled_leaves_no_connection() -> None:
    async def run() -> None:
        ended = asyncio.Event()
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await request(reader)
            assert await reader.read() == b""
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(timeout_s=60, tls=ssl.create_default_context, connections=4)
        asking = asyncio.create_task(client.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", b"{}"))
        while not writers:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait_for(ended.wait(), 20)
        await client.close()
        await cut(server, writers)

    asyncio.run(run())


def test_a_connection_that_was_idle_for_too_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_IDLE_S", -1.0)
    server = Scripted(*[http(ACK)] * 3)
    assert all(isinstance(answer, Reply) for answer in server.ask(b"one", b"two", b"three"))
    assert server.connections == 3


def test_so_many_idle_connections_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_IDLE_CONNECTIONS", 2)
    is_open: list[bool] = []

    async def run() -> None:
        writers: list[asyncio.StreamWriter] = []
        all_there = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = len(writers)
            writers.append(writer)
            is_open.append(True)
            if len(writers) == 4:
                all_there.set()
            await request(reader)
            await all_there.wait()
            writer.write(http(ACK))
            assert await reader.read() == b""
            is_open[number] = False

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(timeout_s=20, tls=ssl.create_default_context, connections=4)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        answers = await asyncio.gather(*[client.post(url, b"{}") for _ in range(4)])
        assert all(isinstance(answer, Reply) for answer in answers)
        while sum(is_open) > 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert sum(is_open) == 2
        await client.close()
        await cut(server, writers)

    asyncio.run(asyncio.wait_for(run(), 20))


class Tunnel:
    """An HTTP proxy: it takes CONNECT, says `answer`, and passes everything on to `port`; or answers itself."""

    def __init__(self, answer: bytes, port: int = 0) -> None:
        self.answer, self.port = answer, port
        self.heads: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        if self.port:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writers.append(inner_writer)
            await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async def ask(self, url: str, tls: ssl.SSLContext) -> list[Reply | Failure]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        via = f"http://us%40er:pass@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = Client(timeout_s=5.0, tls=lambda: tls, connections=4, via=via)
        answers = [await client.post(url, b"{}") for _ in range(2)]
        await client.close()
        await cut(server, self.writers)
        return answers


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


@pytest.mark.debian
def test_https_goes_through_an_http_proxy_that_wants_a_name_and_a_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*authority.issue("proxy", "IP:127.0.0.1"))
    proxy = Scripted(http(ACK), http(ACK))

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=theirs)
        port = server.sockets[0].getsockname()[1]
        tunnel = Tunnel(b"HTTP/1.1 200 Connection established\r\n\r\n", port)
        trusts = ssl.create_default_context(cafile=str(authority.cert))
        answers = await tunnel.ask(f"https://127.0.0.1:{port}", trusts)
        assert [answer.status for answer in answers if isinstance(answer, Reply)] == [200, 200]
        (head,) = tunnel.heads
        assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % port)
        assert b"\r\nProxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n" in head
        assert all(b"proxy-authorization" not in head for head in proxy.heads)
        await cut(server, proxy.writers)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_what_an_http_proxy_says_behind_its_answer_to_connect_ends_the_connection() -> None:
    tunnel = Tunnel(b"HTTP/1.1 200 OK\r\n\r\nmore")
    answers = asyncio.run(tunnel.ask("https://[::1]:10205", ssl.create_default_context()))
    words = "RemoteProtocolError: more than an answer to CONNECT; on the way through proxy.via, 127.0.0.1:"
    assert all(isinstance(answer, Failure) and answer.error.startswith(words) for answer in answers)
    assert tunnel.heads[0].startswith(b"CONNECT [::1]:10205 HTTP/1.1\r\nHost: [::1]:10205\r\n")


def test_an_http_proxy_that_wants_a_name_and_a_password_is_told_them() -> None:
    tunnel = Tunnel(http(ACK))
    answers = asyncio.run(tunnel.ask("http://[::1]:10205", ssl.create_default_context()))
    assert isinstance(answers[0], Reply)
    assert tunnel.heads[0].startswith(b"POST http://[::1]:10205/v2/push/ HTTP/1.1\r\nHost: [::1]:10205\r\n")
    assert b"\r\nProxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n" in tunnel.heads[0]
