"""Patterns of paths: `*`, `?` and `[...]` within a name, `**` for directories of any depth. Pure.

As in a shell, a name that begins with a dot is matched only by a pattern that does so too.
"""

import re
from collections.abc import Sequence
from functools import cache

_MAGIC = re.compile(r"[*?\[]")
ANY_DEPTH = "**"


def split_pattern(pattern: str) -> tuple[str, tuple[str, ...]]:
    """Return the directory that a pattern surely begins with, and the names below it, the last one a file's."""
    names = [name for name in pattern.split("/") if name]
    plain = next((number for number, name in enumerate(names) if _MAGIC.search(name)), len(names))
    plain = min(plain, len(names) - 1)
    return "/" + "/".join(names[:plain]), tuple(names[plain:])


def is_plain(name: str) -> bool:
    """Return whether a name stands for itself."""
    return not _MAGIC.search(name)


@cache
def name_matcher(name: str) -> re.Pattern[str]:
    """Return what names a single name of a pattern stands for; use with fullmatch."""
    return re.compile(_regex(name), re.DOTALL)


def matches_any(path: str, patterns: Sequence[str]) -> bool:
    """Return whether one of `patterns` matches: a pattern without a slash the name alone, else the whole path."""
    name = path.rpartition("/")[2]
    return any(
        (_path_matcher(pattern).fullmatch(path) if "/" in pattern else name_matcher(pattern).fullmatch(name))
        for pattern in patterns
    )


@cache
def _path_matcher(pattern: str) -> re.Pattern[str]:
    parts = ["(?:[^/]+/)*" if name == ANY_DEPTH else _regex(name) + "/" for name in pattern.strip("/").split("/")]
    return re.compile("/" + "".join(parts).removesuffix("/"), re.DOTALL)


def _regex(name: str) -> str:
    made = "" if name.startswith(".") else r"(?!\.)"
    place = 0
    while place < len(name):
        end = name.find("]", place + 2) if name[place] == "[" else -1
        if name[place] == "*":
            made += "[^/]*"
        elif name[place] == "?":
            made += "[^/]"
        elif end > 0:
            inside = name[place + 1 : end].replace("\\", r"\\")
            made += f"[{'^' + inside[1:] if inside[0] in '!^' else inside}]"
            place = end
        else:
            made += re.escape(name[place])
        place += 1
    return made
