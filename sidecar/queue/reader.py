"""Reads the queue beside the writer, on a thread and a read-only connection of its own.

Each method opens and ends its own short read transaction; a body is read only to be sent.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Self

from sidecar.core.errors import StartError
from sidecar.core.model import Books, Checkpoint, Chunk, Loss, StreamKey
from sidecar.queue.codec import Codec
from sidecar.queue.damage import DamagedRow, damaged_row
from sidecar.queue.schema import chunk_id, end_id, is_corrupt, lowest_id, open_reader
from sidecar.queue.status import QueueFacts
from sidecar.queue.streams import QueueLane, QueueStream, load_checkpoints, load_losses, load_streams

_LOOK_AHEAD_CHUNKS = 4096


def books_on_disk(path: Path) -> tuple[Books, list[str]]:
    """Return the books of all streams together, and what `Reader.audit` finds, while no sidecar runs.

    Raises StartError.
    """
    try:
        with Reader(path) as reader:
            return sum(reader.books().values(), Books()), reader.audit()
    except sqlite3.Error as error:
        raise StartError(f"queue {path}: {error}") from None


class Damaged(Exception):  # named for what it says
    """A row that was to be read next cannot be read."""

    def __init__(self, row: DamagedRow) -> None:
        super().__init__(f"damaged row: {row.problem}")
        self.row = row


class Reader:
    """Belongs to one thread, which must also be the one that closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._codec = Codec()
        self._connection: sqlite3.Connection | None = None  # None until the first look, and after `close`

    def chunks(self, lane: int, after_seq: int, max_bytes: int) -> list[Chunk]:
        """Return the chunks after `after_seq` that fit `max_bytes` joined by commas; at least one if there is any.

        Raises sqlite3.Error, or Damaged if the first of them cannot be read; what stands before such a one is read.
        """
        zero, after = chunk_id(lane, 0), chunk_id(lane, after_seq)
        # Sizes first, without the bodies: a body is read from the disk only if it is sent.
        found: list[int] = []  # ids of what fits
        left = max_bytes
        for number, size in self._execute(
            "SELECT id, bytes FROM readable_chunk WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
            (after, end_id(lane), _LOOK_AHEAD_CHUNKS),
        ):
            # The first one is always taken: a chunk larger than `max_bytes` would stop its lane for ever.
            if found and size > left:
                break
            found.append(number)
            left -= size + 1
        chunks: list[Chunk] = []
        for number in found:  # one by one: SQLite looks at the next row before it shows this one
            try:
                row = self._execute(
                    "SELECT bytes, codec, body, rules, events, growth FROM chunk WHERE id = ?", (number,)
                ).fetchone()
                if row is None:  # dropped by a policy meanwhile
                    continue
                size, codec, body, rules, events, growth = row
                chunks.append(Chunk(number - zero, self._codec.unpack(codec, body, size), events, rules, growth))
            except (ValueError, sqlite3.DatabaseError) as error:
                # A failed read may succeed the next time; only a corrupt row may be set aside.
                if isinstance(error, sqlite3.DatabaseError) and not is_corrupt(error):
                    raise
                # The good chunks in front go out first, so the order holds; the next read begins with the bad one.
                if not chunks:
                    raise Damaged(damaged_row(self._execute, "chunk", number, str(error))) from None
                break
        return chunks

    def oldest_ms(self, lanes: list[int]) -> dict[int, int]:
        """Return when the oldest waiting chunk of each of `lanes` was accepted, by the steady clock."""
        found = {}
        for lane in lanes:
            row = self._execute(
                "SELECT coalesce(steady_ms, accepted_ms) FROM readable_chunk"
                " WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                (lowest_id(lane), end_id(lane)),
            ).fetchone()
            if row:
                found[lane] = row[0]
        return found

    def facts(self, lanes: list[int], now_ms: Callable[[], int]) -> QueueFacts:
        """Return what the status needs of the file, about the `lanes` in which something waits.

        `now_ms` is the steady clock; it is asked after the ages were read, so that none is below zero.
        """
        oldest = self.oldest_ms(lanes)
        steady_ms = now_ms()
        return QueueFacts(
            oldest_age_s={lane: max(0, steady_ms - then_ms) / 1000 for lane, then_ms in oldest.items()},
            due_ms=self.due_ms(),
            dropped=self.dropped(),
            damaged=self.damaged(),
            unseen=self.unseen_dead(),
            last_dead=self.last_dead(),
        )

    def next_due_ms(self) -> int | None:
        """Return when the next event that is dated in the future becomes due."""
        (found,) = self._execute("SELECT min(due_ms) FROM readable_scheduled").fetchone()
        return None if found is None else int(found)

    def due_ms(self) -> dict[int, int]:
        """Return the same for each stream."""
        return dict(self._execute("SELECT stream, min(due_ms) FROM readable_scheduled GROUP BY stream").fetchall())

    def quotas(self) -> dict[str, tuple[str, bytes]]:
        """Return what is known of each quota, by its name: the boot it was measured in, and the state."""
        rows = self._execute("SELECT token_digest, boot_id, state FROM quota")
        return {name: (boot_id, state) for name, boot_id, state in rows}

    def checkpoints(self, tail: str) -> tuple[int, list[Checkpoint]] | None:
        """Return when `tail` first ran (ms since 1970), and how far its files are committed; None if it never did."""
        known = self._execute("SELECT started_ms FROM tail WHERE name = ?", (tail,)).fetchone()
        return (known[0], load_checkpoints(self._execute, tail)) if known else None

    def losses(self, most: int) -> list[Loss]:
        """Return the newest receipts for bytes of tailed files that could not be had any more."""
        return load_losses(self._execute, most)

    def dropped(self) -> dict[int, dict[str, int]]:
        """Return the dropped events of each stream by reason."""
        found: dict[int, dict[str, int]] = {}
        for stream, reason, events in self._execute("SELECT stream, reason, events FROM dropped"):
            found.setdefault(stream, {})[reason] = events
        return found

    def damaged(self) -> dict[int, int]:
        """Return how many events of each stream are set aside since they could not be read."""
        rows = self._execute("SELECT stream, sum(events) FROM readable_dead WHERE codec IS NOT NULL GROUP BY stream")
        return dict(rows.fetchall())

    def last_dead(self) -> int:
        """Return the highest number of a dead letter; 0 if there is none."""
        (found,) = self._execute("SELECT coalesce(max(id), 0) FROM dead").fetchone()
        return int(found)

    def unseen_dead(self) -> dict[int, int]:
        """Return how many dead letters of each stream nobody has looked at."""
        rows = self._execute(
            "SELECT stream, sum(events) FROM readable_dead"
            " WHERE id > (SELECT id FROM seen WHERE what = 'dead') GROUP BY stream"
        )
        return dict(rows.fetchall())

    def books(self) -> dict[StreamKey, Books]:
        """Return the books as they stand in the file."""
        return {key: stream.books for key, stream in load_streams(self._open()).items()}

    def audit(self) -> list[str]:
        """Compare the books with the rows themselves, in one snapshot. Each line is a mismatch, which is a bug.

        Reads no bodies, but an entry for each chunk: it takes time in proportion to what waits.
        """
        connection = self._open()
        # The writer commits meanwhile: without one snapshot, rows and counters would be of different moments.
        connection.execute("BEGIN")
        try:
            dead = dict(self._execute("SELECT stream, sum(events) FROM readable_dead GROUP BY stream").fetchall())
            scheduled = dict(
                self._execute("SELECT stream, sum(events) FROM readable_scheduled GROUP BY stream").fetchall()
            )
            return [
                line
                for stream in load_streams(connection).values()
                for line in self._audit_one(stream, dead.get(stream.id, 0), scheduled.get(stream.id, 0))
            ]
        finally:
            # After an error too: as long as a snapshot is open, SQLite cannot empty the write-ahead log.
            connection.execute("COMMIT")

    def _audit_one(self, stream: QueueStream, dead: int, scheduled: int) -> list[str]:
        wrong = []
        for lane in stream.lanes:
            counted = scheduled if lane.name == "scheduled" else self._count(lane)
            if counted != lane.events:
                wrong.append(
                    f"stream {stream.id}: {counted} {lane.name} events in the queue, {lane.events} in the books"
                )
        if dead != stream.books.dead:
            wrong.append(f"stream {stream.id}: {dead} dead letters, {stream.books.dead} in the books")
        if not stream.books.balanced:
            wrong.append(f"stream {stream.id}: books do not balance: {stream.books}")
        return wrong

    def _count(self, lane: QueueLane) -> int:
        (counted,) = self._execute(
            "SELECT coalesce(sum(events), 0) FROM readable_chunk WHERE id >= ? AND id < ?",
            (lowest_id(lane.id), end_id(lane.id)),
        ).fetchone()
        return int(counted)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        # Not in `__init__`: at that time the writer may not have made the file yet.
        if self._connection is None:
            self._connection = open_reader(self._path)
        return self._connection

    def _execute(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        return self._open().execute(sql, values)
