"""Drained streams are forgotten, and their counters go on in those of another one: totals never fall."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config, Proxy
from sidecar.config.model import DataId, Secret, Stream, Url
from sidecar.core.hops import Hops
from sidecar.core.model import FORGOTTEN, Block, Books, StreamKey
from sidecar.host.clock import wall_ms
from sidecar.host.scheduler import Schedule
from sidecar.host.systemd import Notifier
from sidecar.intake.router import Router
from sidecar.queue import Acknowledge, Bury, Expire, Queue, QueueStream, books_on_disk
from sidecar.service import maintenance as maintenance_module
from sidecar.service.forwarders import Forwarders
from sidecar.service.maintenance import Maintenance
from tests.support.fakes import Clock
from tests.support.queues import ENOUGH

CONFIGURED = StreamKey(7, "new", "event")


class Parts:
    """A real queue with the jobs that forget, on a clock that stands still."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        stream = Stream(data_id=DataId(7), access_token=Secret("new"), kind="event")
        self.config = Config(state=directory, proxy=Proxy(urls=(Url("http://127.0.0.1:1"),)), streams={"app": stream})
        self.clock = clock
        self.path = directory / "queue.db"

    async def __aenter__(self) -> "Parts":
        self.queue = Queue(self.path, durability="full", chunk_bytes=1000, capacity=ENOUGH)
        self.queue.open()
        self.routes = Router(self.config)
        self.forwarders = Forwarders(self.config, self.routes, self.queue, Schedule(), Hops("0" * 16))
        self.maintenance = Maintenance(self.config, self.routes, self.queue, self.forwarders, Notifier({}))
        self.gone: list[QueueStream] = []
        self.maintenance.on_forgotten = self.gone.extend
        self.queue.stream(CONFIGURED, configured=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.queue.close(5)
        books, wrong = books_on_disk(self.path)
        assert books.balanced
        assert wrong == []

    async def accept(self, key: StreamKey, events: int = 1) -> QueueStream:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settled(error: Exception | None) -> None:
            assert error is None
            done.set_result(None)

        stream = self.queue.stream(key)
        self.queue.append(stream, [Block(b"1" + b",1" * (events - 1), events)], 2 * events, 1000, settled)
        await done
        return stream

    async def deliver(self, key: StreamKey, events: int = 1) -> QueueStream:
        stream = await self.accept(key, events)
        await self.queue.commit(Acknowledge(stream.fresh, 1 << 30, wall_ms(), keep=False))
        return stream

    async def tidy_after(self, seconds: float) -> None:
        self.clock.now_s += seconds
        await self.maintenance.tidy()

    def known(self) -> set[StreamKey]:
        return {stream.key for stream in self.queue.streams()}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    clock = Clock()
    monkeypatch.setattr(maintenance_module, "boot_clock", clock)
    monkeypatch.setattr(maintenance_module.time, "time", lambda: 2.0)
    return Parts(tmp_path, clock)


def play(parts: Parts, scenario: Any) -> None:
    async def run() -> None:
        async with parts:
            await scenario()

    asyncio.run(run())


def test_a_rotated_token_leaves_no_ghost_and_its_counters_go_on_under_the_name(parts: Parts) -> None:
    async def scenario() -> None:
        await parts.deliver(StreamKey(7, "old"), 3)
        await parts.deliver(CONFIGURED, 2)
        await parts.tidy_after(0)
        assert StreamKey(7, "old") in parts.known()
        await parts.tidy_after(601)
        assert parts.known() == {CONFIGURED}
        assert parts.queue.stream(CONFIGURED).books == Books(accepted=5, delivered=5)
        assert [stream.key.token for stream in parts.gone] == ["old"]

    play(parts, scenario)


def test_the_books_of_a_data_id_that_is_gone_altogether_are_kept_together(parts: Parts) -> None:
    async def scenario() -> None:
        for data_id in range(20, 30):
            await parts.deliver(StreamKey(data_id, "token"), data_id)
        total = parts.queue.books()
        await parts.tidy_after(0)
        await parts.tidy_after(601)
        assert parts.known() == {CONFIGURED, FORGOTTEN}
        assert parts.queue.books() == total
        await parts.deliver(StreamKey(20, "token"))  # it comes back
        assert parts.queue.books().accepted == total.accepted + 1

    play(parts, scenario)


def test_what_waits_is_dead_or_was_used_lately_is_not_forgotten(parts: Parts) -> None:
    async def scenario() -> None:
        await parts.accept(StreamKey(20, "waits"))
        dead = await parts.accept(StreamKey(21, "dead"))
        await parts.queue.commit(Bury(dead.fresh, 0, "bad", 400, 1, 0, wall_ms()))
        await parts.deliver(StreamKey(22, "used"))
        await parts.tidy_after(0)
        await parts.tidy_after(400)
        await parts.deliver(StreamKey(22, "used"))
        await parts.tidy_after(400)
        await parts.tidy_after(400)
        assert {key.data_id for key in parts.known()} == {7, 20, 21, 22}
        await parts.tidy_after(400)
        assert {key.data_id for key in parts.known()} == {0, 7, 20, 21}

    play(parts, scenario)


def test_drops_by_reason_go_on_too(parts: Parts) -> None:
    async def scenario() -> None:
        await parts.accept(StreamKey(20, "old"), 4)
        await parts.queue.commit(Expire(parts.queue.before_ms(-1)))
        await parts.tidy_after(0)
        await parts.tidy_after(601)
        dropped = await parts.queue.dropped()
        assert list(dropped.values()) == [{"max_age": 4}]
        assert parts.queue.stream(FORGOTTEN).books == Books(accepted=4, dropped=4)

    play(parts, scenario)


def test_a_stream_that_is_used_while_it_is_forgotten_comes_back_whole(parts: Parts) -> None:
    async def scenario() -> None:
        stream = await parts.deliver(StreamKey(20, "busy"))
        heir = parts.queue.stream(FORGOTTEN, configured=True)
        forgetting = asyncio.create_task(parts.queue.forget({stream: heir}))
        await asyncio.sleep(0)
        accepting = asyncio.create_task(parts.accept(StreamKey(20, "busy")))
        await asyncio.gather(forgetting, accepting)
        assert parts.queue.stream(StreamKey(20, "busy")) is stream
        assert parts.queue.books() == Books(accepted=2, queued=1, delivered=1)
        await parts.accept(StreamKey(20, "busy"))
        assert parts.queue.books() == Books(accepted=3, queued=2, delivered=1)

    play(parts, scenario)


def test_places_get_free_sooner_when_they_are_scarce(parts: Parts) -> None:
    async def scenario() -> None:
        for data_id in range(1000, 1520):
            await parts.deliver(StreamKey(data_id, "token"))
        await parts.tidy_after(0)
        await parts.tidy_after(30)
        assert len(parts.known()) == 2
        assert parts.queue.books().delivered == 520

    play(parts, scenario)


def test_kept_deliveries_hold_their_stream(parts: Parts) -> None:
    async def scenario() -> None:
        stream = await parts.accept(StreamKey(20, "kept"))
        await parts.queue.commit(Acknowledge(stream.fresh, 1 << 30, wall_ms(), keep=True))
        assert await parts.queue.forget({stream: parts.queue.stream(FORGOTTEN, configured=True)}) == []
        assert StreamKey(20, "kept") in parts.known()

    play(parts, scenario)
