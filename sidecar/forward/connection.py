"""One connection to a proxy: a request goes out, and its answer comes back, and no other.

    write ──> was there something to read before the request was whole?  then the answer came too early
    read  ──> so much and no more; and was it one answer, to its last byte?  else the connection is used no more

An HTTP library keeps what came behind an answer, and takes it for the answer to the next request: a batch would count
as delivered that nobody has. Here every byte belongs to an exchange: one request and its answer.
"""

import asyncio
import errno
import select
import ssl
from collections.abc import Callable
from typing import Any, Literal, cast

import httptools
import httpx
import msgspec

ANSWER_MAX_BYTES = 65_536
"""The largest body of an answer."""
_EXCHANGE_MAX_BYTES = 2 * ANSWER_MAX_BYTES
"""The most bytes that are read for one request: the body, and the heads of the answer and of informational answers."""
_LAST_BYTES = 1024
"""Bytes at the end of a large request. They are written only after a check that no answer has come too early."""
_LARGE_BYTES = 65_536
_NO_BODY = (204, 304)
_UPGRADE = 101
_END_OF_HEAD = b"\r\n\r\n"
Length = int | Literal["chunked"] | None
"""The length that an answer states of its body: bytes, or chunks with an empty one at the end; None: it states none."""


class HttpAnswer(msgspec.Struct, frozen=True):
    """One answer. `early`: it began to come before the request was whole.

    `body` is longer than `ANSWER_MAX_BYTES` if there was more than that, and then not all of it.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    early: bool


class ProxyConnection(asyncio.Protocol):
    """One connection, used for one exchange at a time. The callbacks from `on_header` on are those of httptools."""

    def __init__(self) -> None:
        self._tcp: asyncio.Transport | None = None  # None: not connected yet
        self._transport: asyncio.Transport | None = None  # what is written to: TLS over `_tcp`, or that itself
        self._loop = asyncio.get_running_loop()
        self._is_lost = False  # the other side, or the network, has ended it
        self._lost_by: Exception | None = None  # why; None: in order
        self._has_tickets = False  # TLS is new: what can be read may be tickets, which are no answer
        self._waiter: asyncio.Future[None] | None = None  # of the exchange under way, until anything happens
        # Of the exchange under way, or the last one:
        self._parser: httptools.HttpResponseParser | None = None  # None: no exchange is under way
        self._read = bytearray()  # as it came
        self._headers: list[tuple[bytes, bytes]] = []  # of the final answer, or of the informational one that came last
        self._body = bytearray()  # of the final answer, so far
        self._status = 0  # of the final answer; 0 until its head is complete
        self._is_complete = False  # the final answer has come to its end
        self._keeps_alive = False  # the other side says that it will go on
        self._is_early = False  # the answer began to come before the request was whole
        self._is_written = False  # all of the request was handed to the transport
        self._broken: str | None = None  # why what came is no answer; None: so far it is
        self._timeout_s = 0.0  # the most between one byte and the next
        self._moved_s = 0.0  # when a byte was last sent or received, on the loop's clock
        self._unsent_bytes = 0  # as of the last look
        self._timer: asyncio.TimerHandle  # looks whether bytes still move

    @property
    def is_usable(self) -> bool:
        """Return True if the next request may be written: nothing was left over, and nothing came meanwhile."""
        return not self._is_lost and not self._can_read()

    async def start_tls(self, tls: ssl.SSLContext, host: str, within_s: float) -> None:
        """Go on encrypted. Raises OSError, ssl.SSLError or TimeoutError."""
        assert self._tcp is not None
        # What TLS buffers itself, and what TCP does, are told apart: both count as not sent.
        transport = await self._loop.start_tls(
            self._tcp, self, tls, server_hostname=host, ssl_handshake_timeout=within_s
        )
        if transport is None:  # what loops return if the connection was lost meanwhile
            raise ConnectionResetError(errno.ECONNRESET, "closed during the handshake")
        self._transport, self._has_tickets = transport, True

    async def exchange(self, head: bytes, body: bytes, timeout_s: float) -> HttpAnswer:
        """Return the answer to a request; `timeout_s`: the most between one byte and the next.

        Raises httpx.TransportError. After that, when it is cancelled, and when anything follows the answer, the
        connection is closed.
        """
        self._begin(timeout_s)
        try:
            await self._write(head, body)
            await self._until(lambda: self._is_complete)
            return HttpAnswer(self._status, self._headers, bytes(self._body), self._is_early)
        finally:
            self._end()
            if not self._is_in_order():
                self.close()

    async def tunnel(self, head: bytes, timeout_s: float) -> HttpAnswer:
        """Return the answer to CONNECT; after a 2xx, what follows is the other side's. Raises httpx.TransportError."""
        self._begin(timeout_s)
        try:
            await self._write(head, b"")
            await self._until(lambda: self._status > 0)
            if 200 <= self._status < 300 and not self._read.endswith(_END_OF_HEAD):
                raise httpx.RemoteProtocolError("more than an answer to CONNECT")
            return HttpAnswer(self._status, self._headers, b"", self._is_early)
        finally:
            self._end()

    def close(self) -> None:
        """Close the connection at once; may be called twice."""
        self._is_lost = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport; not called again when TLS begins."""
        self._tcp = self._transport = cast("asyncio.Transport", transport)
        self._tcp.set_write_buffer_limits(0)  # so that it tells when all is sent

    def data_received(self, data: bytes) -> None:
        """Take what came; outside an exchange nothing may come."""
        if self._parser is None:
            self.close()
            return
        self._is_early |= not self._is_written or self._unsent() > 0
        self._has_tickets = False
        self._moved_s = self._loop.time()
        self._read += data
        if len(self._read) > _EXCHANGE_MAX_BYTES:
            self._broken = f"more than {_EXCHANGE_MAX_BYTES} bytes in answer to one request"
        elif not self._is_complete:
            self._parse(self._parser, data)
        self._happened()

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, which is also that of an answer without a length."""
        self._is_lost, self._lost_by = True, exc
        if exc is None and self._status and not self._is_complete and _length_of(self._status, self._headers) is None:
            self._is_complete = True
        self._happened()

    def resume_writing(self) -> None:
        """Go on: all was sent."""
        self._happened()

    def on_message_begin(self) -> None:
        """Begin the answer, or the next one after an informational one."""
        if not self._is_complete:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header, or a trailer."""
        if not self._is_complete and not self._status:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status of a final answer."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if not self._is_complete and (status >= 200 or status == _UPGRADE):
            self._status = status

    def on_body(self, piece: bytes) -> None:
        """Keep the body, up to its limit."""
        if self._is_complete:
            return
        self._body += piece
        if len(self._body) > ANSWER_MAX_BYTES:
            self._is_complete = True

    def on_message_complete(self) -> None:
        """Note the end of the final answer."""
        assert self._parser is not None
        if self._status and not self._is_complete:
            self._is_complete = True
            self._keeps_alive = self._parser.should_keep_alive()

    def _begin(self, timeout_s: float) -> None:
        self._parser = parser = httptools.HttpResponseParser(self)
        # As lenient as clients are: what is no answer in full is found out below, and such a connection is not kept.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_data_after_close=True,
            lenient_optional_cr_before_lf=True,
        )
        self._read.clear()
        self._headers, self._body = [], bytearray()
        self._status, self._broken = 0, None
        self._is_complete = self._keeps_alive = self._is_early = self._is_written = False
        self._moved_s, self._timeout_s = self._loop.time(), timeout_s
        self._timer = self._loop.call_later(timeout_s, self._look)

    def _end(self) -> None:
        self._timer.cancel()
        self._parser = self._waiter = None

    async def _write(self, head: bytes, body: bytes) -> None:
        """Hand over the request, a large one in two pieces, so that it shows when the answer comes before its end."""
        assert self._transport is not None
        if len(body) <= _LARGE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(memoryview(body)[:-_LAST_BYTES])
            await self._until(lambda: self._is_complete or self._unsent() == 0)
            if self._is_complete:
                return
            self._is_early |= self._can_read()
            self._transport.write(body[-_LAST_BYTES:])
        self._is_written = True

    async def _until(self, done: Callable[[], bool]) -> None:
        """Wait until `done`. Raises httpx.TransportError if that will not be."""
        while not done():
            if self._broken is not None:
                raise httpx.RemoteProtocolError(self._broken)
            if self._is_lost:
                raise self._why_lost()
            self._waiter = self._loop.create_future()
            await self._waiter

    def _why_lost(self) -> httpx.TransportError:
        if self._lost_by is not None:
            kind = httpx.ReadError if self._is_written and not self._unsent() else httpx.WriteError
            error: httpx.TransportError = kind(str(self._lost_by))
            error.__cause__ = self._lost_by
            return error
        if self._read:
            return httpx.RemoteProtocolError("Server disconnected before its answer was complete")
        return httpx.RemoteProtocolError("Server disconnected without sending an answer")

    def _happened(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        """End the exchange if no byte has moved for too long; called by the loop, which then comes again."""
        now_s, unsent = self._loop.time(), self._unsent()
        if unsent != self._unsent_bytes:
            self._unsent_bytes, self._moved_s = unsent, now_s
        left_s = self._moved_s + self._timeout_s - now_s
        if left_s > 0 or self._waiter is None or self._waiter.done():
            self._timer = self._loop.call_later(left_s if left_s > 0 else self._timeout_s, self._look)
        else:
            self._waiter.set_exception(httpx.WriteTimeout("") if unsent else httpx.ReadTimeout(""))

    def _parse(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_complete = True
        except httptools.HttpParserError as error:
            if self._status == _UPGRADE:
                self._is_complete = True
            elif not self._is_complete:  # else it is what follows the answer
                self._broken = f"not valid HTTP: {error}"

    def _unsent(self) -> int:
        """Return the bytes that the system has not taken yet."""
        unsent = 0
        for transport in {self._tcp, self._transport}:
            unsent += transport.get_write_buffer_size() if transport is not None else 0
        return unsent

    def _can_read(self) -> bool:
        """Return True if there is something to be read that has not come here yet."""
        if self._tcp is None or self._has_tickets:
            return False
        poll = select.poll()
        poll.register(self._tcp.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _is_in_order(self) -> bool:
        """Return True if the exchange has ended, and the next one can begin."""
        length = _length_of(self._status, self._headers)
        return (
            self._is_complete
            and self._keeps_alive
            and not self._is_early
            and not self._is_lost
            and length is not None
            and _is_one_answer(bytes(self._read), length)
        )


def _length_of(status: int, headers: list[tuple[bytes, bytes]]) -> Length:
    """Return how long the answer says that its body is; None if it does not say, or says two things."""
    if status in _NO_BODY:
        return 0
    found: dict[bytes, Any] = {name.lower(): value for name, value in headers}
    length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    if coding is not None:
        return "chunked" if coding.strip().lower() == b"chunked" and length is None else None
    return int(length) if length and length.isdigit() else None


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
