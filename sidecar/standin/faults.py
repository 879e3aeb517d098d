"""What can be made to go wrong at the stand-in proxy. Pure."""

from typing import Literal, get_args

import msgspec

Mode = Literal[
    "none",
    "down",
    "500",
    "503",
    "429",
    "413",
    "401",
    "reset-before",
    "reset-after",
    "slow",
    "html",
    "false",
    "redirect",
]
MODES: tuple[str, ...] = get_args(Mode)


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the next requests.

    `times`: how many requests `mode` lasts (None: until changed). `retry_after`: the header for 429 and 503, as it
    stands. `delay_s`: how long `slow` waits before it goes on as usual. `poison`: an item whose JSON contains one of
    these texts is bad (400).
    """

    mode: Mode = "none"
    times: int | None = None
    retry_after: str | None = None
    delay_s: float = 5.0
    poison: tuple[str, ...] = ()

    def after_one(self) -> "Faults":
        """The faults once one more request has been treated."""
        if self.mode == "none" or self.times is None:
            return self
        left = self.times - 1
        return (
            msgspec.structs.replace(self, times=left)
            if left
            else msgspec.structs.replace(self, mode="none", times=None)
        )


def parse_fault(text: str) -> Faults:
    """`503`, `503:3` (three times) or `slow`. Raises ValueError that says what would be right."""
    name, colon, times = text.partition(":")
    if name not in MODES or (colon and not times.isdecimal()):
        raise ValueError(f"one of {', '.join(MODES)}, with :N for N requests only, such as 503:3")
    return msgspec.convert({"mode": name, "times": int(times) if times else None}, Faults)
