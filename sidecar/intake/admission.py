"""Whether the queue takes more now: decided from sizes alone. Pure."""

from typing import Literal

import msgspec

from sidecar.core.model import Room

_MIN_FREE_SHARE = 0.05
_MIN_FREE_BYTES = 32_000_000
"""What the queue itself needs in order to forget what was delivered: its log, several times over."""
_MOST_LOG_BYTES = 64_000_000
"""A log that cannot be emptied may grow by so much, or by the room, before nothing more is taken with `drop_oldest`."""
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
    room: Room,
    when_full: Literal["refuse", "drop_oldest"],
    log_bytes: int = 0,
) -> Take | Refuse:
    """Decide on `incoming` bytes beside `used_bytes` on disk and `pending_bytes` on their way to the disk.

    With `drop_oldest` the queue's writer makes room; but not in its log, which has grown by `log_bytes`.
    """
    if pending_bytes + incoming > _PENDING_MAX_BYTES:
        return Refuse("the disk is slower than the input", _RETRY_BUSY_S)
    if when_full == "drop_oldest" and incoming <= room.bytes and log_bytes <= max(_MOST_LOG_BYTES, room.bytes):
        return Take()
    if used_bytes + pending_bytes + incoming <= room.bytes:
        return Take()
    why = "the queue is full" if room.limit == "max_size" else "the disk is nearly full"
    return Refuse(why, _RETRY_FULL_S)


def room(*, max_size: int, min_free: int, file_bytes: int, disk_bytes: int, disk_free: int) -> Room:
    """How large the queue may become: `max_size`, or less where the disk would be left with less than it should have.

    `min_free` is asked for only up to a twentieth of the disk, or what the queue needs to work. `file_bytes` is what
    the queue's file occupies already.
    """
    floor = min(min_free, max(int(disk_bytes * _MIN_FREE_SHARE), _MIN_FREE_BYTES))
    grown = max(0, file_bytes + disk_free - floor)
    return Room(max_size, "max_size") if max_size <= grown else Room(grown, "min_free")
