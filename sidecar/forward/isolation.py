"""Looks for the bad event in what the proxy refused, within an allowance, and buries it.

What to send next is decided in `bisect.py`; this is the shell around it, for one lane.
"""

from collections.abc import Callable, Sequence

import structlog

from sidecar.core.model import Chunk, LaneName
from sidecar.forward.bisect import Bisect, Cut, halve
from sidecar.forward.budget import Budget
from sidecar.forward.source import LaneSource

_LOG_EVERY_S = 60.0
_FLOOD_S = 60.0
"""For so long after something was set aside a lane is expected to hold more bad events, and searches no more."""
log = structlog.get_logger("forward")


class Isolation:
    """The search in one lane. In the lane of suspects it never ends, since a bad event may be anywhere there.

    Of the `budget` it may spend `search`; `refusals` is for fresh events that are refused while that is used up.
    """

    def __init__(
        self,
        name: str,
        lane: LaneName,
        waiting: LaneSource,
        budget: Budget,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.suspicion: Bisect | None = None
        self._name, self._lane, self._waiting = name, lane, waiting
        self._search, self._refusals = budget.search, budget.refusals
        self._clock, self._wall_clock = clock, wall_clock
        self._flooded_until_s = float("-inf")
        self._burials, self._logged_s = 0, float("-inf")

    @property
    def active(self) -> bool:
        """Return whether what is sent next is part of the search."""
        return self.suspicion is not None or self._lane == "suspect"

    async def wait_s(self) -> float:
        """Seconds until the search may go on; 0: now, or there is none.

        Fresh events do not wait for it: when there are more bad ones than can be looked for, what holds them is set
        aside, and the good ones behind go on; though only every few seconds, since they may be refused as well.
        Raises Unavailable.
        """
        now_s = self._clock()
        flooded = now_s < self._flooded_until_s
        wait_s = self._search.wait_s(now_s) if self.active else 0.0
        if self.suspicion is not None and self._lane == "fresh" and (wait_s > 0 or flooded):
            await self._waiting.set_aside(self.suspicion.through_seq)
            self.suspicion = None
            self._flooded_until_s, flooded = now_s + _FLOOD_S, True
            self._refusals.charge(now_s)
        if not self.active:
            return self._refusals.wait_s(now_s) if flooded else 0.0
        return wait_s

    def spend(self) -> None:
        """Count a request of the search that leaves now."""
        if self.active:
            self._search.charge(self._clock())

    async def choose(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """What to send of the head `chunks`; nothing: read again, since one was cut in two, or none is suspected now.

        Raises Unavailable.
        """
        if self.suspicion is None:
            self.suspicion = Bisect(through_seq=chunks[-1].seq, first_ms=self._now_ms(), attempts=0)
        chunks = self.suspicion.among(chunks)
        if not chunks:
            self.suspicion = None
            return ()
        match halve(chunks):
            case Cut(seq, events):
                await self._waiting.split(seq, events)
                return ()
            case send:
                return chunks[: send.chunks]

    async def refused(self, reason: str, status: int, chunks: Sequence[Chunk]) -> None:
        """One of the events in `chunks` is bad: goes on searching, or buries it if it stood alone.

        Raises Unavailable.
        """
        if self.suspicion is None:
            self.suspicion = Bisect(through_seq=chunks[-1].seq, first_ms=self._now_ms())
            if self._clock() >= self._flooded_until_s:  # in a flood the allowance is for the lane of suspects
                self._search.charge(self._clock())
        else:
            self.suspicion.refused(chunks[-1].seq)
        if is_single(chunks):
            await self.bury(reason, status, chunks[0])

    async def bury(self, reason: str, status: int, chunk: Chunk) -> None:
        """Make the single event of `chunk` a dead letter. Raises Unavailable."""
        found = self.suspicion or Bisect(through_seq=chunk.seq, first_ms=self._now_ms())
        self.suspicion = None
        await self._waiting.bury(
            chunk.seq, reason=reason, status=status, attempts=found.attempts, first_ms=found.first_ms
        )
        self._burials += 1
        if self._clock() - self._logged_s >= _LOG_EVERY_S:
            log.error("buried, see `sidecar dead`", stream=self._name, events=self._burials, error=reason)
            self._burials, self._logged_s = 0, self._clock()

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)


def is_single(chunks: Sequence[Chunk]) -> bool:
    """Return whether it is one event alone."""
    return len(chunks) == 1 and chunks[0].events == 1
