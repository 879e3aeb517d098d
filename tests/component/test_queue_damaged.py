"""A row that cannot be read holds nothing up: its bytes are kept, its events counted, and the next rows go on."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import structlog.testing

from sidecar.core.filters import DeadFilter, KeptFilter
from sidecar.core.model import BEFORE_ALL, Block, Books, StreamKey
from sidecar.queue import Queue, books_on_disk
from sidecar.queue.codec import Codec
from sidecar.queue.damage import find_damaged
from sidecar.queue.inspect import Lookup
from sidecar.queue.operations import (
    Acknowledge,
    Bury,
    Expire,
    Ping,
    Purge,
    PutBack,
    Release,
    Replay,
    SetDamagedAside,
    Split,
    Tidy,
    Transaction,
)
from sidecar.queue.schema import is_corrupt
from tests.support.queues import ENOUGH, KEY, damage_pages, direct_queue

NOISE = random.Random(7).randbytes(3000).hex().encode()
PLAIN = b'"' + b"a" * 3000 + b'"'


def play(path: Path, scenario: Callable[[Queue], Awaitable[None]]) -> None:
    async def run() -> None:
        queue = Queue(path, durability="full", chunk_bytes=1, capacity=ENOUGH)
        queue.open()
        try:
            await scenario(queue)
        finally:
            await queue.close(10)

    asyncio.run(run())
    books, wrong = books_on_disk(path)
    assert books.balanced
    assert wrong == []


def fill(path: Path, *bodies: bytes) -> None:
    """Make a chunk of each of `bodies`, of two events."""

    async def scenario(queue: Queue) -> None:
        assert await append(queue, *bodies) is None

    play(path, scenario)


async def append(queue: Queue, *bodies: bytes, due_ms: int | None = None) -> Exception | None:
    done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    queue.append(queue.stream(KEY), [Block(body, 2, due_ms) for body in bodies], 1, 0, done.set_result)
    return await done


def meddle(path: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql, values)
    connection.close()


async def deliver_all(queue: Queue) -> list[bytes]:
    """Read and acknowledge until nothing waits."""
    lane, read = queue.stream(KEY).fresh, []
    while lane.events:
        chunks = await queue.read(lane, BEFORE_ALL, 10**6)
        read += [chunk.body for chunk in chunks]
        if chunks:
            await queue.commit(Acknowledge(lane, chunks[-1].seq, 0, keep=False))
    return read


@pytest.mark.parametrize(
    "change",
    [
        "body = CAST(substr(body, 1, 2) || x'00' || substr(body, 4) AS BLOB)",
        "body = CAST(substr(body, 1, length(body) - 1) AS BLOB)",
        "body = x''",
        "codec = 9",
        "bytes = bytes + 1",
    ],
)
@pytest.mark.parametrize("body", [b"1,2", PLAIN, NOISE], ids=["short", "compressed", "as it is"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_chunk_is_set_aside_and_the_others_go_on(
    tmp_path: Path, body: bytes, number: int, change: str
) -> None:
    path = tmp_path / "queue.db"
    bodies = [b"10,11", b"20,21", b"30,31"]
    bodies[number] = body
    fill(path, *bodies)
    meddle(path, f"UPDATE chunk SET {change} WHERE id IN (SELECT id FROM chunk ORDER BY id LIMIT 1 OFFSET ?)", number)
    if change.startswith("bytes"):  # of the lane too, or the books would not balance for this test's meddling
        meddle(path, "UPDATE lane SET bytes = bytes + 1")

    async def scenario(queue: Queue) -> None:
        stream = queue.stream(KEY)
        assert await deliver_all(queue) == [body for place, body in enumerate(bodies) if place != number]
        assert stream.books == Books(accepted=6, delivered=4, dead=2)
        assert (await queue.facts()).damaged == {stream.id: 2}
        assert await queue.audit() == []

        with Lookup(path) as lookup:
            (letter,) = lookup.dead(DeadFilter())
            assert lookup.count_dead(DeadFilter(reason="damaged")) == 2
            assert list(lookup.find(lambda _: True, b"")) == []
        assert letter.events == 2
        assert letter.reason.startswith("damaged: ")

        moved = await queue.commit(PutBack(DeadFilter(), 0, 0, lambda _, event: event))
        assert (moved.events, moved.unfit) == (0, 2)
        assert (await queue.commit(Purge(DeadFilter(), 0))).events == 2
        assert stream.books == Books(accepted=6, delivered=4, dropped=2)
        assert queue.dead_bytes == 0
        assert (await queue.facts()).damaged == {}

    play(path, scenario)


def test_what_an_older_version_kept_without_a_checksum_is_set_aside_when_it_is_to_be_split(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db") as queue:
        queue.append("1", "2", "3")
        meddle(queue.path, "UPDATE chunk SET codec = 0, body = ?", b'1,"23')
        assert queue.do(Split(queue.stream().fresh, 0, 1)) is None
        assert queue.stream().books == Books(accepted=3, dead=3)
        assert queue.reader.audit() == []


def test_damaged_events_go_by_age_like_other_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    fill(path, b"1,2")
    meddle(path, "UPDATE chunk SET body = x'00'")

    async def scenario(queue: Queue) -> None:
        assert await deliver_all(queue) == []
        await queue.commit(Tidy(queue.before_ms(0), queue.before_ms(-1), 10**9, 0))
        assert queue.stream(KEY).books == Books(accepted=2, dropped=2)
        assert await queue.dropped() == {1: {"dead_max_age": 2}}

    play(path, scenario)


def fill_over_pages(path: Path) -> tuple[list[bytes], bytes]:
    """Store three bodies of many pages each; return them, and the second as it is stored."""
    bodies = [random.Random(number).randbytes(20_000).hex().encode() for number in range(3)]
    fill(path, *bodies)
    with sqlite3.connect(path) as connection:
        (stored,) = connection.execute("SELECT body FROM chunk ORDER BY id LIMIT 1 OFFSET 1").fetchone()
    connection.close()
    return bodies, stored


@pytest.mark.parametrize("seed", range(8))
def test_whatever_bit_of_a_body_is_flipped_the_rows_around_it_are_read(tmp_path: Path, seed: int) -> None:
    """In the file itself, under SQLite."""
    path, chosen = tmp_path / "queue.db", random.Random(seed)
    bodies, stored = fill_over_pages(path)
    whole = bytearray(path.read_bytes())
    part = chosen.randrange(len(stored) // 1000) * 1000
    found = whole.find(stored[part : part + 100])  # not so if a page ends there
    place = (found if found >= 0 else whole.index(stored[:100])) + chosen.randrange(100)
    whole[place] ^= 1 << chosen.randrange(8)
    path.write_bytes(whole)

    async def scenario(queue: Queue) -> None:
        assert await deliver_all(queue) == [bodies[0], bodies[2]]
        assert queue.stream(KEY).books == Books(accepted=6, delivered=4, dead=2)

    play(path, scenario)


def test_a_row_whose_pages_lead_nowhere_takes_no_good_row_with_it(tmp_path: Path) -> None:
    """The number of the next page of a body is damaged: SQLite itself cannot read the row, nor delete it."""
    path = tmp_path / "queue.db"
    bodies, stored = fill_over_pages(path)
    whole = bytearray(path.read_bytes())
    page = next(page for page in range(0, len(whole), 8192) if whole[page + 4 : page + 104] in stored)
    whole[page] ^= 0x40  # the next page's number
    path.write_bytes(whole)

    async def scenario(queue: Queue) -> None:
        stream = queue.stream(KEY)
        assert await deliver_all(queue) == [bodies[0], bodies[2]]
        assert queue.broken is None  # no other stream has to do with it
        assert stream.books == Books(accepted=6, delivered=4, dead=2)
        assert (await queue.commit(Purge(DeadFilter(), 0))).events == 2
        assert await queue.audit() == []
        assert await append(queue, b"1,2") is None
        assert await deliver_all(queue) == [b"1,2"]
        assert stream.drained
        assert await queue.forget({stream: queue.stream(StreamKey(1500006, "other"))}) == []  # its numbers are in use

    play(path, scenario)


@pytest.mark.parametrize("index", [0, 1])
def test_a_full_queue_drops_what_is_readable_around_a_damaged_row(tmp_path: Path, index: int) -> None:
    """Nothing has read the row before, and appends must not fail for it."""
    path = tmp_path / "queue.db"
    fill_over_pages(path)
    damage_pages(path, "chunk", index)
    with direct_queue(path, drop_beyond_bytes=200_000) as queue:
        for _ in range(20):
            assert queue.append(json.dumps("x" + random.Random(1).randbytes(20_000).hex())) is None
        stream = queue.stream()
        assert queue.writer.broken is None
        assert stream.books.accepted == 26
        assert stream.books.dead == 2
        assert stream.books.dropped >= 10
        assert queue.reader.audit() == []
        assert queue.reader.damaged() == {stream.id: 2}


@pytest.mark.parametrize("index", [0, 1])
def test_age_and_cancelling_do_not_stop_at_a_damaged_row(tmp_path: Path, index: int) -> None:
    path = tmp_path / "queue.db"
    fill_over_pages(path)
    damage_pages(path, "chunk", index)
    with direct_queue(path) as queue:
        queue.now_ms = 10**15
        assert queue.do(Expire(10**15)) is None
        assert queue.stream().books == Books(accepted=6, dead=2, dropped=4)
        assert queue.reader.audit() == []


def test_a_damaged_row_among_what_waits_for_its_time_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    bodies = [random.Random(number).randbytes(20_000).hex().encode() for number in range(3)]

    async def defer(queue: Queue) -> None:
        assert await append(queue, *bodies, due_ms=1000) is None

    play(path, defer)
    damage_pages(path, "scheduled", 1)
    with direct_queue(path) as queue:
        assert queue.do(Release(1000, 0)) is None
        assert queue.stream().books == Books(accepted=6, queued=4, dead=2)
        assert queue.reader.next_due_ms() is None
        assert queue.waiting() == [bodies[0].decode(), bodies[2].decode()]
        assert queue.reader.audit() == []


def test_a_damaged_kept_delivery_is_forgotten_and_a_damaged_dead_letter_dropped(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    events = [json.dumps(random.Random(number).randbytes(20_000).hex()) for number in range(6)]
    with direct_queue(path) as queue:
        for event in events[:3]:
            queue.append(event)
        queue.acknowledge(2, keep=True)
        for seq, event in enumerate(events[3:], start=3):
            queue.append(event)
            assert queue.do(Bury(queue.stream().fresh, seq, "bad", 400, 1, 0, 0)) is None
    damage_pages(path, "kept", 1)
    damage_pages(path, "dead", 1)

    async def scenario(queue: Queue) -> None:
        stream = queue.stream(KEY)
        assert (await queue.commit(Replay(KeptFilter(), None, 0, 0))).events == 2
        assert (await queue.commit(PutBack(DeadFilter(), 0, 0, lambda _, event: event))).events == 2
        assert stream.books == Books(accepted=8, delivered=3, queued=4, dropped=1)
        assert await queue.dropped() == {stream.id: {"damaged": 1}}
        assert queue.dead_bytes == 0
        await queue.commit(Tidy(queue.before_ms(-1), queue.before_ms(-1), 0, 100))
        assert await queue.audit() == []
        with Lookup(path) as lookup:
            assert list(lookup.dead(DeadFilter())) == []
            assert lookup.count_kept(KeptFilter()) == 0

    play(path, scenario)


def test_a_damaged_event_is_split_off_in_front_of_a_damaged_row(tmp_path: Path) -> None:
    """The number in front of a chunk may be that of a row which cannot be deleted."""
    path = tmp_path / "queue.db"
    with direct_queue(path, chunk_bytes=1) as queue:
        queue.append("1")
        queue.append("2", "3")
        meddle(path, "UPDATE chunk SET body = x'00' WHERE events = 1")
        lane = queue.stream().fresh
        (row,) = find_damaged(sqlite3.connect(path).execute, Codec(), 10)
        assert queue.do(SetDamagedAside([row, row], 0)) is None
        assert queue.do(Split(lane, 1, 1)) is None
        assert queue.waiting() == ["2", "3"]
        assert queue.reader.audit() == []
        queue.acknowledge(-1)
        assert queue.waiting() == ["3"]
        queue.acknowledge(1)
        assert queue.stream().books == Books(accepted=3, delivered=2, dead=1)


def test_where_nothing_can_be_appended_any_more_that_is_said_until_it_can(tmp_path: Path) -> None:
    """A page of the table itself is damaged, at its end: what waits can be sent, but no new row finds its place."""
    path = tmp_path / "queue.db"
    fill(path, *[b"%d,2" % number for number in range(2000)])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = bytearray(path.read_bytes())
    page = whole.rindex(b"1999,2") // 8192 * 8192
    good = whole[page]
    whole[page] = 0
    path.write_bytes(whole)
    with direct_queue(path) as queue, structlog.testing.capture_logs() as logs:
        assert is_corrupt(queue.append("1") or ValueError())
        assert queue.do(Ping()) is None
        assert queue.writer.broken == "database disk image is malformed"
        assert queue.append("1") is not None
        with path.open("r+b") as file:
            file.seek(page)
            file.write(bytes([good]))
    assert [entry["event"] for entry in logs].count("commit failed: nothing is acknowledged until one succeeds") == 1


def test_a_search_for_damage_that_finds_nothing_is_not_repeated_at_once(tmp_path: Path) -> None:
    class Stuck(msgspec.Struct, frozen=True):
        def apply(self, tx: Transaction) -> None:
            raise corrupt

    path = tmp_path / "queue.db"
    corrupt = sqlite3.DatabaseError("database disk image is malformed")
    corrupt.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with direct_queue(path) as queue, structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert queue.do(Stuck()) is corrupt
        assert queue.append("1") is None
    assert [entry["event"] for entry in logs].count("queue.db is damaged, but every row is readable") == 1
