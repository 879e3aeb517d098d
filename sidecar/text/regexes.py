"""Regular expressions that cannot hang the sidecar: the only module that knows the library `regex`.

Python's own `re` cannot be interrupted and keeps every other thread waiting; this library has a time limit, and lets
the others run meanwhile.

The limits count the processor time of the thread that searches, and nothing else. The library's own time-out counts
that of the whole process (clock(3)), so that on a busy host it strikes at lines that match in microseconds: a search
that it ended is begun again with more time, until the thread itself has used up its limit.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, Protocol, TypeVar

import msgspec
import regex

T = TypeVar("T")
_LINE_LIMIT_S = 0.05
"""Seconds of the thread's processor time for one line, so that one bad line does not block many good ones."""
BLOCK_LIMIT_S = 1.0
"""Seconds of processor time for all lines of a block. After that, each other line gets `_HASTY_LIMIT_S`."""
_HASTY_LIMIT_S = 0.002
"""A thousand times what an ordinary pattern takes for a line."""
_MOST = 0.7
"""A search that has used more than this part of its limit counts as ended by it: the two clocks differ a little."""
_DEPENDS = re.compile(r"\(\?[^:P]|\\[bBAZGK1-9]|[\^$]|\\g<|\(\?P=")
"""Parts of a pattern that look beyond it, or at other groups."""
_GROUP_NUMBER = re.compile(r"\\([1-9][0-9]?)")
_LOOK_EVERY = 16
"""So many lines are searched between two looks at the clock, which costs a system call."""


class Match(Protocol):
    """A match of a pattern in a text."""

    def groupdict(self, default: str, /) -> dict[str, str]:
        """Return what the named groups hold; `default` for those that took no part."""


class Pattern(msgspec.Struct, frozen=True):
    """A regular expression of the configuration, known to be one."""

    text: str

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the names of its groups, in their order."""
        return tuple(sorted(_compiled(self.text).groupindex, key=_compiled(self.text).groupindex.__getitem__))

    def may_hold(self, group: str, value: str) -> bool:
        """Return False if the group called so can surely never hold `value`, going by what stands inside of it."""
        parts, flags = list(_insides(self.text, group)), regex.DOTALL
        if self.text.startswith("(?x)"):
            flags |= regex.VERBOSE
        return not parts or any(_fits(part, value, flags) for part in parts)

    def __str__(self) -> str:
        return self.text


class Searched(msgspec.Struct, frozen=True):
    """The matches of one pattern in several texts. `late`: texts whose search timed out; they count as not found."""

    matches: list[Match | None]
    late: int


def parse_pattern(text: str) -> Pattern:
    """Read a regular expression. Raises ValueError that says where it is wrong."""
    try:
        _compiled(text)
    except regex.error as error:
        raise ValueError(f"a regular expression: {error}") from None
    except RecursionError:
        raise ValueError("a regular expression that is not nested so deep") from None
    return Pattern(text)


def search_all(pattern: Pattern, texts: Sequence[str], clock: Callable[[], float]) -> Searched:
    """Search each of `texts`. `clock` counts the seconds for which this thread has had a processor."""
    search = _compiled(pattern.text).search
    started_s = clock()
    found: list[Match | None] = []
    late = 0
    for start in range(0, len(texts), _LOOK_EVERY):
        limit_s = _LINE_LIMIT_S if clock() - started_s < BLOCK_LIMIT_S else _HASTY_LIMIT_S
        for text in texts[start : start + _LOOK_EVERY]:
            try:
                found.append(_search(search, text, limit_s, clock))
            except TimeoutError:
                found.append(None)
                late += 1
    return Searched(found, late)


class Replacement(msgspec.Struct, frozen=True):
    """Say what is to stand in place of all that a pattern matches; `\\1` and `\\g<name>` are groups of it."""

    pattern: Pattern
    text: str


def check_replacement(made: Replacement) -> None:
    """Raise ValueError if its text names a group that the pattern does not have, or ends in a backslash."""
    compiled = _compiled(made.pattern.text)
    numbers = [int(number) for number in _GROUP_NUMBER.findall(made.text)]
    try:
        compiled.sub(made.text, "")
    except (regex.error, IndexError) as error:
        raise ValueError(f"text in which \\1 and \\g<name> are groups of the pattern: {error}") from None
    if max(numbers, default=0) > compiled.groups:
        raise ValueError(f"text in which \\1 and \\g<name> are groups of the pattern: it has {compiled.groups}")


class Replacer:
    """Replaces what patterns match in the texts of one block, within the limits of time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` counts the seconds for which this thread has had a processor."""
        self._clock, self._started_s = clock, clock()

    def replace(self, made: Replacement, text: str, cut: str | None = None) -> str | None:
        """Return the text; None if the pattern took too long, so that nobody knows what is left of what it matches.

        `cut`: the text was cut off, and this stands in place of what may be the beginning of a match at its end.
        """
        limit_s = _LINE_LIMIT_S if self._clock() - self._started_s < BLOCK_LIMIT_S else _HASTY_LIMIT_S
        compiled, end = _compiled(made.pattern.text), ""
        try:
            if cut is not None:
                begun = _search(partial(_last_start, compiled), text, limit_s, self._clock)
                text, end = text[:begun], cut if begun < len(text) else ""
            return str(_search(partial(compiled.sub, made.text), text, limit_s, self._clock)) + end
        except TimeoutError:
            return None


def _last_start(compiled: Any, text: str, *, timeout: float, concurrent: bool) -> int:
    """Return where a match begins that the end of `text` cuts off; its end if there is none. Raises TimeoutError."""
    begun = len(text)
    for found in compiled.finditer(text, timeout=timeout, concurrent=concurrent, partial=True):
        if found.partial:
            begun = min(begun, found.start())
    return begun


def _search(search: Callable[..., T], text: str, limit_s: float, clock: Callable[[], float]) -> T:
    """Search `text`. Raises TimeoutError once a single try has taken this thread most of `limit_s`."""
    try:  # nearly always this is all, and no clock is looked at
        return search(text, timeout=limit_s, concurrent=True)
    except TimeoutError:
        timeout_s = limit_s
    while True:
        started_s = clock()
        try:
            return search(text, timeout=timeout_s, concurrent=True)
        except TimeoutError:
            if clock() - started_s >= limit_s * _MOST:
                raise
        timeout_s *= 2


def _insides(text: str, group: str) -> Iterator[str]:
    """Yield what stands between the brackets of each group called so; nothing where that is hard to tell."""
    for found in re.finditer(rf"\(\?P?<{re.escape(group)}>", text):
        depth, place, in_class = 1, found.end(), False
        while place < len(text) and depth:
            char = text[place]
            if char == "\\":
                place += 1
            elif in_class:
                in_class = char != "]"
            elif char == "[":
                in_class = True
            else:
                depth += (char == "(") - (char == ")")
            place += 1
        yield text[found.end() : place - 1]


def _fits(part: str, value: str, flags: int) -> bool:
    """Return True also where what stands around the group may matter."""
    if _DEPENDS.search(part):
        return True
    try:
        return regex.fullmatch(part, value, flags=flags, timeout=_LINE_LIMIT_S) is not None
    except (regex.error, TimeoutError):
        return True


@cache
def _compiled(text: str) -> Any:
    return regex.compile(text, regex.DOTALL)  # a group of lines is one text
