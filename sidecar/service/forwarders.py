"""Joins queue and forward: a forwarder and a job for each lane, woken when something of it was committed."""

import random
import time
from collections.abc import Collection, Iterable

import msgspec

from sidecar.config import Config
from sidecar.core.backoff import Backoff
from sidecar.core.hops import Hops
from sidecar.core.model import StreamKey
from sidecar.forward import Causes, Forwarder, Settings
from sidecar.host import log
from sidecar.host.clock import boot_clock
from sidecar.host.scheduler import Schedule
from sidecar.intake import Router
from sidecar.queue import Queue, QueueLane, QueueStream
from sidecar.report import clean_again
from sidecar.service.lane_source import QueueLaneSource
from sidecar.service.proxies import PATIENCE_S, Proxies
from sidecar.service.quotas import Quotas
from sidecar.status.document import StreamStatus

_STREAM_BACKOFF = Backoff(first_s=0.5, cap_s=60.0)
_SLOW_BACKOFF = Backoff(first_s=4.0, cap_s=120.0)
_PROBE_JOB = "probe"
_SURELY_SECRET = 16
"""Characters of a passed-through token that is masked in logs; a shorter one may be a word, sent to black out lines."""


class Forwarders:
    """All forwarders, by the queue's lanes. On the event loop."""

    def __init__(self, config: Config, router: Router, queue: Queue, schedule: Schedule, hops: Hops) -> None:
        self.by_lane: dict[QueueLane, Forwarder] = {}  # of the lanes in which something waits, or did
        self._router, self._queue, self._schedule, self._hops = router, queue, schedule, hops
        self._quotas = Quotas(config.proxy, queue)
        self._unacknowledged: dict[QueueLane, int] = {}  # what was delivered and not forgotten yet, across a reload
        self._reloading = False  # nothing is woken meanwhile
        self._causes = Causes(boot_clock)
        self._set_up(config)

    def _set_up(self, config: Config) -> None:
        self._config = config
        self.proxies = Proxies(config.proxy, lambda: self._schedule.wake(_PROBE_JOB))
        self._settings = Settings(
            max_body_bytes=config.proxy.max_body,
            byte_rate=config.proxy.bytes_per_data_id,
            clean_again=clean_again,
            backoff=_STREAM_BACKOFF,
            slow_backoff=_SLOW_BACKOFF,
            clock=boot_clock,
            wall_clock=time.time,
            random=random.random,
            causes=self._causes,
        )

    async def start(self) -> None:
        """Begin with what the queue holds from before. Raises sqlite3.Error."""
        await self._quotas.load()
        self._schedule.add_answering(_PROBE_JOB, self._probe)
        self._queue.on_commit = self.committed
        self._resume()

    async def reload(self, config: Config) -> bool:
        """End the requests under way, and go on with `config` and nothing on hold. False: they would not end.

        What was spent of the quotas still counts.
        """
        self._reloading = True
        try:
            self.stop()
            if not await self._schedule.drain(self.proxies.client.deadline_s + PATIENCE_S):
                return False
            for lane, forwarder in self.by_lane.items():
                self._schedule.remove(_job(lane))
                forwarder.end()
                if forwarder.delivered_through is not None:
                    # The proxy has these events, and the queue holds them still: nobody may send them again.
                    self._unacknowledged[lane] = forwarder.delivered_through
            self.by_lane.clear()
            # TLS files and the HTTP proxy on the way may have changed, so no old connection may be used again.
            await self.proxies.client.close()
            self._quotas.reload(config.proxy)
            self._set_up(config)
            return True
        finally:
            self._reloading = False
            # If the reload gave up, the old forwarders are still here, and they were told to stop.
            for forwarder in self.by_lane.values():
                forwarder.go_on()
            self._resume()

    def _resume(self) -> None:
        self.committed(lane for stream in self._queue.streams() for lane in _sending_lanes(stream) if lane.events)

    def committed(self, lanes: Iterable[QueueLane]) -> None:
        """Wake what sends `lanes`, since more waits there; what knows its next attempt is left alone until then."""
        for lane in lanes if not self._reloading else ():
            forwarder = self.by_lane.get(lane) or self._add(lane)
            if forwarder.next_attempt_s is None:
                self._schedule.wake(_job(lane))

    def leaves_in_s(self, name: str) -> float:
        """Return the seconds until the rate allows a request of the stream that is configured so; from any thread."""
        stream = self._config.streams.get(name)
        return 0.0 if stream is None else self._quotas.leaves_in_s(StreamKey(stream.data_id, stream.access_token))

    def is_idle(self, stream: QueueStream) -> bool:
        """Return True if no request of `stream` is on its way, nor about to be."""
        return not any(self._schedule.is_running(_job(lane)) for lane in stream.lanes)

    async def forget(self, streams: Collection[QueueStream]) -> None:
        """Let go of all that was kept for streams which are gone. Raises Unavailable."""
        for stream in streams:
            for lane in stream.lanes:
                self._unacknowledged.pop(lane, None)
                forwarder = self.by_lane.pop(lane, None)
                if forwarder is not None:
                    forwarder.end()
                    self._schedule.remove(_job(lane))
        left = [self._router.sent_as(stream.key) for stream in self._queue.streams()]
        gone = {stream.key for stream in streams}
        for token in {key.token for key in gone} - {key.token for key in left}:
            log.unmask(token)
        await self._quotas.forget(gone, left)

    def retry(self, stream: QueueStream) -> None:
        """Try `stream` at once, whatever it waits for; only the quotas still count."""
        for lane in _sending_lanes(stream):
            forwarder = self.by_lane.get(lane)
            if forwarder is not None:
                forwarder.retry()
                self._schedule.wake(_job(lane))

    def status(self, stream: QueueStream, status: StreamStatus) -> StreamStatus:
        """Return `status`, which the queue has filled in for `stream`, with what the forwarders know."""
        by_name = {lane.name: self.by_lane.get(lane) for lane in stream.lanes}
        lanes = [
            # The queue keeps due times by the proxy's clock; people read them by the clock of this host.
            msgspec.structs.replace(lane, due_at=lane.due_at - int(self.skew_s * 1000))
            if lane.due_at is not None
            else forwarder.status(lane)
            if (forwarder := by_name[lane.name])
            else lane
            for lane in status.lanes
        ]
        forwarders = list(filter(None, by_name.values()))
        return msgspec.structs.replace(
            status,
            lanes=lanes,
            rate_per_min=sum(forwarder.requests.per_minute(boot_clock()) for forwarder in forwarders),
            next_attempt_at=min((lane.next_attempt_at for lane in lanes if lane.next_attempt_at), default=None),
            last_error=next((each.hold.last_error for each in forwarders if each.hold.last_error), None),
            waits_for=next((lane.waits_for for lane in lanes if lane.waits_for), None),
        )

    @property
    def skew_s(self) -> float:
        """Return by how much the clock of the proxies in use is ahead of ours."""
        return self.proxies.skew_s

    def stop(self) -> None:
        """Let every forwarder end after its present request."""
        for forwarder in self.by_lane.values():
            forwarder.stop()
        self.proxies.client.dismiss()

    async def close(self) -> None:
        """Close the connections."""
        await self.proxies.client.close()

    async def _probe(self) -> float | None:
        return await self.proxies.probe()

    def _add(self, lane: QueueLane) -> Forwarder:
        stream = lane.stream
        key = self._router.sent_as(stream.key)
        if len(key.token) >= _SURELY_SECRET:
            log.mask([key.token])
        keep = self._config.queue.keep_delivered > 0 and lane.name != "replay"
        forwarder = Forwarder(
            key,
            lane.name,
            self._router.name(stream.key),
            QueueLaneSource(self._queue, lane, key, self._quotas, keep=keep),
            client=self.proxies.client,
            endpoints=lambda: self.proxies.of(lane.target),
            quota=self._quotas.of(lane, key),
            settings=self._settings,
            wake_all=self._schedule.wake_all,
            headers=lambda: self._hops.header(stream.key, boot_clock()),
        )
        forwarder.delivered_through = self._unacknowledged.pop(lane, None)
        self.by_lane[lane] = forwarder
        self._schedule.add_answering(_job(lane), forwarder.run)
        return forwarder


def _sending_lanes(stream: QueueStream) -> Iterable[QueueLane]:
    return (lane for lane in stream.lanes if lane.name != "scheduled")


def _job(lane: QueueLane) -> str:
    return f"forward-{lane.id}"
