"""The queue's table of how far tailed files are committed, as the tails see it; called on the event loop."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sidecar.core.model import Advance, Checkpoint, Loss
from sidecar.queue.operations import SaveCheckpoints
from sidecar.queue.reader import Reader


class Checkpoints:
    """Load and save checkpoints. `commit` runs an operation in the writer, `read` a call on the reader's thread."""

    def __init__(
        self,
        commit: Callable[[SaveCheckpoints], Awaitable[None]],
        read: Callable[[Callable[[], Any]], Awaitable[Any]],
        reader: Reader,
    ) -> None:
        self._commit, self._read, self._reader = commit, read, reader

    async def load(self, tail: str) -> tuple[int, list[Checkpoint]] | None:
        """Return when `tail` first ran (ms since 1970), and how far its files are committed; None if it never did."""
        found: tuple[int, list[Checkpoint]] | None = await self._read(lambda: self._reader.checkpoints(tail))
        return found

    async def save(self, tail: str, started_ms: int, advances: Sequence[Advance], forget: Sequence[int] = ()) -> None:
        """Commit checkpoint changes without events, and that `tail` runs: all or nothing. Raises Stale, Unavailable."""
        await self._commit(SaveCheckpoints(tail, started_ms, advances, forget))

    async def losses(self, most: int = 1000) -> list[Loss]:
        """Return the newest receipts for what could not be had any more, the oldest of them first."""
        found: list[Loss] = await self._read(lambda: self._reader.losses(most))
        return found
