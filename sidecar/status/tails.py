"""Shapes what is shown of tailed files: where each is, how far it was read, what it waits for. Names are promises."""

from typing import Literal

import msgspec

from sidecar.core.model import LossReason

FileState = Literal["reading", "idle", "held", "behind", "waiting", "rotated", "error", "refused"]


class ShownFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `offset` is what is on disk, in bytes; times are in milliseconds since 1970, or in seconds."""

    tail: str
    path: str
    at: str
    device: int
    inode: int
    offset: int
    size: int
    lag_bytes: int
    lag_s: float
    rate_bytes_s: float
    last_event_at: int | None
    state: FileState
    why: str | None


class ShownLoss(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt for bytes that may be lost; `at_most` None: nobody can know how many."""

    tail: str
    path: str
    offset: int
    at_most: int | None
    reason: LossReason
    why: str
    since_at: int
    found_at: int


class ShownTail(msgspec.Struct, frozen=True, kw_only=True):
    """One tail. `polling`: why the system does not report changes of its files; `waiting`: why nothing is read.

    So many files or directories are `unreadable`; the first of them, with the reason.
    """

    name: str
    stream: str
    files: int
    lag_bytes: int
    polling: str | None
    waiting: str | None
    unreadable: int = 0
    unreadable_first: str | None = None


class ShownTails(msgspec.Struct, frozen=True):
    """All tails, and the receipts for bytes that may be lost."""

    tails: list[ShownTail]
    files: list[ShownFile]
    losses: list[ShownLoss]
