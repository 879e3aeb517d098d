"""The status document, put together from the parts as they are."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from sidecar.core.hops import Hops
from sidecar.core.model import Capacity, StreamKey
from sidecar.host.clock import boot_clock
from sidecar.host.own_address import OwnAddress
from sidecar.intake import Intake
from sidecar.queue import Bury
from sidecar.service.run_state import RunState
from sidecar.service.status_collector import StatusCollector
from tests.support.service_parts import CONFIGURED, HOPS, ServiceParts
from tests.support.statuses import samples

Scenario = Callable[[StatusCollector, RunState], Awaitable[None]]


@pytest.fixture
def parts(tmp_path: Path) -> ServiceParts:
    return ServiceParts(tmp_path)


def play(parts: ServiceParts, scenario: Scenario) -> None:
    async def run() -> None:
        async with parts:
            intake = Intake(
                parts.router, parts.queue, parts.config.queue, block_bytes=1000, event_bytes=1000, clock=lambda: 1.0,
                boot_clock=boot_clock, skew_s=lambda: 0.0, hops=Hops(HOPS),
            )  # fmt: skip
            state = RunState(parts.config, OwnAddress("10.0.0.1", lambda: "10.0.0.1", boot_clock))
            state.starting = False
            collector = StatusCollector(parts.router, parts.queue, parts.forwarders, parts.maintenance, intake, state)
            await scenario(collector, state)
            intake.stop()

    asyncio.run(run())


def test_all_tokens_and_kinds_of_a_data_id_are_one_row(parts: ServiceParts) -> None:
    async def scenario(collector: StatusCollector, _: RunState) -> None:
        await parts.accept(CONFIGURED, 3)
        old = await parts.accept(StreamKey(7, "old"), 1)
        await parts.accept(StreamKey(7, "new", "time_series"), 1, due_ms=10**15)
        await parts.queue.commit(Bury(old.fresh, 0, "no", 400, 1, 1, 1))
        document = await collector.status()
        [row] = document.streams
        assert (row.name, row.data_id, row.accepted, row.queued, row.dead, row.dead_unseen) == ("app", 7, 5, 4, 1, 1)
        assert [(lane.name, lane.token, lane.queued) for lane in row.lanes] == [("fresh", 1, 3), ("scheduled", 3, 1)]
        assert [(token.token, token.kind, token.configured) for token in row.tokens] == [
            (1, "event", True), (2, "event", False), (3, "time_series", True),
        ]  # fmt: skip
        assert row.lanes[1].due_at == 10**15
        assert row.queued_bytes == sum(lane.queued_bytes for lane in row.lanes) > 0
        assert document.books.accepted == 5
        assert document.state == "degraded"  # of the dead letters, and of what is dated far ahead
        assert samples(document)["sidecar_events_accepted_total,7,app"] == 5

    play(parts, scenario)


def test_it_is_ready_while_reports_would_be_taken(parts: ServiceParts) -> None:
    async def scenario(collector: StatusCollector, state: RunState) -> None:
        assert (await collector.ready()).good
        assert (await collector.alive()).good
        parts.queue.capacity = Capacity(1, "min_free")
        assert (await collector.ready()).reasons == ["the disk is nearly full"]
        document = await collector.status()
        assert (document.state, document.reasons[0].partition(" (")[0]) == ("failing", "the disk is nearly full")
        state.starting = state.stopping = True
        assert len((await collector.ready()).reasons) == 3

    play(parts, scenario)


def test_every_part_is_there_in_the_promised_shape(parts: ServiceParts) -> None:
    async def scenario(collector: StatusCollector, _: RunState) -> None:
        document = await collector.status()
        assert [proxy.url for proxy in document.proxies] == ["http://127.0.0.1:1"]
        assert [entry.name for entry in document.inputs] == ["http"]
        assert document.config.generation == 1
        assert 0 <= document.queue.oldest_age_s < 1
        assert msgspec.json.decode(msgspec.json.encode(document), type=type(document)) == document

    play(parts, scenario)
