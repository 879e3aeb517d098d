"""The forwarder: what it does with each outcome, in which order, and when it wants to run again."""

import asyncio
import json
from typing import Any

import pytest

from sidecar.errors import Unavailable
from sidecar.forward import Endpoints, Forwarder, Limiter, Settings, token_digest
from sidecar.forward.backoff import Backoff
from sidecar.forward.outcome import Failure, Reply
from sidecar.model import StreamKey
from sidecar.units import Rate
from tests.support.fakes import GOOD, Clock, FakeClient, FakeSource

KEY = StreamKey(5, "the-token")


class Bench:
    """A forwarder with everything around it faked."""

    def __init__(self, *answers: Any, urls: tuple[str, ...] = ("http://a",), rate: Rate | None = None) -> None:
        self.clock, self.source, self.client = Clock(), FakeSource(), FakeClient(*answers)
        self.endpoints = Endpoints(
            urls, "failover", host="h", backoff=Backoff(first_s=0.5, cap_s=30), patience_s=5, random=lambda: 1.0
        )
        self.limiter = Limiter(rate) if rate else None
        self.woken = 0
        self.forwarder = Forwarder(
            KEY, "app", self.source, client=self.client, endpoints=self.endpoints, limiter=self.limiter,  # type: ignore[arg-type]
            settings=Settings(
                max_body_bytes=500, min_body_bytes=100, backoff=Backoff(first_s=0.5, cap_s=60),
                slow_backoff=Backoff(first_s=4, cap_s=120), clock=self.clock, random=lambda: 1.0,
            ),
            wake_all=self._wake_all,
        )  # fmt: skip

    def _wake_all(self) -> None:
        self.woken += 1

    def add(self, *bodies: bytes) -> "Bench":
        for body in bodies:
            self.source.add(body)
        return self

    def run(self) -> float | None:
        return asyncio.run(self.forwarder.run())

    def sent(self) -> list[Any]:
        return [json.loads(body)["data"] for _, body in self.client.posts]


def test_everything_that_waits_goes_out_in_order_in_full_batches() -> None:
    bench = Bench().add(*[b"%03d%s" % (100 + n, b"0" * 97) for n in range(10)])
    assert bench.run() is None
    assert [len(batch) for batch in bench.sent()] == [4, 4, 2]
    flat = [str(number)[:3] for batch in bench.sent() for number in batch]
    assert flat == [str(100 + n) for n in range(10)]
    assert max(len(body) for _, body in bench.client.posts) <= 500
    assert (bench.forwarder.state, bench.source.delivered) == ("idle", 10)
    assert bench.forwarder.requests.per_minute(1000) == 3


@pytest.mark.parametrize(
    ("answer", "state", "wait_s"),
    [
        (Reply(401, {}, b'{"message":"token the-token is wrong"}'), "unauthorized", 4),
        (Reply(403, {}, b""), "unauthorized", 4),
        (Reply(400, {}, b'{"message":"bad"}'), "held", 4),
        (Reply(408, {}, b""), "held", 0.5),
        (Reply(429, {"retry-after": "7"}, b""), "rate_limited", 7.5),
        (Reply(429, {}, b""), "rate_limited", 0.5),
        (Reply(413, {}, b""), "held", 4),
        (Reply(404, {}, b""), "held", None),
        (Reply(302, {}, b""), "held", None),
        (Reply(500, {}, b""), "held", 0.6),
        (Reply(200, {}, b"<html>"), "held", 0.6),
        (Reply(200, {}, b'{"result":"false"}'), "held", 0.6),
        (Failure("ConnectError"), "held", 0.6),
    ],
)
def test_what_is_no_acknowledgement_leaves_the_rows_and_waits(answer: Any, state: str, wait_s: float | None) -> None:
    bench = Bench(answer).add(b"1")
    wanted = bench.run()
    assert wanted is not None
    assert wanted > 0
    if wait_s is not None:
        assert wanted == pytest.approx(wait_s)
    assert (bench.source.delivered, len(bench.source.chunks)) == (0, 1)
    assert bench.forwarder.state == state
    assert bench.forwarder.next_attempt_s == 1000 + wanted
    assert "the-token" not in str(bench.forwarder.last_error)
    bench.clock.now_s += wanted
    assert bench.run() is None
    assert bench.source.delivered == 1
    assert (bench.forwarder.last_error, bench.forwarder.state) == (None, "idle")


def test_an_early_wake_does_not_shorten_a_hold() -> None:
    bench = Bench(Reply(401, {}, b"")).add(b"1")
    assert bench.run() == 4
    bench.clock.now_s += 1
    assert bench.run() == 3
    assert len(bench.client.posts) == 1


@pytest.mark.parametrize(
    "answer", [Reply(500, {}, b""), Reply(404, {}, b""), Reply(200, {}, b"<html>"), Failure("reset")]
)
def test_a_stream_that_fails_where_others_get_through_is_held_alone(answer: Any) -> None:
    bench = Bench(*[answer] * 5).add(b"1")
    endpoint = bench.endpoints.all[0]
    wait_s = bench.run()
    assert wait_s is not None
    assert bench.endpoints.pick(bench.clock.now_s, {}) is endpoint  # others may try at once
    bench.endpoints.worked(endpoint, bench.clock.now_s + 0.1)  # and one got through
    for _ in range(3):
        bench.clock.now_s += wait_s
        wait_s = bench.run()
        assert wait_s is not None
        assert endpoint.state == "up"
        bench.endpoints.worked(endpoint, bench.clock.now_s + 0.1)
    assert wait_s == 4
    assert bench.source.delivered == 0


def test_waits_grow_while_it_goes_on_failing() -> None:
    bench = Bench(*[Reply(401, {}, b"")] * 8).add(b"1")
    waits = []
    for _ in range(8):
        wait_s = bench.run()
        assert wait_s is not None
        waits.append(wait_s)
        bench.clock.now_s += wait_s
    assert waits == [4, 8, 16, 32, 64, 120, 120, 120]


def test_another_proxy_is_tried_at_once() -> None:
    bench = Bench(Failure("ConnectError"), urls=("http://a", "http://b")).add(b"1")
    assert bench.run() is None
    assert [url for url, _ in bench.client.posts] == ["http://a", "http://b"]
    assert bench.source.delivered == 1


def test_when_a_proxy_comes_back_everybody_is_woken() -> None:
    bench = Bench(Failure("ConnectError")).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    bench.clock.now_s += wait_s
    bench.run()
    assert bench.woken == 1


@pytest.mark.parametrize("status", [400, 401, 408, 413, 429])
def test_a_proxy_that_refuses_one_stream_is_up_for_all_others(status: int) -> None:
    bench = Bench(Failure("ConnectError"), Reply(status, {}, b"")).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    assert bench.endpoints.all[0].state == "down"
    bench.clock.now_s += wait_s
    bench.run()
    assert bench.endpoints.all[0].state == "up"
    assert bench.endpoints.pick(bench.clock.now_s, {}) is not None
    assert bench.woken == 1


def test_a_body_that_is_too_large_is_halved() -> None:
    bench = Bench(Reply(413, {}, b"")).add(*[b"1" * 50] * 8)
    assert bench.run() is None
    assert [len(batch) for batch in bench.sent()] == [8, 4, 4]
    assert bench.source.delivered == 8


def test_the_budget_is_written_down_before_the_request_leaves() -> None:
    bench = Bench(rate=Rate(1000, 60.0)).add(b"1")
    seen: list[int] = []
    bench.client.before = lambda: seen.append(len(bench.source.spent))
    bench.run()
    assert seen == [1]
    assert bench.limiter is not None
    assert bench.source.spent == [(token_digest(KEY), bench.limiter.spent_until_s)]


def test_without_budget_it_waits_and_says_so() -> None:
    bench = Bench(rate=Rate(1, 60.0)).add(b"1")
    bench.run()
    bench.add(b"2")
    wait_s = bench.run()
    assert wait_s is not None
    assert 60 <= wait_s < 61
    assert bench.forwarder.state == "rate_limited"
    assert len(bench.client.posts) == 1


def test_no_request_leaves_if_the_budget_cannot_be_written_down() -> None:
    bench = Bench(rate=Rate(1000, 60.0)).add(b"1")

    async def full(*_: Any) -> None:
        raise Unavailable("storage: disk full", retry_after_s=5)

    bench.source.spend = full  # type: ignore[method-assign]
    assert bench.run() == 0.5
    assert bench.client.posts == []
    assert bench.forwarder.last_error == "storage: disk full"


def test_an_acknowledgement_that_cannot_be_stored_is_tried_again() -> None:
    bench = Bench().add(b"1")
    acknowledge = bench.source.acknowledge

    async def broken(_: int) -> None:
        raise Unavailable("storage: disk full", retry_after_s=5)

    bench.source.acknowledge = broken  # type: ignore[method-assign]
    wait_s = bench.run()
    assert wait_s == 0.5
    bench.source.acknowledge = acknowledge  # type: ignore[method-assign]
    bench.clock.now_s += wait_s
    assert bench.run() is None
    assert len(bench.client.posts) == 2
    assert bench.source.delivered == 1


def test_a_failure_that_nobody_foresaw_holds_this_stream_and_raises_nothing() -> None:
    bench = Bench().add(b"1")

    async def damaged(*_: Any) -> Any:
        raise ValueError("damaged chunk")

    bench.source.read = damaged  # type: ignore[method-assign]
    assert bench.run() == 4
    assert bench.forwarder.state == "held"
    assert bench.forwarder.last_error == "ValueError: damaged chunk"


def test_a_stream_that_cannot_be_read_does_not_use_up_the_attempt_for_all() -> None:
    bench = Bench(Failure("ConnectError")).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    bench.clock.now_s += wait_s

    async def damaged(*_: Any) -> Any:
        raise ValueError("damaged chunk")

    bench.source.read = damaged  # type: ignore[method-assign]
    bench.run()
    assert bench.endpoints.wait_s(bench.clock.now_s, {}) == 0


def test_if_another_stream_took_the_one_attempt_it_waits() -> None:
    bench = Bench(Failure("ConnectError"), rate=Rate(1000, 60.0)).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    bench.clock.now_s += wait_s
    spend = bench.source.spend

    async def slowly(digest: str, spent_until_s: float) -> None:
        await spend(digest, spent_until_s)
        assert bench.endpoints.pick(bench.clock.now_s, {}) is not None

    bench.source.spend = slowly  # type: ignore[method-assign]
    assert bench.run() == 5
    assert len(bench.client.posts) == 1


def test_after_a_small_batch_it_gathers_for_a_moment_and_after_a_full_one_it_goes_on() -> None:
    bench = Bench().add(b"1")

    def take_two_milliseconds() -> None:
        bench.clock.now_s += 0.002

    bench.client.before = take_two_milliseconds
    assert bench.run() is None
    bench.add(b"2")
    wait_s = bench.run()
    assert wait_s == pytest.approx(0.006)
    bench.clock.now_s += wait_s
    bench.add(*[b"3" * 400] * 3)
    assert bench.run() is None
    assert [len(batch) for batch in bench.sent()] == [1, 2, 1, 1]


def test_a_slow_proxy_does_not_make_it_gather_for_long() -> None:
    bench = Bench().add(b"1")

    def take_long() -> None:
        bench.clock.now_s += 5

    bench.client.before = take_long
    bench.run()
    bench.add(b"2")
    assert bench.run() == pytest.approx(0.02)


def test_stopping_ends_it_after_the_present_request() -> None:
    bench = Bench().add(*[b"1" * 300] * 5)
    bench.client.before = bench.forwarder.stop
    assert bench.run() is None
    assert len(bench.client.posts) == 1
    assert bench.source.delivered == 1


def test_nothing_to_send_costs_no_request_and_no_budget() -> None:
    bench = Bench(GOOD, rate=Rate(1000, 60.0))
    assert bench.run() is None
    assert (bench.client.posts, bench.source.spent) == ([], [])
