"""What a connection and its session expect of each other, and of the intake.

A session cuts what arrives into items, hands them to the intake and answers; there is one for lines and one for an
agent's frames. `connection.py` owns the transport, the order and the memory.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from sidecar.core.errors import Rejection
from sidecar.core.model import Order
from sidecar.inputs.socket.agent_frames import BadFrame, Frame, GetConfiguration
from sidecar.inputs.socket.line_framer import Overlong

Done = Callable[[Exception | None], None]
Item = bytes | Overlong | Frame | GetConfiguration | BadFrame


class Submission(Protocol):
    """What can be handed to the queue, and again if that failed."""

    def submit(self, order: Order | None = None) -> None:
        """Hands over what is not on disk yet, behind what was handed over in this `order` before."""


class LinesTaken(Protocol):
    """What a block of lines held."""

    @property
    def lines(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def rejected(self) -> Sequence[tuple[int, Rejection]]: ...
    @property
    def repaired(self) -> int: ...
    @property
    def submission(self) -> Submission | None: ...


class FrameTaken(Protocol):
    """What a frame held."""

    @property
    def events(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def dead(self) -> Mapping[str, int]: ...
    @property
    def repaired(self) -> bool: ...
    @property
    def submission(self) -> Submission: ...


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
        """Why nothing more can be understood."""

    def feed(self, data: bytes) -> list[Item]:
        """What is whole now."""

    def take(self, item: Item, done: Done) -> Handed | None:
        """Hands an item to the intake; None: nothing of it goes to the queue. Raises Unavailable if it is full."""

    def refuse(self, item: Item, reason: str) -> None:
        """The item is not taken, now or ever."""

    def on_disk(self, lines: int) -> None:
        """So many more lines are committed, in order."""

    def answer(self) -> bytes:
        """What is to be written now."""

    def give_up_unfinished(self, reason: str) -> Item | None:
        """Forgets what is not whole, and what follows up to its end."""

    def end(self) -> list[Item]:
        """The client sends no more; what was not whole is refused."""
