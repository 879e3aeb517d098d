"""Gathers the status document from the running parts."""

import time
from typing import Protocol

from sidecar import __version__, metrics
from sidecar.admission import Refuse, admit
from sidecar.clock import boot_clock
from sidecar.config import Config
from sidecar.directory import Directory
from sidecar.dispatch import Dispatch
from sidecar.inputs.counts import InputCounts
from sidecar.queue import Queue, QueueStream
from sidecar.status import (
    ConfigStatus,
    Health,
    InputStatus,
    ProxyStatus,
    QueueStatus,
    Status,
    StreamStatus,
    books_status,
    failures,
    full_in_s,
    worries,
)
from sidecar.upkeep import Upkeep


class Facts(Protocol):
    """What only the application knows."""

    pid: int
    started_ms: int
    stopping: bool
    inputs: list[InputCounts]


class StatusViews:
    """Implements what the HTTP routes show."""

    def __init__(
        self, config: Config, directory: Directory, queue: Queue, dispatch: Dispatch, upkeep: Upkeep, facts: Facts
    ) -> None:
        self._config, self._directory, self._queue = config, directory, queue
        self._dispatch, self._upkeep, self._facts = dispatch, upkeep, facts
        self._growth = _Growth(boot_clock(), queue.size_bytes)

    async def status(self) -> Status:
        """The whole document."""
        oldest_ms, dropped = await self._queue.oldest_ms(), await self._queue.dropped()
        books = books_status(self._queue.books(), self._upkeep.mismatches)
        queue = self._queue_status(min(oldest_ms.values(), default=None))
        names = self._directory.names(stream.key for stream in self._queue.streams())
        streams = [
            self._stream(stream, names[stream.key], oldest_ms.get(stream.id), dropped.get(stream.id, {}))
            for stream in self._queue.streams()
        ]
        proxies = self._proxies()
        broken = failures(books=books, queue=queue, broken=self._queue.broken, refusing=self._refusing())
        reasons = broken + worries(queue=queue, streams=streams, proxies=proxies)
        return Status(
            version=__version__,
            pid=self._facts.pid,
            started_at=self._facts.started_ms,
            state="failing" if broken else "degraded" if reasons else "ok",
            reasons=reasons,
            books=books,
            queue=queue,
            streams=streams,
            proxies=proxies,
            inputs=[InputStatus(i.name, i.kind, i.events, i.rejected, i.repaired, i.bytes) for i in self._facts.inputs],
            config=ConfigStatus(generation=1, loaded_at=self._facts.started_ms, error=None),
        )

    async def alive(self) -> Health:
        """Whether the process makes progress."""
        good = await self._upkeep.alive() or bool(self._queue.broken)
        return Health(good, [] if good else ["the queue's writer does not answer"])

    async def ready(self) -> Health:
        """Whether a report would be taken now."""
        reasons = []
        if self._facts.stopping:
            reasons.append("stopping")
        if self._queue.broken:
            reasons.append(f"storage: {self._queue.broken}")
        if self._refusing():
            reasons.append("the queue is full")
        return Health(not reasons, reasons)

    async def metrics(self) -> bytes:
        """Prometheus text."""
        return metrics.render(await self.status())

    def _refusing(self) -> bool:
        verdict = admit(
            1,
            used_bytes=self._queue.size_bytes,
            pending_bytes=self._queue.pending_bytes,
            max_bytes=self._config.queue.max_size,
            when_full=self._config.queue.when_full,
        )
        return isinstance(verdict, Refuse)

    def _queue_status(self, oldest_ms: int | None) -> QueueStatus:
        size, limit = self._queue.size_bytes, self._config.queue.max_size
        fill_per_s = self._growth.per_s(boot_clock(), size)
        return QueueStatus(size, limit, _age_s(oldest_ms), round(fill_per_s, 1), full_in_s(limit - size, fill_per_s))

    def _stream(self, stream: QueueStream, name: str, oldest_ms: int | None, dropped: dict[str, int]) -> StreamStatus:
        forwarder, books, now_s = self._dispatch.forwarders.get(stream), stream.books, boot_clock()
        return StreamStatus(
            name=name,
            data_id=stream.key.data_id,
            state=forwarder.state if forwarder and books.queued else "idle",
            accepted=books.accepted,
            queued=books.queued,
            delivered=books.delivered,
            dead=books.dead,
            dropped=books.dropped,
            queued_bytes=stream.queued_bytes,
            oldest_age_s=_age_s(oldest_ms),
            rate_per_min=forwarder.requests.per_minute(now_s) if forwarder else 0.0,
            next_attempt_at=_wall_ms(forwarder.next_attempt_s if forwarder else None, now_s),
            last_error=forwarder.last_error if forwarder else None,
            last_delivered_at=stream.last_delivered_ms,
            dropped_by=dropped,
        )

    def _proxies(self) -> list[ProxyStatus]:
        now_s = boot_clock()
        return [
            ProxyStatus(
                endpoint.url,
                endpoint.state,
                endpoint.last_error,
                _wall_ms(endpoint.retry_at_s, now_s) if endpoint.state == "down" else None,
            )
            for endpoint in self._dispatch.endpoints.all
        ]


class _Growth:
    """How fast the queue grows: between looks at least ten seconds apart, smoothed by that alone."""

    def __init__(self, now_s: float, size: int) -> None:
        self._since_s, self._size, self._rate = now_s, size, 0.0

    def per_s(self, now_s: float, size: int) -> float:
        passed_s = now_s - self._since_s
        if passed_s >= 10:
            self._rate = (size - self._size) / passed_s
            self._since_s, self._size = now_s, size
        return self._rate


def _age_s(oldest_ms: int | None) -> float:
    return 0.0 if oldest_ms is None else round(max(0.0, time.time() - oldest_ms / 1000), 3)


def _wall_ms(at_s: float | None, now_s: float) -> int | None:
    return None if at_s is None else int((time.time() + at_s - now_s) * 1000)
