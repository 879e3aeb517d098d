"""Regular expressions that cannot hang the sidecar: the only module that knows the library `regex`.

Python's own `re` cannot be interrupted and keeps every other thread waiting; this library has a time limit, and lets
the others run meanwhile.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import msgspec
import regex

_LINE_LIMIT_S = 0.05
"""For one line: so that many good ones stay readable beside a bad one."""
BLOCK_LIMIT_S = 1.0
"""For all lines of a block together."""


class Match(Protocol):
    """Where a pattern was found."""

    def groupdict(self, default: str, /) -> dict[str, str]:
        """What the named groups hold; `default` for those that took no part."""


class Pattern(msgspec.Struct, frozen=True):
    """A regular expression of the configuration, known to be one."""

    text: str

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of its groups, in their order."""
        return tuple(sorted(_compiled(self.text).groupindex, key=_compiled(self.text).groupindex.__getitem__))

    def __str__(self) -> str:
        return self.text


class Searched(msgspec.Struct, frozen=True):
    """What was found in each text. `late`: how many could not be searched to the end, and count as not found."""

    matches: list[Match | None]
    late: int


def parse_pattern(text: str) -> Pattern:
    """Raises ValueError that says where it is wrong."""
    try:
        _compiled(text)
    except regex.error as error:
        raise ValueError(f"a regular expression: {error}") from None
    except RecursionError:
        raise ValueError("a regular expression that is not nested so deep") from None
    return Pattern(text)


def search_all(pattern: Pattern, texts: Sequence[str], clock: Callable[[], float]) -> Searched:
    """Searches each of `texts`, all of them within `BLOCK_LIMIT_S`. `clock` counts seconds."""
    search = _compiled(pattern.text).search
    until_s = clock() + BLOCK_LIMIT_S
    found: list[Match | None] = []
    late = 0
    for text in texts:
        left_s = until_s - clock()
        try:
            if left_s > 0:
                found.append(search(text, timeout=min(left_s, _LINE_LIMIT_S), concurrent=True))
                continue
        except TimeoutError:
            pass
        found.append(None)
        late += 1
    return Searched(found, late)


@cache
def _compiled(text: str) -> Any:
    return regex.compile(text, regex.DOTALL)  # a group of lines is one text
