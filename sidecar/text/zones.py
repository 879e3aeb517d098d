"""The names of time zones in lines, such as CST or PDT, as offsets. Pure.

A name may mean several zones: CST is one in Shanghai and another one in Chicago. The zone that is configured for the
tail, or else this host's own, is asked first; then the meaning that most logs have.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo

_HOURS = {
    "UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "BST": 1, "EET": 2, "EEST": 3,
    "MSK": 3, "WAT": 1, "CAT": 2, "SAST": 2, "EAT": 3, "IST": 5.5, "PKT": 5, "WIB": 7, "WITA": 8, "ICT": 7, "HKT": 8,
    "SGT": 8, "PHT": 8, "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5, "ACDT": 10.5, "AEST": 10, "AEDT": 11, "NZST": 12,
    "NZDT": 13, "NST": -3.5, "NDT": -2.5, "AST": -4, "ADT": -3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5,
    "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8, "HST": -10, "BRT": -3, "ART": -3,
}  # fmt: skip
_COMMON = {name: timedelta(hours=hours) for name, hours in _HOURS.items()}
_WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]{1,5}(?![A-Za-z])")
_NUMBER = re.compile(r"(?<![0-9])[+-][0-9]{2}(?:[0-9]{2})?(?![0-9:])")
_SHORT_NUMBER = re.compile(r"(?<![0-9])[+-][0-9]{2}(?![0-9:])")
# A zone has two names in a year, such as CET and CEST.
_SUMMER_AND_WINTER = (datetime(2026, 1, 15, 12), datetime(2026, 7, 15, 12))


def zone_names(zone: tzinfo | None) -> Mapping[str, str]:
    """Return the offset, as in +0800, of each name; `zone` None: as this host's clocks show it."""
    found = dict(_COMMON)
    for moment in _SUMMER_AND_WINTER:
        local = moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()
        name, offset = local.tzname(), local.utcoffset()
        if name is not None and offset is not None:
            found[name.upper()] = offset
    return {name: _written(offset) for name, offset in found.items()}


def with_offset(text: str, names: Mapping[str, str]) -> str | None:
    """Return `text` with the last word that is the name of a zone as an offset; None if there is none.

    Some zones are called by their offset, such as +08 or -0530.
    """
    word = _name_in(text, names)
    if word is not None:
        return f"{text[: word.start()]}{names[word[0].upper()]}{text[word.end() :]}"
    number = _last(_NUMBER, text)
    return None if number is None else f"{text[: number.start()]}{number[0]:0<5}{text[number.end() :]}"


def without_name(text: str, names: Mapping[str, str]) -> str | None:
    """Return `text` without the name of a zone; None if there is none. An offset in four digits is no name here."""
    found = _name_in(text, names) or _last(_SHORT_NUMBER, text) or _last(_WORD, text)
    return None if found is None else text[: found.start()].rstrip() + text[found.end() :]


def _name_in(text: str, names: Mapping[str, str]) -> re.Match[str] | None:
    return next((word for word in reversed(list(_WORD.finditer(text))) if word[0].upper() in names), None)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(reversed(list(pattern.finditer(text))), None)


def _written(offset: timedelta) -> str:
    minutes = int(offset.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
