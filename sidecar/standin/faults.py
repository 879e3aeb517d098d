"""Describes what can be made to go wrong at the stand-in proxy, and for whom. Pure; `answers.py` does it."""

from typing import Annotated

import msgspec

_STATUSES = tuple(map(str, (500, 503, 429, 413, 401, 400, 403, 404, 405, 408, 422, 425, 502, 504, 301, 302, 307)))
MODES = (
    *("none", "down", *_STATUSES, "redirect", "busy"),
    *("html", "empty", "garbled", "array", "string", "no-result", "false", "large"),  # a 200, but not the proxy's word
    *("reset-before", "reset-after", "cut-head", "cut-body", "hang", "slow", "garbage"),  # the connection
)
"""The modes with a name, and the statuses that matter; any other from 201 to 599 will do as well."""

_SKEW_MAX_S = 1e9  # such a date can still be written


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults for the next requests. Raises ValueError if they are not possible.

    `times`: how many requests `mode` lasts (None: until changed). `retry_after`: the header of a status, a redirect or
    `busy`, as it stands. `delay_s`: how long `slow` and `busy` wait. `poison`: an item whose JSON contains one of these
    texts is bad (`poison_status`). `data_ids`: `mode` and `poison` are for their documents alone (empty: for every
    request). `skew_s`: how far the stand-in's clock is ahead, for everyone.
    """

    mode: str = "none"
    times: int | None = None
    retry_after: str | None = None
    delay_s: float = 5.0
    poison: tuple[str, ...] = ()
    poison_status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 400
    data_ids: tuple[int, ...] = ()
    skew_s: Annotated[float, msgspec.Meta(ge=-_SKEW_MAX_S, le=_SKEW_MAX_S)] = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES and self.status is None:
            raise ValueError(f"no mode {self.mode}")
        if self.times is not None and self.times < 1:
            raise ValueError("times is 1 at least")
        if self.mode == "down" and self.data_ids:
            raise ValueError("down is for everyone, not for single data_ids")

    @property
    def status(self) -> int | None:
        """Return the status that `mode` spells, if it does."""
        good = len(self.mode) == 3 and self.mode.isascii() and self.mode.isdecimal() and 200 < int(self.mode) < 600
        return int(self.mode) if good else None

    def concern(self, data_id: int | None) -> bool:
        """Return whether a request for `data_id` (None: a probe) is treated by these faults."""
        return not self.data_ids or data_id in self.data_ids

    def after_one(self) -> "Faults":
        """Return the faults once one more request has been treated."""
        if self.mode == "none" or self.times is None:
            return self
        left = self.times - 1
        return (
            msgspec.structs.replace(self, times=left)
            if left
            else msgspec.structs.replace(self, mode="none", times=None)
        )


def parse_fault(text: str) -> Faults:
    """Read a fault: `503`, `503:3` (three times) or `slow`. Raises ValueError that says what would be right."""
    name, colon, times = text.partition(":")
    try:
        if colon and not times.isdecimal():
            raise ValueError
        return Faults(mode=name, times=int(times) if times else None)
    except ValueError:
        expected = f"one of {', '.join(MODES)}, or any other status, with :N for N requests only, such as 503:3"
        raise ValueError(expected) from None
