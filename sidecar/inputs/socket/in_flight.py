"""Tracks what one connection has on its way to the disk, in the order in which it was read. Pure.

start ──> under way ──committed──> gone, the oldest first
             ^   └─failed─> failed, and so is all behind it ─┐
             └───── start_again, once nothing is under way ──┘
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from sidecar.core.model import Order
from sidecar.intake import Prepared


class InFlightItem:
    """Something that was submitted, and is not committed yet. `size`: what it holds in memory."""

    __slots__ = ("again", "prepared", "size")

    def __init__(self, prepared: Prepared, size: int) -> None:
        self.prepared, self.size = prepared, size
        self.again = False  # it failed before, and was submitted once more


Settled = Callable[[InFlightItem, Exception | None], None]
"""Is told that an item was committed, or could not be."""


class InFlight:
    """Track the items of one connection that are submitted and not committed yet. Event loop only."""

    __slots__ = ("_failed", "_open", "_order", "_under_way")

    def __init__(self) -> None:
        self._open: deque[InFlightItem] = deque()  # what is not committed, the failed ones too
        self._failed: list[InFlightItem] = []  # in the order of their failures, which is that of reading
        self._order = Order()  # the writer fails all behind what failed
        self._under_way = 0  # items whose end is not known

    def __len__(self) -> int:
        return len(self._open)

    @property
    def troubled(self) -> bool:
        """Return True if something failed, and was not committed since."""
        return bool(self._failed) or any(item.again for item in self._open)

    def start(self, item: InFlightItem, settled: Settled) -> None:
        """Submit `item`."""
        self._open.append(item)
        self._submit(item, settled)

    def start_again(self, settled: Settled) -> bool:
        """Submit what failed, once more; False as long as something is still on its way that must not overtake."""
        if self._failed and self._under_way:
            return False
        if self._failed:
            self._order.error = None
            failed, self._failed = self._failed, []
            for item in failed:
                item.again = True
                self._submit(item, settled)
        return True

    def failed(self, item: InFlightItem) -> None:
        """Note that it could not be committed."""
        self._under_way -= 1
        item.again = False
        self._failed.append(item)

    def committed(self, item: InFlightItem) -> None:
        """Note that it is committed, as is all that was submitted before it."""
        self._under_way -= 1
        oldest = self._open.popleft()
        assert oldest is item

    def _submit(self, item: InFlightItem, settled: Settled) -> None:
        self._under_way += 1
        item.prepared.submit(partial(settled, item), self._order)
