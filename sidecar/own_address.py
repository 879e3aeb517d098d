"""This host's own address, which may come after the start: the network is often the last to be up. Pure but for `find`.

unknown ── found ──> known ── another one is found ──> known
   │ a minute                    (none: the last one stays)
   └──> given up: events name the loopback address, which is a reason in status until one is found
"""

from collections.abc import Callable

from sidecar.errors import Unavailable

_PATIENCE_S = 60.0
_LOOK_AGAIN_S = 1


class OwnAddress:
    """Looks for the address. `find` returns it, or None; `clock` is in seconds and never jumps."""

    def __init__(self, find: Callable[[], str | None], clock: Callable[[], float]) -> None:
        self.known = find()
        self.loopback_used = False
        """Whether something was named by the loopback address, since none was known in time."""
        self._find, self._clock = find, clock
        self._patient_until_s = clock() + _PATIENCE_S

    def look(self) -> str | None:
        """Look again. Return the address if it is another one than before."""
        found = self._find()
        if found is None or found == self.known:
            return None
        self.known, self.loopback_used = found, False
        return found

    def expect(self) -> None:
        """Return if events may be named by the address. Raises Unavailable while it may still come."""
        if self.known is not None:
            return
        if self._clock() < self._patient_until_s:
            raise Unavailable("this host has no address yet that its events could name", retry_after_s=_LOOK_AGAIN_S)
        self.loopback_used = True
