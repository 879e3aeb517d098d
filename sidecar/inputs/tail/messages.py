"""What a tail's thread and the event loop tell each other. A thread asks; the loop answers into its inbox."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from sidecar.core.model import Advance, Block
from sidecar.inputs.tail.tracked_file import TailedFile
from sidecar.parsing import LineCounts


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Events of one file on their way to the disk, with the checkpoint behind them."""

    file: TailedFile
    blocks: Sequence[Block]
    dead: Sequence[tuple[bytes, str]]
    size: int
    events: int
    advance: Advance
    counts: LineCounts


class Landed(msgspec.Struct, frozen=True):
    """What became of a batch: it is on disk, or not, for the reason given."""

    batch: Batch
    error: Exception | None


class TailCommand(msgspec.Struct, frozen=True):
    """Somebody wants the files of the tail, or the one at `path`, read anew, or not read up to now."""

    action: Literal["reset", "skip"]
    path: str | None
    done: Callable[[int], None]


class CommitPort(Protocol):
    """What a tail's thread needs of the rest; both may be called from any thread."""

    def hand_over(self, batch: Batch, landed: Callable[[Landed], None]) -> None:
        """Put `batch` on disk, and then call `landed`; returns at once."""

    def save(self, started_ms: int, advances: Sequence[Advance], forget: Sequence[int]) -> None:
        """Put checkpoints on disk that no event moves. Waits for it; raises Stale, Unavailable or TimeoutError."""
