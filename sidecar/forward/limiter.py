"""The rate of one access token: never more than `rate.count` requests in any window of `rate.window_s`. Pure.

A bucket that starts full allows its burst on top of the rate, almost twice the limit in one window. So the burst is
taken out of the rate: with a burst of b, requests are `_interval_s` apart such that b and the steady flow together stay
within the count, and a hundredth is left for what the network does to the spacing. What may leave is one number,
`spent_until_s`: when the quota will be whole again (the generic cell rate algorithm's theoretical arrival time).

The proxy counts the token over all hosts, and says only yes or no (429). Under that ceiling each host therefore finds
its pace alone. `share_per_s` is what it believes to be its part; a refusal cuts it, answers and time raise it. Five
hundred hosts have two requests a minute each and may see no more than one refusal in half an hour: too few to follow
a fleet that halves. So each host always sends a part of its share, and in turns goes far beyond it until refused:

    never refused: the ceiling alone
      │ 429
      v
    hold: _STEADY of the share, until what was sent beyond the share is paid back ──> turn: a jump, doubling every
      ^                                                                                 83 s until the ceiling
      └───────────────────────────────────── 429 ───────────────────────────────────────┘

There are always a few hosts in their turns, and they take at once what others leave. All times are seconds on one
clock that must not jump. Invariant: no answer, and no restore, lets more through than the ceiling.
"""

import math
from collections.abc import Callable

import msgspec

from sidecar.core.units import Rate

_USUAL = Rate(1000, 60.0)
"""The rate from which shares and turns are calculated if no limit is configured."""
_LONG_AGO_S, _FAR_AHEAD_S = -1e9, 1e9
_ANY_PER_S = 1e9
_STEADY = 0.5
"""The part of its share that a host sends in a hold. A larger part means shorter pauses, but a less even sum."""
_JUMP = 0.05
"""The part of the ceiling that a turn adds at its begin."""
_GROWTH_S = 120.0
"""A turn grows e-fold in this time, which decides how soon the rest of a fleet has taken over."""
_FLEET = 500.0
_RUN = 55.0
"""Requests between two refusals (429) at which a share of a `_FLEET`th of the ceiling neither grows nor shrinks.

That is a refusal rate of 1.8 %, or 2.6 % with the time that is credited in holds. For smaller shares the number is in
proportion to the share: whoever has more loses more, which makes the shares equal. For larger shares it grows only with
the square root of the share; otherwise a small fleet would hardly ever end a turn."""
_GAIN, _GAIN_MOST = 0.05, 0.2
"""The part that one refusal takes from a share of a `_FLEET`th of the ceiling, and the largest part that it ever takes.

For other shares the part changes as `_RUN` does: it is smaller for smaller shares, and larger for larger ones."""
_STEEP = 0.5
"""The part of a share that is left after a refusal, if nothing was accepted since the refusal before it.

Only for shares above a hundredth of the ceiling."""
_RETRY_S = 10.0
"""The longest wait in seconds after a refusal, unless the spacing of requests is longer.

A retry at once would find the proxy's bucket still empty."""
_SLOWEST_S = 300.0
"""No share is less than one request in this time."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `Limiter` that survives a restart. Times are on the clock of the boot in which it was written."""

    spent_until_s: float
    owed_until_s: float
    grows_from_s: float
    next_s: float
    share_per_s: float


_FREE = Snapshot(
    spent_until_s=_FAR_AHEAD_S,  # should there be a limit after the restart
    owed_until_s=_LONG_AGO_S,
    grows_from_s=_LONG_AGO_S,
    next_s=_LONG_AGO_S,
    share_per_s=_ANY_PER_S,
)


_NOTHING = msgspec.structs.replace(_FREE, spent_until_s=_LONG_AGO_S, share_per_s=0.0)


def _covers(noted: Snapshot, now: Snapshot) -> bool:
    """Return True if whoever goes on from `noted` sends nothing sooner than from `now`."""
    return noted.share_per_s == now.share_per_s and (
        noted.spent_until_s >= now.spent_until_s
        and noted.owed_until_s >= now.owed_until_s
        and noted.grows_from_s >= now.grows_from_s
        and noted.next_s >= now.next_s
    )


class Limiter:
    """Limit the requests of one access token, and find this host's share of the token's rate."""

    def __init__(self, rate: Rate | None, *, random: Callable[[], float]) -> None:
        """Begin unused.

        `random` draws from [0, 1). A `rate` of None has no ceiling, but 429s slow it down all the same.
        """
        scale = rate or _USUAL
        self._limited, self._random = rate is not None, random
        self._burst = max(1, scale.count // 100)
        flow = scale.count - self._burst - scale.count // 100
        self._interval_s = scale.window_s / flow if flow > 0 else scale.window_s * 1.01
        self._ceiling_per_s = 1 / self._interval_s
        self._floor_per_s = min(1 / _SLOWEST_S, self._ceiling_per_s / 4)
        self.spent_until_s = _LONG_AGO_S  # when the ceiling's bucket will be whole again
        self._owed_until_s = _LONG_AGO_S  # when what was sent beyond the share is paid back
        self._grows_from_s = _LONG_AGO_S  # when the hold ends, and the turn begins
        self._next_s = _LONG_AGO_S  # no request before that
        self._accepted_s = _LONG_AGO_S  # when the proxy last took one
        self._signal_s = _LONG_AGO_S  # when it last refused one
        self.share_per_s = self._ceiling_per_s  # what this host believes to be its part
        self._noted = _NOTHING  # what is to be on disk before the next request leaves

    def snapshot(self) -> Snapshot:
        """Return the state for `restore` after a restart.

        For a token that nothing limits it is always the same, so that it is not written again.
        """
        if not self._limited and self.share_per_s == self._ceiling_per_s:
            return _FREE
        return Snapshot(
            spent_until_s=self.spent_until_s,
            owed_until_s=self._owed_until_s,
            grows_from_s=self._grows_from_s,
            next_s=self._next_s,
            share_per_s=self.share_per_s,
        )

    def note(self) -> Snapshot:
        """Return the state to write to disk before a request leaves. It stays the same as long as it covers them all.

        It covers some requests that did not leave yet, so that writes are rare; a restart takes these for sent.
        """
        now = self.snapshot()
        if not _covers(self._noted, now):
            # Below the ceiling each request has its own time, so that nothing is covered for long.
            ahead = self._burst // 2 if self._limited and self.share_per_s == self._ceiling_per_s else 0
            self._noted = msgspec.structs.replace(
                now,
                spent_until_s=now.spent_until_s + ahead * self._interval_s,
                owed_until_s=now.owed_until_s + ahead / self.share_per_s,
            )
        return self._noted

    def restore(self, snapshot: Snapshot | None, now_s: float, *, same_boot: bool) -> None:
        """Go on after a restart. None, or another boot: when requests left is not known, so take the worst."""
        spent_at_worst_s = now_s + self._burst * self._interval_s
        self.spent_until_s, self._accepted_s = spent_at_worst_s, now_s
        if snapshot is None:
            return
        self.share_per_s = min(max(snapshot.share_per_s, self._floor_per_s), self._ceiling_per_s)
        owed_s, spacing_s = self._run() / self.share_per_s, 1 / (_STEADY * self.share_per_s)
        hold_s = owed_s / (1 - _STEADY)
        if same_boot:
            self.spent_until_s = min(snapshot.spent_until_s, spent_at_worst_s)
            self._owed_until_s = min(snapshot.owed_until_s, now_s + owed_s)
            self._grows_from_s = min(snapshot.grows_from_s, now_s + hold_s)
            self._next_s = min(snapshot.next_s, now_s + max(spacing_s, _SLOWEST_S))
        elif snapshot.share_per_s < self._ceiling_per_s:  # a fleet that boots together must not send together
            self._grows_from_s = now_s + self._random() * hold_s
            self._next_s = now_s + self._random() * spacing_s

    def pace_per_s(self, now_s: float) -> float:
        """Return how fast requests may follow each other, apart from the burst."""
        steady = _STEADY * self.share_per_s
        if now_s < self._grows_from_s:
            return steady
        grown = math.exp(min((now_s - self._grows_from_s) / _GROWTH_S, 50.0))
        return min(self._ceiling_per_s, (steady + _JUMP * self._ceiling_per_s) * grown)

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the next request may leave; 0: now."""
        ceiling_s = self.spent_until_s - (self._burst - 1) * self._interval_s if self._limited else now_s
        return max(0.0, ceiling_s - now_s, self._next_s - now_s)

    def spend(self, now_s: float) -> None:
        """Count a request that leaves now."""
        self.spent_until_s = max(self.spent_until_s, now_s) + self._interval_s
        owed_s = max(self._owed_until_s - now_s, 0.0) + 1 / self.share_per_s
        self._owed_until_s = now_s + min(owed_s, self._run() / self.share_per_s)
        if self.pace_per_s(now_s) < self._ceiling_per_s:
            self._next_s = self._one_later(now_s)

    def accepted(self, now_s: float) -> None:
        """Note that the proxy accepted a request, and raise the share.

        A host that sends less than its share, in a hold or by itself, is credited with the time that has passed.
        """
        run = self._run()
        credit = min(run, max(1.0, (now_s - self._accepted_s) * self.share_per_s))
        self.share_per_s = min(self._ceiling_per_s, self.share_per_s * (1 + self._gain() * credit / run))
        self._accepted_s = now_s

    def refused(self, now_s: float, sent_s: float, retry_after_s: float | None) -> None:
        """Note that the proxy answered 429 to the request that left at `sent_s`.

        Refusals of requests that were in flight together count once.
        """
        if sent_s <= self._signal_s:
            self._next_s = max(self._next_s, now_s + (retry_after_s or 0.0))
            return
        steep = self._accepted_s <= self._signal_s and self.share_per_s > self._ceiling_per_s / 100
        self.share_per_s = max(self._floor_per_s, self.share_per_s * (_STEEP if steep else 1 - self._gain()))
        self._signal_s = now_s
        owed_s = max(0.0, self._owed_until_s - now_s)
        self._grows_from_s = max(self._grows_from_s, now_s + owed_s / (1 - _STEADY))
        self._next_s = now_s + (retry_after_s or 0.0) + self._random() * max(_RETRY_S, 1 / self.share_per_s)

    def _weight(self) -> float:
        size = self.share_per_s / self._ceiling_per_s * _FLEET
        return min(size, math.sqrt(size))

    def _run(self) -> float:
        return _RUN * self._weight()

    def _gain(self) -> float:
        return min(_GAIN_MOST, _GAIN * self._weight())

    def _one_later(self, now_s: float) -> float:
        """Return when the pace will have added up to one request."""
        held_s, steady = max(0.0, self._grows_from_s - now_s), _STEADY * self.share_per_s
        if held_s * steady >= 1:
            return now_s + 1 / steady
        start_s = now_s + held_s
        left = (1 - held_s * steady) / (self.pace_per_s(start_s) * _GROWTH_S)
        return start_s + _GROWTH_S * math.log1p(left)
