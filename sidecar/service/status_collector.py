"""Puts the status document together: each part says how it stands, and this asks them all at one moment."""

import time

from sidecar import __version__
from sidecar.host.clock import wall_ms_at
from sidecar.intake import Intake, Router
from sidecar.queue import Queue, QueueFacts, stream_status
from sidecar.service.forwarders import Forwarders
from sidecar.service.maintenance import Maintenance
from sidecar.service.run_state import RunState
from sidecar.status import prometheus
from sidecar.status.document import ConfigStatus, Health, Status, StreamStatus, books_status, merged
from sidecar.status.reasons import errors, warnings


class StatusCollector:
    """Implements what the HTTP routes show. On the event loop."""

    def __init__(
        self,
        router: Router,
        queue: Queue,
        forwarders: Forwarders,
        maintenance: Maintenance,
        intake: Intake,
        run: RunState,
    ) -> None:
        self._router, self._queue, self._forwarders = router, queue, forwarders
        self._maintenance, self._intake, self._run = maintenance, intake, run

    async def status(self) -> Status:
        """Return the whole document. Raises sqlite3.Error if the file cannot be read."""
        facts = await self._queue.facts()
        # From here on nothing is waited for, so that all the counters are of one moment.
        books = books_status(self._queue.books(), self._maintenance.mismatches)
        queue = self._intake.status(self._queue.status(facts))
        streams, proxies, inputs = self._streams(facts), self._forwarders.proxies.status(), self._run.inputs()
        broken = errors(books=books, queue=queue, broken=self._queue.broken, refusing=self._intake.capacity.refusing)
        reasons = broken + warnings(
            queue=queue,
            streams=streams,
            proxies=proxies,
            inputs=inputs,
            sockets_wait=self._run.sockets_wait,
            sockets_lost=self._run.sockets_lost,
            crowded=self._intake.streams.crowded,
            nameless=self._run.nameless,
            now_ms=int(time.time() * 1000),
        )
        config = self._run.config_state
        return Status(
            version=__version__,
            pid=self._run.pid,
            started_at=wall_ms_at(self._run.started_s) or 0,
            state="failing" if broken else "degraded" if reasons else "ok",
            reasons=reasons,
            books=books,
            queue=queue,
            streams=streams,
            proxies=proxies,
            inputs=inputs,
            config=ConfigStatus(config.generation, wall_ms_at(config.loaded_s) or 0, config.error),
            sockets_lost=self._run.sockets_lost,
        )

    async def alive(self) -> Health:
        """Return whether the process makes progress."""
        # A full or broken disk is no reason to restart the process: a restart would not repair it.
        good = await self._maintenance.alive() or bool(self._queue.broken)
        return Health(good, [] if good else ["the queue's writer does not answer"])

    async def ready(self) -> Health:
        """Return whether a report, or a line of a file, would be taken now."""
        reasons = []
        if self._run.starting:
            reasons.append("starting: the tails look for their files")
        if self._run.stopping:
            reasons.append("stopping")
        if self._queue.broken:
            reasons.append(f"storage: {self._queue.broken}")
        if refusing := self._intake.capacity.refusing:
            reasons.append(refusing)
        return Health(not reasons, reasons)

    async def metrics(self) -> bytes:
        """Return Prometheus text. Raises sqlite3.Error if the file cannot be read."""
        return prometheus.render(await self.status())

    def _streams(self, facts: QueueFacts) -> list[StreamStatus]:
        by_data_id: dict[int, list[StreamStatus]] = {}
        for stream in self._queue.streams():
            parts = by_data_id.setdefault(stream.key.data_id, [])
            found = stream_status(
                stream,
                facts,
                name=self._router.name(stream.key),
                token=len(parts) + 1,
                configured=self._router.is_configured(stream.key),
            )
            parts.append(self._forwarders.status(stream, found))
        return [merged(parts) for parts in by_data_id.values()]
