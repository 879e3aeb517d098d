"""Holds what comes in against the capacity of the queue, and remembers what was refused for want of it.

What is decided from sizes alone stands in `admission.py`; this asks the queue, counts and logs.
"""

from collections import Counter
from collections.abc import Callable

import structlog

from sidecar.config import QueueSettings
from sidecar.core.errors import Rejected, Unavailable
from sidecar.intake.admission import Refuse, Take, admit
from sidecar.intake.router import Route
from sidecar.queue import Queue

log = structlog.get_logger("intake")
_LARGEST_PART = 0.5
"""The part of `queue.max_size` above which one block is refused and not retried: it might never find room."""
_LARGEST_DEAD_PART = 0.25
"""The part of the capacity that dead letters may use before events that can never be sent are refused.

Clients that get no answer must not fill the queue with them."""
_MAX_UNKNOWN_PIPES = 100
SETTLED_S = 5.0
"""Seconds without a refusal after which reports count as accepted again.

A queue at its limit accepts and refuses many times a second."""


class CapacityCheck:
    """Check new data against the capacity of the queue, and remember refusals. Event loop only.

    `refused_by` counts refused reports by reason.
    """

    def __init__(self, queue: Queue, settings: QueueSettings, boot_clock: Callable[[], float]) -> None:
        self.refused_by: Counter[str] = Counter()
        self._queue, self._settings, self._boot_clock = queue, settings, boot_clock
        self._refused = 0  # reports since capacity was last found missing
        self._refused_s = 0.0  # when the last of them came, on the boot clock
        self._unknown_pipes: set[int] = set()  # data_ids that no stream has, of which dead letters are kept

    @property
    def refusing(self) -> str | None:
        """Return why reports are refused now, or were lately, perhaps only large ones; None: they are not."""
        verdict = self._verdict(1)
        if isinstance(verdict, Refuse):
            return verdict.reason
        lately = bool(self._refused) and self._boot_clock() - self._refused_s <= SETTLED_S
        return self._queue.capacity.full if lately else None

    def expect(self, size: int) -> None:
        """Check for clients that can wait; they are not counted as refused.

        Raises Unavailable, or Rejected if to wait would be in vain.
        """
        verdict = self._verdict(size)
        if isinstance(verdict, Refuse):
            if size > self._settings.max_size * _LARGEST_PART:
                raise Rejected(413, f"{size} bytes, too much for a queue of {self._settings.max_size} (queue.max_size)")
            raise Unavailable(verdict.reason, retry_after_s=verdict.retry_after_s)

    def admit(self, size: int) -> None:
        """Check for a report, which is refused and counted if there is no room. Raises Unavailable."""
        verdict = self._verdict(size)
        if isinstance(verdict, Refuse):
            if not self._refused:
                log.error("refusing reports", reason=verdict.reason)
            self._refused += 1
            self.refused_by[verdict.reason] += 1
            self._refused_s = self._boot_clock()
            raise Unavailable(verdict.reason, retry_after_s=verdict.retry_after_s)
        if self._refused and self._boot_clock() - self._refused_s > SETTLED_S:
            log.info("accepting reports again", refused=self._refused)
            self._refused = 0

    @property
    def too_many_dead(self) -> bool:
        """Return True if dead letters take as much of the queue as what is dead from the start may add to."""
        return self._queue.dead_bytes > _LARGEST_DEAD_PART * self._queue.capacity.bytes

    def expect_for_dead(self, route: Route, dead: int) -> None:
        """Check for `dead` events that are kept as dead letters, and for the stream that is remembered with them.

        Raises Rejected.
        """
        if dead and self.too_many_dead:
            raise Rejected(503, "there are too many dead letters already; see `sidecar dead`")
        if not route.configured and route.data_id not in self._unknown_pipes:
            self._unknown_pipes = {stream.key.data_id for stream in self._queue.streams() if not stream.key.token}
            if len(self._unknown_pipes) >= _MAX_UNKNOWN_PIPES and route.data_id not in self._unknown_pipes:
                raise Rejected(503, f"already {_MAX_UNKNOWN_PIPES} data_ids that no stream has; no other is remembered")

    def _verdict(self, size: int) -> Take | Refuse:
        return admit(
            size,
            used_bytes=self._queue.size_bytes,
            pending_bytes=self._queue.pending_bytes,
            log_bytes=self._queue.log_bytes,
            capacity=self._queue.capacity,
            when_full=self._settings.when_full,
        )
