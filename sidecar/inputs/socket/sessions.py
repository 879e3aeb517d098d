"""Declares what a connection and its session expect of each other, and of the intake.

A session cuts what arrives into items, has the intake check them, and answers; there is one for lines and one for an
agent's frames. `connection.py` owns the transport, the order and the memory, and submits what is good.
"""

from collections.abc import Callable
from typing import Protocol

from sidecar.inputs.socket.agent_frames import BadFrame, Frame, GetConfiguration
from sidecar.inputs.socket.line_framer import Overlong
from sidecar.intake import Prepared, PreparedFrame, PreparedLines

SessionItem = bytes | Overlong | Frame | GetConfiguration | BadFrame


PrepareLines = Callable[[bytes], PreparedLines]
"""Checks a block of whole lines. Raises Unavailable."""
PrepareFrame = Callable[[int, bytes, int], PreparedFrame]
"""Checks what was sent for a data_id, with the time of sending in seconds. Raises Rejected or Unavailable."""


class Session(Protocol):
    """One of the two ways to speak."""

    @property
    def unfinished_bytes(self) -> int:
        """Return the memory held by what is not whole yet."""

    @property
    def lost(self) -> str | None:
        """Return why nothing more can be understood."""

    def feed(self, data: bytes) -> list[SessionItem]:
        """Return what is whole now."""

    def check(self, item: SessionItem) -> Prepared | None:
        """Return what is good of an item; None: nothing of it goes to the queue. Raises Unavailable if it is full."""

    def refuse(self, item: SessionItem, reason: str) -> None:
        """Say that the item is not taken, now or ever."""

    def committed(self, lines: int) -> None:
        """Note that so many more lines are committed, in order."""

    def answer(self) -> bytes:
        """Return what is to be written now."""

    def give_up_unfinished(self, reason: str) -> SessionItem | None:
        """Forget what is not whole, and what follows up to its end."""

    def end(self) -> list[SessionItem]:
        """Note that the client sends no more; return what was not whole, to be refused."""
