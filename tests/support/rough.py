"""A bad network between a sidecar and its proxy: a TCP relay on loopback whose faults are switched while it runs.

It knows nothing of HTTP but that an answer follows a request. It runs in a thread of its own, so that a test may block.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

_PIECE_BYTES = 16_384
_ON_THE_WAY = 64  # pieces


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What happens to the pieces that pass. Counts of bytes begin when the weather changes, for each connection anew.

    `delay_s` with up to `jitter_s` more, and `bytes_per_s`: for each direction of each connection. `stall_share`: of
    the pieces, which are held for `stall_s` with all behind them, as a lost packet holds them until it is sent again.
    `reset_share`: of the pieces, in place of which the connection is reset.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    stall_share: float = 0.0
    stall_s: float = 0.2
    reset_share: float = 0.0
    reset_request_after: int | None = None
    reset_answer_after: int | None = None
    close_answer_after: int | None = None
    mute: bool = False
    """Takes everything and says nothing."""
    say: bytes | None = None
    """Says this in place of the proxy, which hears nothing, and closes."""


FAIR = Weather()


class Rough:
    """A relay to `url`. Assign `weather` at any time; it holds from the next piece on.

    `answers_cut` counts answers of the proxy that did not get through whole; `unanswered`, connections that ended when
    the proxy had been sent some of a request and the answer had not got through whole.
    """

    def __init__(self, url: str, seed: int = 1) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.weather = FAIR
        self.connections = self.resets = self.answers_cut = self.unanswered = 0
        self.random = random.Random(seed)
        self.target = (parts.hostname, parts.port)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._links: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rough", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_PIECE_BYTES))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _stop(self) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self.connections += 1
        try:
            await _Link(self, reader, writer).run()
        except OSError:
            writer.transport.abort()  # the proxy does not listen
        finally:
            self._links.discard(task)


class _Cut(Exception):
    """The connection is over, on purpose."""


class _Link:
    """One connection of the sidecar, and the one to the proxy for it."""

    def __init__(self, rough: Rough, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.rough, self.reader, self.writer = rough, reader, writer
        self.asked = False
        """Some of a request went to the proxy, and its answer has not gone back whole."""
        self.given_up = False
        """The sidecar has closed; what comes for it now is lost."""

    async def run(self) -> None:
        proxy_reader, proxy_writer = await asyncio.open_connection(*self.rough.target, limit=_PIECE_BYTES)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(self.reader, proxy_writer, self._request))
                ways.create_task(self._carry(proxy_reader, self.writer, self._answer))
        except* (_Cut, ConnectionError):
            pass
        finally:
            self.rough.unanswered += self.asked
            for writer in (self.writer, proxy_writer):
                writer.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pass_on: Callable[[asyncio.StreamWriter, Weather, int, bytes], bool],
    ) -> None:
        """Reads as fast as `_ON_THE_WAY` allows, and lets each piece arrive when the weather says."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_THE_WAY)

        async def arrive() -> None:
            passed, weather = 0, self.rough.weather
            while True:
                due_s, piece = await on_the_way.get()
                await asyncio.sleep(due_s - _now_s())
                if weather is not self.rough.weather:
                    passed, weather = 0, self.rough.weather
                if not piece:
                    raise _Cut
                if self.rough.random.random() < weather.reset_share:
                    self._reset()
                if pass_on(writer, weather, passed, piece):
                    passed += len(piece)
                    await writer.drain()

        async def leave() -> None:
            free_s = 0.0
            while True:
                piece = await reader.read(_PIECE_BYTES)
                free_s = self._arrives_s(max(free_s, _now_s()), len(piece))
                self.given_up |= not piece and reader is self.reader
                await on_the_way.put((free_s, piece))
                if not piece:
                    return

        async with asyncio.TaskGroup() as both:
            both.create_task(arrive())
            both.create_task(leave())

    def _arrives_s(self, from_s: float, size_bytes: int) -> float:
        weather, chance = self.rough.weather, self.rough.random
        due_s = max(from_s, _now_s() + weather.delay_s + chance.uniform(0, weather.jitter_s))
        if weather.bytes_per_s is not None:
            due_s += size_bytes / weather.bytes_per_s
        if chance.random() < weather.stall_share:
            due_s += weather.stall_s
        return due_s

    def _request(self, writer: asyncio.StreamWriter, weather: Weather, passed: int, piece: bytes) -> bool:
        """One piece towards the proxy; whether it went there."""
        if weather.mute:
            return False
        if weather.say is not None:
            if not self.writer.transport.is_closing() and self.writer.can_write_eof():
                with contextlib.suppress(RuntimeError):  # said already
                    self.writer.write(weather.say)
                    self.writer.write_eof()
            return False
        self.asked = True
        if weather.reset_request_after is not None and passed + len(piece) > weather.reset_request_after:
            writer.write(piece[: weather.reset_request_after - passed])
            self._reset()
        writer.write(piece)
        return True

    def _answer(self, writer: asyncio.StreamWriter, weather: Weather, passed: int, piece: bytes) -> bool:
        """One piece towards the sidecar. An answer, which is a JSON object, is whole when a piece ends with a brace."""
        for limit in (weather.reset_answer_after, weather.close_answer_after):
            if limit is not None and passed + len(piece) > limit:
                self.rough.answers_cut += 1
                writer.write(piece[: limit - passed])
                if weather.reset_answer_after is not None:
                    self._reset()
                raise _Cut
        writer.write(piece)
        self.asked = self.given_up or not piece.endswith(b"}")
        return True

    def _reset(self) -> None:
        """RST instead of FIN."""
        self.rough.resets += 1
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        raise _Cut


def _now_s() -> float:
    return asyncio.get_running_loop().time()
