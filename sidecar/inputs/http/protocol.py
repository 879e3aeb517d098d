"""uvicorn's protocol with one route short-cut: a push goes from the parser to the intake without ASGI in between.

    data_received ── parser ──> POST /v2/push[/]  ──> Push ──> intake ──commit──> Push.settled ──> answer
                          └───> anything else     ──> uvicorn's own cycle ──> Starlette

A `Push` stands where uvicorn keeps its request cycle, so that keep-alive, pipelining and graceful shutdown stay
uvicorn's: `HttpToolsProtocol` looks only at the attributes that the two have in common.
"""

from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sidecar.errors import Refused, Unavailable
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.http import answers
from sidecar.inputs.http.content import decode
from sidecar.inputs.http.guard import Guard

PUSH_PATHS = (b"/v2/push/", b"/v2/push")
_PATIENCE_S = 60
"""How long a client may be silent in the middle of a request, or before its first."""
_MAX_CONNECTIONS = 2048
_MAX_HEADERS = 100
_MAX_HEAD_BYTES = 65_536
_MAX_BUFFERED_BYTES = 64_000_000
_DISCARD_FACTOR = 8
"""How far beyond the limit a body is still read, so that the client hears why; after that it is cut off."""


class Took(Protocol):
    """What a report held."""

    @property
    def events(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def repaired(self) -> bool: ...


Take = Callable[[bytes, Callable[[Exception | None], None]], Took]


class Shared:
    """What all connections of one listener have in common."""

    __slots__ = ("buffered_bytes", "counts", "guard", "max_body_bytes", "take")

    def __init__(self, take: Take, guard: Guard, counts: InputCounts, max_body_bytes: int) -> None:
        self.take, self.guard, self.counts, self.max_body_bytes = take, guard, counts, max_body_bytes
        self.buffered_bytes = 0


class _NoEvent:
    """uvicorn wakes a cycle that waits for its body; a Push never waits."""

    def set(self) -> None:
        pass


class Push:
    """One report on its way from the socket to the disk and its answer back."""

    __slots__ = (
        "_connection", "_encoding", "_parts", "_refusal", "_shared", "_size", "_taken",
        "complete", "disconnected", "expect_continue", "keep_alive", "response_complete",
    )  # fmt: skip
    message_event = _NoEvent()

    def __init__(self, connection: "IntakeProtocol", shared: Shared, headers: dict[bytes, bytes], *, keep_alive: bool):
        self._connection, self._shared = connection, shared
        self._encoding = headers.get(b"content-encoding", b"")
        self._parts: list[bytes] = []
        self._size = 0
        self._taken: Took | None = None
        self._refusal: Refused | Unavailable | None = None
        self.keep_alive = keep_alive
        self.complete = self.disconnected = self.response_complete = False
        self.expect_continue = False

    def begin(self, headers: dict[bytes, bytes]) -> None:
        """Looks at the head of the request; what is wrong with it is answered when the body is over."""
        try:
            self._shared.guard.check(headers)
        except Refused as refused:
            self._refusal = refused
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._shared.max_body_bytes:
            self._too_large()
        self.expect_continue = headers.get(b"expect", b"").lower() == b"100-continue"

    @property
    def refused_early(self) -> bool:
        """Whether the answer is known before the body has come."""
        return self._refusal is not None

    def add(self, part: bytes) -> None:
        """Takes a piece of the body, or throws it away if the report is refused already."""
        self._size += len(part)
        if self._refusal is None:
            if self._size > self._shared.max_body_bytes:
                self._too_large()
            elif self._shared.buffered_bytes + len(part) > _MAX_BUFFERED_BYTES:
                self._refuse(Unavailable("too many reports at once", retry_after_s=1))
            else:
                self._shared.buffered_bytes += len(part)
                self._parts.append(part)
        elif self._size > _DISCARD_FACTOR * self._shared.max_body_bytes:
            self._connection.cut_off(self)

    def run(self) -> None:
        """Hands the complete body over; the answer follows now or after the commit."""
        body = b"".join(self._parts)
        self.drop_body()
        try:
            if self._refusal is not None:
                raise self._refusal
            if self._encoding:
                body = decode(body, self._encoding, self._shared.max_body_bytes)
            self._taken = self._shared.take(body, self.settled)
        except (Refused, Unavailable) as refusal:
            self._respond_refusal(refusal)

    def settled(self, error: Exception | None) -> None:
        """The report is on disk, or could not be put there."""
        if error is not None:
            self._respond_refusal(error if isinstance(error, Unavailable) else Unavailable(str(error), retry_after_s=5))
            return
        counts, taken = self._shared.counts, self._taken
        assert taken is not None
        counts.events += taken.events
        counts.bytes += taken.bytes
        counts.repaired += taken.repaired
        self._respond(answers.success(close=not self.keep_alive))

    def drop_body(self) -> None:
        """Gives back the memory of the body."""
        for part in self._parts:
            self._shared.buffered_bytes -= len(part)
        self._parts = []

    def _too_large(self) -> None:
        self._refuse(Refused(413, f"body: larger than {self._shared.max_body_bytes} bytes (http.max_body)"))

    def _refuse(self, refusal: Refused | Unavailable) -> None:
        self._refusal = self._refusal or refusal
        self.drop_body()

    def _respond_refusal(self, refusal: Refused | Unavailable) -> None:
        close = not self.keep_alive
        if isinstance(refusal, Refused):
            self._shared.counts.rejected += 1
            self._respond(answers.refusal(refusal.status, refusal.message, close=close))
        else:
            retry_after_s = refusal.retry_after_s
            self._respond(answers.refusal(503, refusal.message, close=close, retry_after_s=retry_after_s))

    def _respond(self, response: bytes) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        if not self.disconnected:
            self._connection.answer(self, response)


class IntakeProtocol(HttpToolsProtocol):
    """One connection. Its memory is bounded by the head of a request, and by `Shared` for all bodies together."""

    cycle: Any
    pipeline: Any

    def __init__(self, shared: Shared, **given: Any) -> None:
        super().__init__(**given)
        self._shared = shared
        self._in_request = True  # a new connection owes a request
        self._in_head = True
        self._head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > _MAX_CONNECTIONS:
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
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")
        if self._in_request and self.timeout_keep_alive_task is None:
            self._be_patient()

    def on_message_begin(self) -> None:
        self._in_request = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= _MAX_HEADERS:
            raise ValueError("too many headers")  # httptools makes it a parser error, and uvicorn a 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self.url.partition(b"?")[0] in PUSH_PATHS and self.parser.get_method() == b"POST":
            self._begin_push()
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, Push):
            self.cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_request = False
        self._in_head = True
        if not isinstance(self.cycle, Push):
            super().on_message_complete()
            return
        self.cycle.complete = True
        if not self.pipeline and not self.cycle.response_complete:
            self.cycle.run()

    def answer(self, push: Push, response: bytes) -> None:
        """Writes the response of `push`, which is the oldest unanswered request of this connection."""
        self.transport.write(response)
        if not push.keep_alive:
            self.transport.close()
        self.on_response_complete()

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
        push = Push(self, self._shared, headers, keep_alive=keep_alive)
        push.begin(headers)
        previous = self.cycle
        self.cycle = push
        if previous is None or previous.response_complete:
            self._start(push)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((push, self.app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn calls this for a pipelined request whose turn has come."""
        if isinstance(cycle, Push):
            self._start(cycle)
            if cycle.complete and not cycle.response_complete:
                cycle.run()
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, push: Push) -> None:
        if push.expect_continue and not push.complete:
            if push.refused_early:
                push.keep_alive = False  # the client will not send the body that was announced
                push.run()
            else:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _be_patient(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(_PATIENCE_S, self.timeout_keep_alive_handler)


def intake_protocol(shared: Shared) -> Callable[..., IntakeProtocol]:
    """What uvicorn calls for every connection."""

    def connect(**given: Any) -> IntakeProtocol:
        return IntakeProtocol(shared, **given)

    return connect
