"""Finds the one bad event in a batch that the proxy refused: a binary search from the front. Pure.

Known: everything ahead of the head was delivered, and among what stands up to `through_seq` there is a bad event.

    send the first half ──delivered──> the bad one is in what is left
                        └─refused────> the bad one is in this half
    a single event, refused ──> that is the one

So n events cost about log2(n) requests for each bad one, and the good ones go out in order on the way.
"""

from collections.abc import Sequence

import msgspec

from sidecar.core.model import Chunk


class Send(msgspec.Struct, frozen=True):
    """Send the first `chunks` of those that were read."""

    chunks: int


class Cut(msgspec.Struct, frozen=True):
    """First cut the head chunk in two, after so many `events`."""

    seq: int
    events: int


class Bisect(msgspec.Struct, kw_only=True):
    """The binary search for one bad event.

    `attempts` counts the refused requests that held the bad event; the first of them was at `first_ms`.
    """

    through_seq: int
    first_ms: int
    attempts: int = 1

    def refused(self, through_seq: int) -> None:
        """Note that what was sent, up to `through_seq`, was refused once more."""
        self.through_seq = through_seq
        self.attempts += 1

    def among(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Return those of the waiting `chunks` that are suspected; none: all of them were delivered meanwhile."""
        return [chunk for chunk in chunks if chunk.seq <= self.through_seq]


def halve(chunks: Sequence[Chunk]) -> Send | Cut:
    """Return how to go on with `chunks`, at least one, among which a bad event is."""
    if len(chunks) == 1:
        (only,) = chunks
        return Send(1) if only.events == 1 else Cut(only.seq, only.events // 2)
    half, events = sum([chunk.events for chunk in chunks]) / 2, 0
    for count, chunk in enumerate(chunks[:-1], start=1):
        events += chunk.events
        if events >= half:
            return Send(count)
    return Send(len(chunks) - 1)
