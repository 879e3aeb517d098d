"""The one thread that writes: it takes everything that waits, commits it as one transaction, then answers.

Invariant: a job is settled without an error only after COMMIT returned, with synchronous=FULL after the fsync.

    submit ──> inbox ──> [ BEGIN ... all that waits ... COMMIT ] ──> deltas to the records ──> settle (on the loop)
                              │ failed: ROLLBACK
                              │   unless the disk is merely full, the connection is poisoned: close, reopen, reload
                              └─ each job again alone, so that one cannot fail another, but for those that must
                                 not overtake it: settle with the errors

The order in one commit, which must not change: the rows of the operations, then the appends (they see what was freed),
then what capacity asks for, then the books of all streams; COMMIT; and only then the records in memory, which the event
loop reads, and the answers. A crash between any two of these leaves the file as it was before, or as it is after.

This module knows no asyncio: `settle` is a callable that carries the results to wherever the caller lives.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import msgspec
import structlog

from sidecar.core.errors import Stale
from sidecar.core.model import Books, Capacity, Done, Order, StreamKey
from sidecar.host.clock import wall_ms
from sidecar.queue.books_record import BooksRecord
from sidecar.queue.codec import Codec
from sidecar.queue.damage import find_damaged
from sidecar.queue.file_watch import FileWatch
from sidecar.queue.group_commit import GroupCommit
from sidecar.queue.operations import (
    Operation,
    SetDamagedAside,
    Transaction,
    append_all,
    file_bytes,
    forget_drained,
    forget_kept,
    make_room,
    used_bytes,
)
from sidecar.queue.rescue import save_copy
from sidecar.queue.schema import is_corrupt, open_writer
from sidecar.queue.steady import SteadyClock
from sidecar.queue.streams import (
    QueueLane,
    QueueStream,
    apply_delta,
    forget_stream,
    load_streams,
    save_stream,
    take_over,
)

_GROUP_BYTES = 8_000_000
_GROUP_OPERATIONS = 2_000
_SIZE_EVERY_BYTES = 1_000_000
_PARTS_OF_CAPACITY = 16
"""The database is measured each time that a 16th of its capacity was appended, or earlier (`_SIZE_EVERY_BYTES`).

So a small queue is measured more often, and cannot grow far above its capacity between two measurements."""

_KEPT_YIELDS = 0.9
"""The part of the capacity above which kept deliveries are deleted to make room for waiting events."""

_SEARCH_DAMAGE_EVERY_S = 600
_DAMAGED_AT_ONCE = 100
_DAMAGED = "rows unreadable on disk, set aside; see `sidecar dead list --reason damaged`"


class Job(msgspec.Struct):
    """An operation that was submitted to the writer.

    `stream`: the operation accepts events for this stream, `size` bytes together. `order`: the operation fails if an
    earlier one in the same `order` has failed.
    """

    operation: Operation[Any]
    done: Done  # called on the loop, when it is settled
    stream: QueueStream | None = None
    size: int = 0
    order: Order | None = None
    result: Any = None  # what the operation returned; set by the writer, in the transaction that was committed


Results = Sequence[tuple[Job, Exception | None]]
log = structlog.get_logger("queue.writer")


class Writer:
    """Owns the writing connection and the records of all streams. `start` raises StartError or sqlite3.Error.

    `capacity` may be changed at any time. `settle` is given the results and the lanes that have more to send.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["full", "normal"],
        chunk_bytes: int,
        capacity: Capacity,
        drop_oldest: bool,
        steady: SteadyClock,
        settle: Callable[[Results, set[QueueLane]], None],
    ) -> None:
        self.streams: dict[StreamKey, QueueStream] = {}  # every stream that was ever used; new ones come from the loop
        self.size_bytes = self.file_bytes = 0  # in use, and with free pages; as of the last measuring
        self.capacity = capacity
        self.broken: str | None = None  # why nothing can be committed
        self._broken_for_appends = False  # True: other operations work, since only the place for new rows is damaged
        self.lost: str | None = None  # what happened to the file that is open; the event loop looks, and sets it
        self.went_back = 0  # events more that the last run had accepted, or delivered, than the file says; set by start
        self.wal_bytes = 0  # of the write-ahead log, when it was last measured
        self._path, self._durability, self._chunk_bytes = path, durability, chunk_bytes
        self._drop_oldest, self._steady = drop_oldest, steady
        self._settle = settle
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()  # None: the end
        self._codec = Codec()
        self._connection: sqlite3.Connection | None = None  # None before `start`, and while the file cannot be opened
        self._group_commit = GroupCommit()
        self._unmeasured_bytes = 0  # appended since the last measuring
        self._search_damage_after_s = 0.0  # by the monotonic clock; set when a search has found nothing
        self.watch = FileWatch(path)
        self._record = BooksRecord(path.with_name("books"))
        self._thread = threading.Thread(target=self._run, name="queue-writer", daemon=True)

    def start(self) -> None:
        """Open the database in the caller's thread, so that what is wrong with it ends the start."""
        self._open()  # the only time that another thread than the writer's uses the connection
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand over an operation; never blocks. What waits here is bounded by admission."""
        self._inbox.put(job)

    def stop(self, timeout_s: float) -> bool:
        """Commit what was submitted before, then close the database. False if that took too long."""
        self._inbox.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _open(self) -> None:
        self._connection = open_writer(self._path, self._durability)
        self.watch.opened()
        self._steady.resume(self._connection)
        for key, loaded in load_streams(self._connection).items():
            # After a failed write the loop still holds the records: they are brought up to date, and not replaced.
            take_over(self.streams.setdefault(key, loaded), loaded)
        self._compare_with_record(self._books())
        self._measure()

    def _compare_with_record(self, books: Books) -> None:
        missing = self._record.went_back(books)
        if missing:
            self.went_back += missing
            log.error(
                "queue.db holds less than when it was last in use: its write-ahead log was lost or damaged, or an older"
                " copy is in its place; events that were acknowledged may be lost",
                events_at_least=missing,
            )
        self._record.open(books)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._take()
            if group:
                self._commit(group)
                self._group_commit.committed(time.monotonic(), _appends(group))
        if self._connection is not None:
            self._close(self._connection)
        elif self.lost:
            log.error(
                "events of the lost queue file could not be saved", events=self._books().queued, error=self.broken
            )

    def _close(self, connection: sqlite3.Connection) -> None:
        self._record.close()
        self.lost = self.watch.look()
        if self.lost and not self.watch.is_there():  # if only the log is gone, closing puts all of it into the file
            self._save(connection)
        connection.close()

    def _save(self, connection: sqlite3.Connection) -> None:
        queued = self._books().queued
        try:
            saved = save_copy(connection, self._path, before_it_has_its_name=self.watch.remove_log)
        except (OSError, sqlite3.Error) as error:
            log.error("events of the lost queue file could not be saved", events=queued, error=str(error))
        else:
            log.warning("events of the lost queue file are saved", events=queued, file=str(saved))

    def _books(self) -> Books:
        return sum((stream.books for stream in list(self.streams.values())), Books())

    def _take(self) -> tuple[list[Job], bool]:
        """Return everything that waits, up to the limits of one transaction; and whether the end was among it."""
        group: list[Job] = []
        first = self._inbox.get()  # sleeps here while there is nothing to do
        if first is None:
            return group, True
        group.append(first)
        more = self._take_waiting(group)
        # A commit costs the same for one report as for a hundred: under load a moment's wait makes it cheaper for each.
        while more and (pause_s := self._group_commit.plan_pause_s(time.monotonic(), _appends(group))):
            time.sleep(pause_s)
            more = self._take_waiting(group)
        return group, not more

    def _take_waiting(self, group: list[Job]) -> bool:
        """Add what waits to `group`; False if the end came."""
        size = sum([job.size for job in group])
        try:
            while size < _GROUP_BYTES and len(group) < _GROUP_OPERATIONS:
                job = self._inbox.get_nowait()
                if job is None:
                    return False
                group.append(job)
                size += job.size
        except Empty:
            pass
        return True

    def _commit(self, group: list[Job]) -> None:
        if self.lost:
            group = self._refuse_appends(group, self.lost)  # what was accepted before may still be delivered
        grown: set[QueueLane] = set()
        # All together first. If that fails, nobody knows whose fault it is: each is tried alone, in its order.
        if len(group) > 1 and not any(map(_failed_before, group)) and self._attempt(group, grown) is None:
            self._settle([(job, None) for job in group], grown)
            return
        self._settle([(job, self._attempt_alone(job, grown)) for job in group], grown)

    def _refuse_appends(self, group: list[Job], why: str) -> list[Job]:
        """Accept nothing into a file without a name; return what else is to be done."""
        error = OSError(why)
        refused = [job for job in group if job.stream is not None]
        # What comes later in the same order must fail too, even if the file is back by then.
        for job in refused:
            if job.order is not None:
                job.order.error = error
        if refused:
            self._settle([(job, error) for job in refused], set())
        return [job for job in group if job.stream is None]

    def _attempt_alone(self, job: Job, grown: set[QueueLane]) -> Exception | None:
        error = _failed_before(job) or self._attempt([job], grown)
        if error is not None and is_corrupt(error) and self._set_damaged_aside(grown):
            error = self._attempt([job], grown)
        if error is not None and is_corrupt(error) and job.stream is not None:
            # The table is damaged where new rows would go. What is there can still be sent, acknowledged and dropped.
            self._say_broken(error)
            self._broken_for_appends = True
        if job.order is not None:  # what the same client has submitted behind this must not overtake it
            job.order.error = error
        return error

    def _set_damaged_aside(self, grown: set[QueueLane]) -> bool:
        """Search for the damaged rows that an operation has met. Return True if some could be set aside."""
        if self._connection is None or time.monotonic() < self._search_damage_after_s:
            return False
        try:
            # No transaction is open here: one that has met a page which does not exist could not write any more.
            rows = find_damaged(self._connection.execute, self._codec, _DAMAGED_AT_ONCE)
        except sqlite3.Error as error:
            log.error("queue.db is damaged and cannot be read", error=str(error))
        else:
            if not rows:
                log.error("queue.db is damaged, but every row is readable")
            elif self._attempt([Job(SetDamagedAside(rows, wall_ms()), lambda _: None)], grown) is None:
                log.error(_DAMAGED, rows=len(rows))
                return True
        # A search reads the whole file, and nothing is committed meanwhile: it must not come again at once.
        self._search_damage_after_s = time.monotonic() + _SEARCH_DAMAGE_EVERY_S
        return False

    def _attempt(self, group: Sequence[Job], grown: set[QueueLane]) -> Exception | None:
        """Commit `group` as one transaction. Any failure is returned, whatever it is: this thread must live."""
        try:
            if self._connection is None:
                self._reopen()
            grown |= self._transact(group)
        except Stale as stale:  # nothing is wrong with the disk
            if self._connection is not None:
                self._connection.execute("ROLLBACK")
            return stale
        except Exception as error:
            self._recover(error)
            return error
        return None

    def _reopen(self) -> None:
        """Open the file again. Raises OSError rather than to open another file than before, or to make one."""
        lost = self.watch.look()
        if lost:
            raise OSError(lost)
        self._open()

    def _transact(self, group: Sequence[Job]) -> set[QueueLane]:
        assert self._connection is not None
        tx = Transaction(self._connection, self._codec, self._steady.now_ms(), self.streams, self._chunk_bytes)
        tx.execute("BEGIN IMMEDIATE")  # the lock now: a transaction that began as a reader may fail to get it later
        self._steady.save(tx.execute)
        for job in group:
            job.result = job.operation.apply(tx)
        append_all(tx)
        if tx.appends:  # what makes the queue smaller must never be refused for want of room
            self._keep_within_capacity(tx)
        gone = forget_drained(tx)
        for stream, delta in tx.deltas.items():
            if not delta.balanced:  # a bug of ours: better to refuse events than to lose count of them
                raise ArithmeticError(f"stream {stream.id}: this commit would unbalance the books: {delta}")
            save_stream(self._connection, stream, delta)
        tx.execute("COMMIT")  # returns after the fsync, with synchronous=FULL; all below is memory, and cannot fail it
        self._steady.committed()
        self._record_books(tx, gone)
        for stream, delta in tx.deltas.items():
            apply_delta(stream, delta)
            self._unmeasured_bytes += abs(delta.bytes)
        for stream in gone:
            forget_stream(stream)
        if self._unmeasured_bytes >= min(_SIZE_EVERY_BYTES, self.capacity.bytes // _PARTS_OF_CAPACITY) or not tx.deltas:
            self._measure()
        if self.broken and (tx.appends or not self._broken_for_appends):
            log.info("commits succeed again", was=self.broken)
            self.broken = None
            self._broken_for_appends = False
        return tx.grown

    def _record_books(self, tx: Transaction, gone: Sequence[QueueStream]) -> None:
        """Note what the commit changes in all; what `gone` streams had counted is in the counts of their heirs."""
        self._record.add(
            sum([delta.accepted for delta in tx.deltas.values()]) - sum([stream.books.accepted for stream in gone]),
            sum([delta.delivered for delta in tx.deltas.values()]) - sum([stream.books.delivered for stream in gone]),
        )

    def _keep_within_capacity(self, tx: Transaction) -> None:
        capacity = self.capacity
        if self.size_bytes > _KEPT_YIELDS * capacity.bytes:
            forget_kept(tx, int(_KEPT_YIELDS * capacity.bytes))
        if self._drop_oldest:
            make_room(tx, list(self.streams.values()), capacity.bytes, capacity.limit)

    def _measure(self) -> None:
        assert self._connection is not None
        self.size_bytes = used_bytes(self._connection.execute)
        self.file_bytes = file_bytes(self._connection.execute)
        self.wal_bytes = self.watch.wal_bytes()
        self._unmeasured_bytes = 0

    def _say_broken(self, error: Exception) -> None:
        if not self.broken:
            log.error("commit failed: nothing is acknowledged until one succeeds", error=str(error))
        self.broken = str(error)

    def _recover(self, error: Exception) -> None:
        """Roll back. After a failed write, start over from the file; after anything else the connection is as good."""
        is_write = isinstance(error, sqlite3.Error | OSError) and not is_corrupt(error)
        if is_write:
            self._say_broken(error)
        if self._connection is None:
            return
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # A full disk has written nothing, so what the page cache holds is what the file holds.
            is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            self.lost = self.watch.look()
            if is_full or not is_write or self.lost:  # a file without a name cannot be opened again
                return
        except sqlite3.Error:
            pass
        # After a failed write or fsync nobody knows what the page cache holds: start over from the file.
        connection, self._connection = self._connection, None
        self.watch.closed()  # closing may remove the log, which is then no loss
        connection.close()
        self.watch.closed()  # once more: the event loop may have looked in between


def _failed_before(job: Job) -> Exception | None:
    """Return why what must not overtake something else fails with it."""
    return job.order.error if job.order is not None else None


def _appends(group: Sequence[Job]) -> int:
    return sum([job.stream is not None for job in group])
