"""The queue's writer and reader without an event loop: each operation is waited for."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from sidecar.core.model import BEFORE_ALL, Block, Capacity, Done, LaneName, Order, StreamKey
from sidecar.queue.operations import Acknowledge, Append, Operation
from sidecar.queue.reader import Reader
from sidecar.queue.steady import SteadyClock
from sidecar.queue.streams import QueueLane, QueueStream
from sidecar.queue.writer import Job, Results, Writer

T = TypeVar("T")
KEY = StreamKey(1500006, "token")
OTHER = StreamKey(1500007, "other")
ENOUGH = Capacity(10**12, "max_size")


class DirectQueue:
    """Owns a writer's thread; `do` returns when the operation is settled, with its error."""

    def __init__(
        self,
        path: Path,
        chunk_bytes: int = 1000,
        drop_beyond_bytes: int | None = None,
        steady: SteadyClock | None = None,
    ) -> None:
        """On a clock of its own, `now_ms`, or on `steady`."""
        self.path = path
        self.now_ms = 0
        self.result: Any = None
        self.writer = Writer(
            path,
            durability="full",
            chunk_bytes=chunk_bytes,
            capacity=ENOUGH if drop_beyond_bytes is None else Capacity(drop_beyond_bytes, "max_size"),
            drop_oldest=drop_beyond_bytes is not None,
            steady=steady or SteadyClock(lambda: self.now_ms / 1000, "boot", lambda: self.now_ms / 1000),
            settle=self._settle,
        )
        self.writer.start()
        self.reader = Reader(path)

    def _settle(self, results: Results, grown: set[QueueLane]) -> None:
        for job, error in results:
            self.result = job.result
            job.done(error)

    def submit(self, operation: Operation[Any], done: Done = lambda _: None, order: Order | None = None) -> None:
        """Hand over an operation; `done` is told how it ended, on the writer's thread."""
        stream = operation.stream if isinstance(operation, Append) else None
        size = sum(len(block.body) for block in operation.blocks) if isinstance(operation, Append) else 0
        self.writer.submit(Job(operation, done, stream, size, order))

    def do(self, operation: Operation[Any], order: Order | None = None) -> Exception | None:
        """Return the error, once it is settled; `result` is what the operation returned."""
        settled, errors = threading.Event(), []

        def done(error: Exception | None) -> None:
            errors.append(error)
            settled.set()

        self.submit(operation, done, order)
        assert settled.wait(10), "the writer does not answer"
        assert len(errors) == 1
        return errors[0]

    def get(self, operation: Operation[T]) -> T:
        """Return what the operation returns."""
        assert self.do(operation) is None
        return self.result

    def stream(self, key: StreamKey = KEY) -> QueueStream:
        streams = self.writer.streams
        return streams.setdefault(key, QueueStream(1 + len(streams), key)) if key not in streams else streams[key]

    def streams(self) -> dict[int, QueueStream]:
        return {stream.id: stream for stream in self.writer.streams.values() if stream.saved}

    def append(
        self, *events: str, at_ms: int = 0, key: StreamKey = KEY, order: Order | None = None
    ) -> Exception | None:
        block = Block(",".join(events).encode(), len(events))
        self.now_ms = at_ms
        return self.do(Append(self.stream(key), [block], at_ms), order=order)

    def acknowledge(self, through_seq: int, *, keep: bool = False, now_ms: int = 0) -> Exception | None:
        return self.do(Acknowledge(self.stream().fresh, through_seq, now_ms, keep))

    def waiting(self, key: StreamKey = KEY, lane: LaneName = "fresh") -> list[str]:
        chunks = self.reader.chunks(self.stream(key).lane(lane).id, BEFORE_ALL, 10**9)
        return b",".join(chunk.body for chunk in chunks).decode().split(",") if chunks else []

    def close(self) -> None:
        self.reader.close()
        assert self.writer.stop(10)


@contextlib.contextmanager
def direct_queue(path: Path, chunk_bytes: int = 1000, drop_beyond_bytes: int | None = None) -> Iterator[DirectQueue]:
    queue = DirectQueue(path, chunk_bytes, drop_beyond_bytes)
    try:
        yield queue
    finally:
        queue.close()


def damage_pages(path: Path, table: str, index: int) -> None:
    """Let the body of one row of `table` go on at a page that does not exist: it can neither be read nor deleted."""
    with sqlite3.connect(path) as connection:
        (stored,) = connection.execute(f"SELECT body FROM {table} ORDER BY id LIMIT 1 OFFSET {index}").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = bytearray(path.read_bytes())
    here, size = whole.index(stored[:50]), 50
    while whole[here + size] == stored[size]:
        size += 1
    whole[here + size] ^= 0x40
    path.write_bytes(whole)
