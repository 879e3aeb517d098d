"""The time of a line, from one of its fields: by a format with a time zone, or as a number since 1970.

Lines of the same second are read only once: the fraction is left to arithmetic, so it may have any number of digits.

    field ──> fraction apart ──> name of the zone as an offset ──> what is missing in front ──> strptime
              the n-th ".123"    "PDT" -> "-0700"                   the year, or the whole date
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal

import msgspec

from sidecar.core.model import MS_MAX, MS_MIN
from sidecar.text.months import in_english
from sidecar.text.zones import with_offset, without_name, zone_names

Unit = Literal["s", "ms", "us", "ns"]
ISO = "iso8601"
_PER_MS = {"s": 0.001, "ms": 1, "us": 1_000, "ns": 1_000_000}
_NUMBER = re.compile(r"\s*[0-9]{1,20}(\.[0-9]*)?\s*", re.ASCII)
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_SHORT_OFFSET = re.compile(r"[+-][0-9]{2}\Z", re.ASCII)
_SECONDS_REMEMBERED = 256
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
_LEAP_YEARS_APART = 8
"""The most years between two leap years: eight, around a year such as 2100."""
_DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
_AS_IN_C = {
    "X": "%H:%M:%S", "c": "%a %b %d %H:%M:%S %Y", "x": "%m/%d/%y",
    "D": "%m/%d/%y", "F": "%Y-%m-%d", "R": "%H:%M", "T": "%H:%M:%S", "e": "%d", "h": "%b", "k": "%H", "l": "%I",
}  # fmt: skip
"""Directives of date(1) and the C library that Python lacks, or that stand for several, with their replacements."""
_YEAR, _MONTH, _DAY, _IN_YEAR, _TIME = (frozenset(each) for each in ("YyG", "mbB", "d", "jUWV", "HI"))
_NAME = re.compile(r"\s*%Z")
_WEEKDAY = frozenset("aAwu")
_SAMPLE = datetime(2024, 11, 25, 1, 2, 3, tzinfo=UTC)

Clock = Callable[[str, int], int | None]
"""The milliseconds since 1970 that a text says, read at a certain time; None if it says none."""


class _Form(msgspec.Struct, frozen=True):
    """A format. `form` is what strptime gets, with what is `missing` in front, and without the fraction.

    `fraction`: the character before it, and of how many of these it is the last one. `named`: there is a zone's name,
    which counts as its offset, or stands beside that and tells nothing new (Go: `+0800 CST`).
    """

    form: str
    missing: Literal["", "%Y ", "%Y-%m-%d "]
    fraction: tuple[str, int] | None
    named: Literal["", "as offset", "beside offset"]


def check_format(text: str) -> None:
    """Raise ValueError with what is wrong with a format."""
    form = _parse(text)
    sample = f"{form.missing}{form.form}"
    try:
        # Python says only when a format is used what is wrong with it.
        datetime.strptime(_SAMPLE.strftime(sample), sample)
    except re.error as error:
        raise ValueError(str(error)) from None


def by_unit(unit: Unit) -> Clock:
    """Return a clock that reads a number of units."""
    divisor = _PER_MS[unit]

    def read(text: str, _: int) -> int | None:
        if not _NUMBER.fullmatch(text):
            return None
        number = int(text) if "." not in text else float(text)
        return _in_range(int(number // divisor if divisor > 1 else number / divisor))

    return read


def by_format(text: str, zone: tzinfo | None) -> Clock:
    """Return a clock that reads a date; `zone` None: as this host's clocks show it.

    A year that is left out, or a date, is the one that fits: the last one that does not lie ahead.
    """
    if text == ISO:
        return _iso(zone)
    form = _parse(text)
    names = zone_names(zone)
    offset_last = form.form.endswith("%z")
    whole_form = form.missing + form.form

    @lru_cache(_SECONDS_REMEMBERED)
    def whole(seconds: str, missing: str) -> int | None:
        found: str | None = seconds
        if form.named:
            found = without_name(seconds, names) if form.named == "beside offset" else with_offset(seconds, names)
        if found is None:
            return None
        if offset_last and _SHORT_OFFSET.search(found):  # PostgreSQL's +08
            found += "00"
        return _moment(missing + found, whole_form, zone)

    def read(field: str, now_ms: int) -> int | None:
        extra_ms = 0
        if form.fraction is not None:
            parts = _without_fraction(field, *form.fraction)
            if parts is None:
                return None
            field, extra_ms = parts
        if not form.missing:
            found = whole(field, "")
        elif form.missing == "%Y ":
            found = _latest(whole, field, _years(field, now_ms), now_ms + _DAY_MS)
        else:
            found = _latest(whole, field, _days(now_ms, zone), now_ms + _HOUR_MS)
        return None if found is None else _in_range(found + extra_ms)

    return read


def _moment(text: str, form: str, zone: tzinfo | None) -> int | None:
    """Return the milliseconds since 1970 of a text, also where it names the month in another language."""
    texts = [text]
    if "%b" in form or "%B" in form:
        texts.append(in_english(text, short="%b" in form))
    for each in texts:
        try:
            # Without a year strptime takes 1900, which has no 29th of February.
            return _as_ms(datetime.strptime(each, form), zone)
        except (ValueError, OverflowError, OSError):
            pass
    return None


def by_formats(texts: Sequence[str], zone: tzinfo | None) -> Clock:
    """Return a clock that reads a date by the first of several formats that fits it, as `by_format` does."""
    clocks = [by_format(text, zone) for text in texts]
    if len(clocks) == 1:
        return clocks[0]

    def read(field: str, now_ms: int) -> int | None:
        return next((found for clock in clocks if (found := clock(field, now_ms)) is not None), None)

    return read


def _iso(zone: tzinfo | None) -> Clock:
    @lru_cache(_SECONDS_REMEMBERED)
    def read(text: str) -> int | None:
        try:
            return _in_range(_as_ms(datetime.fromisoformat(text.strip()), zone))
        except (ValueError, OverflowError, OSError):
            return None

    return lambda text, _: read(text)


def _as_ms(found: datetime, zone: tzinfo | None) -> int:
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone) if zone is not None else found.astimezone()
    return int(found.timestamp() * 1000)


def _parse(text: str) -> _Form:
    """Parse a format. Raises ValueError if it says neither a whole date nor only a time of day."""
    form = _DIRECTIVE.sub(lambda found: _AS_IN_C.get(found[1], found[0]), text)
    parts = {found[1] for found in _DIRECTIVE.finditer(form)}
    date = (parts & _MONTH and parts & _DAY) or parts & _IN_YEAR
    missing: Literal["", "%Y ", "%Y-%m-%d "] = ""
    if not parts & _YEAR:
        missing = "%Y " if date else "%Y-%m-%d "
        if not date and parts & (_MONTH | _DAY | _WEEKDAY):
            raise ValueError("a part of a date is not enough: expected month and day, or no date at all")
        if not date and not parts & _TIME:
            raise ValueError("expected a date, such as %Y-%m-%d, or a time of day, such as %H:%M:%S")
    elif not date:
        raise ValueError("a year needs a month and a day beside it")
    named: Literal["", "as offset", "beside offset"] = ""
    if "Z" in parts:
        named = "beside offset" if "z" in parts else "as offset"
        form = _NAME.sub("", form) if "z" in parts else form.replace("%Z", "%z")
    form, fraction = _fraction_apart(form)
    return _Form(form, missing, fraction, named)


def _fraction_apart(form: str) -> tuple[str, tuple[str, int] | None]:
    """Take `%f` out of a format, with the point, comma or colon before it."""
    before, found, behind = form.partition("%f")
    if not found or not before.endswith((".", ",", ":")):
        return form, None
    mark = before[-1]
    return before[:-1] + behind, (mark, before.count(mark))


def _without_fraction(text: str, mark: str, number: int) -> tuple[str, int] | None:
    """Return `text` without the digits behind the `number`-th `mark`, and these as milliseconds; None without them."""
    place = -1
    for _ in range(number):
        place = text.find(mark, place + 1)
        if place < 0:
            return None
    # Python's %f takes six digits at most; logs have up to nine.
    digits = _DIGITS.match(text, place + 1)
    if digits is None:
        return None
    return text[:place] + text[digits.end() :], int(digits[0][:3].ljust(3, "0"))


def _latest(whole: Callable[[str, str], int | None], text: str, candidates: Iterator[str], until_ms: int) -> int | None:
    """Return the first of the candidates, which go back in time, that lies not beyond `until_ms`."""
    for missing in candidates:
        found = whole(text, missing)
        if found is not None and found <= until_ms:
            return found
    return None


def _years(text: str, now_ms: int) -> Iterator[str]:
    year = datetime.fromtimestamp(now_ms / 1000).astimezone().year
    yield from (f"{year + 1} ", f"{year} ", f"{year - 1} ")
    # The 29th of February: the last year that has one may be long ago.
    if "29" in text:
        yield from (f"{year - ago} " for ago in range(2, _LEAP_YEARS_APART + 1))


def _days(now_ms: int, zone: tzinfo | None) -> Iterator[str]:
    today = datetime.fromtimestamp(now_ms / 1000, zone) if zone else datetime.fromtimestamp(now_ms / 1000).astimezone()
    yield from (f"{today + timedelta(days=days):%Y-%m-%d} " for days in (1, 0, -1))


def _in_range(moment_ms: int) -> int | None:
    return moment_ms if MS_MIN <= moment_ms <= MS_MAX else None
