"""Never above the rate, in any window, whatever the proxy answers, also across restarts; slower after each 429."""

import math
from collections import deque
from random import Random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.units import Rate
from sidecar.forward.limiter import Limiter, Snapshot
from tests.fleet.simulation import HOUR_S, LIMIT, SlidingWindow, TokenBucket, figures, halving, recovery_s

RATES = [Rate(1000, 60.0), Rate(1, 60.0), Rate(2, 1.0), Rate(99, 60.0), Rate(5000, 3600.0), Rate(1, 3600.0)]
CEILING_PER_S = Limiter(LIMIT, random=lambda: 0.0).share_per_s
"""What a host may send alone, which is its share until it is refused."""
ACTIONS = st.lists(
    st.tuples(st.floats(0, 5), st.sampled_from(["send", "send", "send", "accept", "refuse", "refuse late", "restart"])),
    max_size=300,
)


def new(rate: Rate | None, seed: int = 1) -> Limiter:
    return Limiter(rate, random=Random(seed).random)


def busiest_window(times: list[float], window_s: float) -> int:
    """The most requests in any half-open window."""
    inside: deque[float] = deque()
    most = 0
    for now_s in times:
        inside.append(now_s)
        while inside[0] <= now_s - window_s:
            inside.popleft()
        most = max(most, len(inside))
    return most


def greedy(limiter: Limiter, start_s: float, end_s: float) -> list[float]:
    """Sends whenever it may, and all is accepted."""
    now_s, times = start_s, []
    while now_s < end_s:
        wait_s = limiter.wait_s(now_s)
        if wait_s > 0:
            now_s += wait_s
            continue
        limiter.spend(now_s)
        limiter.accepted(now_s)
        times.append(now_s)
        now_s += 1e-6
    return times


def slowed(rate: Rate | None, refusals: int, now_s: float = 0.0) -> Limiter:
    """After so many refusals in a row, one after the other."""
    limiter = new(rate)
    for index in range(refusals):
        limiter.spend(now_s + index)
        limiter.refused(now_s + index + 0.5, now_s + index, None)
    return limiter


@pytest.mark.parametrize("rate", RATES)
def test_a_greedy_sender_stays_within_the_rate_and_uses_most_of_it(rate: Rate) -> None:
    times = greedy(new(rate), 0, 5 * rate.window_s)
    assert busiest_window(times, rate.window_s) <= rate.count
    if rate.count >= 100:
        assert len(times) >= 0.96 * 5 * rate.count


@given(ACTIONS, st.integers(1, 300), st.integers(0, 100))
def test_no_answers_in_no_order_get_above_the_rate(actions: list[tuple[float, str]], count: int, seed: int) -> None:
    rate, now_s = Rate(count, 10.0), 0.0
    limiter, times, flying = new(rate, seed), [], []
    for pause_s, action in actions:
        now_s += pause_s
        if action == "send" and limiter.wait_s(now_s) == 0:
            limiter.spend(now_s)
            times.append(now_s)
            flying.append(now_s)
        elif action == "accept" and flying:
            flying.pop()
            limiter.accepted(now_s)
        elif action.startswith("refuse") and flying:
            limiter.refused(now_s, flying.pop(0 if action == "refuse late" else -1), None)
        elif action == "restart":
            saved, flying = limiter.snapshot(), []
            limiter = new(rate, seed)
            limiter.restore(saved, now_s, same_boot=True)
    assert busiest_window(times, 10.0) <= count


@given(st.sampled_from([1, 10, 100, 1000]), ACTIONS, st.integers(0, 9))
def test_what_is_written_down_covers_all_that_left(count: int, actions: list[tuple[float, str]], seed: int) -> None:
    """Whoever goes on from it sends nothing sooner than from the exact state."""
    limiter, now_s, flying = new(Rate(count, 60.0), seed), 0.0, []
    for pause_s, action in actions:
        now_s += pause_s
        if action == "send" and limiter.wait_s(now_s) == 0:
            limiter.spend(now_s)
            flying.append(now_s)
        elif action == "accept" and flying:
            flying.pop()
            limiter.accepted(now_s)
        elif action.startswith("refuse") and flying:
            limiter.refused(now_s, flying.pop(), None)
        noted, exact = new(Rate(count, 60.0)), new(Rate(count, 60.0))
        noted.restore(limiter.note(), now_s, same_boot=True)
        exact.restore(limiter.snapshot(), now_s, same_boot=True)
        assert noted.wait_s(now_s) >= exact.wait_s(now_s)
        assert noted.share_per_s == exact.share_per_s
        assert noted.wait_s(now_s) <= exact.wait_s(now_s) + 60.0 / count * 10


def test_steady_requests_are_seldom_written_down() -> None:
    limiter, now_s, notes = new(LIMIT), 0.0, []
    for _ in range(600):
        now_s += limiter.wait_s(now_s)
        limiter.spend(now_s)
        limiter.accepted(now_s)
        notes.append(limiter.note())
    assert len(set(map(msgspec.json.encode, notes))) <= 600 / 5
    free = Limiter(None, random=lambda: 0.0)
    free.spend(1.0)
    assert free.note() == free.snapshot()


@given(st.lists(st.tuples(st.floats(1, 90), st.sampled_from(["same boot", "other boot", "lost"])), max_size=20))
def test_restarts_do_not_give_the_budget_back(runs: list[tuple[float, str]]) -> None:
    rate, now_s, times = Rate(100, 60.0), 0.0, []
    saved: Snapshot | None = None
    for index, (length_s, kind) in enumerate(runs):
        limiter = new(rate)
        if index:
            limiter.restore(None if kind == "lost" else saved, now_s, same_boot=kind == "same boot")
        times += greedy(limiter, now_s, now_s + length_s)
        saved, now_s = limiter.snapshot(), now_s + length_s
    assert busiest_window(times, 60.0) <= rate.count


def test_a_host_that_was_never_refused_sends_at_once_and_a_few_in_a_row() -> None:
    limiter = new(LIMIT)
    for _ in range(10):
        assert limiter.wait_s(50.0) == 0
        limiter.spend(50.0)
    assert 0 < limiter.wait_s(50.0) < 0.1


def test_without_a_limit_there_is_nothing_to_write_down_until_the_proxy_refuses() -> None:
    limiter = new(None)
    free = limiter.snapshot()
    limiter.spend(50.0)
    limiter.accepted(50.0)
    assert limiter.snapshot() == free
    limiter.refused(50.1, 50.0, None)
    held = limiter.snapshot()
    assert held != free
    again = new(None)
    again.restore(held, 50.2, same_boot=True)
    assert again.wait_s(50.2) > 0
    while again.snapshot() != free:
        again.accepted(60.0)
    again.restore(msgspec.json.decode(msgspec.json.encode(free), type=Snapshot), 70.0, same_boot=True)
    assert again.wait_s(70.0) == 0
    limited, afresh = new(LIMIT), new(LIMIT)
    limited.restore(free, 80.0, same_boot=True)
    afresh.restore(None, 80.0, same_boot=True)
    assert limited.wait_s(80.0) == afresh.wait_s(80.0) > 0, "what was sent without a limit may be all of it"


def test_without_a_limit_nothing_waits_until_the_proxy_refuses() -> None:
    limiter = new(None)
    for _ in range(10_000):
        assert limiter.wait_s(50.0) == 0
        limiter.spend(50.0)
    limiter.refused(50.1, 50.0, None)
    limiter.spend(limiter.wait_s(50.1) + 50.1)
    assert limiter.wait_s(50.1) > 0


def test_answers_to_a_host_that_was_never_refused_change_nothing() -> None:
    quiet, busy = new(LIMIT), new(LIMIT)
    for index in range(1000):
        busy.spend(index / 50)
        quiet.spend(index / 50)
        busy.accepted(index / 50 + 0.01)
        assert busy.wait_s(index / 50 + 0.02) == quiet.wait_s(index / 50 + 0.02)


@given(st.integers(1, 40), st.sampled_from([*RATES, None]))
def test_a_refusal_never_makes_it_faster(refusals: int, rate: Rate | None) -> None:
    now_s = 1000.0
    limiter = slowed(rate, refusals - 1, now_s)
    now_s += refusals
    share_per_s, pace_per_s = limiter.share_per_s, limiter.pace_per_s(now_s)
    limiter.spend(now_s)
    limiter.refused(now_s, now_s, None)
    assert limiter.share_per_s <= share_per_s
    assert limiter.pace_per_s(now_s) <= pace_per_s


@given(st.integers(1, 40), st.floats(0, 1e5), st.floats(0, 1e5))
def test_the_pace_only_grows_while_nothing_is_refused(refusals: int, a_s: float, b_s: float) -> None:
    limiter = slowed(LIMIT, refusals)
    assert limiter.pace_per_s(100 + min(a_s, b_s)) <= limiter.pace_per_s(100 + max(a_s, b_s))


@given(st.integers(0, 40), st.floats(0, 1e5))
def test_an_acceptance_never_makes_it_slower(refusals: int, later_s: float) -> None:
    limiter, now_s = slowed(LIMIT, refusals), 100 + later_s
    share_per_s, wait_s = limiter.share_per_s, limiter.wait_s(now_s)
    limiter.accepted(now_s)
    assert limiter.share_per_s >= share_per_s
    assert limiter.wait_s(now_s) <= wait_s


@given(st.integers(2, 8), st.integers(1, 7))
def test_refusals_of_requests_on_their_way_together_count_once(flying: int, more: int) -> None:
    one, many = new(LIMIT), new(LIMIT)
    for limiter in (one, many):
        for index in range(flying):
            limiter.spend(10 + index / 100)
        limiter.refused(10.2, 10 + (flying - 1) / 100, None)
    for index in range(min(more, flying)):
        many.refused(10.3, 10 + index / 100, None)
    assert one.snapshot() == many.snapshot()


@given(st.floats(0, 300), st.booleans())
def test_retry_after_is_kept_whichever_answer_brings_it(retry_after_s: float, first: bool) -> None:
    limiter = new(LIMIT)
    limiter.spend(10.0)
    limiter.spend(10.0)
    limiter.refused(10.1, 10.0, retry_after_s if first else None)
    limiter.refused(10.1, 10.0, None if first else retry_after_s)
    assert limiter.wait_s(10.1) >= retry_after_s - 1e-6


def test_a_lone_host_is_back_at_the_ceiling_within_two_hours_after_any_number_of_refusals() -> None:
    limiter = slowed(LIMIT, 40)
    times = greedy(limiter, 100.0, 100.0 + HOUR_S * 2)
    assert len([at_s for at_s in times if at_s > 100 + HOUR_S * 2 - 60]) >= 0.96 * LIMIT.count


@given(st.integers(0, 40), st.floats(0, 1e4), st.booleans(), st.booleans())
@example(40, 0.0, True, True)  # it has the longest hold, and the longest wait
def test_what_was_learnt_survives_a_restart(refusals: int, off_s: float, same_boot: bool, sent: bool) -> None:
    before, after = slowed(LIMIT, refusals), new(LIMIT)
    if sent:
        before.spend(100)
    after.restore(before.snapshot(), 100 + off_s, same_boot=same_boot)
    assert after.share_per_s == before.share_per_s
    if same_boot:
        assert after.wait_s(100 + off_s) == pytest.approx(before.wait_s(100 + off_s))
        assert after.snapshot() == before.snapshot()
    elif refusals == 0:
        assert after.pace_per_s(100 + off_s) == before.pace_per_s(100 + off_s)


def test_hosts_that_boot_together_do_not_send_together() -> None:
    saved = slowed(LIMIT, 40).snapshot()
    longest = restored(msgspec.structs.replace(saved, grows_from_s=1e9, next_s=1e9), same_boot=True)
    for draw in (0.0, 0.25, 0.5, 0.75):
        found = restored(saved, same_boot=False, draw=draw)
        assert found.next_s - 100 == pytest.approx(draw * 2 / saved.share_per_s), "two of its share's spacings"
        assert found.grows_from_s - 100 == pytest.approx(draw * (longest.grows_from_s - 100)), "one hold"


def restored(saved: Snapshot, *, same_boot: bool, draw: float = 0.0) -> Snapshot:
    """The state right after a restart at second 100."""
    limiter = Limiter(LIMIT, random=lambda: draw)
    limiter.restore(saved, 100.0, same_boot=same_boot)
    return limiter.snapshot()


@given(st.integers(1, 40), st.floats(-1, 3))
@example(40, 0.0)
@example(40, 0.5)
@example(40, 2.0)
def test_the_next_request_leaves_when_the_pace_has_added_up_to_one(refusals: int, before_the_turn: float) -> None:
    """`before_the_turn`: in spacings of a hold."""
    limiter = slowed(LIMIT, refusals)
    now_s = limiter.snapshot().grows_from_s - before_the_turn * 2 / limiter.share_per_s
    if limiter.pace_per_s(now_s) < CEILING_PER_S:
        limiter.spend(now_s)
        until_s = limiter.snapshot().next_s
        if limiter.pace_per_s(until_s) < CEILING_PER_S:
            turn_s = min(max(limiter.snapshot().grows_from_s, now_s), until_s)
            assert due(limiter, now_s, turn_s) + due(limiter, turn_s, until_s) == pytest.approx(1, rel=0.001)


def due(limiter: Limiter, start_s: float, end_s: float) -> float:
    """How many requests the pace adds up to."""
    step_s = (end_s - start_s) / 200
    return sum(limiter.pace_per_s(start_s + (index + 0.5) * step_s) * step_s for index in range(200))


def test_a_turn_begins_with_a_jump_and_grows_from_there() -> None:
    limiter = slowed(LIMIT, 10)
    begins_s, steady = limiter.snapshot().grows_from_s, limiter.share_per_s / 2
    assert limiter.pace_per_s(begins_s - 0.001) == steady
    assert limiter.pace_per_s(begins_s) == steady + CEILING_PER_S / 20
    assert limiter.pace_per_s(begins_s + 120) == pytest.approx((steady + CEILING_PER_S / 20) * math.e)


@pytest.mark.parametrize(
    ("part", "accepted", "left"),
    [
        (1, True, 0.8),
        (1, False, 0.5),
        (0.0101, True, 1 - 0.05 * math.sqrt(5.05)),
        (0.0101, False, 0.5),
        (0.00995, False, 1 - 0.05 * math.sqrt(4.975)),
        (1 / 500, True, 0.95),
        (1 / 500, False, 0.95),
        (1 / 1000, True, 0.975),
    ],
)
def test_a_refusal_takes_more_from_who_has_more_and_half_if_nothing_was_accepted_since_the_last(
    part: float, accepted: bool, left: float
) -> None:
    limiter = new(LIMIT)
    limiter.refused(1.0, 0.0, None)
    assert limiter.share_per_s == CEILING_PER_S / 2, "nothing was ever accepted"
    if accepted:
        limiter.accepted(2.0)
    limiter.share_per_s = part * CEILING_PER_S
    limiter.refused(4.0, 3.0, None)
    assert limiter.share_per_s == pytest.approx(left * part * CEILING_PER_S)


@pytest.mark.parametrize("draw", [0.0, 0.5])
@pytest.mark.parametrize(("part", "longest_s"), [(1, 10), (1 / 1000, 1000 / CEILING_PER_S / 0.975)])
def test_who_was_refused_waits_at_random_up_to_one_spacing_or_ten_seconds(
    draw: float, part: float, longest_s: float
) -> None:
    limiter = Limiter(LIMIT, random=lambda: draw)
    limiter.accepted(1.0)
    limiter.share_per_s = part * CEILING_PER_S
    limiter.refused(10.0, 5.0, None)
    assert limiter.wait_s(10.0) == pytest.approx(draw * longest_s)
    limiter.refused(10.0, 6.0, None)  # it was on its way together with the other
    assert limiter.wait_s(10.0) == pytest.approx(draw * longest_s)


def test_a_refusal_of_what_is_paid_back_makes_no_hold() -> None:
    limiter = new(LIMIT)
    limiter.spend(10.0)
    assert limiter.snapshot().owed_until_s == pytest.approx(10 + 1 / CEILING_PER_S)
    limiter.refused(20.0, 10.0, None)
    assert limiter.snapshot().grows_from_s == 20


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12), st.booleans())
def test_no_snapshot_stops_the_token_for_long(at_s: float, share_per_s: float, same_boot: bool) -> None:
    limiter = new(LIMIT)
    strange = Snapshot(spent_until_s=at_s, owed_until_s=at_s, grows_from_s=at_s, next_s=at_s, share_per_s=share_per_s)
    limiter.restore(strange, 500.0, same_boot=same_boot)
    assert limiter.wait_s(500.0) <= 1000


def test_five_hundred_hosts_share_one_token_fairly_and_half_of_them_take_over() -> None:
    """What is asked of a fleet, on one seed; `make fleet` prints the figures of several seeds and other fleets."""
    run = halving(500, TokenBucket(LIMIT, 100), 11, at_s=6 * HOUR_S, seconds=6.1 * HOUR_S)
    found = figures(run, 2 * HOUR_S, 6 * HOUR_S)
    assert found.goodput >= 0.97
    assert found.refused < 0.03
    assert found.jain >= 0.95
    assert recovery_s(run, 6 * HOUR_S) <= 120


def test_the_proxys_budgets_keep_to_the_limit() -> None:
    for budget in (TokenBucket(LIMIT, 100), SlidingWindow(LIMIT)):
        assert sum(budget.take(index / 100) for index in range(60 * 100)) in range(1000, 1101)
