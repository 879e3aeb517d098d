"""Drops and forgets: by age, by size, and to keep the disk from filling up."""

import heapq
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from sidecar.queue.operations.requeue import DeadRow, count_dropped, drop_dead
from sidecar.queue.operations.transaction import Transaction, delete_chunks, take_away
from sidecar.queue.schema import LANE_BITS, end_id, lowest_id
from sidecar.queue.streams import DEAD_ROW_BYTES, QueueLane, QueueStream, dead_bytes

_AT_ONCE = 64
_STEADY = {
    "chunk": "coalesce(steady_ms, accepted_ms)",
    "scheduled": "coalesce(steady_ms, accepted_ms)",
    "kept": "coalesce(steady_ms, delivered_ms)",
    "dead": "coalesce(steady_ms, last_ms)",
}
"""For each table, the SQL expression for the time of a row by the steady clock, in milliseconds."""


class Expire(msgspec.Struct, frozen=True):
    """Drop what was accepted before `before_ms` on the steady clock (`queue.max_age`)."""

    before_ms: int

    def apply(self, tx: Transaction) -> None:
        """Search each lane up to its first young chunk: they are in the order of their acceptance."""
        for stream in tx.streams.values():
            for lane in stream.lanes:
                last = None
                for _, number, steady_ms, _ in _ages(tx, lane):
                    if steady_ms >= self.before_ms:
                        break
                    last = number
                if last is not None:
                    _drop(tx, lane, last, "max_age")
        _drop_scheduled(tx, tx.streams, f"{_STEADY['scheduled']} < ?", (self.before_ms,), "max_age")


class Tidy(msgspec.Struct, frozen=True):
    """Forget kept deliveries and dead letters that are too old by the steady clock, the oldest dead letters of too many
    bytes, and give up to `pages` free pages back to the file system."""

    kept_before_ms: int
    dead_before_ms: int
    dead_max_bytes: int
    pages: int

    def apply(self, tx: Transaction) -> None:
        """Free page by page: the pragma frees one at each step, and the sqlite3 module makes but one step."""
        self._tidy_kept(tx)
        self._tidy_dead(tx)
        (free,) = tx.execute("PRAGMA freelist_count").fetchone()
        # With a limit: as long as pages are given back, nobody else's commit goes on.
        for _ in range(min(free, self.pages)):
            tx.execute("PRAGMA incremental_vacuum(1)")

    def _tidy_kept(self, tx: Transaction) -> None:
        """Search up to the first young one: they are in the order of their delivery."""
        last = None
        for number, steady_ms in tx.execute(f"SELECT id, {_STEADY['kept']} FROM readable_kept ORDER BY id"):  # noqa: S608
            if steady_ms >= self.kept_before_ms:
                break
            last = number
        if last is not None:
            tx.execute("DELETE FROM kept WHERE id IN (SELECT id FROM readable_kept WHERE id <= ?)", (last,))

    def _tidy_dead(self, tx: Transaction) -> None:
        """Search up to the first that may stay: they are in the order of their burial."""
        streams = tx.streams
        excess = dead_bytes(streams.values()) - self.dead_max_bytes
        for number, stream, steady_ms, events, codec, body in tx.execute(
            f"SELECT id, stream, {_STEADY['dead']}, events, codec, body FROM readable_dead ORDER BY id"  # noqa: S608
        ):
            if steady_ms < self.dead_before_ms:
                reason = "dead_max_age"
            elif excess > 0:
                reason = "dead_max_size"
            else:
                break
            excess -= len(body) + DEAD_ROW_BYTES
            drop_dead(tx, streams[stream], [DeadRow(number, events, codec, body)], reason)


class Forget(msgspec.Struct, frozen=True):
    """Forget drained streams, each with the stream that its counters go on in. Those that are in use again stay."""

    heirs: Mapping[QueueStream, QueueStream]

    def apply(self, tx: Transaction) -> None:
        """Leave it to the end of the transaction, when it shows what is in use."""
        tx.to_forget.update(self.heirs)


def forget_drained(tx: Transaction) -> list[QueueStream]:
    """Forget what the transaction found to be forgotten; which streams these are.

    Totals stay as they are: the counters move to the heirs. What kept deliveries are left of keeps its stream.
    """
    gone = []
    for stream, heir in tx.to_forget.items():
        in_use = stream in tx.deltas or not stream.drained or not stream.saved
        if in_use or tx.execute("SELECT 1 FROM kept WHERE stream = ? LIMIT 1", (stream.id,)).fetchone():
            continue
        if tx.execute("SELECT 1 FROM chunk WHERE id >= ? AND id < ? LIMIT 1", _all_lanes(stream)).fetchone():
            continue  # a damaged row, whose number must not be used again
        # `queued` and `dead` need no heir: of a drained stream both are 0.
        change, books = tx.delta(heir), stream.books
        change.accepted += books.accepted
        change.delivered += books.delivered
        change.dropped += books.dropped
        change.replayed += stream.replayed
        latest = max(stream.last_delivered_ms or 0, heir.last_delivered_ms or 0, change.last_delivered_ms or 0)
        change.last_delivered_ms = latest or None
        tx.execute(
            "INSERT INTO dropped (stream, reason, events) SELECT ?, reason, events FROM dropped WHERE stream = ?"
            " ON CONFLICT DO UPDATE SET events = events + excluded.events",
            (heir.id, stream.id),
        )
        tx.execute("DELETE FROM dropped WHERE stream = ?", (stream.id,))
        tx.execute("DELETE FROM lane WHERE id >> ? = ?", (LANE_BITS, stream.id))
        tx.execute("DELETE FROM stream WHERE id = ?", (stream.id,))
        gone.append(stream)
    return gone


def _all_lanes(stream: QueueStream) -> tuple[int, int]:
    return lowest_id(stream.lanes[0].id), end_id(stream.lanes[-1].id)


class SeeDead(msgspec.Struct, frozen=True):
    """Somebody has looked at the dead letters up to number `through_id`."""

    through_id: int

    def apply(self, tx: Transaction) -> None:
        """Move the mark: never back, and never ahead, since nobody has seen what is not there yet."""
        tx.execute(
            "UPDATE seen SET id = max(id, min(?, (SELECT coalesce(max(id), 0) FROM dead))) WHERE what = 'dead'",
            (self.through_id,),
        )


class Ping(msgspec.Struct, frozen=True):
    """Do nothing in a transaction. If it returns, the writer is alive."""

    def apply(self, tx: Transaction) -> None:
        """Do nothing."""


def forget_kept(tx: Transaction, max_bytes: int) -> None:
    """Forget the oldest kept deliveries when the room gets short: they are a luxury."""
    while used_bytes(tx.execute) > max_bytes:
        gone = tx.execute(
            "DELETE FROM kept WHERE id IN (SELECT id FROM readable_kept ORDER BY id LIMIT ?)", (_AT_ONCE,)
        )
        if not gone.rowcount:
            return


def make_room(tx: Transaction, streams: Collection[QueueStream], max_bytes: int, reason: str) -> None:
    """Drop the oldest chunks of all streams if the database uses more than `max_bytes`.

    It makes a hundredth more room, so that a full queue need not do this at every commit. What was appended in this
    very transaction is the youngest, and goes last; what waits for its time goes after that.
    """
    if used_bytes(tx.execute) <= max_bytes:
        return
    goal = max_bytes - max_bytes // 100
    replays = [stream.lane("replay") for stream in streams]
    for lane in filter(tx.waiting, replays):  # those were delivered once, and are no match for what was not
        while used_bytes(tx.execute) > goal and _drop_head(tx, lane, reason):
            pass
    while (excess := used_bytes(tx.execute) - goal) > 0:
        if not _drop_oldest(tx, streams, excess, reason) and not _drop_oldest_scheduled(tx, streams, reason):
            return


def _drop_oldest(tx: Transaction, streams: Iterable[QueueStream], size: int, reason: str) -> bool:
    """Drop chunks that hold `size` stored bytes, oldest first; False if there were none."""
    lanes = {lane.id: lane for stream in streams for lane in _lanes_in_use(tx, stream)}
    last: dict[int, int] = {}
    # Each lane is in the order of age, so a merge finds the oldest of all without reading every row.
    by_age = [_by_age(tx, lane) for lane in lanes.values()]
    for _, number, stored, lane_id in heapq.merge(*by_age):
        last[lane_id] = number
        size -= stored
        if size <= 0:
            break
    for lane_id, number in last.items():
        _drop(tx, lanes[lane_id], number, reason)
    return bool(last)


def _drop_head(tx: Transaction, lane: QueueLane, reason: str) -> bool:
    """Drop some chunks at the head of `lane`; False if there were none."""
    heads = [number for _, number, _, _ in _ages(tx, lane).fetchmany(_AT_ONCE)]
    if heads:
        _drop(tx, lane, heads[-1], reason)
    return bool(heads)


def _lanes_in_use(tx: Transaction, stream: QueueStream) -> Iterator[QueueLane]:
    changed = tx.deltas[stream].lanes if stream in tx.deltas else {}
    # The records do not know yet what this commit has appended.
    return (lane for lane in stream.lanes if lane.events or lane in changed)


def _by_age(tx: Transaction, lane: QueueLane) -> Iterator[tuple[int, int, int, int]]:
    return ((steady_ms, number, stored, lane.id) for stored, number, steady_ms, _ in _ages(tx, lane))


def _ages(tx: Transaction, lane: QueueLane) -> sqlite3.Cursor:
    """Return stored bytes, key and time of acceptance, by the steady clock, of each chunk of `lane`, in order."""
    return tx.execute(
        # `bytes` is the size before zstd, and would say nothing about room in the file.
        f"SELECT length(body), id, {_STEADY['chunk']}, events FROM readable_chunk WHERE id >= ? AND id < ? ORDER BY id",  # noqa: S608
        (lowest_id(lane.id), end_id(lane.id)),
    )


def _drop(tx: Transaction, lane: QueueLane, last_id: int, reason: str) -> None:
    events, size = delete_chunks(tx, lowest_id(lane.id), last_id)
    count_dropped(tx, lane.stream, events, reason)
    take_away(tx, lane, events, size)


def _drop_oldest_scheduled(tx: Transaction, streams: Iterable[QueueStream], reason: str) -> bool:
    by_id = {stream.id: stream for stream in streams}
    oldest = "id IN (SELECT id FROM readable_scheduled ORDER BY id LIMIT ?)"
    return _drop_scheduled(tx, by_id, oldest, (_AT_ONCE,), reason)


def _drop_scheduled(
    tx: Transaction, streams: Mapping[int, QueueStream], condition: str, values: Sequence[int], reason: str
) -> bool:
    gone = tx.execute(
        f"SELECT stream, sum(events), sum(bytes) FROM readable_scheduled WHERE {condition} GROUP BY stream",  # noqa: S608
        values,
    ).fetchall()
    if gone:
        tx.execute(f"DELETE FROM scheduled WHERE id IN (SELECT id FROM readable_scheduled WHERE {condition})", values)  # noqa: S608
    for stream_id, events, size in gone:
        stream = streams[stream_id]
        count_dropped(tx, stream, events, reason)
        take_away(tx, stream.lane("scheduled"), events, size)
    return bool(gone)


def used_bytes(execute: Callable[..., sqlite3.Cursor]) -> int:
    """Return the bytes in use in the database file; free pages do not count."""
    # Counters in the head of the file: the cost does not depend on what waits.
    (free,) = execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = execute("PRAGMA page_size").fetchone()
    return file_bytes(execute) - int(free * page_bytes)


def file_bytes(execute: Callable[..., sqlite3.Cursor]) -> int:
    """Return the bytes of the database file, free pages and all."""
    (pages,) = execute("PRAGMA page_count").fetchone()
    (page_bytes,) = execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)
