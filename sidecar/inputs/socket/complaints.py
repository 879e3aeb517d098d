"""Says what is wrong with clients, and how often, without letting them fill the log."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger("inputs.socket")
_EVERY_S = 10.0


class Complaints:
    """One line of a kind in ten seconds; the next one tells how many were left out. `clock` in seconds."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name, self._clock = name, clock
        self._said_s: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def say(self, what: str, **facts: Any) -> None:
        """At level WARNING, with the facts of this one case."""
        now_s = self._clock()
        if now_s - self._said_s.get(what, -_EVERY_S) < _EVERY_S:
            self._left_out[what] += 1
            return
        self._said_s[what] = now_s
        log.warning(what, socket=self._name, **facts, before=self._left_out.pop(what, 0))
