"""Says of the queue and its streams how they stand: their part of the status document."""

from collections.abc import Mapping

import msgspec

from sidecar.core.model import Capacity
from sidecar.queue.streams import QueueStream
from sidecar.status.document import LaneStatus, QueueStatus, StreamStatus, TokenStatus


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for the status that were read from the database at one time.

    `oldest_age_s` is in seconds, by lane; the rest is by stream.

    `due_ms`: when the next event that is dated in the future becomes due, in milliseconds since 1970. `dropped`: events
    by reason. `damaged`: events that could not be read. `unseen`: dead letters that nobody has looked at; `last_dead`:
    the newest one's number.
    """

    oldest_age_s: Mapping[int, float]
    due_ms: Mapping[int, int]
    dropped: Mapping[int, dict[str, int]]
    damaged: Mapping[int, int]
    unseen: Mapping[int, int]
    last_dead: int


def queue_status(
    facts: QueueFacts, *, size: int, capacity: Capacity, rates: tuple[float, float], queued: int, wal_bytes: int,
    went_back: int,
) -> QueueStatus:  # fmt: skip
    """Return how the queue stands. `rates`: bytes more, and events less, in a second."""
    fill_per_s, fewer_per_s = rates
    shorter = fewer_per_s > 0
    return QueueStatus(
        bytes=size,
        max_bytes=capacity.bytes,
        limit=capacity.limit,
        oldest_age_s=round(max(facts.oldest_age_s.values(), default=0.0), 3),
        fill_per_s=round(fill_per_s, 1),
        full_in_s=max(0, capacity.bytes - size) / fill_per_s if fill_per_s > 0 and not shorter else None,
        through_in_s=queued / fewer_per_s if shorter and queued else None,
        wal_bytes=wal_bytes,
        went_back=went_back,
        last_dead=facts.last_dead,
    )


def stream_status(stream: QueueStream, facts: QueueFacts, *, name: str, token: int, configured: bool) -> StreamStatus:
    """Return how one stream stands, of which `token` is the number among those of its data_id."""
    books = stream.books
    lanes = [
        LaneStatus(
            name=lane.name,
            queued=lane.events,
            queued_bytes=lane.bytes,
            oldest_age_s=round(facts.oldest_age_s.get(lane.id, 0.0), 3),
            due_at=facts.due_ms.get(stream.id) if lane.name == "scheduled" else None,
            target=lane.target or None,
            token=token,
        )
        for lane in stream.lanes
        if lane.events
    ]
    return StreamStatus(
        name=name,
        data_id=stream.key.data_id,
        accepted=books.accepted,
        queued=books.queued,
        delivered=books.delivered,
        dead=books.dead,
        dropped=books.dropped,
        queued_bytes=stream.queued_bytes,
        oldest_age_s=max((lane.oldest_age_s for lane in lanes), default=0.0),
        last_delivered_at=stream.last_delivered_ms,
        dropped_by=dict(facts.dropped.get(stream.id, {})),
        damaged=facts.damaged.get(stream.id, 0),
        dead_unseen=facts.unseen.get(stream.id, 0),
        dead_bytes=stream.dead_bytes,
        replayed=stream.replayed,
        lanes=lanes,
        tokens=[
            TokenStatus(
                token=token,
                kind=stream.key.kind,
                configured=configured,
                accepted=books.accepted,
                queued=books.queued,
                delivered=books.delivered,
                dead=books.dead,
                dropped=books.dropped,
                last_delivered_at=stream.last_delivered_ms,
            )
        ],
    )
