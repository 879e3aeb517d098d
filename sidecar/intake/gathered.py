"""What was found so far in a block of lines: events by stream, reports still to be looked at, and what is refused."""

from operator import itemgetter

from sidecar.core.errors import Rejection
from sidecar.core.model import Block
from sidecar.intake.submission import Submission
from sidecar.intake.taken import LinesTaken, events_of, size_of
from sidecar.queue import QueueStream


class Gathered:
    """What was found in a block of lines so far."""

    __slots__ = ("found", "now_ms", "rejected", "repaired", "reports")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.found: dict[QueueStream, list[Block]] = {}
        self.reports: list[tuple[int, bytes]] = []
        self.rejected: list[tuple[int, Rejection]] = []
        self.repaired = 0

    def reject_all(self, block: bytes, why: Rejection) -> None:
        self.rejected = [(number, why) for number in range(block.count(b"\n"))]

    def taken(self, block: bytes, submission: Submission) -> LinesTaken:
        blocks = [part for blocks in self.found.values() for part in blocks]
        lines = block.count(b"\n") - len(self.rejected)
        rejected = sorted(self.rejected, key=itemgetter(0))
        return LinesTaken(lines, events_of(blocks), size_of(blocks), rejected, self.repaired, submission or None)
