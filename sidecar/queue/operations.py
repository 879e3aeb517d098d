"""What the writer can be asked to do, each as SQL inside a transaction that somebody else opens and commits.

An operation tells `done` how it ended: None once it is on disk, else the error. Nothing is done twice or by halves.
"""

import heapq
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import msgspec

from sidecar.model import Block
from sidecar.queue.codec import Codec
from sidecar.queue.records import Delta, QueueStream
from sidecar.queue.schema import end_id, first_id

Done = Callable[[Exception | None], None]


class Transaction:
    """The open transaction: the connection, the codec, and what changes for which stream."""

    def __init__(self, connection: sqlite3.Connection, codec: Codec) -> None:
        self.execute = connection.execute
        self.codec = codec
        self.deltas: dict[QueueStream, Delta] = {}

    def delta(self, stream: QueueStream) -> Delta:
        """The change of `stream` so far, to be added to."""
        return self.deltas.setdefault(stream, Delta())


class Append(msgspec.Struct, frozen=True, gc=False):
    """Accept `blocks`, together `size` bytes. The writer joins the appends of one commit into common chunks."""

    stream: QueueStream
    blocks: Sequence[Block]
    size: int
    accepted_ms: int
    done: Done


class Acknowledge(msgspec.Struct, frozen=True):
    """The proxy has taken everything of `stream` up to chunk `through_seq`; delete it, or keep a copy."""

    stream: QueueStream
    through_seq: int
    now_ms: int
    keep: bool
    done: Done

    def apply(self, tx: Transaction) -> None:
        """Counts what is really there, so that a row which a policy dropped meanwhile is not counted twice."""
        bounds = (first_id(self.stream.id), first_id(self.stream.id) + self.through_seq)
        events, size = tx.execute(
            "SELECT coalesce(sum(events), 0), coalesce(sum(bytes), 0) FROM chunk WHERE id BETWEEN ? AND ?", bounds
        ).fetchone()
        if self.keep:
            tx.execute(
                "INSERT INTO kept (id, delivered_ms, accepted_ms, events, bytes, codec, body)"
                " SELECT id, ?, accepted_ms, events, bytes, codec, body FROM chunk WHERE id BETWEEN ? AND ?",
                (self.now_ms, *bounds),
            )
        tx.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", bounds)
        delta = tx.delta(self.stream)
        delta.delivered += events
        delta.bytes -= size
        delta.last_delivered_ms = self.now_ms


class Expire(msgspec.Struct, frozen=True):
    """Drop what was accepted before `before_ms` (`queue.max_age`)."""

    streams: Sequence[QueueStream]
    before_ms: int
    done: Done

    def apply(self, tx: Transaction) -> None:
        """Chunks of one stream are in the order of their acceptance, so the first young one ends the search."""
        for stream in self.streams:
            last = None
            for number, accepted_ms in tx.execute(
                "SELECT id, accepted_ms FROM chunk WHERE id >= ? AND id < ? ORDER BY id",
                (first_id(stream.id), end_id(stream.id)),
            ):
                if accepted_ms >= self.before_ms:
                    break
                last = number
            if last is not None:
                _drop(tx, stream, last, "max_age")


def _drop(tx: Transaction, stream: QueueStream, last_id: int, reason: str) -> None:
    bounds = (first_id(stream.id), last_id)
    events, size = tx.execute("SELECT sum(events), sum(bytes) FROM chunk WHERE id BETWEEN ? AND ?", bounds).fetchone()
    tx.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", bounds)
    tx.execute(
        "INSERT INTO dropped (stream, reason, events) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET events = events + excluded.events",
        (stream.id, reason, events),
    )
    delta = tx.delta(stream)
    delta.dropped += events
    delta.bytes -= size


class SpendBudget(msgspec.Struct, frozen=True):
    """Write down what a token has spent, before the request leaves: a crash must not give it back."""

    token_digest: str
    boot_id: str
    spent_until_s: float
    done: Done

    def apply(self, tx: Transaction) -> None:
        """One row for each token."""
        tx.execute(
            "INSERT OR REPLACE INTO budget (token_digest, boot_id, spent_until_s) VALUES (?, ?, ?)",
            (self.token_digest, self.boot_id, self.spent_until_s),
        )


class Tidy(msgspec.Struct, frozen=True):
    """Forget kept deliveries from before `before_ms` and give up to `pages` free pages back to the file system."""

    before_ms: int
    pages: int
    done: Done

    def apply(self, tx: Transaction) -> None:
        """Frees page by page: the pragma frees one at each step, and the sqlite3 module makes but one."""
        tx.execute("DELETE FROM kept WHERE delivered_ms < ?", (self.before_ms,))
        (free,) = tx.execute("PRAGMA freelist_count").fetchone()
        for _ in range(min(free, self.pages)):
            tx.execute("PRAGMA incremental_vacuum(1)")


class Nothing(msgspec.Struct, frozen=True):
    """Goes through the writer and back: proof that it is alive."""

    done: Done

    def apply(self, tx: Transaction) -> None:
        """Nothing."""


Operation = Append | Acknowledge | Expire | SpendBudget | Tidy | Nothing


def append_all(tx: Transaction, appends: Iterable[Append], chunk_bytes: int) -> None:
    """Writes appends as chunks of up to `chunk_bytes`, one run for each stream, in the order they came."""
    by_stream: dict[QueueStream, list[Append]] = {}
    for append in appends:
        by_stream.setdefault(append.stream, []).append(append)
    for stream, group in by_stream.items():
        delta = tx.delta(stream)
        for blocks in _runs([block for append in group for block in append.blocks], chunk_bytes):
            body = b",".join([block.body for block in blocks])
            events = sum([block.events for block in blocks])
            codec, stored = tx.codec.pack(body)
            number = first_id(stream.id) + stream.next_seq + delta.chunks
            tx.execute(
                "INSERT INTO chunk (id, accepted_ms, events, bytes, codec, body) VALUES (?, ?, ?, ?, ?, ?)",
                (number, group[-1].accepted_ms, events, len(body), codec, stored),
            )
            delta.accepted += events
            delta.bytes += len(body)
            delta.chunks += 1


def _runs(blocks: Sequence[Block], chunk_bytes: int) -> Iterable[list[Block]]:
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


def make_room(tx: Transaction, streams: Iterable[QueueStream], max_bytes: int) -> None:
    """Drops the oldest chunks of all streams if the database uses more than `max_bytes`.

    It makes a hundredth more room, so that a full queue need not do this at every commit. What was appended in this
    very transaction is the youngest, and goes last.
    """
    if used_bytes(tx.execute) <= max_bytes:
        return
    by_id = sorted(streams, key=attrgetter("id"))
    goal = max_bytes - max_bytes // 100
    while (excess := used_bytes(tx.execute) - goal) > 0:
        if not _drop_oldest(tx, by_id, excess):
            return


def _drop_oldest(tx: Transaction, by_id: Sequence[QueueStream], size: int) -> bool:
    """Drops chunks that hold `size` stored bytes, oldest first; False if there were none."""
    last: dict[QueueStream, int] = {}
    for _, number, stored in heapq.merge(*[_ages(tx, stream) for stream in by_id]):
        stream = by_id[bisect_right(by_id, number, key=lambda each: first_id(each.id)) - 1]
        last[stream] = number
        size -= stored
        if size <= 0:
            break
    for stream, number in last.items():
        _drop(tx, stream, number, "max_size")
    return bool(last)


def _ages(tx: Transaction, stream: QueueStream) -> sqlite3.Cursor:
    return tx.execute(
        "SELECT accepted_ms, id, length(body) FROM chunk WHERE id >= ? AND id < ? ORDER BY id",
        (first_id(stream.id), end_id(stream.id)),
    )


def used_bytes(execute: Callable[..., sqlite3.Cursor]) -> int:
    """Bytes in use in the database file; free pages do not count."""
    (pages,) = execute("PRAGMA page_count").fetchone()
    (free,) = execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = execute("PRAGMA page_size").fetchone()
    return int((pages - free) * page_bytes)
