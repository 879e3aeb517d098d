"""This host's own address, which may come after the start: the network is often the last to be up. Pure but for `find`.

    unknown ── found ──> known ── another one, for a while ──> known
       │ a minute                 (none: the last one stays)
       └──> given up: events name the loopback address, which is a reason in status until one is found

It is known only once all that names it has been told (`took`), so that nothing is named by the old one afterwards.
"""

from collections.abc import Callable

from sidecar.core.errors import Unavailable

_PATIENCE_S = 60.0
_SETTLED_S = 5.0
"""Seconds for which a new address must be present before it is used.

An interface that is set up again has other addresses for a moment."""
_LOOK_AGAIN_S = 1


class OwnAddress:
    """Looks for the address. `find` returns it, or None; `clock` is in seconds and never jumps.

    `known`: by which the configuration in force names this host; None: by the loopback address, for want of one.
    """

    def __init__(self, known: str | None, find: Callable[[], str | None], clock: Callable[[], float]) -> None:
        self.known = known
        self.loopback_used = False
        """True if some events name the loopback address, since no other address was known in time."""
        self._find, self._clock = find, clock
        self._patient_until_s = clock() + _PATIENCE_S
        self._other: str | None = None  # another address than the known one, and since when it has been there
        self._other_since_s = 0.0

    def another(self) -> str | None:
        """Look again. Return the address if it is to take the place of the known one."""
        found = self._find()
        if found is None or found == self.known:
            self._other = None
            return None
        if found != self._other:
            self._other, self._other_since_s = found, self._clock()
        if self.known is not None and self._clock() - self._other_since_s < _SETTLED_S:
            return None
        return found

    def took(self, address: str | None) -> None:
        """Note that all that names this host goes by `address` from now on."""
        self.known, self._other, self.loopback_used = address, None, False

    def expect(self) -> None:
        """Return if events may be named by the address. Raises Unavailable while it may still come."""
        if self.known is not None:
            return
        if self._clock() < self._patient_until_s:
            raise Unavailable("this host has no address yet that its events could name", retry_after_s=_LOOK_AGAIN_S)
        self.loopback_used = True
