"""The filters of dead letters and kept deliveries as conditions in SQL, with their values."""

from typing import Any

from sidecar.core.filters import DeadFilter, KeptFilter


def condition_of(wanted: DeadFilter | KeptFilter) -> tuple[str, list[Any]]:
    """Return the condition in SQL, and its values."""
    if isinstance(wanted, KeptFilter):
        conditions, values = _common(wanted.streams, "delivered_ms", wanted.from_ms, wanted.to_ms)
        return " AND ".join(conditions), values
    conditions, values = _common(wanted.streams, "last_ms", wanted.from_ms, wanted.to_ms)
    if wanted.ids is not None:
        conditions.append(f"id IN ({', '.join('?' * len(wanted.ids))})")
        values += wanted.ids
    if wanted.reason is not None:
        conditions.append("instr(lower(reason), lower(?))")
        values.append(wanted.reason)
    return " AND ".join(conditions), values


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
