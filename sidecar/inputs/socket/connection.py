"""One connection of a stream socket: from its transport to its session, and the answers back.

    data ─> session.feed ─> items ─> session.check ─> in flight ──committed──> session.committed ─> answer
                              │ no capacity: tried again later      │ failed: submitted again
                              └─ reading stops while much is held ──┘

Invariant: what was read whole is held until it is committed or refused, also when the client has gone meanwhile; and
lines are acknowledged in order, so that a client knows of each whether it is committed. Answers are asked of the
session only while the client reads: all that waits is a number and a bounded text.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from typing import Any, Protocol

from sidecar.core.errors import Unavailable
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.agent_frames import Frame
from sidecar.inputs.socket.backpressure import Backpressure
from sidecar.inputs.socket.in_flight import InFlight, InFlightItem
from sidecar.inputs.socket.line_framer import each_line
from sidecar.inputs.socket.response_writer import ResponseWriter
from sidecar.inputs.socket.sessions import Session, SessionItem

_MAX_HELD_BYTES = 1_000_000
_ITEM_BYTES = 1_000
"""Bytes of memory that an item needs in addition to its own bytes, until it is on disk."""
_SAY_AGAIN_S = 0.2
_LINGER_S = 10.0
"""Seconds for which answers are kept for a client that has stopped sending and does not read."""
_SLICE_S = 0.005
"""How long items of one connection are taken before others have their turn."""


class SocketInput(Protocol):
    """The socket that a connection came in by."""

    counts: InputCounts
    backpressure: Backpressure

    def enter(self, connection: "SocketConnection") -> bool:
        """Return whether this client may stay."""

    def leave(self, connection: "SocketConnection") -> None:
        """Note that it has gone; what it sent may still be on its way."""

    def session(self, connection: "SocketConnection", first_byte: int) -> Session:
        """Return how it wants to speak."""

    def lost(self, connection: "SocketConnection", why: str) -> None:
        """Note that it sent something after which nothing can be understood."""

    def fail_unexpected(self, connection: "SocketConnection", error: Exception) -> str:
        """Note that an item could not be treated, and nobody knows why; return what its client is told."""


class SocketConnection(asyncio.Protocol):
    """Serve one client of a stream socket: read while there is room, and answer. Event loop only."""

    __slots__ = (
        "_answering",
        "_ended",
        "_held_bytes",
        "_in_flight",
        "_input",
        "_items",
        "_linger_s",
        "_loop",
        "_no_capacity",
        "_paused",
        "_resting",
        "_session",
        "_writer",
        "heard_s",
        "transport",
        "uid",
    )  # fmt: skip

    def __init__(self, socket_input: SocketInput) -> None:
        self._input = socket_input
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None  # None until the first byte came
        self._items: deque[tuple[SessionItem, int]] = deque()  # read, and not checked yet; each with what it holds
        self._in_flight = InFlight()
        self._held_bytes = 0  # by both
        self._no_capacity: Unavailable | None = None  # why nothing more is checked now; None: it is
        self._writer: ResponseWriter | None = None  # None until the client was let in
        self._linger_s = float("inf")  # once it sends no more: until when it may still be told something
        self._ended = False  # it sends no more
        self._answering = False  # `_answer_now` is on its way
        self._paused = False  # nothing is read
        self._resting = False  # others have their turn; `_wake` is on its way
        self.uid = -1  # its user; -1: not known
        self.heard_s = self._loop.time()  # when it last sent something
        self.transport: Any = None  # None: not connected yet, or not any more

    @property
    def under_way(self) -> int:
        """Return the items that will be answered when they are committed."""
        return len(self._in_flight)

    @property
    def not_taken(self) -> int:
        """Return the items that were read, and wait for capacity."""
        return len(self._items)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if not self._input.enter(self):
            self._ended = True
            transport.abort()
            return
        self._input.backpressure.join(self)
        self._writer = ResponseWriter(self._fd())
        self._loop.call_soon(self.pause_or_resume)  # reading begins only after this, so it could not be stopped yet

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        if self._writer is not None:
            self._writer.end()
        self._input.leave(self)
        # Whole lines that the client left behind still go to the queue; only its answers have no reader.
        self.eof_received()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._paused = False  # evidently
        self.heard_s = self._loop.time()
        if self._session is None:
            self._session = self._input.session(self, data[0])
        self._add_items(self._session.feed(data))
        self._input.backpressure.unfinished(self, self._session.unfinished_bytes)
        self._advance()
        if self._session.lost is not None:
            self._input.lost(self, self._session.lost)
            self.eof_received()

    def eof_received(self) -> bool:
        """Note that the client sends no more; return True to keep the connection until it was told the end."""
        if not self._ended:
            self._ended = True
            self._linger_s = self._loop.time() + _LINGER_S
            if self._session is not None:
                self._add_items(self._session.end())
            self._input.backpressure.unfinished(self, 0)
            self._advance()
        self._close_when_done()
        return True

    def retry(self) -> Unavailable | None:
        """Try once more what could not be put into the queue.

        Returns why there is no capacity; None: there is, or it will show.
        """
        if not self._in_flight.start_again(self._settled):
            return self._no_capacity
        if self._in_flight.troubled:
            return None  # it will show; until then nothing newer is taken
        self._no_capacity = None
        self._advance()
        if self._no_capacity is None:
            self._input.backpressure.progress()
        return self._no_capacity

    def pause_or_resume(self) -> None:
        """Read, or do not, as there is room."""
        if self.transport is None or self._ended:
            return
        backpressure = self._input.backpressure
        wanted = (
            self._no_capacity is None
            and not self._resting
            and not backpressure.full
            and not backpressure.is_paused(self)
            and self._held_bytes < _MAX_HELD_BYTES
        )
        if wanted is self._paused:
            self._paused = not wanted
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    def give_up_unfinished(self, reason: str) -> None:
        """Forget the line without an end: unfinished lines take too much memory."""
        item = self._session.give_up_unfinished(reason) if self._session is not None else None
        self._input.backpressure.unfinished(self, 0)
        self._add_items([item] if item is not None else [])
        self._advance()

    @property
    def heard_out(self) -> bool:
        """Return True if all that the client sent was read, and is on disk or refused."""
        return self._ended and not self._in_flight and not self._items

    def hear_out(self) -> None:
        """Let the client send no more: the sidecar stops. What it sent before is still read, to its end.

        The reading side is shut down: a writer on a Unix socket is told at once (EPIPE), and what stands in the
        kernel's buffer stays readable, with an end behind it.
        """
        if self.transport is None or self._ended:
            return
        # On a copy of the descriptor: closing this object must not close the transport's own.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._fd())) as same:
            same.shutdown(socket.SHUT_RD)

    def _fd(self) -> int:
        number: int = self.transport.get_extra_info("socket").fileno()
        return number

    def close(self) -> None:
        """Close at once, whatever is left."""
        if self.transport is not None:
            self._answer()
            self._shut()

    def _add_items(self, items: list[SessionItem]) -> None:
        for item in items:
            size = len(item) if isinstance(item, bytes) else len(item.data) if isinstance(item, Frame) else 0
            self._items.append((item, size + _ITEM_BYTES))
            self._reserve(size + _ITEM_BYTES)

    def _reserve(self, size: int) -> None:
        self._held_bytes += size
        self._input.backpressure.reserve(size)

    def _advance(self) -> None:
        if self._no_capacity is None and not self._resting:
            self._no_capacity = self._take_items()
            if self._no_capacity is not None:
                self._input.backpressure.wait(self, self._no_capacity)
        self.pause_or_resume()
        self._answer_soon()

    def _take_items(self) -> Unavailable | None:
        """Take what is there, for as long as a slice of time lasts. Returns why there is no room."""
        end_s = self._loop.time() + _SLICE_S
        while self._items and self._session is not None:
            if self._loop.time() > end_s:
                self._resting = True
                self._loop.call_soon(self._wake)
                return None
            item, size = self._items[0]
            try:
                prepared = self._session.check(item)
            except Unavailable as why:
                return why
            except Exception as error:  # one line or frame that nobody thought of must not cost the others
                if self._cut_first():
                    continue
                self._session.refuse(item, self._input.fail_unexpected(self, error))
                prepared = None
            self._items.popleft()
            if prepared is None:
                self._reserve(-size)
            else:
                self._in_flight.start(InFlightItem(prepared, size), self._settled)
        return None

    def _cut_first(self) -> bool:
        """Cut the first item into its lines; return False if it is one line, or no lines."""
        item, size = self._items[0]
        lines = each_line(item) if isinstance(item, bytes) else []
        if len(lines) < 2:
            return False
        self._items.popleft()
        self._items.extendleft([(line, len(line)) for line in reversed(lines)])
        self._reserve(sum(map(len, lines)) - size)
        return True

    def _wake(self) -> None:
        self._resting = False
        self._advance()

    def _settled(self, item: InFlightItem, error: Exception | None) -> None:
        """Note that an item is committed, or could not be."""
        if error is not None:
            self._no_capacity = error if isinstance(error, Unavailable) else Unavailable(str(error), retry_after_s=1)
            self._in_flight.failed(item)
            self._input.backpressure.wait(self, self._no_capacity)
            self.pause_or_resume()
            return
        assert self._session is not None
        self._reserve(-item.size)
        self._in_flight.committed(item)
        self._session.committed(item.prepared.lines)
        self._input.counts.took(item.prepared.events, item.prepared.bytes, item.prepared.repaired)
        if item.again:
            self._recover()
        self.pause_or_resume()
        self._answer_soon()

    def _recover(self) -> None:
        """Go on with what is newer, if all that had failed is committed now."""
        self._input.backpressure.progress()
        if not self._in_flight.troubled:
            self._no_capacity = None
            self._advance()

    def _answer_soon(self) -> None:
        """Answer soon, once for all that one commit settles."""
        if not self._answering:
            self._answering = True
            self._loop.call_soon(self._answer_now)

    def _answer_now(self) -> None:
        self._answering = False
        self._answer()
        self._close_when_done()

    def _answer(self) -> None:
        """Say what there is to be said; to a client that does not read, again after a while."""
        if self._session is None or self._writer is None or self._writer.mute:
            return
        self._writer.say(b"")
        if not self._writer.blocked:
            self._writer.say(self._session.answer())
        if self._writer.blocked and not self._answering:
            self._answering = True
            # Answers bypass the transport, so asyncio does not tell when the client reads again.
            self._loop.call_later(_SAY_AGAIN_S, self._answer_now)

    def _close_when_done(self) -> None:
        if not self._ended or self._in_flight or self._items:
            return
        if self.transport is None:
            self._input.backpressure.forget(self)
            return
        self._answer()
        if self._writer is None or not self._writer.blocked or self._loop.time() > self._linger_s:
            self._shut()

    def _shut(self) -> None:
        if self._writer is not None:
            self._writer.end()
        if not self.transport.is_closing():
            self.transport.close()
