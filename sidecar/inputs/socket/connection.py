"""One connection of a stream socket: from its transport to its session, and the answers back.

    data ─> session.feed ─> items ─> session.take ─> in flight ──on disk──> session.on_disk ─> answer
                              │ no room: the pool tries again        │ failed: submitted again
                              └─ reading stops while much is held ───┘

Invariant: what was read whole is held until it is on disk or refused, also when the client has gone meanwhile; and
lines are acknowledged in order, so that a client knows of each whether it is on disk. Answers are asked of the session
only while the client reads: all that waits is a number and a bounded text.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from functools import partial
from typing import Any, Protocol

from sidecar.core.errors import Unavailable
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.agent_frames import Frame
from sidecar.inputs.socket.backpressure import Backpressure
from sidecar.inputs.socket.in_flight import Flight, Flights
from sidecar.inputs.socket.line_framer import each_line
from sidecar.inputs.socket.response_writer import Answering
from sidecar.inputs.socket.sessions import Handed, Session, SessionItem

_MAX_HELD_BYTES = 1_000_000
_ITEM_BYTES = 1_000
"""What an item costs beside its bytes, until it is on disk."""
_SAY_AGAIN_S = 0.2
_LINGER_S = 10.0
"""How long a client that sends no more, and does not read, may still learn what became of its lines."""
_SLICE_S = 0.005
"""How long items of one connection are taken before others have their turn."""


class Door(Protocol):
    """The socket that a connection came in by."""

    counts: InputCounts
    pool: Backpressure

    def enter(self, connection: "SocketConnection") -> bool:
        """Return whether this client may stay."""

    def leave(self, connection: "SocketConnection") -> None:
        """It has gone; what it sent may still be on its way."""

    def session(self, connection: "SocketConnection", first_byte: int) -> Session:
        """Return how it wants to speak."""

    def lost(self, connection: "SocketConnection", why: str) -> None:
        """It sent something after which nothing can be understood."""

    def puzzled(self, connection: "SocketConnection", error: Exception) -> str:
        """Note that an item could not be treated, and nobody knows why; return what its client is told."""


class SocketConnection(asyncio.Protocol):
    """Reads as long as there is room, for one client. `owner` is its user, where that is known."""

    __slots__ = (
        "_answering", "_door", "_ended", "_flights", "_held_bytes", "_items", "_linger_s", "_loop", "_out",
        "_paused", "_resting", "_session", "_why", "heard_s", "owner", "transport",
    )  # fmt: skip

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._items: deque[tuple[SessionItem, int]] = deque()
        self._flights = Flights()
        self._held_bytes = 0
        self._why: Unavailable | None = None
        self._out: Answering | None = None
        self._linger_s = float("inf")
        self._ended = self._answering = self._paused = self._resting = False
        self.owner = -1
        self.heard_s = self._loop.time()
        self.transport: Any = None

    @property
    def under_way(self) -> int:
        """Items that will be answered when they are on disk."""
        return len(self._flights)

    @property
    def not_taken(self) -> int:
        """Items that were read, and wait for room."""
        return len(self._items)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if not self._door.enter(self):
            self._ended = True
            transport.abort()
            return
        self._door.pool.join(self)
        self._out = Answering(self._fd())
        self._loop.call_soon(self.balance)  # reading begins only after this, so it could not be stopped yet

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        if self._out is not None:
            self._out.end()
        self._door.leave(self)
        self.eof_received()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._paused = False  # evidently
        self.heard_s = self._loop.time()
        if self._session is None:
            self._session = self._door.session(self, data[0])
        self._hold(self._session.feed(data))
        self._door.pool.unfinished(self, self._session.unfinished_bytes)
        self._advance()
        if self._session.lost is not None:
            self._door.lost(self, self._session.lost)
            self.eof_received()

    def eof_received(self) -> bool:
        """Note that the client sends no more; return True to keep the connection until it was told the end."""
        if not self._ended:
            self._ended = True
            self._linger_s = self._loop.time() + _LINGER_S
            if self._session is not None:
                self._hold(self._session.end())
            self._door.pool.unfinished(self, 0)
            self._advance()
        self._close_when_done()
        return True

    def go_on(self) -> Unavailable | None:
        """Called by the pool, now and then, while something could not be put into the queue."""
        if not self._flights.start_again():
            return self._why
        if self._flights.troubled:
            return None  # it will show; until then nothing newer is taken
        self._why = None
        self._advance()
        if self._why is None:
            self._door.pool.progress()
        return self._why

    def balance(self) -> None:
        """Reads, or does not, as there is room."""
        if self.transport is None or self._ended:
            return
        pool = self._door.pool
        wanted = (
            self._why is None
            and not self._resting
            and not pool.full
            and not pool.breathless(self)
            and self._held_bytes < _MAX_HELD_BYTES
        )
        if wanted is self._paused:
            self._paused = not wanted
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    def give_up_unfinished(self, reason: str) -> None:
        """Called by the pool when unfinished lines take too much memory."""
        item = self._session.give_up_unfinished(reason) if self._session is not None else None
        self._door.pool.unfinished(self, 0)
        self._hold([item] if item is not None else [])
        self._advance()

    @property
    def heard_out(self) -> bool:
        """Return True if all that the client sent was read, and is on disk or refused."""
        return self._ended and not self._flights and not self._items

    def hear_out(self) -> None:
        """Let the client send no more: the sidecar stops. What it sent before is still read, to its end.

        The reading side is shut down: a writer on a Unix socket is told at once (EPIPE), and what stands in the
        kernel's buffer stays readable, with an end behind it.
        """
        if self.transport is None or self._ended:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._fd())) as same:
            same.shutdown(socket.SHUT_RD)

    def _fd(self) -> int:
        number: int = self.transport.get_extra_info("socket").fileno()
        return number

    def close(self) -> None:
        """At once, whatever is left."""
        if self.transport is not None:
            self._answer()
            self._shut()

    def _hold(self, items: list[SessionItem]) -> None:
        for item in items:
            size = len(item) if isinstance(item, bytes) else len(item.data) if isinstance(item, Frame) else 0
            self._items.append((item, size + _ITEM_BYTES))
            self._keep(size + _ITEM_BYTES)

    def _keep(self, size: int) -> None:
        self._held_bytes += size
        self._door.pool.hold(size)

    def _advance(self) -> None:
        if self._why is None and not self._resting:
            self._why = self._take_items()
            if self._why is not None:
                self._door.pool.wait(self, self._why)
        self.balance()
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
            flight = Flight(size)
            try:
                flight.handed = self._session.take(item, partial(self._landed, flight))
            except Unavailable as why:
                return why
            except Exception as error:  # one line or frame that nobody thought of must not cost the others
                if self._cut_first():
                    continue
                self._session.refuse(item, self._door.puzzled(self, error))
            self._items.popleft()
            if flight.handed is None:
                self._keep(-size)
            else:
                self._flights.start(flight)
        return None

    def _cut_first(self) -> bool:
        """Cut the first item into its lines; return False if it is one line, or no lines."""
        item, size = self._items[0]
        lines = each_line(item) if isinstance(item, bytes) else []
        if len(lines) < 2:
            return False
        self._items.popleft()
        self._items.extendleft([(line, len(line)) for line in reversed(lines)])
        self._keep(sum(map(len, lines)) - size)
        return True

    def _wake(self) -> None:
        self._resting = False
        self._advance()

    def _landed(self, flight: Flight, error: Exception | None) -> None:
        """The flight is on disk, or could not be put there."""
        if error is not None:
            self._why = error if isinstance(error, Unavailable) else Unavailable(str(error), retry_after_s=1)
            self._flights.fail(flight)
            self._door.pool.wait(self, self._why)
            self.balance()
            return
        again = flight.again
        self._keep(-flight.size)
        self._settle(self._flights.land(flight))
        if again:
            self._recover()
        self.balance()
        self._answer_soon()

    def _recover(self) -> None:
        """What had failed is on disk; if that was all, what is newer has its turn."""
        self._door.pool.progress()
        if not self._flights.troubled:
            self._why = None
            self._advance()

    def _settle(self, handed: Handed) -> None:
        assert self._session is not None
        self._session.on_disk(handed.lines)
        self._door.counts.took(handed.events, handed.bytes, handed.repaired)

    def _answer_soon(self) -> None:
        """Once for all that one commit settles."""
        if not self._answering:
            self._answering = True
            self._loop.call_soon(self._answer_now)

    def _answer_now(self) -> None:
        self._answering = False
        self._answer()
        self._close_when_done()

    def _answer(self) -> None:
        """Say what there is to be said; to a client that does not read, again after a while."""
        if self._session is None or self._out is None or self._out.mute:
            return
        self._out.say(b"")
        if not self._out.blocked:
            self._out.say(self._session.answer())
        if self._out.blocked and not self._answering:
            self._answering = True
            self._loop.call_later(_SAY_AGAIN_S, self._answer_now)

    def _close_when_done(self) -> None:
        if not self._ended or self._flights or self._items:
            return
        if self.transport is None:
            self._door.pool.forget(self)
            return
        self._answer()
        if self._out is None or not self._out.blocked or self._loop.time() > self._linger_s:
            self._shut()

    def _shut(self) -> None:
        if self._out is not None:
            self._out.end()
        if not self.transport.is_closing():
            self.transport.close()
