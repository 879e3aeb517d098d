"""What all ways to the sidecar have in common: what may go wrong on them, and how long that is borne."""

from collections.abc import Callable
from typing import Protocol

from sidecar.cli.send.outbox import ReportOutbox
from sidecar.core.errors import SidecarError


class BrokenError(SidecarError):
    """The connection is lost; what is open may be sent again over another. `silent`: it never gave an answer."""

    def __init__(self, why: str, *, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


class GaveUpError(SidecarError):
    """Nothing moved for too long."""


class SendError(SidecarError):
    """Not everything is where it should be, and why."""


class Patience:
    """Ends when nothing was taken up or settled for `limit_s`."""

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._since_s = clock()

    def moved(self) -> None:
        """Something was."""
        self._since_s = self._clock()

    @property
    def left_s(self) -> float:
        """From here on; 0 at the end."""
        return max(0.0, self._since_s + self._limit_s - self._clock())


class SendLink(Protocol):
    """An open way to where reports go."""

    name: str

    def carry(self, outbox: ReportOutbox, patience: Patience) -> None:
        """Until all is settled. Raises BrokenError, GaveUpError, StoppedError."""

    def close(self) -> None:
        """May be called twice."""
