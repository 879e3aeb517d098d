"""What became of an application's records, as numbers. Who counts them is not said here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Of one handler in one process. `handed_over` is the sum of the six after it.

    `acknowledged`: on the sidecar's disk. `waiting`: not settled yet. Lost are: `full`, for which the buffer had no
    room; `unformattable`; `refused` by the sidecar for good; `undelivered`, given up by `close` or handed over after
    it. `last_error` stays after a recovery.
    """

    handed_over: int
    acknowledged: int
    waiting: int
    full: int
    unformattable: int
    refused: int
    undelivered: int
    reconnects: int
    last_error: str | None
