"""Looks for the bad event in what the proxy refused, within a quota, and buries it.

What to send next is decided in `bisect.py`; this is the shell around it, for one lane.
"""

from collections.abc import Callable, Sequence

import structlog

from sidecar.core.model import Chunk, LaneName
from sidecar.forward.bisect import Bisect, Cut, halve
from sidecar.forward.quota import LaneQuota
from sidecar.forward.source import LaneSource

_LOG_EVERY_S = 60.0
_FLOOD_S = 60.0
"""Seconds after events were set aside in which the lane does not search: more bad events are expected (a flood)."""
log = structlog.get_logger("forward")


class Isolation:
    """Search for bad events in one lane. In the lane of suspects the search never ends: each event there may be bad.

    It spends `search` of the `quota`; while that is used up, refused requests with fresh events spend `refusals`.
    """

    def __init__(
        self,
        name: str,
        lane: LaneName,
        waiting: LaneSource,
        quota: LaneQuota,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.bisect: Bisect | None = None  # the search under way; None: nothing is suspected
        self._name, self._lane, self._waiting = name, lane, waiting
        self._search, self._refusals = quota.search, quota.refusals
        self._clock, self._wall_clock = clock, wall_clock
        self._flooded_until_s = float("-inf")  # until then more bad events are expected than can be looked for
        self._burials, self._logged_s = 0, float("-inf")  # since the last line in the log; when that was

    @property
    def active(self) -> bool:
        """Return whether what is sent next is part of the search."""
        return self.bisect is not None or self._lane == "suspect"

    async def give_up_if_too_many(self) -> None:
        """Set aside what fresh events are suspected, if there are more bad ones than can be looked for now.

        Fresh events do not wait for a search: the good ones behind go on; though only every few seconds, since they
        may be refused as well. Raises Unavailable.
        """
        if self.bisect is None or self._lane != "fresh":
            return
        now_s = self._clock()
        if now_s < self._flooded_until_s or self._search.wait_s(now_s) > 0:
            await self._waiting.set_aside(self.bisect.through_seq)
            self.bisect = None
            self._flooded_until_s = now_s + _FLOOD_S
            self._refusals.charge(now_s)

    def wait_s(self) -> float:
        """Return the seconds until the search may go on, or until fresh events may be sent in a flood; 0: now."""
        now_s = self._clock()
        if self.active:
            return self._search.wait_s(now_s)
        return self._refusals.wait_s(now_s) if now_s < self._flooded_until_s else 0.0

    def spend(self) -> None:
        """Count a request of the search that leaves now."""
        if self.active:
            self._search.charge(self._clock())

    async def choose(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Return what to send of the head `chunks`; nothing: read again, one was cut in two, or none is suspected now.

        Raises Unavailable.
        """
        if self.bisect is None:
            self.bisect = Bisect(through_seq=chunks[-1].seq, first_ms=self._now_ms(), attempts=0)
        chunks = self.bisect.among(chunks)
        if not chunks:
            self.bisect = None
            return ()
        match halve(chunks):
            case Cut(seq, events):
                await self._waiting.split(seq, events)
                return ()
            case send:
                return chunks[: send.chunks]

    async def refused(self, reason: str, status: int, chunks: Sequence[Chunk]) -> None:
        """Note that one of the events in `chunks` is bad: go on searching, or bury it if it stood alone.

        Raises Unavailable.
        """
        if self.bisect is None:
            self.bisect = Bisect(through_seq=chunks[-1].seq, first_ms=self._now_ms())
            if self._clock() >= self._flooded_until_s:  # in a flood the quota is for the lane of suspects
                self._search.charge(self._clock())
        else:
            self.bisect.refused(chunks[-1].seq)
        if is_single(chunks):
            await self.bury(reason, status, chunks[0])

    async def bury(self, reason: str, status: int, chunk: Chunk) -> None:
        """Make the single event of `chunk` a dead letter. Raises Unavailable."""
        found = self.bisect or Bisect(through_seq=chunk.seq, first_ms=self._now_ms())
        self.bisect = None
        await self._waiting.bury(
            chunk.seq, reason=reason, status=status, attempts=found.attempts, first_ms=found.first_ms
        )
        self._burials += 1
        if self._clock() - self._logged_s >= _LOG_EVERY_S:
            log.error(
                "proxy refused events for good, they are dead letters; see `sidecar dead`",
                stream=self._name,
                events=self._burials,
                error=reason,
            )
            self._burials, self._logged_s = 0, self._clock()

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)


def is_single(chunks: Sequence[Chunk]) -> bool:
    """Return whether it is one event alone."""
    return len(chunks) == 1 and chunks[0].events == 1
