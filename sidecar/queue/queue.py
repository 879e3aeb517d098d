"""The queue as the rest of the sidecar sees it: append, read, acknowledge, and the books.

It joins the writer's thread and the reader's thread to the event loop; every method is called on the loop.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from sidecar.errors import StartError, Unavailable
from sidecar.model import Block, Books, Chunk, StreamKey
from sidecar.queue.operations import Acknowledge, Append, Done, Expire, Nothing, Operation, SpendBudget, Tidy
from sidecar.queue.reader import Reader
from sidecar.queue.records import QueueStream
from sidecar.queue.writer import Results, Writer

MAX_STREAMS = 1000
T = TypeVar("T")
_RETRY_STORAGE_S = 5


class Queue:
    """The durable queue of one state directory."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["full", "normal"],
        chunk_bytes: int,
        drop_beyond_bytes: int | None = None,
    ) -> None:
        """With `drop_beyond_bytes` the oldest chunks are dropped to stay below it."""
        self.pending_bytes = 0
        self.on_commit: Callable[[set[QueueStream]], None] = lambda _: None
        self._path = path
        self._writer = Writer(
            path,
            durability=durability,
            chunk_bytes=chunk_bytes,
            drop_beyond_bytes=drop_beyond_bytes,
            settle=self._carry,
        )
        self._reader = Reader(path)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Raises StartError for a database that cannot be used, or whose books do not balance."""
        self._loop = asyncio.get_running_loop()
        try:
            self._writer.start()
        except sqlite3.Error as error:
            raise StartError(f"queue {self._path}: {error}; `PRAGMA integrity_check` tells what is damaged") from error
        except OSError as error:
            raise StartError(f"queue {self._path}: {os.strerror(error.errno or 0)}") from None

    async def close(self, timeout_s: float) -> None:
        """Commits what was submitted, then closes. Raises TimeoutError if the disk did not answer in time."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reading, self._reader.close)
        self._reading.shutdown(wait=False)
        if not await asyncio.to_thread(self._writer.stop, timeout_s):
            raise TimeoutError("the queue's writer did not stop in time")

    @property
    def size_bytes(self) -> int:
        """Bytes in use in the database file, soon after each commit."""
        return self._writer.size_bytes

    @property
    def broken(self) -> str | None:
        """Why commits fail at the moment."""
        return self._writer.broken

    def streams(self) -> list[QueueStream]:
        """All streams that were ever used."""
        return list(self._writer.streams.values())

    def stream(self, key: StreamKey, *, configured: bool = False) -> QueueStream:
        """The stream of `key`, new if need be. Raises Unavailable when there are too many: each costs memory.

        For a configured stream there is always a place.
        """
        streams = self._writer.streams
        found = streams.get(key)
        if found is None:
            if len(streams) >= MAX_STREAMS and not configured:
                raise Unavailable(f"already {MAX_STREAMS} streams; no new data_id can be taken", retry_after_s=60)
            found = QueueStream(1 + max((stream.id for stream in streams.values()), default=0), key)
            streams[key] = found
        return found

    def books(self) -> Books:
        """The books of all streams together."""
        return sum((stream.books for stream in self._writer.streams.values()), Books())

    def append(self, stream: QueueStream, blocks: Sequence[Block], size: int, accepted_ms: int, done: Done) -> None:
        """Accepts `blocks` of together `size` bytes.

        `done` is called on the loop with None once they are on disk, else with Unavailable.
        """
        self.pending_bytes += size
        self._writer.submit(Append(stream, blocks, size, accepted_ms, done))

    async def acknowledge(self, stream: QueueStream, through_seq: int, *, keep: bool) -> None:
        """Forgets the chunks up to `through_seq`, since the proxy has them. Raises Unavailable."""
        now_ms = int(time.time() * 1000)
        await self._commit(lambda done: Acknowledge(stream, through_seq, now_ms, keep, done))

    async def expire(self, before_ms: int) -> None:
        """Drops what was accepted before `before_ms`. Raises Unavailable."""
        await self._commit(lambda done: Expire(self._saved(), before_ms, done))

    async def tidy(self, *, kept_before_ms: int, pages: int) -> None:
        """Forgets old kept deliveries, and returns free pages to the file system. Raises Unavailable."""
        await self._commit(lambda done: Tidy(kept_before_ms, pages, done))

    async def spend(self, token_digest: str, boot_id: str, spent_until_s: float) -> None:
        """Remembers what a token has spent of its rate. Raises Unavailable."""
        await self._commit(lambda done: SpendBudget(token_digest, boot_id, spent_until_s, done))

    async def prove_alive(self) -> None:
        """Returns after a round through the writer. Raises Unavailable."""
        await self._commit(Nothing)

    async def read(self, stream: QueueStream, after_seq: int, budget_bytes: int) -> list[Chunk]:
        """The next chunks of `stream` that fit. Raises sqlite3.Error or ValueError if the file is damaged."""
        return await self._read(lambda: self._reader.chunks(stream.id, after_seq, budget_bytes))

    async def oldest_ms(self) -> dict[int, int]:
        """When the oldest waiting events of each stream were accepted, by the stream's id."""
        waiting = [stream.id for stream in self.streams() if stream.books.queued]
        return await self._read(lambda: self._reader.oldest_ms(waiting))

    async def dropped(self) -> dict[int, dict[str, int]]:
        """Dropped events by the stream's id and reason."""
        return await self._read(self._reader.dropped)

    async def budgets(self) -> dict[str, tuple[str, float]]:
        """What was spent of each token's rate when the sidecar last ran."""
        return await self._read(self._reader.budgets)

    async def audit(self) -> list[str]:
        """Mismatches between the books and the rows; none in a sound queue."""
        return await self._read(self._reader.audit)

    def _saved(self) -> list[QueueStream]:
        return [stream for stream in self.streams() if stream.saved]

    async def _read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    async def _commit(self, operation: Callable[[Done], Operation]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._writer.submit(operation(done))
        await future

    def _carry(self, results: Results) -> None:
        """Runs on the writer's thread."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._settle, results)
        except RuntimeError:  # the loop was closed by force; nobody is left to be told
            return

    def _settle(self, results: Results) -> None:
        grown: set[QueueStream] = set()
        for operation, error in results:
            if isinstance(operation, Append):
                self.pending_bytes -= operation.size
                if error is None:
                    grown.add(operation.stream)
            operation.done(None if error is None else Unavailable(f"storage: {error}", retry_after_s=_RETRY_STORAGE_S))
        if grown:
            self.on_commit(grown)
