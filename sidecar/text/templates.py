"""Templates such as `app_{level}`: text with the names of fields in braces. Pure.

A brace that is one is doubled. A field may be part of another one, by dots; a field that is missing is empty.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_FIELD = re.compile(r"[^{}]+")
_MISSING: Any = object()
_ENCODER = msgspec.json.Encoder()


class Template(msgspec.Struct, frozen=True):
    """`parts` in turn are text and the name of a field, beginning and ending with text."""

    text: str
    parts: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields it takes."""
        return self.parts[1::2]

    def __str__(self) -> str:
        return self.text

    def renderer(self) -> Callable[[Mapping[str, Any]], str]:
        """Return a function that fills in the fields of one line."""
        if len(self.parts) == 1:
            text = self.parts[0]
            return lambda _: text
        if len(self.parts) == 3 and not self.parts[0] and not self.parts[2]:
            name = self.parts[1]
            return lambda fields: field_text(fields, name)
        form, names = "%s".join(part.replace("%", "%%") for part in self.parts[::2]), self.fields
        return lambda fields: form % tuple([field_text(fields, name) for name in names])


def parse_template(text: str) -> Template:
    """Read a template. Raises ValueError that says what is wrong."""
    parts, place = [""], 0
    while place < len(text):
        if text[place : place + 2] in ("{{", "}}"):
            parts[-1] += text[place]
            place += 2
        elif text[place] == "{":
            name = _FIELD.match(text, place + 1)
            if name is None or text[name.end() : name.end() + 1] != "}":
                raise ValueError("text in which {FIELD} stands for a field, and {{ for a brace")
            parts += [name[0].strip(), ""]
            place = name.end() + 1
        elif text[place] == "}":
            raise ValueError("text in which {FIELD} stands for a field, and }} for a brace")
        else:
            parts[-1] += text[place]
            place += 1
    return Template(text, tuple(parts))


def field_text(fields: Mapping[str, Any], name: str) -> str:
    """Return the field as text; empty if it is missing. What is no text looks as in JSON."""
    value = field_value(fields, name)
    if type(value) is str:
        return value
    return "" if value is None else _ENCODER.encode(value).decode()


def field_value(fields: Mapping[str, Any], name: str) -> Any:
    """Return the field, also inside of another one; None if it is missing."""
    value = fields.get(name, _MISSING)
    if value is _MISSING:
        return _inner(fields, name) if "." in name else None
    return value


def _inner(value: Any, name: str) -> Any:
    for part in name.split("."):
        if type(value) is list and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping):
            value = value.get(part)
        else:
            return None
    return value
