"""What came of something that was handed to the intake."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from sidecar.core.errors import Rejection
from sidecar.core.model import Block
from sidecar.intake.submission import Submission


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a report held. `repaired`: it had characters that were none, and now has U+FFFD in their place."""

    events: int
    bytes: int
    repaired: bool


class LinesTaken(msgspec.Struct, frozen=True):
    """Tells what a block of lines held. `rejected` lines are numbered from 0; without a `submission` none was good."""

    lines: int
    events: int
    bytes: int
    rejected: Sequence[tuple[int, Rejection]]
    repaired: int
    submission: Submission | None


class FrameTaken(msgspec.Struct, frozen=True):
    """What a frame held: events that will be sent, and how many are dead letters for which reason."""

    events: int
    bytes: int
    dead: Counter[str]
    repaired: bool
    submission: Submission


def size_of(blocks: Sequence[Block]) -> int:
    """Bytes of all `blocks` together."""
    return sum([len(block.body) for block in blocks])


def events_of(blocks: Sequence[Block]) -> int:
    """Events of all `blocks` together."""
    return sum([block.events for block in blocks])
