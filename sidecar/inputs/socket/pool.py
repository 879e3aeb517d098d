"""What all sockets have in common: bounds on memory, and the connections that wait until there is room in the queue.

reading ──> held in memory ──> in the queue ──commit──> forgotten
                 │ no room in the queue, or the commit failed
                 └─ waits here, not read any further; tried again, one after the other, until there is
"""

import asyncio
from typing import Protocol

import structlog

from sidecar.errors import Unavailable

log = structlog.get_logger("inputs.socket")
_MAX_HELD_BYTES = 32_000_000
"""Of whole lines that are not on disk; below what admission takes for a slow disk."""
_MAX_UNFINISHED_BYTES = 64_000_000
_SMALL_BYTES = 4096
"""Of an unfinished line, which is not counted: so nobody can keep others from sending short ones."""
_PATIENCE_S = 60.0
_RETRY_S = (0.05, 1.0)
_SETTLED_S = 5.0
"""Without anybody waiting for so long, it is over; a queue at its limit changes its mind many times a second."""


class Waiting(Protocol):
    """A connection, as far as the pool knows it."""

    def go_on(self) -> Unavailable | None:
        """Tries again what did not work before; None if it works now."""

    def breathe(self) -> None:
        """There is memory again."""

    def give_up_unfinished(self, reason: str) -> None:
        """Forgets the line that has no end yet."""


class Pool:
    """One for all sockets. `reason` is why connections wait, if any do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.held_bytes = self.unfinished_bytes = 0
        self.reason: str | None = None
        self._waiting: dict[Waiting, None] = {}
        self._breathless: dict[Waiting, None] = {}
        self._unfinished: dict[Waiting, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pause_s = _RETRY_S[0]
        self._told: str | None = None
        self._since_s = 0.0
        self._over: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether nothing more should be read."""
        return self.held_bytes >= _MAX_HELD_BYTES

    def hold(self, size: int) -> None:
        """So much more (or less, if negative) is in memory."""
        self.held_bytes += size
        if size < 0 and self._breathless and self.held_bytes < _MAX_HELD_BYTES // 2:
            breathless, self._breathless = self._breathless, {}
            for connection in breathless:
                connection.breathe()

    def hold_breath(self, connection: Waiting) -> None:
        """`connection` reads nothing until it is told to breathe."""
        self._breathless[connection] = None

    def unfinished(self, connection: Waiting, size: int) -> None:
        """A line of `connection` without an end has `size` bytes now; what is too much is given up, oldest first."""
        before, since_s = self._unfinished.pop(connection, (0, self._loop.time()))
        self.unfinished_bytes -= before
        if size <= _SMALL_BYTES:
            return
        self._unfinished[connection] = (size, since_s)
        self.unfinished_bytes += size
        if self.unfinished_bytes > _MAX_UNFINISHED_BYTES:
            oldest = min(self._unfinished, key=lambda other: self._unfinished[other][1])
            stale = self._loop.time() - self._unfinished[oldest][1] > _PATIENCE_S
            (oldest if stale else connection).give_up_unfinished("too many unfinished lines at once")

    def wait(self, connection: Waiting, why: Unavailable) -> None:
        """`connection` is tried again when there may be room."""
        if self._over is not None:
            self._over.cancel()
            self._over = None
        if self._told is None:
            self._since_s = self._loop.time()
        if self._told != why.message:
            log.warning("sockets wait, nothing is lost", reason=why.message)
        self.reason = self._told = why.message
        self._waiting[connection] = None
        if self._timer is None:
            self._pause_s = _RETRY_S[0]
            self._timer = self._loop.call_later(self._pause_s, self._try_again)

    def forget(self, connection: Waiting) -> None:
        """It is gone, and has nothing left to be taken."""
        self._waiting.pop(connection, None)
        self._breathless.pop(connection, None)
        self.unfinished(connection, 0)

    def stop(self) -> None:
        """Nobody is tried any more; may be called twice."""
        for timer in (self._timer, self._over):
            if timer is not None:
                timer.cancel()
        self._timer = self._over = None

    def _try_again(self) -> None:
        self._timer = None
        for connection in list(self._waiting):
            why = connection.go_on()
            self._waiting.pop(connection, None)
            if why is not None:
                self._waiting[connection] = None  # behind the others
                break
        if self._waiting:
            self._pause_s = min(2 * self._pause_s, _RETRY_S[1])
            self._timer = self._loop.call_later(self._pause_s, self._try_again)
        else:
            self.reason = None
            self._over = self._loop.call_later(_SETTLED_S, self._be_done, self._loop.time())

    def _be_done(self, at_s: float) -> None:
        log.info("sockets are read again", after_s=round(at_s - self._since_s, 1))
        self._told = self._over = None
