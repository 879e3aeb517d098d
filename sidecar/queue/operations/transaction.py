"""The open transaction that operations work in, and the rows of chunks that several of them write."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from sidecar.core.model import RULES, Block, StreamKey
from sidecar.queue.codec import Codec
from sidecar.queue.schema import chunk_id
from sidecar.queue.streams import Delta, LaneDelta, QueueLane, QueueStream

if TYPE_CHECKING:
    from sidecar.queue.operations.append import Append

T_co = TypeVar("T_co", covariant=True)


class Transaction:
    """Hold the open transaction: the connection, the codec, and the changes of each stream.

    `steady_ms`: the time now on the steady clock, by which rows grow old.

    `appends`: what is to be accepted; the writer joins it at the end into common chunks of up to `chunk_bytes`.
    `grown`: the lanes that have more to send. `to_forget`: drained streams, each with the one that takes its counters
    over; the writer forgets those of them that nothing else in the transaction concerns.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        codec: Codec,
        steady_ms: int,
        all_streams: Mapping[StreamKey, QueueStream],
        chunk_bytes: int,
    ) -> None:
        self.execute = connection.execute
        self.codec = codec
        self.steady_ms = steady_ms
        self._all_streams = all_streams
        self.chunk_bytes = chunk_bytes
        self.appends: list[Append] = []
        self.deltas: dict[QueueStream, Delta] = {}  # what changes in the books, applied after the commit
        self.grown: set[QueueLane] = set()
        self.to_forget: dict[QueueStream, QueueStream] = {}

    @property
    def streams(self) -> dict[int, QueueStream]:
        """Return the streams that have rows, by their ids. The event loop may be adding others meanwhile."""
        return {stream.id: stream for stream in list(self._all_streams.values()) if stream.saved}

    def delta(self, stream: QueueStream) -> Delta:
        """Return the change of `stream` so far, to be added to."""
        found = self.deltas.get(stream)
        if found is None:
            found = self.deltas[stream] = Delta()
        return found

    def lane_delta(self, lane: QueueLane) -> LaneDelta:
        """Return the change of `lane` so far, to be added to."""
        return self.delta(lane.stream).lane(lane)

    def waiting(self, lane: QueueLane) -> int:
        """Return the events in `lane`, as this transaction has it."""
        # The record alone is too old: an earlier operation of this commit may have filled or emptied the lane.
        delta = self.deltas.get(lane.stream)
        changed = delta.lanes.get(lane) if delta else None
        return lane.events + (changed.events if changed else 0)

    def target(self, lane: QueueLane) -> str:
        """Return where a replay in `lane` goes, as this transaction has it; empty: to the usual proxies."""
        delta = self.deltas.get(lane.stream)
        changed = delta.lanes.get(lane) if delta else None
        return (changed.target if changed and changed.target is not None else lane.target) or ""


class Operation(Protocol[T_co]):
    """An operation to run in a transaction. It is an immutable value."""

    def apply(self, tx: Transaction) -> T_co:
        """Do it, and return what is to be known of it.

        It may be done again, in another transaction, after the first was rolled back.
        """


def add_chunks(tx: Transaction, lane: QueueLane, blocks: Sequence[Block], accepted_ms: int, chunk_bytes: int) -> int:
    """Put `blocks` at the end of `lane`, as chunks of up to `chunk_bytes`; return how many events."""
    total = 0
    for run in runs(blocks, chunk_bytes):
        body = b",".join([block.body for block in run])
        events = sum([block.events for block in run])
        codec, stored = tx.codec.pack(body)
        add_chunk(tx, lane, accepted_ms, events, len(body), codec, stored, growth=_growth_of(run))
        total += events
    return total


def _growth_of(blocks: Sequence[Block]) -> int | None:
    total = 0
    for block in blocks:
        if block.growth is None:
            return None
        total += block.growth
    return total


def add_chunk(
    tx: Transaction,
    lane: QueueLane,
    accepted_ms: int,
    events: int,
    size: int,
    codec: int,
    stored: bytes,
    rules: int = RULES,
    steady_ms: int | None = None,
    growth: int | None = None,
) -> None:
    """Put one chunk, packed already, at the end of `lane`. `rules` checked its events.

    `steady_ms`: how old it is already, if it is not new. `growth`: as of a block.
    """
    change = tx.lane_delta(lane)
    # The number goes on from what is committed and what this transaction has used: a rolled back one leaves no gap.
    tx.execute(
        "INSERT INTO chunk (id, accepted_ms, events, bytes, codec, body, rules, steady_ms, growth)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (chunk_id(lane.id, lane.next_seq + change.seqs), accepted_ms, events, size, codec, stored, rules,
         tx.steady_ms if steady_ms is None else steady_ms, growth),
    )  # fmt: skip
    change.events += events
    change.bytes += size
    change.seqs += 1
    # The forwarder is woken after the commit: before it, the reader would not see the row.
    tx.grown.add(lane)


def add_scheduled(
    tx: Transaction,
    stream: QueueStream,
    body: bytes,
    events: int,
    due_ms: int,
    accepted_ms: int,
    rules: int = RULES,
    steady_ms: int | None = None,
) -> None:
    """Let `events` of `stream` wait until `due_ms`, by the proxy's clock. `steady_ms`: as for `add_chunk`."""
    codec, stored = tx.codec.pack(body)
    tx.execute(
        "INSERT INTO scheduled (stream, due_ms, accepted_ms, events, bytes, codec, body, rules, steady_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (stream.id, due_ms, accepted_ms, events, len(body), codec, stored, rules,
         tx.steady_ms if steady_ms is None else steady_ms),
    )  # fmt: skip
    change = tx.lane_delta(stream.lane("scheduled"))
    change.events += events
    change.bytes += len(body)


def add_dead(
    tx: Transaction,
    stream: QueueStream,
    body: bytes,
    *,
    reason: str,
    accepted_ms: int,
    first_ms: int,
    last_ms: int,
    attempts: int = 0,
    status: int | None = None,
    events: int = 1,
    codec: int | None = None,
) -> None:
    """Keep one event as a dead letter: as it is, uncompressed, so that the file itself can be searched.

    With a `codec` it is a chunk of `events` that cannot be read, as it stood.
    """
    tx.execute(
        "INSERT INTO dead (stream, accepted_ms, first_ms, last_ms, attempts, reason, status, body, steady_ms, events,"
        " codec) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (stream.id, accepted_ms, first_ms, last_ms, attempts, reason, status, body, tx.steady_ms, events, codec),
    )
    delta = tx.delta(stream)
    delta.dead += events
    delta.dead_bytes += len(body)


def delete_chunks(tx: Transaction, first_id: int, last_id: int) -> tuple[int, int]:
    """Delete these chunks and those between; return how many events of how many bytes are gone. Whoever calls says
    where to.

    Damaged rows among them stay.
    """
    bounds = (first_id, last_id)
    events, size = tx.execute(
        "SELECT coalesce(sum(events), 0), coalesce(sum(bytes), 0) FROM readable_chunk WHERE id BETWEEN ? AND ?", bounds
    ).fetchone()
    tx.execute(
        # SQLite cannot delete from a view. This must leave out the same rows, or the count is wrong.
        "DELETE FROM chunk WHERE id BETWEEN ? AND ? AND id NOT IN (SELECT id FROM unreadable WHERE what = 'chunk')",
        bounds,
    )
    return events, size


def take_away(tx: Transaction, lane: QueueLane, events: int, size: int) -> None:
    """Count `events` of `size` bytes as gone from `lane`; whoever calls says where to."""
    change = tx.lane_delta(lane)
    change.events -= events
    change.bytes -= size


def runs(blocks: Iterable[Block], chunk_bytes: int) -> Iterable[list[Block]]:
    """Yield consecutive blocks that fit a chunk together; a larger one stands alone."""
    run: list[Block] = []
    size = 0
    for block in blocks:
        if run and size + len(block.body) > chunk_bytes:
            yield run
            run, size = [], 0
        run.append(block)
        size += len(block.body) + 1
    if run:
        yield run
