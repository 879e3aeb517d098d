"""Holds the result of a check: what is refused, and what is good and goes to the queue.

    a block, a frame ──check──> Prepared ──submit──> one append for each stream ──all committed──> done(None)
                                    ^                                           └─one failed─────> done(error) ─┐
                                    └────────── submitted again: only what is not committed yet ────────────────┘

Invariant: `done` is called once for each `submit`, after all of its appends have ended; nothing is appended twice.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from sidecar.core.errors import Rejection
from sidecar.core.model import Block, Done, Order

StreamAppend = Callable[[Done, Order | None], None]
"""Appends to one stream of the queue, behind what went before in the same order."""


class AcceptedReport(msgspec.Struct, frozen=True, gc=False):
    """The result of an accepted report. `repaired`: invalid characters in it were replaced by U+FFFD."""

    events: int
    bytes: int
    repaired: bool


class Prepared:
    """Checked events of one block or frame; they are done only when all of them are committed. Event loop only.

    `lines` can be acknowledged once they are; 0 where the client is told nothing. `events`, `bytes` and `repaired` are
    for the input's counters.
    """

    __slots__ = ("_appends", "_done", "_error", "_open", "bytes", "events", "lines", "repaired")

    def __init__(self, appends: list[StreamAppend], *, lines: int, events: int, bytes: int, repaired: int) -> None:  # noqa: A002
        self.lines, self.events, self.bytes, self.repaired = lines, events, bytes, repaired
        self._appends = appends  # what was not submitted yet, or has failed since
        self._open = 0  # appends under way
        self._error: Exception | None = None  # why one of them failed; None: none did so far
        self._done: Done | None = None  # None: nothing is under way

    def submit(self, done: Done, order: Order | None = None) -> None:
        """Append what is not committed yet, behind what was submitted in this `order` before.

        `done` is called with None once everything is committed; with an error, this may be submitted again.
        """
        appends, self._appends, self._error, self._done = self._appends, [], None, done
        self._open = len(appends)
        for append in appends:
            append(partial(self._settled, append), order)

    def _settled(self, append: StreamAppend, error: Exception | None) -> None:
        if error is not None:
            # Only this one is submitted again: the others are on disk, and would be there twice.
            self._appends.append(append)
            self._error = error
        self._open -= 1
        if not self._open:
            done, self._done = self._done, None  # it may hold what holds this
            assert done is not None
            done(self._error)


class PreparedLines(msgspec.Struct, frozen=True):
    """Tells what a block of lines held. `rejected` lines are numbered from 0; `prepared` is None if none was good."""

    rejected: Sequence[tuple[int, Rejection]]
    prepared: Prepared | None
    lines: int
    """The number of good lines, with those that hold no events."""


class PreparedFrame(msgspec.Struct, frozen=True):
    """Tells what a frame held: how many of its events are dead letters, for which reason. These are prepared too."""

    dead: Counter[str]
    prepared: Prepared


def size_of(blocks: Sequence[Block]) -> int:
    """Return the bytes of all `blocks` together."""
    return sum([len(block.body) for block in blocks])


def events_of(blocks: Sequence[Block]) -> int:
    """Return the events of all `blocks` together."""
    return sum([block.events for block in blocks])
