"""The bytes of a data_id: what can meet in one message of the proxy stays below the limit, whatever happens."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.forward import LaneQuota, Limiter, WindowQuota
from sidecar.forward.byte_limiter import ByteLimiter, BytesSnapshot, Sent, Weight, weigh
from sidecar.standin.behind import message_bytes
from sidecar.text.growth import growth_of
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
            limiter.ask(lane, now_s, BODY, wait_s)
            due[lane] = now_s + wait_s
        else:
            send(limiter, now_s, lane=lane)
            served[lane] += 1
    assert max(served.values()) - min(served.values()) <= 0.1 * sum(served.values())


def test_one_with_large_bodies_is_not_starved_by_many_with_small_ones() -> None:
    """Small ones could take whatever becomes free, before enough of it has gathered."""
    limiter, now_s = ByteLimiter(RATE), 0.0
    due = {f"small {number}": number * 0.005 for number in range(200)} | {"large": 5.0}
    weights = dict.fromkeys(due, Weight(11_500, 5)) | {"large": Weight(480_000, 100)}
    served = dict.fromkeys(due, 0)
    while now_s < 90:
        now_s, lane = min((at_s, lane) for lane, at_s in due.items())
        wait_s = limiter.wait_s(now_s, weights[lane], lane)
        if wait_s:
            limiter.ask(lane, now_s, weights[lane], wait_s)
            due[lane] = now_s + wait_s
        else:
            send(limiter, now_s, weights[lane], lane, took_s=0.001)
            served[lane] += 1
            due[lane] = now_s + (1.0 if lane != "large" else 0.001)  # 2.3 MB a second of small ones
    assert served.pop("large") >= 20
    assert min(served.values()) >= 60


def test_what_a_lane_waits_for_is_kept_for_a_while_and_no_longer() -> None:
    limiter = ByteLimiter(RATE)
    send(limiter, 0.0, Weight(7_400_000, 1), "busy")
    assert limiter.wait_s(0.0, BODY, "first") == pytest.approx(3.2)
    limiter.ask("first", 0.0, BODY, 3.2)
    assert limiter.wait_s(0.1, Weight(50_000, 1), "scheduled") > 0
    assert limiter.wait_s(3.3, Weight(LIMIT - 400_000, 1), "scheduled") > 0
    assert limiter.wait_s(3.3, Weight(LIMIT - 600_000, 1), "scheduled") == pytest.approx(0.005)
    assert limiter.wait_s(4.3, Weight(LIMIT, 1), "scheduled") == 0


SMALL = Weight(450_000, 3_000)


@pytest.mark.parametrize("accepted", [None, False])
def test_items_that_perhaps_were_not_accepted_have_pushed_nothing_out(accepted: bool | None) -> None:
    limiter = ByteLimiter(RATE)
    for number in range(13):
        send(limiter, number * 0.01)
    limiter.landed(limiter.spend(0.2, SMALL), 0.3, accepted=accepted)
    assert limiter.wait_s(0.4, Weight(1_100_000, 1)) > 0
    limiter.landed(limiter.spend(0.4, SMALL), 0.5, accepted=True)
    assert limiter.wait_s(0.6, Weight(1_100_000, 1)) == 0


def test_a_late_answer_has_pushed_out_nothing_that_came_after_it_left() -> None:
    limiter = ByteLimiter(RATE)
    late = limiter.spend(0.0, SMALL)
    for number in range(13):
        send(limiter, 0.1 + number * 0.01)
    limiter.landed(late, 0.5, accepted=True)
    assert limiter.wait_s(0.6, Weight(1_000_000, 1)) > 0


def test_items_for_another_proxy_have_pushed_nothing_out() -> None:
    limiter = ByteLimiter(RATE)
    for number in range(13):
        send(limiter, number * 0.01)
    limiter.landed(limiter.spend(0.2, SMALL, "a", "another"), 0.3, accepted=True)
    assert limiter.wait_s(0.4, Weight(1_000_000, 1)) > 0


def test_what_is_written_down_covers_what_follows_for_a_while() -> None:
    limiter = ByteLimiter(RATE)
    before = limiter.snapshot(0.0)
    send(limiter, 0.0)
    written = limiter.snapshot(0.0)
    assert written is not before
    assert written.bytes == BODY.bytes + LIMIT // 8
    send(limiter, 0.1)
    assert limiter.snapshot(0.1) is written
    send(limiter, 0.2)
    assert limiter.snapshot(0.2).bytes == 3 * BODY.bytes + LIMIT // 8


def test_a_trickle_is_written_down_once_in_a_while() -> None:
    limiter = ByteLimiter(RATE)
    written = set()
    for second in range(300):
        send(limiter, second, Weight(1_000, 1))
        written.add(limiter.snapshot(second).at_s)
    assert written == {0, 150}


def test_a_steady_flow_is_written_down_only_now_and_then() -> None:
    limiter = ByteLimiter(RATE)
    written = {id(limiter.snapshot(0.0))}
    kept = []
    for number in range(3_000):  # five minutes, 7 MB every three seconds
        now_s = number * 0.1
        assert limiter.wait_s(now_s, Weight(200_000, 100)) == 0
        limiter.spend(now_s, Weight(200_000, 100))
        kept.append(limiter.snapshot(now_s))
        written.add(id(kept[-1]))
        for sent in list(limiter._under_way):
            limiter.landed(sent, now_s + 0.01, accepted=True)
    assert len(written) <= 12


@pytest.mark.parametrize(("same_boot", "age_s", "free"), [(True, 1, 0), (True, 301, LIMIT), (False, 301, 0)])
def test_a_restart_takes_the_worst(same_boot: bool, age_s: float, free: int) -> None:
    before = ByteLimiter(RATE)
    for _ in range(14):
        send(before, 0.0)
        written = before.snapshot(0.0)
    after = ByteLimiter(RATE)
    after.restore(written, age_s, same_boot=same_boot)
    assert (after.wait_s(age_s, Weight(max(free, 100_000), 1)) == 0) is (free > 0)
    assert after.wait_s(age_s + 3.2, Weight(LIMIT, 1)) == 0


def test_one_restart_after_the_other_does_not_stop_it_for_good() -> None:
    """Each takes what was sent before for sent just now; that must not add up, nor begin anew each time."""
    written, now_s, sent = ByteLimiter(RATE).snapshot(0.0), 0.0, 0
    for _ in range(100):
        limiter = ByteLimiter(RATE)
        limiter.restore(written, now_s, same_boot=True)
        for _ in range(6):
            if limiter.wait_s(now_s, BODY) == 0:
                limiter.spend(now_s, BODY)  # and is killed before the answer
                sent += BODY.bytes
            written = limiter.snapshot(now_s)
            now_s += 0.1
    assert 0.4 * RATE <= sent / now_s <= RATE


def test_another_limit_knows_what_was_sent_before_it() -> None:
    limiter = ByteLimiter(RATE)
    sent = [limiter.spend(0.0, BODY) for _ in range(15)]
    for each in sent:
        limiter.landed(each, 3.4, accepted=True)  # slow answers, long after they were written down
    limiter.change(2_000_000, 3.5)
    assert limiter.limit_bytes == 6_000_000
    assert limiter.wait_s(3.5, BODY) > 0
    limiter.change(None, 7.0)
    send(limiter, 7.0)
    assert limiter.wait_s(7.0, BODY) == 0
    limiter.change(RATE, 7.1)  # nobody counted
    assert limiter.wait_s(7.1, BODY) == pytest.approx(3.2)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, Any]]:
    weights = st.tuples(st.integers(1, 3_000_000), st.integers(1, 5_000))
    kinds = st.sampled_from(["send"] * 6 + ["land", "land", "pass", "restart"])
    return [(draw(kinds), (draw(weights), draw(st.floats(0, 4)), draw(st.integers(0, 5)))) for _ in range(60)]


Span = tuple[float, float, Weight]


@pytest.mark.property
@given(steps(), st.data())
def test_no_message_exceeds_the_limit(plan: list[tuple[str, Any]], data: st.DataObject) -> None:
    """A proxy that accepts each request at any moment while it is on its way, and merges for 3 s or 3,000 items."""
    limiter, now_s = ByteLimiter(RATE), 0.0
    noted = limiter.snapshot(0.0)
    under_way: list[tuple[Sent, float]] = []
    spans: list[Span] = []  # when it may have been accepted
    for step, ((size, items), seconds, number) in plan:
        match step:
            case "send":
                weight = Weight(size, items)
                if limiter.wait_s(now_s, weight) == 0:
                    under_way.append((limiter.spend(now_s, weight), now_s))
                    noted = limiter.snapshot(now_s)
            case "land" if under_way:
                sent, since_s = under_way.pop(number % len(under_way))
                accepted = [True, True, True, True, None, False][number]
                limiter.landed(sent, now_s, accepted=accepted)
                if accepted or (accepted is None and seconds < 2):
                    spans.append((since_s, now_s, sent.weight))
            case "pass":
                now_s += seconds
            case "restart":
                spans += [(since_s, now_s, sent.weight) for sent, since_s in under_way]
                under_way.clear()
                limiter = ByteLimiter(RATE)
                limiter.restore(noted, now_s, same_boot=True)
    spans += [(since_s, now_s, sent.weight) for sent, since_s in under_way]
    parts = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=len(spans), max_size=len(spans)))
    at_s = [start_s + part * (end_s - start_s) for part, (start_s, end_s, _) in zip(parts, spans, strict=True)]
    for message in merged(list(zip(at_s, [weight for _, _, weight in spans], strict=True))):
        assert len(message) == 1 or sum(weight.bytes for weight in message) <= LIMIT


def merged(accepted: list[tuple[float, Weight]]) -> list[list[Weight]]:
    messages: list[list[Weight]] = []
    since_s, items = float("-inf"), 0
    for at_s, weight in sorted(accepted, key=lambda each: each[0]):
        if at_s - since_s >= 3.0 or items >= 3_000:
            messages.append([])
            since_s, items = at_s, 0
        messages[-1].append(weight)
        items += weight.items
    return messages


@pytest.mark.parametrize("text", ["plain", "<b>&amp;</b>" * 100, "\u2028\u2029" * 50, "\b\f" * 50, '\\b"\\f', "\u4e2d"])
def test_a_body_weighs_at_least_what_it_becomes_in_the_message(text: str) -> None:
    items = [event(event={"content": text}), sample(metrics={"a": 1e20, "b": 1e-7, "c": 1e16})]
    body = b",".join(json.dumps(item, ensure_ascii=False).encode() for item in items)
    assert weigh(len(body), 2, growth_of(body)).bytes >= sum(message_bytes(item) + 1 for item in items)


@pytest.mark.property
@given(st.lists(weird, min_size=1, max_size=5), st.booleans())
def test_any_body_weighs_at_least_what_it_becomes(values: list[Any], ascii_only: bool) -> None:
    items = [{"value": value} for value in values]
    texts = [json.dumps(item, ensure_ascii=ascii_only).encode("utf-8", "replace") for item in items]
    body = b",".join(texts)
    assert weigh(len(body), len(items), growth_of(body)).bytes >= sum(message_bytes(item) for item in items)


def test_nobody_goes_alone_while_bytes_are_on_their_way() -> None:
    limiter = ByteLimiter(10_000)
    limiter.spend(0.0, Weight(20_000, 1))
    limiter.ask("a", 0.0, Weight(20_000, 1), 1.0)
    assert limiter.wait_s(0.0, Weight(15_000, 1), "b") > 0


def test_a_restart_counts_what_was_sent_also_long_after_the_boot() -> None:
    before, after = ByteLimiter(10_000), ByteLimiter(10_000)
    before.spend(1000.0, Weight(30_000, 1))
    after.restore(before.snapshot(1000.0), 1001.0, same_boot=True)
    assert after.wait_s(1001.0, Weight(30_000, 1)) > 0


def test_what_an_earlier_restart_took_for_sent_counts_up_to_its_own_end() -> None:
    limiter = ByteLimiter(10_000)
    limiter.restore(BytesSnapshot(at_s=-400, bytes=0, older=[(3.1, 20_000)]), 0.0, same_boot=True)
    assert limiter.wait_s(2.9, Weight(20_000, 1)) > 0
    assert limiter.wait_s(3.2, Weight(20_000, 1)) == 0


def test_items_that_left_in_the_moment_of_an_answer_are_not_after_it() -> None:
    limiter = ByteLimiter(10_000)
    limiter.landed(limiter.spend(0.0, Weight(29_000, 1), proxy="p"), 1.0, accepted=True)
    for sent in [limiter.spend(1.0, Weight(0, 3000), proxy="p") for _ in range(2)]:
        limiter.landed(sent, 1.1, accepted=True)
    assert limiter.wait_s(1.2, Weight(29_000, 1)) > 0


def lane_quota(limiter: ByteLimiter, lane: str) -> LaneQuota:
    window = WindowQuota(1, 1)
    return LaneQuota(
        limiter=Limiter(None, random=lambda: 1.0), byte_limiter=limiter, search=window, refusals=window, lane=lane
    )


def test_lanes_of_one_data_id_wait_each_for_itself() -> None:
    limiter = ByteLimiter(10_000)
    one, two = lane_quota(limiter, "one"), lane_quota(limiter, "two")
    one.spend(0.0, Weight(30_000, 1), "p").landed(0.0, accepted=True)
    one.ask(0.0, Weight(20_000, 1))
    assert one.bytes_wait_s(0.0, Weight(20_000, 1)) == pytest.approx(3.2)
    assert one.bytes_wait_s(3.3, Weight(20_000, 1)) == 0
    assert two.bytes_wait_s(3.3, Weight(20_000, 1)) > 0
    one.spend(3.3, Weight(5_000, 1), "p")
    assert two.bytes_wait_s(3.3, Weight(20_000, 1)) == 0


@pytest.mark.parametrize(("at_s", "kept"), [(2.7, True), (3.3, False)])
def test_only_who_has_to_wait_keeps_others_from_it(at_s: float, kept: bool) -> None:
    limiter = ByteLimiter(10_000)
    one, two = lane_quota(limiter, "one"), lane_quota(limiter, "two")
    one.spend(0.0, Weight(30_000, 1), "p").landed(0.0, accepted=True)
    one.ask(at_s, Weight(20_000, 1))
    assert (two.bytes_wait_s(3.3, Weight(20_000, 1)) > 0) is kept


def test_what_is_written_down_of_a_data_id_covers_what_was_spent() -> None:
    quota = lane_quota(ByteLimiter(10_000), "one")
    quota.spend(5.0, Weight(30_000, 1), "p")
    _, data_id = quota.snapshot(5.0)
    assert msgspec.json.decode(data_id, type=BytesSnapshot).bytes >= 30_000


@pytest.mark.parametrize("text", ["<", "&", "\u2028", "\u2029", "\b", "\f"])
def test_many_characters_that_grow_in_the_message_are_all_counted(text: str) -> None:
    item = event(event={"content": text * 20_000})
    body = json.dumps(item, ensure_ascii=False).encode()
    assert weigh(len(body), 1, growth_of(body)).bytes >= message_bytes(item)


@pytest.mark.parametrize("number", ["1e20", "1E20", "1e+20"])
def test_many_numbers_that_grow_in_the_message_are_all_counted(number: str) -> None:
    body = f'{{"value":[{",".join([number] * 5000)}]}}'.encode()
    assert weigh(len(body), 1, growth_of(body)).bytes >= len("100000000000000000000,") * 5000
