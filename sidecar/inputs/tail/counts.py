"""Counts what one tail has seen since the start."""

import time
from collections import Counter

import structlog

from sidecar.core.rate_meter import Recent
from sidecar.host.clock import boot_clock
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.tail.messages import ReadBlock
from sidecar.parsing import LineCounts

NAMES = ("filtered", "unparsed", "untimed", "cut", "blank", "late", "nul_bytes", "not_numbers",
         "sampled", "throttled", "repeated")  # fmt: skip
AMISS = ("untimed", "late", "not_numbers")
"""What of these says that something is to be mended, and is a reason in status for `_LATELY_S`."""
_LATELY_S = 600.0
_TELL_EVERY_S = 60.0
log = structlog.get_logger("inputs.tail")


class TailCounts(InputCounts):
    """Count in plain numbers: `lines` by what became of them, `recent` what is amiss of late, `losses`."""

    __slots__ = ("_tell_late_s", "lines", "losses", "recent")

    def __init__(self, name: str) -> None:
        super().__init__(name, "tail")
        self.lines: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
        self.losses = 0
        self.recent = Recent(_LATELY_S)
        self._tell_late_s = 0.0  # lines that exceeded a limit of time are not logged before

    def committed(self, block: ReadBlock) -> None:
        """Count what is on disk now."""
        counts = block.counts
        self.took(block.events, block.size, counts.replaced)
        self.rejected += counts.dropped + len(block.dead)
        for name in NAMES:
            self.lines[name] += getattr(counts, name)
        self.recent.count(boot_clock(), {name: getattr(counts, name) for name in AMISS})
        if counts.late:
            self._tell_late(counts)

    def lose(self) -> None:
        """Count one loss that is on disk now."""
        self.losses += 1

    def _tell_late(self, counts: LineCounts) -> None:
        now_s = time.monotonic()
        if now_s >= self._tell_late_s:
            self._tell_late_s = now_s + _TELL_EVERY_S
            log.warning("pattern exceeded its time limit, such lines count as unparsed", tail=self.name,
                        pattern=",".join(sorted(counts.late_in)), lines=self.lines["late"])  # fmt: skip
