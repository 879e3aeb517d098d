"""Tells which sidecars an event has come through, so that a loop of them is seen at once. Pure.

Each sidecar says in a header of what it forwards: the ids that it was told itself, and its own. A report that names the
sidecar that receives it has been there before:

    A ──[A]──> B ──[A, B]──> A: refused with 508, and B holds that stream

What waits in the queue is not told apart by where it came from; so the ids belong to a stream, and are forgotten a
while after the last report that named them, since the way may have been changed.
"""

import re
from collections.abc import Iterable

from sidecar.core.model import StreamKey

HEADER = "x-sidecar-hops"
MAX_HOPS = 8
_FORGET_AFTER_S = 300.0
_MAX_HEADER_BYTES = 256
_SHOWN_DIGITS = 6
_IDS = re.compile(rb"[0-9a-f]{16}(?:, ?[0-9a-f]{16})*")


class BadHops(ValueError):
    """A header that no sidecar wrote."""


def parse_hops(header: bytes) -> tuple[str, ...]:
    """Return the ids in `header`, the first hop first. Raises BadHops if it is malformed or too long."""
    if len(header) > _MAX_HEADER_BYTES or not _IDS.fullmatch(header):
        raise BadHops
    return tuple(each.strip() for each in header.decode("ascii").split(","))


def shown(sidecar_id: str) -> str:
    """Return as much of an id as people may see."""
    return sidecar_id[:_SHOWN_DIGITS]


class Hops:
    """The known way here of each stream. `own`: this sidecar's id, 16 hexadecimal digits."""

    def __init__(self, own: str) -> None:
        self.own = own
        self._seen: dict[StreamKey, dict[str, float]] = {}  # ids by stream, and when each was named last

    @property
    def short(self) -> str:
        """Return the part of our own id that people may see.

        Whoever knows the whole id could put it into a header, and so make this sidecar refuse another sidecar.
        """
        return shown(self.own)

    def is_loop(self, hops: Iterable[str]) -> bool:
        """Return True if a report with these hops has been here before."""
        return self.own in hops

    def note(self, key: StreamKey, hops: Iterable[str], now_s: float) -> None:
        """Remember the way of a report that was accepted for the stream `key`."""
        seen = self._seen.setdefault(key, {})
        for each in hops:
            seen.pop(each, None)
            seen[each] = now_s
        while len(seen) >= MAX_HOPS:  # many hosts behind one gateway: those that were named last, the nearest, stay
            del seen[next(iter(seen))]

    def forget(self, key: StreamKey) -> None:
        """Forget the way to a stream that is gone."""
        self._seen.pop(key, None)

    def header(self, key: StreamKey, now_s: float) -> dict[str, str]:
        """Return the header for what is forwarded of the stream `key`."""
        seen = self._seen.get(key)
        if seen is not None:
            for each in [each for each, at_s in seen.items() if now_s - at_s > _FORGET_AFTER_S]:
                del seen[each]
            if not seen:
                del self._seen[key]
        return {HEADER: ", ".join([*(seen or ()), self.own])}
