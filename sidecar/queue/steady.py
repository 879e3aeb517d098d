"""Measures how old the rows of the queue are, whatever is done to the wall clock.

A row keeps two times: when it was by the wall clock, to be shown, and `steady_ms`, by which alone it grows old. The
steady clock goes on as this host's boot clock goes: through a restart of the process and a suspended host. From one
boot to another nobody knows for how long the host was off, or whether it is the same host: that counts as no time at
all, so the error is always on the side of keeping.

    table clock: (boot_id, boot_ms, steady_ms), one row
        the same boot    steady = steady_ms + (boot clock - boot_ms)
        another boot     steady = steady_ms
        no row           steady = wall clock                             rows of older versions have only that
"""

import sqlite3
from collections.abc import Callable

_SAVE_EVERY_MS = 30_000
"""The most time, in milliseconds, that the clock can lose when the host goes down."""


class SteadyClock:
    """Counts milliseconds that boot clocks saw. It never goes back, and never jumps ahead.

    `boot_clock` gives seconds since the boot called `boot_id`, `wall_clock` seconds since 1970. An empty `boot_id`
    equals no other, not even itself.
    """

    def __init__(self, boot_clock: Callable[[], float], boot_id: str, wall_clock: Callable[[], float]) -> None:
        self._boot_clock, self._boot_id, self._wall_clock = boot_clock, boot_id, wall_clock
        self._offset_ms = 0  # the steady clock is so far ahead of the boot clock; set when the file is opened
        self._saved_ms: int | None = None  # what is on disk of it; None: nothing yet
        self._being_saved_ms: int | None = None  # what will be, when the open transaction is committed

    def resume(self, connection: sqlite3.Connection) -> None:
        """Go on from where the file says."""
        boot_ms = self._boot_ms()
        row = connection.execute("SELECT boot_id, boot_ms, steady_ms FROM clock").fetchone()
        if row is None:
            self._saved_ms = self._being_saved_ms = None
            self._offset_ms = int(self._wall_clock() * 1000) - boot_ms
            return
        boot_id, saved_boot_ms, self._saved_ms = row
        self._being_saved_ms = self._saved_ms
        same_boot = boot_id and boot_id == self._boot_id
        self._offset_ms = self._saved_ms - (saved_boot_ms if same_boot else boot_ms)

    def now_ms(self) -> int:
        """Return the time now."""
        return self._offset_ms + self._boot_ms()

    def save(self, execute: Callable[..., sqlite3.Cursor]) -> None:
        """Write down how far it is, in the open transaction, if that has not been done for a while."""
        now_ms = self.now_ms()
        # Not at each commit: what is lost between two saves only makes rows stay longer.
        if self._saved_ms is not None and now_ms - self._saved_ms < _SAVE_EVERY_MS:
            return
        execute(
            "INSERT OR REPLACE INTO clock (id, boot_id, boot_ms, steady_ms) VALUES (1, ?, ?, ?)",
            (self._boot_id, now_ms - self._offset_ms, now_ms),
        )
        # Not `_saved_ms` yet: a rollback takes the row back, and then the next transaction must write it.
        self._being_saved_ms = now_ms

    def committed(self) -> None:
        """Note that what `save` wrote is on disk."""
        self._saved_ms = self._being_saved_ms

    def _boot_ms(self) -> int:
        return int(self._boot_clock() * 1000)
