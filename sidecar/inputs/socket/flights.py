"""What one connection has on its way to the disk, in the order in which it was read."""

from collections import deque

from sidecar.inputs.socket.sessions import Handed


class Flight:
    """Something that was handed over, and is not on disk yet. `size`: what it holds in memory."""

    __slots__ = ("again", "handed", "landed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.handed: Handed | None = None
        self.landed = self.again = False


class Flights:
    """They may land in any order, and are settled in theirs."""

    __slots__ = ("_failed", "_open")

    def __init__(self) -> None:
        self._open: deque[Flight] = deque()
        self._failed: list[Flight] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def troubled(self) -> bool:
        """Whether something failed, and has not landed since."""
        return bool(self._failed) or any(flight.again for flight in self._open)

    def start(self, flight: Flight) -> None:
        """Hands it over."""
        self._open.append(flight)
        _submit(flight)

    def start_again(self) -> None:
        """Hands over what failed, once more."""
        failed, self._failed = self._failed, []
        for flight in failed:
            flight.again = True
            _submit(flight)

    def fail(self, flight: Flight) -> None:
        """It could not be put on disk."""
        flight.again = False
        self._failed.append(flight)

    def land(self, flight: Flight) -> list[Handed]:
        """It is on disk; what can be settled now, oldest first."""
        flight.landed, flight.again = True, False
        settled = []
        while self._open and self._open[0].landed:
            handed = self._open.popleft().handed
            assert handed is not None
            settled.append(handed)
        return settled


def _submit(flight: Flight) -> None:
    assert flight.handed is not None
    flight.handed.submission.submit()
