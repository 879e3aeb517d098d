"""Joins lines that belong together, such as a stack trace. What it holds back stays in the file.

`start`: a line that matches begins a group. `continue`: a line that matches belongs to the one before it.
"""

from collections.abc import Callable, Sequence

import msgspec

from sidecar.text.regexes import Pattern, search_all


class Grouping(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that joins lines into a group: one of the patterns, and the most lines and bytes of a group."""

    start: Pattern | None = None
    continuation: Pattern | None = None
    max_lines: int
    max_bytes: int


class Grouped(msgspec.Struct, frozen=True):
    """Groups of lines, as the numbers of lines in each. What is over belongs to a group that is still open."""

    counts: list[int]
    late: int


def group_lines(
    lines: Sequence[str], sizes: Sequence[int], rule: Grouping, clock: Callable[[], float], *, at_end: bool
) -> Grouped:
    """Group lines. `sizes` of them are in bytes; `at_end`: no line will follow, so no group stays open."""
    pattern = rule.start or rule.continuation
    assert pattern is not None
    searched = search_all(pattern, lines, clock)
    begins = [bool(match) == (rule.start is not None) for match in searched.matches]
    counts: list[int] = []
    count = size = 0
    for begin, line_size in zip(begins, sizes, strict=True):
        # With limits: a pattern that never fits must not hold back the file for ever.
        if count and (begin or count >= rule.max_lines or size + line_size > rule.max_bytes):
            counts.append(count)
            count = size = 0
        count += 1
        size += line_size
    if count and (at_end or count >= rule.max_lines):
        counts.append(count)
    return Grouped(counts, searched.late)
