"""Room in the queue."""

from typing import Any

import pytest

from sidecar.admission import Refuse, Take, admit

SIZES: dict[str, Any] = {"used_bytes": 600, "pending_bytes": 300, "max_bytes": 1000}


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
    verdict = admit(2, used_bytes=0, pending_bytes=63_999_999, max_bytes=2**40, when_full=policy)
    assert verdict == Refuse("the disk is slower than the input", 1)
