"""Never above the rate, in any window, also across restarts."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.forward.limiter import Limiter
from sidecar.units import Rate


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
    """Sends whenever it may."""
    now_s, times = start_s, []
    while now_s < end_s:
        wait_s = limiter.wait_s(now_s)
        if wait_s > 0:
            now_s += wait_s
            continue
        limiter.spend(now_s)
        times.append(now_s)
        now_s += 1e-6
    return times


@pytest.mark.parametrize("rate", [Rate(1000, 60.0), Rate(1, 60.0), Rate(2, 1.0), Rate(99, 60.0), Rate(5000, 3600.0)])
def test_a_greedy_sender_stays_within_the_rate_and_uses_most_of_it(rate: Rate) -> None:
    times = greedy(Limiter(rate), 0, 5 * rate.window_s)
    assert busiest_window(times, rate.window_s) <= rate.count
    if rate.count >= 100:
        assert len(times) >= 0.96 * 5 * rate.count


@given(st.lists(st.floats(0, 5), max_size=300), st.integers(1, 60))
def test_no_pattern_of_pauses_gets_above_the_rate(pauses: list[float], count: int) -> None:
    limiter, now_s, times = Limiter(Rate(count, 10.0)), 0.0, []
    for pause_s in pauses:
        now_s += pause_s
        if limiter.wait_s(now_s) == 0:
            limiter.spend(now_s)
            times.append(now_s)
    assert busiest_window(times, 10.0) <= count


def test_a_quiet_stream_sends_at_once_and_a_few_in_a_row() -> None:
    limiter = Limiter(Rate(1000, 60.0))
    for _ in range(10):
        assert limiter.wait_s(50.0) == 0
        limiter.spend(50.0)
    assert limiter.wait_s(50.0) > 0


@given(st.lists(st.floats(1, 90), min_size=1, max_size=20))
def test_restarts_do_not_give_the_budget_back(runs: list[float]) -> None:
    rate, now_s, times = Rate(100, 60.0), 0.0, []
    saved: float | None = None
    for length_s in runs:
        limiter = Limiter(rate)
        if saved is not None:
            limiter.restore(saved, now_s)
        times += greedy(limiter, now_s, now_s + length_s)
        saved, now_s = limiter.spent_until_s, now_s + length_s
    assert busiest_window(times, 60.0) <= rate.count


def test_a_state_of_unknown_age_counts_as_just_spent() -> None:
    limiter = Limiter(Rate(1000, 60.0))
    limiter.restore(None, 500.0)
    assert 0 < limiter.wait_s(500.0) < 1


def test_a_state_from_the_far_future_does_not_stop_the_stream_for_ever() -> None:
    limiter = Limiter(Rate(1000, 60.0))
    limiter.restore(1e12, 500.0)
    assert limiter.wait_s(500.0) < 1
