"""What one tail has seen since the start."""

from collections import Counter

from sidecar.inputs.counts import InputCounts
from sidecar.inputs.tail.messages import Batch

NAMES = ("filtered", "unparsed", "untimed", "cut", "blank", "late")


class TailCounts(InputCounts):
    """Plain numbers. `lines` counts by what became of them; `losses` counts receipts."""

    __slots__ = ("lines", "losses")

    def __init__(self, name: str) -> None:
        super().__init__(name, "tail")
        self.lines: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
        self.losses = 0

    def landed(self, batch: Batch) -> None:
        """So much is on disk."""
        counts = batch.counts
        self.took(batch.events, batch.size, counts.replaced)
        self.rejected += counts.dropped + len(batch.dead)
        for name in NAMES:
            self.lines[name] += getattr(counts, name)
