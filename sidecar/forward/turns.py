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
    turn: asyncio.Future[None]
    deficit: int = 0


class Turns:
    """At most `limit` requests at a time; each stream has at most one waiting."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._circle: OrderedDict[Hashable, _Waiting] = OrderedDict()

    @contextlib.asynccontextmanager
    async def turn(self, stream: Hashable, size: int) -> AsyncIterator[None]:
        """Waits until `stream` may send `size` bytes."""
        if self._free > 0 and not self._circle:
            self._free -= 1
        else:
            await self._wait(stream, size)
        try:
            yield
        finally:
            self._free += 1
            self._next()

    async def _wait(self, stream: Hashable, size: int) -> None:
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._circle[stream] = waiting
        try:
            await waiting.turn
        except asyncio.CancelledError:
            self._circle.pop(stream, None)
            if waiting.turn.done() and not waiting.turn.cancelled():  # its turn came at the same moment
                self._free += 1
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
            self._free -= 1
            waiting.turn.set_result(None)
