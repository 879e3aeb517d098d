"""Reads points in time as people write them."""

import re
from datetime import datetime
from typing import Any

import click

from sidecar.core.units import parse_duration

_EPOCH = re.compile(r"\d{10}|\d{13}", re.ASCII)
EXPECTED = "a time such as 2026-01-31T08:00, 2026-01-31 08:00:00+08:00, 2h (ago) or milliseconds since 1970"


def parse_when(text: str, now_s: float) -> int:
    """Return milliseconds since 1970. A time without a zone is this host's.

    Raises ValueError that says what would be right.
    """
    if _EPOCH.fullmatch(text):
        return int(text) * (1000 if len(text) == 10 else 1)
    try:
        return int((now_s - parse_duration(text)) * 1000)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(EXPECTED) from None


class When(click.ParamType[Any]):
    """An option that is a point in time."""

    name = "time"

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        try:
            return parse_when(value, self._clock())
        except ValueError as error:
            self.fail(f"expected {error}, got {value}", param, ctx)
