"""Whether the queue takes more now: decided from sizes alone. Pure."""

from typing import Literal

import msgspec

_PENDING_MAX_BYTES = 64_000_000
_RETRY_FULL_S = 30
_RETRY_BUSY_S = 1


class Take(msgspec.Struct, frozen=True):
    """There is room."""


class MakeRoom(msgspec.Struct, frozen=True):
    """There will be room once the oldest `size` bytes are dropped; the operator chose that."""

    size: int


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
) -> Take | MakeRoom | Refuse:
    """Decides on `incoming` bytes beside `used_bytes` on disk and `pending_bytes` on their way to the disk."""
    if pending_bytes + incoming > _PENDING_MAX_BYTES:
        return Refuse("the disk is slower than the input", _RETRY_BUSY_S)
    excess = used_bytes + pending_bytes + incoming - max_bytes
    if excess <= 0:
        return Take()
    if when_full == "drop_oldest" and incoming <= max_bytes:
        return MakeRoom(excess)
    return Refuse("the queue is full", _RETRY_FULL_S)
