"""The fake source of the forwarder's tests and the queue itself keep the same contract."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.dispatch import _StreamSource
from sidecar.forward.forwarder import Source
from sidecar.model import Block, Books, StreamKey
from sidecar.queue import Queue
from tests.support.fakes import FakeSource

Add = Callable[[bytes], Awaitable[None]]
Scenario = Callable[[Source, Add], Awaitable[None]]


async def _with_fake(_: Path, scenario: Scenario) -> None:
    source = FakeSource()

    async def add(body: bytes) -> None:
        source.add(body)

    await scenario(source, add)


async def _with_queue(path: Path, scenario: Scenario) -> None:
    queue = Queue(path, durability="full", chunk_bytes=1)
    queue.open()
    stream = queue.stream(StreamKey(1, "token"))

    async def add(body: bytes) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        queue.append(stream, [Block(body, 1)], len(body), 0, done.set_result)
        assert await done is None

    await scenario(_StreamSource(queue, stream, keep=False), add)
    await queue.close(5)


@pytest.fixture(params=[_with_fake, _with_queue], ids=["fake", "queue"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    return lambda scenario: asyncio.run(request.param(tmp_path / "queue.db", scenario))


def test_chunks_come_in_order_and_within_the_budget(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: Source, add: Add) -> None:
        for letter in (b"a", b"b", b"c"):
            await add(letter * 10)
        assert [(c.seq, c.body, c.events) for c in await source.read(-1, 21)] == [
            (0, b"a" * 10, 1),
            (1, b"b" * 10, 1),
        ]
        assert [c.seq for c in await source.read(-1, 20)] == [0]
        assert [c.seq for c in await source.read(-1, 1)] == [0]
        assert [c.seq for c in await source.read(1, 100)] == [2]
        assert list(await source.read(2, 100)) == []

    play(scenario)


def test_acknowledging_moves_the_books(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: Source, add: Add) -> None:
        assert source.books == Books()
        for letter in (b"a", b"b", b"c"):
            await add(letter)
        assert source.books == Books(accepted=3, queued=3)
        await source.acknowledge(1)
        assert source.books == Books(accepted=3, queued=1, delivered=2)
        assert [c.body for c in await source.read(-1, 100)] == [b"c"]
        await source.acknowledge(1)
        assert source.books == Books(accepted=3, queued=1, delivered=2)

    play(scenario)


def test_spending_is_taken(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: Source, _: Add) -> None:
        await source.spend("digest", 12.5)

    play(scenario)
