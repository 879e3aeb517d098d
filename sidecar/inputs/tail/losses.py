"""Receipts for bytes of a file that may be lost: how many at most, as far as the file was seen. Pure."""

import math

from sidecar.core.model import Checkpoint, Loss, LossReason
from sidecar.inputs.tail.tracked_file import TailedFile


def unread(file: TailedFile, why: str, now_ms: int) -> Loss:
    """Return the loss of what was not read of a file, and cannot be had any more.

    That is what stood there when it was last seen, and what may have come since, at the highest rate that it was seen
    to grow by. Of a file that was not seen since the start, or not seen to grow, nobody knows.
    """
    known = max(0, max(file.size, file.shrunk_from) - file.reached.offset)
    gap_s = max(0.0, (now_ms - file.seen_ms) / 1000)
    at_most = known + math.ceil(file.peak_rate * gap_s) if file.noted and file.peak_rate else None
    return _receipt(file, file.reached.offset, at_most, LossReason.UNREAD, why, now_ms)


def window(file: TailedFile, offset: int, copied_ms: float, what: str, copy: str, now_ms: int) -> Loss:
    """Between the copying of a file, up to `offset`, and its truncation somebody may have written to it."""
    why = f"{what}; what was written after it was copied to {copy}"
    window_s = max(0.0, (now_ms - copied_ms) / 1000)
    at_most = math.ceil(file.peak_rate * window_s) if file.peak_rate else None
    return _receipt(file, offset, at_most, LossReason.COPIED, why, now_ms)


def skipped(file: TailedFile, there: Checkpoint, now_ms: int) -> Loss:
    """Somebody said that it is not to be read up to there; of a compressed file, nobody knows how much that is."""
    size = None if there.finished else there.offset - file.committed.offset
    why = "skipped by `sidecar tails skip`"
    return _receipt(file, file.committed.offset, size, LossReason.SKIPPED, why, now_ms)


def _receipt(file: TailedFile, offset: int, at_most: int | None, reason: LossReason, why: str, now_ms: int) -> Loss:
    return Loss(
        tail=file.reached.tail,
        path=file.path,
        offset=offset,
        at_most=at_most,
        reason=reason,
        why=why,
        since_ms=file.seen_ms,
        found_ms=now_ms,
    )
