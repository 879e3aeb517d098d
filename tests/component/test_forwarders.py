"""A forwarder for each lane: which of them are woken, and what goes on across a reload."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from sidecar.config import Proxy
from sidecar.config.model import Url
from sidecar.core.errors import Unavailable
from sidecar.core.model import Books, StreamKey
from sidecar.core.units import Rate
from sidecar.forward import Reply
from sidecar.queue import Acknowledge
from tests.support.service_parts import CONFIGURED, ServiceParts

OTHER = StreamKey(20, "o-t-h-e-r")
Scenario = Callable[[], Awaitable[None]]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceParts:
    found = ServiceParts(tmp_path)
    found.script(monkeypatch)
    return found


def play(parts: ServiceParts, scenario: Scenario) -> None:
    async def run() -> None:
        async with parts:
            await scenario()

    asyncio.run(run())


def test_what_waits_from_before_is_sent_at_the_start_and_what_comes_then_when_it_comes(parts: ServiceParts) -> None:
    async def scenario() -> None:
        await parts.accept(CONFIGURED, 3)
        assert parts.client.posts == []
        await parts.forwarders.start()
        await parts.wait_delivered(3)
        await parts.accept(OTHER, 2)
        await parts.wait_delivered(5)
        assert [(json.loads(body)["data_id"], len(json.loads(body)["data"])) for _, body in parts.client.posts] == [
            (7, 3), (20, 2),
        ]  # fmt: skip
        assert parts.queue.books() == Books(accepted=5, delivered=5)

    play(parts, scenario)


def test_a_lane_that_knows_its_next_attempt_is_not_woken_by_what_comes(parts: ServiceParts) -> None:
    parts.client.answers = [Reply(401, {}, b'{"code":"401","message":"no","result":"false"}')]

    async def scenario() -> None:
        await parts.forwarders.start()
        stream = await parts.accept(CONFIGURED)
        forwarder = parts.forwarders.by_lane[stream.fresh]
        async with asyncio.timeout(20):
            while forwarder.next_attempt_s is None:
                await asyncio.sleep(0.01)
        await parts.accept(CONFIGURED)
        await asyncio.sleep(0.05)
        assert len(parts.client.posts) == 1
        parts.forwarders.retry(stream)
        await parts.wait_delivered(2)
        assert len(parts.client.posts) == 2

    play(parts, scenario)


def test_what_was_spent_still_counts_after_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Proxy(urls=(Url("http://127.0.0.1:1"),), rate=Rate(1, 3600.0))
    parts = ServiceParts(tmp_path, proxy=slow)
    parts.script(monkeypatch)

    async def scenario() -> None:
        await parts.forwarders.start()
        stream = await parts.accept(CONFIGURED)
        await parts.wait_delivered(1)
        bytes_before = parts.forwarders.by_lane[stream.fresh].quota.byte_limiter
        assert await parts.forwarders.reload(parts.config)
        await parts.accept(CONFIGURED)
        async with asyncio.timeout(20):
            while (forwarder := parts.forwarders.by_lane[stream.fresh]).next_attempt_s is None:
                await asyncio.sleep(0.01)
        assert (forwarder.hold.state, len(parts.client.posts)) == ("rate_limited", 1)
        assert forwarder.quota.byte_limiter is bytes_before

    play(parts, scenario)


def test_a_reload_sends_to_the_new_proxy(parts: ServiceParts) -> None:
    async def scenario() -> None:
        await parts.forwarders.start()
        await parts.accept(CONFIGURED)
        await parts.wait_delivered(1)
        other = Proxy(urls=(Url("http://127.0.0.1:2"),))
        assert await parts.forwarders.reload(msgspec.structs.replace(parts.config, proxy=other))
        await parts.accept(CONFIGURED)
        await parts.wait_delivered(2)
        assert [url for url, _ in parts.client.posts] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]

    play(parts, scenario)


def test_what_was_delivered_and_not_acknowledged_is_not_sent_again_after_a_reload(
    parts: ServiceParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        await parts.forwarders.start()
        commit, failed = parts.queue.commit, asyncio.Event()

        async def without_acknowledgements(operation: object) -> object:
            if isinstance(operation, Acknowledge):
                failed.set()
                raise Unavailable("storage: no", retry_after_s=5)
            return await commit(operation)  # type: ignore[arg-type]

        monkeypatch.setattr(parts.queue, "commit", without_acknowledgements)
        await parts.accept(CONFIGURED)
        async with asyncio.timeout(20):
            await failed.wait()
        monkeypatch.setattr(parts.queue, "commit", commit)
        assert await parts.forwarders.reload(parts.config)
        await parts.wait_delivered(1)
        assert len(parts.client.posts) == 1

    play(parts, scenario)


def test_a_stream_that_is_gone_takes_its_quotas_along_but_for_those_of_others(parts: ServiceParts) -> None:
    same_data_id = StreamKey(OTHER.data_id, "another")

    async def scenario() -> None:
        await parts.forwarders.start()
        for key in (OTHER, same_data_id):
            await parts.accept(key)
        await parts.wait_delivered(2)
        assert len(await parts.queue.quotas()) == 3  # two tokens, one data_id
        stream = parts.queue.stream(OTHER)
        assert parts.forwarders.is_idle(stream)
        gone = await parts.queue.forget({stream: parts.queue.stream(same_data_id)})
        await parts.forwarders.forget(gone)
        assert len(await parts.queue.quotas()) == 2
        assert {lane.stream.key for lane in parts.forwarders.by_lane} == {same_data_id}

    play(parts, scenario)
