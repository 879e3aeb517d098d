"""Who may use one of a proxy's few connections next: deficit round robin by bytes, so that no stream crowds others out.

waiting streams in a circle; each visit adds a quantum to a stream's deficit; it goes when that covers its bytes
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable

import msgspec

_QUANTUM_BYTES = 64_000


class _Waiting(msgspec.Struct):
    size: int
    turn: asyncio.Future[bool]
    deficit: int = 0


class Turns:
    """At most `limit` requests at a time; each stream has at most one waiting."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._circle: OrderedDict[Hashable, _Waiting] = OrderedDict()

    @property
    def contended(self) -> bool:
        """Whether somebody waits."""
        return bool(self._circle)

    @contextlib.asynccontextmanager
    async def turn(self, stream: Hashable, size: int) -> AsyncIterator[bool]:
        """Waits until `stream` may send about `size` bytes. False: it may not, since `dismiss` was called."""
        if self._free > 0 and not self._circle:
            self._free -= 1
        elif not await self._wait(stream, size):
            yield False
            return
        try:
            yield True
        finally:
            self._free += 1
            self._next()

    def dismiss(self) -> None:
        """Sends all away that wait: there is something new to think about."""
        waiting, self._circle = list(self._circle.values()), OrderedDict()
        for each in waiting:
            if not each.turn.done():
                each.turn.set_result(False)

    async def _wait(self, stream: Hashable, size: int) -> bool:
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._circle[stream] = waiting
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            self._circle.pop(stream, None)
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.result():
                self._free += 1  # its turn came at the same moment
                self._next()
            raise

    def _next(self) -> None:
        while self._free > 0 and self._circle:
            stream, waiting = next(iter(self._circle.items()))
            waiting.deficit += _QUANTUM_BYTES
            if waiting.deficit < waiting.size:
                self._circle.move_to_end(stream)
                continue
            del self._circle[stream]
            if not waiting.turn.done():  # else it was cancelled, and will hear of it in a moment
                self._free -= 1
                waiting.turn.set_result(True)
