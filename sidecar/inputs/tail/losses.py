"""Says of bytes of a file that may be lost how many they are at most, as far as the file was seen. Pure."""

import math

from sidecar.core.model import Checkpoint, Loss, LossReason
from sidecar.inputs.tail.tracked_file import TrackedFile


def unread(file: TrackedFile, why: str, now_ms: int) -> Loss:
    """Return the loss of what was not read of a file, and cannot be had any more.

    That is what stood there when it was last seen, and what may have come since, at the highest rate that it was seen
    to grow by. Of a file that was not seen since the start, or not seen to grow, nobody knows.
    """
    observed = file.observed
    known = max(0, max(observed.size, observed.shrunk_from) - file.reached.offset)
    gap_s = max(0.0, (now_ms - observed.seen_ms) / 1000)
    at_most = known + math.ceil(observed.peak_rate * gap_s) if observed.noted and observed.peak_rate else None
    return _loss(file, file.reached.offset, at_most, LossReason.UNREAD, why, now_ms)


def short_lived(tail: str, path: str, since_ms: int, now_ms: int) -> Loss:
    """Return the loss of what came to a path, and was gone before anybody looked; nobody knows how much."""
    why = "a file came to this path and was gone before it could be read"
    return Loss(
        tail=tail, path=path, offset=0, at_most=None, reason=LossReason.UNREAD, why=why, since_ms=since_ms,
        found_ms=now_ms,
    )  # fmt: skip


def window(file: TrackedFile, offset: int, copied_ms: float, what: str, copy: str, now_ms: int) -> Loss:
    """Return the loss of what somebody may have written between the copying, up to `offset`, and the truncation."""
    why = f"{what}; what was written after it was copied to {copy}"
    window_s = max(0.0, (now_ms - copied_ms) / 1000)
    at_most = math.ceil(file.observed.peak_rate * window_s) if file.observed.peak_rate else None
    return _loss(file, offset, at_most, LossReason.COPIED, why, now_ms)


def skipped(file: TrackedFile, there: Checkpoint, now_ms: int) -> Loss:
    """Return the loss of what an operator skipped up to `there`; of a compressed file, nobody knows how much."""
    size = None if there.finished else there.offset - file.committed.offset
    why = "skipped by `sidecar tails skip`"
    return _loss(file, file.committed.offset, size, LossReason.SKIPPED, why, now_ms)


def _loss(file: TrackedFile, offset: int, at_most: int | None, reason: LossReason, why: str, now_ms: int) -> Loss:
    return Loss(
        tail=file.reached.tail,
        path=file.path,
        offset=offset,
        at_most=at_most,
        reason=reason,
        why=why,
        since_ms=file.observed.seen_ms,
        found_ms=now_ms,
    )
