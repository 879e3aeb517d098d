"""The time of a line, from one of its fields: by a format with a time zone, or as a number since 1970.

Lines of the same second are read only once: `%f`, where it stands at the end of a format, is left to arithmetic.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal

from sidecar.report.limits import MS_MAX, MS_MIN

Unit = Literal["s", "ms", "us", "ns"]
ISO = "iso8601"
_PER_MS = {"s": 0.001, "ms": 1, "us": 1_000, "ns": 1_000_000}
_NUMBER = re.compile(r"\s*[0-9]{1,20}(\.[0-9]*)?\s*", re.ASCII)
_FRACTION = re.compile(r"(.*[^0-9])([0-9]{1,9})", re.ASCII | re.DOTALL)
_SECONDS_REMEMBERED = 256
_DAY = timedelta(days=1)

Clock = Callable[[str, int], int | None]
"""The milliseconds since 1970 that a text says, read at a certain time; None if it says none."""


def by_unit(unit: Unit) -> Clock:
    """Reads a number of units."""
    divisor = _PER_MS[unit]

    def read(text: str, _: int) -> int | None:
        if not _NUMBER.fullmatch(text):
            return None
        number = int(text) if "." not in text else float(text)
        return _in_range(int(number // divisor if divisor > 1 else number / divisor))

    return read


def by_format(form: str, zone: tzinfo | None) -> Clock:
    """Reads a date; `zone` None: as this host's clocks show it. A year that is left out is the one that fits."""
    short = form.removesuffix("%f") if form.endswith((".%f", ",%f")) else form
    has_year = form == ISO or any(part in form for part in ("%Y", "%y", "%G", "%c", "%x", "%D", "%F", "%s"))

    @lru_cache(_SECONDS_REMEMBERED)
    def whole(text: str, year: int) -> int | None:
        try:
            if form == ISO:
                found = datetime.fromisoformat(text.strip())
            elif has_year:
                found = datetime.strptime(text, short)
            else:
                found = datetime.strptime(f"{year} {text}", f"%Y {short}")
            if found.tzinfo is None:
                found = found.replace(tzinfo=zone) if zone is not None else found.astimezone()
            return int(found.timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            return None

    def read(text: str, now_ms: int) -> int | None:
        extra_ms = 0
        if short is not form:
            parts = _FRACTION.fullmatch(text)
            if parts is None:
                return None
            text, extra_ms = parts[1], int(parts[2].ljust(3, "0")[:3])
        found = whole(text, 0) if has_year else _fitting(whole, text, now_ms)
        return None if found is None else _in_range(found + extra_ms)

    return read


def _fitting(whole: Callable[[str, int], int | None], text: str, now_ms: int) -> int | None:
    """In the year in which it lies not more than a day ahead."""
    year = datetime.fromtimestamp(now_ms / 1000).astimezone().year
    for candidate in (year + 1, year, year - 1):
        found = whole(text, candidate)
        if found is not None and found <= now_ms + _DAY.total_seconds() * 1000:
            return found
    return None


def _in_range(moment_ms: int) -> int | None:
    return moment_ms if MS_MIN <= moment_ms <= MS_MAX else None
