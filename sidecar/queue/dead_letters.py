"""Dead letters as they are found: which ones are meant, and what is known of each."""

from typing import Any

import msgspec


class DeadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters. None: whatever it is. `reason` is a part of the words; times are those of the burial."""

    ids: tuple[int, ...] | None = None
    streams: tuple[int, ...] | None = None
    reason: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values."""
        conditions, values = ["1"], list[Any]()
        for column, wanted in (("id", self.ids), ("stream", self.streams)):
            if wanted is not None:
                conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
        if self.reason is not None:
            conditions.append("instr(lower(reason), lower(?))")
            values.append(self.reason)
        for comparison, moment in (("last_ms >= ?", self.from_ms), ("last_ms <= ?", self.to_ms)):
            if moment is not None:
                conditions.append(comparison)
                values.append(moment)
        return " AND ".join(conditions), values


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One event that was refused for good: the proxy's words, how often it was tried, and when first and last."""

    id: int
    stream: int
    reason: str
    status: int | None
    attempts: int
    accepted_ms: int
    first_ms: int
    last_ms: int
    event: msgspec.Raw
