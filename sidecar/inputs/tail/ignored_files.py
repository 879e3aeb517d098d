"""What matches a tail's patterns and is not followed, each with its reason, which is told once."""

import structlog

from sidecar.inputs.tail.scan import ScanResult

_MOST_TOLD = 20
"""Of one look: a pattern that matches a thousand directories is one mistake."""
log = structlog.get_logger("inputs.tail")


class Refusals:
    """`shown` are all of them, by path; `closed` those that somebody could let us read."""

    def __init__(self, tail: str) -> None:
        self.shown: dict[str, str] = {}
        self.closed: set[str] = set()
        self._tail = tail
        self._here: dict[str, str] = {}

    def found(self, found: ScanResult) -> None:
        """What a look refused; what was refused elsewhere stays so while it is there."""
        new = [(path, why) for path, why in found.refused.items() if self.shown.get(path) != why]
        for path, why in new[:_MOST_TOLD]:
            self._tell(path, why)
        if found.more:
            log.warning("too many files match, some are not followed", tail=self._tail)
        self._here = {path: why for path, why in self._here.items() if path in found.files}
        self.shown = found.refused | self._here
        self.closed = found.closed

    def refuse(self, path: str, why: str) -> None:
        """A file that was found, and cannot be followed."""
        if self._here.get(path) != why:
            self._tell(path, why)
        self._here[path] = self.shown[path] = why

    def forget(self, path: str) -> None:
        """It can be followed now."""
        self._here.pop(path, None)
        self.shown.pop(path, None)

    def _tell(self, path: str, why: str) -> None:
        log.warning("not followed", tail=self._tail, path=path, reason=why)
