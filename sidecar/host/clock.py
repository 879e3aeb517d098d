"""The clocks of this host. Everything else is given its time as an argument."""

import math
import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_clock() -> float:
    """Return seconds on a clock that never jumps and goes on across restarts of the process, until the next boot."""
    # CLOCK_MONOTONIC stands still while the host is suspended. CLOCK_BOOTTIME goes on.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall_ms() -> int:
    """Return milliseconds since 1970, by a clock that people may set: to be shown, not to be compared."""
    return int(time.time() * 1000)


def wall_ms_at(boot_s: float) -> int | None:
    """Return what `wall_ms` would have said at `boot_s` of the boot clock, if people had set it as it is now.

    None for a time that never was, or never will be.
    """
    return None if math.isinf(boot_s) else int((time.time() + boot_s - boot_clock()) * 1000)


def boot_id() -> str:
    """Name the present boot; empty where the system does not say, which equals no other."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
