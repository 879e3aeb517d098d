"""The way of a report through several sidecars, and how a loop is seen."""

import pytest

from sidecar.core.hops import HEADER, MAX_HOPS, BadHops, Hops, parse_hops
from sidecar.core.model import StreamKey

KEY = StreamKey(5, "token")
A, B, C = "a" * 16, "b" * 16, "c" * 16


def ids(hops: Hops, now_s: float = 0.0) -> list[str]:
    return list(parse_hops(hops.header(KEY, now_s)[HEADER].encode()))


def test_a_loop_of_any_length_is_seen_by_whoever_is_reached_twice() -> None:
    a, b, c = Hops(A), Hops(B), Hops(C)
    b.note(KEY, ids(a), 0)
    c.note(KEY, ids(b), 0)
    assert ids(c) == [A, B, C]
    assert a.is_loop(ids(c))
    assert not Hops("d" * 16).is_loop(ids(c))


def test_the_nearest_hops_stay_when_many_hosts_stand_behind() -> None:
    gateway = Hops(B)
    for number in range(1000):
        gateway.note(KEY, [f"{number:016x}"], 0)
    gateway.note(KEY, [f"{7:016x}", C], 0)
    named = ids(gateway)
    assert len(named) == MAX_HOPS
    assert named[-2:] == [C, B]
    assert len(gateway.header(KEY, 0)[HEADER]) <= 256


def test_hops_are_forgotten_a_while_after_the_last_report_that_named_them() -> None:
    hops = Hops(B)
    hops.note(KEY, [A], 0)
    hops.note(KEY, [C], 200)
    assert ids(hops, 299) == [A, C, B]
    assert ids(hops, 301) == [C, B]
    assert ids(hops, 501) == [B]


@pytest.mark.parametrize(
    "header",
    [b"", b"a", A.upper().encode(), f"{A},".encode(), f"{A};{B}".encode(), f"{A} {B}".encode(), b"\xff" * 16,
     ", ".join([A] * 15).encode(), f"{A},  {B}".encode()],
)  # fmt: skip
def test_what_no_sidecar_wrote_is_malformed(header: bytes) -> None:
    with pytest.raises(BadHops):
        parse_hops(header)


def test_what_sidecars_write_is_understood() -> None:
    assert parse_hops(f"{A}, {B},{C}".encode()) == (A, B, C)


def test_the_way_to_a_stream_that_is_gone_is_forgotten() -> None:
    hops = Hops(B)
    hops.note(KEY, [A], 0)
    hops.forget(KEY)
    hops.forget(KEY)
    assert ids(hops) == [B]
