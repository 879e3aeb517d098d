"""The nouns that cross the borders between inputs, queue and forward; nothing here does anything.

They stand here, and not with any of the three, because those three never import one another.
"""

import enum
import re
from collections.abc import Callable
from typing import Literal

import msgspec

Done = Callable[[Exception | None], None]
"""A callback. It is called once: with None when the data is on disk, or with the error if it could not be written."""

Kind = Literal["event", "time_series"]
LaneName = Literal["fresh", "suspect", "retry", "replay", "scheduled"]
LANES: tuple[LaneName, ...] = ("fresh", "suspect", "retry", "replay", "scheduled")
"""The names of the lanes of a stream. A lane is an ordered queue; events of two lanes never share a batch:

`fresh` what was accepted · `suspect` what holds a bad event, set aside · `retry` dead letters put back · `replay`
deliveries sent again · `scheduled` events dated in the future, which become fresh when they are due.
"""
BEFORE_ALL = -(1 << 20)
"""A sequence number below that of every chunk.

New chunks count from 0. When a chunk at the head is split, its front part gets a number below 0."""
MAX_DATA_ID = 2**31 - 1
"""The proxy keeps a data_id in an int32, and answers 401 to a larger one for ever."""
MAX_TOKEN_CHARACTERS = 512
"""The longest access token that is accepted; real ones have 32 to about 200. The memory of a stream must be bounded."""

MS_MIN, MS_MAX = 10**12, 10**13 - 1
"""A timestamp has 13 digits: milliseconds from 2001 to 2286."""
METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
"""Names of metrics and of a time series' dimensions (bk-collector, `namePattern`); use with fullmatch."""


class StreamKey(msgspec.Struct, frozen=True):
    """The identity of a stream: its data_id (the pipe), the access token, and the kind of its items.

    The kind belongs to it, since the proxy refuses a report in which the two are mixed.
    """

    data_id: int
    token: str
    kind: Kind = "event"

    def __repr__(self) -> str:
        return f"StreamKey(data_id={self.data_id}, token=***, kind={self.kind})"


FORGOTTEN = StreamKey(0, "")
"""The stream that takes over the counters of forgotten streams, if no other stream has their data_id.

No report can name it."""


class Sender(msgspec.Struct, frozen=True):
    """The sender of a report. `name`: for people; `local`: a program of this host; `hops`: the sidecars on the way."""

    name: str
    local: bool
    hops: tuple[str, ...] = ()


THIS_HOST = Sender("this host", local=True)


class Block(msgspec.Struct, frozen=True, gc=False):
    """A run of events as comma-joined JSON, ready to stand between `"data":[` and `]`.

    `due_ms`: the events lie in the future, and the proxy will take them from then on. `growth`: the bytes by which they
    grow in the proxy's message (`text.growth`); None: nobody has looked.
    """

    body: bytes
    events: int
    due_ms: int | None = None
    growth: int | None = None


RULES = 1
"""The version of the rules by which events are checked on acceptance. What an older version accepted is looked at once
more before it leaves.

0: before keys were left out that differ from a known one by case.
"""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """One row of the queue, decompressed. `seq` orders the chunks of one lane; `rules` checked its events.

    `growth`: as of a block.
    """

    seq: int
    body: bytes
    events: int
    rules: int = RULES
    growth: int | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The committed position in one tailed file: its identity, and the offset up to which its lines are in the queue.

    `path` is where the tail's patterns found it, `at` where it was last, after it was rotated away too. It is known by
    `device`, `inode`, `head` (a digest of its first `head_bytes` bytes) and `mark` (the bytes just before `offset`);
    of a compressed file, all that counts in the bytes before compression. `inside_line`: a line was cut because it is
    too long, and `offset` lies in what is left of it. `finished`: rotated away or gone, and read to its end. `trail`
    tells how its content looked at some places before `offset`; `boot`: the boot of the host in which it was last found
    to go on as it did, "" if nobody knows. `state`: what making events of the lines before left behind, such as the
    counts of a throttle.
    """

    tail: str
    number: int
    path: str
    at: str
    device: int
    inode: int
    head: bytes = b""
    head_bytes: int = 0
    offset: int = 0
    mark: bytes = b""
    inside_line: bool = False
    finished: bool = False
    seen_ms: int = 0
    trail: bytes = b""
    boot: str = ""
    state: bytes = b""


class LossReason(enum.StrEnum):
    """Tells why bytes of a tailed file cannot be had any more. The values are stored."""

    UNREAD = "unread"  # the file was removed, truncated or replaced before it was read to its end
    COPIED = "copied"  # what may have been written between the copying of a file and its truncation
    SKIPPED = "skipped"  # an operator skipped them

    @property
    def is_expected(self) -> bool:
        """Return True if nobody needs to act: every rotation by copying may lose bytes, and a skip was asked for."""
        return self is not LossReason.UNREAD


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt for bytes of a tailed file that are not in the queue and cannot be had any more.

    At most `at_most` bytes from `offset` on, None where nobody can know; it happened between `since_ms`, when the file
    was last seen whole, and `found_ms`. `why` says more about the `reason`, for people.
    """

    tail: str
    path: str
    offset: int
    at_most: int | None
    reason: LossReason
    why: str
    since_ms: int
    found_ms: int


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """A new checkpoint, to be written if the one on disk has the offset `before` (None: if there is none on disk)."""

    checkpoint: Checkpoint
    before: int | None
    losses: tuple[Loss, ...] = ()


class Order:
    """Keep the appends of one client in order: after a failure all later ones fail too, until `error` is cleared.

    The queue's writer sets `error`. The client clears it when all appends in flight have failed, then submits again.
    """

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: Exception | None = None


class Books(msgspec.Struct, frozen=True):
    """The counters of promise 4, in events. They are written in the transactions that move the events."""

    accepted: int = 0
    queued: int = 0
    delivered: int = 0
    dead: int = 0
    dropped: int = 0

    @property
    def balanced(self) -> bool:
        """Return whether every accepted event is accounted for, and no counter ran below zero."""
        parts = (self.queued, self.delivered, self.dead, self.dropped)
        return self.accepted == sum(parts) and min(parts) >= 0

    def __add__(self, other: "Books") -> "Books":
        return Books(
            accepted=self.accepted + other.accepted,
            queued=self.queued + other.queued,
            delivered=self.delivered + other.delivered,
            dead=self.dead + other.dead,
            dropped=self.dropped + other.dropped,
        )


class Capacity(msgspec.Struct, frozen=True):
    """The size in bytes that the queue may have now, and the limit that decides it."""

    bytes: int
    limit: Literal["max_size", "min_free"]

    @property
    def full(self) -> str:
        """Return the reason, in words, for a queue that has reached this capacity."""
        return "the queue is full" if self.limit == "max_size" else "the disk is nearly full"
