"""Filters for dead letters and kept deliveries, and how far one round with them got."""

from typing import Annotated

import msgspec

RowNumber = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class DeadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select dead letters. A field of None selects all.

    `reason`: text that the reason contains. Times are those at which the events became dead letters.
    """

    ids: tuple[RowNumber, ...] | None = None
    streams: tuple[RowNumber, ...] | None = None
    reason: str | None = None
    from_ms: RowNumber | None = None
    to_ms: RowNumber | None = None


class KeptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select kept deliveries. A field of None selects all. Times are those of the delivery."""

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
