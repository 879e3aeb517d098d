"""The forwarder: what it does with each outcome, in which order, and when it wants to run again."""

import asyncio
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.backoff import Backoff
from sidecar.core.errors import Unavailable
from sidecar.core.future_window import latest_ms
from sidecar.core.model import Chunk, LaneName, StreamKey
from sidecar.core.units import ByteRate, Rate
from sidecar.forward import ByteLimiter, Endpoints, Forwarder, LaneQuota, Limiter, Settings, WindowQuota
from sidecar.forward.byte_limiter import Weight
from sidecar.forward.outcome import Failure, Reply
from tests.support.fakes import GOOD, Clock, FakeClient, FakeSource

KEY = StreamKey(5, "the-token")
OWN = b'{"code":"400","message":"no","result":"false"}'


class Bench:
    """A forwarder with everything around it faked."""

    def __init__(
        self,
        *answers: Any,
        urls: tuple[str, ...] = ("http://a",),
        rate: Rate | None = None,
        lane: LaneName = "fresh",
        isolation: int = 1000,
        max_body_bytes: int = 500,
        bytes_per_s: int | None = None,
    ) -> None:
        self.clock, self.source, self.client = Clock(), FakeSource(), FakeClient(*answers)
        self.endpoints = Endpoints(
            urls, "failover", host="h", backoff=Backoff(first_s=0.5, cap_s=30), patience_s=5, random=lambda: 1.0,
            max_body_bytes=max_body_bytes, return_after_s=30,
        )  # fmt: skip
        self.limiter = Limiter(rate, random=lambda: 1.0)
        self.byte_limiter = ByteLimiter(bytes_per_s)
        self.quota = LaneQuota(
            limiter=self.limiter, byte_limiter=self.byte_limiter, search=WindowQuota(isolation, 60.0),
            refusals=WindowQuota(1, 5.0),
        )  # fmt: skip
        self.woken = 0
        self.forwarder = Forwarder(
            KEY, lane, "app", self.source, client=self.client, endpoints=lambda: self.endpoints,  # type: ignore[arg-type]
            quota=self.quota,
            settings=Settings(
                max_body_bytes=max_body_bytes,
                byte_rate=ByteRate(bytes_per_s) if bytes_per_s else None,
                clean_again=lambda body: body.upper(),
                backoff=Backoff(first_s=0.5, cap_s=60),
                slow_backoff=Backoff(first_s=4, cap_s=120), clock=self.clock,
                wall_clock=lambda: 1.7e9 + self.clock.now_s, random=lambda: 1.0,
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

    def run_to_the_end(self) -> list[float]:
        """Runs it again whenever it wants to, and says how long it waited in between."""
        waits = []
        while (wait_s := self.run()) is not None:
            waits.append(wait_s)
            self.clock.now_s += wait_s
            assert len(waits) < 1000
        return waits

    def sent(self) -> list[Any]:
        return [json.loads(body)["data"] for _, body in self.client.posts]


def test_everything_that_waits_goes_out_in_order_in_full_batches() -> None:
    bench = Bench().add(*[b"%03d%s" % (100 + n, b"0" * 97) for n in range(10)])
    assert bench.run() is None
    assert [len(batch) for batch in bench.sent()] == [4, 4, 2]
    flat = [str(number)[:3] for batch in bench.sent() for number in batch]
    assert flat == [str(100 + n) for n in range(10)]
    assert max(len(body) for _, body in bench.client.posts) <= 500
    assert (bench.forwarder.hold.state, bench.source.delivered) == ("idle", 10)
    assert bench.forwarder.requests.per_minute(1000) == 3


@pytest.mark.parametrize(
    ("answer", "state", "wait_s"),
    [
        (Reply(401, {}, b'{"message":"token the-token is wrong","result":"false"}'), "unauthorized", 4),
        (Reply(403, {}, OWN), "unauthorized", 4),
        (Reply(418, {}, b'{"message":"bad"}'), "held", 4),
        (Reply(408, {}, b""), "held", 0.5),
        (Reply(425, {}, b""), "held", 0.5),
        (Reply(429, {"retry-after": "7"}, b""), "held", 7.5),
        (Reply(429, {"retry-after": "7"}, b'{"message":"slowly"}'), "rate_limited", None),
        (Reply(503, {"retry-after": "7"}, b""), "held", 7.6),
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
    assert bench.forwarder.hold.state == state
    assert bench.forwarder.next_attempt_s == 1000 + wanted
    assert "the-token" not in str(bench.forwarder.hold.last_error)
    bench.clock.now_s += wanted
    assert bench.run() is None
    assert bench.source.delivered == 1
    assert (bench.forwarder.hold.last_error, bench.forwarder.hold.state) == (None, "idle")


def test_a_429_slows_down_the_token_and_is_remembered() -> None:
    bench = Bench(Reply(429, {"retry-after": "7"}, b'{"message":"slowly"}'), rate=Rate(1000, 60.0)).add(b"1")
    share = bench.limiter.share_per_s
    wait_s = bench.run()
    assert wait_s is not None
    assert 7 <= wait_s <= 17  # and up to ten seconds of chance on top
    assert bench.limiter.share_per_s < share
    assert bench.source.spent[-1][0] == msgspec.json.encode(bench.limiter.snapshot())


def test_an_early_wake_does_not_shorten_a_hold() -> None:
    bench = Bench(Reply(401, {}, OWN)).add(b"1")
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
    bench = Bench(*[Reply(401, {}, OWN)] * 8).add(b"1")
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


@pytest.mark.parametrize("status", [400, 401, 408, 413, 418, 429])
def test_a_proxy_that_refuses_one_stream_is_up_for_all_others(status: int) -> None:
    bench = Bench(Failure("ConnectError"), Reply(status, {}, OWN)).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    assert bench.endpoints.all[0].state == "down"
    bench.clock.now_s += wait_s
    bench.run()
    assert bench.endpoints.all[0].state == "up"
    assert bench.endpoints.pick(bench.clock.now_s, {}) is not None
    assert bench.woken == 1


def only_bodies_up_to(size: int) -> Any:
    return lambda body: GOOD if len(body) <= size else Reply(413, {}, b"")


def test_a_body_that_is_too_large_is_halved_and_the_proxy_is_remembered_for_it() -> None:
    bench = Bench(max_body_bytes=4000).add(*[b"1" * 50] * 70)
    bench.client.judge = only_bodies_up_to(2100)
    bench.run_to_the_end()
    assert [len(batch) for batch in bench.sent()] == [70, 34, 34, 2]
    assert bench.source.delivered == 70
    assert bench.endpoints.all[0].body.limit_bytes(bench.clock.now_s) < 2100


def test_if_everything_is_too_large_every_event_is_tried_alone_and_buried() -> None:
    bench = Bench().add(*[b"1"] * 5)
    bench.client.judge = only_bodies_up_to(0)
    bench.run_to_the_end()
    assert (len(bench.source.dead), bench.source.delivered) == (5, 0)
    assert len(bench.client.posts) <= 5 + 3


def test_what_takes_no_size_at_all_does_not_make_dead_letters_of_everything() -> None:
    bench = Bench().add(*[b"1"] * 50)
    bench.client.judge = only_bodies_up_to(0)
    assert bench.run() == 4
    assert len(bench.source.dead) == 10
    assert bench.forwarder.hold.state == "held"
    bench.client.judge = only_bodies_up_to(10**6)
    bench.run_to_the_end()
    assert bench.source.delivered == 40


def test_another_proxy_is_asked_before_an_event_counts_as_too_large() -> None:
    bench = Bench(urls=("http://a", "http://b")).add(b"1" * 300)
    bench.client.answers = [Reply(413, {}, b"")]
    assert bench.run() is None
    assert [url for url, _ in bench.client.posts] == ["http://a", "http://b"]
    assert (bench.source.delivered, bench.source.dead) == (1, [])
    bench.add(b"2" * 300)
    bench.client.judge = only_bodies_up_to(0)
    bench.run_to_the_end()
    assert [url for url, _ in bench.client.posts[2:]] == ["http://b"]  # the other has refused one lately
    assert (bench.source.delivered, len(bench.source.dead)) == (1, 1)


def test_a_chunk_that_is_too_large_is_cut_and_an_event_that_is_too_large_is_buried() -> None:
    bench = Bench(max_body_bytes=4000)
    bench.source.add(b",".join([b"1" * 400] * 7 + [b"2" * 1500] + [b"3" * 400]), 9)
    bench.client.judge = only_bodies_up_to(1300)
    bench.run_to_the_end()
    assert bench.source.delivered == 8
    assert [(body[:1], status) for body, _, status, _, _ in bench.source.dead] == [(b"2", 413)]
    delivered = [
        n for (_, body), batch in zip(bench.client.posts, bench.sent(), strict=True) if len(body) <= 1300 for n in batch
    ]
    assert [str(number)[0] for number in delivered] == ["1"] * 7 + ["3"]


def refusing(*bad: int) -> Any:
    """A proxy that refuses a document for the numbers in `bad`, without saying which."""

    def judge(body: bytes) -> Reply:
        found = any(number in bad for number in json.loads(body)["data"])
        return Reply(400, {}, b'{"message":"bad event","result":"false"}') if found else GOOD

    return judge


def numbers(count: int, chunks: int) -> list[bytes]:
    size = count // chunks
    return [b",".join(b"%d" % n for n in range(at, at + size)) for at in range(10_000, 10_000 + count, size)]


@pytest.mark.parametrize("bad", [[10_000], [19_999], [14_567], [10_000, 19_999], [10_007, 10_008, 13_000, 17_500]])
def test_bad_events_are_found_in_few_requests_and_the_good_ones_go_on_in_order(bad: list[int]) -> None:
    bench = Bench(max_body_bytes=20_000)
    for body in numbers(10_000, 40):
        bench.source.add(body, 250)
    bench.client.judge = refusing(*bad)
    bench.run_to_the_end()
    assert [int(body) for body, *_ in bench.source.dead] == bad
    assert {(reason, status) for _, reason, status, _, _ in bench.source.dead} == {("HTTP 400: bad event", 400)}
    good = [n for batch in bench.sent() if not set(batch) & set(bad) for n in batch]
    assert good == [n for n in range(10_000, 20_000) if n not in bad]
    batches = 4
    assert len(bench.client.posts) <= batches + len(bad) * (2 + math.ceil(math.log2(3250)))


def test_it_is_written_down_how_often_and_since_when_a_buried_event_was_refused() -> None:
    bench = Bench()
    bench.source.add(b"1,2,3,4", 4)
    bench.client.judge = refusing(1)
    bench.run_to_the_end()
    assert bench.sent() == [[1, 2, 3, 4], [1, 2], [1], [2, 3, 4]]
    ((_, _, _, attempts, first_ms),) = bench.source.dead
    assert (attempts, first_ms) == (3, 1_700_001_000_000)


def test_more_bad_events_than_may_be_looked_for_are_set_aside_and_the_good_ones_behind_go_on() -> None:
    bench = Bench(isolation=3, max_body_bytes=500)
    for body in numbers(200, 4):
        bench.source.add(body, 50)
    bench.client.judge = refusing(10_003, 10_060)
    bench.run_to_the_end()
    assert sum(chunk.events for chunk in bench.source.aside) < 100
    assert bench.source.delivered + sum(chunk.events for chunk in bench.source.aside) == 200
    assert bench.sent()[-1][-1] == 10_199
    refused = [batch for batch in bench.sent() if {10_003, 10_060} & set(batch)]
    assert len(refused) <= 3 + 1


def test_the_lane_of_suspects_waits_for_its_allowance_and_gets_there() -> None:
    bench = Bench(isolation=4, lane="suspect")
    bench.source.add(numbers(64, 1)[0], 64)
    bench.client.judge = refusing(10_017)
    waits = bench.run_to_the_end()
    assert [int(body) for body, *_ in bench.source.dead] == [10_017]
    assert bench.source.delivered == 63
    assert waits
    assert max(len(bench.client.posts[i : i + 4]) for i in range(len(bench.client.posts))) == 4


def test_a_bad_event_among_dead_letters_that_were_put_back_waits_for_the_allowance_too() -> None:
    bench = Bench(isolation=1, lane="retry")
    bench.source.add(b"1,2", 2)
    bench.client.judge = refusing(1)
    assert bench.run() == pytest.approx(60)
    assert bench.source.aside == []
    assert bench.forwarder.hold.state == "rate_limited"


def test_a_lane_that_is_less_urgent_takes_only_its_share() -> None:
    bench = Bench(lane="replay")
    bench.forwarder.quota = msgspec.structs.replace(bench.quota, share=WindowQuota(2, 60.0))
    bench.add(*[b"1" * 400] * 5)
    assert bench.run() == 60
    assert len(bench.client.posts) == 2


def test_retry_ends_a_hold_at_once() -> None:
    bench = Bench(Reply(401, {}, OWN), Failure("ConnectError")).add(b"1")
    assert bench.run() == 4
    bench.forwarder.retry()
    assert bench.run() == pytest.approx(0.6)
    bench.forwarder.retry()
    assert bench.run() is None
    assert bench.source.delivered == 1


def test_what_a_portals_clock_says_is_not_believed() -> None:
    bench = Bench(Reply(200, {"date": "Thu, 01 Jan 1970 00:00:00 GMT"}, b"<html>")).add(b"1")
    bench.run()
    assert bench.endpoints.all[0].skew_s is None


def test_while_it_waited_for_its_turn_the_quota_may_have_gone_or_the_proxy() -> None:
    bench = Bench(rate=Rate(1, 60.0)).add(b"1")
    bench.client.before_turn = lambda: bench.limiter.spend(bench.clock.now_s)
    assert bench.run() is not None
    assert bench.client.posts == []
    assert bench.source.spent == []
    bench = Bench(urls=("http://a", "http://b")).add(b"1")
    first = bench.endpoints.all[0]

    def fail() -> None:
        bench.endpoints.failed(first, "refused", started_s=2000, now_s=2000)

    bench.client.before_turn = fail
    assert bench.run() is None
    assert [url for url, _ in bench.client.posts] == ["http://b"]


def test_what_the_proxys_clock_says_is_learned_from_its_own_answers() -> None:
    bench = Bench(Reply(401, {"date": "Tue, 14 Nov 2023 23:30:00 GMT"}, b'{"result":"false"}')).add(b"1")
    bench.run()
    assert bench.endpoints.all[0].skew_s == pytest.approx(1_700_004_600.5 - 1_700_001_000)


def test_the_quota_is_written_down_before_the_request_leaves() -> None:
    bench = Bench(rate=Rate(1000, 60.0)).add(b"1")
    seen: list[int] = []
    bench.client.before = lambda: seen.append(len(bench.source.spent))
    bench.run()
    assert seen == [1]
    assert [token for token, _ in bench.source.spent] == [msgspec.json.encode(bench.limiter.note())]


def test_without_quota_it_waits_and_says_so() -> None:
    bench = Bench(rate=Rate(1, 60.0)).add(b"1")
    bench.run()
    bench.add(b"2")
    wait_s = bench.run()
    assert wait_s is not None
    assert 60 <= wait_s < 61
    assert bench.forwarder.hold.state == "rate_limited"
    assert len(bench.client.posts) == 1


def test_no_request_leaves_if_the_quota_cannot_be_written_down() -> None:
    bench = Bench(rate=Rate(1000, 60.0)).add(b"1")

    async def full(*_: Any) -> None:
        raise Unavailable("storage: disk full", retry_after_s=5)

    bench.source.save_quota = full  # type: ignore[assignment,method-assign]
    assert bench.run() == 0.5
    assert bench.client.posts == []
    assert bench.forwarder.hold.last_error == "storage: disk full"


def test_an_acknowledgement_that_cannot_be_stored_is_tried_again() -> None:
    bench = Bench().add(b"1")
    acknowledge = bench.source.acknowledge

    async def broken(_: int) -> None:
        raise Unavailable("storage: disk full", retry_after_s=5)

    bench.source.acknowledge = broken  # type: ignore[assignment,method-assign]
    wait_s = bench.run()
    assert wait_s == 0.5
    bench.source.acknowledge = acknowledge  # type: ignore[method-assign]
    bench.clock.now_s += wait_s
    assert bench.run() is None
    assert len(bench.client.posts) == 1  # it is not sent again
    assert bench.source.delivered == 1


def test_a_failure_that_nobody_foresaw_holds_this_stream_and_raises_nothing() -> None:
    bench = Bench().add(b"1")

    async def damaged(*_: Any) -> Any:
        raise ValueError("damaged chunk")

    bench.source.read = damaged  # type: ignore[assignment,method-assign]
    assert bench.run() == 4
    assert bench.forwarder.hold.state == "held"
    assert bench.forwarder.hold.last_error == "ValueError: damaged chunk"


def test_a_stream_that_cannot_be_read_does_not_use_up_the_attempt_for_all() -> None:
    bench = Bench(Failure("ConnectError")).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    bench.clock.now_s += wait_s

    async def damaged(*_: Any) -> Any:
        raise ValueError("damaged chunk")

    bench.source.read = damaged  # type: ignore[assignment,method-assign]
    bench.run()
    assert bench.endpoints.wait_s(bench.clock.now_s, {}) == 0


def test_if_another_stream_took_the_one_attempt_it_waits() -> None:
    bench = Bench(Failure("ConnectError"), rate=Rate(1000, 60.0)).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    bench.clock.now_s += wait_s
    spend = bench.source.save_quota

    async def slowly(digest: bytes, state: bytes) -> None:
        await spend(digest, state)
        assert bench.endpoints.claim(bench.endpoints.all[0], bench.clock.now_s, {"http://a": bench.clock.now_s})

    bench.source.save_quota = slowly  # type: ignore[assignment,method-assign]
    assert bench.run() == 5
    assert len(bench.client.posts) == 1


@pytest.mark.property
@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 40)), min_size=1, max_size=30),
    st.integers(200, 3_000),
    st.lists(st.sampled_from([503, 429, 408, 413]), max_size=6),
    st.sets(st.integers(0, 300), max_size=4),
)
def test_the_batches_together_are_the_queue(
    sizes: list[tuple[int, int]], max_body_bytes: int, faults: list[int], bad: set[int]
) -> None:
    """Whatever the chunks and the limit are, and whatever fails: every event once, in order, but for the bad ones."""
    bench = Bench(*[Reply(status, {}, b"{}") for status in faults], max_body_bytes=max_body_bytes)
    number = 0
    for events, width in sizes:
        body = b",".join(b'{"n":%d,"x":"%b"}' % (n, b"x" * width) for n in range(number, number + events))
        bench.source.add(body, events)
        number += events
    expected = list(range(number))
    delivered: list[int] = []

    def judge(body: bytes) -> Reply:
        sent = [item["n"] for item in json.loads(body)["data"]]
        if bad & set(sent):
            return Reply(400, {}, OWN)
        delivered.extend(sent)
        return GOOD

    bench.client.judge = judge
    bench.run_to_the_end()
    dead = [json.loads(body)["n"] for body, *_ in bench.source.dead]
    too_large = [n for n, (_, _, status, _, _) in zip(dead, bench.source.dead, strict=True) if status == 413]
    assert sorted(set(dead) - set(too_large)) == sorted(bad & set(expected) - set(too_large))
    assert delivered == [n for n in expected if n not in dead]


def test_after_a_small_batch_it_gathers_for_a_moment_and_after_a_full_one_it_goes_on() -> None:
    bench = Bench().add(b"1")

    def take_two_milliseconds() -> None:
        bench.clock.now_s += 0.002

    bench.client.before = take_two_milliseconds
    assert bench.run() is None
    bench.add(b"2")
    wait_s = bench.run()
    assert wait_s == pytest.approx(0.006)
    bench.clock.now_s += wait_s  # type: ignore[operator]
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


def test_nothing_to_send_costs_no_request_and_no_quota() -> None:
    bench = Bench(GOOD, rate=Rate(1000, 60.0))
    assert bench.run() is None
    assert (bench.client.posts, bench.source.spent) == ([], [])


def test_bytes_are_paced_and_full_batches_go_out_as_they_fit() -> None:
    """1,000 bytes a second: 3,000 in three seconds, and a body weighs 1,000 bytes more than its events."""
    bench = Bench(bytes_per_s=1000).add(*[b"%03d%s" % (100 + n, b"0" * 397) for n in range(6)])
    waits = bench.run_to_the_end()
    assert [len(batch) for batch in bench.sent()] == [1] * 6
    assert waits == [pytest.approx(3.2)] * 2  # two fit the window
    assert bench.forwarder.waits_for is None


def test_who_waits_for_bytes_says_so() -> None:
    bench = Bench(bytes_per_s=1000).add(*[b"0" * 400 for _ in range(3)])
    bench.run()
    assert bench.forwarder.hold.state == "rate_limited"
    assert bench.forwarder.waits_for == "1 KB/s for data_id 5"


def test_a_limit_below_one_body_means_one_body_at_a_time() -> None:
    bench = Bench(bytes_per_s=1000).add(*[b"0" * 5000 for _ in range(3)])
    waits = bench.run_to_the_end()
    assert len(bench.client.posts) == 3
    assert waits == [pytest.approx(6.024, abs=0.01)] * 2  # its bytes at this rate


def test_what_the_proxy_refused_weighs_nothing() -> None:
    bench = Bench(Reply(401, {}, OWN), bytes_per_s=1000).add(b"0" * 1900)
    assert bench.run() == 4
    assert bench.byte_limiter.wait_s(bench.clock.now_s, Weight(3000, 1)) == 0
    bench.clock.now_s += 4
    assert bench.run() is None
    assert bench.byte_limiter.wait_s(bench.clock.now_s, Weight(3000, 1)) > 0


def test_what_was_delivered_is_not_sent_again_while_the_disk_does_not_let_it_be_forgotten() -> None:
    bench = Bench().add(b"1", b"2")
    acknowledge, bench.source.acknowledge = bench.source.acknowledge, failing  # type: ignore[method-assign]
    for _ in range(3):
        wait_s = bench.run()
        assert wait_s is not None
        bench.clock.now_s += wait_s
    assert len(bench.client.posts) == 1
    bench.source.acknowledge = acknowledge  # type: ignore[method-assign]
    bench.add(b"3")
    assert bench.run() is None
    assert bench.sent() == [[1, 2], [3]]
    assert bench.source.delivered == 3


async def failing(through_seq: int) -> None:
    raise Unavailable("storage: disk full", retry_after_s=5)


def test_nothing_is_sent_while_the_disk_takes_no_commit() -> None:
    bench = Bench().add(b"1")
    bench.source.save_quota = no_room  # type: ignore[method-assign]
    assert bench.run() is not None
    assert bench.client.posts == []


async def no_room(token: bytes, data_id: bytes) -> None:
    raise Unavailable("storage: disk full", retry_after_s=5)


def test_what_an_older_version_accepted_is_looked_at_once_more_before_it_leaves() -> None:
    bench = Bench()
    bench.source.chunks = [Chunk(0, b'"old"', 1, rules=0), Chunk(1, b'"new"', 1)]
    bench.run()
    assert bench.sent() == [["OLD", "new"]]
    assert bench.source.delivered == 2


def test_what_is_known_of_the_growth_of_events_is_believed() -> None:
    """Looking costs half as much as all the rest; so who makes the events says it, where it is cheap to say."""
    weights = []
    for growth in (None, 0, 700):
        bench = Bench(bytes_per_s=1_000_000)
        bench.source.chunks = [Chunk(0, b'"<<<<"', 1, growth=growth)]
        bench.run()
        weights.append(bench.byte_limiter.snapshot(bench.clock.now_s).bytes)
    assert [weight - weights[1] for weight in weights] == [20, 0, 700]


def test_a_failed_batch_is_not_overtaken_by_the_next_one_at_another_proxy() -> None:
    bench = Bench(Failure("ConnectError"), urls=("http://a", "http://b"))
    bench.add(*[b"%03d%s" % (100 + n, b"0" * 97) for n in range(10)])
    assert bench.run() is None
    sent = [str(number)[:3] for batch in bench.sent()[1:] for number in batch]
    assert sent == [str(100 + n) for n in range(10)]
    assert bench.source.delivered == 10


def test_a_request_that_perhaps_arrived_counts_for_the_bytes() -> None:
    bench = Bench(Failure("ReadTimeout", hung=True), bytes_per_s=10_000).add(b"1")
    bench.run()
    assert bench.byte_limiter.wait_s(bench.clock.now_s, Weight(30_000, 1)) > 0


def test_an_attempt_that_another_stream_took_counts_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Failure("ConnectError"), bytes_per_s=10_000).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    bench.clock.now_s += wait_s + 10

    async def another_is_faster(*_: bytes) -> None:
        bench.endpoints.claim(bench.endpoints.all[0], bench.clock.now_s, {"http://a": bench.clock.now_s})

    monkeypatch.setattr(bench.source, "save_quota", another_is_faster)
    bench.run()
    assert len(bench.client.posts) == 1
    assert bench.byte_limiter.wait_s(bench.clock.now_s, Weight(30_000, 1)) == 0


def test_what_weighs_more_than_it_seemed_waits_however_short_that_is() -> None:
    bench = Bench(bytes_per_s=10_000).add(b"1" * 400)
    sent = bench.byte_limiter.spend(1000, Weight(28_900, 1))
    bench.byte_limiter.landed(sent, 1000, accepted=None)
    bench.clock.now_s += 2.7
    assert bench.run() == pytest.approx(0.5)
    assert bench.client.posts == []


def test_bytes_are_counted_for_the_proxy_that_gets_them() -> None:
    bench = Bench(urls=("http://a", "http://b"), bytes_per_s=10_000).add(b"1")
    seen: list[tuple[str, float]] = []
    bench.client.before = lambda: seen.extend((each.proxy, each.left_s) for each in bench.byte_limiter._under_way)
    bench.run()
    assert seen == [("http://a", 1000.0)]


@pytest.mark.parametrize("found", [0, 1])
def test_a_refusal_is_searched_only_if_no_event_of_it_is_dated_too_far_ahead(
    monkeypatch: pytest.MonkeyPatch, found: int
) -> None:
    bench = Bench(Reply(400, {}, OWN)).add(b"1", b"2", b"3")
    bench.endpoints.all[0].skew_s = -7200.0
    deferred: list[tuple[int, int]] = []

    async def defer(through_seq: int, latest: int) -> int:
        deferred.append((through_seq, latest))
        return found

    monkeypatch.setattr(bench.source, "defer", defer)
    searching: list[bool] = []
    bench.client.before = lambda: searching.append(bench.forwarder.isolation.active)
    bench.run()
    assert deferred[0] == (2, latest_ms(int((1.7e9 + 1000 - 7200 - 2.0) * 1000)))
    assert searching[1] is (not found)


def test_in_a_flood_of_bad_events_fresh_batches_are_refused_only_now_and_then() -> None:
    bench = Bench(isolation=1)
    for _ in range(40):
        bench.source.add(b"1" * 200 + b"," + b"1" * 200, 2)
    bench.client.judge = lambda _: Reply(400, {}, OWN)
    while bench.clock.now_s < 1050 and (wait_s := bench.run()) is not None:
        bench.clock.now_s += wait_s
    assert 2 < len(bench.client.posts) <= 2 + 50 / 5  # one in five seconds


@pytest.mark.parametrize(
    ("lane", "answer", "urls", "attempts"),
    [
        ("fresh", Reply(413, {}, b""), ("http://a", "http://b"), 1),
        ("suspect", Reply(400, {}, OWN), ("http://a",), 1),
        ("fresh", Reply(400, {}, OWN), ("http://a",), 1),
    ],
)
def test_a_dead_letter_knows_its_history(lane: LaneName, answer: Reply, urls: tuple[str, ...], attempts: int) -> None:
    bench = Bench(lane=lane, urls=urls).add(b"1")
    bench.client.judge = lambda _: answer
    bench.run_to_the_end()
    ((body, _, status, tried, first_ms),) = bench.source.dead
    assert (body, status, tried, first_ms) == (b"1", answer.status, attempts, 1_700_001_000_000)


def test_who_failed_at_a_proxy_prefers_it_again_once_it_worked() -> None:
    bench = Bench(Failure("ConnectError")).add(b"1")
    wait_s = bench.run()
    assert wait_s is not None
    bench.clock.now_s += wait_s
    assert bench.run() is None
    assert bench.forwarder.routing._failed_at == {}


class Hanging:
    """Answers late; `contended`: whether other streams wait for the connection."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, *, contended: bool) -> None:
        async def post(url: str, body: bytes, headers: Any = None) -> Reply:
            bench.client.posts.append((url, body))
            await asyncio.sleep(0.05)
            return GOOD

        monkeypatch.setattr(bench.client, "is_contended", lambda _: contended)
        monkeypatch.setattr(bench.client, "post", post)
        monkeypatch.setattr(bench.endpoints.all[0], "patience_s", lambda _: 0.001)


def test_a_new_stream_gives_way_if_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench().add(b"1")
    Hanging(bench, monkeypatch, contended=True)
    assert bench.run() is not None
    assert bench.source.delivered == 0
    assert "while other streams wait to be sent" in str(bench.forwarder.hold.last_error)
    assert bench.endpoints.all[0].state != "down"


def test_a_new_stream_that_nobody_waits_for_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench().add(b"1")
    Hanging(bench, monkeypatch, contended=False)
    assert bench.run() is None
    assert bench.source.delivered == 1


def test_a_stream_that_was_answered_before_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench().add(b"1")
    bench.run()
    bench.add(b"2")
    bench.clock.now_s += 1
    Hanging(bench, monkeypatch, contended=True)
    assert bench.run() is None
    assert bench.source.delivered == 2
