"""Declares what a forwarder is given: its lane, and the settings that all lanes have in common."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from sidecar.core.backoff import Backoff
from sidecar.core.model import Chunk
from sidecar.core.units import ByteRate
from sidecar.forward.causes import Causes


class LaneSource(Protocol):
    """One lane of the queue, as the forwarder needs it. All but `read` raise Unavailable."""

    @property
    def queued(self) -> int:
        """Return how many events wait."""

    @property
    def queued_bytes(self) -> int:
        """Their bytes, uncompressed."""

    async def read(self, after_seq: int, max_bytes: int) -> list[Chunk]:
        """Return the next chunks that fit."""

    async def acknowledge(self, through_seq: int) -> None:
        """Forget them."""

    async def split(self, seq: int, events: int) -> None:
        """Cut the first `events` off the head chunk."""

    async def bury(self, seq: int, *, reason: str, status: int, attempts: int, first_ms: int) -> None:
        """Make the only event of the head chunk a dead letter."""

    async def set_aside(self, through_seq: int) -> None:
        """Move the chunks from the head on to the lane of suspects."""

    async def defer(self, through_seq: int, latest_ms: int) -> int:
        """Schedule for later the events up to `through_seq` that are dated after `latest_ms`. Return how many."""

    async def save_quota(self, token: bytes, data_id: bytes) -> None:
        """Write down the quotas of the token and of the data_id, if they have changed or the last commit failed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that all forwarders have in common. `clock` is in seconds and never jumps, `wall_clock` since 1970.

    `causes`: why lanes fail, each said once for all of them; None: each lane for itself.

    `clean_again` corrects events that an older version accepted by other rules, before they are sent.
    """

    max_body_bytes: int
    byte_rate: ByteRate | None
    clean_again: Callable[[bytes], bytes]
    backoff: Backoff
    slow_backoff: Backoff
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    random: Callable[[], float]
    causes: Causes | None = None
