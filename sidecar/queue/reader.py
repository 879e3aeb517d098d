"""Reads the queue beside the writer, on a thread and a read-only connection of its own.

Each method opens and ends its own short read transaction; a body is read only to be sent.
"""

import sqlite3
from pathlib import Path
from typing import Self

from sidecar.errors import StartError
from sidecar.model import Books, Chunk, StreamKey
from sidecar.queue.codec import Codec
from sidecar.queue.records import load_streams
from sidecar.queue.schema import end_id, first_id, open_reader

_LOOK_AHEAD_CHUNKS = 4096


def books_on_disk(path: Path) -> tuple[Books, list[str]]:
    """The books of all streams together, and what `Reader.audit` finds, while no sidecar runs. Raises StartError."""
    try:
        with Reader(path) as reader:
            return sum(reader.books().values(), Books()), reader.audit()
    except sqlite3.Error as error:
        raise StartError(f"queue {path}: {error}") from None


class Reader:
    """Belongs to one thread, which must also be the one that closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._codec = Codec()
        self._connection: sqlite3.Connection | None = None

    def chunks(self, stream: int, after_seq: int, budget_bytes: int) -> list[Chunk]:
        """The chunks after `after_seq` that fit `budget_bytes` joined by commas; at least one if there is any.

        Raises sqlite3.Error, or ValueError for a damaged body.
        """
        lowest = first_id(stream)
        last, left = None, budget_bytes
        for number, size in self._execute(
            "SELECT id, bytes FROM chunk WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
            (lowest + after_seq, end_id(stream), _LOOK_AHEAD_CHUNKS),
        ):
            if last is not None and size > left:
                break
            last, left = number, left - size - 1
        if last is None:
            return []
        rows = self._execute(
            "SELECT id, events, bytes, codec, body FROM chunk WHERE id > ? AND id <= ? ORDER BY id",
            (lowest + after_seq, last),
        )
        unpack = self._codec.unpack
        return [Chunk(number - lowest, unpack(codec, body, size), events) for number, events, size, codec, body in rows]

    def oldest_ms(self, streams: list[int]) -> dict[int, int]:
        """When the oldest waiting chunk of each of `streams` was accepted."""
        found = {}
        for stream in streams:
            row = self._execute(
                "SELECT accepted_ms FROM chunk WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                (first_id(stream), end_id(stream)),
            ).fetchone()
            if row:
                found[stream] = row[0]
        return found

    def budgets(self) -> dict[str, tuple[str, float]]:
        """What was spent of each token's rate, by the token's digest: the boot it was measured in, and until when."""
        rows = self._execute("SELECT token_digest, boot_id, spent_until_s FROM budget")
        return {digest: (boot_id, spent) for digest, boot_id, spent in rows}

    def dropped(self) -> dict[int, dict[str, int]]:
        """Dropped events of each stream by reason."""
        found: dict[int, dict[str, int]] = {}
        for stream, reason, events in self._execute("SELECT stream, reason, events FROM dropped"):
            found.setdefault(stream, {})[reason] = events
        return found

    def books(self) -> dict[StreamKey, Books]:
        """The books as they stand in the file."""
        return {key: stream.books for key, stream in load_streams(self._open()).items()}

    def audit(self) -> list[str]:
        """Compares the books with the rows themselves, in one snapshot. Each line is a mismatch, which is a bug.

        Reads no bodies, but an entry for each chunk: it takes time in proportion to what waits.
        """
        connection = self._open()
        connection.execute("BEGIN")
        try:
            return [
                line
                for stream in load_streams(connection).values()
                for line in self._audit_one(stream.id, stream.books)
            ]
        finally:
            connection.execute("COMMIT")

    def _audit_one(self, stream: int, books: Books) -> list[str]:
        (counted,) = self._execute(
            "SELECT coalesce(sum(events), 0) FROM chunk WHERE id >= ? AND id < ?", (first_id(stream), end_id(stream))
        ).fetchone()
        wrong = []
        if counted != books.queued:
            wrong.append(f"stream {stream}: {counted} events in the queue, {books.queued} in the books")
        if not books.balanced:
            wrong.append(f"stream {stream}: books do not balance: {books}")
        return wrong

    def close(self) -> None:
        """May be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_reader(self._path)
        return self._connection

    def _execute(self, sql: str, values: tuple[int, ...] = ()) -> sqlite3.Cursor:
        return self._open().execute(sql, values)
