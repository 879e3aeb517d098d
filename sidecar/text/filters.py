"""Decides which lines become events: those whose fields are as wanted, and not as unwanted."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from sidecar.text.regexes import Pattern, search_all
from sidecar.text.templates import field_text

ALWAYS = ("line", "path", "host", "offset")
"""Fields that every line has, beside those that are found in it."""
CONTAINER_FIELDS = ("time", "stream", "message")
"""Fields that every line of a container has."""


class Span(msgspec.Struct, frozen=True):
    """The numbers from `low` to `high`, both included."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Ask all of this of a field: to be one of some texts, to match, to contain one of some texts, to be a number.

    None, or empty: that is not asked. A list or a single value of the configuration stands for `one_of`.
    """

    one_of: tuple[str, ...] | None = None
    matches: Pattern | None = None
    contains: tuple[str, ...] = ()
    within: Span | None = None
    at_least: float | None = None
    at_most: float | None = None


class Filter(msgspec.Struct, frozen=True):
    """A condition for the field `name`, which is to hold, or with `wanted` False not to."""

    name: str
    condition: Condition
    wanted: bool


TooLate = Callable[[int, str], None]


def passes(fields: Mapping[str, Any], filters: Sequence[Filter], cpu_clock: Callable[[], float], late: TooLate) -> bool:
    """Return True if all filters let a line with `fields` pass. `late` is told of patterns that took too long."""
    return all(
        _holds(each.condition, field_text(fields, each.name), cpu_clock, late) == each.wanted for each in filters
    )


def _holds(condition: Condition, text: str, cpu_clock: Callable[[], float], late: TooLate) -> bool:
    if condition.one_of is not None and text not in condition.one_of:
        return False
    if condition.contains and not any(part in text for part in condition.contains):
        return False
    if not _is_between(condition, text):
        return False
    if condition.matches is None:
        return True
    searched = search_all(condition.matches, (text,), cpu_clock)
    late(searched.late, "where")
    return searched.matches[0] is not None


def _is_between(condition: Condition, text: str) -> bool:
    span = condition.within or Span(-math.inf, math.inf)
    low = max(span.low, -math.inf if condition.at_least is None else condition.at_least)
    high = min(span.high, math.inf if condition.at_most is None else condition.at_most)
    if (low, high) == (-math.inf, math.inf):
        return True
    try:
        return low <= float(text) <= high
    except ValueError:
        return False
