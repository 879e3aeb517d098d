"""What is sent again, or at last: dead letters put back, deliveries replayed, events whose time has come."""

from collections.abc import Mapping, Sequence

import msgspec

from sidecar.model import Block
from sidecar.queue.filters import DeadFilter, KeptFilter
from sidecar.queue.operations.transaction import Done, Transaction, add_chunk, add_chunks
from sidecar.queue.records import QueueStream

_AT_ONCE_BYTES = 4_000_000
_AT_ONCE_ROWS = 10_000


class PutBack(msgspec.Struct):
    """Put dead letters into the retry lanes of their streams, as many as are good for one transaction.

    `moved` counts them; `last_id` is the last one looked at, None if there are no more.
    """

    streams: Mapping[int, QueueStream]
    wanted: DeadFilter
    after_id: int
    now_ms: int
    chunk_bytes: int
    done: Done
    moved: int = 0
    last_id: int | None = None

    def apply(self, tx: Transaction) -> None:
        """They are queued again, and no longer dead."""
        ids, last_id = _take(tx, self.wanted, self.after_id)
        for stream_id, rows in ids.items():
            stream = self.streams[stream_id]
            blocks = [Block(body, 1) for _, body in rows]
            add_chunks(tx, stream.lane("retry"), blocks, self.now_ms, self.chunk_bytes)
            _forget(tx, stream, rows)
        self.moved, self.last_id = sum(map(len, ids.values())), last_id


class Purge(msgspec.Struct):
    """Drop dead letters for good, counted under `reason`; otherwise like PutBack."""

    streams: Mapping[int, QueueStream]
    wanted: DeadFilter
    after_id: int
    reason: str
    done: Done
    moved: int = 0
    last_id: int | None = None

    def apply(self, tx: Transaction) -> None:
        """They are dropped, by the operator's own word."""
        ids, last_id = _take(tx, self.wanted, self.after_id)
        for stream_id, rows in ids.items():
            drop_dead(tx, self.streams[stream_id], rows, self.reason)
        self.moved, self.last_id = sum(map(len, ids.values())), last_id


Rows = Sequence[tuple[int, bytes]]


def _take(tx: Transaction, wanted: DeadFilter, after_id: int) -> tuple[dict[int, list[tuple[int, bytes]]], int | None]:
    condition, values = wanted.where()
    found: dict[int, list[tuple[int, bytes]]] = {}
    size, last_id = 0, None
    for count, (number, stream, body) in enumerate(
        tx.execute(f"SELECT id, stream, body FROM dead WHERE id > ? AND {condition} ORDER BY id", (after_id, *values)),  # noqa: S608
        start=1,
    ):
        found.setdefault(stream, []).append((number, body))
        size += len(body)
        if size >= _AT_ONCE_BYTES or count >= _AT_ONCE_ROWS:
            last_id = number
            break
    return found, last_id


def _forget(tx: Transaction, stream: QueueStream, rows: Rows) -> None:
    for number, body in rows:
        tx.execute("DELETE FROM dead WHERE id = ?", (number,))
        tx.delta(stream).dead_bytes -= len(body)
    tx.delta(stream).dead -= len(rows)


def drop_dead(tx: Transaction, stream: QueueStream, rows: Rows, reason: str) -> None:
    """Drops the dead letters `rows` of `stream`, counted under `reason`."""
    _forget(tx, stream, rows)
    count_dropped(tx, stream, len(rows), reason)


def count_dropped(tx: Transaction, stream: QueueStream, events: int, reason: str) -> None:
    """Counts `events` as dropped under `reason`."""
    tx.execute(
        "INSERT INTO dropped (stream, reason, events) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET events = events + excluded.events",
        (stream.id, reason, events),
    )
    tx.delta(stream).dropped += events


class Replay(msgspec.Struct):
    """Put kept deliveries into the replay lanes of their streams, as many as are good for one transaction.

    `target`: the proxy to send them to, else the usual ones. `moved` counts the events.
    """

    streams: Mapping[int, QueueStream]
    wanted: KeptFilter
    target: str | None
    after_id: int
    now_ms: int
    done: Done
    moved: int = 0
    last_id: int | None = None

    def apply(self, tx: Transaction) -> None:
        """They are accepted once more; the kept copies stay for as long as they would have."""
        self.moved, self.last_id = 0, None
        condition, values = self.wanted.where()
        size = 0
        for number, stream_id, events, bytes_, codec, stored in tx.execute(
            f"SELECT id, stream, events, bytes, codec, body FROM kept WHERE id > ? AND {condition} ORDER BY id",  # noqa: S608
            (self.after_id, *values),
        ):
            stream = self.streams[stream_id]
            add_chunk(tx, stream.lane("replay"), self.now_ms, events, bytes_, codec, stored)
            tx.lane_delta(stream.lane("replay")).target = self.target or ""
            tx.delta(stream).accepted += events
            tx.delta(stream).replayed += events
            self.moved += events
            size += len(stored)
            if size >= _AT_ONCE_BYTES:
                self.last_id = number
                break


class Promote(msgspec.Struct, frozen=True):
    """Make fresh what waited for its time, up to `now_ms`; in the order in which it becomes due."""

    streams: Mapping[int, QueueStream]
    now_ms: int
    done: Done

    def apply(self, tx: Transaction) -> None:
        """As much as is good for one transaction; the rest comes with the next round."""
        size = 0
        for number, stream_id, events, bytes_, codec, stored in tx.execute(
            "SELECT id, stream, events, bytes, codec, body FROM later WHERE due_ms <= ? ORDER BY due_ms, id",
            (self.now_ms,),
        ).fetchmany(1000):
            stream = self.streams[stream_id]
            tx.execute("DELETE FROM later WHERE id = ?", (number,))
            add_chunk(tx, stream.fresh, self.now_ms, events, bytes_, codec, stored)
            waiting = tx.lane_delta(stream.lane("later"))
            waiting.events -= events
            waiting.bytes -= bytes_
            size += len(stored)
            if size >= _AT_ONCE_BYTES:
                break
