"""The durable queue: what is promised when `done(None)` is called, and what the books say."""

import asyncio
import contextlib
import errno
import functools
import gc
import os
import sqlite3
import stat
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.errors import StartError, Unavailable
from sidecar.core.model import Block, Books, Done, Order, StreamKey
from sidecar.queue import Queue, schema
from sidecar.queue.codec import CHECKED, RAW, ZSTD, Codec
from sidecar.queue.operations import Acknowledge, Append, Expire, Ping, SaveQuotas, Tidy
from sidecar.service.state_lock import StateLock
from tests.support.queues import ENOUGH, KEY, OTHER, DirectQueue, direct_queue


def tidy(**limits: int) -> Tidy:
    usual = {"kept_before_ms": 0, "dead_before_ms": 0, "dead_max_bytes": 10**9, "pages": 10_000}
    return Tidy(**{**usual, **limits})


def waits_for(event: threading.Event) -> Done:
    """Return what keeps the writer waiting, for up to five seconds."""

    def done(_: Exception | None) -> None:
        event.wait(5)

    return done


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DirectQueue]:
    with direct_queue(tmp_path / "queue.db") as opened:
        yield opened


def test_what_is_appended_is_on_disk_when_done_is_called(queue: DirectQueue) -> None:
    assert queue.append("1", "2") is None
    with sqlite3.connect(f"file:{queue.path}?mode=ro", uri=True) as other:
        assert other.execute("SELECT body, events FROM chunk").fetchall() == [
            (b"1,2" + zlib.crc32(b"1,2").to_bytes(4), 2)
        ]
        assert other.execute("SELECT accepted FROM stream").fetchall() == [(2,)]
        assert other.execute("SELECT events, bytes, next_seq FROM lane").fetchall() == [(2, 3, 1)]


def test_the_database_is_set_up_as_promised(queue: DirectQueue) -> None:
    connection = queue.writer._connection
    assert connection is not None
    for pragma, value in (("page_size", 8192), ("auto_vacuum", 2), ("journal_mode", "wal"), ("synchronous", 2)):
        assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        lock = StateLock(tmp_path / "state").acquire()
        with direct_queue(tmp_path / "state" / "queue.db") as queue:
            queue.append("1")
            modes = {
                p.name: stat.S_IMODE(p.stat().st_mode) for p in [tmp_path / "state", *(tmp_path / "state").iterdir()]
            }
        lock.release()
    finally:
        os.umask(old)
    files = ("lock", "books", "queue.db", "queue.db-wal", "queue.db-shm")
    assert modes == {"state": 0o700, **dict.fromkeys(files, 0o600)}


def test_appends_of_one_commit_share_chunks_and_keep_their_order(queue: DirectQueue) -> None:
    settled = threading.Semaphore(0)
    blocks = [Block(b"%04d" % n, 1) for n in range(500)]
    hold = threading.Event()
    queue.submit(Ping(), waits_for(hold))  # the writer waits here while the others gather
    for block in blocks:
        queue.submit(Append(queue.stream(), [block], 0), lambda _: settled.release())
    hold.set()
    for _ in blocks:
        assert settled.acquire(timeout=5)
    assert queue.waiting() == [f"{n:04}" for n in range(500)]
    chunks = queue.reader.chunks(queue.stream().fresh.id, -1, 10**9)
    assert max(len(chunk.body) for chunk in chunks) <= 1000
    assert len(chunks) <= 4


def test_acknowledging_deletes_and_keeps_the_books(queue: DirectQueue) -> None:
    for number in range(3):
        queue.append(str(number), "x")
    assert queue.acknowledge(1, now_ms=77) is None
    assert queue.waiting() == ["2", "x"]
    assert queue.stream().books == Books(accepted=6, queued=2, delivered=4)
    assert queue.stream().last_delivered_ms == 77
    assert queue.reader.audit() == []


def test_what_can_never_be_sent_is_accepted_as_a_dead_letter_in_the_same_commit(queue: DirectQueue) -> None:
    stream = queue.stream()
    dead = [(b'{"n":3}', "no target"), (b'{"n":4}', "too large")]
    assert queue.do(Append(stream, [Block(b'{"n":1},{"n":2}', 2)], 1000, dead)) is None
    assert stream.books == Books(accepted=4, queued=2, dead=2)
    assert stream.dead_bytes == 14
    with sqlite3.connect(queue.path) as connection:
        found = connection.execute(
            "SELECT body, reason, attempts, status, accepted_ms FROM dead ORDER BY id"
        ).fetchall()
    connection.close()
    assert found == [(b'{"n":3}', "no target", 0, None, 1000), (b'{"n":4}', "too large", 0, None, 1000)]
    assert queue.do(Append(stream, [], 1000, dead[:1])) is None
    assert stream.books.accepted == 5
    assert queue.reader.audit() == []


def test_acknowledging_twice_counts_once(queue: DirectQueue) -> None:
    queue.append("1")
    queue.acknowledge(0)
    queue.acknowledge(0)
    assert queue.stream().books == Books(accepted=1, delivered=1)


def test_delivered_events_are_kept_where_the_operator_said_so_and_then_forgotten(queue: DirectQueue) -> None:
    queue.append("1")
    queue.acknowledge(0, keep=True, now_ms=1000)
    with sqlite3.connect(f"file:{queue.path}?mode=ro", uri=True) as other:
        assert other.execute("SELECT body, delivered_ms FROM kept").fetchall() == [
            (b"1" + zlib.crc32(b"1").to_bytes(4), 1000)
        ]
        queue.do(tidy(kept_before_ms=1001))
        assert other.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_sequence_numbers_are_never_used_again(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db") as queue:
        queue.append("1")
        queue.acknowledge(0)
    with direct_queue(tmp_path / "queue.db") as queue:
        queue.append("2")
        assert [chunk.seq for chunk in queue.reader.chunks(queue.stream().fresh.id, -1, 100)] == [1]
        assert queue.stream().books == Books(accepted=2, queued=1, delivered=1)


def test_reading_stops_at_the_budget_but_always_gives_one_chunk(queue: DirectQueue) -> None:
    for letter in "abc":
        queue.append(letter * 900)
    read = functools.partial(queue.reader.chunks, queue.stream().fresh.id)
    assert [chunk.seq for chunk in read(-1, 1801)] == [0, 1]
    assert [chunk.seq for chunk in read(-1, 1800)] == [0]
    assert [chunk.seq for chunk in read(-1, 1)] == [0]
    assert [chunk.seq for chunk in read(0, 10**9)] == [1, 2]
    assert read(2, 10**9) == []


def test_streams_do_not_see_one_another(queue: DirectQueue) -> None:
    queue.append("mine")
    queue.append("theirs", key=OTHER)
    assert (queue.waiting(), queue.waiting(OTHER)) == (["mine"], ["theirs"])


def test_what_is_too_old_is_dropped_and_counted(queue: DirectQueue) -> None:
    for at_ms in (10, 20, 30):
        queue.append(str(at_ms), at_ms=at_ms)
    queue.do(Expire(30))
    assert queue.waiting() == ["30"]
    assert queue.stream().books == Books(accepted=3, queued=1, dropped=2)
    assert queue.reader.dropped() == {1: {"max_age": 2}}
    assert queue.reader.audit() == []


def test_room_is_made_from_the_oldest_of_all_streams_and_only_as_much_as_needed(tmp_path: Path) -> None:
    limit = 1_000_000
    with direct_queue(tmp_path / "queue.db", 62_000, drop_beyond_bytes=limit) as queue:
        for number in range(60):
            queue.append(os.urandom(20_000).hex(), at_ms=number, key=(KEY, OTHER)[number % 2])
        assert 0.9 * limit < queue.writer.size_bytes <= limit
        left = [chunk for key in (KEY, OTHER) for chunk in queue.reader.chunks(queue.stream(key).fresh.id, -1, 10**9)]
        dropped = queue.stream().books.dropped, queue.stream(OTHER).books.dropped
        assert abs(dropped[0] - dropped[1]) <= 1  # the oldest, and so from both in turn
        assert len(left) == 60 - sum(dropped)
        assert queue.reader.dropped() == {1: {"max_size": dropped[0]}, 2: {"max_size": dropped[1]}}
        assert queue.reader.audit() == []


def test_many_small_chunks_of_many_streams_make_room_quickly(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db", 62_000, drop_beyond_bytes=4_000_000) as queue:
        keys = [StreamKey(number, "t") for number in range(1, 301)]
        for at_ms in range(20):
            for key in keys:
                block = Block(b"x" * 300, 1)
                queue.submit(Append(queue.stream(key), [block], at_ms))
        assert queue.append(*[os.urandom(20_000).hex() for _ in range(70)], at_ms=99) is None
        assert queue.writer.size_bytes <= 4_000_000
        assert queue.stream().books.dropped == 0
        assert queue.reader.audit() == []


def test_what_a_policy_dropped_is_not_delivered_a_second_time_in_the_books(queue: DirectQueue) -> None:
    queue.append("1", at_ms=1)
    queue.append("2", at_ms=5)
    queue.do(Expire(3))
    queue.acknowledge(1)
    assert queue.stream().books == Books(accepted=2, delivered=1, dropped=1)


def test_the_audit_finds_a_row_that_went_missing(queue: DirectQueue) -> None:
    queue.append("1", "2")
    assert queue.writer._connection is not None
    with sqlite3.connect(queue.path) as vandal:
        vandal.execute("DELETE FROM chunk")
    assert queue.reader.audit() == ["stream 1: 0 fresh events in the queue, 2 in the books"]
    with sqlite3.connect(queue.path) as vandal:
        vandal.execute("UPDATE lane SET events = 0")
    assert "do not balance" in queue.reader.audit()[0]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db"):
        pass
    with sqlite3.connect(tmp_path / "queue.db") as future:
        future.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('queue', 'm999_better', '2099')"
        )
    with pytest.raises(StartError, match=r"written by a newer sidecar \(schema m999_better\); install that version"):
        DirectQueue(tmp_path / "queue.db")


def test_something_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(b"this is not a database" * 1000)

    async def open_it() -> None:
        Queue(tmp_path / "queue.db", durability="full", chunk_bytes=1000, capacity=ENOUGH).open()

    with pytest.raises(StartError, match=r"queue\.db: file is not a database"):
        asyncio.run(open_it())


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "queue.db") as foreign:
        foreign.execute("CREATE TABLE something (else_ TEXT)")
    with pytest.raises(StartError, match="no queue of a sidecar"):
        DirectQueue(tmp_path / "queue.db")


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue.db").symlink_to(tmp_path / "elsewhere")

    async def open_it() -> None:
        Queue(tmp_path / "queue.db", durability="full", chunk_bytes=1000, capacity=ENOUGH).open()

    with pytest.raises(StartError, match=r"queue\.db: Too many levels of symbolic links"):
        asyncio.run(open_it())
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_owner_is_told_who_holds_the_state(tmp_path: Path) -> None:
    lock = StateLock(tmp_path).acquire()
    with pytest.raises(StartError, match=f"in use by process {os.getpid()}"):
        StateLock(tmp_path).acquire()
    lock.release()
    StateLock(tmp_path).acquire().release()


def test_a_full_disk_refuses_and_loses_nothing(queue: DirectQueue) -> None:
    queue.append("1")
    connection = queue.writer._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    error = queue.append(os.urandom(100_000).hex())
    assert "full" in str(error)
    assert queue.writer.broken
    assert queue.waiting() == ["1"]
    assert queue.stream().books == Books(accepted=1, queued=1)
    assert queue.acknowledge(0) is None  # what frees space still works
    connection.execute("PRAGMA max_page_count = 1000000")
    assert queue.append("2") is None
    assert queue.writer.broken is None
    assert queue.reader.audit() == []


def test_a_small_event_does_not_overtake_a_large_one_of_its_order_on_a_full_disk(queue: DirectQueue) -> None:
    queue.append("1")
    connection = queue.writer._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    order, another = Order(), Order()
    large = f'"{os.urandom(100_000).hex()}"'
    assert "full" in str(queue.append(large, order=order))
    assert "full" in str(queue.append("2", order=order))
    assert queue.append("3", order=another) is None
    assert queue.append("4") is None
    connection.execute("PRAGMA max_page_count = 1000000")
    assert "full" in str(queue.append("2", order=order)), "it was handed over before the client knew"
    order.error = None
    assert queue.append(large, order=order) is None
    assert queue.append("2", order=order) is None
    assert queue.waiting() == ["1", "3", "4", large, "2"]


def test_in_one_commit_too_nothing_overtakes_what_failed(queue: DirectQueue) -> None:
    outcome: list[Exception | None] = []
    hold, settled = threading.Event(), threading.Semaphore(0)

    def settle(error: Exception | None) -> None:
        outcome.append(error)
        settled.release()

    class Wait(Ping, frozen=True):
        def apply(self, _: Any) -> None:
            hold.wait(10)

    order = Order()
    bad = Block("no bytes", 1)  # type: ignore[arg-type]
    queue.submit(Wait(), settle)
    for block, each in ((bad, order), (Block(b"2", 1), order), (Block(b"3", 1), Order()), (Block(b"4", 1), None)):
        queue.submit(Append(queue.stream(), [block], 0), settle, each)
    hold.set()
    for _ in range(5):
        assert settled.acquire(timeout=10)
    assert [error is None for error in outcome] == [True, False, False, True, True]
    assert outcome[2] is outcome[1] is order.error
    assert queue.waiting() == ["3", "4"]


def test_after_a_failed_write_the_connection_is_opened_anew(queue: DirectQueue) -> None:
    queue.append("1")
    poisoned = queue.writer._connection
    assert poisoned is not None
    poisoned.close()
    assert "closed" in str(queue.append("lost"))
    assert queue.writer._connection is not poisoned
    assert queue.append("2") is None
    assert queue.waiting() == ["1", "2"]
    assert queue.stream().books == Books(accepted=2, queued=2)


def test_one_bad_operation_cannot_fail_another(queue: DirectQueue) -> None:
    outcome: dict[str, Any] = {}
    hold, settled = threading.Event(), threading.Semaphore(0)

    def settle(name: str) -> Any:
        def note(error: Exception | None) -> None:
            outcome[name] = error
            settled.release()

        return note

    class Bad:
        def apply(self, tx: Any) -> None:
            raise OverflowError("on purpose")

    queue.submit(Ping(), waits_for(hold))
    queue.submit(Append(queue.stream(), [Block(b"1", 1)], 0), settle("first"))
    queue.submit(Bad(), settle("bad"))
    queue.submit(Append(queue.stream(), [Block(b"2", 1)], 0), settle("second"))
    hold.set()
    for _ in range(3):
        assert settled.acquire(timeout=5)
    assert (outcome["first"], outcome["second"]) == (None, None)
    assert isinstance(outcome["bad"], OverflowError)
    assert queue.waiting() == ["1", "2"]


def test_what_a_token_has_spent_is_remembered(queue: DirectQueue) -> None:
    queue.do(SaveQuotas({"digest": b"12.5", "data_id 1": b"5"}, "boot"))
    queue.do(SaveQuotas({"digest": b"13.5"}, "boot"))
    assert queue.reader.quotas() == {"digest": ("boot", b"13.5"), "data_id 1": ("boot", b"5")}


def test_pages_are_given_back_to_the_file_system(queue: DirectQueue) -> None:
    before = queue.writer.size_bytes
    queue.append(os.urandom(500_000).hex())
    queue.acknowledge(0)
    assert queue.writer.size_bytes < before + 100_000
    queue.do(tidy())
    connection = queue.writer._connection
    assert connection is not None
    assert connection.execute("PRAGMA page_count").fetchone()[0] * 8192 < before + 100_000


def steps_to_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many thousand steps SQLite's machine makes to open the queue."""
    steps = 0
    connect = schema._connect

    def counting(uri: str) -> sqlite3.Connection:
        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection = connect(uri)
        connection.set_progress_handler(count, 10)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(schema, "_connect", counting)
        with direct_queue(path):
            pass
    return steps


def test_opening_costs_the_same_whatever_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.db"
    with direct_queue(path, chunk_bytes=10) as queue:
        queue.append("1")
    few = steps_to_open(path, monkeypatch)
    with direct_queue(path, chunk_bytes=10) as queue:
        blocks = [Block(b"x" * 10, 1)] * 20_000
        queue.do(Append(queue.stream(), blocks, 0))
    many = steps_to_open(path, monkeypatch)
    assert many <= few + 5


@given(st.binary(max_size=5000))
def test_the_codec_gives_back_what_it_took(body: bytes) -> None:
    codec = Codec()
    number, stored = codec.pack(body)
    assert codec.unpack(number, stored, len(body)) == body
    assert len(stored) <= len(body) + 4


def test_compression_is_used_where_it_pays_and_damage_is_noticed() -> None:
    codec = Codec()
    number, stored = codec.pack(b"0123456789" * 100)
    assert number == ZSTD
    assert codec.pack(os.urandom(1000))[0] == codec.pack(b"short")[0] == CHECKED
    for damaged in (stored[:-1], b"\x00" + stored[1:], stored[:-1] + bytes([stored[-1] ^ 1]), b""):
        with pytest.raises(ValueError, match=r"."):
            codec.unpack(number, damaged, 1000)
    assert codec.unpack(RAW, b"short", 5) == b"short"
    for number, damaged, size in ((RAW, b"short", 6), (7, b"short", 5), (CHECKED, b"", 0), (CHECKED, b"abc", 0)):
        with pytest.raises(ValueError, match=r"expected 6|number 7|checksum is wrong"):
            codec.unpack(number, damaged, size)


@given(st.binary(max_size=600), st.data())
def test_no_bit_of_what_is_stored_can_change_what_is_read(body: bytes, data: st.DataObject) -> None:
    codec = Codec()
    number, stored = codec.pack(body)
    bit = data.draw(st.integers(0, 8 * len(stored) - 1))
    changed = bytearray(stored)
    changed[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(ValueError):  # or it is a bit of a frame's head that says nothing
        assert codec.unpack(number, bytes(changed), len(body)) == body


class Model:
    """The queue as two lists and four numbers."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str, int]] = []  # seq, event, accepted_ms
        self.delivered = self.dropped = self.accepted = self.seq = 0


OPERATIONS = st.lists(
    st.tuples(st.just("append"), st.integers(1, 4))
    | st.tuples(st.just("acknowledge"), st.integers(0, 12))
    | st.tuples(st.just("expire"), st.integers(0, 20))
    | st.tuples(st.just("reopen"), st.just(0)),
    max_size=20,
)


@settings(max_examples=60)
@given(OPERATIONS)
def test_the_queue_behaves_like_its_model(tmp_path_factory: pytest.TempPathFactory, operations: list[Any]) -> None:
    path = tmp_path_factory.mktemp("model") / "queue.db"
    model, queue = Model(), DirectQueue(path)
    try:
        for clock_ms, (name, number) in enumerate(operations):
            if name == "append":
                events = [f"{clock_ms}.{n}" for n in range(number)]
                assert queue.append(*events, at_ms=clock_ms) is None
                model.waiting += [(model.seq, event, clock_ms) for event in events]
                model.accepted += number
                model.seq += 1
            elif name == "acknowledge":
                queue.acknowledge(number)
                left = [row for row in model.waiting if row[0] > number]
                model.delivered += len(model.waiting) - len(left)
                model.waiting = left
            elif name == "expire":
                assert queue.do(Expire(number)) is None
                left = [row for row in model.waiting if row[2] >= number]
                model.dropped += len(model.waiting) - len(left)
                model.waiting = left
            else:
                queue.close()
                queue = DirectQueue(path)
            assert queue.waiting() == [event for _, event, _ in model.waiting]
            expected = Books(
                accepted=model.accepted, queued=len(model.waiting), delivered=model.delivered, dropped=model.dropped
            )
            assert queue.stream().books == expected
            assert expected.balanced
            assert queue.reader.audit() == []
    finally:
        queue.close()


def test_the_queue_on_the_loop(tmp_path: Path) -> None:
    async def use() -> None:
        queue = Queue(tmp_path / "queue.db", durability="full", chunk_bytes=1000, capacity=ENOUGH)
        queue.open()
        grown: list[str] = []
        queue.on_commit = lambda lanes: grown.extend(f"{lane.stream.key.data_id} {lane.name}" for lane in lanes)
        stream = queue.stream(KEY)
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        queue.append(stream, [Block(b"1", 1)], 1, 0, done.set_result)
        assert queue.pending_bytes == 1
        assert await done is None
        assert (queue.pending_bytes, grown) == (0, ["1500006 fresh"])
        assert [chunk.body for chunk in await queue.read(stream.fresh, -1, 100)] == [b"1"]
        assert list((await queue.facts()).oldest_age_s) == [stream.fresh.id]
        await queue.commit(Acknowledge(stream.fresh, 0, 0, keep=False))
        assert ((await queue.facts()).oldest_age_s, await queue.audit(), queue.books().balanced) == ({}, [], True)
        await queue.close(5)

    asyncio.run(use())


def test_streams_are_bounded(tmp_path: Path) -> None:
    async def use() -> None:
        queue = Queue(tmp_path / "queue.db", durability="full", chunk_bytes=1000, capacity=ENOUGH)
        queue.open()
        for number in range(1, 1001):
            queue.stream(StreamKey(number, "t"))
        with pytest.raises(Unavailable, match="already 1000 streams"):
            queue.stream(StreamKey(5000, "t"))
        assert queue.stream(StreamKey(5001, "t"), configured=True).key.data_id == 5001
        await queue.close(5)

    asyncio.run(use())


def test_a_start_on_a_full_disk_says_so_and_speaks_of_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(connection: sqlite3.Connection, _: Path) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE stream (id)")

    monkeypatch.setattr(schema, "_migrate", full)
    with pytest.raises(StartError, match=r"the disk is full \(\d+ bytes are free\)") as caught:
        asyncio.run(_open(tmp_path / "queue.db"))
    assert "damaged" not in str(caught.value)


async def _open(path: Path) -> None:
    Queue(path, durability="full", chunk_bytes=1000, capacity=ENOUGH).open()


def test_a_state_directory_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StartError, match="No space left on device"):
        StateLock(tmp_path / "state").acquire()


def test_a_commit_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    """There is one for each batch and each answer: a circle of objects at each would be collected all the time."""

    class Probe:
        def apply(self, _: Any) -> int:
            return 7

    async def scenario() -> None:
        queue = Queue(tmp_path / "queue.db", durability="full", chunk_bytes=1000, capacity=ENOUGH)
        queue.open()
        probe = Probe()
        seen = weakref.ref(probe)
        gc.disable()
        try:
            assert await queue.commit(probe) == 7
            del probe
            for _ in range(3):  # the writer's thread holds its last group until the next one
                await queue.commit(Ping())
            assert seen() is None
        finally:
            gc.enable()
            await queue.close(5)

    asyncio.run(scenario())
