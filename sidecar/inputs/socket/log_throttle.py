"""Says what is wrong with clients, and how often, without letting them fill the log."""

import asyncio
from collections import Counter
from typing import Any

import structlog

log = structlog.get_logger("inputs.socket")
_WINDOW_S = 10.0
_LINES_IN_A_WINDOW = 5


class LogThrottle:
    """The first few cases of a kind are told one by one; ten seconds after the first, how many more there were."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name, self._loop = name, loop
        self._cases: Counter[str] = Counter()  # of each text, in the present window

    def say(self, what: str, **facts: Any) -> None:
        """Log at level WARNING, with the facts of this one case."""
        self._cases[what] += 1
        if self._cases[what] == 1:
            self._loop.call_later(_WINDOW_S, self._sum_up, what)
        if self._cases[what] <= _LINES_IN_A_WINDOW:
            log.warning(what, socket=self._name, **facts)

    def _sum_up(self, what: str) -> None:
        more = self._cases.pop(what) - _LINES_IN_A_WINDOW
        if more > 0:
            log.warning(what, socket=self._name, more=more, within_s=_WINDOW_S)
