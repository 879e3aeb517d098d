"""What one connection has on its way to the disk, in the order in which it was read."""

from collections import deque

from sidecar.core.model import Order
from sidecar.inputs.socket.sessions import Handed


class Flight:
    """Something that was handed over, and is not on disk yet. `size`: what it holds in memory."""

    __slots__ = ("again", "handed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.handed: Handed | None = None
        self.again = False


class Flights:
    """They land in order: once one has failed, so do those behind it, and all of these are handed over again."""

    __slots__ = ("_failed", "_open", "_order", "_under_way")

    def __init__(self) -> None:
        self._open: deque[Flight] = deque()
        self._failed: list[Flight] = []
        self._order = Order()
        self._under_way = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def troubled(self) -> bool:
        """Return whether something failed, and has not landed since."""
        return bool(self._failed) or any(flight.again for flight in self._open)

    def start(self, flight: Flight) -> None:
        """Hand it over."""
        self._open.append(flight)
        self._submit(flight)

    def start_again(self) -> bool:
        """Hand over what failed, once more; False as long as something is still on its way that must not overtake."""
        if self._failed and self._under_way:
            return False
        if self._failed:
            self._order.error = None
            failed, self._failed = self._failed, []
            for flight in failed:
                flight.again = True
                self._submit(flight)
        return True

    def fail(self, flight: Flight) -> None:
        """It could not be put on disk."""
        self._under_way -= 1
        flight.again = False
        self._failed.append(flight)

    def land(self, flight: Flight) -> Handed:
        """It is on disk, and so is all that was handed over before it."""
        self._under_way -= 1
        landed = self._open.popleft()
        assert landed is flight
        assert flight.handed is not None
        handed, flight.handed = flight.handed, None  # what it was handed to leads back to the flight
        return handed

    def _submit(self, flight: Flight) -> None:
        assert flight.handed is not None
        self._under_way += 1
        flight.handed.submission.submit(self._order)
