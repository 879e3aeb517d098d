"""Shares the few connections of a proxy: deficit round robin by bytes, so that no stream crowds others out.

waiting streams in a circle; each visit adds a quantum to a stream's deficit; it goes when that covers its bytes

A stream whose requests hang holds a connection for as long as a request may take. With more of these than connections
nothing else would ever go out. So there is a circle for each standing, and a part of the connections that it may have:

    proven    its last request was answered      all of them
    new       nothing is known of it yet         half of them, with those that hang
    hung      its last request was not           an eighth of them
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Hashable
from typing import Literal

import msgspec

_QUANTUM_BYTES = 64_000
_NEW_PART, _HUNG_PART = 2, 8
Standing = Literal["proven", "new", "hung"]
_Circle = OrderedDict[Hashable, "_Waiting"]


class _Waiting(msgspec.Struct):
    size: int
    turn: asyncio.Future[bool]
    deficit: int = 0


class FairQueue:
    """Share the connections to one proxy: at most `limit` requests at a time, and one waiting for each stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_use: Counter[Standing] = Counter()  # requests under way
        # Those who wait, by their standing; the next one first.
        self._circles: dict[Standing, _Circle] = {
            "proven": OrderedDict(), "new": OrderedDict(), "hung": OrderedDict(),
        }  # fmt: skip

    @property
    def contended(self) -> bool:
        """Return whether somebody waits."""
        return any(self._circles.values())

    @contextlib.asynccontextmanager
    async def turn(self, stream: Hashable, size: int, standing: Standing = "proven") -> AsyncIterator[bool]:
        """Wait until `stream` may send about `size` bytes. False: it may not, since `dismiss` was called."""
        if self._has_room(standing) and not self._circles[standing]:
            self._in_use[standing] += 1
        elif not await self._wait(stream, size, standing):
            yield False
            return
        try:
            yield True
        finally:
            self._give_back(standing)

    def dismiss(self) -> None:
        """End every wait: `turn` then gives False, and each stream chooses a proxy again."""
        waiting = [each for circle in self._circles.values() for each in circle.values()]
        for circle in self._circles.values():
            circle.clear()
        for each in waiting:
            if not each.turn.done():
                each.turn.set_result(False)

    async def _wait(self, stream: Hashable, size: int, standing: Standing) -> bool:
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        circle = self._circles[standing]
        circle[stream] = waiting
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            circle.pop(stream, None)
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.result():
                self._give_back(standing)  # its turn came at the same moment
            raise

    def _has_room(self, standing: Standing) -> bool:
        """Return True if a connection is free for such a stream. Of a single connection there are no parts."""
        used = self._in_use
        if used.total() >= self._limit:
            return False
        if standing == "proven" or self._limit == 1:
            return True
        if standing == "hung" and used["hung"] >= max(1, self._limit // _HUNG_PART):
            return False
        return used["new"] + used["hung"] < max(1, self._limit // _NEW_PART)

    def _give_back(self, standing: Standing) -> None:
        self._in_use[standing] -= 1
        for each in self._circles:
            self._next(each)

    def _next(self, standing: Standing) -> None:
        circle = self._circles[standing]
        while circle and self._has_room(standing):
            stream, waiting = next(iter(circle.items()))
            waiting.deficit += _QUANTUM_BYTES
            if waiting.deficit < waiting.size:
                circle.move_to_end(stream)
                continue
            del circle[stream]
            if not waiting.turn.done():  # else it was cancelled, and will hear of it in a moment
                self._in_use[standing] += 1
                waiting.turn.set_result(True)
