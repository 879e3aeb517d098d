"""A row that cannot be read holds nothing up: its bytes are kept, its events counted, and the next rows go on."""

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.errors import Unavailable
from sidecar.model import BEFORE_ALL, Block, Books
from sidecar.queue import Queue, books_on_disk
from sidecar.queue.filters import DeadFilter
from sidecar.queue.lookup import Lookup
from sidecar.queue.operations import Split
from tests.support.queues import ENOUGH, KEY, direct_queue

NOISE = random.Random(7).randbytes(3000).hex().encode()
PLAIN = b'"' + b"a" * 3000 + b'"'


def play(path: Path, scenario: Callable[[Queue], Awaitable[None]]) -> None:
    async def run() -> None:
        queue = Queue(path, durability="full", chunk_bytes=1, room=ENOUGH)
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

    async def append(queue: Queue) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        queue.append(queue.stream(KEY), [Block(body, 2) for body in bodies], 1, 0, done.set_result)
        assert await done is None

    play(path, append)


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
            await queue.acknowledge(lane, chunks[-1].seq, keep=False)
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
        assert await queue.damaged() == {stream.id: 2}
        assert await queue.audit() == []

        with Lookup(path) as lookup:
            (letter,) = lookup.dead(DeadFilter())
            assert lookup.count_dead(DeadFilter(reason="damaged")) == 2
            assert list(lookup.find(lambda _: True, b"")) == []
        assert letter.events == 2
        assert letter.reason.startswith("damaged: ")

        moved = await queue.put_back(DeadFilter(), 0, lambda _, event: event)
        assert (moved.events, moved.unfit) == (0, 2)
        assert (await queue.purge(DeadFilter(), 0)).events == 2
        assert stream.books == Books(accepted=6, delivered=4, dropped=2)
        assert queue.dead_bytes == 0
        assert await queue.damaged() == {}

    play(path, scenario)


def test_what_an_older_version_kept_without_a_checksum_is_set_aside_when_it_is_to_be_split(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db") as queue:
        queue.append("1", "2", "3")
        meddle(queue.path, "UPDATE chunk SET codec = 0, body = ?", b'1,"23')
        assert queue.do(lambda done: Split(queue.stream().fresh, 0, 1, done)) is None
        assert queue.stream().books == Books(accepted=3, dead=3)
        assert queue.reader.audit() == []


def test_damaged_events_go_by_age_like_other_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    fill(path, b"1,2")
    meddle(path, "UPDATE chunk SET body = x'00'")

    async def scenario(queue: Queue) -> None:
        assert await deliver_all(queue) == []
        await queue.tidy(kept_max_age_s=0, dead_max_age_s=-1, dead_max_bytes=10**9, pages=0)
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

    async def scenario() -> None:
        queue = Queue(path, durability="full", chunk_bytes=1, room=ENOUGH)
        queue.open()
        lane = queue.stream(KEY).fresh
        (first,) = await queue.read(lane, BEFORE_ALL, 10**6)
        assert first.body == bodies[0]
        await queue.acknowledge(lane, first.seq, keep=False)
        with pytest.raises(Unavailable, match="malformed"):
            await queue.read(lane, BEFORE_ALL, 10**6)
        assert queue.broken is None  # no other stream has to do with it
        assert queue.stream(KEY).books == Books(accepted=6, queued=4, delivered=2)
        await queue.close(10)

    asyncio.run(scenario())
