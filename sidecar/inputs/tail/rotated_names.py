"""Which names a rotated log may have: who finds a candidate by its name must still look into it. Pure.

app.log ─> app.log.1  app.log.2.gz  app.log-20261125  app.log.2026-11-25_10:00  app-20261125.log  app.log.old
"""

import re
from functools import lru_cache

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
_COMPRESSED = r"(?:\.(?:gz|zst|xz|bz2))?"
_SUFFIX = re.compile(_COMPRESSED + r"\Z")
_LONGEST = 255
_REMEMBERED = 4096
_DATE = re.compile(r"[._-]((?:19|20)[0-9]{2}[-_.]?[01][0-9][-_.]?[0-3][0-9](?:[-_.T:+Z]|[0-9])*)")
_NUMBER = r"[0-9][0-9A-Za-z_.:+-]*?"


def is_successor(path: str, name: str) -> bool:
    """Return True if a file called `name` is surely a rotated one of `path`: its name, and a number or a date."""
    return bool(_successors(path.rpartition("/")[2]).fullmatch(name))


def bases_of(name: str) -> set[str]:
    """Return every name of which a file called `name` is surely a rotated one, whether there is such a file or not."""
    core = _SUFFIX.sub("", name)[:_LONGEST]
    cuts = [place for place, letter in enumerate(core) if letter in "._-" and place]
    found = {core[:cut] for cut in cuts}
    found |= {core[:cut] + core[end:] for cut in cuts for end in cuts if end > cut and core[end] == "."}
    return {base for base in found if is_successor(base, name)}


def is_related(path: str, name: str) -> bool:
    """Return True if it may be one, since it has part of the name."""
    base = path.rpartition("/")[2]
    return name != base and base.partition(".")[0] in name


def date_in(name: str) -> str:
    """Return the date in a rotated file's name, if it begins with the year, so that dates sort as they are; else ""."""
    found = _DATE.search(_SUFFIX.sub("", name)[:_LONGEST])
    return re.sub("[^0-9]", "", found[1]) if found else ""


@lru_cache(_REMEMBERED)
def _successors(base: str) -> re.Pattern[str]:
    stem, dot, extension = base.rpartition(".")
    whole = f"{re.escape(base)}[._-](?:{_NUMBER}|old|bak|prev)"
    middle = f"|{re.escape(stem)}[._-]{_NUMBER}{re.escape(dot + extension)}" if stem else ""
    return re.compile(f"(?:{whole}{middle}){_COMPRESSED}")
