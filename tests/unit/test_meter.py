"""The sliding minute."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.rate_meter import RateMeter, Recent


def test_a_minute_is_remembered_and_no_more() -> None:
    meter = RateMeter()
    meter.count(100.0)
    meter.count(100.9, 2)
    assert meter.per_minute(159.9) == 3
    assert meter.per_minute(160.0) == 0


@given(st.lists(st.integers(0, 300), max_size=60).map(sorted))
def test_it_agrees_with_a_list_of_times(times: list[int]) -> None:
    meter = RateMeter()
    for now_s in times:
        meter.count(1000 + now_s)
    last = times[-1] if times else 0
    assert meter.per_minute(1000 + last) == sum(last - 60 < then for then in times)


def test_recent_counts_go_after_one_to_two_windows_without_any() -> None:
    recent = Recent(600)
    recent.count(1000.0, {"late": 2, "untimed": 0})
    recent.count(1300.0, {"late": 1})
    assert recent.counts(1590.0) == {"late": 3}
    recent.count(1700.0, {"untimed": 4})
    assert recent.counts(2100.0) == {"late": 3, "untimed": 4}
    assert recent.counts(2350.0) == {"untimed": 4}
    assert recent.counts(9000.0) == {}
    assert recent.counts(20_000.0) == {}
