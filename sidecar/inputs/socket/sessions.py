"""What a connection and its session expect of each other, and of the intake.

A session cuts what arrives into items, hands them to the intake and answers; there is one for lines and one for an
agent's frames. `connection.py` owns the transport, the order and the memory.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from sidecar.core.model import Done
from sidecar.inputs.socket.agent_frames import BadFrame, Frame, GetConfiguration
from sidecar.inputs.socket.line_framer import Overlong
from sidecar.intake import FrameTaken, LinesTaken, Submission

SessionItem = bytes | Overlong | Frame | GetConfiguration | BadFrame


TakeLines = Callable[[bytes, Done], LinesTaken]
TakeFrame = Callable[[int, bytes, int, Done], FrameTaken]


class Handed(msgspec.Struct, frozen=True):
    """What goes to the queue now; `lines` are acknowledged once it is there."""

    submission: Submission
    lines: int
    events: int
    bytes: int
    repaired: int


class Session(Protocol):
    """One of the two ways to speak."""

    @property
    def unfinished_bytes(self) -> int:
        """Memory held by what is not whole yet."""

    @property
    def lost(self) -> str | None:
        """Return why nothing more can be understood."""

    def feed(self, data: bytes) -> list[SessionItem]:
        """Return what is whole now."""

    def take(self, item: SessionItem, done: Done) -> Handed | None:
        """Hand an item to the intake; None: nothing of it goes to the queue. Raises Unavailable if it is full."""

    def refuse(self, item: SessionItem, reason: str) -> None:
        """The item is not taken, now or ever."""

    def on_disk(self, lines: int) -> None:
        """So many more lines are committed, in order."""

    def answer(self) -> bytes:
        """Return what is to be written now."""

    def give_up_unfinished(self, reason: str) -> SessionItem | None:
        """Forget what is not whole, and what follows up to its end."""

    def end(self) -> list[SessionItem]:
        """Note that the client sends no more; return what was not whole, to be refused."""
