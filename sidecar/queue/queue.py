"""The queue as the rest of the sidecar sees it: append, read, acknowledge, and the books.

It joins the writer's thread and the reader's thread to the event loop; every method is called on the loop.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from sidecar.core.errors import Stale, StartError, Unavailable, in_words
from sidecar.core.model import Advance, Block, Books, Capacity, Chunk, Done, Order, StreamKey
from sidecar.host.clock import boot_clock, boot_id, wall_ms
from sidecar.queue.checkpoints import Checkpoints
from sidecar.queue.damage import DamagedRow
from sidecar.queue.growth import Growth
from sidecar.queue.operations import (
    Append,
    Forget,
    Operation,
    SetDamagedAside,
)
from sidecar.queue.reader import Damaged, Reader
from sidecar.queue.schema import WAL_BYTES
from sidecar.queue.status import QueueFacts, queue_status
from sidecar.queue.steady import SteadyClock
from sidecar.queue.streams import QueueLane, QueueStream, dead_bytes, stream_of
from sidecar.queue.writer import Job, Results, Writer
from sidecar.status.document import QueueStatus

T = TypeVar("T")
_RETRY_STORAGE_S = 5
_ENOUGH_TO_OPEN = 1_000_000
"""Free bytes on the disk. With less, an I/O error of SQLite is reported as a full disk."""
_SAVE_S = 60.0
"""Seconds for saving a copy of a lost file. It is less than the time that systemd waits for a stop."""
log = structlog.get_logger("queue")


class Queue:
    """The durable queue of one state directory."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["full", "normal"],
        chunk_bytes: int,
        capacity: Capacity,
        drop_oldest: bool = False,
        steady: SteadyClock | None = None,
    ) -> None:
        """Open nothing yet. `drop_oldest`: drop the oldest chunks to stay within the `room`. `steady`: else our own."""
        self.pending_bytes = 0  # submitted and not settled; on the loop
        # Told on the loop of the lanes that have more to send.
        self.on_commit: Callable[[set[QueueLane]], None] = lambda _: None
        self._path, self._chunk_bytes = path, chunk_bytes
        self._steady = steady or SteadyClock(boot_clock, boot_id(), time.time)
        self._writer = Writer(
            path,
            durability=durability,
            chunk_bytes=chunk_bytes,
            capacity=capacity,
            drop_oldest=drop_oldest,
            steady=self._steady,
            settle=self._carry,
        )
        self._reader = Reader(path)
        self._growth = Growth()
        # One thread only: the reader and its zstd context must not be used by two.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        self._loop: asyncio.AbstractEventLoop | None = None  # None until `open`
        self.checkpoints = Checkpoints(self.commit, self._read, self._reader)

    def open(self) -> None:
        """Open the database. Raises StartError if it cannot be used."""
        self._loop = asyncio.get_running_loop()
        try:
            self._writer.start()
        except sqlite3.Error as error:
            raise StartError(f"queue {self._path}: {_why_not(error, self._path)}") from error
        except OSError as error:
            raise StartError(f"queue {self._path}: {in_words(error)}") from None

    async def close(self, timeout_s: float) -> None:
        """Commit what was submitted, then close. Raises TimeoutError if the disk did not answer in time."""
        loop = asyncio.get_running_loop()
        # The reader first: SQLite empties and removes the log when the last connection closes, the writer's.
        await loop.run_in_executor(self._reading, self._reader.close)
        self._reading.shutdown(wait=False)
        # The once-a-second look may be too old: if the file is lost, the writer needs time to save a copy.
        self.look()
        timeout_s = _SAVE_S if self._writer.lost else timeout_s
        if not await asyncio.to_thread(self._writer.stop, timeout_s):
            raise TimeoutError("the queue's writer did not stop in time")

    @property
    def size_bytes(self) -> int:
        """Return the bytes in use in the file, soon after each commit, and what its log has grown beyond the usual."""
        return self._writer.size_bytes + self.log_bytes

    @property
    def log_bytes(self) -> int:
        """Return by how much the write-ahead log has grown beyond the usual."""
        return max(0, self._writer.wal_bytes - WAL_BYTES)

    @property
    def wal_bytes(self) -> int:
        """Return the bytes of the write-ahead log."""
        return self._writer.wal_bytes

    @property
    def went_back(self) -> int:
        """Return how many events more the last run had accepted, or delivered, than the file says."""
        return self._writer.went_back

    @property
    def file_bytes(self) -> int:
        """Return the bytes of the database file; like `size_bytes`, but with the pages that are free."""
        return self._writer.file_bytes

    @property
    def capacity(self) -> Capacity:
        """Return how large the queue may become now."""
        return self._writer.capacity

    @capacity.setter
    def capacity(self, capacity: Capacity) -> None:
        self._writer.capacity = capacity

    @property
    def dead_bytes(self) -> int:
        """Return the bytes that dead letters take, with what each costs beside its event."""
        return dead_bytes(self._writer.streams.values())

    @property
    def broken(self) -> str | None:
        """Return why nothing can be accepted at the moment."""
        return self._writer.lost or self._writer.broken

    def look(self) -> None:
        """Notice if the file was removed or replaced, or is back, and how the queue grows; once a second."""
        self._growth.note(boot_clock(), self.size_bytes, self.books().queued)
        lost, before = self._writer.watch.look(), self._writer.lost
        self._writer.lost = lost
        if lost and not before:
            log.error(
                "queue file lost: nothing more is accepted; what the open file holds is still delivered", error=lost
            )
        elif before and not lost:
            log.info("queue file is back", was=before)

    def streams(self) -> list[QueueStream]:
        """Return all streams that were ever used."""
        return list(self._writer.streams.values())

    def has(self, key: StreamKey) -> bool:
        """Return True if there is such a stream."""
        return key in self._writer.streams

    def stream(self, key: StreamKey, *, configured: bool = False) -> QueueStream:
        """Return the stream of `key`, new if need be. Raises Unavailable when there are too many: each costs memory.

        For a configured stream there is always a place.
        """
        return stream_of(self._writer.streams, key, configured=configured)

    def books(self) -> Books:
        """Return the books of all streams together."""
        return sum((stream.books for stream in self._writer.streams.values()), Books())

    def append(
        self,
        stream: QueueStream,
        blocks: Sequence[Block],
        size: int,
        accepted_ms: int,
        done: Done,
        dead: Sequence[tuple[bytes, str]] = (),
        advance: Advance | None = None,
        order: Order | None = None,
    ) -> None:
        """Accept `blocks` of together `size` bytes, and as dead letters the events in `dead`, each with its reason.

        `done` is called on the loop with None once they are on disk, and `advance` with them, else with Unavailable, or
        with Stale if that is impossible. Behind what failed, all that is in the same `order` fails too.
        """
        self.pending_bytes += size
        stream.pending += 1
        self._writer.submit(Job(Append(stream, blocks, accepted_ms, dead, advance), done, stream, size, order))

    async def commit(self, operation: Operation[T]) -> T:
        """Do `operation`, and return what it returns once that is on disk. Raises Unavailable, or what it raises."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            # The caller may have been cancelled; the commit happens all the same.
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        job = Job(operation, done)
        self._writer.submit(job)
        await future
        result: T = job.result  # `done` must not hold the job, which holds it: that would be a circle at each commit
        return result

    async def forget(self, heirs: Mapping[QueueStream, QueueStream]) -> list[QueueStream]:
        """Forget drained streams, whose counters go on in their heirs; which are gone. Raises Unavailable.

        One that was used again meanwhile stays, or comes back with the row that its next append makes.
        """
        await self.commit(Forget(heirs))
        gone = [stream for stream in heirs if not stream.saved and not stream.pending]
        for stream in gone:
            self._writer.streams.pop(stream.key, None)
        return gone

    async def read(self, lane: QueueLane, after_seq: int, max_bytes: int) -> list[Chunk]:
        """Return the next chunks of `lane` that fit. One that cannot be read is set aside, and the next ones read.

        Raises sqlite3.Error if the file cannot be read, and Unavailable.
        """
        while True:
            try:
                return await self._read(lambda: self._reader.chunks(lane.id, after_seq, max_bytes))
            except Damaged as damaged:
                await self._set_damaged_aside(damaged.row)

    async def _set_damaged_aside(self, row: DamagedRow) -> None:
        await self.commit(SetDamagedAside([row], wall_ms()))
        log.error(
            "events unreadable on disk, set aside; see `sidecar dead list --reason damaged`",
            data_id=next(stream.key.data_id for stream in self.streams() if stream.id == row.stream),
            events=row.events,
            problem=row.problem,
        )

    async def facts(self) -> QueueFacts:
        """Return what only the file knows, for the status. Raises sqlite3.Error."""
        waiting = [lane.id for stream in self.streams() for lane in stream.lanes if lane.events]
        return await self._read(lambda: self._reader.facts(waiting, self._steady.now_ms))

    def status(self, facts: QueueFacts) -> QueueStatus:
        """Return how the queue stands; `refused_by` is the intake's."""
        return queue_status(
            facts,
            size=self.size_bytes,
            capacity=self.capacity,
            rates=self._growth.rates(),
            queued=self.books().queued,
            wal_bytes=self.wal_bytes,
            went_back=self.went_back,
        )

    async def next_due_ms(self) -> int | None:
        """Return when the next event that is dated in the future becomes due."""
        return await self._read(self._reader.next_due_ms)

    async def dropped(self) -> dict[int, dict[str, int]]:
        """Return the dropped events by the stream's id and reason."""
        return await self._read(self._reader.dropped)

    async def quotas(self) -> dict[str, tuple[str, bytes]]:
        """Return what was known of the quotas of tokens and data_ids when the sidecar last ran, by their names."""
        return await self._read(self._reader.quotas)

    async def audit(self) -> list[str]:
        """Return the mismatches between the books and the rows; none in a sound queue."""
        return await self._read(self._reader.audit)

    def before_ms(self, age_s: float) -> int:
        """Return the time on the steady clock that was `age_s` seconds ago, in milliseconds."""
        return self._steady.now_ms() - int(age_s * 1000)

    async def _read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    def _carry(self, results: Results, grown: set[QueueLane]) -> None:
        """Run on the writer's thread."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._settle, results, grown)
        except RuntimeError:  # the loop was closed by force; nobody is left to be told
            return

    def _settle(self, results: Results, grown: set[QueueLane]) -> None:
        for job, error in results:
            if job.stream is not None:
                self.pending_bytes -= job.size
                job.stream.pending -= 1
            # Stale says nothing about the disk: the same append would fail again. All else may be tried later.
            if error is not None and not isinstance(error, Stale):
                error = Unavailable(f"storage: {error}", retry_after_s=_RETRY_STORAGE_S)
            try:
                job.done(error)
            except Exception:  # one client's trouble must keep no other from its answer, nor the events from leaving
                log.exception("unexpected error while settling a commit")
        if grown:
            self.on_commit(grown)


def _why_not(error: sqlite3.Error, path: Path) -> str:
    """Say what is to be done about a database that cannot be opened."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _free_bytes(path.parent) < _ENOUGH_TO_OPEN):
        return f"the disk is full ({_free_bytes(path.parent)} bytes are free); make room, the start will be tried again"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{error}; `PRAGMA integrity_check` of the sqlite3 command tells what is damaged"
    return str(error)


def _free_bytes(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_frsize * found.f_bavail
