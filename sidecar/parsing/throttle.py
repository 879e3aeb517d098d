"""Lets at most so many events of one key pass in a period; what is over is left out, and counted. Pure.

The counts belong to one file, and are saved with the place in it, in one transaction with the events: after a kill
they go on where they were. The periods are those of the events' own times, so that what waited for hours is
treated as it would have been.
"""

import hashlib

import msgspec

from sidecar.text.templates import Template

_MOST_KEYS = 200
_OTHERS = ""
"""The key that all share for which there is no room; of them too, not too many may pass."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, tuple[int, int]]).decode


class ThrottleRule(msgspec.Struct, frozen=True, kw_only=True):
    """Say how many events may pass in `period_ms`. `by`: of each text of it; None: of all together."""

    at_most: int
    period_ms: int
    by: Template | None = None


class Throttle:
    """Count the events of one file. `state`: as `state()` returned it behind the last event; b"": none yet."""

    def __init__(self, rule: ThrottleRule, state: bytes) -> None:
        self._rule = rule
        # By key: the number of the period, and how many passed in it. Of a file whose rule was another, all is new.
        self._passed = _read(state)

    def admits(self, key: str, stamp_ms: int) -> bool:
        """Count an event of this key. Returns False if it is one too many."""
        key = _short(key)
        period = stamp_ms // self._rule.period_ms
        if key not in self._passed and len(self._passed) >= _MOST_KEYS:
            self._passed = {known: counted for known, counted in self._passed.items() if counted[0] >= period}
            if len(self._passed) >= _MOST_KEYS:
                key = _OTHERS
        last, count = self._passed.get(key, (period, 0))
        if period > last:
            last, count = period, 0
        self._passed[key] = (last, min(count + 1, self._rule.at_most + 1))
        return count < self._rule.at_most

    def state(self) -> bytes:
        """Return the counts, to go on with."""
        return _encode(self._passed)


def _read(state: bytes) -> dict[str, tuple[int, int]]:
    try:
        return _decode(state) if state else {}
    except msgspec.MsgspecError:
        return {}


def _short(key: str) -> str:
    return key if len(key) <= 32 else hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
