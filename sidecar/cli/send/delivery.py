"""Brings an outbox to its end, over one connection after another if need be; and what may go wrong on the way.

How each connection speaks is its own business (`SendLink`).
"""

import time
from collections.abc import Callable
from typing import Protocol

from sidecar.cli.send.outbox import ReportOutbox
from sidecar.core.backoff import Backoff
from sidecar.core.errors import SidecarError

_BACKOFF = Backoff(first_s=0.02, cap_s=1.0)


class NoSidecarError(SidecarError):
    """Nothing that is tried is a sidecar."""


class NoSidecarThereError(SidecarError):
    """Something else answers at the address; the text says what it is, as far as that is known."""


class BrokenError(SidecarError):
    """The connection is lost; what is open may be sent again over another. `silent`: it never gave an answer."""

    def __init__(self, why: str, *, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


class GaveUpError(SidecarError):
    """Nothing moved for too long."""


class SendError(SidecarError):
    """Not all reports were delivered; the text says why."""


class Patience:
    """A time-out: it ends when nothing was taken up or settled for `limit_s` seconds."""

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._since_s = clock()

    def moved(self) -> None:
        """Begin anew, since something moved."""
        self._since_s = self._clock()

    @property
    def left_s(self) -> float:
        """Return the seconds that are left; 0 at the end."""
        return max(0.0, self._since_s + self._limit_s - self._clock())


class SendLink(Protocol):
    """An open way to where reports go."""

    name: str
    last_answer: bytes
    """The body of the last acknowledgement; empty where there are no bodies."""

    def carry(self, outbox: ReportOutbox, patience: Patience) -> None:
        """Send until all is settled. Raises BrokenError, GaveUpError, StoppedError."""

    def close(self) -> None:
        """Close it; may be called twice."""


def deliver(
    link: SendLink,
    outbox: ReportOutbox,
    patience: Patience,
    *,
    connect: Callable[[], SendLink] | None,
    distrust: Callable[[str], None],
) -> None:
    """Send over `link`; what is open when a connection is lost is sent again over what `connect` gives, if anything.

    `distrust` hears of a way that was shut without a word. Raises GaveUpError and StoppedError.
    """
    failures = 0  # in a row, without anything settled in between
    current: SendLink | None = link
    while True:
        settled = outbox.settled_events
        try:
            current = current or (connect() if connect else link)
            current.carry(outbox, patience)
            return
        except (BrokenError, NoSidecarError) as error:
            outbox.take_back()
            if current is not None and isinstance(error, BrokenError) and error.silent:
                distrust(current.name)
            if connect is None or not patience.left_s:
                raise GaveUpError(str(error)) from None
            failures = 1 if outbox.settled_events > settled else failures + 1
        finally:
            if current is not None:
                current.close()
                current = None
        time.sleep(min(_BACKOFF.longest_s(failures), patience.left_s))
