"""Room in the queue."""

from typing import Any

import pytest

from sidecar.core.model import Capacity
from sidecar.intake.admission import Refuse, Take, admit, capacity_of

SIZES: dict[str, Any] = {"used_bytes": 600, "pending_bytes": 300, "capacity": Capacity(1000, "max_size")}


def test_what_fits_is_taken() -> None:
    assert admit(100, **SIZES, when_full="refuse") == Take()


def test_pending_bytes_count_as_used() -> None:
    assert admit(101, **SIZES, when_full="refuse") == Refuse("the queue is full", 30)


def test_with_drop_oldest_the_writer_will_make_room() -> None:
    assert admit(150, **SIZES, when_full="drop_oldest") == Take()


def test_drop_oldest_never_drops_everything_for_a_report_that_cannot_fit() -> None:
    assert isinstance(admit(1001, **SIZES, when_full="drop_oldest"), Refuse)


@pytest.mark.parametrize("policy", ["refuse", "drop_oldest"])
def test_memory_on_the_way_to_the_disk_is_bounded(policy: Any) -> None:
    verdict = admit(2, used_bytes=0, pending_bytes=63_999_999, capacity=Capacity(2**40, "max_size"), when_full=policy)
    assert verdict == Refuse("the disk is slower than the input", 1)


def test_a_disk_that_fills_up_is_named_as_the_reason() -> None:
    verdict = admit(1, used_bytes=9, pending_bytes=0, capacity=Capacity(9, "min_free"), when_full="refuse")
    assert verdict == Refuse("the disk is nearly full", 30)


GB = 10**9


@pytest.mark.parametrize(
    ("disk_bytes", "disk_free", "expected"),
    [
        (100 * GB, 50 * GB, Capacity(2 * GB, "max_size")),
        (100 * GB, 1_300_000_000, Capacity(1_500_000_000 - 250_000_000 + 300_000_000, "min_free")),
        (100 * GB, 250_000_000, Capacity(500_000_000, "min_free")),  # no more than the file has already
        (100 * GB, 0, Capacity(250_000_000, "min_free")),
        (1 * GB, 100_000_000, Capacity(550_000_000, "min_free")),  # a twentieth of a small disk is less
    ],
)
def test_the_room_shrinks_so_that_the_disk_keeps_some_space(
    disk_bytes: int, disk_free: int, expected: Capacity
) -> None:
    found = capacity_of(
        max_size=2 * GB, min_free=250_000_000, file_bytes=500_000_000, disk_bytes=disk_bytes, disk_free=disk_free
    )
    assert found == expected


def test_the_room_is_never_below_nothing() -> None:
    assert capacity_of(max_size=10, min_free=100, file_bytes=3, disk_bytes=10**6, disk_free=5) == Capacity(
        0, "min_free"
    )
