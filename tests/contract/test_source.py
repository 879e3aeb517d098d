"""The fake source of the forwarder's tests and the queue itself keep the same contract."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.config import Proxy
from sidecar.core.model import BEFORE_ALL, Block, StreamKey
from sidecar.forward import token_digest
from sidecar.forward.source import LaneSource
from sidecar.queue import Queue
from sidecar.service.lane_source import QueueLaneSource
from sidecar.service.quotas import Quotas
from tests.support.fakes import FakeSource
from tests.support.queues import ENOUGH

KEY = StreamKey(1, "token")
Add = Callable[..., Awaitable[None]]
Scenario = Callable[[LaneSource, Add], Awaitable[None]]


async def _with_fake(_: Path, scenario: Scenario) -> None:
    source = FakeSource()

    async def add(body: bytes, events: int = 1) -> None:
        source.add(body, events)

    await scenario(source, add)


async def _with_queue(path: Path, scenario: Scenario) -> None:
    queue = Queue(path, durability="full", chunk_bytes=1, capacity=ENOUGH)
    queue.open()
    stream = queue.stream(KEY)

    async def add(body: bytes, events: int = 1) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        queue.append(stream, [Block(body, events)], len(body), 0, done.set_result)
        assert await done is None

    await scenario(QueueLaneSource(queue, stream.fresh, KEY, Quotas(Proxy(), queue), keep=False), add)
    await queue.close(5)


@pytest.fixture(params=[_with_fake, _with_queue], ids=["fake", "queue"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    return lambda scenario: asyncio.run(request.param(tmp_path / "queue.db", scenario))


async def bodies(source: LaneSource) -> list[bytes]:
    return [chunk.body for chunk in await source.read(BEFORE_ALL, 1000)]


def test_chunks_come_in_order_and_within_the_size(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: LaneSource, add: Add) -> None:
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


def test_acknowledging_takes_away(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: LaneSource, add: Add) -> None:
        assert source.queued == 0
        for letter in (b"a", b"b", b"c"):
            await add(letter)
        assert source.queued == 3
        await source.acknowledge(1)
        assert source.queued == 1
        assert [c.body for c in await source.read(BEFORE_ALL, 100)] == [b"c"]
        await source.acknowledge(1)
        assert source.queued == 1

    play(scenario)


def test_the_head_is_cut_in_two_again_and_again_and_its_bad_event_buried(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: LaneSource, add: Add) -> None:
        await add(b'1,"2,]",[3,3]', 3)
        await add(b"4")
        await source.split(0, 2)
        assert await bodies(source) == [b'1,"2,]"', b"[3,3]", b"4"]
        await source.split(-1, 1)
        assert await bodies(source) == [b"1", b'"2,]"', b"[3,3]", b"4"]
        assert [chunk.seq for chunk in await source.read(BEFORE_ALL, 100)] == [-2, -1, 0, 1]
        await source.acknowledge(-2)
        await source.bury(-1, reason="bad", status=400, attempts=2, first_ms=5)
        assert await bodies(source) == [b"[3,3]", b"4"]
        assert source.queued == 2

    play(scenario)


def test_what_is_set_aside_is_no_longer_here(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: LaneSource, add: Add) -> None:
        for letter in (b"1", b"2", b"3"):
            await add(letter)
        await source.set_aside(1)
        assert await bodies(source) == [b"3"]
        assert source.queued == 1

    play(scenario)


def test_spending_is_taken(play: Callable[[Scenario], None]) -> None:
    async def scenario(source: LaneSource, _: Add) -> None:
        await source.save_quota(b"12.5", b"3")

    play(scenario)


def test_what_is_spent_is_written_down_when_it_changes(tmp_path: Path) -> None:
    async def run() -> None:
        queue = Queue(tmp_path / "queue.db", durability="full", chunk_bytes=1, capacity=ENOUGH)
        queue.open()
        lane, quotas = queue.stream(KEY).fresh, Quotas(Proxy(), queue)
        source, other = (QueueLaneSource(queue, lane, KEY, quotas, keep=False) for _ in range(2))
        for one, token, data_id in ((source, b"1", b"5"), (other, b"2", b"5"), (source, b"1", b"6")):
            await one.save_quota(token, data_id)
            found = {name: state for name, (_, state) in (await queue.quotas()).items()}
            assert found == {token_digest(KEY): token, "data_id 1": data_id}
        await queue.close(5)
        await source.save_quota(b"1", b"6")  # the same: the queue need not even be there

    asyncio.run(run())
