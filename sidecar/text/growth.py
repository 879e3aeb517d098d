"""Says by how much events grow when the proxy writes them into its message.

The proxy decodes what it accepts and writes it anew (sonic, `EscapeHTML`): `<`, `>`, `&` and some control characters
and separators take six bytes there, and numbers have no exponents. Never too little is said here.
"""

import re

from sidecar.text.counting import count_byte

_HTML = (b"<", b">", b"&")
_HTML_BYTES = 5
"""Bytes by which each of these grows."""
_CONTROL = re.compile(rb"\\[bf]")
_CONTROL_BYTES = 4
_SEPARATORS = (b"\xe2\x80\xa8", b"\xe2\x80\xa9")
_SEPARATOR_BYTES = 3
# Each pattern begins with a plain character: `re` looks for that one alone then, which takes a sixth of the time.
_EXPONENTS = tuple(re.compile(rb"%b[-+0-9](?<=[0-9]%b.)" % (letter, letter)) for letter in (b"e", b"E"))
_NUMBER_BYTES = 18
"""Bytes by which `1e20` grows. No other number grows by more."""


def html_growth(events: bytes) -> int:
    """Return the bytes by which `events` grow, in which nothing but `<`, `>` and `&` does."""
    return _HTML_BYTES * sum([count_byte(events, character) for character in _HTML])


def string_growth(events: bytes) -> int:
    """Return the bytes by which `events` grow, JSON in which no number has an exponent."""
    growth = html_growth(events) + _CONTROL_BYTES * len(_CONTROL.findall(events))
    if not events.isascii():
        growth += _SEPARATOR_BYTES * sum([events.count(separator) for separator in _SEPARATORS])
    return growth


def growth_of(events: bytes) -> int:
    """Return the bytes by which `events` grow, whatever JSON they are."""
    return string_growth(events) + _NUMBER_BYTES * sum([len(exponents.findall(events)) for exponents in _EXPONENTS])
