"""Says what a lane may send: the rate of its token, the bytes of its data_id, parts of both for one purpose. Pure.

Times are in seconds on a clock that never jumps.
"""

import functools
import hashlib
from collections import deque
from collections.abc import Hashable

import msgspec

from sidecar.core.model import StreamKey
from sidecar.forward.byte_limiter import ByteLimiter, Sent, Weight
from sidecar.forward.limiter import Limiter


class WindowQuota:
    """Limit one purpose to a part of the rate: at most `count` requests in any window of `window_s` seconds.

    A request may also be charged after it was sent, if its purpose was not known before. Later requests then wait.
    """

    def __init__(self, count: int, window_s: float) -> None:
        self._count, self._window_s = max(1, count), window_s
        self._times: deque[float] = deque()  # of the requests of the last window, the oldest first

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until one more request fits; 0: now."""
        if len(self._times) < self._count:
            return 0.0
        return max(0.0, self._times[-self._count] + self._window_s - now_s)

    def charge(self, now_s: float) -> None:
        """Count a request."""
        self._times.append(now_s)
        while self._times and self._times[0] <= now_s - self._window_s:
            self._times.popleft()


class Spent(msgspec.Struct, frozen=True):
    """One request that the byte limiters have counted: the limiter of the data_id, and that of the lane's own share."""

    sent: tuple[tuple[ByteLimiter, Sent], ...]

    def landed(self, now_s: float, *, accepted: bool | None) -> None:
        """Note the end of the request, and whether it was accepted; None: perhaps. May be called again."""
        for limiter, sent in self.sent:
            limiter.landed(sent, now_s, accepted=accepted)


class LaneQuota(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that apply to one lane.

    `limiter`: the requests of the token. `byte_limiter`: the bytes of the data_id. `search`: the requests that look for
    bad events. `refusals`: refused batches of fresh events beyond that, in a flood of bad events. `share`,
    `byte_share`: the part that a less urgent lane may use. `lane`: the lane that this quota belongs to.
    """

    limiter: Limiter
    byte_limiter: ByteLimiter
    search: WindowQuota
    refusals: WindowQuota
    share: WindowQuota | None = None
    byte_share: ByteLimiter | None = None
    lane: Hashable = None

    @property
    def byte_limiters(self) -> tuple[ByteLimiter, ...]:
        """Return all that count the bytes of this lane's requests."""
        return (self.byte_limiter, self.byte_share) if self.byte_share else (self.byte_limiter,)

    @property
    def largest_bytes(self) -> int | None:
        """Return what a request should weigh at most; None: as much as it likes."""
        return min([limiter.limit_bytes for limiter in self.byte_limiters if limiter.per_s is not None], default=None)

    def wait_s(self, now_s: float, weight: Weight) -> float:
        """Return the seconds until the next request may leave, if it has this weight; 0: now."""
        return max(self.requests_wait_s(now_s), self.bytes_wait_s(now_s, weight))

    def requests_wait_s(self, now_s: float) -> float:
        """Return the seconds until the rate allows a request."""
        share_s = self.share.wait_s(now_s) if self.share else 0.0
        return max(share_s, self.limiter.wait_s(now_s))

    def bytes_wait_s(self, now_s: float, weight: Weight) -> float:
        """Return the seconds until the data_id may have so much more."""
        return max([limiter.wait_s(now_s, weight, self.lane) for limiter in self.byte_limiters])

    def ask(self, now_s: float, weight: Weight) -> None:
        """Note that the lane waits for bytes."""
        for limiter in self.byte_limiters:
            if (wait_s := limiter.wait_s(now_s, weight, self.lane)) > 0:
                limiter.ask(self.lane, now_s, weight, wait_s)

    def spend(self, now_s: float, weight: Weight, proxy: str) -> Spent:
        """Count a request to `proxy` that leaves now."""
        self.limiter.spend(now_s)
        if self.share:
            self.share.charge(now_s)
        return Spent(tuple([(each, each.spend(now_s, weight, self.lane, proxy)) for each in self.byte_limiters]))

    def snapshot(self, now_s: float) -> tuple[bytes, bytes]:
        """Return what to write down of the token, and of the data_id."""
        return msgspec.json.encode(self.limiter.note()), msgspec.json.encode(self.byte_limiter.snapshot(now_s))


@functools.lru_cache(4096)  # asked for at each request, and each time that a tail is told of a line
def token_digest(key: StreamKey) -> str:
    """Return a digest that names a token where the token itself must not appear."""
    return hashlib.sha256(key.token.encode()).hexdigest()
