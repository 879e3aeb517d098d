"""Which dead letters and which kept deliveries are meant, and how far one transaction got with them."""

from typing import Annotated, Any

import msgspec

RowNumber = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class DeadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters. None: whatever it is. `reason` is a part of the words; times are those of the burial."""

    ids: tuple[RowNumber, ...] | None = None
    streams: tuple[RowNumber, ...] | None = None
    reason: str | None = None
    from_ms: RowNumber | None = None
    to_ms: RowNumber | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values."""
        conditions, values = _common(self.streams, "last_ms", self.from_ms, self.to_ms)
        if self.ids is not None:
            conditions.append(f"id IN ({', '.join('?' * len(self.ids))})")
            values += self.ids
        if self.reason is not None:
            conditions.append("instr(lower(reason), lower(?))")
            values.append(self.reason)
        return " AND ".join(conditions), values


class KeptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which kept deliveries. None: whatever it is. Times are those of the delivery."""

    streams: tuple[RowNumber, ...] | None = None
    from_ms: RowNumber | None = None
    to_ms: RowNumber | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values."""
        conditions, values = _common(self.streams, "delivered_ms", self.from_ms, self.to_ms)
        return " AND ".join(conditions), values


class Moved(msgspec.Struct, frozen=True):
    """How many events one transaction moved; and after which row to go on, None: there are no more.

    `elsewhere`: nothing was done, since a replay to that address is under way. `unfit` dead letters stay, since they
    could not be sent.
    """

    events: int
    last_id: int | None
    elsewhere: str | None = None
    unfit: int = 0


def _common(
    streams: tuple[int, ...] | None, time_column: str, from_ms: int | None, to_ms: int | None
) -> tuple[list[str], list[Any]]:
    conditions, values = ["1"], list[Any]()
    if streams is not None:
        conditions.append(f"stream IN ({', '.join('?' * len(streams))})")
        values += streams
    for comparison, moment in ((">=", from_ms), ("<=", to_ms)):
        if moment is not None:
            conditions.append(f"{time_column} {comparison} ?")
            values.append(moment)
    return conditions, values
