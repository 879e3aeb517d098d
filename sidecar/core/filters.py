"""Filters for dead letters and kept deliveries, and how far one round with them got."""

from typing import Annotated

import msgspec

RowNumber = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class DeadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Chooses dead letters. None: whatever it is. `reason` is a part of the words; times are those of the burial."""

    ids: tuple[RowNumber, ...] | None = None
    streams: tuple[RowNumber, ...] | None = None
    reason: str | None = None
    from_ms: RowNumber | None = None
    to_ms: RowNumber | None = None


class KeptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Chooses kept deliveries. None: whatever it is. Times are those of the delivery."""

    streams: tuple[RowNumber, ...] | None = None
    from_ms: RowNumber | None = None
    to_ms: RowNumber | None = None


class Moved(msgspec.Struct, frozen=True):
    """Says how many events one transaction moved, and after which row to go on; None: there are no more.

    `elsewhere`: nothing was done, since a replay to that address is under way. `unfit` dead letters stay, since they
    could not be sent.
    """

    events: int
    last_id: int | None
    elsewhere: str | None = None
    unfit: int = 0
