"""Appends that count only together: all of what a client handed over at once is on disk, or not yet."""

from collections.abc import Callable
from functools import partial

from sidecar.core.model import Done, Order

Part = Callable[[Done, Order | None], None]
"""Hands something to the queue, which calls what it was given once that is on disk, or could not be put there."""


class Submission:
    """`done` is called with None once everything is on disk; with an error, what failed may be submitted again."""

    __slots__ = ("_done", "_error", "_open", "_parts")

    def __init__(self, done: Done) -> None:
        self._done = done
        self._parts: list[Part] = []
        self._open = 0
        self._error: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, part: Part) -> None:
        """One more thing that must be on disk."""
        self._parts.append(part)

    def submit(self, order: Order | None = None) -> None:
        """Hand over what is not on disk yet, behind what was handed over in this `order` before."""
        parts, self._parts, self._error = self._parts, [], None
        self._open = len(parts)
        for part in parts:
            part(partial(self._settled, part), order)

    def _settled(self, part: Part, error: Exception | None) -> None:
        if error is not None:
            self._parts.append(part)
            self._error = error
        self._open -= 1
        if not self._open:
            self._done(self._error)
