"""Runs the regular jobs: retention, free pages, the audit of the books, the service manager's watchdog."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import structlog

from sidecar.config import Config
from sidecar.core.errors import Unavailable
from sidecar.core.model import FORGOTTEN
from sidecar.host.clock import boot_clock, wall_ms
from sidecar.host.scheduler import Schedule
from sidecar.host.systemd import Notifier
from sidecar.intake import Router, capacity_of
from sidecar.queue import MAX_STREAMS, Expire, Ping, Queue, QueueStream, Release, Tidy
from sidecar.service.forwarders import Forwarders

_LOOK_EVERY_S = 1.0
_TIDY_EVERY_S = 30.0
_TIDY_PAGES = 2048  # the writer frees them in a commit, and all others wait for that commit
_AUDIT_EVERY_S = 3600.0
_FIRST_ROUND_S = 1.0
_DEAD_PART = 4
"""Dead letters may use one of this many parts of the capacity (a quarter), even if `dead.max_size` is larger."""
_ALIVE_WITHIN_S = 10.0
_FORGET_AFTER_S, _FORGET_SOON_S = 600.0, 20.0
"""Seconds after which a drained stream is forgotten: usually, and when places for streams are scarce."""
_CROWDED = 0.5
"""Places for streams are scarce when more than this part of them is used."""
log = structlog.get_logger("maintenance")


class Maintenance:
    """The regular jobs. `mismatches` is what the last audit found; a sound queue has none, ever."""

    def __init__(
        self, config: Config, router: Router, queue: Queue, forwarders: Forwarders, notifier: Notifier
    ) -> None:
        self.mismatches: Sequence[str] = ()
        self._config, self._queue, self._forwarders, self._notifier = config, queue, forwarders, notifier
        self._dropped: Counter[str] | None = None  # what is in the log already; None: not looked yet
        self._first: asyncio.Task[None] | None = None  # the first round; None: not started
        self._router, self._drained = router, _Drained()
        # Told of streams that are gone.
        self.on_forgotten: Callable[[Collection[QueueStream]], None] = lambda _: None

    def start(self, schedule: Schedule) -> None:
        """Put the jobs on the schedule; a first round is made soon after every start."""
        schedule.add_every("look", _LOOK_EVERY_S, self.look)
        schedule.add_every("tidy", _TIDY_EVERY_S, self.tidy)
        schedule.add_every("audit", _AUDIT_EVERY_S, self.audit)
        self._first = asyncio.create_task(self._first_round(), name="first-maintenance")
        if self._notifier.watchdog_s:
            # Three signs within each WatchdogSec: systemd must not kill the process because one of them is late.
            schedule.add_every("watchdog", self._notifier.watchdog_s / 3, self.feed_watchdog)

    def reload(self, config: Config) -> None:
        """Let `config` count from now on."""
        self._config = config
        self.look_at_disk()

    def stop(self) -> None:
        """Stop the first round; may be called twice."""
        if self._first is not None:
            self._first.cancel()

    async def look(self) -> None:
        """Notice what must be noticed within a second: a disk that fills up, events whose time has come."""
        self._queue.look()
        self.look_at_disk()
        if any(stream.lane("scheduled").events for stream in self._queue.streams()):
            await self._release_due()

    def look_at_disk(self) -> None:
        """Adapt the queue's capacity to the space that is left."""
        try:
            disk = os.statvfs(self._config.state)  # of a local disk: it does not wait
        except OSError:  # the directory is gone, which the queue has noticed too
            return
        self._queue.capacity = capacity_of(
            max_size=self._config.queue.max_size,
            min_free=self._config.queue.min_free,
            file_bytes=self._queue.file_bytes,
            disk_bytes=disk.f_frsize * disk.f_blocks,
            # f_bavail, not f_bfree: the blocks that are reserved for root are not for us.
            disk_free=disk.f_frsize * disk.f_bavail,
        )

    async def _release_due(self) -> None:
        proxy_ms = int((time.time() + self._forwarders.skew_s) * 1000)
        due_ms = await self._queue.next_due_ms()
        if due_ms is None or due_ms > proxy_ms:
            return
        try:
            await self._queue.commit(Release(proxy_ms, wall_ms()))
        except Unavailable:
            return  # the writer has logged why

    async def tidy(self) -> None:
        """Drop what is too old, forget kept deliveries, returns free pages."""
        try:
            if self._dropped is None:
                await self._report_drops()
            await self._queue.commit(Expire(self._queue.before_ms(self._config.queue.max_age)))
            await self._queue.commit(
                Tidy(
                    kept_before_ms=self._queue.before_ms(self._config.queue.keep_delivered),
                    dead_before_ms=self._queue.before_ms(self._config.dead.max_age),
                    dead_max_bytes=min(self._config.dead.max_size, self._queue.capacity.bytes // _DEAD_PART),
                    pages=_TIDY_PAGES,
                )
            )
            await self._report_drops()
            await self._forget_drained()
        except Unavailable:
            return  # the writer has logged why

    async def _forget_drained(self) -> None:
        """Let streams go that have been drained for a while, so that new ones find a place."""
        streams = self._queue.streams()
        rate = self._config.proxy.rate
        # The quota is forgotten with its stream. Within the window of the rate, a new quota could exceed the rate.
        after_s = max(_FORGET_AFTER_S, rate.window_s if rate else 0.0)
        if len(streams) > _CROWDED * MAX_STREAMS:
            after_s = _FORGET_SOON_S
        heirs = {
            stream: self._heir_of(stream, streams)
            for stream in self._drained.older_than(after_s, streams, boot_clock())
            if not self._router.is_configured(stream.key)
            and stream.key != FORGOTTEN
            and self._forwarders.is_idle(stream)
        }
        if not heirs:
            return
        # An heir that is to be forgotten in the same round would take the counters away with it.
        gone = await self._queue.forget({s: heir for s, heir in heirs.items() if heir not in heirs})
        self.on_forgotten(gone)
        await self._forwarders.forget(gone)
        log.info("drained streams forgotten, their counters moved to another stream", streams=len(gone))

    def _heir_of(self, stream: QueueStream, streams: Sequence[QueueStream]) -> QueueStream:
        """Choose who takes the counters over: the configured stream of the data_id, its newest, or the one for all."""
        same = [other for other in streams if other.key.data_id == stream.key.data_id and other is not stream]
        configured = [other for other in same if self._router.is_configured(other.key)]
        newer = [other for other in same if other.id > stream.id]
        found = configured or newer
        return max(found, key=lambda other: other.id) if found else self._queue.stream(FORGOTTEN, configured=True)

    async def _report_drops(self) -> None:
        """Log what was dropped since the last call. The first call logs nothing: it only notes the counts so far."""
        counted: Counter[str] = Counter()
        for reasons in (await self._queue.dropped()).values():
            counted.update(reasons)
        for reason, events in (counted - (self._dropped if self._dropped is not None else counted)).items():
            log.error("events dropped by the configured limits", reason=reason, events=events)
        self._dropped = counted

    async def audit(self) -> None:
        """Compare books and rows."""
        self.mismatches = await self._queue.audit()
        for line in self.mismatches:
            log.error("books do not balance", mismatch=line)

    async def alive(self) -> bool:
        """Return whether a round through the event loop and the writer's thread succeeds in time."""
        try:
            async with asyncio.timeout(_ALIVE_WITHIN_S):
                await self._queue.commit(Ping())
        except (TimeoutError, Unavailable):
            return False
        return True

    async def feed_watchdog(self) -> None:
        """Tell the service manager that there is progress, if there is. A full disk is no reason to be restarted."""
        if await self.alive() or self._queue.broken:
            self._notifier.tell("WATCHDOG=1")

    async def _first_round(self) -> None:
        await asyncio.sleep(_FIRST_ROUND_S)
        await self.tidy()
        await self.audit()


class _Drained:
    """Track since when each stream is drained and has accepted nothing."""

    def __init__(self) -> None:
        # By the stream: what it had accepted when it was seen drained first, and when that was, on the boot clock.
        self._since: dict[QueueStream, tuple[int, float]] = {}

    def older_than(self, seconds: float, streams: Sequence[QueueStream], now_s: float) -> list[QueueStream]:
        """Look at `streams`, and return those that have been so for so many seconds."""
        known, self._since = self._since, {}
        for stream in streams:
            if stream.drained and stream.saved and not stream.pending:
                accepted, since_s = known.get(stream, (-1, now_s))
                accepted_now = stream.books.accepted
                self._since[stream] = (accepted_now, since_s if accepted == accepted_now else now_s)
        return [stream for stream, (_, since_s) in self._since.items() if now_s - since_s >= seconds]
