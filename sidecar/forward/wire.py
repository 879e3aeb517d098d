"""Watches the bytes of a connection to a proxy, so that an answer counts for the request that it answers, and no other.

    write ──> was there something to read before the request was whole?  then it is no answer to it
    read  ──> so much and no more; and was it one answer, to its last byte?  else the connection is used no more

HTTP libraries keep what came behind an answer, and take it for the answer to the next request: a batch would count as
delivered that nobody has. The only module that knows httpcore, which httpx stands on.
"""

import ssl
from collections.abc import Iterable
from typing import Any, Literal

import httpcore

ANSWER_MAX_BYTES = 65_536
"""The largest body of an answer."""
_EXCHANGE_MAX_BYTES = 2 * ANSWER_MAX_BYTES
"""The most bytes that are read for one request: the body, and the heads of the answer and of informational answers."""
_END_OF_HEAD = b"\r\n\r\n"
Length = int | Literal["chunked"] | None
"""The length that an answer states of its body: bytes, or chunks with an empty one at the end; None: it states none."""


class WatchedStream(httpcore.AsyncNetworkStream):
    """Watch one connection. Its attributes describe the exchange (request and answer) under way, or the last one.

    `early`: something could be read before the request was whole, or the request could not be written as a whole.
    `spoiled`: nobody knows what the next answer on this connection would be the answer to.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream, *, tls: bool = False) -> None:
        self.early = self.spoiled = False
        self._inner, self._tls = inner, tls
        self._read = bytearray()  # of this exchange, as it came
        self._first = True  # no exchange has ended yet
        self._reading = False  # the answer has begun, so that the next write is another request's

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read as the inner stream does. Raises httpcore.ReadError beyond the limit of an exchange."""
        self._reading = True
        data = await self._inner.read(max_bytes, timeout)
        self._read += data
        if len(self._read) > _EXCHANGE_MAX_BYTES:
            self.spoiled = True
            raise httpcore.ReadError(f"more than {_EXCHANGE_MAX_BYTES} bytes in answer to one request")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write as the inner stream does, after a look whether the answer is there already."""
        if not buffer:  # the end of the request, which is whole by now, and perhaps answered
            return
        if self._reading:
            self._first = self._reading = self.early = False
            self._read.clear()
        # After its handshake TLS may have tickets to be read, which are no answer.
        if self._holds_back() or (not (self._tls and self._first) and self._inner.get_extra_info("is_readable")):
            self.early = True
        try:
            await self._inner.write(buffer, timeout)
        except httpcore.NetworkError:
            self.early = True
            raise

    def ended(self, length: Length) -> None:
        """Note the end of an exchange: whether that was all, if the answer said how long it is."""
        self.spoiled |= length is None or not _is_one_answer(bytes(self._read), length)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Go on encrypted."""
        return WatchedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout), tls=True)

    def get_extra_info(self, info: str) -> Any:
        """Answer as the inner stream does; a spoiled one is always readable, so that the pool does not use it again."""
        if info == "is_readable" and (self.spoiled or self._holds_back()):
            return True
        return self._inner.get_extra_info(info)

    def _holds_back(self) -> bool:
        """Return True if TLS has something to read that came with what was read before, and note that it has."""
        if not self._tls or self.spoiled:
            return False
        try:
            self._inner.get_extra_info("ssl_object").read(1)  # of what is in memory; nothing waits for the network
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            pass
        self.spoiled = True
        return True


class WatchingBackend(httpcore.AsyncNetworkBackend):
    """Opens connections that are watched."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect as anyio does."""
        return WatchedStream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        """Sleep as anyio does."""
        await self._inner.sleep(seconds)


def watched_pool(
    tls: ssl.SSLContext | None, *, idle_connections: int, idle_s: float, via: str | None = None
) -> httpcore.AsyncConnectionPool:
    """Open a pool without a limit of connections, of which so many are kept for so long.

    `via`: the URL of the HTTP proxy that they go through: with requests for the whole URL, or with CONNECT for https.
    """
    return httpcore.AsyncConnectionPool(
        proxy=httpcore.Proxy(via) if via else None,
        ssl_context=tls,
        max_connections=None,
        max_keepalive_connections=idle_connections,
        keepalive_expiry=idle_s,
        network_backend=WatchingBackend(),
    )


def _is_one_answer(raw: bytes, length: int | Literal["chunked"]) -> bool:
    """Return True if `raw` is informational answers, one final one with a body so long, and nothing else."""
    start = 0
    while True:
        end = raw.find(_END_OF_HEAD, start) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD):
            return False
        status = raw[start:end].split(b" ", 2)[1:2]
        if not status or not status[0].startswith(b"1"):
            return len(raw) == (_end_of_chunks(raw, end) if length == "chunked" else end + length)
        start = end


def _end_of_chunks(raw: bytes, start: int) -> int:
    """Return where the chunks end that begin at `start`, with their trailers; -1: not here. (RFC 9112, 7.1)"""
    while (end := raw.find(b"\r\n", start)) >= 0:
        try:
            size = int(raw[start:end].partition(b";")[0], 16)
        except ValueError:
            return -1
        if size == 0:
            last = raw.find(_END_OF_HEAD, end)  # at once, or after trailers
            return last + len(_END_OF_HEAD) if last >= 0 else -1
        start = end + size + 4
    return -1
