"""Decides from sizes alone whether the queue takes more now, and how large it may become. Pure."""

from typing import Literal

import msgspec

from sidecar.core.model import Capacity

_MIN_FREE_SHARE = 0.05
_MIN_FREE_BYTES = 32_000_000
"""Free bytes that the queue needs to delete delivered events: several times the size of its write-ahead log."""
_MOST_LOG_BYTES = 64_000_000
"""With `drop_oldest`: bytes by which a write-ahead log that cannot be emptied may grow.

If the capacity is more, the log may grow by the capacity. Beyond that nothing is accepted."""
# What is on its way to the disk is in memory, so it needs a limit.
_PENDING_MAX_BYTES = 64_000_000
_RETRY_FULL_S = 30
_RETRY_BUSY_S = 1


class Take(msgspec.Struct, frozen=True):
    """There is room."""


class Refuse(msgspec.Struct, frozen=True):
    """No room."""

    reason: str
    retry_after_s: int


def admit(
    incoming: int,
    *,
    used_bytes: int,
    pending_bytes: int,
    capacity: Capacity,
    when_full: Literal["refuse", "drop_oldest"],
    log_bytes: int = 0,
) -> Take | Refuse:
    """Decide on `incoming` bytes beside `used_bytes` on disk and `pending_bytes` on their way to the disk.

    With `drop_oldest` the queue's writer makes room; but not in its log, which has grown by `log_bytes`.
    """
    if pending_bytes + incoming > _PENDING_MAX_BYTES:
        return Refuse("the disk is slower than the input", _RETRY_BUSY_S)
    # What is larger than the queue is refused: for it everything would be dropped, and in vain.
    if when_full == "drop_oldest" and incoming <= capacity.bytes and log_bytes <= max(_MOST_LOG_BYTES, capacity.bytes):
        return Take()
    if used_bytes + pending_bytes + incoming <= capacity.bytes:
        return Take()
    return Refuse(capacity.full, _RETRY_FULL_S)


def capacity_of(*, max_size: int, min_free: int, file_bytes: int, disk_bytes: int, disk_free: int) -> Capacity:
    """Return how large the queue may become: `max_size`, or less where the disk would be left with too little.

    `min_free` is asked for only up to a twentieth of the disk, or what the queue needs to work. `file_bytes` is what
    the queue's file occupies already.
    """
    floor = min(min_free, max(int(disk_bytes * _MIN_FREE_SHARE), _MIN_FREE_BYTES))
    grown = max(0, file_bytes + disk_free - floor)
    return Capacity(max_size, "max_size") if max_size <= grown else Capacity(grown, "min_free")
