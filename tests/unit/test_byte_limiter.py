"""The bytes of a data_id: what can meet in one message of the proxy stays below the limit, whatever happens."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.forward.byte_limiter import ByteLimiter, Sent, Weight, weigh
from sidecar.standin.behind import message_bytes
from tests.support.reports import event, sample
from tests.support.strategies import weird

RATE = 2_500_000.0
LIMIT = 7_500_000
BODY = Weight(500_000, 100)


def send(limiter: ByteLimiter, now_s: float, weight: Weight = BODY, lane: str = "a", took_s: float = 0.0) -> Sent:
    sent = limiter.spend(now_s, weight, lane)
    limiter.landed(sent, now_s + took_s, accepted=True)
    return sent


def test_fifteen_bodies_go_out_at_once_and_then_it_waits_until_they_cannot_meet_the_next() -> None:
    limiter = ByteLimiter(RATE)
    for number in range(15):
        assert limiter.wait_s(number * 0.01, BODY) == 0
        send(limiter, number * 0.01)
    assert limiter.wait_s(0.2, BODY) == pytest.approx(3.0)
    assert limiter.wait_s(3.2, BODY) == 0


def test_it_sends_as_much_as_is_configured_in_the_long_run() -> None:
    limiter, now_s, sent = ByteLimiter(RATE), 0.0, 0
    while now_s < 300:
        wait_s = limiter.wait_s(now_s, BODY)
        if wait_s:
            now_s += wait_s
        else:
            send(limiter, now_s)
            sent += BODY.bytes
    assert 0.9 * RATE <= sent / now_s <= RATE


def test_small_items_are_not_slowed_down_since_three_thousand_of_them_are_no_large_message() -> None:
    limiter = ByteLimiter(RATE)
    for number in range(300):  # 8 MB a second
        assert limiter.wait_s(number * 0.06, Weight(500_000, 2_000)) == 0
        send(limiter, number * 0.06, Weight(500_000, 2_000))


def test_what_is_on_its_way_counts_until_after_its_answer() -> None:
    limiter = ByteLimiter(RATE)
    sent = [limiter.spend(0.0, Weight(2_500_000, 1)) for _ in range(3)]
    assert limiter.wait_s(60.0, BODY) >= 3
    for each in sent:
        limiter.landed(each, 60.0, accepted=True)
    assert limiter.wait_s(62.9, BODY) == pytest.approx(0.3)
    assert limiter.wait_s(63.2, BODY) == 0


def test_what_was_refused_does_not_count_and_an_end_counts_once() -> None:
    limiter = ByteLimiter(RATE)
    sent = limiter.spend(0.0, Weight(7_500_000, 1))
    limiter.landed(sent, 1.0, accepted=False)
    limiter.landed(sent, 1.0, accepted=True)
    assert limiter.wait_s(1.0, BODY) == 0


def test_a_body_beyond_the_limit_goes_alone_and_is_paid_back() -> None:
    limiter = ByteLimiter(10_000)
    assert limiter.wait_s(0, BODY) == 0
    send(limiter, 0)
    assert limiter.wait_s(0, Weight(1, 1)) == pytest.approx(50)
    assert limiter.wait_s(50, BODY) == 0


def test_never_more_than_eight_megabytes_whatever_is_configured() -> None:
    assert ByteLimiter(100e6).limit_bytes == 8_000_000
    assert ByteLimiter(None).wait_s(0, Weight(10**12, 1)) == 0


def test_lanes_take_turns() -> None:
    """Two that always have full bodies get the same, though both become possible at the same moment."""
    limiter, now_s, served = ByteLimiter(RATE), 0.0, {"a": 0, "b": 0, "c": 0}
    due = dict.fromkeys(served, 0.0)
    while now_s < 120:
        now_s, lane = min((at_s, lane) for lane, at_s in due.items())
        wait_s = limiter.wait_s(now_s, BODY, lane)
        if wait_s:
            limiter.ask(lane)
            due[lane] = now_s + wait_s
        else:
            send(limiter, now_s, lane=lane)
            served[lane] += 1
    assert max(served.values()) - min(served.values()) <= 0.1 * sum(served.values())


def test_little_is_written_down_and_much_is() -> None:
    limiter = ByteLimiter(RATE)
    first = limiter.snapshot(0.0)
    send(limiter, 0.0)
    assert limiter.snapshot(0.0) is first
    send(limiter, 0.0)
    assert limiter.snapshot(1.0).bytes == 1_000_000


@pytest.mark.parametrize(("same_boot", "age_s", "free"), [(True, 1, 0), (True, 10, 6_562_500), (False, 10, 0)])
def test_a_restart_takes_the_worst(same_boot: bool, age_s: float, free: int) -> None:
    before = ByteLimiter(RATE)
    for _ in range(14):
        send(before, 0.0)
        written = before.snapshot(0.0)
    send(before, 0.0, Weight(400_000, 1))  # not written down
    after = ByteLimiter(RATE)
    after.restore(written, age_s, same_boot=same_boot)
    assert (after.wait_s(age_s, Weight(free + 1, 1)) > 0) is True
    assert (after.wait_s(age_s, Weight(max(free, 1), 1)) == 0) is (free > 0)
    assert after.wait_s(age_s + 3.2, Weight(LIMIT, 1)) == 0


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, Any]]:
    weights = st.tuples(st.integers(1, 3_000_000), st.integers(1, 5_000))
    kinds = st.sampled_from(["send"] * 6 + ["land", "land", "pass", "restart"])
    return [(draw(kinds), (draw(weights), draw(st.floats(0, 4)), draw(st.integers(0, 5)))) for _ in range(60)]


@pytest.mark.property
@given(steps())
def test_nothing_that_can_meet_in_a_message_exceeds_the_limit(plan: list[tuple[str, Any]]) -> None:
    """A proxy that accepts each request at any moment while it is on its way, and merges by its own 3 s or 3,000."""
    limiter, now_s = ByteLimiter(RATE), 0.0
    noted = limiter.snapshot(0.0)
    under_way: list[tuple[Sent, float]] = []
    spans: list[tuple[float, float, Weight]] = []  # when it may have been accepted
    for step, ((size, items), seconds, number) in plan:
        match step:
            case "send":
                weight = Weight(size, items)
                if limiter.wait_s(now_s, weight) == 0:
                    under_way.append((limiter.spend(now_s, weight), now_s))
                    noted = limiter.snapshot(now_s)
            case "land" if under_way:
                sent, since_s = under_way.pop(number % len(under_way))
                limiter.landed(sent, now_s, accepted=True)
                spans.append((since_s, now_s, sent.weight))
            case "pass":
                now_s += seconds
            case "restart":
                spans += [(since_s, now_s, sent.weight) for sent, since_s in under_way]
                under_way.clear()
                limiter = ByteLimiter(RATE)
                limiter.restore(noted, now_s, same_boot=True)
    spans += [(since_s, now_s, sent.weight) for sent, since_s in under_way]
    for _, end_s, last in spans:
        # all that can stand in one message with `last` as its last document, if everything meets as badly as it can
        meets = [span for span in spans if span[0] <= end_s and span[1] > end_s - 3.0]
        meets.sort(key=lambda span: -span[1])
        total = items = 0
        for _, other_end_s, weight in meets:
            if other_end_s <= end_s and items < 3_000:
                total += weight.bytes
                items += weight.items
        assert total <= LIMIT + last.bytes or len(meets) == 1


@pytest.mark.parametrize("text", ["plain", "<b>&amp;</b>" * 100, "\u2028\u2029" * 50, "\b\f" * 50, '\\b"\\f', "\u4e2d"])
def test_a_body_weighs_at_least_what_it_becomes_in_the_message(text: str) -> None:
    items = [event(event={"content": text}), sample(metrics={"a": 1e20, "b": 1e-7, "c": 1e16})]
    body = b",".join(json.dumps(item, ensure_ascii=False).encode() for item in items)
    assert weigh(body, 2).bytes >= sum(message_bytes(item) + 1 for item in items)


@pytest.mark.property
@given(st.lists(weird, min_size=1, max_size=5), st.booleans())
def test_any_body_weighs_at_least_what_it_becomes(values: list[Any], ascii_only: bool) -> None:
    items = [{"value": value} for value in values]
    texts = [json.dumps(item, ensure_ascii=ascii_only).encode("utf-8", "replace") for item in items]
    assert weigh(b",".join(texts), len(items)).bytes >= sum(message_bytes(item) for item in items)
