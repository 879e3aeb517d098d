"""Limits the bytes of one data_id that can meet in a proxy's next message, which is dropped from 10 MiB on. Pure.

The proxy gathers what it accepts for a data_id, of all tokens and kinds, for three seconds or up to 3,000 items, and
passes that on as one message. One of 10 MiB or more vanishes, after all its answers of 200. So of what this host sends
never more than `limit_bytes` may be able to meet in one message:

    requests     [......] [..] [......] [......]  [next]
                          └──── of the last 3 s, and there of the last 3,000 items: at most limit_bytes ────┘

A request counts from the moment it leaves until three seconds after its answer, since nobody knows when in between it
was accepted. It counts no longer than that once 3,000 items were surely accepted after it, by the same proxy: of
requests that left after its answer, and were answered well. So small items are not slowed down: 3,000 of them are no
large message, however fast they come.

Bytes are those of the proxy's message, as far as they can be told here: never fewer (`weigh`).

Invariant: what can meet in one message is at most `limit_bytes`, or one request alone; also across restarts. Before a
request leaves, what is written down covers it and all that counts; a restart takes that for sent at its own start.
"""

import bisect
from collections import deque
from collections.abc import Hashable

import msgspec

_WINDOW_S = 3.0
_LATE_S = 0.2
"""Seconds added to the window: for the time between the proxy's answer and its message, and for inexact timers."""
_MOST_BYTES = 8_000_000
"""The most bytes in one window, however much is configured. The rest up to 10 MiB is a margin for what is not known."""
_MESSAGE_ITEMS = 3_000
_ITEM_BYTES = 24
"""Extra bytes of the message for each item: a dimension that the item does not have, commas, blanks."""
_REQUEST_BYTES = 1_000
_TURN_S = 0.005
"""Seconds that a lane waits for each earlier lane that may send now, so that the earlier ones go first."""
_PATIENCE_S = 1.0
"""Seconds for which bytes stay reserved for a waiting lane after its expected time. Later lanes cannot take them."""
_NOTE_COUNTS_S, _NOTE_ANEW_S = 300.0, 150.0
"""Seconds: the age up to which a restart uses a snapshot, and the age at which a new snapshot is written.

The first is long, since a request may be answered much later than it left."""


class Weight(msgspec.Struct, frozen=True):
    """The size that a request adds to the proxy's message."""

    bytes: int
    items: int


class Sent(msgspec.Struct, eq=False):
    """One request that counts against the limit.

    It was sent at `left_s` and answered at `answered_s` (None while it is in flight), and counts until `ends_s`.
    """

    weight: Weight
    left_s: float
    proxy: str = ""
    answered_s: float | None = None
    ends_s: float = float("inf")


class BytesSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `ByteLimiter` that survives a restart. Times are on the clock of the boot in which it was written.

    `bytes`: at most this many bytes count since `at_s`, in flight or answered. `older`: bytes that an earlier restart
    assumed to be sent. Each entry has its own end, so that repeated restarts do not make it count for ever.
    """

    at_s: float
    bytes: int
    older: list[tuple[float, int]] = []


class _Waiting(msgspec.Struct):
    """The claim of one waiting lane: the size of its next request, and until when these bytes are reserved for it."""

    weight: Weight
    until_s: float


class _Passed:
    """Track the items that one proxy surely accepted last.

    Requests that were answered before `before_s` are no longer in the proxy's memory: their message has left.
    """

    def __init__(self) -> None:
        self.before_s = float("-inf")
        self._items: list[tuple[float, int]] = []  # by when they left: at most a message's, and one request's
        self._count = 0  # the items of all of them

    def add(self, left_s: float, items: int) -> None:
        """Note that so many items that left at `left_s` were accepted."""
        bisect.insort(self._items, (left_s, items))
        self._count += items
        while self._count - self._items[0][1] >= _MESSAGE_ITEMS:
            self._count -= self._items.pop(0)[1]
        if self._count >= _MESSAGE_ITEMS:
            self.before_s = max(self.before_s, self._items[0][0])


_NOTHING = BytesSnapshot(at_s=-1e9, bytes=0)


def weigh(size: int, items: int, growth: int) -> Weight:
    """Return what `items` items, comma-joined JSON of `size` bytes, add to the message: never too little.

    `growth`: bytes by which they grow when they are written anew (`text.growth`).
    """
    return Weight(size + growth + _REQUEST_BYTES + _ITEM_BYTES * items, items)


class ByteLimiter:
    """Limit the bytes of one data_id that the proxy can put into one message.

    It holds the requests that are in flight or were answered lately. Times are seconds on a clock that never jumps.
    `per_s`: bytes a second; None: no limit.
    """

    def __init__(self, per_s: float | None) -> None:
        self.per_s: float | None = None
        self.limit_bytes = 0  # what may meet in one message; 0 without a limit
        self._under_way: set[Sent] = set()  # requests without an answer
        self._landed: deque[Sent] = deque()  # answered requests that still count, ordered by the time of their answers
        self._counted_bytes = 0  # of `_under_way` and `_landed` together
        self._passed: dict[str, _Passed] = {}  # by proxy
        self._noted = _NOTHING  # what is to be on disk before the next request leaves
        self._restored: list[Sent] = []  # the part of `_landed` that a restart assumed to be sent
        self._waiting: dict[Hashable, _Waiting] = {}  # lanes that wait, the first one first
        self._set(per_s)

    def change(self, per_s: float | None, now_s: float) -> None:
        """Go on with another limit."""
        if self.per_s is None and per_s is not None:  # nothing was counted until now
            self._set(per_s)
            self._take_for_sent(self.limit_bytes, now_s)
        self._set(per_s)

    def _set(self, per_s: float | None) -> None:
        self.per_s = per_s
        self.limit_bytes = 0 if per_s is None else min(int(per_s * _WINDOW_S), _MOST_BYTES)

    def wait_s(self, now_s: float, weight: Weight, lane: Hashable = None) -> float:
        """Return the seconds until `lane` may send a request of this weight; 0: now.

        An estimate while others are under way.
        """
        if self.per_s is None:
            return 0.0
        self._forget(now_s)
        earlier, total = self._waiting_before(now_s, lane), self._counted_bytes
        kept = sum(earlier)
        if total + kept + weight.bytes <= self.limit_bytes or total + kept == 0:
            return _TURN_S * len(earlier) if earlier and total + earlier[0] <= self.limit_bytes else 0.0
        room = max(0, self.limit_bytes - kept - weight.bytes)  # 0: it goes alone
        if total <= room:
            return _LATE_S  # until the lanes that came before have sent
        wait_s = 0.0
        for sent in self._landed:
            wait_s = max(wait_s, sent.ends_s - now_s)
            total -= sent.weight.bytes
            if total <= room:
                return wait_s
        return _WINDOW_S  # those under way count for so long after their answers

    def ask(self, lane: Hashable, now_s: float, weight: Weight, wait_s: float) -> None:
        """Reserve bytes for `lane`, which will wait `wait_s` seconds: lanes that come later leave these bytes to it."""
        self._waiting = {other: each for other, each in self._waiting.items() if each.until_s >= now_s}
        self._waiting[lane] = _Waiting(weight, now_s + wait_s + _PATIENCE_S)

    def spend(self, now_s: float, weight: Weight, lane: Hashable = None, proxy: str = "") -> Sent:
        """Count a request to `proxy` that leaves now."""
        sent = Sent(weight, now_s, proxy)
        if self.per_s is not None:
            self._under_way.add(sent)
            self._counted_bytes += weight.bytes
            self._waiting.pop(lane, None)
        return sent

    def landed(self, sent: Sent, now_s: float, *, accepted: bool | None) -> None:
        """Note the end of a request, and whether the proxy has accepted it; None: perhaps. May be called again."""
        if sent not in self._under_way:
            return
        self._under_way.remove(sent)
        if accepted is False or self.per_s is None:
            self._counted_bytes -= sent.weight.bytes
            return
        sent.answered_s, sent.ends_s = now_s, now_s + max(_WINDOW_S + _LATE_S, sent.weight.bytes / self.per_s)
        self._landed.append(sent)
        if accepted:
            self._passed.setdefault(sent.proxy, _Passed()).add(sent.left_s, sent.weight.items)
        self._forget(now_s)

    def snapshot(self, now_s: float) -> BytesSnapshot:
        """Return the state to write to disk. It stays the same as long as it covers the bytes that count now.

        It covers some more bytes than count now, so that writes are rare. Soon after a restart it does not, since
        another restart would assume that all of these bytes were sent.
        """
        self._forget(now_s)
        self._restored = [sent for sent in self._restored if sent.ends_s > now_s]
        older = [(sent.ends_s, sent.weight.bytes) for sent in self._restored]
        counted = self._counted_bytes - sum([size for _, size in older])
        covered = self._noted.bytes if now_s - self._noted.at_s < _NOTE_ANEW_S else 0
        if counted > covered:
            more = 0 if older else self.limit_bytes // 8
            self._noted = BytesSnapshot(at_s=now_s, bytes=counted + more, older=older)
        return self._noted

    def restore(self, snapshot: BytesSnapshot, now_s: float, *, same_boot: bool) -> None:
        """Restore the state from disk after a restart. What is not known is assumed to be sent."""
        if not same_boot:
            self._take_for_sent(self.limit_bytes, now_s)
        elif now_s - snapshot.at_s < _NOTE_COUNTS_S:
            self._take_for_sent(min(self.limit_bytes, snapshot.bytes), now_s)
        for ends_s, size in snapshot.older if same_boot else ():
            if now_s < ends_s <= now_s + _WINDOW_S + _LATE_S:
                self._take_for_sent(size, now_s, ends_s)
        self._landed = deque(sorted(self._landed, key=lambda sent: sent.ends_s))
        older = [(sent.ends_s, sent.weight.bytes) for sent in self._restored]
        self._noted = BytesSnapshot(at_s=now_s, bytes=0, older=older)

    def _take_for_sent(self, size: int, now_s: float, ends_s: float | None = None) -> None:
        sent = Sent(Weight(size, 0), now_s, answered_s=now_s, ends_s=ends_s or now_s + _WINDOW_S + _LATE_S)
        self._landed.append(sent)
        self._restored.append(sent)
        self._counted_bytes += size

    def _waiting_before(self, now_s: float, lane: Hashable) -> list[int]:
        """Return for how many bytes those lanes wait that came before `lane`, the first one first."""
        found = []
        for other, waiting in self._waiting.items():
            if other == lane:
                break
            if waiting.until_s >= now_s:
                found.append(waiting.weight.bytes)
        return found

    def _forget(self, now_s: float) -> None:
        while self._landed:
            oldest = self._landed[0]
            passed = self._passed.get(oldest.proxy)
            gone = passed is not None and oldest.answered_s is not None and oldest.answered_s < passed.before_s
            if not gone and oldest.ends_s > now_s:
                return
            self._counted_bytes -= self._landed.popleft().weight.bytes
        if not self._under_way:
            self._passed.clear()
