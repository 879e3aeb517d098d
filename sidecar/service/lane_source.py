"""Gives a lane of the queue the shape that the forwarder wants. Neither of the two packages imports the other."""

from sidecar.core.model import Chunk, StreamKey
from sidecar.host.clock import wall_ms
from sidecar.queue import Acknowledge, Bury, Defer, Queue, QueueLane, SetAside, Split
from sidecar.service.quotas import Quotas


class QueueLaneSource:
    """Implements `forward.LaneSource`. `keep`: what is delivered is kept for a replay."""

    def __init__(self, queue: Queue, lane: QueueLane, key: StreamKey, quotas: Quotas, *, keep: bool) -> None:
        self._queue, self._lane, self._key, self._quotas, self._keep = queue, lane, key, quotas, keep

    @property
    def queued(self) -> int:
        return self._lane.events

    @property
    def queued_bytes(self) -> int:
        return self._lane.bytes

    async def read(self, after_seq: int, max_bytes: int) -> list[Chunk]:
        return await self._queue.read(self._lane, after_seq, max_bytes)

    async def acknowledge(self, through_seq: int) -> None:
        await self._queue.commit(Acknowledge(self._lane, through_seq, wall_ms(), self._keep))

    async def split(self, seq: int, events: int) -> None:
        await self._queue.commit(Split(self._lane, seq, events))

    async def bury(self, seq: int, *, reason: str, status: int, attempts: int, first_ms: int) -> None:
        await self._queue.commit(Bury(self._lane, seq, reason, status, attempts, first_ms, wall_ms()))

    async def set_aside(self, through_seq: int) -> None:
        await self._queue.commit(SetAside(self._lane, through_seq))

    async def defer(self, through_seq: int, latest_ms: int) -> int:
        return await self._queue.commit(Defer(self._lane, through_seq, latest_ms))

    async def save_quota(self, token: bytes, data_id: bytes) -> None:
        await self._quotas.save(self._key, token, data_id)
