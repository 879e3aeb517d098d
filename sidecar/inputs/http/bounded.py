"""uvicorn's protocol with bounds: whatever a client sends or leaves out, its connection costs little, and ends.

One request at a time. httptools parses all that it is given, and uvicorn makes a cycle of each request; so it is
given no more than one request, and the next one only when that is answered. What came too early is held as it is, and
nothing more is read meanwhile.

    data_received ──> held ──> a piece: a head up to its end, or the rest of a body ──> parser ──> cycle ──> answer
                        └──────────── not before the last request is answered <─────────────────────────────┘

A connection is in one of these phases at every moment, and each of them ends by one timer:

    idle        nothing is asked, or only empty lines came     _IDLE_S after the last answer; at first _PATIENCE_S
    asking      a request has begun to come                    _PATIENCE_S of silence, _REQUEST_S in all
    answering   a request is whole, and not answered           the sidecar's own time: it is only looked at again
    deaf        the client does not read its answers           _PATIENCE_S, then it is cut off
    closing     what is written goes out                       _CLOSING_S, then it is cut off
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sidecar.inputs.http import answers

_IDLE_S = 75.0
_PATIENCE_S = 60.0
_REQUEST_S = 120.0
_CLOSING_S = 10.0
_MAX_HEADERS = 100
_MAX_QUIET_BYTES = 65_536  # of a head, of trailers, of whatever is neither a body nor the end of a request
_MAX_HELD_BYTES = 16_000_000  # of all connections together, of requests that came before their turn
_PIECE_BYTES = 2048
"""Bytes of a chunked body that are parsed at once, since its end is not known; what follows it may be among them."""
_AT_ONCE = 32
"""Requests of one connection that are looked at before all others have their turn."""
_END_OF_HEAD = b"\r\n\r\n"
_NO_PATH = re.compile(rb"https?://[^/?#]+")


class ConnectionLimits:
    """The state that all connections of a listener share. `held_bytes`: bytes that came before their turn."""

    __slots__ = ("held_bytes", "max_connections")

    def __init__(self, max_connections: int) -> None:
        self.max_connections = max_connections
        self.held_bytes = 0


class BoundedProtocol(HttpToolsProtocol):
    """One HTTP connection with bounds on its memory and time. Event loop only."""

    cycle: Any
    pipeline: Any
    transport: Any

    def __init__(self, limits: ConnectionLimits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._held = b""  # came, and is not parsed yet
        self._counted = 0  # so much of it counts in `limits`
        self._feeding = False  # the loop in `_feed` runs: an answer that is given at once must not begin a second one
        self._eof = False  # the client will send no more
        self._heard_all = False  # nothing that comes now can be a request
        self._in_message = False  # the parser is between the begin and the end of a message
        self._body_left: int | None = 0  # of the body that is coming; None: it is chunked; 0: no body
        self._hosts = 0  # Host headers of the request
        self._quiet_bytes = 0  # bytes read while no request was expected
        self._newest_whole: Any = None  # the cycle of the last request that has come as a whole
        self._began_s = self._heard_s = self._idle_since_s = self._deaf_since_s = self.loop.time()
        self._asked_before = False  # the first request has its own patience
        self._closing_since_s: float | None = None  # since when the last answer is written; None: it goes on
        self._lost = False  # the connection is gone: nothing can be written, and no time is kept any more
        self._in_head = False  # of a message; what comes later looks like headers, and are trailers
        self.running: Any = None  # the cycle whose turn it is
        self._timer: asyncio.TimerHandle | None = None  # calls `_time_out`; None: nothing is waited for

    # -- the connection

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # After super(), since uvicorn has then put this connection into `connections`.
        if len(self.connections) > self._limits.max_connections:
            transport.abort()
            return
        self._keep_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        for cycle in (self.running, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                # Wakes an application that waits for the rest of a body: it will never come.
                cycle.message_event.set()
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hold(b"")

    def data_received(self, data: bytes) -> None:
        if self._heard_all or self.transport.is_closing():
            return
        self._heard_s = self.loop.time()
        self._held = self._held + data if self._held else data
        self._feed()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks whether to keep the connection
        """Keep a connection whose client sends no more until it has its answers (RFC 9112, 9.6); then close it."""
        self._eof = True
        return bool(self._held) or self._hear_no_more()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read its answers."""
        super().pause_writing()
        self._deaf_since_s = self.loop.time()
        self.flow.pause_reading()
        self._keep_time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._feed()

    # -- one request after the other

    def _feed(self) -> None:
        """Parse what is held, request by request, as far as it is its turn; then read on, or wait."""
        if self._feeding:
            return
        self._feeding = True
        asked = 0
        try:
            while self._held and not self._must_wait():
                if asked >= _AT_ONCE:
                    self.loop.call_soon(self._feed)
                    break
                asked += not self._in_message
                end = self._end_of_piece()
                piece, self._held = self._held[:end], self._held[end:]
                self._parse(piece)
        finally:
            self._feeding = False
        self._hold(self._held)
        if self._held or self.flow.write_paused:
            self.flow.pause_reading()
        elif self._eof and not self.transport.is_closing() and not self._hear_no_more():
            self.transport.close()
        else:
            self.flow.resume_reading()
        self._keep_time()

    def _must_wait(self) -> bool:
        """Return True if nothing more may be parsed now."""
        if self.transport.is_closing() or self._heard_all:
            self._held = b""
            return True
        return self.flow.write_paused or (not self._in_message and self._unanswered)

    @property
    def _unanswered(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _end_of_piece(self) -> int:
        """Return the end of what may be parsed next: not beyond the request that it belongs to."""
        if not self._in_message or self._body_left == 0:
            found = self._held.find(_END_OF_HEAD)
            return found + len(_END_OF_HEAD) if found >= 0 else len(self._held)
        return _PIECE_BYTES if self._body_left is None else self._body_left

    def _hold(self, held: bytes) -> None:
        """Count the held bytes. If all connections hold too many, a client that sends ahead is not read any more."""
        self._held = held
        self._limits.held_bytes += len(held) - self._counted
        self._counted = len(held)
        if held and self._limits.held_bytes > _MAX_HELD_BYTES:
            self._limits.held_bytes -= self._counted
            self._held, self._counted = b"", 0
            if not self._hear_no_more():
                self.transport.close()

    def _hear_no_more(self) -> bool:
        """Answer the whole requests, and close then; return False if all are answered."""
        newest = self._newest_whole
        if newest is None or newest.response_complete:
            return False  # what is not whole will never be, and all else is answered
        if self.pipeline and self.pipeline[0][0] is not newest and self._in_message:
            self.drop(self.pipeline.popleft()[0])
        self.cycle, self._heard_all = newest, True
        newest.keep_alive = False  # its answer is the last
        return True

    def drop(self, cycle: Any) -> None:
        """Give back what a request holds that will never be whole."""

    def _parse(self, data: bytes) -> None:
        self._quiet_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # an offer, which is declined: the rest is what it is
            self._held = data[upgrade.args[0] :] + self._held
        except httptools.HttpParserError as error:
            status = 431 if len(self.headers or ()) >= _MAX_HEADERS and self._in_message else 400
            self._refuse_all(status, "not HTTP, or too many headers" if status == 431 else f"not HTTP: {error}")
            return
        if self._quiet_bytes > _MAX_QUIET_BYTES:
            self._refuse_all(431, f"the head, or the trailers, are larger than {_MAX_QUIET_BYTES} bytes")

    def _refuse_all(self, status: int, why: str) -> None:
        """Answer what was whole, else say what is wrong; and hear nothing more."""
        self._held = b""
        if not self._hear_no_more():
            self._heard_all = True
            if self._in_message and not self._in_head and self.cycle.response_complete:
                self.transport.close()  # its answer was given before it was whole
                return
            self.transport.write(answers.refusal(status, why, close=True))
            self.transport.close()

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._in_message = self._in_head = True
        self._asked_before = True
        self._began_s = self.loop.time()
        self._body_left, self._hosts = 0, 0
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which nobody asked for
        if len(self.headers) >= _MAX_HEADERS:
            raise ValueError("too many headers")  # httptools makes a parser error of it
        super().on_header(name, value)
        name = self.headers[-1][0]
        if name == b"content-length" and value.strip().isdigit() and self._body_left == 0:
            self._body_left = int(value)
        elif name == b"transfer-encoding":
            # Transfer-Encoding overrides a Content-Length (RFC 9112, 6.3).
            self._body_left = None
        elif name == b"host":
            self._hosts += 1

    @property
    def well_addressed(self) -> bool:
        """Return True if the request has one Host, or none in HTTP/1.0 (RFC 9112, 3.2)."""
        return self._hosts == 1 or (self._hosts == 0 and self.parser.get_http_version() != "1.1")

    def on_headers_complete(self) -> None:
        self._in_head = False
        if _NO_PATH.fullmatch(self.url):
            self.url += b"/"  # the absolute form of a request for the root (RFC 9112, 3.2.2)
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # makes what only a cycle of uvicorn's own needs
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self.body_came(len(body))
        super().on_body(body)

    def body_came(self, size: int) -> None:
        """Note that so much of the body has come."""
        self._quiet_bytes = 0
        if self._body_left:
            self._body_left = max(0, self._body_left - size)

    def on_message_complete(self) -> None:
        self.message_ended()
        super().on_message_complete()

    def message_ended(self) -> None:
        """Note that a request is whole."""
        self._in_message = False
        self._body_left = self._quiet_bytes = 0
        self._newest_whole = self.cycle

    def on_response_complete(self) -> None:
        """Go on with what was asked meanwhile."""
        self.server_state.total_requests += 1
        self._idle_since_s = self.loop.time()
        if self.transport.is_closing():
            self._keep_time()
        elif self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._feed()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    # -- time

    def _due_s(self, now_s: float) -> float:
        """Return when the present phase has lasted too long."""
        if self.transport.is_closing():
            if self._closing_since_s is None:
                self._closing_since_s = now_s
            return self._closing_since_s + _CLOSING_S
        if self.flow.write_paused:
            return self._deaf_since_s + _PATIENCE_S
        if self._in_message:
            return min(self._heard_s + _PATIENCE_S, self._began_s + _REQUEST_S)
        if self._unanswered:
            return now_s + _PATIENCE_S
        return self._idle_since_s + (_IDLE_S if self._asked_before else _PATIENCE_S)

    def _keep_time(self) -> None:
        """Let the timer fire not later than the present phase ends."""
        if self._lost:
            return
        due_s = self._due_s(self.loop.time())
        if self._timer is None or self._timer.when() > due_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(due_s, self._time_out)

    def _time_out(self) -> None:
        """End the connection if it is due, else wait for what is left."""
        self._timer = None
        now_s = self.loop.time()
        if self._due_s(now_s) <= now_s:
            # close() would first wait for this client to read what was written, and it does not read.
            if self.transport.is_closing() or self.flow.write_paused:
                self.transport.abort()
            else:
                self.transport.close()
        self._keep_time()


def bounded_protocol(max_connections: int) -> Callable[..., BoundedProtocol]:
    """Return what uvicorn calls for every connection of a listener."""
    limits = ConnectionLimits(max_connections)

    def connect(**given: Any) -> BoundedProtocol:
        return BoundedProtocol(limits, **given)

    return connect
