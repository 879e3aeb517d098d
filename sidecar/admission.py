"""Whether the queue takes more now: decided from sizes alone. Pure."""

from typing import Literal

import msgspec

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
    max_bytes: int,
    when_full: Literal["refuse", "drop_oldest"],
) -> Take | Refuse:
    """Decides on `incoming` bytes beside `used_bytes` on disk and `pending_bytes` on their way to the disk.

    With `drop_oldest` the queue's writer makes room.
    """
    if pending_bytes + incoming > _PENDING_MAX_BYTES:
        return Refuse("the disk is slower than the input", _RETRY_BUSY_S)
    if when_full == "drop_oldest" and incoming <= max_bytes:
        return Take()
    if used_bytes + pending_bytes + incoming <= max_bytes:
        return Take()
    return Refuse("the queue is full", _RETRY_FULL_S)
