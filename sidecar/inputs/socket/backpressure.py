"""Bounds the memory of all sockets, and retries connections that wait until there is room in the queue.

    reading ──> held in memory ──> in the queue ──commit──> forgotten
                     │ no room in the queue, or the commit failed
                     └─ waits here, not read any further; tried again, one after the other, until there is

When too much is held, nobody is read; then a few at a time. Of lines without an end, those of the user who holds most
are given up first, so that no user can keep another from sending.
"""

import asyncio
import itertools
from collections import Counter
from typing import Protocol

import structlog

from sidecar.core.backoff import Backoff
from sidecar.core.errors import Unavailable

log = structlog.get_logger("inputs.socket")
_MAX_HELD_BYTES = 32_000_000
"""The most bytes of whole lines in memory that are not on disk. It is below the limit at which admission refuses."""
_RESUME_AT_ONCE = 32  # two thousand at once could bring 256 KB each, and memory would be full again
_MAX_UNFINISHED_BYTES = 64_000_000
_SMALL_BYTES = 4096
"""Bytes up to which an unfinished line is not counted, so that nobody can stop others from sending short lines."""
_BACKOFF = Backoff(first_s=0.05, cap_s=1.0)
_SETTLED_S = 5.0
"""Seconds without a waiting connection after which backpressure has ended.

A queue at its limit has room and no room many times a second."""


class Member(Protocol):
    """A connection, as far as it counts here. `uid` is the user at its other end."""

    uid: int

    def retry(self) -> Unavailable | None:
        """Try again what did not work before. Returns why there is no room; None if there is, or nobody knows yet."""

    def pause_or_resume(self) -> None:
        """Start or stop reading, depending on the free memory."""

    def give_up_unfinished(self, reason: str) -> None:
        """Forget the line that has no end yet."""


class Backpressure:
    """Bound the memory of all sockets, and retry connections that wait. `reason`: why they wait; None: none does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_connections: int) -> None:
        self._loop, self._max_connections = loop, max_connections
        self.held_bytes = 0  # of whole lines that are not committed
        self.unfinished_bytes = 0  # of lines without an end
        self.full = False  # so much is held that nobody is read
        self.reason: str | None = None
        self._members: dict[Member, None] = {}  # all that are open, or have something that is not committed
        self._waiting: dict[Member, None] = {}  # for capacity in the queue, the first one first
        self._paused: dict[Member, None] = {}  # for memory
        self._unfinished: dict[Member, int] = {}  # bytes of a line without an end, where that is not small
        self._timer: asyncio.TimerHandle | None = None  # of the next try; None: nobody waits
        self._tries = 0  # in vain, in a row
        self._told: str | None = None  # the reason that was logged; None: no reason is open, its end was logged
        self._since_s = 0.0  # when the first one began to wait, on the loop's clock
        self._over: asyncio.TimerHandle | None = None  # will say that it is over; None: it is, or is not

    @property
    def crowded(self) -> bool:
        """Return whether there are as many connections as this process has descriptors for."""
        return len(self._members) >= self._max_connections

    def join(self, member: Member) -> None:
        """Count `member` in: it is open, or has something that is not committed."""
        self._members[member] = None
        if self.full:
            self._paused[member] = None

    def forget(self, member: Member) -> None:
        """Let go of `member`: it is gone, and has nothing left to be taken."""
        self._members.pop(member, None)
        self._waiting.pop(member, None)
        self._paused.pop(member, None)
        self.unfinished(member, 0)

    def reserve(self, size: int) -> None:
        """Note that so much more (or less, if negative) is in memory."""
        self.held_bytes += size
        if not self.full and self.held_bytes >= _MAX_HELD_BYTES:
            self.full = True
            self._paused = dict.fromkeys(self._members)
            for member in self._paused:
                member.pause_or_resume()
        # Only at half of the limit: else every commit would let all clients read, and stop them again.
        elif self.full and self.held_bytes < _MAX_HELD_BYTES // 2:
            self.full = False
            self._resume_some()

    def unfinished(self, member: Member, size: int) -> None:
        """Note that a line of `member` without an end has `size` bytes now; the users with most of these make room."""
        self.unfinished_bytes -= self._unfinished.pop(member, 0)
        if size > _SMALL_BYTES:
            self._unfinished[member] = size
            self.unfinished_bytes += size
        while self.unfinished_bytes > _MAX_UNFINISHED_BYTES:
            by_uid: Counter[int] = Counter()
            for other, held in self._unfinished.items():
                by_uid[other.uid] += held
            victim = max(self._unfinished, key=lambda other: (by_uid[other.uid], self._unfinished[other]))
            victim.give_up_unfinished("too many unfinished lines at once")

    def wait(self, member: Member, why: Unavailable) -> None:
        """Try `member` again when there may be capacity."""
        if self._over is not None:
            self._over.cancel()
            self._over = None
        if self._told is None:
            self._since_s = self._loop.time()
        if self._told != why.message:
            log.warning("sockets paused, nothing is lost", reason=why.message)
        self.reason = self._told = why.message
        self._waiting[member] = None
        self._try_later()

    def progress(self) -> None:
        """Try the others soon, since something that waited goes on."""
        if self._tries:
            self._tries = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
                self._try_later()

    def stop(self) -> None:
        """Try nobody any more; may be called twice."""
        for timer in (self._timer, self._over):
            if timer is not None:
                timer.cancel()
        self._timer = self._over = None

    def _resume_some(self) -> None:
        """Wake a few; the others follow, unless those bring so much that it is full again."""
        if self.full:
            return
        some = list(itertools.islice(self._paused, _RESUME_AT_ONCE))
        for member in some:
            del self._paused[member]
            member.pause_or_resume()
        if self._paused:
            self._loop.call_soon(self._resume_some)

    def is_paused(self, member: Member) -> bool:
        """Return whether `member` is still to be woken."""
        return member in self._paused

    def _try_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_BACKOFF.longest_s(self._tries + 1), self._try_again)
            self._tries += 1

    def _try_again(self) -> None:
        self._timer = None
        try:
            for member in list(self._waiting):
                self._waiting.pop(member, None)
                if member.retry() is not None:
                    self._waiting[member] = None  # behind the others
                    break
        finally:
            if self._waiting:
                self._try_later()
            elif self._over is None:
                self.reason = None
                self._over = self._loop.call_later(_SETTLED_S, self._be_done, self._loop.time())

    def _be_done(self, at_s: float) -> None:
        log.info("sockets resumed", after_s=round(at_s - self._since_s, 1))
        self._told = self._over = None
