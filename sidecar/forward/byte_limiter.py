"""How many bytes of one data_id may be under way to a proxy's next message, which is dropped from 10 MiB on. Pure.

The proxy gathers what it accepts for a data_id, of all tokens and kinds, for three seconds or up to 3,000 items, and
passes that on as one message. One of 10 MiB or more vanishes, after all its answers of 200. So of what this host sends
never more than `limit_bytes` may be able to meet in one message:

    requests     [......] [..] [......] [......]  [next]
                          └──── of the last 3 s, and there of the last 3,000 items: at most limit_bytes ────┘

A request counts from the moment it leaves until three seconds after its answer, since nobody knows when in between it
was accepted. Small items are not slowed down by this: 3,000 of them are no large message, however fast they come.

Bytes are those of the proxy's message, as far as they can be told here: never fewer (`weigh`).

Invariant: what can meet in one message is at most `limit_bytes`, or one request alone; also across restarts. What was
not written down when the process died is at most `slack_bytes`, and a restart takes it for spent.
"""

import re
from collections import deque
from collections.abc import Hashable

import msgspec

_WINDOW_S = 3.0
_LATE_S = 0.2
"""For what happens between the proxy's answer and its message; and for timers of both sides."""
_MOST_BYTES = 8_000_000
"""In one window, however much is configured. The rest up to 10 MiB is for what nobody can know."""
_MESSAGE_ITEMS = 3_000
_ITEM_BYTES = 24
"""What the message says of an item beside the item: a dimension that it does not have, commas, blanks."""
_REQUEST_BYTES = 1_000
_ESCAPE_BYTES = 5
"""By which `<` grows in the message: sonic escapes HTML."""
_CONTROL_BYTES = 4
_SEPARATOR_BYTES = 3
_NUMBER_BYTES = 18
"""By which `1e20` grows, the number that grows most."""
_TURN_S = 0.005
"""By so much each lane lets those go first that have waited longer."""
_EXPONENT = re.compile(rb"[0-9][eE][+0-9-]")


class Weight(msgspec.Struct, frozen=True):
    """What a request adds to the proxy's message."""

    bytes: int
    items: int


class Sent(msgspec.Struct, eq=False):
    """A request that counts. `ends_s`: until when, None while it is on its way."""

    weight: Weight
    ends_s: float | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What survives a restart: so many bytes were spent, the last of them at `at_s` on the clock of that boot."""

    at_s: float
    bytes: int


_NOTHING = Snapshot(at_s=-1e9, bytes=0)


def weigh(events: bytes, items: int) -> Weight:
    """Say what `events`, comma-joined JSON of so many items, will weigh in the message; rather more than less.

    Its strings are escaped as HTML, and its numbers have no exponents there (sonic, `EscapeHTML`).
    """
    size = len(events) + _REQUEST_BYTES + _ITEM_BYTES * items
    size += _ESCAPE_BYTES * (events.count(b"<") + events.count(b">") + events.count(b"&"))
    if b"\\" in events:
        size += _CONTROL_BYTES * (events.count(b"\\b") + events.count(b"\\f"))
    if not events.isascii():
        size += _SEPARATOR_BYTES * (events.count(b"\xe2\x80\xa8") + events.count(b"\xe2\x80\xa9"))
    return Weight(size + _NUMBER_BYTES * len(_EXPONENT.findall(events)), items)


class ByteLimiter:
    """What of one data_id is under way or was sent lately. Times are seconds on a clock that never jumps.

    `per_s` None: as much as anybody likes.
    """

    def __init__(self, per_s: float | None) -> None:
        self.per_s = per_s
        self.limit_bytes = 0 if per_s is None else min(int(per_s * _WINDOW_S), _MOST_BYTES)
        self.slack_bytes = self.limit_bytes // 8
        self._under_way: list[Sent] = []  # in no order: any of them may be accepted next
        self._landed: deque[Sent] = deque()  # by the time of their answers
        self._noted = _NOTHING  # what is on disk
        self._not_noted_bytes = 0
        self._asking: dict[Hashable, float] = {}  # lanes that wait, by when they sent last
        self._served: dict[Hashable, float] = {}  # when each lane sent last

    def wait_s(self, now_s: float, weight: Weight, lane: Hashable = None) -> float:
        """Seconds until `lane` may send a request of this weight; 0: now. An estimate while others are under way."""
        if self.per_s is None:
            return 0.0
        counted = self._counted(now_s)
        under_way = sum([sent.weight.bytes for sent in self._under_way])
        total = under_way + sum([sent.weight.bytes for sent in counted])
        wait_s = 0.0
        for sent in counted:
            if total == 0 or total + weight.bytes <= self.limit_bytes:
                break
            total -= sent.weight.bytes
            wait_s = max(wait_s, (sent.ends_s or now_s) - now_s)
        if total and total + weight.bytes > self.limit_bytes:  # those count for so long after their answers
            wait_s = _WINDOW_S
        return wait_s + _TURN_S * self._ahead_of(lane) if wait_s > 0 else 0.0

    def ask(self, lane: Hashable) -> None:
        """Note that `lane` waits: it goes ahead of those that sent since it did."""
        self._asking[lane] = self._served.get(lane, float("-inf"))

    def spend(self, now_s: float, weight: Weight, lane: Hashable = None) -> Sent:
        """Count a request that leaves now."""
        sent = Sent(weight)
        if self.per_s is not None:
            self._under_way.append(sent)
            self._not_noted_bytes += weight.bytes
            self._asking.pop(lane, None)
            self._served[lane] = now_s
        return sent

    def landed(self, sent: Sent, now_s: float, *, accepted: bool) -> None:
        """Note the end of a request, and whether the proxy may have `accepted` it. May be called again."""
        if sent not in self._under_way:
            return
        self._under_way = [other for other in self._under_way if other is not sent]
        if accepted and self.per_s is not None:
            sent.ends_s = now_s + max(_WINDOW_S + _LATE_S, sent.weight.bytes / self.per_s)
            self._landed.append(sent)
        self._forget(now_s)

    def snapshot(self, now_s: float) -> Snapshot:
        """What is to be written down; the same as before as long as little was spent since."""
        if self._not_noted_bytes > self.slack_bytes:
            self._forget(now_s)
            spent = sum([sent.weight.bytes for sent in (*self._under_way, *self._landed)])
            self._noted, self._not_noted_bytes = Snapshot(at_s=now_s, bytes=spent), 0
        return self._noted

    def restore(self, snapshot: Snapshot | None, now_s: float, *, same_boot: bool) -> None:
        """Go on after a restart, with what was written down and what may have been spent since. In doubt, the worst."""
        spent = self.slack_bytes
        if snapshot is not None and not same_boot:
            spent = self.limit_bytes
        elif snapshot is not None and now_s - snapshot.at_s < _WINDOW_S + _LATE_S:
            spent = min(self.limit_bytes, spent + snapshot.bytes)
        self._landed.append(Sent(Weight(spent, 0), now_s + _WINDOW_S + _LATE_S))

    def _counted(self, now_s: float) -> list[Sent]:
        """What can still meet the next request in a message, the oldest first."""
        found: list[Sent] = []
        items = 0
        for sent in reversed(self._landed):
            if items >= _MESSAGE_ITEMS:
                break
            if (sent.ends_s or now_s) > now_s:
                items += sent.weight.items
                found.append(sent)
        return found[::-1]

    def _ahead_of(self, lane: Hashable) -> int:
        mine = self._served.get(lane, float("-inf"))
        return sum([other != lane and served_s < mine for other, served_s in self._asking.items()])

    def _forget(self, now_s: float) -> None:
        while self._landed and (self._landed[0].ends_s or now_s) <= now_s:
            self._landed.popleft()
        if not self._landed and not self._under_way:
            self._not_noted_bytes = 0
            self._asking.clear()
            self._served.clear()
