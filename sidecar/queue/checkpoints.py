"""The queue's table of how far tailed files are committed, as the tails see it; called on the event loop."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sidecar.model import Advance, Checkpoint, Loss
from sidecar.queue.operations import Done, SaveCheckpoints
from sidecar.queue.reader import Reader


class Checkpoints:
    """`commit` puts an operation through the writer, `read` something through the reader's thread."""

    def __init__(
        self,
        commit: Callable[[Callable[[Done], Any]], Awaitable[Any]],
        read: Callable[[Callable[[], Any]], Awaitable[Any]],
        reader: Reader,
    ) -> None:
        self._commit, self._read, self._reader = commit, read, reader

    async def load(self, tail: str) -> list[Checkpoint] | None:
        """How far the files of `tail` are committed; None if it never ran."""
        found: list[Checkpoint] | None = await self._read(lambda: self._reader.checkpoints(tail))
        return found

    async def save(self, tail: str, started_ms: int, advances: Sequence[Advance], forget: Sequence[int] = ()) -> None:
        """Puts on disk what no event moves, and that `tail` runs; all or, raising Stale or Unavailable, nothing."""
        await self._commit(lambda done: SaveCheckpoints(tail, started_ms, advances, forget, done))

    async def losses(self, most: int = 1000) -> list[Loss]:
        """The newest receipts for what could not be had any more, the oldest of them first."""
        found: list[Loss] = await self._read(lambda: self._reader.losses(most))
        return found
