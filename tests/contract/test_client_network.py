"""The client and the network below it: names and their addresses, TLS's own words, and what a failure is called."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.forward.client import Client
from sidecar.forward.outcome import Failure, Reply
from tests.support.pem import Authority

NAME = "proxy.test"
ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class Names:
    """A name service with one name; its loops ask it, whatever they run on."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0

    def loop(self, kind: type[asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
        async def getaddrinfo(loop: Any, host: bytes | str, port: int, **more: Any) -> list[Any]:
            if host != NAME:  # an address, of which uvloop asks too
                return await kind.getaddrinfo(loop, host, port, **more)
            self.asked += 1
            if not self.addresses:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]

        return type("Loop", (kind,), {"getaddrinfo": getaddrinfo})()


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.Loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs `play(test)` on either loop, with a name service."""
    names = Names()

    def run(test: Callable[[Names], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=lambda: names.loop(request.param)) as runner:
            runner.run(test(names))

    return run


class Answering:
    """A proxy at one address that says which one it is; `frozen`, it takes requests and says nothing."""

    def __init__(self, address: str) -> None:
        self.address, self.frozen, self.port = address, False, 0
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, self.address, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.close()
            await asyncio.sleep(0.02)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                if not self.frozen:
                    answer = self.address.encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


@contextlib.asynccontextmanager
async def proxies(*addresses: str) -> AsyncIterator[tuple[Callable[[], Awaitable[str]], list[Answering]]]:
    """A function that posts to NAME and gives the address that answered or the failure; proxies on one port."""
    started = [Answering(address) for address in addresses]
    for each in started:
        await each.start(started[0].port)
    client = Client(timeout_s=0.6, tls=ssl.create_default_context, connections=8)

    async def post() -> str:
        match await client.post(f"http://{NAME}:{started[0].port}", b"{}"):
            case Reply(_, _, body):
                return body.decode()
            case Failure(error):
                return error

    try:
        yield post, started
    finally:
        await client.close()
        for each in started:
            await each.stop()


def test_an_address_that_refuses_is_passed_over(play: Callable[..., Any]) -> None:
    async def test(names: Names) -> None:
        async with proxies(ONE) as (post, _):
            names.addresses = [TWO, ONE]
            assert await post() == ONE

    play(test)


def test_an_address_that_is_silent_is_passed_over_in_a_quarter_of_a_second(play: Callable[..., Any]) -> None:
    async def test(names: Names) -> None:
        async with proxies(ONE) as (post, (one,)):
            with contextlib.ExitStack() as silent:
                deaf = silent.enter_context(socket.socket())
                deaf.bind((THREE, one.port))
                deaf.listen(0)
                for _ in range(3):  # its queue is full: the system drops what else wants to connect
                    filler = silent.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex((THREE, one.port))
                names.addresses = [THREE, ONE]
                assert await post() == ONE

    play(test)


def test_when_all_addresses_refuse_the_reason_is_clear(play: Callable[..., Any]) -> None:
    async def test(names: Names) -> None:
        async with proxies(ONE) as (post, (one,)):
            await one.stop()
            for names.addresses in ([ONE], [ONE, TWO]):
                assert await post() == "ConnectError: Connection refused"

    play(test)


def test_a_name_that_cannot_be_looked_up_is_a_clear_reason_and_is_looked_up_again(play: Callable[..., Any]) -> None:
    async def test(names: Names) -> None:
        async with proxies(ONE) as (post, _):
            for asked in (1, 2):
                assert await post() == f"ConnectError: cannot look up {NAME}: Name or service not known"
                assert names.asked == asked
            names.addresses = [ONE]
            assert await post() == ONE

    play(test)


def test_a_kept_connection_is_used_again_and_its_end_means_a_new_look_up(play: Callable[..., Any]) -> None:
    async def test(names: Names) -> None:
        async with proxies(ONE, TWO) as (post, (one, _)):
            names.addresses = [ONE]
            assert [await post() for _ in range(3)] == [ONE] * 3
            assert names.asked == 1
            names.addresses = [TWO]
            assert await post() == ONE  # nothing is wrong with it
            await one.stop()
            assert await post() == TWO
            assert names.asked == 2

    play(test)


def test_after_a_failure_no_connection_from_before_it_is_used(play: Callable[..., Any]) -> None:
    """A proxy that moved and left its old address silent: each kept connection would cost a time-out of its own."""

    async def test(names: Names) -> None:
        async with proxies(ONE, TWO) as (post, (one, _)):
            names.addresses = [ONE]
            assert await asyncio.gather(*(post() for _ in range(5))) == [ONE] * 5
            one.frozen = True
            names.addresses = [TWO]
            assert await post() == "ReadTimeout: not within 0.6 s"
            assert await post() == TWO

    play(test)


def test_a_failure_of_one_request_leaves_those_under_way_alone(play: Callable[..., Any]) -> None:
    async def test(names: Names) -> None:
        async with proxies(ONE) as (post, (one,)):
            names.addresses = [ONE]
            one.frozen = True
            early = asyncio.create_task(post())  # type: ignore[arg-type,var-annotated]
            await asyncio.sleep(0.3)
            late = asyncio.create_task(post())  # type: ignore[arg-type,var-annotated]
            assert await early == "ReadTimeout: not within 0.6 s"
            for writer in one._writers:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
            assert await late == "late"

    play(test)


@pytest.mark.debian
@pytest.mark.parametrize("words", ["certificate required", "unknown ca"])
def test_the_reason_for_which_a_server_refuses_the_client_is_told(tmp_path: Path, words: str) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path / "other", "other CA")
    server, stranger = authority.issue("server", "IP:127.0.0.1"), other.issue("stranger")
    asks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asks.load_cert_chain(*server)
    asks.load_verify_locations(authority.cert)
    asks.verify_mode = ssl.CERT_REQUIRED
    trusts = ssl.create_default_context(cafile=authority.cert)
    if words == "unknown ca":
        trusts.load_cert_chain(*stranger)

    def serve(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with asks.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as connection:
            with contextlib.suppress(OSError):
                connection.do_handshake()
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):  # to close before all is read would take the alert back
                pass

    async def post(port: int) -> Reply | Failure:
        client = Client(timeout_s=2.0, tls=lambda: trusts, connections=8)
        try:
            return await client.post(f"https://127.0.0.1:{port}", b"{}")
        finally:
            await client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener], name="refuses")
        thread.start()
        failure = uvloop.run(post(listener.getsockname()[1]))
        thread.join()
    assert isinstance(failure, Failure)
    assert words in failure.error
