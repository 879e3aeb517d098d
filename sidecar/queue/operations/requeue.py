"""Queues what is sent again, or at last: dead letters put back, deliveries replayed, events that are due."""

from collections.abc import Callable, Sequence

import msgspec

from sidecar.core.filters import DeadFilter, KeptFilter, Moved
from sidecar.core.future_window import due_ms
from sidecar.core.model import Block, StreamKey
from sidecar.queue.filters import condition_of
from sidecar.queue.operations.transaction import (
    Transaction,
    add_chunk,
    add_chunks,
    add_scheduled,
    delete_chunks,
    take_away,
)
from sidecar.queue.schema import chunk_id, end_id, lowest_id
from sidecar.queue.streams import QueueLane, QueueStream

# While one transaction lasts, every client waits for its commit: so large moves are made in parts.
_AT_ONCE_BYTES = 4_000_000
_AT_ONCE_ROWS = 10_000
_PURGED = "purged"


Fit = Callable[[StreamKey, bytes], bytes | None]


class PutBack(msgspec.Struct, frozen=True):
    """Put dead letters into the retry lanes of their streams, as many as are good for one transaction.

    `fit`, called on the writer's thread, makes of an event what can be sent; where that is None, it stays dead.
    """

    wanted: DeadFilter
    after_id: int
    now_ms: int
    fit: Fit

    def apply(self, tx: Transaction) -> Moved:
        """Queue them again: they are no longer dead."""
        streams = tx.streams
        moved = unfit = 0
        ids, last_id = _take(tx, self.wanted, self.after_id)
        for stream_id, rows in ids.items():
            stream = streams[stream_id]
            fitting = [
                (row, body)
                for row in rows
                if row.codec is None and (body := self.fit(stream.key, row.body)) is not None
            ]
            blocks = [Block(body, 1) for _, body in fitting]
            # They may be refused again: in a lane of their own they share no batch with new events.
            add_chunks(tx, stream.lane("retry"), blocks, self.now_ms, tx.chunk_bytes)
            _forget(tx, stream, [row for row, _ in fitting])
            moved += len(fitting)
            unfit += sum([row.events for row in rows]) - len(fitting)
        return Moved(moved, last_id, unfit=unfit)


class Purge(msgspec.Struct, frozen=True):
    """Drop dead letters for good, by the operator's own word; otherwise like PutBack."""

    wanted: DeadFilter
    after_id: int

    def apply(self, tx: Transaction) -> Moved:
        """Count them as `purged`."""
        streams = tx.streams
        ids, last_id = _take(tx, self.wanted, self.after_id)
        for stream_id, rows in ids.items():
            drop_dead(tx, streams[stream_id], rows, _PURGED)
        return Moved(sum([row.events for rows in ids.values() for row in rows]), last_id)


class DeadRow(msgspec.Struct, frozen=True):
    """A row of table `dead`: one event, or with a `codec` a chunk that cannot be read."""

    number: int
    events: int
    codec: int | None
    body: bytes


def _take(tx: Transaction, wanted: DeadFilter, after_id: int) -> tuple[dict[int, list[DeadRow]], int | None]:
    """Return rows by their stream, as many as are good for one transaction; and the last of them, if there are more."""
    condition, values = condition_of(wanted)
    found: dict[int, list[DeadRow]] = {}
    size, last_id = 0, None
    for count, (number, stream, events, codec, body) in enumerate(
        tx.execute(
            f"SELECT id, stream, events, codec, body FROM readable_dead WHERE id > ? AND {condition} ORDER BY id",  # noqa: S608
            (after_id, *values),
        ),
        start=1,
    ):
        found.setdefault(stream, []).append(DeadRow(number, events, codec, body))
        size += len(body)
        if size >= _AT_ONCE_BYTES or count >= _AT_ONCE_ROWS:
            # The next part begins behind it: what did not fit stays dead, and would be taken again for ever.
            last_id = number
            break
    return found, last_id


def _forget(tx: Transaction, stream: QueueStream, rows: Sequence[DeadRow]) -> None:
    delta = tx.delta(stream)
    for row in rows:
        tx.execute("DELETE FROM dead WHERE id = ?", (row.number,))
        delta.dead_bytes -= len(row.body)
        delta.dead -= row.events


def drop_dead(tx: Transaction, stream: QueueStream, rows: Sequence[DeadRow], reason: str) -> None:
    """Drop the dead letters `rows` of `stream`, counted under `reason`."""
    _forget(tx, stream, rows)
    count_dropped(tx, stream, sum([row.events for row in rows]), reason)


def count_dropped(tx: Transaction, stream: QueueStream, events: int, reason: str) -> None:
    """Count `events` as dropped under `reason`."""
    tx.execute(
        "INSERT INTO dropped (stream, reason, events) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET events = events + excluded.events",
        (stream.id, reason, events),
    )
    tx.delta(stream).dropped += events


class Replay(msgspec.Struct, frozen=True):
    """Put kept deliveries into the replay lanes of their streams, as many as are good for one transaction.

    `target`: the proxy to send them to, else the usual ones; while a replay to another one is under way, nothing is
    done.
    """

    wanted: KeptFilter
    target: str | None
    after_id: int
    now_ms: int

    def apply(self, tx: Transaction) -> Moved:
        """Accept them once more; the kept copies stay for as long as they would have."""
        streams = tx.streams
        lanes = [stream.lane("replay") for stream in tx.streams.values()]
        # Asked of the transaction: an earlier replay in this same commit counts too.
        busy = [tx.target(lane) for lane in lanes if tx.waiting(lane)]
        if any(target != (self.target or "") for target in busy):
            return Moved(0, None, elsewhere=next(target or "the usual proxies" for target in busy))
        condition, values = condition_of(self.wanted)
        moved = size = 0
        for number, stream_id, events, bytes_, codec, stored, rules in tx.execute(
            "SELECT id, stream, events, bytes, codec, body, rules FROM readable_kept"  # noqa: S608
            f" WHERE id > ? AND {condition} ORDER BY id",
            (self.after_id, *values),
        ):
            stream = streams[stream_id]
            add_chunk(tx, stream.lane("replay"), self.now_ms, events, bytes_, codec, stored, rules)
            tx.lane_delta(stream.lane("replay")).target = self.target or ""
            # It will be delivered a second time, so it must be accepted a second time, or the books do not balance.
            tx.delta(stream).accepted += events
            tx.delta(stream).replayed += events
            moved += events
            size += len(stored)
            if size >= _AT_ONCE_BYTES:
                return Moved(moved, number)
        return Moved(moved, None)


class CancelReplay(msgspec.Struct, frozen=True):
    """Cancel all replays: drop the events that wait to be replayed. An operator asked for it."""

    def apply(self, tx: Transaction) -> Moved:
        """Delete all at once: that takes no memory."""
        moved = 0
        for stream in tx.streams.values():
            lane = stream.lane("replay")
            events, size = delete_chunks(tx, lowest_id(lane.id), end_id(lane.id) - 1)
            if events:
                count_dropped(tx, stream, events, "replay_cancelled")
                take_away(tx, lane, events, size)
                moved += events
        return Moved(moved, None)


class Release(msgspec.Struct, frozen=True):
    """Make fresh what waited for its time, up to `due_ms` by the proxy's clock; in the order of becoming due."""

    due_ms: int
    now_ms: int

    def apply(self, tx: Transaction) -> None:
        """Move as much as is good for one transaction; the rest comes with the next round."""
        streams = tx.streams
        size = 0
        # fetchmany reads before the loop begins, which deletes from this table.
        for number, stream_id, events, bytes_, codec, stored, rules in tx.execute(
            "SELECT id, stream, events, bytes, codec, body, rules FROM readable_scheduled"
            " WHERE due_ms <= ? ORDER BY due_ms, id",
            (self.due_ms,),
        ).fetchmany(1000):
            stream = streams[stream_id]
            tx.execute("DELETE FROM scheduled WHERE id = ?", (number,))
            # As young as if it came now: `Expire` relies on a lane being in the order of age.
            add_chunk(tx, stream.fresh, self.now_ms, events, bytes_, codec, stored, rules)
            take_away(tx, stream.lane("scheduled"), events, bytes_)
            size += len(stored)
            if size >= _AT_ONCE_BYTES:
                break


class Defer(msgspec.Struct, frozen=True):
    """Let those events of `lane` up to chunk `through_seq` wait that are dated after `latest_ms`: the proxy's clock is
    behind, and would refuse them now."""

    lane: QueueLane
    through_seq: int
    latest_ms: int

    def apply(self, tx: Transaction) -> int:
        """Return how many. At most a batch, so that the rows fit into memory."""
        moved = 0
        for number, accepted_ms, steady_ms, size, codec, stored, rules in tx.execute(
            "SELECT id, accepted_ms, coalesce(steady_ms, accepted_ms), bytes, codec, body, rules FROM readable_chunk"
            " WHERE id BETWEEN ? AND ? ORDER BY id",
            (lowest_id(self.lane.id), chunk_id(self.lane.id, self.through_seq)),
        ).fetchall():
            body = tx.codec.unpack(codec, stored, size)
            moved += self._sift(tx, number, accepted_ms, steady_ms, body, rules)
        return moved

    def _sift(self, tx: Transaction, number: int, accepted_ms: int, steady_ms: int, body: bytes, rules: int) -> int:
        array = b"[%b]" % body
        try:
            stamps = [item.timestamp for item in _stamps(array)]
        except ValueError:  # damaged, which the search for what the proxy refused will find
            return 0
        if max(stamps) <= self.latest_ms:
            return 0
        by_due: dict[int | None, list[msgspec.Raw]] = {}
        for stamp, event in zip(stamps, _events(array), strict=True):
            by_due.setdefault(due_ms(int(stamp)) if stamp > self.latest_ms else None, []).append(event)
        stay = by_due.pop(None, [])
        moved = 0
        change, left = tx.lane_delta(self.lane), b",".join(stay)
        for due, events in by_due.items():
            assert due is not None
            add_scheduled(tx, self.lane.stream, b",".join(events), len(events), due, accepted_ms, rules, steady_ms)
            change.events -= len(events)
            moved += len(events)
        change.bytes += len(left) - len(body)
        if not stay:
            tx.execute("DELETE FROM chunk WHERE id = ?", (number,))
            return moved
        codec, stored = tx.codec.pack(left)
        tx.execute(
            "UPDATE chunk SET events = ?, bytes = ?, codec = ?, body = ?, growth = NULL WHERE id = ?",
            (len(stay), len(left), codec, stored, number),
        )
        return moved


class _Stamped(msgspec.Struct, gc=False):
    timestamp: int | float = 0


_stamps = msgspec.json.Decoder(list[_Stamped]).decode
_events = msgspec.json.Decoder(list[msgspec.Raw]).decode
