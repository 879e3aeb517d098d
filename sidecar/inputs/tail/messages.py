"""What a tail's thread and the event loop tell each other. A thread asks; the loop answers into its inbox."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from sidecar.core.model import Advance, Block
from sidecar.inputs.tail.tracked_file import TrackedFile
from sidecar.parsing import LineCounts

Action = Literal["reset", "skip"]


class ReadBlock(msgspec.Struct, frozen=True, eq=False):
    """Hold the events of one block of a file on their way to the disk, with the checkpoint behind them."""

    file: TrackedFile
    blocks: Sequence[Block]
    dead: Sequence[tuple[bytes, str]]
    size: int
    events: int
    advance: Advance
    counts: LineCounts


class BlockResult(msgspec.Struct, frozen=True):
    """Tell what became of a block: it is committed, or not, for the reason given."""

    block: ReadBlock
    error: Exception | None


class TailCommand(msgspec.Struct, frozen=True):
    """Ask for the files of the tail, or the one at `path`, to be read anew, or not to be read up to now."""

    action: Action
    path: str | None
    done: Callable[[int], None]


class CommitPort(Protocol):
    """What a tail's thread needs of the rest; both may be called from any thread."""

    def submit(self, blocks: Sequence[ReadBlock], settled: Callable[[BlockResult], None]) -> None:
        """Put `blocks` on disk, together, and then call `settled` for each; returns at once."""

    def save(self, started_ms: int, advances: Sequence[Advance], forget: Sequence[int]) -> None:
        """Put checkpoints on disk that no event moves. Waits for it; raises Stale, Unavailable or TimeoutError."""
