"""The sliding minute."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.meter import Meter


def test_a_minute_is_remembered_and_no_more() -> None:
    meter = Meter()
    meter.count(100.0)
    meter.count(100.9, 2)
    assert meter.per_minute(159.9) == 3
    assert meter.per_minute(160.0) == 0


@given(st.lists(st.integers(0, 300), max_size=60).map(sorted))
def test_it_agrees_with_a_list_of_times(times: list[int]) -> None:
    meter = Meter()
    for now_s in times:
        meter.count(1000 + now_s)
    last = times[-1] if times else 0
    assert meter.per_minute(1000 + last) == sum(last - 60 < then for then in times)
