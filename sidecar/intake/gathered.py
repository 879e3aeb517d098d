"""What was found so far in a block of lines: events by stream, reports still to be looked at, and what is refused."""

from sidecar.intake.submission import Submission
from sidecar.intake.taken import LinesTaken, events_of, size_of
from sidecar.model import Block
from sidecar.queue import QueueStream


class Gathered:
    """What was found in a block of lines so far."""

    __slots__ = ("found", "now_ms", "refused", "repaired", "reports")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.found: dict[QueueStream, list[Block]] = {}
        self.reports: list[tuple[int, bytes]] = []
        self.refused: list[tuple[int, str]] = []
        self.repaired = 0

    def refuse_all(self, block: bytes, reason: str) -> None:
        self.refused = [(number, reason) for number in range(block.count(b"\n"))]

    def taken(self, block: bytes, submission: Submission) -> LinesTaken:
        blocks = [part for blocks in self.found.values() for part in blocks]
        lines = block.count(b"\n") - len(self.refused)
        refused = sorted(self.refused)
        return LinesTaken(lines, events_of(blocks), size_of(blocks), refused, self.repaired, submission or None)
