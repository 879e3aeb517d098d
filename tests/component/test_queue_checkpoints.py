"""Events and the place in their file are committed together, or not at all."""

import asyncio
import itertools
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.core.errors import Stale, Unavailable
from sidecar.core.model import Advance, Block, Capacity, Checkpoint, Loss, LossReason, StreamKey
from sidecar.queue import Queue
from tests.support.queues import direct_queue

KEY = StreamKey(1, "t")
POINT = Checkpoint(
    tail="app", number=1, path="/a\udcff.log", at="/a.log.1", device=2**64 - 1, inode=2**63, head=b"h", head_bytes=5,
    offset=5, mark=b"\0m", inside_line=True, finished=False, seen_ms=7,
    trail=b"t", boot="b", state=b"s",
)  # fmt: skip


def moved(offset: int) -> Checkpoint:
    return msgspec.structs.replace(POINT, offset=offset)


async def opened(path: Path) -> Queue:
    queue = Queue(path, durability="full", chunk_bytes=1000, capacity=Capacity(10**9, "max_size"))
    queue.open()
    return queue


async def append(queue: Queue, body: bytes, advance: Advance | None) -> Exception | None:
    future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    queue.append(queue.stream(KEY), [Block(body, 1)], len(body), 1, future.set_result, (), advance)
    return await future


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        queue = await opened(tmp_path / "q.db")
        assert await queue.checkpoints.load("app") is None
        await queue.checkpoints.save("app", 99, [Advance(checkpoint=POINT, before=None)])
        await queue.close(5)
        queue = await opened(tmp_path / "q.db")
        assert await queue.checkpoints.load("app") == (99, [POINT])
        assert await queue.checkpoints.load("other") is None
        await queue.checkpoints.save("app", 100, [], forget=[1])
        assert await queue.checkpoints.load("app") == (99, [])
        await queue.close(5)

    asyncio.run(scenario())


def test_events_and_their_place_go_together(tmp_path: Path) -> None:
    async def scenario() -> None:
        queue = await opened(tmp_path / "q.db")
        await queue.checkpoints.save("app", 1, [])
        assert await append(queue, b'{"a":1}', Advance(checkpoint=moved(10), before=None)) is None
        assert await append(queue, b'{"a":2}', Advance(checkpoint=moved(20), before=10)) is None
        stale = await append(queue, b'{"a":3}', Advance(checkpoint=moved(40), before=30))
        assert isinstance(stale, Stale)
        assert stale.checkpoint == moved(20)
        assert isinstance(await append(queue, b'{"a":4}', Advance(checkpoint=moved(9), before=None)), Stale)
        gone = msgspec.structs.replace(POINT, number=5)
        missing = await append(queue, b'{"a":5}', Advance(checkpoint=gone, before=3))
        assert isinstance(missing, Stale)
        assert missing.checkpoint is None
        assert queue.books().accepted == 2
        assert queue.broken is None
        found = await queue.checkpoints.load("app")
        assert found is not None
        assert found[1] == [moved(20)]
        assert await queue.audit() == []
        await queue.close(5)

    asyncio.run(scenario())


def test_one_that_is_stale_fails_no_other_of_its_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        queue = await opened(tmp_path / "q.db")
        await queue.checkpoints.save("app", 1, [])
        advances = [Advance(checkpoint=moved(10), before=None), Advance(checkpoint=moved(99), before=50), None]
        results = await asyncio.gather(*(append(queue, b"{}", advance) for advance in advances))
        assert [type(result) for result in results] == [type(None), Stale, type(None)]
        assert queue.books().accepted == 2
        await queue.close(5)

    asyncio.run(scenario())


def test_a_commit_that_fails_moves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        queue = await opened(tmp_path / "q.db")
        await queue.checkpoints.save("app", 1, [])

        def fail(*_: Any) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patched:
            patched.setattr("sidecar.queue.writer.save_stream", fail)
            assert isinstance(await append(queue, b"{}", Advance(checkpoint=moved(10), before=None)), Unavailable)
        assert await append(queue, b"{}", Advance(checkpoint=moved(10), before=None)) is None
        assert queue.books().accepted == 1
        await queue.close(5)

    asyncio.run(scenario())


def test_receipts_are_kept_up_to_a_thousand(tmp_path: Path) -> None:
    async def scenario() -> None:
        queue = await opened(tmp_path / "q.db")
        losses = [
            Loss(
                tail="app",
                path="/x\udcff",
                offset=n,
                at_most=None if n % 2 else n,
                reason=reason,
                why="gone",
                since_ms=1,
                found_ms=n,
            )
            for n, reason in zip(range(1100), itertools.cycle(LossReason), strict=False)
        ]
        await queue.checkpoints.save("app", 1, [Advance(checkpoint=POINT, before=None, losses=tuple(losses))])
        assert await queue.checkpoints.losses() == losses[100:]
        assert await queue.checkpoints.losses(2) == losses[-2:]
        with pytest.raises(Stale):
            await queue.checkpoints.save("app", 1, [Advance(checkpoint=POINT, before=3, losses=tuple(losses))])
        assert len(await queue.checkpoints.losses()) == 1000
        await queue.close(5)

    asyncio.run(scenario())


def test_receipts_of_older_versions_have_the_reason_that_their_words_say(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    words = {
        "the file was truncated; what was written after it was copied to /x.1": LossReason.COPIED,
        "skipped by `sidecar tails skip`": LossReason.SKIPPED,
        "the file is gone, and no copy of it was found": LossReason.UNREAD,
    }
    with direct_queue(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE loss DROP COLUMN reason")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm008_loss_reason'")
        connection.executemany(
            "INSERT INTO loss (tail, path, offset, why, since_ms, found_ms) VALUES ('app', x'2f78', 0, ?, 1, 2)",
            [(why,) for why in words],
        )
    connection.close()
    with direct_queue(path) as queue:
        assert {loss.why: loss.reason for loss in queue.reader.losses(10)} == words


def test_checkpoints_of_older_versions_know_no_boot_no_trail_and_no_state(tmp_path: Path) -> None:
    path = tmp_path / "q.db"

    async def saved(before: int | None, point: Checkpoint) -> tuple[int, list[Checkpoint]] | None:
        queue = await opened(path)
        found = await queue.checkpoints.load("app")
        await queue.checkpoints.save("app", 1, [Advance(checkpoint=point, before=before)])
        await queue.close(5)
        return found

    asyncio.run(saved(None, POINT))
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE checkpoint DROP COLUMN trail")
        connection.execute("ALTER TABLE checkpoint DROP COLUMN boot")
        connection.execute("ALTER TABLE checkpoint DROP COLUMN state")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name IN ('m010_power_cuts', 'm011_throttle')")
    connection.close()
    old = msgspec.structs.replace(POINT, trail=b"", boot="", state=b"")
    assert asyncio.run(saved(5, moved(6))) == (1, [old])
    assert asyncio.run(saved(6, moved(7))) == (1, [moved(6)])
