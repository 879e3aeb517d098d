"""One report on its way from the socket to the disk, and the answer on its way back."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from sidecar.core.errors import Rejected, Unavailable
from sidecar.core.hops import HEADER, BadHops, Hops, parse_hops, shown
from sidecar.core.model import Sender
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.http import answers
from sidecar.inputs.http.content import decode
from sidecar.inputs.http.guard import Guard
from sidecar.intake import AcceptedReport

_MAX_BUFFERED_BYTES = 64_000_000  # of all connections together; max_body limits only a single one
_LARGE_BYTES = 65_536
"""The worst report of this size takes the event loop about 25 ms; larger ones are looked at by other threads."""
_DISCARD_FACTOR = 8
"""A refused body is read up to this many times the limit, so that the client gets the answer with the reason.

After that the connection is cut off."""
_RETRY_STORAGE_S = 5


AcceptReport = Callable[[bytes, Callable[[Exception | None], None], Sender], AcceptedReport]
AcceptLarge = Callable[[bytes, Callable[[AcceptedReport], None], Callable[[Exception | None], None], Sender], None]
_HOPS = HEADER.encode()


class HttpConnection(Protocol):
    """The part of a connection that a push needs. `sender`: who is at its other end."""

    sender: Sender

    def answer(self, push: "Push", response: bytes) -> None:
        """Send the response."""

    def cut_off(self, push: "Push") -> None:
        """Read no more of the body."""


class Shared:
    """The state that all connections of one listener share. `buffered_bytes` counts all unfinished bodies together."""

    __slots__ = (
        "accept",
        "accept_large",
        "buffered_bytes",
        "counts",
        "guard",
        "hops",
        "max_body_bytes",
        "max_connections",
    )  # fmt: skip

    def __init__(
        self,
        accept: AcceptReport,
        accept_large: AcceptLarge,
        guard: Guard,
        counts: InputCounts,
        hops: Hops,
        *,
        max_body_bytes: int,
        max_connections: int,
    ) -> None:
        self.accept, self.accept_large, self.guard, self.counts, self.hops = accept, accept_large, guard, counts, hops
        self.max_body_bytes, self.max_connections = max_body_bytes, max_connections
        self.buffered_bytes = 0  # of bodies that are not complete


class _NoEvent:
    """uvicorn wakes a cycle that waits for its body; a Push never waits."""

    def set(self) -> None:
        pass


class Push:
    """A request of the push route. The public attributes are those that uvicorn looks for in a request cycle."""

    __slots__ = (
        "_accepted",
        "_connection",
        "_encoding",
        "_looked_at",
        "_parts",
        "_refusal",
        "_sender",
        "_shared",
        "_size",
        "complete",
        "disconnected",
        "expects_continue",
        "keep_alive",
        "response_complete",
    )  # fmt: skip
    message_event = _NoEvent()

    def __init__(self, connection: HttpConnection, shared: Shared, *, keep_alive: bool) -> None:
        self._connection, self._shared = connection, shared
        self._encoding = b""  # as the head says; b"": none
        self._sender = connection.sender
        self._parts: list[bytes] = []  # of the body, so far
        self._size = 0  # bytes of these
        self._accepted: AcceptedReport | None = None  # what the intake has taken; None: nothing yet
        self._looked_at = 0  # bytes of the body, while it is large and looked at
        self._refusal: Rejected | Unavailable | None = None  # why it will not be taken; None: no reason so far
        self.keep_alive = keep_alive
        # uvicorn asks these of a cycle: body complete, client gone, answer written, 100 expected.
        self.complete = self.disconnected = self.response_complete = self.expects_continue = False

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """Look at the head of the request; what is wrong with it is answered when the body is over."""
        try:
            self._shared.guard.check(headers)
        except Rejected as refused:
            self._refusal = refused
        if _HOPS in headers:
            self._look_at_hops(headers[_HOPS])
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._shared.max_body_bytes:
            self._too_large()
        self._encoding = headers.get(b"content-encoding", b"")
        self.expects_continue = headers.get(b"expect", b"").lower() == b"100-continue"

    def _look_at_hops(self, header: bytes) -> None:
        try:
            hops = parse_hops(header)
        except BadHops:
            self._shared.counts.hops_ignored += 1
            return
        self._sender = msgspec.structs.replace(self._sender, hops=hops)
        if self._shared.hops.is_loop(hops):
            way = " to ".join(map(shown, [*hops, self._shared.hops.own]))
            self.refuse(
                Rejected(508, f"this report has been here before, it goes round from sidecar {way}; see proxy.urls")
            )

    @property
    def plain(self) -> bool:
        """Return whether nothing but the length of its body tells this request from others with the same head."""
        usual = self._sender is self._connection.sender  # no hops were named
        return usual and self.keep_alive and self._refusal is None and not self._encoding and not self.expects_continue

    @property
    def refused_early(self) -> bool:
        """Return whether the answer is known before the body has come."""
        return self._refusal is not None

    def add(self, part: bytes) -> None:
        """Take a piece of the body, or throw it away if the report is refused already."""
        self._size += len(part)
        if self._refusal is None:
            if self._size > self._shared.max_body_bytes:
                self._too_large()
            elif self._shared.buffered_bytes + len(part) > _MAX_BUFFERED_BYTES:
                self.refuse(Unavailable("too many reports at once", retry_after_s=1))
            else:
                self._shared.buffered_bytes += len(part)
                self._parts.append(part)
        elif self._size > _DISCARD_FACTOR * self._shared.max_body_bytes:
            self._connection.cut_off(self)

    def run(self) -> None:
        """Hand the complete body over; the answer follows now or after the commit. Once answered, this does nothing."""
        if self.response_complete:
            return
        body = b"".join(self._parts)
        self.drop_body()
        if self._refusal is not None:
            self._respond_refusal(self._refusal)
            return
        try:
            if self._encoding:
                body = decode(body, self._encoding, self._shared.max_body_bytes)
            self.take(body)
        except Rejected as refusal:
            self._respond_refusal(refusal)

    def take(self, body: bytes) -> None:
        """Hand over a body that came whole."""
        if len(body) > _LARGE_BYTES:
            self._accept_large(body)
            return
        try:
            self._accepted = self._shared.accept(body, self.settled, self._sender)
        except (Rejected, Unavailable) as refusal:
            self._respond_refusal(refusal)

    def _accept_large(self, body: bytes) -> None:
        if self._shared.buffered_bytes + len(body) > _MAX_BUFFERED_BYTES:
            self._respond_refusal(Unavailable("too many reports at once", retry_after_s=1))
            return
        self._shared.buffered_bytes += len(body)
        self._looked_at = len(body)
        self._shared.accept_large(body, self._was_accepted, self.settled, self._sender)

    def _was_accepted(self, accepted: AcceptedReport) -> None:
        self._accepted = accepted

    def settled(self, error: Exception | None) -> None:
        """Answer: the report is committed, or could not be put there; a large one may also be refused."""
        self._shared.buffered_bytes -= self._looked_at
        self._looked_at = 0
        if isinstance(error, Rejected):
            self._respond_refusal(error)
            return
        if error is not None:
            if not isinstance(error, Unavailable):
                error = Unavailable(str(error), retry_after_s=_RETRY_STORAGE_S)
            self._respond_refusal(error)
            return
        counts, accepted = self._shared.counts, self._accepted
        assert accepted is not None
        counts.took(accepted.events, accepted.bytes, accepted.repaired)
        self._respond(answers.success(close=not self.keep_alive))

    def drop_body(self) -> None:
        """Give back the memory of the body."""
        for part in self._parts:
            self._shared.buffered_bytes -= len(part)
        self._parts = []

    def _too_large(self) -> None:
        self.refuse(Rejected(413, f"larger than {self._shared.max_body_bytes} bytes (http.max_body)", ("body",)))

    def refuse(self, refusal: Rejected | Unavailable) -> None:
        """Note why it will not be taken, unless there is a reason already; the rest of the body is thrown away."""
        self._refusal = self._refusal or refusal
        self.drop_body()

    def _respond_refusal(self, refusal: Rejected | Unavailable) -> None:
        close = not self.keep_alive
        self._shared.counts.rejected += 1
        if isinstance(refusal, Rejected):
            self._respond(answers.rejection(refusal.why, close=close))
        else:
            retry_after_s = refusal.retry_after_s
            self._respond(answers.refusal(503, refusal.message, close=close, retry_after_s=retry_after_s))

    def _respond(self, response: bytes) -> None:
        if not self.response_complete:
            self.response_complete = True
            if not self.disconnected:
                self._connection.answer(self, response)
