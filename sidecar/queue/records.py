"""What the queue remembers of each stream while it runs: the row of table `stream`, as it was last committed."""

import sqlite3
from typing import Any

import msgspec

from sidecar.model import Books, StreamKey


class QueueStream:
    """A stream in the queue. Only the writer changes it, after a commit; each attribute is replaced as a whole."""

    __slots__ = ("books", "id", "key", "last_delivered_ms", "next_seq", "queued_bytes", "saved")

    def __init__(self, id: int, key: StreamKey) -> None:  # noqa: A002
        self.id = id
        self.key = key
        self.books = Books()
        self.queued_bytes = 0
        self.next_seq = 0
        self.last_delivered_ms: int | None = None
        self.saved = False


class Delta(msgspec.Struct):
    """What one transaction does to one stream's row."""

    accepted: int = 0
    delivered: int = 0
    dropped: int = 0
    bytes: int = 0
    chunks: int = 0
    last_delivered_ms: int | None = None

    @property
    def queued(self) -> int:
        """The change in waiting events, which the other counters imply."""
        return self.accepted - self.delivered - self.dropped


def load_streams(connection: sqlite3.Connection) -> dict[StreamKey, QueueStream]:
    """Every stream of the database; its cost depends on the number of streams, not on what waits."""
    rows = connection.execute(
        "SELECT id, data_id, access_token, kind, accepted, queued, delivered, dead, dropped,"
        " queued_bytes, next_seq, last_delivered_ms FROM stream ORDER BY id"
    )
    return {stream.key: stream for stream in map(_stream, rows)}


def _stream(row: tuple[Any, ...]) -> QueueStream:
    number, data_id, token, kind, accepted, queued, delivered, dead, dropped, size, next_seq, last_ms = row
    stream = QueueStream(number, StreamKey(data_id, token, kind))
    stream.books = Books(accepted=accepted, queued=queued, delivered=delivered, dead=dead, dropped=dropped)
    stream.queued_bytes, stream.next_seq, stream.last_delivered_ms = size, next_seq, last_ms
    stream.saved = True
    return stream


def save_stream(connection: sqlite3.Connection, stream: QueueStream, delta: Delta) -> None:
    """Writes `delta` into the row of `stream`, in the open transaction."""
    if not stream.saved:
        connection.execute(
            "INSERT INTO stream (id, data_id, access_token, kind) VALUES (?, ?, ?, ?)",
            (stream.id, stream.key.data_id, stream.key.token, stream.key.kind),
        )
    connection.execute(
        "UPDATE stream SET accepted = accepted + ?, queued = queued + ?, delivered = delivered + ?,"
        " dropped = dropped + ?, queued_bytes = queued_bytes + ?, next_seq = next_seq + ?,"
        " last_delivered_ms = coalesce(?, last_delivered_ms) WHERE id = ?",
        (delta.accepted, delta.queued, delta.delivered, delta.dropped, delta.bytes, delta.chunks,
         delta.last_delivered_ms, stream.id),
    )  # fmt: skip


def apply_delta(stream: QueueStream, delta: Delta) -> None:
    """Brings the record up to date with its row, after the commit."""
    books = stream.books
    stream.books = Books(
        accepted=books.accepted + delta.accepted,
        queued=books.queued + delta.queued,
        delivered=books.delivered + delta.delivered,
        dead=books.dead,
        dropped=books.dropped + delta.dropped,
    )
    stream.queued_bytes += delta.bytes
    stream.next_seq += delta.chunks
    stream.last_delivered_ms = delta.last_delivered_ms or stream.last_delivered_ms
    stream.saved = True
