"""Reads and writes the units of the configuration: sizes, durations and rates.

Pure. It knows nothing of keys or files; the configuration binder adds those to what is raised here.
"""

import re
from datetime import UTC, datetime
from typing import NewType

import msgspec

Bytes = NewType("Bytes", int)
Seconds = NewType("Seconds", float)
BodyBytes = NewType("BodyBytes", int)
"""Bytes of a request body: at least enough for an envelope and a useful event."""
LineBytes = NewType("LineBytes", int)
"""Bytes of a line: at least a few, and at most one block that is read from a file."""
QueueBytes = NewType("QueueBytes", int)
"""Bytes of a database: at least more than an empty one needs."""
Interval = NewType("Interval", float)
"""Seconds, above zero."""
Share = NewType("Share", float)
"""A part of a whole, above 0 and up to 1."""

_SIZES = {
    "": 1, "B": 1,
    "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "TIB": 1024**4,
}  # fmt: skip
_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_WINDOWS = {"s": 1.0, "min": 60.0, "h": 3600.0}
MIN_BYTE_RATE, MAX_BYTE_RATE = 1000, 2_600_000
_LONGEST_S = 3650 * 86400.0
_QUANTITY = re.compile(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*", re.ASCII)
_SHARE = re.compile(r"\s*(\d{1,3}(?:\.\d{1,3})?)\s*%\s*", re.ASCII)
_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*([a-z]+)\s*", re.ASCII)


class Rate(msgspec.Struct, frozen=True):
    """At most `count` requests in any window of `window_s` seconds."""

    count: int
    window_s: float

    def __str__(self) -> str:
        unit = next(name for name, seconds in _WINDOWS.items() if seconds == self.window_s)
        return f"{self.count}/{unit}"


class ByteRate(msgspec.Struct, frozen=True):
    """At most so many bytes a second, over any few seconds."""

    bytes_per_s: int

    def __str__(self) -> str:
        size = float(self.bytes_per_s)
        for unit in ("B", "KB"):
            if size < 1000:
                return f"{size:g} {unit}/s"
            size /= 1000
        return f"{size:g} MB/s"


def parse_size(text: str | int) -> Bytes:
    """Read a size: `500KB` is 500,000 and `2GiB` is 2**31 bytes. Raises ValueError that says what would be right."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None or found[2].upper() not in _SIZES:
        raise ValueError("a size such as 500KB, 64MiB or 2GiB")
    return Bytes(int(float(found[1]) * _SIZES[found[2].upper()]))


def parse_duration(text: str | int) -> Seconds:
    """Read a duration: `250ms` is 0.25, `7d` is 604,800 seconds; zero needs no unit.

    Raises ValueError that says what would be right.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found is None or (found[2] not in _TIMES and float(found[1]) != 0):
        raise ValueError("a duration such as 250ms, 10s, 5min, 12h or 7d")
    seconds = float(found[1]) * _TIMES.get(found[2], 1.0)
    if seconds > _LONGEST_S:
        raise ValueError("a duration of at most 3650d")
    return Seconds(seconds)


def parse_rate(text: str) -> Rate | None:
    """Read `1000/min` as a Rate, `unlimited` as None. Raises ValueError that says what would be right."""
    if text == "unlimited":
        return None
    found = _RATE.fullmatch(text)
    if found is None or found[2] not in _WINDOWS or int(found[1]) < 1:
        raise ValueError("a rate such as 1000/min or 20/s, or unlimited")
    return Rate(int(found[1]), _WINDOWS[found[2]])


def parse_byte_rate(text: str) -> ByteRate | None:
    """Read `2.5MB/s` as a ByteRate, `unlimited` as None. Raises ValueError that says what would be right."""
    expected = "bytes a second such as 2.5MB/s or 500KB/s, or unlimited"
    if text == "unlimited":
        return None
    size, slash, second = text.replace(" ", "").partition("/")
    if not slash or second != "s":
        raise ValueError(expected)
    try:
        rate = ByteRate(parse_size(size))
    except ValueError:
        raise ValueError(expected) from None
    if not MIN_BYTE_RATE <= rate.bytes_per_s <= MAX_BYTE_RATE:
        least, most = ByteRate(MIN_BYTE_RATE), ByteRate(MAX_BYTE_RATE)
        raise ValueError(
            f"{expected}; from {least} to {most}, since the proxy drops what comes to 10 MiB within three seconds"
        )
    return rate


def parse_share(text: str) -> Share:
    """Read a share: `5%` is 0.05. Raises ValueError that says what would be right."""
    found = _SHARE.fullmatch(text)
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError("a percentage above 0% and up to 100%, such as 5%")
    return Share(float(found[1]) / 100)


def format_size(count: float) -> str:
    """Return a size for people: 1536 is `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_moment(at_ms: int) -> str:
    """Return a time, in milliseconds since 1970, as this host's clocks show it, with their offset."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")


def format_duration(seconds: float) -> str:
    """Return a duration for people, in its two largest units: 3725 is `1h 2min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    rest, parts = int(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= size:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return " ".join(parts[:2])
