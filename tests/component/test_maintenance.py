"""The regular jobs. Drained streams are forgotten, and their counters go on in those of another: totals never fall."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.model import FORGOTTEN, Books, StreamKey
from sidecar.host.clock import wall_ms
from sidecar.queue import Acknowledge, Bury, Expire, QueueStream
from sidecar.service import maintenance as maintenance_module
from tests.support.fakes import Clock
from tests.support.service_parts import CONFIGURED, ServiceParts


class Parts(ServiceParts):
    """On a clock that stands still."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        super().__init__(directory)
        self.clock = clock

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
    monkeypatch.setattr(maintenance_module.time, "time", lambda: 2.0)  # type: ignore[attr-defined]
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


def test_what_is_due_is_released_and_the_rest_waits(parts: Parts) -> None:
    async def scenario() -> None:
        stream = await parts.accept(CONFIGURED, 2, due_ms=1500)
        await parts.accept(CONFIGURED, 1, due_ms=10**15)
        assert (stream.fresh.events, stream.lane("scheduled").events) == (0, 3)
        await parts.maintenance.look()  # the time is 2,000 ms
        assert (stream.fresh.events, stream.lane("scheduled").events) == (2, 1)

    play(parts, scenario)


def test_it_is_alive_as_long_as_the_writer_answers(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        assert await parts.maintenance.alive()
        monkeypatch.setattr(maintenance_module, "_ALIVE_WITHIN_S", 0.05)

        async def never(_: object) -> None:
            await asyncio.Event().wait()

        commit = parts.queue.commit
        monkeypatch.setattr(parts.queue, "commit", never)
        assert not await parts.maintenance.alive()
        monkeypatch.setattr(parts.queue, "commit", commit)

    play(parts, scenario)
