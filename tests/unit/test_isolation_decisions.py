"""Suspicion, quota, body limit and turns: the pure parts of isolating what is bad and sharing what is scarce."""

import asyncio
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import Chunk
from sidecar.forward.batch import fitting
from sidecar.forward.bisect import Cut, halve
from sidecar.forward.body_limit import BodyLimit
from sidecar.forward.fair_queue import FairQueue
from sidecar.forward.quota import WindowQuota


def search(sizes: list[int], bad: int) -> int:
    """Requests that it takes to find event `bad` in chunks of these sizes."""
    chunks = [Chunk(seq, b"", size) for seq, size in enumerate(sizes)]
    delivered = requests = 0
    while True:
        match halve(chunks):
            case Cut(_, events):
                assert 0 < events < chunks[0].events
                chunks[:1] = [Chunk(-1, b"", events), Chunk(0, b"", chunks[0].events - events)]
            case send:
                requests += 1
                sent = sum(chunk.events for chunk in chunks[: send.chunks])
                if delivered + sent > bad:
                    if sent == 1:
                        return requests
                    chunks = chunks[: send.chunks]
                else:
                    delivered += sent
                    chunks = chunks[send.chunks :]


@given(st.data(), st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_the_search_ends_after_about_as_many_requests_as_the_number_has_digits(
    data: st.DataObject, sizes: list[int]
) -> None:
    bad = data.draw(st.integers(0, sum(sizes) - 1))
    assert search(sizes, bad) <= math.ceil(math.log2(sum(sizes))) + 3


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 10))
def test_an_quota_is_never_exceeded_in_any_window(pauses: list[float], count: int) -> None:
    quota, now_s, spent = WindowQuota(count, 60.0), 0.0, list[float]()
    for pause_s in pauses:
        now_s += pause_s
        wait_s = quota.wait_s(now_s)
        if wait_s == 0:
            quota.charge(now_s)
            spent.append(now_s)
        else:
            assert quota.wait_s(now_s + wait_s) < 1e-9
    for start_s in spent:
        assert sum(start_s <= at_s < start_s + 60 - 1e-9 for at_s in spent) <= count


def test_what_is_charged_afterwards_is_paid_back_by_waiting() -> None:
    quota = WindowQuota(2, 60.0)
    for now_s in (0.0, 1.0, 2.0, 3.0):
        quota.charge(now_s)
    assert quota.wait_s(4.0) == 58.0
    assert quota.wait_s(62.0) == 0


def test_the_limit_of_a_body_falls_by_halves_and_grows_back_slowly() -> None:
    limit = BodyLimit(500_000)
    limit.too_large(480_000, now_s=0)
    assert limit.limit_bytes(1) == 240_000
    limit.fitted(200_000)
    limit.too_large(239_000, now_s=2)
    assert limit.limit_bytes(3) == 200_000  # no less than what went through
    assert limit.limit_bytes(601) == 200_000
    assert limit.limit_bytes(602) == 400_000
    assert [limit.limit_bytes(602 + 600 * n) for n in range(1, 4)] == [500_000, 500_000, 500_000]


def test_a_limit_that_was_lowered_behind_ones_back_is_learned_anew() -> None:
    limit = BodyLimit(500_000)
    limit.fitted(490_000)
    for size in (480_000, 240_000, 120_000):
        limit.too_large(size, now_s=0)
    assert limit.limit_bytes(1) == 60_000
    for size in (464, 232, 2, 1):
        limit.too_large(size, now_s=1)
        assert limit.limit_bytes(1) < max(size, 2)  # or the same would be sent again and again


@given(st.lists(st.integers(0, 50), min_size=1, max_size=10), st.integers(0, 200))
def test_what_fits_is_the_longest_front_that_does(sizes: list[int], budget: int) -> None:
    chunks = [Chunk(seq, b"x" * size, 1) for seq, size in enumerate(sizes)]
    front = list(fitting(chunks, budget))
    assert front == chunks[: len(front)]
    joined = [sum(sizes[:n]) + n - 1 for n in range(1, len(sizes) + 1)]
    assert len(front) == max(1, sum(size <= budget for size in joined))


def test_streams_that_wait_for_a_connection_get_the_same_bytes() -> None:
    """Small bodies and large ones, ten streams, two connections: shares differ by no more than a body."""

    async def play() -> dict[str, int]:
        turns, sent, busy, most = FairQueue(2), dict[str, int](), 0, 0
        end = asyncio.Event()

        async def stream(name: str, size: int) -> None:
            nonlocal busy, most
            while not end.is_set():
                async with turns.turn(name, size):
                    busy += 1
                    most = max(most, busy)
                    await asyncio.sleep(0)
                    sent[name] = sent.get(name, 0) + size
                    busy -= 1
                if sum(sent.values()) > 100_000_000:
                    end.set()

        sizes = {f"s{n}": (500_000, 20_000)[n % 2] for n in range(10)}
        await asyncio.gather(*(stream(name, size) for name, size in sizes.items()))
        assert most == 2
        return sent

    sent = asyncio.run(play())
    small = [sent[f"s{n}"] for n in (1, 3, 5, 7, 9)]
    large = [sent[f"s{n}"] for n in (0, 2, 4, 6, 8)]
    assert max(large) - min(large) <= 1_000_000
    assert max(small) - min(small) <= 100_000
    assert min(small) > 1_000_000  # far from crowded out: one body per visit, as each waits anew


def test_a_stream_that_gives_up_waiting_leaves_its_turn_to_the_next() -> None:
    async def play() -> list[str]:
        turns, order = FairQueue(1), list[str]()

        async def stream(name: str) -> None:
            async with turns.turn(name, 1000):
                order.append(name)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(stream(name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with turns.turn("d", 1000):
            order.append("d")
        return order

    assert asyncio.run(play()) == ["a", "c", "d"]


async def _use(turns: FairQueue, name: str, standing: Any, until: asyncio.Event, began: list[str]) -> None:
    async with turns.turn(name, 1000, standing) as granted:
        if granted:
            began.append(name)
            await until.wait()


def test_streams_that_hang_have_a_part_of_the_connections_and_the_others_theirs() -> None:
    async def play() -> list[str]:
        turns, forever, began = FairQueue(16), asyncio.Event(), list[str]()
        waiting = [
            asyncio.create_task(_use(turns, f"{standing}{number}", standing, forever, began))
            for standing in ("hung", "new", "proven")
            for number in range(100)
        ]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return began

    began = asyncio.run(play())
    counts = Counter(name.rstrip("0123456789") for name in began[:16])
    assert counts == {"hung": 2, "new": 6, "proven": 8}


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
@pytest.mark.parametrize("standing", ["proven", "new", "hung"])
def test_with_however_few_connections_each_standing_has_its_turn(limit: int, standing: str) -> None:
    async def play() -> list[str]:
        turns, done, began = FairQueue(limit), asyncio.Event(), list[str]()
        done.set()
        await asyncio.gather(*(_use(turns, str(number), standing, done, began) for number in range(20)))
        return began

    assert len(asyncio.run(play())) == 20


def test_a_connection_that_is_given_back_goes_to_whoever_may_have_it() -> None:
    async def play() -> list[str]:
        turns, first, forever, began = FairQueue(2), asyncio.Event(), asyncio.Event(), list[str]()
        tasks = [asyncio.create_task(_use(turns, "hung", "hung", first, began))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(_use(turns, name, name, forever, began)) for name in ("new", "proven")]
        await asyncio.sleep(0.01)
        assert began == ["hung", "proven"], "half of two connections is one"
        first.set()
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return began

    assert asyncio.run(play()) == ["hung", "proven", "new"]
