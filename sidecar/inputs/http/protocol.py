"""The protocol of the main listener: one route is short-cut, a push goes from the parser to the intake without ASGI.

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

from sidecar.config import is_own_address
from sidecar.core.errors import Rejected
from sidecar.core.model import THIS_HOST, Sender
from sidecar.inputs.http.bounded import BoundedProtocol, ConnectionLimits
from sidecar.inputs.http.push import Push, Shared

PUSH_PATHS = (b"/v2/push/", b"/v2/push")
_MAX_KNOWN_HEADS = 1024
_MAX_KNOWN_HEAD_BYTES = 2048
_END_OF_HEAD = b"\r\n\r\n"


class IntakeProtocol(BoundedProtocol):
    """One HTTP connection of the main listener, with a short cut for pushes. `Shared` bounds all bodies together."""

    sender: Sender

    def __init__(self, shared: Shared, limits: ConnectionLimits, known_heads: dict[bytes, int], **given: Any) -> None:
        super().__init__(limits, **given)
        self._shared, self._known_heads = shared, known_heads
        self._repeated: Push | None = None  # used again and again for requests whose head is known
        self._chunk = b""  # what is being parsed
        self._fresh = False  # it began with the message
        self._raw_left = 0  # of a body that httptools takes for another protocol

    def connection_made(self, transport: Any) -> None:
        self.sender = sender_of(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for cycle in (self.running, self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if isinstance(cycle, Push):
                cycle.disconnected = True
                cycle.drop_body()

    def data_received(self, data: bytes) -> None:
        if self._held or not self._take_repeated(data):
            super().data_received(data)

    def _parse(self, data: bytes) -> None:
        if self._raw_left:
            self._take_raw(data)
            return
        self._chunk, self._fresh = data, not self._in_message
        super()._parse(data)
        self._chunk = b""

    def _end_of_piece(self) -> int:
        return self._raw_left or super()._end_of_piece()

    def _take_raw(self, data: bytes) -> None:
        self._raw_left -= len(data)
        self.cycle.add(data)
        if not self._raw_left:
            self.on_message_complete()

    def _take_repeated(self, data: bytes) -> bool:
        """Treat one whole request whose head is known, if that is what `data` is and no other is under way."""
        if self._in_message or self._heard_all or self._unanswered or self.flow.write_paused:
            return False
        end = data.find(_END_OF_HEAD) + 4
        if self._known_heads.get(data[:end]) != len(data) - end:
            return False
        push = self._repeated
        if push is None:
            push = self._repeated = Push(self, self._shared, keep_alive=True)
        push.response_complete = False
        self._asked_before = True
        self.cycle = self.running = self._newest_whole = push
        push.take(data[end:])
        return True

    def on_headers_complete(self) -> None:
        self._in_head = False
        if _path_of(self.url) in PUSH_PATHS and self.parser.get_method() == b"POST":
            self._begin_push()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, Push):
            self.body_came(len(body))
            self.cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._raw_left:
            return  # httptools says so, but the body is still to come
        if not isinstance(self.cycle, Push):
            super().on_message_complete()
            return
        self.message_ended()
        self.cycle.complete = True
        self._heard_all = not self.cycle.keep_alive
        if not self.pipeline and not self.cycle.response_complete:
            self.cycle.run()

    def answer(self, push: Push, response: bytes) -> None:
        """Write the response of `push`, which is the oldest unanswered request of this connection."""
        self.transport.write(response)
        if not push.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def cut_off(self, push: Push) -> None:
        """End a request whose client goes on sending a body that was refused long ago."""
        if self.pipeline:  # an older request has not been answered yet, so there is no turn to say why
            self.transport.abort()
        else:
            push.keep_alive = False
            push.run()

    def drop(self, cycle: Any) -> None:
        if isinstance(cycle, Push):
            cycle.drop_body()

    def _begin_push(self) -> None:
        headers = dict(self.headers)
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        push = Push(self, self._shared, keep_alive=keep_alive)
        push.begin(headers)
        if not self.well_addressed:
            push.refuse(Rejected(400, "expected once, with the name or address of this endpoint", ("Host",)))
        if self.parser.should_upgrade():
            self._decline_upgrade(push, headers)
        previous, self.cycle = self.cycle, push
        if previous is None or previous.response_complete:
            self._remember_head(push, headers)
            self.running = push
            self._start(push)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((push, self.app))

    def _decline_upgrade(self, push: Push, headers: dict[bytes, bytes]) -> None:
        """Decline the upgrade, which is an offer (RFC 9110, 7.8): take the request as it is, and then close."""
        push.keep_alive = False
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit():
            push.refuse(Rejected(400, "not understood together with a chunked body", ("Upgrade",)))
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
            self.running = cycle
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


def sender_of(transport: Any) -> Sender:
    """Return the sender at the other end of a connection. All addresses of this host count as this host."""
    peer, mine = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or peer[0] == mine[0] or is_own_address(peer[0]):
        return THIS_HOST
    return Sender(peer[0], local=False)


def _path_of(url: bytes) -> bytes:
    """Return the path of a request's target, also in its absolute form (RFC 9112, 3.2.2)."""
    if url.startswith((b"http://", b"https://")):
        url = b"/" + b"/".join(url.split(b"/")[3:])
    return url.partition(b"?")[0].partition(b"#")[0]


def intake_protocol(shared: Shared) -> Callable[..., IntakeProtocol]:
    """Return what uvicorn calls for every connection."""
    known_heads: dict[bytes, int] = {}
    limits = ConnectionLimits(shared.max_connections)

    def connect(**given: Any) -> IntakeProtocol:
        return IntakeProtocol(shared, limits, known_heads, **given)

    return connect
