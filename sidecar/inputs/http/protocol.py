"""uvicorn's protocol with one route short-cut: a push goes from the parser to the intake without ASGI in between.

    data_received ─┬─ a head seen before, and all of its body ──────────────> Push ──> intake ──commit──> answer
                   └─ parser ─┬─> POST /v2/push[/]  ──> Push ──> intake ──commit──> answer
                              └─> anything else     ──> uvicorn's own cycle ──> Starlette

A `Push` stands where uvicorn keeps its request cycle, so that keep-alive, pipelining and graceful shutdown stay
uvicorn's: `HttpToolsProtocol` looks only at the attributes that the two have in common.

Clients repeat themselves: the heads of a connection's requests are the same bytes. A head that httptools has parsed and
that held nothing but a push is remembered with its length; the same bytes need not be parsed again to mean the same.
"""

from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sidecar.config import is_own_address
from sidecar.errors import Refused
from sidecar.inputs.http.push import Push, Shared
from sidecar.model import THIS_HOST, Sender

PUSH_PATHS = (b"/v2/push/", b"/v2/push")
_PATIENCE_S = 60
"""How long a client may be silent in the middle of a request, or before its first."""
_REQUEST_S = 120
"""How long a whole request may take, however busily it trickles in."""
_MAX_HEADERS = 100
_MAX_QUIET_BYTES = 65_536
"""Of a head, of trailers, of whatever is neither a body nor the end of a request."""
_MAX_KNOWN_HEADS = 1024
_MAX_KNOWN_HEAD_BYTES = 2048
_END_OF_HEAD = b"\r\n\r\n"


class IntakeProtocol(HttpToolsProtocol):
    """One connection. Its memory is bounded by the head of a request, and by `Shared` for all bodies together."""

    cycle: Any
    pipeline: Any
    sender: Sender

    def __init__(self, shared: Shared, known_heads: dict[bytes, int], **given: Any) -> None:
        super().__init__(**given)
        self._shared, self._known_heads = shared, known_heads
        self._in_request = True  # a new connection owes a request
        self._began_s = self.loop.time()
        self._quiet_bytes = 0
        self._raw_left = 0
        self._in_message = self._fresh = self._heard_all = False
        self._repeated: Push | None = None
        self._newest_whole: Any = None  # the cycle of the last request that has come as a whole
        self._active = False
        self._chunk = b""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.sender = sender_of(transport)
        if len(self.connections) > self._shared.max_connections:
            transport.abort()
            return
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        for cycle in (self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if isinstance(cycle, Push):
                cycle.disconnected = True
                cycle.drop_body()

    def data_received(self, data: bytes) -> None:
        if self._heard_all:
            return
        if self._raw_left:
            self._take_raw(data)
        elif not self._take_repeated(data):
            self._parse(data)
        if self._in_request and self.timeout_keep_alive_task is None:
            self._be_patient()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks whether to keep the connection
        """Keep a connection whose client sends no more until it has its answers (RFC 9112, 9.6); then close it."""
        return self._hear_no_more()

    def _hear_no_more(self) -> bool:
        """Answer the whole requests, and close then; return False if all are answered."""
        newest = self._newest_whole
        if newest is None or newest.response_complete:
            return False  # what is not whole will never be, and all else is answered
        if self.pipeline and self.pipeline[0][0] is not newest and self._in_message:
            half, _ = self.pipeline.popleft()
            if isinstance(half, Push):
                half.drop_body()
        self.cycle, self._heard_all = newest, True
        newest.keep_alive = False  # its answer is the last
        return True

    def pause_writing(self) -> None:
        """A client that does not read its answers is not heard any more."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._chunk, self._fresh = data, not self._in_message
        self._quiet_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._take_raw(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if not self._hear_no_more():
                self.send_400_response("Invalid HTTP request received.")
            return
        finally:
            self._chunk = b""
        if self._quiet_bytes > _MAX_QUIET_BYTES:
            self.send_400_response("The head or the trailers of the request are too large.")

    def _take_raw(self, data: bytes) -> None:
        """The body of a request that offers an upgrade, which httptools takes for the start of another protocol."""
        self._unset_keepalive_if_required()
        if self._raw_left:
            part = data[: self._raw_left]
            self._raw_left -= len(part)
            self.cycle.add(part)
            if not self._raw_left:
                self.on_message_complete()

    def _take_repeated(self, data: bytes) -> bool:
        """Treats one whole request whose head is known, if that is what `data` is and no other is under way."""
        if self._in_request or (self.cycle is not None and not self.cycle.response_complete):
            return False
        end = data.find(_END_OF_HEAD) + 4
        if self._known_heads.get(data[:end]) != len(data) - end:
            return False
        self._active = True
        push = self._repeated
        if push is None:
            push = self._repeated = Push(self, self._shared, keep_alive=True)
        push.response_complete = False
        self.cycle = self._newest_whole = push
        push.take(data[end:])
        return True

    def on_message_begin(self) -> None:
        self._in_request = self._in_message = True
        self._began_s = self.loop.time()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= _MAX_HEADERS:
            raise ValueError("too many headers")  # httptools makes it a parser error, and uvicorn a 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if _path_of(self.url) in PUSH_PATHS and self.parser.get_method() == b"POST":
            self._begin_push()
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        if isinstance(self.cycle, Push):
            self.cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._raw_left:
            return  # httptools says so, but the body is still to come
        self._in_request = self._in_message = self._fresh = False
        self._quiet_bytes = 0
        self._newest_whole = self.cycle
        if not isinstance(self.cycle, Push):
            super().on_message_complete()
            return
        self.cycle.complete = True
        self._heard_all = not self.cycle.keep_alive
        if not self.pipeline and not self.cycle.response_complete:
            self.cycle.run()

    def answer(self, push: Push, response: bytes) -> None:
        """Writes the response of `push`, which is the oldest unanswered request of this connection."""
        self.transport.write(response)
        if not push.keep_alive:
            self.transport.close()
        if self.pipeline or self.timeout_keep_alive_task is None:
            self.on_response_complete()
            if self.flow.write_paused:
                self.flow.pause_reading()

    def timeout_keep_alive_handler(self) -> None:
        """One timer serves for many requests: it looks whether there were any, instead of being set for each."""
        if self._active:
            self._active = False
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def cut_off(self, push: Push) -> None:
        """Ends a request whose client goes on sending a body that was refused long ago."""
        if self.pipeline:  # an older request has not been answered yet, so there is no turn to say why
            self.transport.abort()
        else:
            push.keep_alive = False
            push.run()

    def _begin_push(self) -> None:
        headers = dict(self.headers)
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        push = Push(self, self._shared, keep_alive=keep_alive)
        push.begin(headers)
        if self.parser.should_upgrade():
            self._decline_upgrade(push, headers)
        previous, self.cycle = self.cycle, push
        if previous is None or previous.response_complete:
            self._remember_head(push, headers)
            self._start(push)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((push, self.app))

    def _decline_upgrade(self, push: Push, headers: dict[bytes, bytes]) -> None:
        """An upgrade is an offer (RFC 9110, 7.8); we take the request as it is, without the parser, and then close."""
        push.keep_alive = False
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit():
            push.refuse(Refused(400, "Upgrade: not understood together with a chunked body"))
        else:
            self._raw_left = int(length)

    def _remember_head(self, push: Push, headers: dict[bytes, bytes]) -> None:
        """Only a head that began with the present chunk of data, and whose body has a length and no more to it."""
        end = self._chunk.find(_END_OF_HEAD) + 4
        length = headers.get(b"content-length", b"")
        if not push.plain or b"transfer-encoding" in headers or b"upgrade" in headers or not length.isdigit():
            return
        head = self._chunk[:end]
        if not self._fresh or not head.startswith(b"POST /v2/push") or head.count(b"\n") != head.count(b"\r\n"):
            return
        if 4 <= end <= _MAX_KNOWN_HEAD_BYTES:
            if len(self._known_heads) >= _MAX_KNOWN_HEADS:
                self._known_heads.clear()
            self._known_heads[head] = int(length)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn calls this for a pipelined request whose turn has come."""
        if isinstance(cycle, Push):
            self._start(cycle)
            if cycle.complete and not cycle.response_complete:
                cycle.run()
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, push: Push) -> None:
        if push.expects_continue and not push.complete:
            if push.refused_early:
                push.keep_alive = False  # the client will not send the body that was announced
                push.run()
            else:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _be_patient(self) -> None:
        left_s = min(_PATIENCE_S, max(0.0, self._began_s + _REQUEST_S - self.loop.time()))
        self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)


def sender_of(transport: Any) -> Sender:
    """Who is at the other end of a connection. This host's outer addresses are its own as well."""
    peer, mine = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or peer[0] == mine[0] or is_own_address(peer[0]):
        return THIS_HOST
    return Sender(peer[0], local=False)


def _path_of(url: bytes) -> bytes:
    """The path of a request's target, also in its absolute form (RFC 9112, 3.2.2)."""
    if url.startswith((b"http://", b"https://")):
        url = b"/" + b"/".join(url.split(b"/")[3:])
    return url.partition(b"?")[0].partition(b"#")[0]


def intake_protocol(shared: Shared) -> Callable[..., IntakeProtocol]:
    """What uvicorn calls for every connection."""
    known_heads: dict[bytes, int] = {}

    def connect(**given: Any) -> IntakeProtocol:
        return IntakeProtocol(shared, known_heads, **given)

    return connect
