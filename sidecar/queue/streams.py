"""Keeps the record of each stream in memory: its row of table `stream`, and its rows of table `lane`.

Only the writer changes a record, after the commit that changed the rows; each attribute is replaced as a whole.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from sidecar.core.errors import Unavailable
from sidecar.core.model import LANES, Books, Checkpoint, LaneName, Loss, LossReason, StreamKey
from sidecar.queue.schema import LANE_BITS


class QueueLane:
    """One lane of a stream. `target` is the proxy that a replay goes to; none, or empty: the usual ones."""

    __slots__ = ("bytes", "events", "id", "name", "next_seq", "stream", "target")

    def __init__(self, stream: "QueueStream", number: int) -> None:
        self.stream = stream
        self.name: LaneName = LANES[number]
        self.id = stream.id << LANE_BITS | number
        self.events = self.bytes = self.next_seq = 0  # what waits; the number of the next chunk
        self.target: str | None = None


class QueueStream:
    """A stream in the queue: its books, and what waits in its lanes.

    `peer`: who brought it, where it is no configured one and was not there at the start. `pending`: appends on their
    way to the disk; only the event loop counts them.
    """

    __slots__ = (
        "books", "dead_bytes", "id", "key", "lanes", "last_delivered_ms", "peer", "pending", "replayed", "saved",
    )  # fmt: skip

    def __init__(self, id: int, key: StreamKey) -> None:  # noqa: A002
        self.id = id
        self.key = key
        self.books = Books()  # as committed
        self.lanes = tuple(QueueLane(self, number) for number in range(len(LANES)))
        self.dead_bytes = self.replayed = 0  # bytes of dead letters; events put in again by a replay
        self.last_delivered_ms: int | None = None  # None: nothing ever was
        self.saved = False  # it has a row
        self.peer: str | None = None
        self.pending = 0

    @property
    def drained(self) -> bool:
        """Return True if nothing of it waits or is dead, and only its counters are left."""
        return not self.books.queued and not self.books.dead and not any(lane.events for lane in self.lanes)

    @property
    def fresh(self) -> QueueLane:
        """Return where new events go."""
        return self.lanes[0]

    @property
    def queued_bytes(self) -> int:
        """Return the bytes of events that wait, uncompressed."""
        return sum([lane.bytes for lane in self.lanes])

    def lane(self, name: LaneName) -> QueueLane:
        """Return the lane called `name`."""
        return self.lanes[LANES.index(name)]


class LaneDelta(msgspec.Struct):
    """The changes that one transaction makes to one lane. `seqs`: how many sequence numbers it has used."""

    events: int = 0
    bytes: int = 0
    seqs: int = 0
    target: str | None = None


class Delta(msgspec.Struct):
    """The changes that one transaction makes to the row of one stream, and to the rows of its lanes (by lane)."""

    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    dropped: int = 0
    replayed: int = 0
    dead_bytes: int = 0
    last_delivered_ms: int | None = None
    lanes: dict[QueueLane, LaneDelta] = {}

    def lane(self, lane: QueueLane) -> LaneDelta:
        """Return the change of `lane` so far, to be added to."""
        return self.lanes.setdefault(lane, LaneDelta())

    @property
    def queued(self) -> int:
        """Return the change in waiting events."""
        return sum([lane.events for lane in self.lanes.values()])

    @property
    def bytes(self) -> int:
        """Return the change in waiting bytes."""
        return sum([lane.bytes for lane in self.lanes.values()])

    @property
    def balanced(self) -> bool:
        """Return whether this leaves balanced books balanced."""
        return self.accepted == self.queued + self.delivered + self.dead + self.dropped


# A program that makes up tokens would else make streams without end, and each costs memory.
MAX_STREAMS = 1000
DEAD_ROW_BYTES = 300
"""Bytes on disk that a dead letter needs in addition to its event."""


def dead_bytes(streams: Iterable[QueueStream]) -> int:
    """Return what the dead letters of `streams` take."""
    return sum([stream.dead_bytes + DEAD_ROW_BYTES * stream.books.dead for stream in streams])


def stream_of(streams: dict[StreamKey, QueueStream], key: StreamKey, *, configured: bool) -> QueueStream:
    """Return the stream of `key`, new if need be.

    Raises Unavailable when there are too many that are not `configured`.
    """
    found = streams.get(key)
    if found is None:
        # Tokens that others make up must not shut out what the operator has configured.
        if len(streams) >= MAX_STREAMS and not configured:
            raise Unavailable(f"already {MAX_STREAMS} streams; no new data_id or token can be taken", retry_after_s=60)
        # The id of a forgotten stream may come again: `forget_drained` sees to it that no chunk of it is left.
        found = QueueStream(1 + max((stream.id for stream in streams.values()), default=0), key)
        streams[key] = found
    return found


def load_streams(connection: sqlite3.Connection) -> dict[StreamKey, QueueStream]:
    """Return every stream of the database; its cost depends on the number of streams, not on what waits."""
    streams = {}
    for row in connection.execute(
        "SELECT id, data_id, access_token, kind, accepted, delivered, dead, dropped, replayed, dead_bytes,"
        " last_delivered_ms FROM stream ORDER BY id"
    ):
        stream = _from_row(row)
        streams[stream.id] = stream
    # There is no column for `queued`: it is the sum of the lanes, so the two cannot differ.
    queued = dict.fromkeys(streams, 0)
    for number, events, size, next_seq, target in connection.execute(
        "SELECT id, events, bytes, next_seq, target FROM lane"
    ):
        stream = streams[number >> LANE_BITS]
        lane = next(lane for lane in stream.lanes if lane.id == number)
        lane.events, lane.bytes, lane.next_seq, lane.target = events, size, next_seq, target
        queued[stream.id] += events
    for stream in streams.values():
        stream.books = msgspec.structs.replace(stream.books, queued=queued[stream.id])
    return {stream.key: stream for stream in streams.values()}


def _from_row(row: tuple[Any, ...]) -> QueueStream:
    number, data_id, token, kind, accepted, delivered, dead, dropped, replayed, dead_bytes, last_ms = row
    stream = QueueStream(number, StreamKey(data_id, token, kind))
    stream.books = Books(accepted=accepted, delivered=delivered, dead=dead, dropped=dropped)
    stream.replayed, stream.dead_bytes, stream.last_delivered_ms = replayed, dead_bytes, last_ms
    stream.saved = True
    return stream


def take_over(mine: QueueStream, loaded: QueueStream) -> None:
    """Bring a record that others hold up to date with what was read from the file."""
    # `peer` and `pending` stay as they are: the file does not know them.
    mine.books, mine.replayed, mine.dead_bytes = loaded.books, loaded.replayed, loaded.dead_bytes
    mine.last_delivered_ms, mine.saved = loaded.last_delivered_ms, True
    for lane, other in zip(mine.lanes, loaded.lanes, strict=True):
        lane.events, lane.bytes, lane.next_seq, lane.target = other.events, other.bytes, other.next_seq, other.target


def forget_stream(stream: QueueStream) -> None:
    """Bring a record up to date with its rows, which are gone."""
    stream.books, stream.replayed, stream.dead_bytes, stream.last_delivered_ms = Books(), 0, 0, None
    # An append may be on its way to this record: it has to insert the row again.
    stream.saved = False
    for lane in stream.lanes:
        lane.events = lane.bytes = lane.next_seq = 0


def save_stream(connection: sqlite3.Connection, stream: QueueStream, delta: Delta) -> None:
    """Write `delta` into the rows of `stream`, in the open transaction."""
    if not stream.saved:
        connection.execute(
            "INSERT INTO stream (id, data_id, access_token, kind) VALUES (?, ?, ?, ?)",
            (stream.id, stream.key.data_id, stream.key.token, stream.key.kind),
        )
    connection.execute(
        "UPDATE stream SET accepted = accepted + ?, delivered = delivered + ?, dead = dead + ?,"
        " dropped = dropped + ?, replayed = replayed + ?, dead_bytes = dead_bytes + ?,"
        " last_delivered_ms = coalesce(?, last_delivered_ms) WHERE id = ?",
        (delta.accepted, delta.delivered, delta.dead, delta.dropped, delta.replayed, delta.dead_bytes,
         delta.last_delivered_ms, stream.id),
    )  # fmt: skip
    for lane, change in delta.lanes.items():
        connection.execute(
            "INSERT INTO lane (id, events, bytes, next_seq, target) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " events = events + excluded.events, bytes = bytes + excluded.bytes,"
            # A NULL leaves the target as it is; an empty text means the usual proxies again.
            " next_seq = next_seq + excluded.next_seq, target = coalesce(excluded.target, target)",
            (lane.id, change.events, change.bytes, change.seqs, change.target),
        )


def apply_delta(stream: QueueStream, delta: Delta) -> None:
    """Bring the record up to date with its rows, after the commit."""
    books = stream.books
    # Replaced as a whole: the event loop reads it meanwhile, and must not see half of a commit.
    stream.books = Books(
        accepted=books.accepted + delta.accepted,
        queued=books.queued + delta.queued,
        delivered=books.delivered + delta.delivered,
        dead=books.dead + delta.dead,
        dropped=books.dropped + delta.dropped,
    )
    stream.replayed += delta.replayed
    stream.dead_bytes += delta.dead_bytes
    stream.last_delivered_ms = delta.last_delivered_ms or stream.last_delivered_ms
    stream.saved = True
    for lane, change in delta.lanes.items():
        lane.events += change.events
        lane.bytes += change.bytes
        lane.next_seq += change.seqs
        lane.target = lane.target if change.target is None else change.target


def load_checkpoints(execute: Callable[..., sqlite3.Cursor], tail: str, number: int | None = None) -> list[Checkpoint]:
    """Return the checkpoints of `tail`, or the one with this number, in the order of their numbers."""
    rows = execute(
        "SELECT number, path, at, device, inode, head, head_bytes, offset, mark, inside_line, finished, seen_ms,"
        " trail, boot, state"
        " FROM checkpoint WHERE tail = ? AND number = coalesce(?, number) ORDER BY number",
        (tail, number),
    )
    return [
        Checkpoint(
            tail=tail,
            number=row[0],
            path=os.fsdecode(row[1]),
            at=os.fsdecode(row[2]),
            device=row[3] % (1 << 64),
            inode=row[4] % (1 << 64),
            head=row[5],
            head_bytes=row[6],
            offset=row[7],
            mark=row[8],
            inside_line=bool(row[9]),
            finished=bool(row[10]),
            seen_ms=row[11],
            trail=row[12],
            boot=row[13],
            state=row[14],
        )
        for row in rows
    ]


def load_losses(execute: Callable[..., sqlite3.Cursor], most: int) -> list[Loss]:
    """Return the newest receipts, at most so many, the oldest of them first."""
    rows = execute(
        "SELECT tail, path, offset, at_most, reason, why, since_ms, found_ms FROM loss ORDER BY id DESC LIMIT ?",
        (most,),
    ).fetchall()
    return [
        Loss(
            tail=tail,
            path=os.fsdecode(path),
            offset=offset,
            at_most=at_most,
            reason=LossReason(reason),
            why=why,
            since_ms=since,
            found_ms=found,
        )
        for tail, path, offset, at_most, reason, why, since, found in reversed(rows)
    ]
